"""One step of Mirror Descent whose size depends on the sequence."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import softmax

from mdbench.algorithms import tuning
from mdbench.algorithms.mirror_descent import adaptive_constants, adaptive_step
from mdbench.core import metrics
from mdbench.core.errors import InputError
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import MTD, load_task, sample

TASK = load_task("mtd-q5-m3")
CONTEXTS = sample(TASK, 24, 12, seed=0).contexts
X = TASK.likelihoods(CONTEXTS)


def test_it_is_one_step_of_the_size_that_each_sequence_has():
    gamma = X / X.sum(axis=-1, keepdims=True)
    spread = ((gamma - 1 / 3) ** 2).sum(axis=(1, 2))
    eta = 1 / (3 * 1.0 + 1 + 3 / 2 * spread)
    found = build_predictor("md1_adaptive", TASK)
    assert_allclose(found.weights(X), softmax(eta[:, None] * 3 * gamma.sum(axis=1), axis=1), rtol=1e-12)
    for i, of_one in enumerate(eta):
        step = build_predictor(f"md:steps=1,eta={float(of_one)!r}", TASK)
        assert_allclose(found.predict(CONTEXTS)[i], step.predict(CONTEXTS[i : i + 1])[0], rtol=1e-12)


def test_where_transitions_say_little_it_is_theorem_1():
    x = 1 + 1e-5 * X
    theory = build_predictor("md:steps=1,eta=theory", TASK).weights(x)
    assert_allclose(build_predictor("md1_adaptive", TASK).weights(x) - 1 / 3, theory - 1 / 3, rtol=1e-6, atol=1e-15)


def test_of_two_lags_the_matrix_is_the_number():
    x = X[..., :2]
    assert_allclose(adaptive_step(x, np.array([2.5, 1.4]), matrix=True), adaptive_step(x, np.array([2.5, 1.4])))


def test_the_matrix_step_solves_the_normal_equations():
    """With a = mα + 1 and b = m it is Newton's step for the posterior mode of a normal prior, written in log λ."""
    for found, x in zip(adaptive_step(X, np.array([4.0, 3.0]), matrix=True), X, strict=True):
        gamma = x / x.sum(axis=-1, keepdims=True)
        along = gamma / gamma.mean(axis=-1, keepdims=True) - 1  # of x_t/⟨1/m, x_t⟩ what lies in the tangent space
        step = np.linalg.solve(3 * 4.0 * np.eye(3) + along.T @ along, along.sum(axis=0))
        assert_allclose(found, softmax(3 * step), rtol=1e-10)


@pytest.mark.parametrize("kind", ["adaptive", "matrix"])
def test_tuned_constants_are_a_minimum(kind):
    task = load_task("mtd-q3-m2") if kind == "adaptive" else TASK
    x, contexts, bayes = tuning._calibration(task, 16)

    def excess(constants):
        weights = np.asarray(adaptive_step(x, np.array(constants), kind == "matrix"))
        return metrics.kl(bayes, task.truth(weights, contexts)).mean()

    best = tuning.tune_constants(task, kind, 16)
    assert excess(best) < excess(adaptive_constants(task.order, 1.0))
    for k, factor in ((0, 1.01), (0, 0.99), (1, 1.01), (1, 0.99)):
        beside = np.array(best)
        beside[k] *= factor
        assert excess(best) < excess(beside)


def test_these_sizes_are_of_one_step():
    for eta in ("adaptive", "adaptive_tuned", "matrix"):
        with pytest.raises(InputError, match=f"eta={eta} is of a single step; with steps=2"):
            build_predictor(f"md:steps=2,eta={eta}", TASK)
    with pytest.raises(InputError, match="eta must be tuned, theory, smooth, adaptive, adaptive_tuned, matrix or a"):
        build_predictor("md:steps=1,eta=adaptiv", TASK)


def test_several_steps_and_tuned_ones_offer_no_pass_over_prefixes():
    task = MTD("other", TASK.transition, 2, 0.5)
    for name, there in (("md:steps=2,eta=0.1", False), ("md1", False), ("md1_adaptive", True)):
        assert (build_predictor(name, task).predict_all is not None) == there
