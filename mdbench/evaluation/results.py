"""Scores of predictions in a cell, and what is said of them: means with intervals, ties."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from mdbench.core import metrics
from mdbench.core.statistics import MeanInterval, mean_interval
from mdbench.core.wording import interval_text, title
from mdbench.evaluation.cell import Cell
from mdbench.evaluation.scores import SCORES, Score


@dataclass(frozen=True)
class Result:
    """Scores of one predictor in one cell (task, length): means over sequences, in nats (docs/model.md, section 5).

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
        of_score = self.scores[score]
        return None if of_score is None else of_score.mean

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


def columns(results: Sequence[Result]) -> list[str]:
    """Headings for :attr:`Result.row`."""
    names = list(results[0].scores) if results else []
    headings = [h for name in names for h in (title(name), *(["95% interval"] if name == "excess_kl" else []))]
    return ["T", "predictor", *headings, "seconds"]


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


def score_cell(
    cell: Cell, probs: Float[np.ndarray, "R N q"], told: bool = False, which: Mapping[str, Score] = SCORES
) -> Scores:
    """Scores of predictions by run; rows must sum to one. ``told``: they were made by knowing θ.

    Predictions for the first sequences alone are scored on these.
    """
    cell = cell.first(probs.shape[1])
    values = {
        name: None if told and score.to_gold else np.stack([score.of(cell, p) for p in probs])
        for name, score in which.items()
    }
    same = cell.same
    error = [metrics.gold_error(cell.bayes, p, cell.bound, cell.next_token_se, same) for p in probs]
    return Scores(values, None if told else float(np.mean(error)))


def summarise(
    cell: Cell, predictor: str, scores: Scores, seconds: float | None = None, label: str | None = None
) -> Result:
    """Means with their intervals; ``label`` is what the task is called, if not by its name."""
    n_runs, n = next(v.shape for v in scores.values.values() if v is not None)
    runs = scores.excess_kl if n_runs > 1 else None
    return Result(
        predictor=predictor,
        task=label or cell.task.name,
        length=cell.length,
        n_sequences=n,
        seed=cell.seed,
        scores={k: None if v is None else mean_interval(v.mean(axis=0)) for k, v in scores.values.items()},
        gold=cell.gold,
        gold_error=scores.gold_error,
        seconds=seconds,
        runs=None if runs is None else tuple(float(run.mean()) for run in runs),
    )


def paired_difference(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"]) -> MeanInterval:
    """Mean of a - b over the same sequences; two infinite scores of one sequence differ by nothing known."""
    with np.errstate(invalid="ignore"):
        return mean_interval(a - b)


def is_tied(difference: MeanInterval, a: Result, b: Result) -> bool:
    """Whether chance or the gold's error could be all there is to a difference."""
    return difference.holds_zero or within_gold(difference, a, b)


def within_gold(difference: MeanInterval, a: Result, b: Result) -> bool:
    resolution = (a.gold_error or 0.0) + (b.gold_error or 0.0)
    return math.isfinite(difference.mean) and abs(difference.mean) <= resolution
