"""Intervals: coverage, and what does not exist is None."""

import numpy as np
import pytest
from scipy import stats

from mdbench.statistics import mean_interval


@pytest.mark.parametrize("n", [5, 50])
def test_the_interval_covers_95_percent(n):
    rng = np.random.default_rng(n)
    hits = [lo <= 2.0 <= hi for lo, hi in (mean_interval(rng.normal(2, 3, n)).interval for _ in range(4000))]
    assert stats.binomtest(sum(hits), len(hits), 0.95).pvalue > 1e-3


def test_agrees_with_scipy():
    values = np.array([1.0, 2.0, 4.0, 8.0])
    found = mean_interval(values)
    assert (found.mean, found.se) == (3.75, pytest.approx(stats.sem(values)))
    assert found.interval == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(0.95))
    assert found.holds_zero
    assert not mean_interval(values + 10).holds_zero


def test_what_does_not_exist_is_none():
    assert mean_interval(np.array([1.0])).se is None
    infinite = mean_interval(np.array([1.0, np.inf]))
    assert (infinite.mean, infinite.se, infinite.interval, infinite.holds_zero) == (np.inf, None, None, False)
