"""The public sequences: what was committed is what the sampler draws, and evaluations meet on it."""

import numpy as np
import pytest

from mdbench.core.errors import InputError
from mdbench.tasks import (
    MTD,
    Sequences,
    evaluation_sequences,
    load_suite,
    load_task,
    public_sequences,
    sample,
    suite_names,
    task_names,
)

DRAWN = sorted({*task_names()} - {*load_suite("real").tasks})  # what was recorded is in a package


@pytest.mark.parametrize(
    "name",
    [name if name in load_suite("core").tasks else pytest.param(name, marks=pytest.mark.slow) for name in DRAWN],
)
def test_the_public_sequences_are_those_that_the_sampler_draws(name):
    """Another release of jax may draw others: then this fails, and the committed ones stay what they are."""
    public, task = public_sequences(name), load_task(name)
    drawn = sample(task, public.tokens.shape[1] - 1, len(public.tokens), seed=0)
    np.testing.assert_array_equal(public.tokens, drawn.tokens)
    np.testing.assert_allclose(public.theta, drawn.theta, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("name", DRAWN)
def test_they_hold_what_a_board_needs(name):
    public, suites = public_sequences(name), [suite for suite in map(load_suite, suite_names()) if name in suite.tasks]
    longest = max(length for suite in suites for length in suite.lengths)
    assert public.tokens.shape == (2048, longest + 1)
    assert len(public.theta) == 2048
    if load_task(name).theta != "path":
        np.testing.assert_allclose(public.theta.sum(axis=-1), 1.0, rtol=1e-12)


@pytest.mark.parametrize(("n", "length"), [(2048, 256), (3, 16), (2049, 16), (2, 257)])
def test_evaluation_meets_on_the_public_sequences_as_far_as_they_go(core_task, n, length):
    found, drawn = evaluation_sequences(core_task, length, n, 0), sample(core_task, length, n, 0)
    np.testing.assert_array_equal(found.tokens, drawn.tokens)
    np.testing.assert_allclose(found.weights, drawn.weights, rtol=1e-9)


def test_a_changed_sampler_changes_no_public_sequence(core_task, monkeypatch):
    def other(*_arguments, **_options):
        raise AssertionError("drawn")

    monkeypatch.setattr("mdbench.tasks.sampling.sample", other)
    public = public_sequences(core_task.name)
    np.testing.assert_array_equal(evaluation_sequences(core_task, 20, 5, 0).tokens, public.tokens[:5, :21])
    copy = MTD("copy", core_task.transition, core_task.order)  # a label changes no sequence
    np.testing.assert_array_equal(evaluation_sequences(copy, 20, 5, 0).tokens, public.tokens[:5, :21])
    for n, length, seed in ((5, 20, 1), (5, 257, 0), (2049, 20, 0)):
        with pytest.raises(AssertionError, match="drawn"):
            evaluation_sequences(core_task, length, n, seed)
    with pytest.raises(AssertionError, match="drawn"):
        evaluation_sequences(MTD("other", core_task.transition, core_task.order, 2.0), 20, 5, 0)


def test_bad_numbers_are_refused(core_task):
    for n, length, seed in ((0, 16, 0), (5, 1, 0), (5, 16, -1)):
        with pytest.raises(InputError):
            evaluation_sequences(core_task, length, n, seed)


@pytest.mark.wrong_types
def test_the_hash_sees_every_number():
    tokens, weights = np.arange(6).reshape(2, 3), np.array([[0.25, 0.75], [0.5, 0.5]])
    first = Sequences(tokens, weights).data_hash
    assert first == Sequences(tokens.astype(np.int32), weights.copy()).data_hash
    assert first != Sequences(tokens, weights + 1e-16).data_hash
    assert first != Sequences(tokens.reshape(3, 2), weights).data_hash
    changed = tokens.copy()
    changed[1, 2] = 4
    assert first != Sequences(changed, weights).data_hash
