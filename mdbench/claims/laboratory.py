"""What experiments run on: sequences with gold, predictors judged on both scales, and rules of decision."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mdbench.board.ranking import Excess, Resampling
from mdbench.claims.finding import Curve, Interval
from mdbench.core.progress import Progress, no_progress
from mdbench.core.statistics import mean_interval
from mdbench.core.store import Cache, open_store
from mdbench.core.verdict import Verdict
from mdbench.evaluation.cell import Cell, cells
from mdbench.evaluation.evaluation import evaluate
from mdbench.evaluation.results import score_cell
from mdbench.tasks import MTD, load_suite, load_task

MARGIN = 0.25  # of equality: ratios from 1/1.25 to 1.25
SMALL = "mtd-q5-m3"  # the task of --fast, with the most weights
FAST, FULL = 512, 2048  # public sequences a task
SEED = 0
LONGEST = 256
SCALES = ("kl", "excess_kl")
TRAINED = ("trained", "standard", "paper", "cross", "conditional")  # what names of networks begin with

Place = tuple[str, int]  # task and length


@dataclass(frozen=True)
class Judged:
    """One predictor in one cell, by training seed and sequence.

    Attributes:
        probs: what it predicted.
        kl: KL to the true next-token distribution, the paper's scale.
        excess_kl: KL to the Bayes-optimal one.
        gold_error: of the mean excess.
    """

    probs: Float[np.ndarray, "R N q"]
    kl: Float[np.ndarray, "R N"]
    excess_kl: Float[np.ndarray, "R N"]
    gold_error: float

    def first(self, n: int) -> Judged:
        """Of the first n sequences."""
        return Judged(self.probs[:, :n], self.kl[:, :n], self.excess_kl[:, :n], self.gold_error)

    @property
    def trained(self) -> int | None:
        """Training seeds, if more than one."""
        return len(self.probs) if len(self.probs) > 1 else None


Row = dict[Place, Judged]  # of one predictor


@dataclass(frozen=True)
class Ratio:
    """A ratio with its 95% interval."""

    value: float
    interval: Interval | None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} ({self.interval[0]:.3g} .. {self.interval[1]:.3g})"


class Laboratory:
    """Predictors on public sequences, each judged once.

    Args:
        fast: one task and fewer sequences.
        margin: two predictors are equal if the interval of their ratio lies within 1/(1 + margin) .. 1 + margin.
        device: torch device.
        cache: what the cache folder may answer.
        progress: called to show progress.
    """

    def __init__(
        self,
        fast: bool = False,
        margin: float = MARGIN,
        device: str = "cpu",
        cache: Cache = "all",
        progress: Progress = no_progress,
    ) -> None:
        self.fast, self.margin, self.device, self.cache, self.progress = fast, margin, device, cache, progress
        suite = load_suite("core")
        self.tasks: list[str] = [SMALL] if fast else list(suite.tasks)
        self.lengths: list[int] = list(suite.lengths)
        self.longest = LONGEST  # of some experiments on the small task
        self.n_sequences = FAST if fast else FULL
        self._judged: dict[tuple[str, str, int], Judged | None] = {}

    @property
    def small(self) -> MTD:
        """The task that has most weights."""
        return self.task(SMALL)

    @staticmethod
    def task(name: str) -> MTD:
        """A built-in one."""
        task = load_task(name)
        assert isinstance(task, MTD), "the suite has no others"
        return task

    @functools.lru_cache(maxsize=8)  # noqa: B019  # a laboratory lives as long as its process
    def cells(self, task: str) -> dict[int, Cell]:
        """Of a task by length, with gold."""
        kept = open_store(None, self.cache != "none")
        lengths = [*self.lengths, *([self.longest] if task == SMALL else [])]
        found = cells(self.task(task), lengths, self.n_sequences, SEED, progress=self.progress, kept=kept)
        return {cell.length: cell for cell in found}

    def judge(
        self, names: Sequence[str], tasks: Iterable[str] | None = None, lengths: Iterable[int] | None = None
    ) -> dict[str, Row]:
        """Predictors in the cells of some tasks (all if None); a cell that one cannot serve is missing in its row."""
        lengths = list(self.lengths if lengths is None else lengths)
        rows: dict[str, Row] = {name: {} for name in names}
        for task in self.tasks if tasks is None else tasks:
            self._predict([n for n in names if any((n, task, t) not in self._judged for t in lengths)], task, lengths)
            for name in names:
                for length in lengths:
                    judged = self._judged[name, task, length]
                    if judged is not None:
                        rows[name][task, length] = judged
        return rows

    def _predict(self, names: list[str], task: str, lengths: list[int]) -> None:
        if not names:
            return
        # `uniform` serves every cell: a predictor that is alone and cannot serve one would be an error.
        found = evaluate(
            [*names, *({"uniform"} - {*names})],
            task=task,
            lengths=lengths,
            n_sequences=self.n_sequences,
            seed=SEED,
            references=(),
            device=self.device,
            cache=self.cache,
            progress=self.progress,
        )
        for name in names:
            for length in lengths:
                probs = found.predictions.get((name, task, length))
                self._judged[name, task, length] = None if probs is None else self.scored(task, length, probs)

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def bayes(self, task: str) -> Row:
        """The gold itself, in all cells of a task."""
        return {
            (task, length): self.scored(task, length, cell.bayes[None]) for length, cell in self.cells(task).items()
        }

    def scored(self, task: str, length: int, probs: Float[np.ndarray, "R N q"]) -> Judged:
        """Predictions for the cell's sequences, on both scales."""
        scores = score_cell(self.cells(task)[length], probs)
        kl, excess = scores.values["kl"], scores.values["excess_kl"]
        assert kl is not None, "no predictor here is told θ"
        assert excess is not None
        return Judged(probs, kl, excess, scores.gold_error or 0.0)

    # ------------------------------------------------------------------------------------------------- comparisons

    def ratio(self, a: Row, b: Row, scale: str = "excess_kl") -> Ratio:
        """The geometric mean over common cells of a's score to b's: sequences paired, seeds as the board has them."""
        places = [place for place in a if place in b]
        rows = {
            name: {p: Excess(getattr(row[p], scale), row[p].gold_error) for p in places}
            for name, row in (("a", a), ("b", b))
        }
        return Ratio(*Resampling(rows, unit=rows["b"]).score("a"))

    def by_task(self, a: Row, b: Row, scale: str = "excess_kl") -> dict[str, Ratio]:
        """The ratio in each task that both have: one that is small and one that is large are no equality."""
        tasks = dict.fromkeys(task for task, _ in a if any(task == other for other, _ in b))
        return {task: self.ratio({p: j for p, j in a.items() if p[0] == task}, b, scale) for task in tasks}

    @property
    def ends(self) -> Interval:
        """Of the margin."""
        return 1 / (1 + self.margin), 1 + self.margin

    def equal(self, ratio: Ratio) -> Verdict:
        """Whether a ratio is 1 up to the margin."""
        low, high = self.ends
        if ratio.interval is None:
            return Verdict.UNDECIDED
        if low <= ratio.interval[0] and ratio.interval[1] <= high:
            return Verdict.HOLDS
        apart = ratio.interval[1] < low or high < ratio.interval[0]
        return Verdict.FAILS if apart else Verdict.UNDECIDED

    @staticmethod
    def below(ratio: Ratio, bound: float = 1.0) -> Verdict:
        """Whether a ratio is lower."""
        if ratio.interval is None:
            return Verdict.UNDECIDED
        if ratio.interval[1] < bound:
            return Verdict.HOLDS
        return Verdict.FAILS if ratio.interval[0] > bound else Verdict.UNDECIDED

    @staticmethod
    def above(ratio: Ratio, bound: float = 1.0) -> Verdict:
        """Whether a ratio is higher."""
        if ratio.interval is None:
            return Verdict.UNDECIDED
        if ratio.interval[0] > bound:
            return Verdict.HOLDS
        return Verdict.FAILS if ratio.interval[1] < bound else Verdict.UNDECIDED

    # ------------------------------------------------------------------------------------------------- what is shown

    def numbers(self, rows: dict[str, Row]) -> list[dict[str, Any]]:
        """Both scales, with their intervals, of each predictor in each cell."""
        table = []
        for name, row in rows.items():
            for (task, length), judged in row.items():
                line: dict[str, Any] = {"predictor": name, "task": task, "length": length}
                line |= {"n_sequences": judged.kl.shape[1], "seeds": judged.trained or ""}
                for scale in SCALES:
                    mean, interval = self._mean(row, (task, length), scale)
                    line |= {scale: mean}
                    line |= dict(zip((f"{scale}_low", f"{scale}_high"), interval or ("", ""), strict=True))
                table.append(line)
        return table

    def curve(self, label: str, row: Row, task: str, scale: str = "excess_kl", dashed: bool = False) -> Curve:
        """Over lengths, with the range of its training seeds where there are several."""
        places = sorted(place for place in row if place[0] == task)
        of_seeds = [getattr(row[place], scale).mean(axis=1) for place in places]
        seeds = max(map(len, of_seeds), default=1)
        trained = seeds > 1 or label.startswith(TRAINED)
        band = ([s.min() for s in of_seeds], [s.max() for s in of_seeds]) if seeds > 1 else None
        y = [s.mean() for s in of_seeds]
        return Curve(label, [length for _, length in places], y, band, seeds if trained else None, dashed)

    @staticmethod
    def _mean(row: Row, place: Place, scale: str) -> tuple[float, Interval | None]:
        values = getattr(row[place], scale)
        return Resampling({"": {place: Excess(values, row[place].gold_error)}}, None).score("")

    def apart_from_gold(self, row: Row) -> float:
        """Between the two scales, in standard errors: E[KL - KL of Bayes] is the excess KL (docs/mathematics.md).

        The largest over cells; some 2 by chance. More, and the λ are not those that the sequences were drawn with.
        """
        worst = 0.0
        for (task, length), judged in row.items():
            bayes = self.bayes(task)[task, length].kl
            difference = mean_interval((judged.kl - bayes - judged.excess_kl).mean(axis=0))
            if difference.se:
                worst = max(worst, abs(difference.mean) / difference.se)
        return worst


def conjunction(verdicts: Iterable[Verdict]) -> Verdict:
    """Of several parts of one claim: all must hold, and one that fails decides."""
    verdicts = set(verdicts)
    return next((v for v in (Verdict.FAILS, Verdict.UNDECIDED) if v in verdicts), Verdict.HOLDS)


def furthest(ratios: Iterable[Ratio]) -> Ratio:
    """The one that is furthest from 1."""
    return max(ratios, key=lambda ratio: abs(math.log(ratio.value)) if ratio.value > 0 else math.inf)


def written(ratios: dict[str, Ratio]) -> str:
    """Each with its task."""
    return ", ".join(f"{ratio} in {task}" for task, ratio in ratios.items())


def geometric(values: Iterable[float]) -> float:
    """Mean of positive numbers."""
    return math.exp(float(np.mean(np.log(list(values)))))
