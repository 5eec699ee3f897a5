"""Intervals: coverage, and what does not exist is None."""

import numpy as np
import pytest
from scipy import stats

from mdbench.core.statistics import MeanInterval, Spread, mean_interval, pooled, sequences_to_separate


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


def test_a_spread_of_one_part_is_students_t():
    for freedom in (2, 2.7, 199):
        spread = Spread([(0.5, freedom), (0.0, 3)])
        assert spread.half_width(0.05) == pytest.approx(0.5 * stats.t.ppf(0.975, freedom))
        assert spread.p_value(1.3) == pytest.approx(2 * stats.t.sf(1.3 / 0.5, freedom))
    assert pooled([(0.3, 2)]) == (pytest.approx(0.3**0.5), pytest.approx(2))
    assert pooled([(0.3, 2), (0.3, 2)])[1] == pytest.approx(4)  # Welch
    assert pooled([]) == (0.0, np.inf)


@pytest.mark.parametrize("level", [0.9, 0.05, 1e-6, 1e-40])
def test_a_p_value_is_the_level_whose_interval_is_as_wide(level):
    spread = Spread([(0.5, 199), (0.2, 2)])
    assert spread.p_value(spread.half_width(level)) == pytest.approx(level, rel=1e-6)


@pytest.mark.parametrize("ratio", [0.1, 1, 10])
@pytest.mark.parametrize("level", [0.05, 0.05 / 9])
def test_a_spread_leaves_out_no_more_than_it_says(ratio, level):
    """Three seeds and many sequences; degrees of freedom for the sum leave out 7.7% and 2.8% in the worst of these."""
    rng = np.random.default_rng(0)
    repeats = 4000
    seeds = rng.normal(0, np.sqrt(3 * ratio), (repeats, 3))
    errors = seeds.mean(axis=1) + rng.normal(0, 1, repeats)
    variances = seeds.var(axis=1, ddof=1) / 3
    half_widths = [Spread([(1.0, 199), (float(np.sqrt(v)), 2)]).half_width(level) for v in variances]
    assert np.mean(np.abs(errors) > half_widths) <= level + 3 * np.sqrt(level / repeats)
