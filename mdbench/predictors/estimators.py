"""Predictors that put an estimate of λ into the mixture, by the algorithms that ``identify`` knows and by others."""

from __future__ import annotations

import logging
import math
import numbers
from abc import ABC, abstractmethod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mdbench.algorithms.approximations import MOST_SPLITS, Propagated, filtered, propagated
from mdbench.algorithms.known import BY_NAME, Evidence
from mdbench.algorithms.maximum_likelihood import maximise_likelihood
from mdbench.algorithms.tuning import calibration_contexts
from mdbench.core.errors import InputError
from mdbench.tasks import DirichletMixture, Mixture

CARD_SEQUENCES = 256

log = logging.getLogger(__name__)


class Estimator(ABC):
    """Predicts with p at the weights that :meth:`weights` finds."""

    def __init__(self, task: Mixture) -> None:
        self.task = task

    @abstractmethod
    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """λ̂ from the likelihoods x_t(g) of n transitions."""

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """P at λ̂."""
        return self.task.truth(np.asarray(self.weights(self.task.likelihoods(contexts))), contexts)


def predict_prefixes(
    task: Mixture, weights: Float[np.ndarray, "batch n_and_one m"], contexts: Int[np.ndarray, "batch length"]
) -> Float[np.ndarray, "batch length q"]:
    """P at λ̂ after each prefix, given the weights after 0, .., n transitions.

    Before the given tokens are complete nothing is known of the next one: it is uniform.
    """
    length, n_without = contexts.shape[1], task.given
    probs = np.full((*contexts.shape, task.n_states), 1 / task.n_states)
    for prefix in range(max(n_without, 1), length + 1):
        probs[:, prefix - 1] = task.truth(weights[:, prefix - n_without], contexts[:, :prefix])
    return probs


class Known(Estimator):
    """An algorithm of :mod:`mdbench.algorithms.known` that has nothing to fit."""

    task: DirichletMixture

    def __init__(self, task: DirichletMixture, algorithm: str) -> None:
        super().__init__(task)
        self.algorithm = algorithm
        self.scalars: tuple[float, ...] = ()

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """As the algorithm estimates it."""
        estimate = BY_NAME[self.algorithm].estimate
        assert estimate is not None, "a posterior method is a baseline"
        return np.asarray(estimate(Evidence(jnp.asarray(x), self.task.concentration), jnp.asarray(self.scalars)))


class Counting(Known):
    """One that adds ``c`` to every count: a number, or ``alpha``, the prior's α."""

    def __init__(self, task: DirichletMixture, algorithm: str, c: float | str = "alpha") -> None:
        super().__init__(task, algorithm)
        number = isinstance(c, numbers.Real) and not isinstance(c, bool)
        if c != "alpha" and not (number and 0 < float(c) < math.inf):
            raise InputError(f"c must be alpha or a positive number, not {c!r}.")
        self.scalars = (task.concentration if c == "alpha" else float(c),)


class MaximumLikelihood(Estimator):
    """Predicts with the weights that maximise the likelihood, to a duality gap of at most 1e-8 nats."""

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """The maximum-likelihood λ."""
        return maximise_likelihood(x)


class AssumedDensityFilter(Estimator):
    """One pass that keeps a Dirichlet, or a few: one update a token (docs/approximations.md).

    Args:
        task: the task.
        split: the prior is taken apart by the counts of so many draws, and each part filtered by itself; what to use
            where α is small. It costs C(split + m - 1, m - 1) filters.
    """

    task: DirichletMixture

    def __init__(self, task: DirichletMixture, split: int = 0) -> None:
        if isinstance(split, bool) or not isinstance(split, int) or not 0 <= split <= MOST_SPLITS:
            raise InputError(f"split must be a whole number from 0 to {MOST_SPLITS}, not {split!r}.")
        super().__init__(task)
        self.split = split

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """The mean of what is kept at the end."""
        return self._filtered(x)[:, -1]

    def predict_all(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch length q"]:
        """After every prefix, in one pass."""
        return predict_prefixes(self.task, self._filtered(self.task.likelihoods(contexts)), contexts)

    def _filtered(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch n_and_one m"]:
        return filtered(x, self.task.concentration, self.split)


class ExpectationPropagation(Estimator):
    """A Dirichlet site for each transition, in sweeps until the mean stands still (docs/approximations.md).

    What does not converge is said as a warning; ``card`` says how often that happens on calibration sequences.
    """

    task: DirichletMixture

    def __init__(self, task: DirichletMixture) -> None:
        super().__init__(task)
        self.lengths: set[int] = set()

    def check_length(self, length: int) -> None:
        """Any will do: the card tells of those that were asked for."""
        self.lengths.add(length)

    def weights(self, x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
        """The mean of the Dirichlet that the sites make."""
        found = propagated(x, self.task.concentration)
        if not found.converged.all():
            log.warning(
                "ep: %d of %d sequences of %d transitions did not converge in %d sweeps; their last estimate is used.",
                (~found.converged).sum(), len(x), x.shape[1], found.sweeps.max(),
            )  # fmt: skip
        return found.mean

    @property
    def card(self) -> dict[str, Any]:
        """Of calibration sequences at each length that was asked for: sites skipped, sequences not converged."""
        return {
            "calibration_sequences": CARD_SEQUENCES,
            "lengths": {str(n): self._told(n) for n in sorted(self.lengths)},
        }

    def _told(self, length: int) -> dict[str, int]:
        contexts = calibration_contexts(self.task, length)[:CARD_SEQUENCES]
        found: Propagated = propagated(self.task.likelihoods(contexts), self.task.concentration)
        return {
            "sites": CARD_SEQUENCES * (length - self.task.given),
            "skipped_sites": int(found.skipped.sum()),
            "not_converged": int((~found.converged).sum()),
            "most_sweeps": int(found.sweeps.max()),
        }
