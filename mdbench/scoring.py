"""What predictions are scored against in one cell (task, length), and the scores (SPEC section 5)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mdbench import metrics
from mdbench.gold import gold as gold_by
from mdbench.scores import SCORES, Score
from mdbench.statistics import MeanInterval, mean_interval
from mdbench.store import Store
from mdbench.tasks import Task, evaluation_sequences
from mdbench.wording import interval_text, title

Progress = Callable[[str, int], Callable[[float], None]]
"""``progress(description, total)`` returns ``advance(k)``."""


def no_progress(_description: str, _total: int) -> Callable[[float], None]:
    """A :data:`Progress` that shows nothing."""
    return lambda _k: None


def columns(results: Sequence[Result]) -> list[str]:
    """Headings for :attr:`Result.row`."""
    names = list(results[0].scores) if results else []
    headings = [h for name in names for h in (title(name), *(["95% interval"] if name == "excess_kl" else []))]
    return ["T", "predictor", *headings, "seconds"]


@dataclass(frozen=True)
class Result:
    """Scores of one predictor in one cell (task, length): means over sequences, in nats (SPEC section 5).

    ``scores`` has each by its name, None where it is not defined: ``excess_kl``, and ``gold_error`` with it, for the
    oracle, which is told θ. Standard errors and intervals are None where they do not exist (one sequence, infinite
    scores). ``gold`` is the baseline that excess KL is measured against, and ``gold_error`` what that may be off by, in
    nats. Of a predictor with several training seeds all scores are means over these, with intervals over sequences;
    ``runs`` is the excess KL of each seed, else None. ``seconds`` are those of one run of all predictions, at the
    median time of a chunk, so that compilation counts only where there is just one; None where the predictions were
    made elsewhere.
    """

    predictor: str
    task: str
    length: int
    n_sequences: int
    seed: int
    scores: dict[str, MeanInterval | None]
    gold: str
    gold_error: float | None
    seconds: float | None
    runs: tuple[float, ...] | None = None

    def mean(self, score: str) -> float | None:
        """Of a score; None where it is not defined."""
        found = self.scores[score]
        return None if found is None else found.mean

    @property
    def kl(self) -> float:
        """KL(truth ‖ p̂)."""
        return cast(float, self.mean("kl"))

    @property
    def excess_kl(self) -> float | None:
        """KL(p_B ‖ p̂)."""
        return self.mean("excess_kl")

    @property
    def cross_entropy(self) -> float:
        """Expected log loss under the truth."""
        return cast(float, self.mean("cross_entropy"))

    @property
    def nll(self) -> float:
        """Log loss on the tokens that came."""
        return cast(float, self.mean("nll"))

    def to_dict(self) -> dict[str, Any]:
        """Flat: of each score its mean, ``_se`` (standard error) and ``_ci`` (95% interval)."""
        flat: dict[str, Any] = {}
        for name, of_score in self.scores.items():
            parts = (None, None, None) if of_score is None else (of_score.mean, of_score.se, of_score.interval)
            flat |= dict(zip((name, f"{name}_se", f"{name}_ci"), parts, strict=True))
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "scores"}
        first = ("predictor", "task", "length", "n_sequences", "seed")
        return {name: own.pop(name) for name in first} | flat | own

    @property
    def at_gold(self) -> bool:
        """Whether the excess KL cannot be told from zero because the gold itself is only so good."""
        return is_at_gold(self.excess_kl, self.gold_error)

    @property
    def row(self) -> list[str]:
        """What stands under :func:`columns` wherever people read it."""
        texts = []
        for name, of_score in self.scores.items():
            if name != "excess_kl":
                texts.append("" if of_score is None else f"{of_score.mean:.4g}")
            elif of_score is None:
                texts += ["not ranked", ""]
            else:
                texts += ["at gold", ""] if self.at_gold else [f"{of_score.mean:.4g}", interval_text(of_score.interval)]
        seconds = "unknown" if self.seconds is None else f"{self.seconds:.2f}"
        return [str(self.length), self.predictor, *texts, seconds]


def is_at_gold(excess_kl: float | None, gold_error: float | None) -> bool:
    """Whether there is an excess KL that is finite and within the gold's error."""
    return excess_kl is not None and gold_error is not None and math.isfinite(excess_kl) and excess_kl <= gold_error


@dataclass(frozen=True)
class Scores:
    """One predictor's scores in one cell, by name, each by run (training seed) and sequence, (R, N).

    Those against the gold are None if it is told θ. ``gold_error`` is the mean over runs: an error of their mean is at
    most the mean of their errors.
    """

    values: dict[str, Float[np.ndarray, "R N"] | None]
    gold_error: float | None

    @property
    def excess_kl(self) -> Float[np.ndarray, "R N"] | None:
        """KL(p_B ‖ p̂)."""
        return self.values["excess_kl"]

    @property
    def mean_excess_kl(self) -> Float[np.ndarray, " N"] | None:
        """Of each sequence: what is expected of one run."""
        return None if self.excess_kl is None else self.excess_kl.mean(axis=0)

    def frame(self) -> pd.DataFrame:
        """A row a sequence, means over runs."""
        n = next(v.shape[1] for v in self.values.values() if v is not None)
        columns = {k: np.full(n, np.nan) if v is None else v.mean(axis=0) for k, v in self.values.items()}
        return pd.DataFrame({"sequence": np.arange(n)} | columns)


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
    def _same(self) -> Int[np.ndarray, " N"]:
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

    def score(
        self, probs: Float[np.ndarray, "R N q"], told: bool = False, which: Mapping[str, Score] = SCORES
    ) -> Scores:
        """Scores of predictions by run; rows must sum to one. ``told``: they were made by knowing θ.

        Predictions for the first sequences alone are scored on these.
        """
        cell = self.first(probs.shape[1])
        values = {
            name: None if told and score.to_gold else np.stack([score.of(cell, p) for p in probs])
            for name, score in which.items()
        }
        same = cell._same
        error = [metrics.gold_error(cell.bayes, p, cell.bound, cell.next_token_se, same) for p in probs]
        return Scores(values, None if told else float(np.mean(error)))

    def summarise(self, predictor: str, scores: Scores, seconds: float | None = None) -> Result:
        """Means with their intervals."""
        n_runs, n = next(v.shape for v in scores.values.values() if v is not None)
        runs = scores.excess_kl if n_runs > 1 else None
        return Result(
            predictor=predictor,
            task=self.task.name,
            length=self.length,
            n_sequences=n,
            seed=self.seed,
            scores={k: None if v is None else mean_interval(v.mean(axis=0)) for k, v in scores.values.items()},
            gold=self.gold,
            gold_error=scores.gold_error,
            seconds=seconds,
            runs=None if runs is None else tuple(float(run.mean()) for run in runs),
        )


def cells(
    task: Task,
    lengths: Sequence[int],
    n_sequences: int,
    seed: int,
    gold: str = "exact",
    progress: Progress = no_progress,
    kept: Store | None = None,
) -> Iterator[Cell]:
    """The cells of a task, shortest first, on the sequences of that seed with the gold of that name.

    Gold is ``kept`` there, by default in the cache folder.
    """
    lengths = sorted(set(lengths))
    drawn = evaluation_sequences(task, max(lengths), n_sequences, seed)
    advance = progress(f"{task.name}: gold by {gold}", n_sequences)
    found = gold_by(task, drawn.tokens[:, :-1], lengths, gold, advance, kept)
    for k, length in enumerate(lengths):
        contexts = drawn.tokens[:, :length].astype(np.int64)
        yield Cell(
            task=task,
            length=length,
            seed=seed,
            contexts=contexts,
            next_tokens=drawn.tokens[:, length],
            theta=drawn.theta,
            bayes=metrics.normalise(found.probs[:, k]),
            gold=gold,
            bound=found.bound[:, k],
            next_token_se=found.standard_error[:, k],
        )


def paired_difference(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> MeanInterval:
    """Mean of a - b over the same sequences; two infinite scores of one sequence differ by nothing known."""
    with np.errstate(invalid="ignore"):
        return mean_interval(a - b)
