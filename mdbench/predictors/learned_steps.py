"""Mirror Descent with meta-trained step sizes as a predictor (:mod:`mdbench.algorithms.learned_steps`)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mdbench.algorithms.learned_steps import EVIDENCE, SIZES, learned
from mdbench.algorithms.mirror_descent import check_steps
from mdbench.algorithms.tuning import MOST_LEARNED, learned_scalars
from mdbench.core.errors import InputError
from mdbench.predictors.estimators import Estimator
from mdbench.tasks import DirichletMixture


class LearnedSteps(Estimator):
    """Predicts with the weights that steps of learned sizes reach.

    The numbers below have the least mean KL(p_B ‖ p̂) on calibration sequences, by descent through the unrolled steps.

    Args:
        task: the task.
        steps: k, 1 to 20.
        sizes: ``evidence`` (η_j = 1/(a_j + b_j S), S = Σ_t |γ_t - 1/m|² of the sequence), ``step`` (η_j, for each
            length its own) or ``position`` (η_j = exp(a_j + b_j log n) after n transitions, the same for all lengths).
    """

    task: DirichletMixture
    fixed_to_task = True

    def __init__(self, task: DirichletMixture, steps: int = 1, sizes: str = EVIDENCE) -> None:
        check_steps(steps, MOST_LEARNED)
        if sizes not in SIZES:
            raise InputError(f"sizes must be {', '.join(SIZES)}, not {sizes!r}.")
        super().__init__(task)
        self.steps, self.sizes = steps, sizes

    def scalars(self, length: int) -> Float[np.ndarray, " c"]:
        """What was learned, as :func:`mdbench.algorithms.learned_steps.learned` takes it."""
        return np.array(learned_scalars(self.task, self.sizes, self.steps, length))

    def check_length(self, length: int) -> None:
        """Have the numbers ready, so that learning them at first use is not timed as prediction."""
        self.scalars(length)

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """λ^k."""
        return np.asarray(learned(jnp.asarray(x), jnp.asarray(self.scalars(x.shape[1] + self.task.given)), self.sizes))
