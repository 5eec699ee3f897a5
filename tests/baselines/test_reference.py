"""Importance sampling: its stated error covers the truth as often as it claims."""

import numpy as np
import pytest
from scipy import stats

from mdbench.baselines import Exact
from mdbench.baselines.reference import _T, BLOCK, Reference, _Dirichlet
from mdbench.baselines.softmax import basis, find_mode, log_dirichlet_normaliser
from mdbench.core.errors import InputError
from mdbench.tasks import MTD, lag_likelihoods, load_task, next_token_probs, sample


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mtd-q5-m3", "mtd-q10-m4"])
def test_intervals_cover_the_truth_as_often_as_they_claim(name):
    task = load_task(name)
    contexts = sample(task, 64, 200, seed=0).contexts
    found, truth = Reference(standard_error=2e-3).posterior(task, contexts), Exact().posterior(task, contexts)
    for level in (0.5, 0.95, 0.99):
        z = stats.norm.ppf((1 + level) / 2)
        error = next_token_probs(task, found.mean[:, 0] - truth.mean[:, 0], contexts)
        # Where the last m tokens are equal, the prediction does not depend on λ, and both sides are rounding.
        covered = (np.abs(error) <= z * found.next_token_se[:, 0] + 1e-14).sum(axis=0)  # for each state, of 200
        low, high = stats.binom.interval(1 - 1e-4, 200, level)
        assert (covered >= low).all()
        assert (covered <= high).all()
    assert found.next_token_se.max() <= 2e-3
    # The relative error of the evidence is 1/√ESS.
    ess = next(check for check in found.checks_made if check.name == "ess").values
    gap = np.abs(found.log_evidence - truth.log_evidence)[:, 0]
    assert gap.max() < 5 / np.sqrt(ess.min())
    assert np.median(gap) > 1e-7


@pytest.mark.parametrize("order", [pytest.param(8), pytest.param(16, marks=pytest.mark.slow)])
def test_two_seeds_agree_within_their_stated_errors_at_high_order(order):
    rng = np.random.default_rng(order)
    task = MTD("random", rng.dirichlet(np.ones(5), size=5), order, lengths=(128,))
    contexts = sample(task, 128, 8, seed=0).contexts
    a, b = (Reference(standard_error=5e-4, seed=seed).posterior(task, contexts) for seed in (0, 1))
    assert not (a.failed | b.failed).any()
    difference = next_token_probs(task, (a.mean - b.mean)[:, 0], contexts)
    z = difference / np.hypot(a.next_token_se, b.next_token_se)[:, 0]
    assert np.abs(z).max() < stats.norm.ppf(1 - 1e-4 / z.size)
    assert np.sqrt((z**2).mean()) > 0.5  # nor are the errors overstated


def test_what_the_points_do_not_reach_fails_its_gate():
    task = load_task("mtd-q5-m3")
    found = Reference(standard_error=1e-6, points=BLOCK).posterior(task, sample(task, 32, 2, seed=0).contexts)
    assert found.failed.all()
    assert found.next_token_se.max() > 1e-6


def test_proposals_are_normalised_densities():
    """Their densities in u integrate to one, by a second proposal."""
    rng = np.random.default_rng(0)
    m = 3
    root = np.array([[0.5, 0.1], [0.1, 0.9]])
    wide = _T(np.zeros(2), 4 * np.eye(2), 4.0)
    u = wide.draw(400_000, rng)
    eta = basis(m) @ u
    log_weights = eta - np.logaddexp.reduce(eta, axis=0)
    for density in (_T(np.array([0.3, -0.2]), root, 8.0), _Dirichlet(np.array([2.0, 0.7, 4.0]))):
        ratio = np.exp(density.log_density(u, log_weights) - wide.log_density(u, log_weights))
        assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / np.sqrt(len(ratio))
        drawn = density.draw(100_000, rng)
        mean_drawn, mean_weighted = drawn.mean(axis=1), (ratio * u).mean(axis=1)
        np.testing.assert_allclose(mean_drawn, mean_weighted, atol=0.03)


@pytest.mark.parametrize("concentration", [0.3, 1.0, 5.0])
def test_the_mode_is_a_maximum_with_that_curvature(concentration):
    task = load_task("mtd-q5-m3")
    task = MTD("m", task.transition, 3, concentration)
    x = lag_likelihoods(task, sample(task, 40, 3, seed=0).contexts)
    mode = find_mode(x, concentration)

    def log_density(i, u):
        eta = basis(3) @ u
        weights = np.exp(eta - np.logaddexp.reduce(eta))
        return (
            np.log(x[i] @ weights).sum()
            + concentration * np.log(weights).sum()
            + log_dirichlet_normaliser(np.full(3, concentration))
        )

    for i in range(3):
        at = mode.u[i]
        assert mode.log_density[i] == pytest.approx(log_density(i, at), rel=1e-12)
        h, e = 1e-3, np.eye(2)
        gradient = [(log_density(i, at + h * d) - log_density(i, at - h * d)) / (2 * h) for d in e]
        np.testing.assert_allclose(gradient, 0, atol=1e-3)
        curvature = [
            [
                (
                    log_density(i, at + h * a + h * b)
                    - log_density(i, at + h * a - h * b)
                    - log_density(i, at - h * a + h * b)
                    + log_density(i, at - h * a - h * b)
                )
                / (4 * h * h)
                for b in e
            ]
            for a in e
        ]
        np.testing.assert_allclose(mode.precision[i], -np.array(curvature), rtol=1e-3, atol=1e-3)


def test_orders_beyond_sixteen_are_refused():
    task = MTD("long", [[0.6, 0.4], [0.3, 0.7]], 17, lengths=(40,))
    with pytest.raises(InputError, match="up to order 16"):
        Reference().posterior(task, np.zeros((1, 40), dtype=int))
