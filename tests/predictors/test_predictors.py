"""Built-in predictors: closed forms, second implementations, theorems, invariances."""

import contextlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mdbench.algorithms.maximum_likelihood import duality_gap, maximise_likelihood
from mdbench.algorithms.mirror_descent import descend_evenly
from mdbench.algorithms.reweighting import STAGES
from mdbench.algorithms.tuning import SHIPPED, Wanted, cache_file, tune_step_size, tuned_step_size
from mdbench.baselines import Exact
from mdbench.core import errors, metrics
from mdbench.core.errors import InputError, PredictorError, Unsupported
from mdbench.predictors.catalogue import GROUP, SHIPPED_WEIGHTS, build_predictor, predictor_entries
from mdbench.predictors.mirror_descent import MirrorDescent
from mdbench.tasks import MTD, Stream, lag_likelihoods, load_suite, load_task, next_token_probs, sample, task_names

SEIZURES = Path(__file__).parents[3] / "shared" / "data" / "epileptic_seizures.csv"


def test_one_step_is_the_closed_form(core_task):
    """λ̂_g ∝ exp(η m Σ_t γ_t(g)), docs/mathematics.md, section 3."""
    x = lag_likelihoods(core_task, sample(core_task, 32, 20, seed=0).contexts)
    gamma_sum = (x / x.sum(axis=-1, keepdims=True)).sum(axis=1)
    unnormalised = np.exp(0.1 * core_task.order * gamma_sum)
    expected = unnormalised / unnormalised.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(descend_evenly(x, 0.1, 1), expected, rtol=1e-13)


def test_k_steps_in_plain_loops(core_task):
    x = lag_likelihoods(core_task, sample(core_task, 16, 2, seed=0).contexts)
    for steps in (1, 2, 5):
        for k in range(2):
            weights = [1 / core_task.order] * core_task.order
            for _ in range(steps):
                gradient = [
                    sum(row[g] / sum(w * v for w, v in zip(weights, row, strict=True)) for row in x[k])
                    for g in range(core_task.order)
                ]
                new = [w * np.exp(0.07 * d) for w, d in zip(weights, gradient, strict=True)]
                weights = [w / sum(new) for w in new]
            np.testing.assert_allclose(descend_evenly(x, 0.07, steps)[k], weights, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_theorem_1_one_step_is_the_posterior_mean_to_first_order(alpha):
    """At η = 1/(mα + 1) halving the evidence divides the difference by four; at another η only by two."""
    m, n = 3, 10
    direction = np.random.default_rng(0).standard_normal((1, n, m))

    def difference(size, eta):
        """Against the exact mean: π is irrelevant here, so go through the quadrature's own likelihoods."""
        x = 1 + size * direction
        counts = np.array(list(np.ndindex(*(m,) * 6)))  # all lags of the first 6 transitions
        from scipy.special import gammaln

        c = np.stack([(counts == g).sum(axis=1) for g in range(m)], axis=1)
        log_prior = gammaln(alpha + c).sum(axis=1)
        weight = np.exp(log_prior - log_prior.max()) * np.prod(x[0, np.arange(6), counts], axis=1)
        mean = (weight[:, None] * (alpha + c)).sum(axis=0) / weight.sum() / (m * alpha + 6)
        return np.abs(descend_evenly(x[:, :6], eta, 1)[0] - mean).max()

    theory = 1 / (m * alpha + 1)
    assert difference(1e-3, theory) / difference(5e-4, theory) == pytest.approx(4, rel=0.02)
    assert difference(1e-3, 1.1 * theory) / difference(5e-4, 1.1 * theory) == pytest.approx(2, rel=0.1)
    task = MTD("t", np.full((2, 2), 0.5), m, alpha)
    assert MirrorDescent(task, 1, "theory").step_size(99) == theory


def test_smooth_step_is_theorem_2():
    task = load_task("mtd-q5-m3")
    assert MirrorDescent(task, 2, "smooth").step_size(64) == 1 / (61 * 9)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        (
            {"steps": 1, "eta": "best"},
            "eta must be tuned, theory, smooth, adaptive, adaptive_tuned, matrix or a number, not 'best'",
        ),
        (
            {"steps": 1, "eta": None},
            "eta must be tuned, theory, smooth, adaptive, adaptive_tuned, matrix or a number, not None",
        ),
        ({"steps": 1, "eta": [1]}, "eta must be tuned, theory, smooth, adaptive, adaptive_tuned, matrix or a number"),
        ({"steps": 1, "eta": -0.1}, "eta must be positive"),
        ({"steps": 2, "eta": "theory"}, "single step"),
    ],
)
def test_bad_options_of_md(options, sentence):
    with pytest.raises(InputError, match=sentence):
        MirrorDescent(load_task("mtd-q3-m2"), **options)


# ------------------------------------------------------------------------------------------------------- tuning


def test_tuned_step_is_a_minimum_on_the_calibration_sequences():
    task = load_task("mtd-q3-m2")
    contexts = sample(task, 32, 2048, seed=0, stream=Stream.CALIBRATION).contexts
    bayes = next_token_probs(task, Exact().posterior(task, contexts).mean[:, 0], contexts)
    x = lag_likelihoods(task, contexts)

    def excess(eta):
        weights = descend_evenly(x, eta, 2)
        return metrics.kl(bayes, next_token_probs(task, weights, contexts)).mean()

    eta = tune_step_size(task, 2, 32)
    assert eta == pytest.approx(tuned_step_size(task, 2, 32), rel=1e-4)  # the stored one is what tuning gives
    others = [excess(eta * factor) for factor in np.geomspace(0.02, 20, 41) if abs(factor - 1) > 0.01]
    assert excess(eta) < min(others)


def test_tuned_values_are_stored_for_every_task_and_length_of_the_suites():
    stored = json.loads(SHIPPED.read_text())
    for suite in map(load_suite, ("core", "long")):
        for name in suite.tasks:
            of_task = stored[load_task(name).task_hash]
            for by_length in (v for kind in ("eta", "scalars", "adaptive", "matrix") for v in of_task[kind].values()):
                assert {str(length) for length in suite.lengths} <= by_length.keys()
            assert {"1", "2", "5"} <= of_task["eta"].keys()
            assert {str(depth) for depth in STAGES} == of_task["scalars"].keys()


def test_another_task_is_tuned_at_first_use_and_cached(caplog):
    pi = np.array([[0.6, 0.4], [0.2, 0.8]])
    task, twin, third, fourth = (MTD(name, pi, order=2) for name in ("new", "twin", "third", "fourth"))
    eta = tuned_step_size(task, 1, 8)
    path = cache_file(task, Wanted("eta", 1), 8)
    assert json.loads(path.read_text())["eta"] == eta
    path.write_text('{"eta": 0.125}')
    assert tuned_step_size(twin, 1, 8) == 0.125  # the same task under another name
    path.write_text("[]")
    assert tuned_step_size(third, 1, 8) == eta
    assert "is damaged; tuning η for 1 steps anew" in caplog.text
    path.unlink()
    path.mkdir()  # cannot be written
    assert tuned_step_size(fourth, 1, 8) == eta
    assert "it is a folder. It is tuned again next time." in caplog.text
    path.rmdir()


@pytest.mark.slow
def test_tuning_is_not_misled_by_step_sizes_that_overshoot(zeros_task):
    """Large steps take weights below what float64 holds, where π has zeros: infinite scores, but no NaN."""
    eta = tune_step_size(zeros_task, 5, 128)
    contexts = sample(zeros_task, 128, 200, seed=0).contexts
    bayes = next_token_probs(zeros_task, Exact().posterior(zeros_task, contexts).mean[:, 0], contexts)

    def excess(steps, eta):
        return metrics.kl(bayes, MirrorDescent(zeros_task, steps, eta).predict(contexts)).mean()

    assert excess(5, eta) < excess(1, tune_step_size(zeros_task, 1, 128)) / 4
    for large in (1.0, 100.0, 1e6):
        assert np.isfinite(MirrorDescent(zeros_task, 5, large).predict(contexts)).all()
    assert excess(5, 100.0) == np.inf


# ------------------------------------------------------------------------------------------- maximum likelihood


def em_iterations(x, iterations):
    weights = np.full((len(x), x.shape[2]), 1 / x.shape[2])
    for _ in range(iterations):
        weights = (weights[:, None] * x / (x * weights[:, None]).sum(axis=-1, keepdims=True)).mean(axis=1)
    return weights


def log_likelihood(weights, x):
    return np.log((x * weights[:, None]).sum(axis=-1)).sum(axis=1)


def test_maximum_likelihood_is_where_em_goes(core_task):
    x = lag_likelihoods(core_task, sample(core_task, 64, 50, seed=0).contexts)
    weights = maximise_likelihood(x)
    assert np.asarray(duality_gap(jnp.asarray(weights), jnp.asarray(x))).max() <= 1e-8
    by_em = em_iterations(x, 3000)
    gain = log_likelihood(weights, x) - log_likelihood(by_em, x)
    assert gain.min() > -1e-8  # never below EM, ..
    assert np.median(np.abs(weights - by_em).max(axis=1)) < 1e-6  # .. and at the same point where EM has arrived


def test_maximum_likelihood_on_the_boundary_and_where_it_is_not_unique():
    one_lag = MTD("sharp", np.array([[0.999, 0.001], [0.001, 0.999]]), order=2)
    x = lag_likelihoods(one_lag, np.tile([0, 1], 20)[None])
    np.testing.assert_allclose(maximise_likelihood(x), [[0, 1]], atol=1e-9)
    constant = lag_likelihoods(one_lag, np.zeros((1, 20), dtype=int))
    np.testing.assert_allclose(maximise_likelihood(constant), [[0.5, 0.5]])


def test_weights_that_vanish_at_the_maximum_are_zero_and_not_merely_small(zeros_task):
    x = lag_likelihoods(zeros_task, sample(zeros_task, 16, 300, seed=0).contexts)
    weights = maximise_likelihood(x)
    assert (weights == 0).any(axis=1).mean() > 0.1
    assert not ((weights > 0) & (weights < 1e-7)).any()
    assert np.asarray(duality_gap(jnp.asarray(weights), jnp.asarray(x))).max() <= 1e-8


@pytest.mark.skipif(not SEIZURES.exists(), reason="needs shared/data/epileptic_seizures.csv, which is not there")
def test_published_fit_of_epileptic_seizures():
    """Berchtold and Raftery 2002, Table 3: the MTD of order 2 has LL -119.5 given the first 14 observations."""
    states = np.loadtxt(SEIZURES, skiprows=1, dtype=int)
    task = MTD("seizures", np.array([[0.75, 0.25], [0.3499, 0.6501]]), order=2)
    x = lag_likelihoods(task, states[None])[:, 12:]
    assert log_likelihood(np.array([[0.5519, 0.4481]]), x)[0] == pytest.approx(-119.5029, abs=1e-4)
    np.testing.assert_allclose(maximise_likelihood(x), [[0.5519, 0.4481]], atol=2e-3)


# ------------------------------------------------------------------------------------------------------ all others


def test_bayes_is_gold_by_the_other_route(core_task):
    contexts = sample(core_task, 32, 20, seed=0).contexts
    gold = next_token_probs(core_task, Exact().posterior(core_task, contexts).mean[:, 0], contexts)
    np.testing.assert_allclose(build_predictor("bayes", core_task).predict(contexts), gold, rtol=1e-12)


def test_uniform_and_oracle(core_task):
    drawn = sample(core_task, 16, 9, seed=0)
    contexts = drawn.tokens[:, :-1]
    lagged = core_task.transition[contexts[:, -core_task.order :]]
    np.testing.assert_allclose(build_predictor("uniform", core_task).predict(contexts), lagged.mean(axis=1), rtol=1e-14)
    oracle = build_predictor("oracle", core_task)
    np.testing.assert_array_equal(oracle.predict_given_theta(contexts, drawn.weights), drawn.next_probs)


@pytest.mark.parametrize("name", ["bayes", "uniform", "md:steps=3,eta=0.1", "em", "constructed_l3:eta=0.1"])
def test_relabelling_the_states_relabels_the_prediction(core_task, name):
    contexts = sample(core_task, 20, 6, seed=0).contexts
    order = np.random.default_rng(0).permutation(core_task.n_states)
    plain = build_predictor(name, core_task).predict(contexts)
    renamed = build_predictor(name, core_task.relabelled(order)).predict(np.argsort(order)[contexts])
    np.testing.assert_allclose(renamed, plain[:, order], rtol=0, atol=1e-8 if name == "em" else 1e-12)


@pytest.mark.parametrize("name", ["bayes", "uniform", "md5", "em", "constructed_l3", "trained_l3"])
def test_a_prediction_depends_on_its_own_context_alone(name):
    task = load_task("mtd-q5-m3")
    contexts = sample(task, 32, 12, seed=0).contexts
    predictor = build_predictor(name, task)
    whole = predictor.predict(contexts.copy())
    tolerance = 1e-5 if name == "trained_l3" else 1e-10
    np.testing.assert_allclose(predictor.predict(contexts[::-1].copy())[::-1], whole, rtol=0, atol=tolerance)
    np.testing.assert_allclose(predictor.predict(contexts[3:4].copy()), whole[3:4], rtol=0, atol=tolerance)


# ------------------------------------------------------------------------------------------------------- catalogue


def test_every_name_builds_or_says_which_option_it_needs():
    task = load_task("mtd-q3-m2")
    for name in predictor_entries():
        if option := {"md": "steps", "fitted_chain": "order"}.get(name):
            with pytest.raises(InputError, match=f"needs the option '{option}'"):
                build_predictor(name, task)
        elif name == "run":
            with pytest.raises(InputError, match="'' is not a finished run"):
                build_predictor(name, task)
        elif (SHIPPED_WEIGHTS / name).is_dir():
            assert any((SHIPPED_WEIGHTS / name / of_task).is_dir() for of_task in task_names())
        else:
            with contextlib.suppress(Unsupported):  # made for another family
                build_predictor(name, task)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("trained_l33", r"no predictor 'trained_l33'; did you mean 'trained_l3'\?"),
        ("md:stepz=1", r"predictor 'md': no option 'stepz'; did you mean 'steps'\?"),
        ("md:steps", "write options as md:option=value"),
        ("md:steps=1,steps=2", "option 'steps' is given twice"),
        ("md1:steps=2", "predictor 'md1': no option 'steps'"),
        ("uniform:steps=2", "takes no options"),
        ("bayes:steps=2", "no option 'steps'"),
    ],
)
def test_bad_names_and_options(text, sentence):
    with pytest.raises(InputError, match=sentence):
        build_predictor(text, load_task("mtd-q3-m2"))


def test_trained_weights_are_refused_for_another_task():
    task = load_task("mtd-q5-m3")
    other = MTD(task.name, task.transition[::-1], task.order)
    with pytest.raises(InputError, match="were trained on another task"):
        build_predictor("trained_l3", other)
    unknown = MTD("mine", task.transition, task.order)
    with pytest.raises(InputError, match="no weights for task 'mine'"):
        build_predictor("trained_l3", unknown)


@pytest.mark.parametrize("length", [16, 32, 64])
def test_shipped_weights_are_there_and_far_better_than_ignoring_the_context(core_task, length):
    contexts = sample(core_task, length, 512, seed=0).contexts
    bayes = next_token_probs(core_task, Exact().posterior(core_task, contexts).mean[:, 0], contexts)
    trained, uniform = (build_predictor(name, core_task).predict(contexts) for name in ("trained_l3", "uniform"))
    assert metrics.kl(bayes, trained).mean() < metrics.kl(bayes, uniform).mean() / 10


def test_a_run_of_ones_own_is_the_shipped_one_where_it_is_the_same():
    task = load_task("mtd-q5-m3")
    contexts = sample(task, 32, 5, seed=0).contexts
    folder = SHIPPED_WEIGHTS / "trained_l3" / task.name / "T32" / "seed0"
    run = build_predictor(f"run:{folder}", task)
    np.testing.assert_array_equal(run.predict(contexts), build_predictor("trained_l3", task).predict(contexts))
    with pytest.raises(InputError, match="was trained at length 32, not 16"):
        run.check_length(16)
    with pytest.raises(InputError, match="were trained on another task"):
        build_predictor(f"run:{folder}", load_task("mtd-q3-m2"))


def test_a_plugin_that_cannot_be_loaded_is_said_in_a_sentence(monkeypatch):
    from importlib.metadata import EntryPoint

    monkeypatch.setattr("mdbench.core.entries.entry_points", lambda **_: [EntryPoint("gone", "not.there:build", GROUP)])
    with pytest.raises(PredictorError, match=r"predictor 'gone' .* cannot be loaded: .*No module named 'not'"):
        build_predictor("gone", load_task("mtd-q3-m2"))


def test_a_plugin_is_found_by_its_entry_point_and_takes_any_option(monkeypatch, caplog):
    from importlib.metadata import EntryPoint

    points = [
        EntryPoint("guess", f"{__name__}:build_guess", GROUP),
        EntryPoint("md1", "not.there:build", GROUP),
        EntryPoint("guess", "somewhere.else:build", GROUP),
        EntryPoint("g" * 100_000, "somewhere.else:build", GROUP),
    ]
    monkeypatch.setattr("mdbench.core.entries.entry_points", lambda **_: points)
    errors.warn_once.cache_clear()
    assert predictor_entries()["md1"].target.startswith("mdbench.")  # a built-in wins
    assert "'md1' from an entry point is not used: a built-in predictor has that name." in caplog.text
    assert "'guess' from an entry point is not used: that name is taken, from an entry point." in caplog.text
    assert f"'{'g' * 77}...' from an entry point is not used: a name has up to 200 characters." in caplog.text
    guess = build_predictor("guess:colour=blue", load_task("mtd-q3-m2"))
    assert guess == ("mtd-q3-m2", {"colour": "blue"})


def build_guess(task, **options):
    """A factory as the contract has it."""
    return task.name, options


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_dirichlet_em_ends_at_its_fixed_point(alpha):
    """λ = (c + Σ_t γ_t)/(mc + n), the mode of a Dirichlet(c + 1) prior's posterior; c is α unless told otherwise."""
    task = MTD("other", load_task("mtd-q5-m3").transition, 3, alpha)
    contexts = sample(task, 24, 8, seed=0).contexts
    x = lag_likelihoods(task, contexts)
    for text, c in (("dirichlet_em", alpha), ("dirichlet_em:c=1.5", 1.5)):
        built = build_predictor(text, task)
        weights = built.weights(x)
        gamma = weights[:, None] * x
        counts = (gamma / gamma.sum(axis=-1, keepdims=True)).sum(axis=1)
        np.testing.assert_allclose(weights, (c + counts) / (3 * c + 21), atol=1e-8)
        np.testing.assert_allclose(built.predict(contexts), next_token_probs(task, weights, contexts), rtol=1e-12)


@pytest.mark.parametrize("c", ["beta", 0, -1.0, "True", "1e999"])
def test_a_pseudo_count_is_a_positive_number(c):
    with pytest.raises(InputError, match="c must be alpha or a positive number"):
        build_predictor(f"soft_counts:c={c}", load_task("mtd-q3-m2"))
