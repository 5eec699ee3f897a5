"""Scores of predictions in a cell, and what is said of them: means with intervals, ties."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mdbench.core import metrics
from mdbench.core.statistics import BlockMoments, MeanInterval, Moments, moments
from mdbench.core.wording import interval_text, title
from mdbench.evaluation.cell import Cell, NoTruth
from mdbench.evaluation.running import median_seconds
from mdbench.evaluation.scores import SCORES, Score


@dataclass(frozen=True)
class Result:
    """Scores of a predictor in one cell (task, length): means over sequences, in nats (docs/mathematics.md, section 5).

    ``scores`` has each by its name, None where it is not defined: ``excess_kl``, and ``gold_error`` with it, for the
    oracle, which is told θ. Standard errors and intervals are None where they do not exist (one sequence, infinite
    scores). ``gold`` is the baseline that excess KL is measured against, and ``gold_error`` what that may be off by, in
    nats. Of a predictor with several training seeds all scores are means over these, with intervals over sequences;
    ``runs`` is the excess KL of each seed, else None. ``seconds`` are those of one run of all predictions, at the
    median time of a chunk, so that compilation counts only where there is just one; None where the predictions were
    made elsewhere.

    Of recorded sequences there is no gold: ``gold`` is None, and rows are ranked by NLL. ``n_sequences`` are then the
    test tokens, ``n_blocks`` the blocks of them that intervals are over, and ``runs`` is the NLL of each seed.
    """

    predictor: str
    task: str
    length: int
    n_sequences: int
    seed: int
    scores: dict[str, MeanInterval | None]
    gold: str | None
    gold_error: float | None
    seconds: float | None
    runs: tuple[float, ...] | None = None
    n_blocks: int | None = None

    @property
    def ranked_by(self) -> str:
        """The score that orders rows."""
        return ranked_by(self.gold)

    @property
    def ranking(self) -> float | None:
        """Its mean; None for what is not ranked."""
        return self.mean(self.ranked_by) if self.ranked_by in self.scores else None

    def mean(self, score: str) -> float | None:
        """Of a score; None where it is not defined."""
        of_score = self.scores[score]
        return None if of_score is None else of_score.mean

    @property
    def kl(self) -> float | None:
        """KL(truth ‖ p̂)."""
        return self.mean("kl")

    @property
    def excess_kl(self) -> float | None:
        """KL(p_B ‖ p̂)."""
        return self.mean("excess_kl")

    @property
    def cross_entropy(self) -> float | None:
        """Expected log loss under the truth."""
        return self.mean("cross_entropy")

    @property
    def nll(self) -> float:
        """Log loss on the tokens that came."""
        return cast(float, self.mean("nll"))

    def to_dict(self) -> dict[str, Any]:
        """Flat: of each score its mean, ``_se`` (standard error) and ``_ci`` (95% interval); blocks, if any."""
        flat: dict[str, Any] = {}
        for name, of_score in self.scores.items():
            parts = (None, None, None) if of_score is None else (of_score.mean, of_score.se, of_score.interval)
            flat |= dict(zip((name, f"{name}_se", f"{name}_ci"), parts, strict=True))
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "scores"}
        if self.n_blocks is None:
            del own["n_blocks"]
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
            if name != self.ranked_by:
                texts.append(self._nothing if of_score is None else f"{of_score.mean:.4g}")
            elif of_score is None:
                texts += ["not ranked", ""]
            else:
                texts += ["at gold", ""] if self.at_gold else [f"{of_score.mean:.4g}", interval_text(of_score.interval)]
        seconds = "unknown" if self.seconds is None else f"{self.seconds:.2f}"
        return [str(self.length), self.predictor, *texts, seconds]

    @property
    def _nothing(self) -> str:
        """What stands for a score that is not defined: of recorded sequences for no row."""
        return "-" if self.gold is None else ""


def ranked_by(gold: str | None) -> str:
    """The score that orders rows: that against the gold, where there is one."""
    return "nll" if gold is None else "excess_kl"


def is_at_gold(excess_kl: float | None, gold_error: float | None) -> bool:
    """Whether there is an excess KL that is finite and within the gold's error."""
    return excess_kl is not None and gold_error is not None and math.isfinite(excess_kl) and excess_kl <= gold_error


def columns(results: Sequence[Result]) -> list[str]:
    """Headings for :attr:`Result.row`, of results against a gold, or of results without one."""
    names = list(results[0].scores) if results else []
    ranked = results[0].ranked_by if results else None
    headings = [h for name in names for h in (title(name), *(["95% interval"] if name == ranked else []))]
    return ["T", "predictor", *headings, "seconds"]


@dataclass(frozen=True)
class Scores:
    """One predictor's scores in one cell, by name, each by run (training seed) and sequence, (R, N).

    Those against the gold are None if it is told θ. ``gold_error`` is the mean over runs: an error of their mean is at
    most the mean of their errors. Of recorded sequences ``blocks`` (N,) are those that each belongs to.
    """

    values: dict[str, Float[np.ndarray, "R N"] | None]
    gold_error: float | None
    blocks: Int[np.ndarray, " N"] | None = None

    @property
    def excess_kl(self) -> Float[np.ndarray, "R N"] | None:
        """KL(p_B ‖ p̂)."""
        return self.values["excess_kl"]

    @property
    def ranking(self) -> Float[np.ndarray, "R N"] | None:
        """What rows are ranked by: excess KL, or of recorded sequences NLL."""
        return self.values.get("excess_kl" if self.blocks is None else "nll")

    @property
    def mean_ranking(self) -> Float[np.ndarray, " N"] | None:
        """Of each sequence: what is expected of one run."""
        return None if self.ranking is None else self.ranking.mean(axis=0)

    def frame(self, first: int = 0) -> pd.DataFrame:
        """A row a sequence, means over runs; ``first`` is the number of the first."""
        n = next(v.shape[1] for v in self.values.values() if v is not None)
        columns = {k: np.full(n, np.nan) if v is None else v.mean(axis=0) for k, v in self.values.items()}
        return pd.DataFrame({"sequence": np.arange(first, first + n)} | columns)


def score_cell(
    cell: Cell, probs: Float[np.ndarray, "R N q"], told: bool = False, which: Mapping[str, Score] = SCORES
) -> Scores:
    """Scores of predictions by run; rows must sum to one. ``told``: they were made by knowing θ.

    Predictions for the first sequences alone are scored on these.
    """
    cell = cell.first(probs.shape[1])
    values: dict[str, Float[np.ndarray, "R N"] | None] = {}
    for name, score in which.items():
        try:
            values[name] = None if told and score.to_gold else np.stack([score.of(cell, p) for p in probs])
        except NoTruth:
            values[name] = None
    if cell.gold is None:
        return Scores(values, None, cell.blocks)
    same = cell.same
    error = [metrics.gold_error(cell.bayes, p, cell.bound, cell.next_token_se, same) for p in probs]
    return Scores(values, None if told else float(np.mean(error)))


class Tally:
    """What the scores of one predictor in one cell come to, added up shard by shard of its sequences.

    Errors of gold add up as if they were one and the same in all shards: equal contexts may be in several.
    """

    def __init__(self, scores: Scores, seconds: Sequence[float] = ()) -> None:
        blocks = scores.blocks
        self._scores = {k: None if v is None else moments(v.mean(axis=0), blocks) for k, v in scores.values.items()}
        of_runs = scores.ranking
        self._runs = [] if of_runs is None or len(of_runs) == 1 else [moments(run, blocks) for run in of_runs]
        n = next(v.shape[1] for v in scores.values.values() if v is not None)
        self._gold_error: Any = None if scores.gold_error is None else Moments(n, scores.gold_error, 0.0)
        self._seconds = list(seconds)

    def add(self, other: Tally) -> None:
        """The same predictor's on further sequences of the cell."""
        self._scores = {k: _sum(v, other._scores[k]) for k, v in self._scores.items()}
        self._runs = [_sum(a, b) for a, b in zip(self._runs, other._runs, strict=True)]
        self._gold_error = _sum(self._gold_error, other._gold_error)
        self._seconds += other._seconds

    def result(self, predictor: str, task: str, length: int, seed: int, gold: str | None) -> Result:
        """Means with their intervals."""
        some = next(v for v in self._scores.values() if v is not None)
        return Result(
            predictor=predictor,
            task=task,
            length=length,
            n_sequences=some.n,
            seed=seed,
            scores={k: None if v is None else v.interval for k, v in self._scores.items()},
            gold=gold,
            gold_error=None if self._gold_error is None else self._gold_error.mean,
            seconds=median_seconds(self._seconds) if self._seconds else None,
            runs=tuple(run.mean for run in self._runs) or None,
            n_blocks=len(some.blocks) if isinstance(some, BlockMoments) else None,
        )


def _sum(a: Any, b: Any) -> Any:
    """Of two moments of one kind; None if one is not defined."""
    return None if a is None or b is None else a + b


def summarise(cell: Cell, predictor: str, scores: Scores) -> Result:
    """Means with their intervals over one cell."""
    return Tally(scores).result(predictor, cell.task.name, cell.length, cell.seed, cell.gold)


FAILED = "failed"


@dataclass(frozen=True)
class Skipped:
    """A predictor that cannot serve a cell of the suite, and why: in a sentence, and in a word or two."""

    predictor: str
    task: str
    length: int
    reason: str
    label: str


@dataclass(frozen=True)
class Tie:
    """Two neighbours in a cell's ranking whose paired difference (in excess KL or NLL) is not told from zero."""

    task: str
    length: int
    predictors: tuple[str, str]
    difference: float
    difference_ci: tuple[float, float] | None


class Differences:
    """Paired differences in what ranks between the predictors of one cell, added up shard by shard."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], Moments | BlockMoments] = {}

    def add(self, ranking: Mapping[str, Float[np.ndarray, " N"]], blocks: Int[np.ndarray, " N"] | None = None) -> None:
        """By predictor, of each sequence of a shard; two infinite scores of one sequence differ by nothing known."""
        for pair in combinations(ranking, 2):
            with np.errstate(invalid="ignore"):
                found = moments(ranking[pair[0]] - ranking[pair[1]], blocks)
            self._pairs[pair] = _sum(self._pairs[pair], found) if pair in self._pairs else found

    def between(self, a: str, b: str) -> MeanInterval:
        """Mean of a - b."""
        return (self._pairs[a, b] if (a, b) in self._pairs else -self._pairs[b, a]).interval


def is_tied(difference: MeanInterval, a: Result, b: Result) -> bool:
    """Whether chance or the gold's error could be all there is to a difference."""
    return difference.holds_zero or within_gold(difference, a, b)


def within_gold(difference: MeanInterval, a: Result, b: Result) -> bool:
    resolution = (a.gold_error or 0.0) + (b.gold_error or 0.0)
    return math.isfinite(difference.mean) and abs(difference.mean) <= resolution
