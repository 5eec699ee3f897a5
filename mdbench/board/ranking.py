"""Rankings that admit ties.

A *table* is a set of cells (task, length): those of one task, where rows are ranked by their mean excess KL, or of the
whole suite, where they are ranked by the geometric mean over cells of the ratio of their excess KL to that of the
suite's unit (``md1`` of most), so that no cell drowns the others. In the ratio an excess KL is floored at the error of
the gold.

Where sequences were recorded there is no gold, and NLL stands in the place of excess KL.

All comparisons are paired, on the sequences that both rows have. Their standard errors come from a bootstrap over
sequences (the same ones at all lengths of a task) and, where a row has several training seeds, from the variance of the
seeds' means over the lengths of a task: a seed is good or bad at all of them. Intervals and p-values are those of
Student's t for the two parts apart, whose half widths add as squares; p-values are corrected for the number of pairs in
the table (Holm). Hence with 95% confidence no pair at all is told apart wrongly, and all rank intervals hold at once;
of a row with one training seed everywhere, as that one seed.

All pairs at once decide next to nothing of rows whose seeds carry the variance. A suite therefore names a few *planned*
comparisons, which are corrected among themselves. Two rows are *equal* if the whole interval of their ratio lies within
the suite's margin; what is neither told apart nor equal is *undecided*.
"""

from __future__ import annotations

import functools
import itertools
import math
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mdbench.core.statistics import CONFIDENCE, Spread, holm, pooled, ten_digits
from mdbench.core.wording import interval_text, p_text
from mdbench.evaluation.results import is_at_gold
from mdbench.tasks import Suite

DRAWS = 2000  # of the bootstrap

SEED = 0

ROUNDING = 1e-9  # relative

Place = tuple[str, int]  # a cell: task and length


@dataclass(frozen=True)
class Standing:
    """Of one row in one table.

    Attributes:
        score: mean excess KL in nats, or geometric mean of ratios; lower is better. 0 if all cells are at gold.
        interval: 95%, by the bootstrap; None where it is infinite, or at gold.
        position: 1 for the lowest score.
        ranks: the lowest and highest rank that are not ruled out.
        groups: letters; two rows have one in common just if they cannot be told apart.
    """

    score: float
    interval: tuple[float, float] | None
    position: int
    ranks: tuple[int, int]
    groups: tuple[str, ...]


PLANNED = ("row", "with", "cells", "ratio", "95% interval", "corrected p", "verdict")  # headings


@dataclass(frozen=True)
class Planned:
    """A comparison that the suite named before anybody looked, over the cells that both rows have.

    Attributes:
        a: label of a row.
        b: label of the row that it is compared with.
        n_cells: cells that both have.
        ratio: geometric mean over these of a's excess KL to b's.
        interval: its 95% interval.
        p: that they are equally good, corrected for the number of planned comparisons (Holm).
        verdict: of a: ``better``, ``equal``, ``worse`` or ``undecided``.
        one_seed: whether one of them was trained with one seed everywhere, so that the verdict is of that seed.
    """

    a: str
    b: str
    n_cells: int
    ratio: float
    interval: tuple[float, float] | None
    p: float
    verdict: str
    one_seed: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """What stands in a table: both rows, cells, ratio with interval, p, verdict."""
        seeds = ", one seed" if self.one_seed else ""
        ratio, interval = f"{self.ratio:.3g}", interval_text(self.interval)
        return self.a, self.b, f"{self.n_cells}{seeds}", ratio, interval, p_text(self.p), self.verdict


@dataclass(frozen=True)
class Excess:
    """Excess KL of one row in one cell, by run and sequence, and the error of the gold.

    Of recorded sequences it is NLL, and N are blocks of test tokens: ``values`` are sums over each, ``sizes`` (N,) how
    many it has. A mean over tokens is then a ratio of sums over blocks.
    """

    values: Float[np.ndarray, "R N"]
    gold_error: float
    sizes: Float[np.ndarray, " N"] | None = None

    def of_runs(self, n: int) -> Float[np.ndarray, " R"]:
        """Mean of each run over the first n."""
        values = self.values[:, :n]
        return values.mean(axis=1) if self.sizes is None else values.sum(axis=1) / self.sizes[:n].sum()

    def mean(self, n: int) -> float:
        """Over the first n and all runs."""
        return float(self.of_runs(n).mean())


def complete(excess: dict[str, dict[Place, Excess]], places: Sequence[Place]) -> dict[str, dict[Place, Excess]]:
    """The rows that have all these cells, cut to them."""
    return {key: {p: cells[p] for p in places} for key, cells in excess.items() if all(p in cells for p in places)}


def standings(rows: dict[str, dict[Place, Excess]], unit: dict[Place, Excess] | None) -> dict[str, Standing]:
    """Where each row stands: by the mean over cells or, with a ``unit``, by the geometric mean of ratios to it."""
    if not rows:
        return {}
    resampling = Resampling(rows, unit)
    keys = list(rows)
    scores = {key: (0.0, None) if _at_gold(rows[key]) else resampling.score(key) for key in keys}
    pairs = list(itertools.combinations(keys, 2))
    corrected = holm([resampling.p_value(a, b) for a, b in pairs]) if pairs else []
    better: dict[str, set[str]] = {key: set() for key in keys}  # significantly so
    apart = np.zeros((len(keys), len(keys)), bool)
    for (a, b), p in zip(pairs, corrected, strict=True):
        if p < 1 - CONFIDENCE:
            low, high = (a, b) if resampling.difference(a, b) < 0 else (b, a)
            better[high].add(low)
            apart[keys.index(a), keys.index(b)] = apart[keys.index(b), keys.index(a)] = True
    ordered = sorted(keys, key=lambda key: (ten_digits(scores[key][0]), key))
    order = [keys.index(key) for key in ordered]
    letters = tie_groups(apart[np.ix_(order, order)])
    worse = {key: sum(key in low for low in better.values()) for key in keys}
    return {
        key: Standing(
            score=scores[key][0],
            interval=scores[key][1],
            position=k + 1,
            ranks=(1 + len(better[key]), len(keys) - worse[key]),
            groups=letters[k],
        )
        for k, key in enumerate(ordered)
    }


def _at_gold(cells: dict[Place, Excess]) -> bool:
    """Whether the scores of a row are rounding errors, whose order depends on the processor."""
    return all(is_at_gold(excess.mean(excess.values.shape[1]), excess.gold_error) for excess in cells.values())


def planned_comparisons(suite: Suite, rows: dict[str, tuple[dict[Place, Excess], bool]]) -> list[Planned]:
    """The comparisons that a suite names, of the rows there are: excess KL, and whether their seeds are unknown."""
    compared = []
    for a, b in suite.planned:
        cells = [rows.get(label, ({}, False))[0] for label in (a, b)]
        places = [place for place in cells[0] if place in cells[1]]
        if places:
            pair = {label: {place: own[place] for place in places} for label, own in zip((a, b), cells, strict=True)}
            resampling = Resampling(pair, unit=pair[b])
            compared.append((a, b, len(places), *resampling.score(a), resampling.p_value(a, b)))
    corrected = holm([p for *_, p in compared]) if compared else []
    low, high = suite.margin
    planned = []
    for (a, b, n_cells, ratio, interval, _), p in zip(compared, corrected, strict=True):
        if interval is not None and low <= interval[0] and interval[1] <= high:
            verdict = "equal"
        elif p < 1 - CONFIDENCE:
            verdict = "better" if ratio < 1 else "worse"
        else:
            verdict = "undecided"
        planned.append(Planned(a, b, n_cells, ratio, interval, p, verdict, rows[a][1] or rows[b][1]))
    return planned


class Resampling:
    """Means over cells of resampled excess KL, the first draw being the sample itself.

    Sequences are resampled. Training seeds are not: few as they are, what they add to a variance is computed, and the
    few degrees of freedom that it has are counted (Satterthwaite). The seeds of a row are one draw for all lengths of a
    task: weights of longer contexts start from those of shorter ones, so seed k is good or bad at all of them.
    """

    def __init__(self, rows: dict[str, dict[Place, Excess]], unit: dict[Place, Excess] | None) -> None:
        self.rows, self.unit = rows, unit
        self.sizes = {key: min(e.values.shape[1] for e in cells.values()) for key, cells in rows.items()}
        self.known: dict[tuple[str, int], Float[np.ndarray, " draws"]] = {}

    @staticmethod
    @functools.lru_cache(maxsize=64)
    def _counts(task: str, n: int) -> Float[np.ndarray, "draws n"]:
        """How often each of n sequences is drawn: the same for all rows and lengths."""
        seed = [SEED, n, *task.encode()]
        counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), DRAWS).astype(float)
        counts[0] = 1.0
        return counts

    def means(self, key: str, n: int) -> Float[np.ndarray, " draws"]:
        """Over cells, on the first n sequences: of the excess KL or, with a unit, of its logarithm."""
        if (key, n) not in self.known:
            total = np.zeros(DRAWS)
            for place, excess in self.rows[key].items():
                mean = self._cell(place, excess, n)
                if self.unit is not None:
                    mean = np.log(np.maximum(mean, self._floor(place, excess)))
                total += mean / len(self.rows[key])
            self.known[key, n] = total
        return self.known[key, n]

    def _cell(self, place: Place, excess: Excess, n: int) -> Float[np.ndarray, " draws"]:
        values = excess.values[:, :n]
        if not np.isfinite(values).all():
            return np.full(DRAWS, np.inf)
        counts = self._counts(place[0], n)
        return counts @ values.mean(axis=0) / (n if excess.sizes is None else counts @ excess.sizes[:n])

    def _run_variances(self, key: str, n: int) -> list[tuple[float, int]]:
        """What training seeds add to the variance of :meth:`means`, with its degrees of freedom, task by task.

        Of a task, the variance of the seeds' means over its lengths: of their logarithms, since good seeds differ from
        bad ones by factors, and of few numbers the variance of a skew one is too often small. Where the lengths have
        different numbers of seeds, those that all have. Cells with a single seed take the variance of the tasks with
        several: nothing says that seeds matter less there.
        """
        n_cells = len(self.rows[key])
        several: dict[str, list[Float[np.ndarray, " R"]]] = {}
        single: Counter[str] = Counter()
        for place, excess in self.rows[key].items():
            of_runs = excess.of_runs(n)
            if len(of_runs) == 1:
                single[place[0]] += 1
            elif np.isfinite(of_runs).all():
                logs = self.unit is not None
                of_runs = np.log(np.maximum(of_runs, self._floor(place, excess))) if logs else of_runs
                several.setdefault(place[0], []).append(of_runs)
        more = sum((k / n_cells) ** 2 for k in single.values()) / max(len(several), 1)
        variances = []
        for cells in several.values():
            n_runs = min(map(len, cells))
            means = np.mean([of_runs[:n_runs] for of_runs in cells], axis=0)
            if self.unit is None and (means > 0).all():  # what adds to a mean is its share of it
                means = np.log(means) * means.mean()
            share = (len(cells) / n_cells) ** 2 / n_runs + more
            variances.append((float(means.var(ddof=1)) * share, n_runs - 1))
        return variances

    def _floor(self, place: Place, excess: Excess) -> float:
        """Below it an excess KL cannot be told from zero."""
        assert self.unit is not None
        return max(excess.gold_error, self.unit[place].gold_error, float(np.finfo(float).tiny))

    def _spread(self, draws: Float[np.ndarray, " draws"], keys: Sequence[str], n: int) -> Spread:
        """The error of what was drawn for these rows, by sequences and by their seeds."""
        seeds = [part for key in keys for part in self._run_variances(key, n)]
        in_blocks = any(excess.sizes is not None for key in keys for excess in self.rows[key].values())
        few = math.sqrt(n / (n - 1)) if in_blocks else 1.0  # blocks are so few that a resampled variance is too small
        return Spread([(few * float(draws[1:].std(ddof=1)), n - 1), pooled(seeds)])

    def score(self, key: str) -> tuple[float, tuple[float, float] | None]:
        """With its 95% interval, by Student's t; None where it is not finite, or rests on one sequence."""
        n, keys = self.sizes[key], [key]
        draws = self.means(key, n)
        if self.unit is not None:
            unit = next(k for k, cells in self.rows.items() if cells is self.unit)
            n = min(n, self.sizes[unit])
            draws = self.means(key, n) - self.means(unit, n)
            keys = [] if key == unit else [key, unit]
        value = float(draws[0])
        if not np.isfinite(draws).all():
            return (math.inf if value > 0 or math.isnan(value) else 0.0), None
        if n < 2:
            return (math.exp(value) if self.unit is not None else value), None
        half = self._spread(draws, keys, n).half_width(1 - CONFIDENCE)
        if self.unit is not None:
            return math.exp(value), (math.exp(value - half), _exp(value + half))
        factor = _exp(half / value) if value > 0 else 1.0  # of the logarithm too: a mean of skew numbers is positive
        return value, (value / factor, value * factor)

    def _differences(self, a: str, b: str) -> Float[np.ndarray, " draws"]:
        n = min(self.sizes[a], self.sizes[b])
        with np.errstate(invalid="ignore"):
            return self.means(a, n) - self.means(b, n)

    def difference(self, a: str, b: str) -> float:
        """Of the sample: a - b on the sequences that both have."""
        return float(self._differences(a, b)[0])

    def p_value(self, a: str, b: str) -> float:
        """Two-sided, that a and b are equally good; 1 if the gold's errors or rounding could be all there is."""
        n = min(self.sizes[a], self.sizes[b])
        draws = self._differences(a, b)
        if np.isnan(draws[0]):  # both infinite
            return 1.0
        if np.isinf(draws[0]):
            return 0.0
        if n < 2 or abs(draws[0]) <= self._resolution(a, b, n):
            return 1.0
        return self._spread(draws, [a, b], n).p_value(abs(float(draws[0])))

    def _resolution(self, a: str, b: str, n: int) -> float:
        """How far apart two rows may be by the gold's errors or rounding alone."""
        pairs = [(self.rows[a][place], self.rows[b][place]) for place in self.rows[a]]
        if self.unit is None:
            return max(sum(x.gold_error + y.gold_error for x, y in pairs) / len(pairs), ROUNDING * self.means(a, n)[0])
        means = [[e.mean(n) for e in pair] for pair in pairs]
        within = (abs(p - q) <= x.gold_error + y.gold_error for (p, q), (x, y) in zip(means, pairs, strict=True))
        return math.inf if all(within) else ROUNDING


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def tie_groups(apart: Bool[np.ndarray, "K K"]) -> list[tuple[str, ...]]:
    """Letters for each row such that two share one just if they are not told apart (compact letter display).

    By insertion and absorption: Piepho, J. Comput. Graph. Stat. 13 (2004). Rows come best first, and so do letters.
    """
    groups: list[frozenset[int]] = [frozenset(range(len(apart)))]
    for i, j in itertools.combinations(range(len(apart)), 2):
        if apart[i, j]:
            split = [g - {k} if {i, j} <= g else g for g in groups for k in ((i, j) if {i, j} <= g else (i,))]
            split = list(dict.fromkeys(split))
            groups = [g for g in split if not any(g < other for other in split)]
    groups.sort(key=sorted)
    return [tuple(_letters(n) for n, g in enumerate(groups) if k in g) for k in range(len(apart))]


def _letters(n: int) -> str:
    alphabet = string.ascii_lowercase
    return alphabet[n] if n < 26 else _letters(n // 26 - 1) + alphabet[n % 26]
