r"""Mixtures whose weights come from a finite set: λ = λ^(k), k ~ Categorical(ρ), which enumeration solves.

The posterior over k is w_k ∝ ρ_k Π_t ⟨λ^(k), x_t⟩, and gold is p at Σ_k w_k λ^(k).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mdbench.core.errors import InputError, SequenceError, shown
from mdbench.tasks.mixture import Mixture
from mdbench.tasks.task import ClosedForm, Predictive, as_floats, check_row

CHUNK = 2**24  # numbers at once: sequences times transitions times atoms
ROUNDING = 64 * np.finfo(np.float64).eps  # of a probability, for each transition: a product of so many factors


class FiniteMixture(Mixture, ClosedForm):
    """Known components; their weights are one of K known vectors, the *atoms*."""

    kind = "a mixture with finitely many weights"
    discrete = True

    @property
    @abstractmethod
    def support(self) -> tuple[Float[Any, "K c"], Float[Any, " K"]]:
        """The atoms λ^(1..K), and their probabilities ρ."""

    @abstractmethod
    def any_likelihoods(self, tokens: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B n c"]:
        """:meth:`likelihoods` of checked contexts, impossible ones too."""

    @property
    def prior_mean(self) -> Float[np.ndarray, " c"]:
        """Σ_k ρ_k λ^(k)."""
        atoms, probs = self.support
        return np.asarray(probs @ atoms)

    def possible(self, contexts: Int[np.ndarray, "B T"]) -> Bool[np.ndarray, " B"]:
        """Whether some atom can make the sequence."""
        tokens = np.asarray(contexts)
        return np.isfinite(self._log_weights(tokens, [tokens.shape[1]])).any(axis=-1)[:, 0]

    def likelihoods(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B n c"]:
        """x_t(g) of sequences that some atom can make."""
        tokens = self.check_contexts(contexts)
        self._check_possible(self._log_weights(tokens, [tokens.shape[1]]))
        return self.any_likelihoods(tokens)

    def predictive(self, contexts: Int[np.ndarray, "B T"], lengths: Sequence[int]) -> Predictive:
        """By enumeration of the atoms."""
        tokens, (atoms, _) = self.check_contexts(contexts), self.support
        log_weights = self._log_weights(tokens, lengths)
        self._check_possible(log_weights)
        weights = np.exp(log_weights - log_weights.max(axis=-1, keepdims=True))
        means = weights @ np.asarray(atoms) / weights.sum(axis=-1, keepdims=True)
        probs = np.stack([Mixture.truth(self, means[:, p], tokens[:, :t]) for p, t in enumerate(lengths)], axis=1)
        n = np.maximum(np.asarray(lengths) - self.given, 1)
        return Predictive(probs, np.broadcast_to(ROUNDING * n, probs.shape[:2]).copy(), np.zeros(probs.shape))

    def _log_weights(self, tokens: Int[np.ndarray, "B T"], lengths: Sequence[int]) -> Float[np.ndarray, "B P K"]:
        """Log ρ_k + Σ_t log ⟨λ^(k), x_t⟩ after each of these prefixes."""
        atoms, probs = (np.asarray(part) for part in self.support)
        n_each = max(tokens.shape[1] - self.given, 1) * len(atoms)
        parts = []
        with np.errstate(divide="ignore"):
            prior = np.log(probs)
            for part in np.array_split(tokens, range(max(CHUNK // n_each, 1), len(tokens), max(CHUNK // n_each, 1))):
                logs = np.log(self.any_likelihoods(part) @ atoms.T)
                total = np.concatenate([np.zeros((len(part), 1, len(atoms))), np.cumsum(logs, axis=1)], axis=1)
                parts.append(prior + total[:, [t - self.given for t in lengths]])
        return np.concatenate(parts)

    @staticmethod
    def _check_possible(log_weights: Float[np.ndarray, "B P K"]) -> None:
        bad = np.flatnonzero(~np.isfinite(log_weights).any(axis=-1).all(axis=-1))
        if len(bad):
            raise SequenceError(int(bad[0]), "no atom can make this sequence: it has probability 0.")


def check_weights(given: Any, which: str) -> Float[np.ndarray, " K"]:
    """A distribution, not to be written.

    Raises:
        InputError: it is none.
    """
    row = as_floats(given, which)
    if row.ndim != 1 or not len(row):
        raise InputError(f"{which} must be a list of probabilities, not {shown(given)}.")
    check_row(row, which)
    row.setflags(write=False)
    return row
