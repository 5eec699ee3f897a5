"""Scores against mpmath, identities, and the bound on the gold's error."""

import mpmath
import numpy as np
import pytest

from mdbench.baselines import Exact
from mdbench.core import metrics
from mdbench.tasks import next_token_probs, sample


def test_kl_between_nearly_equal_distributions():
    """Against 60 digits, from distances of 1e-1 down to 1e-15, where p log(p/p̂) alone would be all rounding."""
    rng = np.random.default_rng(0)
    for distance in 10.0 ** -np.arange(1, 16):
        p = rng.dirichlet(np.ones(5))
        q = p * (1 + distance * rng.standard_normal(5))
        with mpmath.workdps(60):
            a, b = [mpmath.mpf(x) for x in p], [mpmath.mpf(x) for x in q]
            truth = sum(x * mpmath.log(x / y) - x + y for x, y in zip(a, b, strict=True))
            assert abs(metrics.kl(p[None], q[None])[0] - truth) <= 1e-15 * (distance + truth) * 4


def test_kl_with_zeros():
    p = np.array([[0.5, 0.5, 0.0]])
    assert metrics.kl(p, np.array([[0.25, 0.5, 0.25]]))[0] == pytest.approx(0.5 * np.log(2))
    assert metrics.kl(p, np.array([[1.0, 0.0, 0.0]]))[0] == np.inf
    assert metrics.kl(p, p)[0] == 0
    assert metrics.cross_entropy(p, np.array([[0.25, 0.5, 0.25]]))[0] == pytest.approx(1.5 * np.log(2))
    assert metrics.cross_entropy(p, np.array([[1.0, 0.0, 0.0]]))[0] == np.inf
    assert metrics.nll(np.array([1]), np.array([[1.0, 0.0, 0.0]]))[0] == np.inf


def test_kl_is_cross_entropy_less_entropy():
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(4), 50), rng.dirichlet(np.ones(4), 50)
    entropy = metrics.cross_entropy(p, p)
    np.testing.assert_allclose(metrics.kl(p, q), metrics.cross_entropy(p, q) - entropy, atol=1e-14)


def test_an_output_that_sums_to_more_than_one_gains_nothing():
    p = np.array([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(metrics.kl(p, metrics.normalise(p * 1.001)), 0, atol=1e-30)
    assert (p * np.log(p / (p * 1.001))).sum() < -1e-4  # what would be had without it


def test_expected_cross_entropy_is_entropy_of_bayes_plus_excess_kl(core_task):
    """E[-Σ p_λ log p̂ | y] = H(p_B) + KL(p_B ‖ p̂), so over sequences the difference has mean zero: |z| < 4."""
    n, length = 2000, 16
    drawn = sample(core_task, length, n, seed=11)
    contexts = drawn.tokens[:, :-1]
    bayes = next_token_probs(core_task, Exact().posterior(core_task, contexts).mean[:, 0], contexts)
    p_hat = next_token_probs(core_task, np.full((n, core_task.order), 1 / core_task.order), contexts)
    entropy = metrics.cross_entropy(bayes, bayes)
    excess = metrics.kl(bayes, p_hat)
    difference = metrics.cross_entropy(drawn.next_probs, p_hat) - entropy - excess
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(n)
    assert entropy.mean() > 20 * difference.std() / np.sqrt(n)  # the test could fail
    by_token = metrics.nll(drawn.tokens[:, -1], p_hat) - entropy - excess
    assert abs(by_token.mean()) < 4 * by_token.std() / np.sqrt(n)
    raw = metrics.kl(drawn.next_probs, p_hat) - metrics.kl(drawn.next_probs, bayes) - excess
    assert abs(raw.mean()) < 4 * raw.std() / np.sqrt(n)


def test_gold_error_bounds_what_an_error_in_the_gold_does():
    rng = np.random.default_rng(2)
    for size in (1e-2, 1e-4, 1e-8):
        gold = rng.dirichlet(np.ones(6) * 5, 200)
        p_hat = rng.dirichlet(np.ones(6) * 5, 200)
        noise = rng.uniform(-1, 1, gold.shape) * gold.min(axis=-1, keepdims=True) * size
        noise -= noise.mean(axis=-1, keepdims=True)
        bound = np.abs(noise).max(axis=-1)
        shift = np.abs(metrics.kl(gold + noise, p_hat) - metrics.kl(gold, p_hat))
        claimed = np.array(
            [metrics.gold_error(gold[i : i + 1], p_hat[i : i + 1], bound[i : i + 1]) for i in range(200)]
        )
        assert (shift <= claimed + 1e-15).all()
        assert np.median(claimed / shift) < 50
        assert metrics.gold_error(gold, p_hat, bound) == pytest.approx(claimed.mean(), rel=1e-12)


def test_gold_error_covers_what_noise_in_the_gold_does():
    """Three standard errors of the mean, and the upward bias ½ Σ_b Var/p_b, over many noisy golds."""
    rng = np.random.default_rng(3)
    truth, p_hat = rng.dirichlet(np.ones(4) * 5, (2, 500))
    exact_mean = metrics.kl(truth, p_hat).mean()
    se = 0.02 * np.sqrt(truth * (1 - truth))
    covered, biases = 0, []
    for _ in range(300):
        noise = rng.standard_normal(truth.shape) * se
        gold = np.abs(truth + noise)
        gold /= gold.sum(axis=-1, keepdims=True)
        shift = metrics.kl(gold, p_hat).mean() - exact_mean
        covered += abs(shift) <= metrics.gold_error(gold, p_hat, np.zeros(500), se)
        biases.append(metrics.kl(gold, truth).mean())
    assert covered >= 297  # 99.7% are 299; the claim is an upper bound
    # At p̂ = truth all of the excess is the gold's noise, and the claim is of that size.
    claimed = metrics.gold_error(truth, truth, np.zeros(500), se)
    assert 0.5 < np.mean(biases) / claimed < 1.2


def test_gold_error_of_a_zero_prediction_is_infinite_not_a_number():
    claimed = metrics.gold_error(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]), np.array([1e-12]))
    assert claimed == np.inf
