"""The methods that sample, against the exact posterior."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats

from mdbench.baselines import Exact, Urn
from mdbench.baselines.catalogue import build_baseline
from mdbench.baselines.model import mtd_weights
from mdbench.tasks import MTD, lag_likelihoods, load_task, mtd_model, next_token_probs, sample

# Few draws where each costs much: the tests are of the errors that a method states, whatever they are.
CHAINS = [
    pytest.param("nuts:draws=600", marks=pytest.mark.slow),
    pytest.param("gibbs:draws=600", marks=pytest.mark.slow),
    pytest.param("pyro_nuts", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("method", [*CHAINS, "reference:standard_error=5e-4"])
def test_z_scores_against_exact_are_standard_normal(method):
    task = load_task("mtd-q5-m3")
    contexts = sample(task, 24, 64, seed=0).contexts
    truth, found = Exact().posterior(task, contexts), build_baseline(method).posterior(task, contexts)
    z = (found.mean - truth.mean)[:, 0] / found.mean_se[:, 0]
    for of_lag in z.T:  # 64 independent ones: their sum of squares is χ²
        assert 1e-4 < stats.chi2.cdf((of_lag**2).sum(), 64) < 1 - 1e-4
    np.testing.assert_allclose(found.sd, truth.sd, atol=0.03)
    error = next_token_probs(task, found.mean[:, 0] - truth.mean[:, 0], contexts)
    depends = np.ptp(contexts[:, -3:], axis=1) > 0  # where the last m tokens are equal, λ does not matter
    assert 0.5 < np.sqrt(np.mean((error[depends] / found.next_token_se[depends, 0]) ** 2)) < 1.6
    assert np.abs(error[~depends]).max() < 1e-14
    assert not found.failed.any()


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("nuts:draws=500", marks=pytest.mark.slow),
        pytest.param("gibbs:draws=500", marks=pytest.mark.slow),
        "reference:standard_error=1e-3",
        "urn:draws=2000",
    ],
)
def test_other_priors_zeros_in_the_matrix_and_the_prior_itself(method, zeros_task):
    for concentration in (0.4, 3.0):
        task = MTD("z", zeros_task.transition, 3, concentration)
        contexts = sample(task, 20, 6, seed=0).contexts
        lengths = [3, 20]
        truth, found = (b.posterior(task, contexts, lengths) for b in (Exact(), build_baseline(method)))
        se = truth.sd / np.sqrt(2000) if found.mean_se is None else found.mean_se
        mean = found.mean if found.mean_se is not None else found.draws.weights.mean(axis=(0, 1))
        assert (np.abs(mean - truth.mean) < 4.5 * se + 1e-12).all()
        np.testing.assert_allclose(mean[:, 0], 1 / 3, atol=0.06)


def test_urn_draws_are_independent_and_exact():
    task = load_task("mtd-q10-m4")
    contexts = sample(task, 32, 40, seed=0).contexts
    found, truth = Urn(draws=3000).posterior(task, contexts), Exact().posterior(task, contexts)
    z = (found.draws.weights.mean(axis=(0, 1)) - truth.mean)[:, 0] / (truth.sd[:, 0] / np.sqrt(3000))
    for of_lag in z.T:
        assert 1e-4 < stats.chi2.cdf((of_lag**2).sum(), 40) < 1 - 1e-4
    np.testing.assert_allclose(found.draws.weights.std(axis=(0, 1)), truth.sd, rtol=0.12)
    flat = found.draws.weights[0, :, 0, 0, 0]
    assert abs(np.corrcoef(flat[1:], flat[:-1])[0, 1]) < 4 / np.sqrt(3000)


def test_the_samplers_model_has_the_density_of_the_task():
    task = load_task("mtd-q5-m3")
    tokens = sample(task, 20, 1, seed=0).contexts[0]
    x = lag_likelihoods(task, tokens[None])[0]
    rng = np.random.default_rng(0)
    gaps = []
    for weights in rng.dirichlet(np.ones(3), 5):
        of_task = log_density(mtd_model, (task, tokens), {}, {"weights": weights})[0]
        gaps.append(
            float(of_task - log_density(mtd_weights, (jnp.asarray(x), task.concentration), {}, {"weights": weights})[0])
        )
    np.testing.assert_allclose(gaps, 3 * np.log(1 / 5), rtol=1e-12)  # the first m tokens, which are uniform


@pytest.mark.slow
def test_too_few_draws_are_run_again_longer_and_then_reported():
    task = load_task("mtd-q3-m2")
    contexts = sample(task, 16, 5, seed=0).contexts
    found = build_baseline("nuts:draws=30,warmup=30").posterior(task, contexts)
    assert found.failed.all()
    assert found.draws.settings["n_rerun"] == 5
    assert found.draws.weights.shape == (4, 30, 5, 1, 2)  # every fourth draw of the longer run
    se = found.mean_se[:, 0, 0]
    assert (se > found.sd[:, 0, 0] / np.sqrt(4 * 120 * 3)).all()
    ess = next(c for c in found.checks_made if c.name == "ess_bulk").values
    assert (ess > 60).all()  # of 480 draws, not of the 120 that are kept
    assert (ess < 400).all()
