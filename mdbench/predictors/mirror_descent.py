"""Mirror Descent on λ as a predictor (:mod:`mdbench.algorithms.mirror_descent`)."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mdbench.algorithms.mirror_descent import (
    ADAPTIVE,
    ADAPTIVE_TUNED,
    MATRIX,
    OF_ONE_STEP,
    STEP_SIZES,
    adaptive_constants,
    adaptive_prefixes,
    adaptive_step,
    check_steps,
    descend_evenly,
    one_step_prefixes,
)
from mdbench.algorithms.tuning import tuned_constants, tuned_step_size
from mdbench.core.errors import InputError
from mdbench.predictors.estimators import Estimator, predict_prefixes
from mdbench.tasks import DirichletMixture

BY_SEQUENCE = (ADAPTIVE, ADAPTIVE_TUNED, MATRIX)  # sizes that depend on it

NAMES = (*STEP_SIZES, *BY_SEQUENCE)


class MirrorDescent(Estimator):
    """Predicts with the weights that ``steps`` full-batch steps of size ``eta`` reach.

    Args:
        task: the task.
        steps: k, at least 1.
        eta: ``tuned`` (one η shared by the steps, least excess KL on calibration sequences of this task and length),
            ``theory`` (1/(mα + 1), Theorem 1; one step only), ``smooth`` (1/((T - m) m²), Theorem 2), or a number.
            Of one step also, with S = Σ_t |γ_t - 1/m|²: ``adaptive`` (1/(mα + 1 + m/(m-1) S), nothing tuned),
            ``adaptive_tuned`` (1/(a + b S), both tuned) and ``matrix`` ((a I + b Σ_t d_t d_tᵀ)⁻¹ with
            d_t = γ_t - 1/m in the place of η, both tuned).
    """

    task: DirichletMixture

    def __init__(self, task: DirichletMixture, steps: int, eta: str | float = "tuned") -> None:
        check_steps(steps)
        if isinstance(eta, bool) or not (eta in NAMES if isinstance(eta, str) else isinstance(eta, numbers.Real)):
            raise InputError(f"eta must be {', '.join(NAMES)} or a number, not {eta!r}.")
        if not isinstance(eta, str) and not 0 < eta < math.inf:
            raise InputError(f"eta must be positive and finite, not {eta}.")
        if eta in OF_ONE_STEP and steps != 1:
            said = "Theorem 1's single step" if eta == "theory" else "of a single step"
            raise InputError(f"eta={eta} is {said}; with steps={steps} use tuned, smooth or a number.")
        super().__init__(task)
        self.steps, self.eta = steps, eta
        self.fixed_to_task = eta in ("tuned", ADAPTIVE_TUNED, MATRIX)

    def step_size(self, length: int) -> float:
        """η for contexts of this length, where it is the same for all of them."""
        m = self.task.n_components
        if self.eta == "theory":
            return 1 / (m * self.task.concentration + 1)
        if self.eta == "smooth":
            return 1 / ((length - self.task.given) * m**2)
        if self.eta == "tuned":
            return tuned_step_size(self.task, self.steps, length)
        return float(self.eta)

    def constants(self, length: int) -> Float[np.ndarray, " 2"]:
        """The constants a and b of a step whose size depends on the sequence."""
        if self.eta == ADAPTIVE:
            return np.array(adaptive_constants(self.task.n_components, self.task.concentration))
        return np.array(tuned_constants(self.task, MATRIX if self.eta == MATRIX else ADAPTIVE, length))

    def check_length(self, length: int) -> None:
        """Have what is tuned ready, so that tuning it at first use is not timed as prediction."""
        if self.eta in BY_SEQUENCE:
            self.constants(length)
        else:
            self.step_size(length)

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """λ^k."""
        length = x.shape[1] + self.task.given
        if self.eta in BY_SEQUENCE:
            return np.asarray(adaptive_step(jnp.asarray(x), self.constants(length), self.eta == MATRIX))
        return descend_evenly(x, self.step_size(length), self.steps)

    @property
    def predict_all(self) -> Callable[[Int[np.ndarray, "batch length"]], Float[np.ndarray, "batch length q"]] | None:
        """After every prefix in one pass: of one step with nothing tuned (what is tuned differs with the length)."""
        return None if self.fixed_to_task or self.steps > 1 else self._predict_all

    def _predict_all(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch length q"]:
        x = jnp.asarray(self.task.likelihoods(contexts))
        if self.eta == ADAPTIVE:
            weights = adaptive_prefixes(x, self.constants(contexts.shape[1]))
        else:
            # A step size for no transition at all is never looked at: λ stays where it is.
            etas = [0.0, *(self.step_size(self.task.given + n) for n in range(1, x.shape[1] + 1))]
            weights = one_step_prefixes(x, jnp.asarray(etas))
        return predict_prefixes(self.task, np.asarray(weights), contexts)
