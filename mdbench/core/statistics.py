"""Intervals for means over sequences, and many tests at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special

CONFIDENCE = 0.95

POWER = 0.8

TINY = 1e-100  # p-values below it are given as zero


@dataclass(frozen=True)
class MeanInterval:
    """A mean, its standard error and the 95% Student-t interval.

    One sequence has no standard error, and an infinite score has an infinite mean and neither: these are then None.
    """

    mean: float
    se: float | None
    interval: tuple[float, float] | None

    @property
    def holds_zero(self) -> bool:
        """Whether the sign is left open: by the interval, or for lack of one unless the mean is infinite."""
        if self.interval is None:
            return not math.isinf(self.mean)
        return self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squared deviations of values: what an interval needs, whatever their number."""

    n: int
    mean: float
    squares: float

    @classmethod
    def of(cls, values: Float[np.ndarray, " N"]) -> Moments:
        """Of values; an infinite mean has no deviations."""
        mean = float(np.mean(values))
        return cls(len(values), mean, float(np.sum((values - mean) ** 2)) if math.isfinite(mean) else math.nan)

    def __add__(self, other: Moments) -> Moments:
        """Of both (Chan, Golub and LeVeque, 1983)."""
        n = self.n + other.n
        if not math.isfinite(self.mean) or not math.isfinite(other.mean):
            return Moments(n, self.mean + other.mean, math.nan)
        apart = other.mean - self.mean
        squares = self.squares + other.squares + apart**2 * self.n * other.n / n
        return Moments(n, self.mean + apart * other.n / n, squares)

    def __neg__(self) -> Moments:
        return Moments(self.n, -self.mean, self.squares)

    @property
    def interval(self) -> MeanInterval:
        """Of the mean of independent values."""
        if self.n < 2 or not math.isfinite(self.mean):
            return MeanInterval(self.mean, None, None)
        se = math.sqrt(self.squares / (self.n - 1)) / math.sqrt(self.n)
        half = float(special.stdtrit(self.n - 1, (1 + CONFIDENCE) / 2)) * se
        return MeanInterval(self.mean, se, (self.mean - half, self.mean + half))


@dataclass(frozen=True)
class BlockMoments:
    """The same of values that depend on their neighbours: number and sum of each block of them.

    Blocks are taken to be independent, and a mean over values is the ratio of two sums over blocks, so blocks count by
    their sizes: Var ≈ B/(B - 1) Σ_b (s_b - n_b mean)²/n², with Student's t of B - 1 degrees of freedom.

    Attributes:
        blocks: (B,) their numbers.
        sizes: (B,) n_b.
        sums: (B,) s_b.
    """

    blocks: Int[np.ndarray, " B"]
    sizes: Float[np.ndarray, " B"]
    sums: Float[np.ndarray, " B"]

    @classmethod
    def of(cls, values: Float[np.ndarray, " N"], blocks: Int[np.ndarray, " N"]) -> BlockMoments:
        """Of values, each with the number of its block."""
        numbers, place = np.unique(blocks, return_inverse=True)
        return cls(numbers, np.bincount(place).astype(float), np.bincount(place, values))

    @property
    def n(self) -> int:
        """Number of values."""
        return int(self.sizes.sum())

    @property
    def mean(self) -> float:
        """Over values."""
        return float(self.sums.sum() / self.sizes.sum())

    def __add__(self, other: BlockMoments) -> BlockMoments:
        """Of both; a block may have values in either."""
        numbers, place = np.unique(np.concatenate([self.blocks, other.blocks]), return_inverse=True)
        sizes, sums = (np.concatenate(parts) for parts in ((self.sizes, other.sizes), (self.sums, other.sums)))
        return BlockMoments(numbers, np.bincount(place, sizes), np.bincount(place, sums))

    def __neg__(self) -> BlockMoments:
        return BlockMoments(self.blocks, self.sizes, -self.sums)

    @property
    def interval(self) -> MeanInterval:
        """Of the mean over values."""
        n_blocks, mean = len(self.blocks), self.mean
        if n_blocks < 2 or not math.isfinite(mean):
            return MeanInterval(mean, None, None)
        around = self.sums - mean * self.sizes
        se = math.sqrt(n_blocks / (n_blocks - 1) * float((around**2).sum())) / self.n
        half = float(special.stdtrit(n_blocks - 1, (1 + CONFIDENCE) / 2)) * se
        return MeanInterval(mean, se, (mean - half, mean + half))


def moments(values: Float[np.ndarray, " N"], blocks: Int[np.ndarray, " N"] | None) -> Moments | BlockMoments:
    """Of independent values, or of values in blocks."""
    return Moments.of(values) if blocks is None else BlockMoments.of(values, blocks)


def mean_interval(values: Float[np.ndarray, " N"]) -> MeanInterval:
    """Mean of independent values with its interval. Give differences for a paired comparison."""
    return Moments.of(values).interval


def ten_digits(score: float) -> float:
    """A score as it orders rows: what differs by rounding alone is in no order, whatever the processor."""
    return float(f"{score:.9e}")


def sequences_to_separate(difference: MeanInterval, n: int) -> int | None:
    """How many sequences would tell a mean difference from zero with a power of 80%, were it what it seems from n.

    (z_0.975 + z_0.8)² sd²/mean², by the normal approximation; None where there is no standard error, or no difference.
    """
    if difference.se is None or difference.mean == 0:
        return None
    z = float(special.ndtri((1 + CONFIDENCE) / 2) + special.ndtri(POWER))
    needed = n * (z * difference.se / difference.mean) ** 2
    return math.ceil(needed) if math.isfinite(needed) else None


@dataclass(frozen=True)
class Spread:
    """Independent parts of an error, each a standard error with its degrees of freedom.

    The half width of an interval is the root of the sum of the parts' own, squared. Degrees of freedom for the sum
    instead (Satterthwaite) err where a part that has few is small by chance: the quantile of Student's t then falls to
    that of the other parts, from 4.3 to 2 for three seeds, just where the interval is too short already.
    """

    parts: Sequence[tuple[float, float]]

    def half_width(self, level: float) -> float:
        """Of the two-sided interval that leaves out ``level``, by Student's t."""
        return math.hypot(*(se and se * -float(special.stdtrit(freedom, level / 2)) for se, freedom in self.parts))

    def p_value(self, distance: float) -> float:
        """Two-sided: the level at which the interval's half width is this distance."""
        parts = [part for part in self.parts if part[0] > 0]
        if len(parts) <= 1:
            return sum(2 * float(special.stdtr(freedom, -distance / se)) for se, freedom in parts)
        if self.half_width(TINY) < distance:
            return 0.0
        log_p = optimize.brentq(lambda x: self.half_width(math.exp(x)) - distance, math.log(TINY), 0.0, xtol=1e-9)
        return math.exp(float(log_p))


def log_dirichlet_multinomial(counts: Float[np.ndarray, "... q"], concentration: float) -> Float[np.ndarray, "..."]:
    """Log probability, in nats, of draws with these counts in their order, their distribution ~ Dirichlet(α, .., α)."""
    total, q = counts.sum(axis=-1), counts.shape[-1]
    each = (special.gammaln(counts + concentration) - special.gammaln(concentration)).sum(axis=-1)
    return each - special.gammaln(total + q * concentration) + special.gammaln(q * concentration)


def pooled(variances: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a sum, from the variances of its parts with theirs (Satterthwaite)."""
    total = sum(v for v, _ in variances)
    by_freedom = sum(v**2 / freedom for v, freedom in variances)
    return math.sqrt(total), total**2 / by_freedom if by_freedom else math.inf


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, 1979): reject those below a level, and all errors together keep it."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))), 1.0)
    return corrected.tolist()


def ratio_interval(numerator: Float[np.ndarray, " N"], denominator: Float[np.ndarray, " N"]) -> MeanInterval:
    """Ratio of two means over the same sequences, with its interval by the delta method."""
    below = float(np.mean(denominator))
    ratio = float(np.mean(numerator)) / below if below else math.inf
    if len(numerator) < 2 or not math.isfinite(ratio):
        return MeanInterval(ratio, None, None)
    around = mean_interval((numerator - ratio * denominator) / below)
    assert around.interval is not None
    half = around.interval[1] - around.mean
    return MeanInterval(ratio, around.se, (ratio - half, ratio + half))
