"""The methods that sample, against the exact posterior."""

import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats

from mdbench.baselines import exact, urn
from mdbench.baselines.model import mtd_weights
from mdbench.errors import InputError, SequenceError, Unsupported
from mdbench.registry import build_baseline
from mdbench.tasks import MTD, lag_likelihoods, load_task, mtd_model, next_token_probs
from tests.conftest import contexts_of

# Few draws where each costs much: the tests are of the errors that a method states, whatever they are.
CHAINS = [
    "nuts:draws=600",
    "gibbs:draws=600",
    pytest.param("pyro_nuts", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("method", [*CHAINS, "reference:standard_error=5e-4"])
def test_z_scores_against_exact_are_standard_normal(method):
    task = load_task("mtd-q5-m3")
    contexts = contexts_of(task, 24, 64)
    truth, found = exact(task, contexts), build_baseline(method)(task, contexts)
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
        contexts = contexts_of(task, 20, 6)
        lengths = [3, 20]
        truth, found = exact(task, contexts, lengths=lengths), build_baseline(method)(task, contexts, lengths=lengths)
        se = truth.sd / np.sqrt(2000) if found.mean_se is None else found.mean_se
        mean = found.mean if found.mean_se is not None else found.draws.weights.mean(axis=(0, 1))
        assert (np.abs(mean - truth.mean) < 4.5 * se + 1e-12).all()
        np.testing.assert_allclose(mean[:, 0], 1 / 3, atol=0.06)


def test_urn_draws_are_independent_and_exact():
    task = load_task("mtd-q10-m4")
    contexts = contexts_of(task, 32, 40)
    found, truth = urn(task, contexts, draws=3000), exact(task, contexts)
    z = (found.draws.weights.mean(axis=(0, 1)) - truth.mean)[:, 0] / (truth.sd[:, 0] / np.sqrt(3000))
    for of_lag in z.T:
        assert 1e-4 < stats.chi2.cdf((of_lag**2).sum(), 40) < 1 - 1e-4
    np.testing.assert_allclose(found.draws.weights.std(axis=(0, 1)), truth.sd, rtol=0.12)
    flat = found.draws.weights[0, :, 0, 0, 0]
    assert abs(np.corrcoef(flat[1:], flat[:-1])[0, 1]) < 4 / np.sqrt(3000)


@pytest.mark.parametrize(
    "method",
    [
        *("reference:standard_error=0.01", "laplace", "vi_dirichlet:steps=50"),
        *("vi_logistic_normal:steps=50", "urn:draws=50"),
        *(pytest.param(f"{name}:draws=50", marks=pytest.mark.slow) for name in ("gibbs", "nuts")),
    ],
)
def test_nothing_depends_on_the_batch(method):
    task = load_task("mtd-q3-m2")
    contexts = contexts_of(task, 12, 70)  # more than a chunk
    run = build_baseline(method)
    whole, part = run(task, contexts), run(task, contexts[[66, 3]])
    np.testing.assert_array_equal(part.mean, whole.mean[[66, 3]])
    if whole.draws is not None:
        np.testing.assert_array_equal(part.draws.weights, whole.draws.weights[:, :, [66, 3]])
    other = build_baseline(method, seed=1)(task, contexts[:2])
    if method != "laplace" and "urn" not in method:
        assert np.abs(other.mean - whole.mean[:2]).max() > 0


@pytest.mark.slow
def test_a_prefix_is_what_the_shorter_context_gives():
    task = load_task("mtd-q3-m2")
    contexts = contexts_of(task, 12, 3)
    for method in ("nuts:draws=50", "reference:standard_error=0.01"):
        run = build_baseline(method)
        both, short = run(task, contexts, lengths=[8, 12]), run(task, contexts[:, :8])
        np.testing.assert_allclose(both.mean[:, 0], short.mean[:, 0], rtol=0, atol=1e-13)


def test_the_samplers_model_has_the_density_of_the_task():
    task = load_task("mtd-q5-m3")
    tokens = contexts_of(task, 20, 1)[0]
    x = lag_likelihoods(task, tokens[None])[0]
    rng = np.random.default_rng(0)
    gaps = []
    for weights in rng.dirichlet(np.ones(3), 5):
        of_task = log_density(mtd_model, (task, tokens), {}, {"weights": weights})[0]
        gaps.append(float(of_task - log_density(mtd_weights, (x, task.concentration), {}, {"weights": weights})[0]))
    np.testing.assert_allclose(gaps, 3 * np.log(1 / 5), rtol=1e-12)  # the first m tokens, which are uniform


@pytest.mark.slow
def test_too_few_draws_are_run_again_longer_and_then_reported():
    task = load_task("mtd-q3-m2")
    contexts = contexts_of(task, 16, 5)
    found = build_baseline("nuts:draws=30,warmup=30")(task, contexts)
    assert found.failed.all()
    assert found.draws.settings["n_rerun"] == 5
    assert found.draws.weights.shape == (4, 30, 5, 1, 2)  # every fourth draw of the longer run
    se = found.mean_se[:, 0, 0]
    assert (se > found.sd[:, 0, 0] / np.sqrt(4 * 120 * 3)).all()
    ess = next(c for c in found.checks_made if c.name == "ess_bulk").values
    assert (ess > 60).all()  # of 480 draws, not of the 120 that are kept
    assert (ess < 400).all()


@pytest.mark.parametrize(
    "method", ["nuts", "gibbs", "laplace", "vi_dirichlet", "vi_logistic_normal", "reference", "pyro_nuts", "pyro_svi"]
)
def test_order_one_and_impossible_sequences_are_refused(method, zeros_task):
    run = build_baseline(method)
    with pytest.raises(Unsupported, match="order 1"):
        run(MTD("one", zeros_task.transition, 1), np.array([[0, 0, 1]]))
    with pytest.raises(SequenceError, match="impossible"):
        run(zeros_task, np.array([[0, 0, 2]]))


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("nuts:draws=1", "draws must be"),
        ("gibbs:thin=0", "thin must be"),
        ("nuts:seed=-1", "seed must be"),
        ("vi_dirichlet:steps=0", "steps must be"),
        ("reference:standard_error=0", "standard_error must be"),
        ("reference:points=10", "points must be"),
        ("urn:draws=-1", "draws must be"),
    ],
)
def test_options_that_cannot_be(method, what):
    task = load_task("mtd-q3-m2")
    with pytest.raises(InputError, match=what):
        build_baseline(method)(task, contexts_of(task, 12, 1))


def test_unknown_names_and_options():
    with pytest.raises(InputError, match="did you mean 'gibbs'"):
        build_baseline("gibs")
    with pytest.raises(InputError, match="no option 'draw'; did you mean 'draws'"):
        build_baseline("nuts:draw=3")
    with pytest.raises(InputError, match="takes no options"):
        build_baseline("exact:draws=3")
