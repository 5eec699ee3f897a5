"""What experiments measure, where it is known."""

import numpy as np
import pytest

from mdbench.claims.first_order import _errors, _order
from mdbench.claims.smoothness import STICKY, constant
from mdbench.claims.transition_matrix import shares
from mdbench.tasks import load_task, sample

TASK = load_task("mtd-q5-m3")


@pytest.mark.parametrize("alpha", [0.7, 2.0])
def test_the_error_is_of_second_order_at_the_theorems_step_alone(alpha):
    contexts = sample(TASK, 16, 32, 5).contexts
    assert _order(_errors(TASK, contexts, alpha, 1.0)) == pytest.approx(2, abs=0.05)
    for factor in (0.5, 1.5):
        assert _order(_errors(TASK, contexts, alpha, factor)) == pytest.approx(1, abs=0.1)


def test_smoothness_is_the_largest_quotient_along_the_simplex():
    rng = np.random.default_rng(1)
    x, weights = rng.uniform(0.1, 1, (9, 3)), rng.dirichlet(np.ones(3))
    v = rng.normal(size=(200_000, 3))
    v -= v.mean(axis=1, keepdims=True)
    quotients = ((v @ (x / (x @ weights)[:, None]).T) ** 2).sum(axis=1) / (v**2 / weights).sum(axis=1)
    assert quotients.max() <= constant(x, weights) * (1 + 1e-12)
    assert quotients.max() == pytest.approx(constant(x, weights), rel=1e-3)


def test_smoothness_of_two_lags_in_closed_form():
    """V = (1, -1) is the only direction: n (x_1 - x_2)²/⟨λ, x⟩² over 1/λ_1 + 1/λ_2."""
    x = STICKY.likelihoods(np.arange(32)[None] % 2)[0]
    for a in (0.2, 0.99):
        mean = a * x[:, 0] + (1 - a) * x[:, 1]
        expected = (((x[:, 0] - x[:, 1]) / mean) ** 2).sum() * a * (1 - a)
        assert constant(x, np.array([a, 1 - a])) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_matrix_of_log_pi_has_all_of_pi_at_any_temperature(temperature):
    log_pi = np.log(TASK.transition.T)
    free = np.random.default_rng(0).normal(size=(5, 1))  # what a softmax over keys cannot see
    found = shares(TASK, log_pi / temperature + free)
    assert found["keys"] == pytest.approx(1, abs=1e-8)
    assert found["tau_keys"] == pytest.approx(temperature, rel=1e-3)
    assert found["against"] == pytest.approx(0, abs=1e-6)
    assert found["rows"] < 1 - 1e-3
    assert shares(TASK, log_pi / temperature)["rows"] == pytest.approx(1, abs=1e-8)
    turned = shares(TASK, -log_pi / temperature)
    assert turned["against"] == pytest.approx(1, abs=1e-8)
    assert turned["keys"] == pytest.approx(0, abs=1e-6)


def test_noise_has_next_to_nothing_of_pi():
    rng = np.random.default_rng(2)
    assert np.mean([shares(TASK, rng.normal(size=(5, 5)))["keys"] for _ in range(20)]) < 0.3
