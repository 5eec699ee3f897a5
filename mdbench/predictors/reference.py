"""The predictors that frame all others: posterior means, the oracle that knows λ, and what ignores the context."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.baselines.catalogue import build_baseline
from mdbench.core.errors import InputError, Unsupported
from mdbench.tasks import Task

STANDARD_ERROR = 0.01  # of a probability by the others, at most: an sd of weights of 0.2 and 400 effective draws


class PosteriorMean:
    """p at the posterior mean that a baseline finds; ``options`` are the baseline's.

    ``bayes`` takes the urn: gold comes from the quadrature, so its row tests both. What a sampling baseline finds for a
    sequence is drawn anew from its seed and that sequence's tokens.
    """

    def __init__(self, task: Task, baseline: str, **options: Any) -> None:
        self.task, self.baseline = task, build_baseline(baseline, **options)
        self.baseline.check_fits(task)
        self.standard_error = 0.0 if self.baseline.deterministic else STANDARD_ERROR

    def check_length(self, length: int) -> None:
        """Raise :class:`Unsupported` for what the baseline would refuse."""
        try:
            self.baseline.check(self.task, length)
        except Unsupported:
            raise
        except InputError as error:
            raise Unsupported(str(error), label="too large") from None

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """P at E[λ | y], or a closed form: p_B(· | y) where the baseline is exact (docs/mathematics.md, section 1)."""
        return self.baseline.next_token(self.task, contexts)


class Oracle:
    """Told θ of each sequence, λ of a mixture: an upper bound on everything, so it has scores but no rank."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def predict_given_theta(
        self, contexts: Int[np.ndarray, "batch length"], theta: Float[np.ndarray, "batch ..."]
    ) -> Float[np.ndarray, "batch q"]:
        """p(· | θ, y)."""
        return self.task.truth(theta, contexts)


class Uniform:
    """θ at its prior mean, λ = 1/m for a mixture: infers nothing from the context."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """p(· | E[θ], y); for the MTD the mean over lags of π(y_{T+1-g}, ·)."""
        return self.task.prior_predictive(contexts)
