"""What models predict of some sequences: observations, each with those that stood before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError
from mdbench.posteriors.reading import GAP
from mdbench.tasks import tokens_before


class Counted(NamedTuple):
    """Different transitions, and how often each came: what a likelihood depends on.

    Attributes:
        lagged: (K, m) the tokens before, lag 1 first.
        came: (K,) the token that came.
        counts: (K,) how often.
    """

    lagged: Int[np.ndarray, "K m"]
    came: Int[np.ndarray, " K"]
    counts: Float[np.ndarray, " K"]


@dataclass(frozen=True)
class Transitions:
    """The observations that are predicted, the same ones for all models that look back at most ``memory``.

    They are those after the first ``start`` of their sequence that are there, as are the ``memory`` before them. So the
    first ``start`` of every sequence are given to all models, and so are the ``memory`` after a gap.

    Attributes:
        lagged: (n, memory) the tokens before each, lag 1 first.
        came: (n,) these observations.
        stretches: runs of them without a gap, each with the ``memory`` tokens before it.
        n_states: q.
        start: S.
    """

    lagged: Int[np.ndarray, "n M"]
    came: Int[np.ndarray, " n"]
    stretches: list[Int[np.ndarray, " _"]]
    n_states: int
    start: int

    @property
    def memory(self) -> int:
        """How far back a model may look."""
        return self.lagged.shape[1]

    def __len__(self) -> int:
        return len(self.came)

    def counted(self, order: int) -> Counted:
        """Different transitions as a model of that order sees them."""
        rows = np.column_stack([self.lagged[:, :order], self.came])
        different, counts = np.unique(rows, axis=0, return_counts=True)
        return Counted(different[:, :order], different[:, order], counts.astype(np.float64))


def transitions_of(sequences: Sequence[Int[np.ndarray, " _"]], n_states: int, memory: int, start: int) -> Transitions:
    """The transitions of sequences of states 0..q-1, in which ``GAP`` stands for what is missing.

    Raises:
        InputError: nothing can be predicted.
    """
    stretches = []
    for tokens in sequences:
        for run in _runs(tokens[start - memory :]):
            if len(run) > memory:
                stretches.append(run)
    if not stretches:
        longest = max((len(tokens) for tokens in sequences), default=0)
        why = f"no {memory + 1} observations stand in a row" if longest > start else f"the longest has {longest}"
        raise InputError(
            f"the sequences are too short: order {memory} after the first {start} needs {start + 1} observations, and "
            f"{why}; take a smaller order or start."
        )
    lagged = np.concatenate([tokens_before(run, memory, np.arange(memory, len(run))) for run in stretches])
    came = np.concatenate([run[memory:] for run in stretches])
    return Transitions(lagged, came, stretches, n_states, start)


def _runs(tokens: Int[np.ndarray, " T"]) -> list[Int[np.ndarray, " _"]]:
    """The parts between gaps."""
    parts = np.split(tokens, np.flatnonzero(tokens == GAP))
    return [part[part != GAP] for part in parts if (part != GAP).any()]
