"""The predictors that frame all others: Bayes, the oracle that knows λ, and the one that ignores the context."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from mdbench.baselines import urn
from mdbench.baselines.urn import plan
from mdbench.errors import InputError, Unsupported
from mdbench.tasks import Task, next_token_probs


class Bayes:
    """p at the posterior mean, computed by the urn: gold comes from the quadrature, so this row tests both."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def check_length(self, length: int) -> None:
        """Raise :class:`Unsupported` for a length whose urn does not fit into memory."""
        try:
            plan(length - self.task.order, self.task.order)
        except InputError as error:
            raise Unsupported(str(error), label="too large") from None

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """p_B(· | y) of SPEC section 1."""
        return next_token_probs(self.task, urn(self.task, contexts).mean[:, 0], contexts)


class Oracle:
    """Told the weights λ of each sequence: an upper bound on everything, so it has scores but no rank."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def predict_given_weights(
        self, contexts: Int[np.ndarray, "batch length"], weights: Float[np.ndarray, "batch m"]
    ) -> Float[np.ndarray, "batch q"]:
        """p_λ(· | y)."""
        return next_token_probs(self.task, weights, contexts)


class Uniform:
    """λ = 1/m: knows π and the last m tokens and infers nothing from the context."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """The mean over lags of π(y_{T+1-g}, ·)."""
        weights = np.full((len(contexts), self.task.order), 1 / self.task.order)
        return next_token_probs(self.task, weights, contexts)
