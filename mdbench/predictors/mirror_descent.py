"""Mirror Descent on λ as a predictor (:mod:`mdbench.algorithms.mirror_descent`)."""

from __future__ import annotations

import math
import numbers

import numpy as np
from jaxtyping import Float

from mdbench.algorithms.mirror_descent import STEP_SIZES, check_steps, descend_evenly
from mdbench.algorithms.tuning import tuned_step_size
from mdbench.core.errors import InputError
from mdbench.predictors.estimators import Estimator
from mdbench.tasks import DirichletMixture


class MirrorDescent(Estimator):
    """Predicts with the weights that ``steps`` full-batch steps of size ``eta`` reach.

    Args:
        task: the task.
        steps: k, at least 1.
        eta: ``tuned`` (one η shared by the steps, least excess KL on calibration sequences of this task and length),
            ``theory`` (1/(mα + 1), Theorem 1; one step only), ``smooth`` (1/((T - m) m²), Theorem 2), or a number.
    """

    task: DirichletMixture

    def __init__(self, task: DirichletMixture, steps: int, eta: str | float = "tuned") -> None:
        check_steps(steps)
        if isinstance(eta, bool) or not (eta in STEP_SIZES if isinstance(eta, str) else isinstance(eta, numbers.Real)):
            raise InputError(f"eta must be {', '.join(STEP_SIZES)} or a number, not {eta!r}.")
        if not isinstance(eta, str) and not 0 < eta < math.inf:
            raise InputError(f"eta must be positive and finite, not {eta}.")
        if eta == "theory" and steps != 1:
            raise InputError(
                f"eta=theory is Theorem 1's single step; with steps={steps} use tuned, smooth or a number."
            )
        super().__init__(task)
        self.steps, self.eta = steps, eta
        self.fixed_to_task = eta == "tuned"

    def step_size(self, length: int) -> float:
        """η for contexts of this length."""
        m = self.task.n_components
        if self.eta == "theory":
            return 1 / (m * self.task.concentration + 1)
        if self.eta == "smooth":
            return 1 / ((length - self.task.given) * m**2)
        if self.eta == "tuned":
            return tuned_step_size(self.task, self.steps, length)
        return float(self.eta)

    def check_length(self, length: int) -> None:
        """Have the step size ready, so that tuning it at first use is not timed as prediction."""
        self.step_size(length)

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """λ^k."""
        return np.asarray(descend_evenly(x, self.step_size(x.shape[1] + self.task.given), self.steps))
