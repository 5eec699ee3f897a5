"""How everything here is measured: times taken in turn, ratios of these with intervals, growth as fitted exponents."""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

sys.path.append(str(Path(__file__).parents[2] / "scripts"))  # whose tables.py puts tables into docs/

ROUNDS = 7  # six are the fewest that give a 95% interval, and with seven the test of a change finds it among 80 rows
CONFIDENCE = 0.95

LEAST_SECONDS = (
    0.2  # of one measurement: what takes milliseconds is done many times over, or the machine's noise is all
)

Unit = Literal["ratio", "exponent", "factor"]
"""A ratio; the power of a size that time grows by; the factor that time grows by where a size grows by one."""


@dataclass(frozen=True)
class Row:
    """One figure: a median, or a fitted growth, with its 95% interval.

    Attributes:
        figure: what is measured, against what.
        unit: what the number is.
        value: the number.
        low: lower end of its interval.
        high: upper end.
        repeats: the number in each round.
        at_least: the goal, if it is to be that large.
        at_most: the goal, if it is to be that small.
    """

    figure: str
    unit: Unit
    value: float
    low: float
    high: float
    repeats: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None


def in_turn(*work: Callable[[], Any], rounds: int = ROUNDS) -> Float[np.ndarray, "K R"]:
    """Seconds of each, one after the other in every round, so that a machine that slows down slows all of them.

    Each runs once before, which does not count: it compiles, and fills caches.
    """
    for each in work:
        each()
    return np.array([[_seconds(each) for each in work] for _ in range(rounds)]).T


def _seconds(work: Callable[[], Any]) -> float:
    """In the mean of as many as take a while together."""
    started, seconds, times = time.perf_counter(), 0.0, 0
    while seconds < LEAST_SECONDS:
        work()
        seconds, times = time.perf_counter() - started, times + 1
    return seconds / times


def ratio(figure: str, above: Any, below: Any, *, at_least: float | None = None, at_most: float | None = None) -> Row:
    """The median of the ratios of two numbers of each round (either may be one for all), and its interval.

    The interval is that of order statistics, which supposes nothing of how ratios are distributed; it takes six rounds.
    """
    repeats = np.asarray(above) / np.asarray(below)
    interval = stats.quantile_test(repeats, p=0.5).confidence_interval(CONFIDENCE)
    ends = float(interval.low), float(interval.high)
    return Row(figure, "ratio", float(np.median(repeats)), *ends, tuple(repeats.tolist()), at_least, at_most)


def growth(figure: str, work: Mapping[int, tuple[Callable[[], Any], int]], unit: Unit = "exponent") -> Row:
    """How time grows with a size: by size some work and how many times over it does the same, all sizes in turn."""
    seconds = in_turn(*(each for each, _ in work.values()))
    return fit_growth(figure, list(work), seconds / np.array([[number] for _, number in work.values()]), unit)


def fit_growth(figure: str, sizes: Sequence[int], seconds: Float[np.ndarray, "K R"], unit: Unit = "exponent") -> Row:
    """The slope of log time on log size (``factor``: on size, as a factor), by least squares over the median times.

    Its interval is Student's t by the residuals: where time is no power of the size, it is wide.
    """
    log_time = np.log(seconds)
    at, of = (np.log(sizes), float) if unit == "exponent" else (np.asarray(sizes, dtype=float), math.exp)
    (slope, _), covariance = np.polyfit(at, np.median(log_time, axis=1), 1, cov=True)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(sizes) - 2) * math.sqrt(covariance[0, 0])
    repeats = tuple(map(of, np.polyfit(at, log_time, 1)[0]))
    return Row(figure, unit, of(slope), of(slope - half), of(slope + half), repeats)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` in a new process: nothing is compiled, cached or fragmented there by what ran before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()
