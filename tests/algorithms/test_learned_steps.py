"""Mirror Descent with learned step sizes: what it is without them, and that learning makes nothing worse."""

import jax.numpy as jnp
import numpy as np
import pytest

from mdbench.algorithms import tuning
from mdbench.algorithms.learned_steps import EVIDENCE, KINDS, POSITION, SIZES, STEP, learned, start
from mdbench.algorithms.mirror_descent import adaptive_step, descend_evenly
from mdbench.core.errors import InputError
from mdbench.core.metrics import kl
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import load_task, sample

TASK = load_task("mtd-q5-m3")
CONTEXTS = sample(TASK, 24, 40, 3).contexts
X = TASK.likelihoods(CONTEXTS)


def plainly(x, sizes):
    """K steps in numpy; ``sizes`` (k, batch)."""
    weights = np.full((len(x), x.shape[2]), 1 / x.shape[2])
    for eta in sizes:
        gradient = (x / (x @ weights[:, :, None])).sum(axis=1)
        weights = weights * np.exp(eta[:, None] * gradient)
        weights /= weights.sum(axis=1, keepdims=True)
    return weights


@pytest.mark.parametrize("steps", [1, 3])
def test_each_is_the_descent_that_its_formula_says(steps):
    rng = np.random.default_rng(steps)
    n = X.shape[1]
    a, b = rng.uniform(-3, -2, steps), rng.uniform(-0.2, 0.1, steps)
    ones = np.ones((steps, len(X)))
    gamma = X / X.sum(axis=2, keepdims=True)
    spread = ((gamma - 1 / 3) ** 2).sum(axis=(1, 2))
    for sizes, scalars, etas in (
        (STEP, a, np.exp(a)[:, None] * ones),
        (POSITION, np.concatenate([a, b]), (np.exp(a) * n**b)[:, None] * ones),
        (EVIDENCE, np.concatenate([-a, b]), 1 / (np.exp(-a)[:, None] + np.exp(b)[:, None] * spread)),
    ):
        np.testing.assert_allclose(learned(jnp.asarray(X), jnp.asarray(scalars), sizes), plainly(X, etas), atol=1e-13)


def test_where_learning_starts_all_steps_are_tied():
    for sizes in (STEP, POSITION):
        begun = start(sizes, 2, 0.05, X.shape[1], (4.0, 1.5))
        np.testing.assert_allclose(
            learned(jnp.asarray(X), jnp.asarray(begun), sizes), descend_evenly(X, 0.05, 2), atol=1e-13
        )
    law = start(EVIDENCE, 1, 0.05, X.shape[1], (4.0, 1.5))
    np.testing.assert_allclose(
        learned(jnp.asarray(X), jnp.asarray(law), EVIDENCE), adaptive_step(X, np.array([4.0, 1.5])), atol=1e-13
    )


@pytest.mark.parametrize("length", [16, 64])
@pytest.mark.parametrize("steps", [2, 5])
def test_what_is_shipped_is_no_worse_than_one_size_for_all_where_it_was_learned(length, steps):
    x, contexts, bayes = tuning._calibration(TASK, length)

    def excess(weights):
        return kl(bayes, TASK.truth(np.asarray(weights), contexts)).mean()

    tied = excess(descend_evenly(x, tuning.tuned_step_size(TASK, steps, length), steps))
    for sizes in (STEP, EVIDENCE):
        scalars = tuning.shipped_value(TASK, tuning.Wanted(KINDS[sizes], steps), length)
        assert excess(learned(jnp.asarray(x), jnp.asarray(scalars), sizes)) < tied


def test_sizes_by_position_are_the_same_numbers_at_every_length():
    predictor = build_predictor("md_learned:steps=2,sizes=position", TASK)
    assert predictor.scalars(16).tolist() == predictor.scalars(256).tolist()
    assert build_predictor("md_learned:steps=2", TASK).scalars(16).tolist() != predictor.scalars(16).tolist()


def test_bad_options():
    for options, sentence in (("steps=0", "whole number from 1 to 20"), ("sizes=token", "must be step, position")):
        with pytest.raises(InputError, match=sentence):
            build_predictor(f"md_learned:{options}", TASK)
    assert len(SIZES) == 3
