"""Intervals for means over sequences, and many tests at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import special

CONFIDENCE = 0.95
POWER = 0.8


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


def mean_interval(values: Float[np.ndarray, " N"]) -> MeanInterval:
    """Mean of independent values with its interval. Give differences for a paired comparison."""
    mean = float(np.mean(values))
    if len(values) < 2 or not np.isfinite(mean):
        return MeanInterval(mean, None, None)
    se = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = float(special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * se
    return MeanInterval(mean, se, (mean - half, mean + half))


def sequences_to_separate(difference: MeanInterval, n: int) -> int | None:
    """How many sequences would tell a mean difference from zero with a power of 80%, were it what it seems from n.

    (z_0.975 + z_0.8)² sd²/mean², by the normal approximation; None where there is no standard error, or no difference.
    """
    if difference.se is None or difference.mean == 0:
        return None
    z = float(special.ndtri((1 + CONFIDENCE) / 2) + special.ndtri(POWER))
    needed = n * (z * difference.se / difference.mean) ** 2
    return math.ceil(needed) if math.isfinite(needed) else None


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, 1979): reject those below a level, and all errors together keep it."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))), 1.0)
    return corrected.tolist()
