"""What holds for every posterior method, whatever it computes."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from mdbench.baselines.catalogue import BASELINES, build_baseline
from mdbench.core.errors import InputError, SequenceError, Unsupported
from mdbench.tasks import MTD, Mixture, load_task, sample

# Few draws and steps: nothing here depends on how good a posterior is.
CHEAP = {
    "urn": "urn:draws=50",
    "reference": "reference:standard_error=0.01",
    "nuts": "nuts:draws=30,warmup=30,chains=2",
    "gibbs": "gibbs:draws=30,warmup=10,thin=2,chains=2",
    "pyro_nuts": "pyro_nuts:draws=20,warmup=10,chains=2",
    "vi_dirichlet": "vi_dirichlet:steps=30,draws=20",
    "vi_logistic_normal": "vi_logistic_normal:steps=30,draws=20",
    "laplace": "laplace:draws=20",
    "pyro_svi": "pyro_svi:steps=20,draws=20",
}
DEAR = ("nuts", "gibbs", "pyro_nuts", "vi_dirichlet", "pyro_svi")
TASK = load_task("mtd-q3-m2")
CONTEXTS = sample(TASK, 12, 70, seed=0).contexts  # more than a chunk
TASKS = [TASK]  # and one of each family for which there are methods of its own


def task_for(baseline):
    """The first of ``TASKS`` that it is made for."""
    for task in TASKS:
        with contextlib.suppress(Unsupported):
            baseline.check_fits(task)
            return task
    raise AssertionError(f"no task of TASKS fits '{baseline.name}'; add one of its family")


def every(names):
    return pytest.mark.parametrize(
        "method",
        [pytest.param(CHEAP.get(name, name), id=name, marks=[pytest.mark.slow] * (name in DEAR)) for name in names],
    )


@every(BASELINES)
def test_the_protocol(method):
    """Shapes, prefixes, the batch and its order, repeatability."""
    baseline = build_baseline(method)
    task = task_for(baseline)
    k, q = task.prior_mean.size, task.n_states
    n = len(CONTEXTS) if baseline.alone and baseline.name != "reference" else 3  # it takes one after the other
    contexts = sample(task, 12, n, seed=0).contexts
    reported = []
    whole = baseline.posterior(task, contexts, [12, 8, 8], reported.append)
    assert sum(reported) == pytest.approx(n)

    assert (whole.method, whole.lengths) == (baseline.name, (8, 12))
    assert whole.mean.shape == whole.sd.shape == (n, 2, k)
    if isinstance(task, Mixture):
        np.testing.assert_allclose(whole.mean.sum(axis=-1), 1, atol=1e-9)
    for optional, shape in ((whole.log_evidence, (n, 2)), (whole.mean_se, (n, 2, k)), (whole.error, (n,))):
        assert optional is None or optional.shape == shape
    predictive = whole.predictive(task, contexts)
    assert predictive.probs.shape == predictive.standard_error.shape == (n, 2, q)
    np.testing.assert_allclose(predictive.probs.sum(axis=-1), 1, atol=1e-9)
    assert (whole.draws is None) == (baseline.n_draws == 0)
    if whole.draws is not None:
        weights = whole.draws.weights
        assert (weights.shape[0] * weights.shape[1], *weights.shape[2:]) == (baseline.n_draws, n, 2, k)
        if isinstance(task, Mixture):
            np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-9)

    again = baseline.posterior(task, contexts, [8, 12])
    same(again, whole, slice(None))
    if baseline.alone:
        rows = [n - 1, 1]
        same(baseline.posterior(task, contexts[rows], [8, 12]), whole, rows)
    short = baseline.posterior(task, contexts[:, :8])
    np.testing.assert_allclose(short.mean[:, 0], whole.mean[:, 0], rtol=0, atol=1e-13)
    if "seed" in vars(baseline):
        other = replace(baseline, seed=1).posterior(task, contexts[:3])
        assert (np.abs(other.mean[:, 0] - whole.mean[:3, 1]).max() == 0) == baseline.deterministic
        if whole.draws is not None:
            assert np.abs(other.draws.weights[..., 0, :] - whole.draws.weights[:, :, :3, 1]).max() > 0


def same(found, whole, rows):
    np.testing.assert_array_equal(found.mean, whole.mean[rows])
    np.testing.assert_array_equal(found.sd, whole.sd[rows])
    if whole.draws is not None:
        np.testing.assert_array_equal(found.draws.weights, whole.draws.weights[:, :, rows])


@pytest.mark.wrong_types
@pytest.mark.parametrize("method", [name for name in BASELINES if task_for(build_baseline(name)) is TASK])
def test_what_it_cannot_do_is_refused_before_it_starts(method, zeros_task):
    baseline = build_baseline(method)
    with pytest.raises(SequenceError, match="impossible"):
        baseline.posterior(zeros_task, np.array([[0, 0, 2]]))
    for length in (13, 5.5):
        with pytest.raises(InputError, match=rf"prefix length {length} is outside 2\.\.12"):
            baseline.posterior(TASK, CONTEXTS[:1], [length])
    with pytest.raises(InputError, match="outside 0"):
        baseline.posterior(TASK, np.full((1, 12), 3))
    one = MTD("one", zeros_task.transition, 1)
    if baseline.standing == "exact":
        assert baseline.posterior(one, np.array([[0, 0, 1]])).mean.tolist() == [[[1.0]]]
    else:
        for refuse in (lambda: baseline.check(one, 3), lambda: baseline.posterior(one, np.array([[0, 0, 1]]))):
            with pytest.raises(Unsupported, match="order 1"):
                refuse()


@pytest.mark.parametrize(
    ("method", "order", "message"),
    [("exact", 9, "exact quadrature at order 9"), ("urn", 9, "the urn needs more than 4 GiB"), ("reference", 17, "16")],
)
def test_sizes_are_refused_before_they_start(method, order, message):
    task, baseline = MTD("large", np.full((3, 3), 1 / 3), order, lengths=(400,)), build_baseline(method)
    with pytest.raises(InputError, match=message):
        baseline.check(task, 400)
    with pytest.raises(InputError, match=message):
        baseline.posterior(task, np.zeros((1, 400), int))


@pytest.mark.parametrize("method", [name for name in BASELINES if build_baseline(name).n_draws or name == "urn"])
def test_draws_that_do_not_fit_into_memory_are_refused(method):
    with pytest.raises(InputError, match=rf"{method}: \d+ draws for 70 sequences at 5 lengths take .* GiB, more than"):
        build_baseline(method, draws=10**6).posterior(TASK, CONTEXTS, [4, 6, 8, 10, 12])


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("nuts:draws=1", "draws must be"),
        ("nuts:target_accept=1.5", "target_accept must be"),
        ("nuts:chains=1", "chains must be"),
        ("gibbs:thin=0", "thin must be"),
        ("nuts:seed=-1", "seed must be"),
        ("nuts:tree_depth=16", "tree_depth must be a whole number from 1 to 15"),
        ("gibbs:thin=1000000000", "thin must be"),
        ("vi_dirichlet:steps=1000000000000", "steps must be"),
        ("vi_dirichlet:seed=9223372036854775808", "an option is a number"),
        ("vi_dirichlet:steps=0", "steps must be"),
        ("vi_dirichlet:steps=1.5", "steps must be"),
        ("reference:standard_error=0", "standard_error must be"),
        ("reference:points=10", "points must be"),
        ("urn:draws=-1", "draws must be"),
    ],
)
def test_options_that_cannot_be(method, what):
    with pytest.raises(InputError, match=what):
        build_baseline(method)


def test_unknown_names_and_options():
    with pytest.raises(InputError, match="did you mean 'gibbs'"):
        build_baseline("gibs")
    with pytest.raises(InputError, match="no option 'draw'; did you mean 'draws'"):
        build_baseline("nuts:draw=3")
    with pytest.raises(InputError, match="no option 'draws'"):
        build_baseline("exact:draws=3")


@pytest.mark.parametrize("name", BASELINES)
def test_a_summary_says_its_standing(name):
    """`list` imports no method, so its line is written by hand."""
    assert build_baseline(name).standing in BASELINES[name].summary


def test_a_label_has_the_options_that_are_not_the_default():
    assert build_baseline("nuts:draws=1000").label == "nuts"
    assert build_baseline("nuts:warmup=5,draws=10").label == "nuts:draws=10,warmup=5"
    assert build_baseline("exact:tolerance=1e-6").label == "exact:tolerance=1e-06"
