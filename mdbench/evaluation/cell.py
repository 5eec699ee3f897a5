"""What predictions are scored against in one cell (task, length): sequences with their gold."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mdbench.core import metrics
from mdbench.core.progress import Progress, no_progress
from mdbench.core.store import Store
from mdbench.evaluation.gold import gold_predictive
from mdbench.tasks import Predictive, Recorded, Task, evaluation_sequences
from mdbench.tasks.sequences import Sequences
from mdbench.tasks.task import Whole


class NoTruth(Exception):
    """Sequences were recorded: nobody knows θ of them, what their tokens were drawn from, or a gold."""


class Gold(NamedTuple):
    """What is known of the sequences of a cell that were drawn; by field as :class:`Cell` has it."""

    theta: Float[np.ndarray, "N ..."]
    bayes: Float[np.ndarray, "N q"]
    bound: Float[np.ndarray, " N"]
    next_token_se: Float[np.ndarray, "N q"]


@dataclass(frozen=True)
class Cell:
    """Sequences of one task at one length, with their gold.

    Of recorded sequences there is none: ``gold``, ``known`` are None, and what is read of it raises :class:`NoTruth`.

    Attributes:
        task: the task.
        length: T.
        seed: of the sequences.
        contexts: (N, T).
        next_tokens: (N,) y_{T+1}.
        gold: name of the gold.
        known: what is known of sequences that were drawn.
        blocks: (N,) of recorded sequences the block of each; else they are independent.
    """

    task: Task
    length: int
    seed: int
    contexts: Int[np.ndarray, "N T"]
    next_tokens: Int[np.ndarray, " N"]
    gold: str | None
    known: Gold | None
    blocks: Int[np.ndarray, " N"] | None

    @property
    def theta(self) -> Float[np.ndarray, "N ..."]:
        """The θ that each sequence was drawn with."""
        return self._drawn.theta

    @property
    def bayes(self) -> Float[np.ndarray, "N q"]:
        """p_B by the gold."""
        return self._drawn.bayes

    @property
    def bound(self) -> Float[np.ndarray, " N"]:
        """On the error of each entry of ``bayes``."""
        return self._drawn.bound

    @property
    def next_token_se(self) -> Float[np.ndarray, "N q"]:
        """Standard errors of ``bayes``; 0 for an exact gold."""
        return self._drawn.next_token_se

    @property
    def _drawn(self) -> Gold:
        if self.known is None:
            raise NoTruth(f"the sequences of '{self.task.name}' were recorded, so what they come from is unknown")
        return self.known

    @functools.cached_property
    def same(self) -> Int[np.ndarray, " N"]:
        """A number for each different context: equal ones have equal errors of the gold."""
        return np.unique(self.contexts, axis=0, return_inverse=True)[1].ravel()

    @functools.cached_property
    def truth(self) -> Float[np.ndarray, "N q"]:
        """p(· | θ, y), what each sequence's next token was drawn from."""
        return metrics.normalise(self.task.truth(self.theta, self.contexts))

    def first(self, n: int) -> Cell:
        """Its first n sequences."""
        if n == len(self.contexts):
            return self
        known = None if self.known is None else Gold(*(array[:n] for array in self.known))
        blocks = None if self.blocks is None else self.blocks[:n]
        return replace(self, contexts=self.contexts[:n], next_tokens=self.next_tokens[:n], known=known, blocks=blocks)


def cells(
    task: Task,
    lengths: Sequence[int],
    n_sequences: Whole,
    seed: Whole,
    gold: str | None = "exact",
    progress: Progress = no_progress,
    kept: Store | None = None,
) -> Iterator[Cell]:
    """The cells of a task, shortest first, on the sequences of that seed with the gold of that name.

    Gold is ``kept`` there, by default in the cache folder. Recorded sequences have none, whatever its name.
    """
    lengths = sorted(set(lengths))
    drawn = evaluation_sequences(task, max(lengths), n_sequences, seed)
    if isinstance(task, Recorded):
        yield from cells_with(task, lengths, drawn, seed, None, None, task.blocks(int(n_sequences)))
        return
    assert gold is not None
    advance = progress(f"{task.name}: gold by {gold}", int(n_sequences))
    predictive = gold_predictive(task, drawn.tokens[:, :-1], lengths, gold, advance, kept)
    yield from cells_with(task, lengths, drawn, seed, gold, predictive)


def cells_with(
    task: Task,
    lengths: Sequence[int],
    drawn: Sequences,
    seed: Whole,
    gold: str | None,
    predictive: Predictive | None,
    blocks: Int[np.ndarray, " N"] | None = None,
) -> Iterator[Cell]:
    """The cells of sequences whose gold after each of these lengths, shortest first, is there, or of recorded ones."""
    for k, length in enumerate(lengths):
        tokens = task.cut(drawn.tokens, length + 1)
        known = None
        if predictive is not None:
            bayes = metrics.normalise(predictive.probs[:, k])
            known = Gold(drawn.theta, bayes, predictive.bound[:, k], predictive.standard_error[:, k])
        yield Cell(
            task=task,
            length=length,
            seed=int(seed),
            contexts=tokens[:, :-1].astype(np.int64),
            next_tokens=tokens[:, -1],
            gold=gold,
            known=known,
            blocks=blocks,
        )
