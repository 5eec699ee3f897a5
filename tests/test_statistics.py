"""Intervals: coverage, and what does not exist is None."""

import numpy as np
import pytest
from scipy import stats

from mdbench.statistics import MeanInterval, mean_interval, sequences_to_separate


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


def test_the_number_that_separates_has_the_power_that_it_claims():
    """With exactly that many sequences 80% of samples have an interval without zero."""
    rng = np.random.default_rng(0)
    mean, sd = 0.2, 1.0
    n = sequences_to_separate(MeanInterval(mean, sd / np.sqrt(50), None), 50)
    assert n == pytest.approx((1.96 + 0.8416) ** 2 * sd**2 / mean**2, rel=0.01)
    found = np.mean([not mean_interval(rng.normal(mean, sd, n)).holds_zero for _ in range(2000)])
    assert abs(found - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 2000) + 0.005  # and Student's t against the normal


def test_no_number_separates_what_does_not_differ():
    assert sequences_to_separate(MeanInterval(0.0, 1.0, None), 50) is None
    assert sequences_to_separate(MeanInterval(1.0, None, None), 1) is None
    assert sequences_to_separate(MeanInterval(np.inf, None, None), 50) is None
