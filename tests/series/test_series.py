"""Models fitted to one's own sequences: published tables, brute force, other solvers, invariances, intervals, doors."""

import itertools
import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpyro.infer.util import log_density
from scipy import optimize, stats
from scipy.special import gammaln, logsumexp

import mdbench
from mdbench.baselines.catalogue import build_baseline
from mdbench.core.errors import InputError
from mdbench.posteriors.labels import alphabet_of
from mdbench.posteriors.reading import GAP
from mdbench.series import evidence
from mdbench.series.association import cramers_v, replicates
from mdbench.series.bayes import GappedUnknownMatrix, posterior_of
from mdbench.series.likelihood import MixtureLikelihood
from mdbench.series.models import fit_markov, fit_mixture
from mdbench.series.profiles import QUANTILE, moved, profile_interval
from mdbench.series.transitions import transitions_of

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the series of real data stand beside a checkout, not in it")
PI = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.1, 0.6]])


def drawn(weights, matrix, length, seed):
    """One series of an MTD."""
    m, q, rng = len(weights), len(matrix), np.random.default_rng(seed)
    after = transitions_of([rng.integers(q, size=length)], q, m, m)
    return replicates(after, np.array([weights]), np.broadcast_to(matrix, (1, m, q, q)), rng)[0][0]


def fits_of(found, model):
    return {fitted["order"]: fitted for fitted in found["fits"] if fitted["model"] == model}


# ----------------------------------------------------------------------------------------------------- real series


@real
def test_the_published_table_of_the_epileptic_seizures(run):
    """Berchtold and Raftery (2002), table 3, by one command; and an independent EM's weights and matrix."""
    ran = run("fit", "--data", DATA / "epileptic_seizures.csv", "--order", 2, "--start", 14, "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    table = {
        (f["model"], f["order"]): (round(f["log_likelihood"], 1), f["n_parameters"], round(f["bic"], 1))
        for f in found["fits"]
    }
    assert table.pop(("per_lag", 2))[0] >= -119.5
    assert table == {
        ("independence", 0): (-129.3, 1, 263.9),
        ("markov", 1): (-122.6, 2, 255.6),
        ("markov", 2): (-119.3, 4, 259.6),
        ("markov", 3): (-117.2, 8, 276.3),
        ("mtd", 2): (-119.5, 3, 254.7),
    }
    mtd = fits_of(found, "mtd")[2]
    assert mtd["log_likelihood"] == pytest.approx(-119.5029, abs=5e-5)
    np.testing.assert_allclose(mtd["weights"], [0.5519, 0.4481], atol=5e-5)
    np.testing.assert_allclose(mtd["transition"], [[0.75, 0.25], [0.3499, 0.6501]], atol=5e-5)
    assert found["data"]["predicted"] == 190


@real
def test_a_birds_song_has_its_optimum_on_the_boundary(run):
    ran = run("fit", "--data", DATA / "wood_pewee.csv", "--order", 2, "--start", 4, "--json")
    found = json.loads(ran.out)
    chains = [f["log_likelihood"] for f in found["fits"] if f["model"] in ("independence", "markov")]
    np.testing.assert_allclose(chains, [-1349.444, -694.127, -368.623, -353.977], atol=5e-4)
    mtd = fits_of(found, "mtd")
    assert mtd[2]["weights"] == [0.0, 1.0]
    assert mtd[2]["n_parameters"] == 6  # 1 + 6, without the weight that is zero
    assert mtd[2]["weights_ci"][0][0] == 0
    assert 0 < mtd[2]["weights_ci"][0][1] < 0.02
    assert any("boundary" in note for note in mtd[2]["notes"])
    outside = np.array(found["association"]["data"]) > np.array(found["association"]["high"])
    assert outside[0]  # an MTD that looks at lag 2 alone knows nothing of lag 1


# ----------------------------------------------------------------------------------------------------- the maximum


@pytest.mark.parametrize(("weights", "per_lag"), [((0.6, 0.4), False), ((0.0, 1.0), False), ((0.5, 0.5), True)])
def test_the_maximum_satisfies_the_conditions_and_no_other_solver_finds_a_higher_one(weights, per_lag):
    """Karush, Kuhn and Tucker with derivatives by central differences; SLSQP from other starts as the other solver."""
    series = drawn(weights, PI, 300, 3)
    likelihood = MixtureLikelihood(transitions_of([series], 3, 2, 2).counted(2), 3, per_lag)
    best = likelihood.maximum()
    theta, step = best.theta, 1e-6
    slopes = np.array([_slope(likelihood, theta, k, step) for k in range(likelihood.size)])
    for block in likelihood.blocks:
        assert theta[block].sum() == pytest.approx(1, abs=1e-12)
        price = theta[block] @ slopes[block]
        inside = theta[block] > 1e-4
        np.testing.assert_allclose(slopes[block][inside], price, atol=0.02)
        assert (slopes[block] <= price + 0.02).all()
    rng = np.random.default_rng(0)
    sums = [{"type": "eq", "fun": lambda t, b=block: t[b].sum() - 1} for block in likelihood.blocks]
    for _ in range(4):
        start = np.concatenate([rng.dirichlet(np.ones(len(block))) for block in likelihood.blocks])
        other = optimize.minimize(
            lambda t: -likelihood.value(np.maximum(t, 1e-12)),
            start,
            jac=lambda t: -likelihood.derivatives(np.maximum(t, 1e-12))[0],
            bounds=[(0, 1)] * likelihood.size,
            constraints=sums,
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-12},
        )
        assert -other.fun <= best.value + 1e-6


def _slope(likelihood, theta, k, step):
    up, down = theta.copy(), theta.copy()
    up[k] += step
    if theta[k] < step:
        return (likelihood.value(up) - likelihood.value(theta)) / step
    down[k] -= step
    return (likelihood.value(up) - likelihood.value(down)) / (2 * step)


@pytest.mark.parametrize("per_lag", [False, True])
def test_derivatives_are_those_of_the_likelihood(per_lag):
    series = drawn((0.6, 0.4), PI, 120, 0)
    likelihood = MixtureLikelihood(transitions_of([series], 3, 2, 2).counted(2), 3, per_lag)
    rng = np.random.default_rng(1)
    theta = np.concatenate([rng.dirichlet(np.ones(len(block))) for block in likelihood.blocks])
    gradient, hessian = likelihood.derivatives(theta)
    for k in range(likelihood.size):
        assert gradient[k] == pytest.approx(_slope(likelihood, theta, k, 1e-6), rel=1e-5, abs=1e-5)
        up, down = theta + 1e-6 * np.eye(likelihood.size)[k], theta - 1e-6 * np.eye(likelihood.size)[k]
        column = (likelihood.derivatives(up)[0] - likelihood.derivatives(down)[0]) / 2e-6
        np.testing.assert_allclose(hessian[k], column, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("per_lag", [False, True])
def test_a_climb_from_wrong_zeros_reaches_the_maximum(per_lag):
    """From λ = (1, 0): the second weight must leave zero, and so, with a matrix per lag, must one that says nothing."""
    series = drawn((0.4, 0.6), PI, 400, 3)
    likelihood = MixtureLikelihood(transitions_of([series], 3, 2, 2).counted(2), 3, per_lag)
    matrix = likelihood.starts()[0][2:11]
    start = np.concatenate([[1.0, 0.0], matrix, np.eye(3)[[1, 2, 0]].ravel() if per_lag else []])
    best = likelihood.maximum().value
    assert likelihood.value(start) < best - 5
    assert likelihood.climb(start).value == pytest.approx(best, abs=1e-8)


def test_em_never_falls_and_the_likelihood_is_that_of_the_tokens():
    series = drawn((0.6, 0.4), PI, 80, 5)
    likelihood = MixtureLikelihood(transitions_of([series], 3, 2, 2).counted(2), 3)
    thetas = likelihood.starts()
    one = thetas[-1]
    by_hand = sum(
        math.log(sum(one[g] * one[2:].reshape(3, 3)[series[t - 1 - g], series[t]] for g in range(2)))
        for t in range(2, 80)
    )
    assert likelihood.value(one) == pytest.approx(by_hand, rel=1e-12)
    for _ in range(5):
        after = likelihood.em(thetas, 1)
        assert all(likelihood.value(b) >= likelihood.value(a) - 1e-9 for a, b in zip(thetas, after, strict=True))
        thetas = after


def test_other_names_of_states_change_nothing_but_the_names():
    series = drawn((0.3, 0.7), PI, 400, 7)
    words = np.array(["cat", "dog", "ape"])
    first = fits_of(mdbench.fit(words[series].tolist(), 2, states=["cat", "dog", "ape"]), "mtd")[2]
    again = fits_of(mdbench.fit(words[series].tolist(), 2), "mtd")[2]
    order = [2, 0, 1]
    assert again["states"] == [words[k] for k in order]
    np.testing.assert_allclose(again["weights"], first["weights"], atol=1e-6)
    np.testing.assert_allclose(again["transition"], np.array(first["transition"])[np.ix_(order, order)], atol=1e-6)
    assert again["log_likelihood"] == pytest.approx(first["log_likelihood"], abs=1e-8)


def test_of_two_states_and_lags_a_matrix_per_lag_says_no_more():
    """Both are then p(1 | a, b) = c + d_1 a + d_2 b: the same likelihood and number of parameters."""
    found = mdbench.fit(drawn((0.6, 0.4), np.array([[0.8, 0.2], [0.3, 0.7]]), 500, 1).tolist(), 2)
    mtd, per_lag = fits_of(found, "mtd")[2], fits_of(found, "per_lag")[2]
    assert per_lag["log_likelihood"] == pytest.approx(mtd["log_likelihood"], abs=1e-6)
    assert per_lag["n_parameters"] == mtd["n_parameters"] == 3


def test_directions_of_a_matrix_per_lag_count_once():
    """Lèbre and Bourguignon (2008): q - 1 + m (q - 1)² of m - 1 + m q (q - 1)."""
    matrices = [0.8 * PI + 0.2 / 3, 0.8 * PI.T / PI.T.sum(axis=1, keepdims=True) + 0.2 / 3]
    after = transitions_of([np.random.default_rng(0).integers(3, size=4000)], 3, 2, 2)
    series = replicates(after, np.array([[0.5, 0.5]]), np.array([matrices]), np.random.default_rng(0))[0][0]
    found = fit_mixture(transitions_of([series], 3, 2, 2), 2, True, ["a", "b", "c"])
    assert min(np.array(found.transition).min(), min(found.weights)) > 0
    assert found.n_parameters == 2 + 2 * 4


def test_equal_rows_leave_the_weights_unknown():
    """π of rank one: no weight changes any probability, and the interval says so."""
    found = mdbench.fit(np.random.default_rng(2).integers(2, size=200).tolist(), 2)
    mtd = fits_of(found, "mtd")[2]
    assert mtd["weights_ci"][0] == (0, 1)
    assert any("do not tell" in note for note in mtd["notes"])


# ------------------------------------------------------------------------------------------- what is predicted, chains


def test_what_is_predicted_by_hand():
    """S = 3 of each sequence, and memory 2 after a gap."""
    found = transitions_of([np.array([0, 1, 1, 0, 1]), np.array([1, 0, 0, 1, GAP, 1, 0, 0]), np.array([0, 1])], 2, 2, 3)
    rows = [[*lags, b] for lags, b in zip(found.lagged.tolist(), found.came.tolist(), strict=True)]
    assert rows == [[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]]


def test_chains_are_ratios_of_counts_over_sequences_and_gaps():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(3, size=n) for n in (40, 7, 25)]
    sequences[0][17] = GAP
    after = transitions_of(sequences, 3, 3, 3)
    for k in range(4):
        counts = {}
        for tokens in sequences:
            for t in range(3, len(tokens)):
                if (tokens[t - 3 : t + 1] != GAP).all():
                    of = counts.setdefault(tuple(tokens[t - k : t].tolist()), np.zeros(3))
                    of[tokens[t]] += 1
        expected = sum((c[c > 0] * np.log(c[c > 0] / c.sum())).sum() for c in counts.values())
        found = fit_markov(after, k, ["a", "b", "c"])
        assert found.log_likelihood == pytest.approx(expected, rel=1e-12)
        assert found.n_parameters == sum((c > 0).sum() - 1 for c in counts.values())
        assert found.bic == pytest.approx(-2 * expected + found.n_parameters * math.log(len(after)))


def test_a_longer_mixture_is_never_worse():
    after = transitions_of([drawn((0.2, 0.8), PI, 150, 9)], 3, 3, 3)
    for per_lag in (False, True):
        shorter = fit_mixture(after, 2, per_lag, ["a", "b", "c"])
        longer = fit_mixture(after, 3, per_lag, ["a", "b", "c"], shorter)
        assert longer.log_likelihood >= shorter.log_likelihood - 1e-9


def test_sequences_together_are_their_sum_and_a_gap_is_a_new_start():
    a, b = drawn((0.6, 0.4), PI, 60, 0).tolist(), drawn((0.6, 0.4), PI, 50, 1).tolist()
    apart = mdbench.fit([a, b], 2, start=3)
    joined = mdbench.fit([*a, None, *b], 2, start=3)
    for one, other in zip(apart["fits"], joined["fits"], strict=True):
        assert one["log_likelihood"] == pytest.approx(other["log_likelihood"], abs=1e-8)
    assert joined["data"]["missing"] == 1


# -------------------------------------------------------------------------------------------------------- intervals


def test_an_end_of_an_interval_is_where_the_profile_has_fallen_by_half_the_quantile():
    """The profile over a grid and by another solver: for two states and lags a search over two numbers."""
    series = drawn((0.6, 0.4), np.array([[0.8, 0.2], [0.3, 0.7]]), 400, 4)
    likelihood = MixtureLikelihood(transitions_of([series], 2, 2, 2).counted(2), 2)
    best = likelihood.maximum()
    errors, _ = likelihood.curvature(best.theta)
    for end in profile_interval(likelihood, best, 0, errors[0]):

        def lost(pair, end=end):
            a, b = 1 / (1 + np.exp(-pair))
            return -likelihood.value(np.array([end, 1 - end, a, 1 - a, b, 1 - b]))

        profile = -min(optimize.minimize(lost, start, tol=1e-12).fun for start in ([1.0, -1.0], [0.0, 0.0]))
        assert 2 * (best.value - profile) == pytest.approx(QUANTILE, abs=2e-3)


def test_for_one_lag_an_interval_is_that_of_a_binomial():
    """Where λ = (1, 0) is held by the data, a row of π is a multinomial of the transitions out of its state."""
    series = np.tile([0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1], 30)
    likelihood = MixtureLikelihood(transitions_of([series], 2, 1, 1).counted(1), 2)
    best = likelihood.maximum()
    n, k = (series[:-1] == 0).sum(), ((series[:-1] == 0) & (series[1:] == 0)).sum()

    def ratio(p):
        return 2 * (stats.binom.logpmf(k, n, k / n) - stats.binom.logpmf(k, n, p)) - QUANTILE

    expected = optimize.brentq(ratio, 1e-9, k / n), optimize.brentq(ratio, k / n, 1 - 1e-9)
    np.testing.assert_allclose(profile_interval(likelihood, best, 1, 0.03), expected, atol=2e-5)


def test_moving_a_number_keeps_its_simplex():
    likelihood = MixtureLikelihood(transitions_of([np.arange(30) % 3], 3, 2, 2).counted(2), 3)
    theta = np.concatenate([[1.0, 0.0], PI.ravel()])
    there = moved(likelihood, theta, 0, 0.25)
    np.testing.assert_allclose(there[:2], [0.25, 0.75])
    np.testing.assert_allclose(moved(likelihood, theta, 2, 0.1)[2:5], [0.1, 0.6, 0.3])


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """100 series: 95% of λ and of π, within 3.5 standard errors; and hardly more often."""
    weights, n = (0.6, 0.4), 100
    held = np.zeros((n, 2))
    for k in range(n):
        found = fit_mixture(transitions_of([drawn(weights, PI, 600, k)], 3, 2, 2), 2, False, ["a", "b", "c"])
        rows = zip(PI.ravel(), itertools.chain(*found.transition_ci), strict=True)
        low, high = found.weights_ci[0]
        held[k] = low <= weights[0] <= high, np.mean([ci.low <= p <= ci.high for p, ci in rows])
    errors = np.array([math.sqrt(0.05 * 0.95 / n), held[:, 1].std() / math.sqrt(n)])
    assert (np.abs(held.mean(axis=0) - 0.95) < 3.5 * errors).all(), held.mean(axis=0)


# ------------------------------------------------------------------------------------------------ association, draws


def test_association_against_the_statistic_of_scipy():
    series = np.random.default_rng(0).choice(3, p=[0.6, 0.3, 0.1], size=200)
    found = cramers_v([series[None]], 3, [1, 4])
    for k, lag in enumerate((1, 4)):
        table = pd.crosstab(series[:-lag], series[lag:]).to_numpy()
        assert found[k, 0] == pytest.approx(stats.contingency.association(table, "cramer"), rel=1e-12)
    alternating = np.arange(50) % 2
    np.testing.assert_allclose(cramers_v([alternating[None]], 2, [1])[:, 0], 1, atol=1e-12)


def test_replicates_have_the_frequencies_of_the_model():
    after = transitions_of([np.array([0, 2, 1, 0])], 3, 2, 2)
    n, weights = 20_000, np.array([0.7, 0.3])
    many = replicates(after, np.tile(weights, (n, 1)), np.broadcast_to(PI, (n, 2, 3, 3)), np.random.default_rng(0))[0]
    assert (many[:, :2] == [0, 2]).all()
    expected = weights[0] * PI[2] + weights[1] * PI[0]
    assert stats.chisquare(np.bincount(many[:, 2], minlength=3), n * expected).pvalue > 1e-3
    second = np.zeros((3, 3))
    np.add.at(second, (many[:, 2], many[:, 3]), 1)
    for a in range(3):
        of_a = second[a].sum() * (weights[0] * PI[a] + weights[1] * PI[2])
        assert stats.chisquare(second[a], of_a).pvalue > 1e-3


# ------------------------------------------------------------------------------------------------------------ Bayes


def _evidence_by_sum(lagged, came, q, alpha, beta):
    """Log Σ_z p(z) p(y | z), over all paths of lags."""
    n, s = lagged.shape
    terms = []
    for z in itertools.product(range(s), repeat=n):
        c, pairs = np.bincount(z, minlength=s), np.zeros((q, q))
        np.add.at(pairs, (lagged[np.arange(n), z], came), 1)
        of_weights = gammaln(s * alpha) - gammaln(s * alpha + n) + (gammaln(alpha + c) - gammaln(alpha)).sum()
        rows = q * gammaln(q * beta) - gammaln(q * beta + pairs.sum(axis=1)).sum()
        terms.append(of_weights + rows + (gammaln(beta + pairs) - gammaln(beta)).sum())
    return float(logsumexp(terms))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.4, 0.6)])
def test_evidence_is_the_sum_over_all_lags(alpha, beta):
    series = np.array([0, 1, 1, 0, 2, 1, 0, 0, 1, 2, 2])
    after = transitions_of([series], 3, 2, 2)
    found = evidence.evidence_of_lags(after.lagged, after.came, 3, alpha, beta)
    assert [each.lags for each in found] == [(), (1,), (2,), (1, 2)]
    for each in found[1:]:
        lags = [g - 1 for g in each.lags]
        expected = _evidence_by_sum(after.lagged[:, lags], after.came, 3, alpha, beta)
        assert each.value == pytest.approx(expected, abs=max(1e-10, 4 * each.error))
        assert each.error < 0.02
    counts = np.bincount(after.came, minlength=3)
    expected = gammaln(3 * beta) - gammaln(3 * beta + 9) + (gammaln(beta + counts) - gammaln(beta)).sum()
    assert found[0].value == pytest.approx(expected, rel=1e-12)


def test_probabilities_of_lags_are_those_of_sets_or_unknown():
    sets = [evidence.Evidence(lags, math.log(p), 0.0) for lags, p in (((), 1), ((1,), 2), ((2,), 3), ((1, 2), 4))]
    np.testing.assert_allclose(evidence.probabilities(sets, 2), [0.6, 0.7])
    unsure = [*sets[:3], sets[3]._replace(error=0.6)]
    assert evidence.probabilities(unsure, 2) is None


def test_gibbs_with_gaps_is_the_sum_over_all_lags():
    """E[λ | y] of two sequences, one of them with a gap, over all paths of lags."""
    tokens = np.array([0, 1, 1, 0, 1, GAP, 0, 1, 0, 0, GAP, 1, 1, 0])
    task = GappedUnknownMatrix("gapped", 2, 2, lengths=(3,))
    found = build_baseline("gibbs:draws=3000").posterior(task, tokens[None])
    after = transitions_of([tokens[:5], tokens[6:]], 2, 2, 2)
    assert len(after) == 6
    total, mean = 0.0, np.zeros(2)
    for z in itertools.product(range(2), repeat=6):
        c, pairs = np.bincount(z, minlength=2), np.zeros((2, 2))
        np.add.at(pairs, (after.lagged[np.arange(6), z], after.came), 1)
        p = math.exp(gammaln(1 + c).sum() + gammaln(1 + pairs).sum() - gammaln(2 + pairs.sum(axis=1)).sum())
        total, mean = total + p, mean + p * (1 + c) / 8
    assert (np.abs(found.mean[0, 0, :2] - mean / total) < 4.5 * found.mean_se[0, 0, :2]).all()
    assert found.mean_se[0, 0, 0] < 0.01


def test_the_model_with_gaps_is_the_density_of_the_transitions():
    tokens, weights = np.array([0, 1, 2, 0, GAP, 2, 1, 1, 0]), np.array([0.3, 0.7])
    task = GappedUnknownMatrix("gapped", 3, 2, lengths=(3,))
    value, _ = log_density(task.model, (jnp.asarray(tokens),), {}, {"weights": weights, "matrix": PI})
    expected = 3 * math.log(2)  # the densities of uniform rows, 2 each; that of the weights is 1
    expected += sum(math.log(weights @ PI[[b, a], c]) for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 1, 1), (1, 1, 0)))
    assert float(value) == pytest.approx(expected, rel=1e-10)


def test_the_posterior_of_a_series():
    """Near the maximum likelihood; leave-one-out against its own importance sampling; replicates that fit."""
    series = drawn((0.75, 0.25), PI, 500, 3)
    after = transitions_of([series], 3, 3, 3)
    fitted = fit_mixture(after, 2, False, ["a", "b", "c"])
    found = posterior_of(after, 2, lambda *_: lambda _: None)
    assert np.abs(np.array(found["weights_mean"]) - fitted.weights).max() < 0.04
    assert all(
        low < mean < high for mean, (low, high) in zip(found["weights_mean"], found["weights_interval"], strict=True)
    )
    assert found["lags_matter"][0] > 0.999
    assert {check["verdict"] for check in found["checks_made"]} <= {"pass", "not applicable"}
    assert found["loo"]["elpd"] == pytest.approx(fitted.log_likelihood - fitted.n_parameters, abs=2.5)  # as AIC has it
    assert found["loo"]["p_loo"] == pytest.approx(fitted.n_parameters, rel=0.35)
    assert sum(check["extreme"] for check in found["predictive_checks"]) <= 2
    assert len(found["predictive_checks"]) == 9


# ----------------------------------------------------------------------------------------------------------- doors


def test_what_the_states_are():
    assert alphabet_of([[1, 2, 2], [3, 1, None]]).labels == ("1", "2", "3")
    assert alphabet_of(["sun", "rain", "sun"]).labels == ("rain", "sun")
    assert alphabet_of("ACCA").labels == ("A", "C")
    assert alphabet_of({"x": [0, 1], "y": [1, 10]}).labels == ("0", "1", "10")
    frame = pd.DataFrame({"id": [7, 7, 8], "time": [1, 2, 1], "state": ["b", "a", None]})
    assert alphabet_of(frame).labels == ("a", "b")
    assert alphabet_of(pd.Series(["x", "y", "x"])).labels == ("x", "y")
    assert alphabet_of(np.ma.masked_array([0, 5, 1], [False, True, False])).labels == ("0", "1")


@pytest.mark.parametrize(
    ("text", "labels", "n"),
    [
        ("id,time,state\n1,1,sun\n1,2,rain\n1,4,sun\n2,1,rain\n2,2,rain\n", ["rain", "sun"], 5),
        ("sun\nrain\nrain\nsun\n", ["rain", "sun"], 4),
        ("weather\nsun\nrain\nrain\nsun\n", ["rain", "sun"], 4),
        ("3\n1\n3\n1\n1\n", ["1", "3"], 5),
        ("1,2,2,1\n2,1,NA,2\n", ["1", "2"], 7),
        ("anna,A,B,A\nbert,B,B,A\n", ["A", "B"], 6),
        (">one\nACGTAC\n>two\nGGNA\n", ["A", "C", "G", "T"], 9),
        ("ACGTTA\nGATCNA\n", ["A", "C", "G", "T"], 11),
        ("person;wave;value\n1;1;on\n1;2;off\n2;1;off\n2;2;off\n", ["off", "on"], 4),
    ],
)
def test_states_in_files(tmp_path, text, labels, n):
    from mdbench.series.fitted import read

    (tmp_path / "data.csv").write_text(text)
    found = read(tmp_path / "data.csv", 1)
    assert [*found.labels] == labels
    assert sum((tokens != GAP).sum() for tokens in found.sequences) == n


@pytest.mark.parametrize(
    ("data", "order", "options", "says"),
    [
        ([None, None], 2, {}, "there is no state"),
        ([1, 1, 1, 1], 2, {}, "only state is '1'"),
        ([0, 1, 0, 1], 4, {}, "too short"),
        ([0, 1, 1, 0] * 10, 2, {"start": 1}, "at least the order, 2"),
        ([0, 1, 1, 0] * 10 + [2], 2, {}, "nothing follows state '2'"),
        ([0, 1, 2, 0, 2, 1, 1, 0], 2, {}, "7 parameters, and 5 observations"),
        ([[0, 1, None, 1, 0, None]] * 3, 2, {"start": 2}, "no 3 observations stand in a row"),
        ([0, 1, 1, 0] * 10, 0, {}, "order must be a whole number of at least 1"),
        ([0, 1, 1, 0] * 10, 2, {"states": ["a"]}, "two or more different labels"),
        ([0, 1, 1, 0] * 10, 21, {}, "more than 20"),
        (list(range(150)), 2, {}, "too many for states"),
    ],
)
def test_what_cannot_be_fitted_is_a_sentence(data, order, options, says):
    with pytest.raises(InputError, match=says):
        mdbench.fit(data, order, **options)


def test_unknown_columns_are_a_sentence(run, tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n0,1\n1,1\n1,0\n")
    ran = run("fit", "--data", tmp_path / "data.csv", "--order", 2)
    assert ran.code == 2
    assert "call them id, time and state" in ran.err


def test_a_panel_with_labels_and_gaps(run, tmp_path):
    series = [drawn((0.6, 0.4), PI, 80, k) for k in range(3)]
    words, lines = ["wake", "rem", "deep"], ["night,epoch,stage"]
    lines += [
        f"{k},{t},{words[a]}" for k, tokens in enumerate(series) for t, a in enumerate(tokens) if (k, t) != (1, 40)
    ]
    (tmp_path / "sleep.csv").write_text("\n".join(lines).replace("night", "patient").replace("stage", "state"))
    ran = run("fit", "--data", tmp_path / "sleep.csv", "--order", 2, "--json", "--bayes", "--states", "wake,rem,deep")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["data"] | {"understood": None} == {
        "sequences": 3,
        "observations": 239,
        "missing": 1,
        "predicted": 3 * 77 - 4,
        "start": 3,
        "memory": 3,
        "understood": None,
    }
    series[1][40] = GAP
    direct = fit_mixture(transitions_of(series, 3, 3, 3), 2, False, words)
    assert fits_of(found, "mtd")[2]["weights"] == direct.weights
    assert fits_of(found, "mtd")[2]["states"] == words
    assert found["bayes"]["order"] == 2
    printed = run("fit", "--data", tmp_path / "sleep.csv", "--order", 2, "--out", tmp_path, "--states", "wake,rem,deep")
    again = json.loads((tmp_path / "fit.json").read_text())["fits"]
    assert again == found["fits"]
    for picture in ("weights.svg", "weights.png", "association.svg", "association.png"):
        assert (tmp_path / picture).stat().st_size > 5000
    assert "markov" in printed.out
    assert "wake" in printed.out


def test_posterior_under_the_fitted_matrix(run, tmp_path):
    """The same as with the matrix of ``fit`` given, with the caveat; one of the two is asked for."""
    series = [drawn((0.6, 0.4), PI, 80, k).tolist() for k in range(3)]
    (tmp_path / "data.csv").write_text("\n".join(",".join(map(str, tokens)) for tokens in series))
    ran = run("posterior", "--fit", "--order", 2, "--sequences", tmp_path / "data.csv", "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    assert any("its own error is in no interval" in note for note in found["understood"])
    pi = fits_of(mdbench.fit(series, 2, start=2), "mtd")[2]["transition"]
    given = mdbench.posterior(pi, 2, series)
    for one, other in zip(found["sequences"], given["sequences"], strict=True):
        np.testing.assert_allclose(one["posterior_mean"], other["posterior_mean"], atol=1e-5)
    neither = run("posterior", "--order", 2, "--sequences", tmp_path / "data.csv")
    assert neither.code == 2
    assert "give one of --transition" in neither.err


def test_an_interval_leaves_zero_out_where_the_test_of_the_shorter_model_does():
    """The profile at λ_3 = 0 is the maximum of order 2, also where what is zero at the maximum cannot stay zero."""
    matrix, disagree, excluded = np.array([[0.9, 0.1, 0.0], [0.0, 0.5, 0.5], [0.45, 0.1, 0.45]]), [], 0
    for seed in (0, 1, 2, 3, 15, 27, 34, 38):
        after = transitions_of([drawn((0.6, 0.3, 0.1), matrix, 150, seed)], 3, 3, 3)
        longer, shorter = (MixtureLikelihood(after.counted(m), 3) for m in (3, 2))
        best = longer.maximum()
        rejected = 2 * (best.value - shorter.maximum().value) > QUANTILE
        low = profile_interval(longer, best, 2, 0.05).low
        excluded += rejected
        disagree += [seed] if rejected != (low > 0) else []
    assert not disagree
    assert 0 < excluded < 8
