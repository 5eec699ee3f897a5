"""Intervals by the profile likelihood: one number held at a value, all others at their best for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from mdbench.core.statistics import CONFIDENCE
from mdbench.series.likelihood import Climbed, MixtureLikelihood

QUANTILE = float(special.chdtri(1, 1 - CONFIDENCE))  # 3.84, of χ² with one degree of freedom
ENDS = 1e-5  # how exactly an end is found
BETTER = 1e-6  # nats, by which a profile must rise above a maximum to call it none
STEEP = 1e3  # a distance that stands for an impossible value


class HigherFound(Exception):
    """A profile met a point above what had been taken for the maximum; ``climbed`` is the summit near it."""

    def __init__(self, climbed: Climbed) -> None:
        super().__init__("a higher maximum")
        self.climbed = climbed


class Interval(NamedTuple):
    """Values that a likelihood-ratio test at level 1 - ``CONFIDENCE`` does not reject: from ``low`` to ``high``."""

    low: float
    high: float


def profile_interval(likelihood: MixtureLikelihood, best: Climbed, k: int, error: float) -> Interval:
    """The interval for number k of θ: where 2 (LL_max - LL_profile) is at most the quantile of χ²_1.

    An end at 0 or 1 is a bound of the number and not rejected itself: the interval is one-sided there.

    Args:
        likelihood: of the data.
        best: its maximum.
        k: which number.
        error: about its standard error: how far away an end is looked for first.

    Raises:
        HigherFound: what was given is not the maximum.
    """
    return Interval(_end(likelihood, best, k, -1, error), _end(likelihood, best, k, 1, error))


def _end(likelihood: MixtureLikelihood, best: Climbed, k: int, side: int, error: float) -> float:
    bound = 0.0 if side < 0 else 1.0
    estimate = float(best.theta[k])
    if estimate == bound:
        return bound
    limit = math.sqrt(QUANTILE)
    found = {estimate: (-limit, best.theta)}

    def excess(value: float) -> float:
        """Root of the likelihood ratio, less that of its limit: nearly linear in ``value``."""
        if value not in found:
            near = found[min(found, key=lambda known: abs(known - value))][1]  # a solution to start from
            start = moved(likelihood, near, k, value)
            if not math.isfinite(likelihood.value(start)):  # what was zero there may have to be more here
                start = moved(likelihood, likelihood.inside(near), k, value)
            if not math.isfinite(likelihood.value(start)):  # nothing else can do what this number does
                return STEEP
            climbed = likelihood.climb(start, fixed=k)
            if climbed.value > best.value + BETTER:
                raise HigherFound(likelihood.climb(climbed.theta))
            found[value] = math.sqrt(max(2 * (best.value - climbed.value), 0.0)) - limit, climbed.theta
        return found[value][0]

    inner, step = estimate, min(2 * error, 0.1) if error > 0 else 0.05
    while True:
        outer = min(max(estimate + side * step, 0.0), 1.0)
        if abs(outer - bound) < ENDS:
            outer = bound
        if excess(outer) > 0:
            break
        if outer == bound:
            return bound
        inner, step = outer, 2 * step
    return float(optimize.brentq(excess, inner, outer, xtol=ENDS))


def moved(
    likelihood: MixtureLikelihood, theta: Float[np.ndarray, " P"], k: int, value: float
) -> Float[np.ndarray, " P"]:
    """θ with number k at a value, the others of its simplex in the same proportions."""
    there = theta.copy()
    block = likelihood.blocks[likelihood.block_of[k]]
    others = block[block != k]
    held = theta[others].sum()
    there[others] = theta[others] * ((1 - value) / held) if held > 0 else (1 - value) / len(others)
    there[k] = value
    return there
