"""ADF, EP, Tierney-Kadane and CVB0 against closed forms and plain second versions."""

import itertools
import logging

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import logsumexp

from mdbench.algorithms.approximations import MOST_SWEEPS, cvb0, filtered, propagated, tierney_kadane
from mdbench.core.errors import InputError
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import MTD, load_task, sample

TASK = load_task("mtd-q5-m3")
X = TASK.likelihoods(sample(TASK, 24, 12, seed=0).contexts)


def project(a, x):
    """The Dirichlet in the place of the tilted distribution, of one sequence."""
    r = a * x / (a @ x)
    s = a.sum()
    mean = (a + r) / (s + 1)
    square = ((1 - r) * a * (a + 1) + r * (a + 1) * (a + 2)) / ((s + 1) * (s + 2))
    return mean * (mean - square).sum() / (square - mean**2).sum()


def plain_filter(x, a):
    """Means after 0, .., n transitions, and the log evidence of so many."""
    a = np.array(a, float)
    means, log_evidence = [a / a.sum()], [0.0]
    for row in x:
        log_evidence.append(log_evidence[-1] + np.log(a @ row / a.sum()))
        a = project(a, row)
        means.append(a / a.sum())
    return np.array(means), np.array(log_evidence)


def plain_ep(x, alpha):
    n, m = x.shape
    a, sites = np.full(m, alpha), np.zeros((n, m))
    for sweep in range(MOST_SWEEPS):
        before, skipped = a / a.sum(), 0
        for t in range(n):
            cavity = a - sites[t]
            if (cavity <= 0).any():
                skipped += 1
                continue
            change = (project(cavity, x[t]) - cavity - sites[t]) * (0.7 if sweep else 1.0)
            sites[t] += change
            a = a + change
        if np.abs(a / a.sum() - before).max() <= 1e-8:
            return a, sweep + 1, True, skipped
    return a, MOST_SWEEPS, False, skipped


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_adf_and_ep_are_what_plain_loops_compute(alpha):
    means, found = filtered(X, alpha), propagated(X, alpha)
    for i, x in enumerate(X):
        assert_allclose(means[i], plain_filter(x, [alpha] * 3)[0], rtol=0, atol=1e-10)
        a, sweeps, converged, skipped = plain_ep(x, alpha)
        assert_allclose(found.a[i], a, rtol=1e-10, atol=1e-10)
        assert (found.sweeps[i], found.converged[i], found.skipped[i]) == (sweeps, converged, skipped)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_a_split_prior_is_the_same_prior_and_its_parts_are_mixed_by_their_evidence(split):
    alpha, m = 0.1, X.shape[2]
    found = filtered(X, alpha, split)
    assert_allclose(found[:, 0], 1 / m, rtol=1e-12)  # the prior mean
    for i, x in enumerate(X):
        means, log_weights = [], []
        for draws in itertools.product(range(m), repeat=split):  # in order, each with its probability by Pólya's urn
            a, log_prior = np.full(m, alpha), 0.0
            for g in draws:
                log_prior += np.log(a[g] / a.sum())
                a[g] += 1
            of_part, log_evidence = plain_filter(x, a)
            means.append(of_part)
            log_weights.append(log_prior + log_evidence)
        share = np.exp(log_weights - logsumexp(log_weights, axis=0))
        assert_allclose(found[i], (share[..., None] * means).sum(axis=0), rtol=0, atol=1e-10)


def test_at_one_component_everything_is_certain():
    x = X[..., :1]
    for weights in (filtered(x, 0.3)[:, -1], propagated(x, 0.3).a, tierney_kadane(x, 0.3), np.asarray(cvb0(x, 0.3))):
        assert_allclose(weights / weights.sum(axis=1, keepdims=True), 1.0, rtol=1e-12)
    task = MTD("one", TASK.transition, 1)
    contexts = sample(task, 12, 5, seed=0).contexts
    for name in ("ep", "adf", "adf:split=2", "tierney_kadane", "cvb0", "dirichlet_em", "md1_adaptive"):
        found = build_predictor(name, task).predict(contexts)
        assert_allclose(found, task.transition[contexts[:, -1]], rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 3.0])
def test_of_one_transition_adf_and_ep_are_exact(alpha):
    x = X[:, :1]
    r = x[:, 0] / x[:, 0].sum(axis=1, keepdims=True)
    exact = (alpha + r) / (3 * alpha + 1)
    a = propagated(x, alpha).a
    for weights in (a / a.sum(axis=1, keepdims=True), *(filtered(x, alpha, split)[:, -1] for split in range(3))):
        assert_allclose(weights, exact, rtol=1e-12)


def test_lags_may_be_permuted():
    order = [2, 0, 1]
    for weights in (
        lambda x: filtered(x, 0.5)[:, -1],
        lambda x: filtered(x, 0.5, 2)[:, -1],
        lambda x: propagated(x, 0.5).a,
        lambda x: tierney_kadane(x, 0.5),
        lambda x: np.asarray(cvb0(x, 0.5)),
    ):
        assert_allclose(weights(X[..., order]), weights(X)[:, order], rtol=1e-7)


def test_what_stands_beside_a_sequence_changes_nothing():
    for weights in (lambda x: propagated(x, 0.1).a, lambda x: np.asarray(cvb0(x, 0.1))):
        assert_allclose(weights(X[:1]), weights(X)[:1], rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_tierney_kadane_is_the_ratio_of_two_laplace_approximations(alpha):
    """As they write it: of λ_g times the density, and of the density, by numerical Hessians. Then normalised."""
    basis = np.array([[1, 1], [-1, 1], [0, -2]]) / np.sqrt([2, 6])
    h = 1e-4

    def laplace(x, a):
        def minus(u):
            log_weights = basis @ u - logsumexp(basis @ u)
            return -np.log(x @ np.exp(log_weights)).sum() - a @ log_weights

        u = minimize(minus, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x
        hessian = [
            [
                sum(i * j * minus(u + i * p + j * q) for i in (1, -1) for j in (1, -1)) / (4 * h**2)
                for q in np.eye(2) * h
            ]
            for p in np.eye(2) * h
        ]
        return -minus(u) - np.log(np.linalg.det(hessian)) / 2

    for x, found in zip(X[:4], tierney_kadane(X[:4], alpha), strict=True):
        below = laplace(x, np.full(3, alpha))
        ratios = np.exp([laplace(x, alpha + np.eye(3)[g]) - below for g in range(3)])
        assert ratios.sum() == pytest.approx(1, abs=0.2)  # little is normalised away
        assert_allclose(found, ratios / ratios.sum(), rtol=1e-5)


def test_cvb0_is_at_its_fixed_point():
    alpha = 0.5
    gamma = X / X.sum(axis=-1, keepdims=True)
    for _ in range(3000):
        new = X * (alpha + gamma.sum(axis=1, keepdims=True) - gamma)
        gamma = new / new.sum(axis=-1, keepdims=True)
    assert_allclose(cvb0(X, alpha), (alpha + gamma.sum(axis=1)) / (3 * alpha + X.shape[1]), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "name", ["adf", "adf:split=2", "md1_adaptive", *(f"md:steps=1,eta={eta}" for eta in ("theory", "smooth", 0.1))]
)
def test_every_prefix_in_one_pass_is_that_prefix_alone(name):
    task = MTD("sparse", np.array([[0.0, 0.5, 0.5], [0.2, 0.8, 0.0], [0.3, 0.3, 0.4]]), 2, 0.7)
    contexts = sample(task, 140, 6, seed=1).contexts  # more transitions than share compiled code
    predictor = build_predictor(name, task)
    found = predictor.predict_all(contexts)
    assert_allclose(found[:, 0], 1 / 3)
    for prefix in (3, 4, 70, 139, 140):
        assert_allclose(found[:, prefix - 1], predictor.predict(contexts[:, :prefix]), rtol=1e-10, atol=1e-14)


def test_ep_says_what_it_skipped_and_what_did_not_converge(caplog):
    for alpha, fails in ((1.0, False), (0.1, True)):
        predictor = build_predictor("ep", MTD("it", TASK.transition, 3, alpha))
        predictor.check_length(32)
        card = predictor.card["lengths"]["32"]
        assert card["sites"] == 256 * 29
        assert (card["skipped_sites"] > 0, card["not_converged"] > 0, card["most_sweeps"] == 200) == (fails,) * 3
    contexts = sample(predictor.task, 32, 256, seed=0).contexts
    with caplog.at_level(logging.WARNING):
        predictor.predict(contexts)
    assert "256 sequences of 29 transitions did not converge in 200 sweeps" in caplog.text


@pytest.mark.wrong_types
def test_options_that_cannot_be():
    for split in ("-1", "9", "1.5", "true"):
        with pytest.raises(InputError, match="split must be a whole number from 0 to 8, not"):
            build_predictor(f"adf:split={split}", TASK)
