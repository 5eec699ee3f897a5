"""MTDs with an unknown matrix: gold against brute force and NUTS, the model against its density, what does not fit."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from scipy.special import gammaln

import mdbench
from mdbench.baselines.catalogue import build_baseline
from mdbench.baselines.collapsed import lag_counts
from mdbench.core.errors import InputError
from mdbench.evaluation.gold import gold_predictive
from mdbench.posteriors.validation import calibration, validate
from mdbench.tasks import MTD, UnknownMatrix, load_task, sample
from mdbench.training.data import Batches

TASK = UnknownMatrix("unknown", 3, 2, 0.7, 1.3)


def evidence(task, lags, tokens):
    """Log p(lags, tokens after the first m): a product of Dirichlet-multinomials."""
    m, q, a, b = task.order, task.n_states, task.concentration, task.row_concentration
    counts, pairs = np.bincount(lags, minlength=m), np.zeros((q, q))
    for t, g in enumerate(lags, start=m):
        pairs[tokens[t - 1 - g], tokens[t]] += 1
    rows = gammaln(b + pairs).sum() - gammaln(q * b + pairs.sum(axis=1)).sum() + q * (gammaln(q * b) - q * gammaln(b))
    of_weights = gammaln(a + counts).sum() - gammaln(m * a + len(lags)) + gammaln(m * a) - m * gammaln(a)
    return rows + of_weights


def total(task, tokens):
    """p(tokens after the first m), summed over all lags."""
    paths = itertools.product(range(task.order), repeat=len(tokens) - task.order)
    return sum(math.exp(evidence(task, lags, tokens)) for lags in paths)


@pytest.mark.parametrize("task", [TASK, UnknownMatrix("three", 3, 3, 1.0, 0.5)], ids=lambda task: task.name)
def test_gold_is_the_quotient_of_sums_over_all_lags(task):
    contexts = sample(task, 9, 6, 0).contexts
    found = gold_predictive(task, contexts, [9], "gibbs")
    for i, tokens in enumerate(contexts.tolist()):
        expected = np.array([total(task, [*tokens, b]) for b in range(3)]) / total(task, tokens)
        assert expected.sum() == pytest.approx(1)
        assert (np.abs(found.probs[i, 0] - expected) < 4.5 * found.standard_error[i, 0]).all()
    assert found.standard_error.max() < 2e-3


def test_lags_and_their_exchange_have_the_right_distribution():
    """Counts of lag 1 over many sweeps against their probabilities, summed over all paths of lags."""
    tokens = np.array([0, 1, 0, 0, 1, 1, 0, 0])
    paths = list(itertools.product(range(2), repeat=6))
    task = UnknownMatrix("two", 2, 2, 0.4, 0.3)
    longer = list(itertools.product(range(2), repeat=7))
    probs = np.exp([evidence(task, lags, tokens) for lags in paths])
    expected = np.bincount([6 - sum(lags) for lags in paths], probs / probs.sum(), minlength=7)
    lagged = np.stack([tokens[1:-1], tokens[:-2]], axis=1)
    draws = 4000
    sweeps = (50, draws, 200)  # far apart: the chain is slow where α and β are small
    c, pairs, next_token = lag_counts(lagged, tokens[2:], tokens[[7, 6]], 2, 0.4, 0.3, sweeps, np.random.default_rng(0))
    by_path = np.array([[math.exp(evidence(task, lags, [*tokens, b])) for b in range(2)] for lags in longer])
    expected_next = by_path.sum(axis=0) / probs.sum()
    np.testing.assert_allclose(next_token.mean(axis=0), expected_next, atol=4.5 * next_token[:, 0].std() / draws**0.5)
    np.testing.assert_array_equal(c.sum(axis=1), 6)
    np.testing.assert_array_equal(pairs.sum(axis=(1, 2)), 6)
    observed = np.bincount(c[:, 0].astype(int), minlength=7)
    assert stats.chisquare(observed, expected * draws).pvalue > 1e-3


def test_the_model_is_the_density():
    rng = np.random.default_rng(0)
    tokens, weights, matrix = rng.integers(3, size=12), rng.dirichlet(np.ones(2)), rng.dirichlet(np.ones(3), 3)
    expected = stats.dirichlet.logpdf(weights, [0.7] * 2) + sum(
        stats.dirichlet.logpdf(row, [1.3] * 3) for row in matrix
    )
    expected += 2 * math.log(1 / 3)
    expected += sum(math.log(weights @ matrix[[tokens[t - 1], tokens[t - 2]], tokens[t]]) for t in range(2, 12))
    values = {"weights": jnp.asarray(weights), "matrix": jnp.asarray(matrix)}
    found, _ = log_density(TASK.model, (jnp.asarray(tokens),), {}, values)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    theta = np.concatenate([weights, matrix.ravel()])[None]
    known = MTD("known", matrix, 2, 0.7)
    np.testing.assert_allclose(TASK.truth(theta, tokens[None]), known.truth(weights[None], tokens[None]), rtol=1e-12)


@pytest.mark.slow
def test_gibbs_and_nuts_agree_within_their_errors():
    task = UnknownMatrix("both", 3, 2)
    contexts = sample(task, 32, 64, 0).contexts
    gibbs, nuts = (gold_predictive(task, contexts, [32], method) for method in ("gibbs", "nuts"))
    assert gibbs.standard_error.max() <= 2e-3
    z = (gibbs.probs - nuts.probs) / np.hypot(gibbs.standard_error, nuts.standard_error)
    assert 0.8 <= np.sqrt((z**2).mean()) <= 1.2


@pytest.mark.slow
def test_ranks_of_theta_among_draws_are_uniform():
    found = calibration(build_baseline("gibbs:draws=400,thin=3,warmup=50"), TASK, 10, 320, 0)
    assert len(found.quantities) == TASK.prior_mean.size + 1
    assert min(found.p) * len(found.p) > 0.01


@pytest.mark.slow
def test_validation_holds_methods_to_the_sampled_gold():
    found = validate(
        tasks=[UnknownMatrix("small", 2, 2)], methods=["gibbs", "vi_logistic_normal"], length=4, n_sequences=4,
        calibration_length=4, n_simulations=80,
    )  # fmt: skip
    assert [(a.method, a.of) for a in found.accuracies] == [("vi_logistic_normal", "p")]
    assert 0 < found.accuracies[0].largest_error < 0.1
    assert {v.method: v.verdict for v in found.verdicts} == {"gibbs": "pass", "vi_logistic_normal": "approximate"}


def test_there_is_no_exact_target_to_train_on():
    with pytest.raises(InputError, match="'unknown' is sampled; take the target 'conditional'"):
        Batches(TASK, 8, "bayes", 4, 1, 0, "cpu")
    contexts, targets = Batches(TASK, 8, "conditional", 4, 1, 0, "cpu")[0]
    assert contexts.shape == (4, 8)
    np.testing.assert_allclose(targets.sum(dim=1).numpy(), 1, atol=1e-6)


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_states = 1\norder = 2", "n_states must be a whole number from 2 to 100"),
        ("n_states = 3\norder = 0", "order must be a whole number of at least 1"),
        ("n_states = 3\norder = 2\nrow_concentration = 0", "row_concentration must be a number from"),
        ("n_states = 3\norder = 2\ntransition = [[1]]", "no field 'transition'"),
        ("order = 2", "has no 'n_states'"),
    ],
)
def test_bad_files_are_said_in_a_sentence(text, said, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(f'model = "unknown_matrix"\n{text}')
    with pytest.raises(InputError, match=said):
        load_task(path)


@pytest.mark.parametrize(
    ("task", "gold", "said"),
    [
        (TASK, "exact", "'exact' needs"),
        (UnknownMatrix("sparse", 3, 2, 0.2), "gibbs", "needs at least 0.3.$"),
        (UnknownMatrix("sparse", 3, 2, 1.0, 0.2), "gibbs", "at row_concentration 0.2"),
    ],
)
def test_what_cannot_be_gold_is_said(task, gold, said):
    with pytest.raises(InputError, match=said):
        mdbench.evaluate("uniform", task=task, gold=gold, lengths=[8], n_sequences=4)
