"""Variational and Laplace approximations against what they define, found by other means (order 2, one dimension)."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit, logit, roots_hermite

from mdbench.baselines import APPROXIMATE, Exact
from mdbench.baselines.catalogue import BASELINES, build_baseline
from mdbench.tasks import lag_likelihoods, load_task, sample

TASK = load_task("mtd-q3-m2")
CONTEXTS = sample(TASK, 24, 8, seed=0).contexts
X = lag_likelihoods(TASK, CONTEXTS)
GRID = (np.arange(4000) + 0.5) / 4000


def log_joint(i, first):
    """Log p(y | λ) + log p(λ) with λ = (first, 1 - first); the prior is uniform."""
    return np.log(X[i] @ np.stack([first, 1 - first])).sum(axis=0)


def dirichlet_optimum(i):
    """The Beta(a, b) with the largest ELBO, by a sum over a grid."""

    def minus_elbo(log_ab):
        a, b = np.exp(log_ab)
        q = stats.beta.pdf(GRID, a, b)
        return (q * (stats.beta.logpdf(GRID, a, b) - log_joint(i, GRID))).mean()

    return np.exp(minimize(minus_elbo, np.log([3.0, 3.0]), method="Nelder-Mead", options={"xatol": 1e-6}).x)


def logistic_normal_optimum(i):
    """Location and scale of logit λ_1 with the largest ELBO, by Gauss-Hermite quadrature."""
    nodes, node_weights = roots_hermite(60)
    node_weights = node_weights / node_weights.sum()

    def minus_elbo(theta):
        mean, sd = theta[0], np.exp(theta[1])
        u = mean + sd * np.sqrt(2) * nodes
        v = expit(u)
        return -(node_weights * (log_joint(i, v) + np.log(v * (1 - v)))).sum() - theta[1]

    mean, log_sd = minimize(minus_elbo, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6}).x
    return mean, np.exp(log_sd)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vi_dirichlet", "pyro_svi"])
def test_dirichlet_guides_reach_the_optimum(method):
    found = build_baseline(method).posterior(TASK, CONTEXTS)
    for i in range(len(CONTEXTS)):
        a, b = dirichlet_optimum(i)
        assert found.mean[i, 0, 0] == pytest.approx(a / (a + b), abs=0.012)
        assert found.sd[i, 0, 0] == pytest.approx(stats.beta.std(a, b), rel=0.08)
    np.testing.assert_allclose(found.draws.weights.mean(axis=(0, 1)), found.mean, atol=0.04)


def test_logistic_normal_guide_reaches_the_optimum():
    found = build_baseline("vi_logistic_normal").posterior(TASK, CONTEXTS)
    for i in range(len(CONTEXTS)):
        mean, sd = logistic_normal_optimum(i)
        v = expit(stats.norm.ppf(GRID, mean, sd))
        assert found.mean[i, 0, 0] == pytest.approx(v.mean(), abs=0.012)
        assert found.sd[i, 0, 0] == pytest.approx(v.std(), rel=0.08)


def test_laplace_is_the_normal_at_the_mode():
    """In u = logit(λ_1)/√2, the one softmax coordinate of order 2: mode and curvature by finite differences."""
    found = build_baseline("laplace").posterior(TASK, CONTEXTS)
    for i in range(len(CONTEXTS)):

        def minus_log_density(u, i=i):
            v = expit(np.sqrt(2) * np.atleast_1d(u))
            return -(log_joint(i, v) + np.log(v * (1 - v)) + 0.5 * np.log(2))[0]

        mode = minimize(minus_log_density, 0.0, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x[0]
        h = 1e-3
        precision = sum(s * minus_log_density(mode + d) for s, d in ((1, h), (-2, 0), (1, -h))) / h**2
        v = expit(np.sqrt(2) * stats.norm.ppf(GRID, mode, precision**-0.5))
        assert found.mean[i, 0, 0] == pytest.approx(v.mean(), abs=2e-3)
        assert found.sd[i, 0, 0] == pytest.approx(v.std(), abs=2e-3)
        log_evidence = -minus_log_density(mode) + 0.5 * np.log(2 * np.pi / precision)
        assert found.log_evidence[i, 0] == pytest.approx(log_evidence, abs=1e-4)
    assert np.abs(logit(found.mean[:, 0, 0]) - logit(Exact().posterior(TASK, CONTEXTS).mean[:, 0, 0])).max() < 0.5


def test_they_claim_no_error_and_are_never_gold():
    approximate = {name for name in BASELINES if build_baseline(name).standing == APPROXIMATE}
    assert approximate == {"vi_dirichlet", "vi_logistic_normal", "laplace", "pyro_svi"}
    for name in approximate:
        found = build_baseline(name, **({} if name == "laplace" else {"steps": 5})).posterior(TASK, CONTEXTS[:1])
        assert found.error is None
        assert found.mean_se is None
        assert found.checks_made == ()
