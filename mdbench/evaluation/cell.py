"""What predictions are scored against in one cell (task, length): sequences with their gold."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from mdbench.core import metrics
from mdbench.core.progress import Progress, no_progress
from mdbench.core.store import Store
from mdbench.evaluation.gold import gold_predictive
from mdbench.tasks import Predictive, Task, evaluation_sequences
from mdbench.tasks.sequences import Sequences
from mdbench.tasks.task import Whole


@dataclass(frozen=True)
class Cell:
    """Sequences of one task at one length, with their gold.

    Attributes:
        task: the task.
        length: T.
        seed: of the sequences.
        contexts: (N, T).
        next_tokens: (N,) y_{T+1}.
        theta: (N, ...) the θ that each sequence was drawn with.
        bayes: (N, q) p_B by the gold.
        gold: name of the gold.
        bound: (N,) on the error of each entry of ``bayes``.
        next_token_se: (N, q) its standard errors; 0 for an exact gold.
    """

    task: Task
    length: int
    seed: int
    contexts: Int[np.ndarray, "N T"]
    next_tokens: Int[np.ndarray, " N"]
    theta: Float[np.ndarray, "N ..."]
    bayes: Float[np.ndarray, "N q"]
    gold: str
    bound: Float[np.ndarray, " N"]
    next_token_se: Float[np.ndarray, "N q"]

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
        per_sequence = ("contexts", "next_tokens", "theta", "bayes", "bound", "next_token_se")
        return replace(self, **{name: getattr(self, name)[:n] for name in per_sequence})


def cells(
    task: Task,
    lengths: Sequence[int],
    n_sequences: Whole,
    seed: Whole,
    gold: str = "exact",
    progress: Progress = no_progress,
    kept: Store | None = None,
) -> Iterator[Cell]:
    """The cells of a task, shortest first, on the sequences of that seed with the gold of that name.

    Gold is ``kept`` there, by default in the cache folder.
    """
    lengths = sorted(set(lengths))
    drawn = evaluation_sequences(task, max(lengths), n_sequences, seed)
    advance = progress(f"{task.name}: gold by {gold}", int(n_sequences))
    predictive = gold_predictive(task, drawn.tokens[:, :-1], lengths, gold, advance, kept)
    yield from cells_with(task, lengths, drawn, seed, gold, predictive)


def cells_with(
    task: Task, lengths: Sequence[int], drawn: Sequences, seed: Whole, gold: str, predictive: Predictive
) -> Iterator[Cell]:
    """The cells of sequences whose gold after each of these lengths, shortest first, is there."""
    for k, length in enumerate(lengths):
        contexts = drawn.tokens[:, :length].astype(np.int64)
        yield Cell(
            task=task,
            length=length,
            seed=int(seed),
            contexts=contexts,
            next_tokens=drawn.tokens[:, length],
            theta=drawn.theta,
            bayes=metrics.normalise(predictive.probs[:, k]),
            gold=gold,
            bound=predictive.bound[:, k],
            next_token_se=predictive.standard_error[:, k],
        )
