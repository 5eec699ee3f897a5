"""The quadrature against closed forms, enumeration in rational arithmetic and a Pólya-urn filter in 80-bit floats."""

import functools
import math
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy.special import roots_jacobi

from mdbench import baselines
from mdbench.baselines import Exact
from mdbench.baselines.catalogue import build_baseline
from mdbench.baselines.exact import MAX_TOLERANCE, MAX_WORK, _climb, _ladder
from mdbench.baselines.jacobi import beta_rule
from mdbench.core.errors import InputError, SequenceError
from mdbench.tasks import MTD, lag_likelihoods, load_task, sample

EXTENDED = np.longdouble
needs_extended = pytest.mark.skipif(
    np.finfo(EXTENDED).eps > 2e-19, reason="long double is no wider than 64 bits of mantissa here: no better truth"
)


@functools.cache
def _drawn_once(name):  # compiling the sampler takes longer than all the rest
    return sample(load_task(name), 128, 70, seed=0).contexts


def core_contexts(task, length, n):
    return _drawn_once(task.name)[:n, :length]


def drawn(rng, task, length):
    """One sequence from the model, in plain numpy: compiling a sampler for each of many tasks takes longer."""
    lags = rng.choice(task.order, p=rng.dirichlet(np.full(task.order, task.concentration)), size=length)
    tokens = list(rng.integers(task.n_states, size=task.order))
    for t in range(task.order, length):
        tokens.append(rng.choice(task.n_states, p=task.transition[tokens[t - 1 - lags[t]]]))
    return np.array(tokens)


def every_prefix(task, contexts):
    return Exact().posterior(task, contexts, lengths=range(task.order, contexts.shape[1] + 1))


def true_error(posterior, mean, log_evidence):
    """What ``Posterior.error`` bounds, (B,): truth at every prefix, in a wider type."""
    in_mean = np.abs(posterior.mean - mean).max(axis=(1, 2))
    in_evidence = (np.abs(posterior.log_evidence - log_evidence) / (1 + np.abs(log_evidence))).max(axis=1)
    return np.maximum(in_mean, in_evidence).astype(float)


# ---------------------------------------------------------------------------------------------------- Gauss-Jacobi

BETAS = [(0.1, 0.1), (0.1, 0.3), (1.0, 1.0), (1.0, 3.0), (10.0, 10.0), (10.0, 30.0), (1e-4, 1e-4)]


@pytest.mark.parametrize("n_nodes", [1, 2, 12, 64, 128])
@pytest.mark.parametrize(("a", "b"), BETAS)
def test_rule_gives_the_moments_of_beta(a, b, n_nodes):
    rule = beta_rule(n_nodes, a, b)
    for degree in sorted({0, 1, 2, n_nodes, 2 * n_nodes - 1} & set(range(2 * n_nodes))):
        for power in {0, degree // 2, degree}:
            found = math.fsum(rule.weight * rule.node**power * rule.rest ** (degree - power))
            with mpmath.workdps(40):
                truth = mpmath.beta(mpmath.mpf(a) + power, mpmath.mpf(b) + degree - power) / mpmath.beta(a, b)
                assert abs(found - truth) < truth * (1e-15 + 1e-16 * degree), (degree, power)


def test_scipys_rule_errs_where_ours_does_not():
    """Why there is a rule of our own: the highest moment of Beta(0.1, 0.1) at 128 nodes is 5e-11 off."""
    node, weight = roots_jacobi(128, 0.1 - 1, 0.1 - 1)
    degree, ours = 2 * 128 - 1, beta_rule(128, 0.1, 0.1)
    with mpmath.workdps(40):
        truth = float(mpmath.beta(mpmath.mpf(0.1) + degree, 0.1) / mpmath.beta(0.1, 0.1))
    theirs = weight @ ((1 + node) / 2) ** degree / weight.sum()
    assert 4e-11 < abs(theirs / truth - 1) < 7e-11
    assert abs(ours.weight @ ours.node**degree / truth - 1) < 3e-14


@pytest.mark.parametrize(("a", "b"), BETAS)
def test_nodes_next_to_the_ends_are_right_to_the_last_digits(a, b):
    """The Jacobi polynomial, as a hypergeometric function in 60 digits, changes sign within 3e-16 of node and rest."""
    rule = beta_rule(64, a, b)
    with mpmath.workdps(60):

        def value(v):
            return mpmath.jacobi(64, mpmath.mpf(b) - 1, mpmath.mpf(a) - 1, 2 * v - 1)

        for k in (0, 1, 31, 62, 63):
            node, rest = mpmath.mpf(rule.node[k]), mpmath.mpf(rule.rest[k])
            assert value(node * (1 - mpmath.mpf(3e-16))) * value(node * (1 + mpmath.mpf(3e-16))) < 0
            assert value(1 - rest * (1 - mpmath.mpf(3e-16))) * value(1 - rest * (1 + mpmath.mpf(3e-16))) < 0


# ------------------------------------------------------------------------------------------------------ small truths


@needs_extended
@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("m", "n"), [(2, 9), (3, 6), (4, 5)])
def test_enumeration_in_rational_arithmetic(by_enumeration, m, n, alpha):
    rng = np.random.default_rng(m)
    task = MTD("tiny", rng.dirichlet(np.ones(3), 3), m, alpha)
    contexts = np.array([drawn(rng, task, n + m) for _ in range(3)])
    found = Exact().posterior(task, contexts)
    for k, x in enumerate(lag_likelihoods(task, contexts)):
        mean, square, evidence = by_enumeration(x, Fraction(alpha))
        assert max(abs(Fraction(f) - t) for f, t in zip(found.mean[k, 0].tolist(), mean, strict=True)) < found.error[k]
        log_evidence = mpmath.log(mpmath.mpf(evidence.numerator) / evidence.denominator)
        assert abs(found.log_evidence[k, 0] - log_evidence) < found.error[k] * (1 + abs(log_evidence))
        variance = [float(s - f * f) for f, s in zip(mean, square, strict=True)]
        np.testing.assert_allclose(found.sd[k, 0] ** 2, variance, rtol=0, atol=2e-15)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("m", "length"), [(2, 256), (3, 128), (4, 48)])
def test_certain_lags_give_the_urn_in_closed_form(m, length, alpha):
    """On a cycle only lag 1 is possible: Z = Π_s (α+s)/(mα+s), and the bound log C(n+m-1, m-1) at α = 1 is attained."""
    q = m + 1
    task = MTD("cycle", np.roll(np.eye(q), 1, axis=1), m, alpha)
    found = every_prefix(task, np.arange(length)[None] % q)
    s = np.arange(length - m + 1)
    mean = np.column_stack([alpha + s] + [np.full(len(s), alpha)] * (m - 1)) / (m * alpha + s)[:, None]
    np.testing.assert_allclose(found.mean[0], mean, rtol=0, atol=found.error[0])
    variance = mean * (1 - mean) / (m * alpha + s + 1)[:, None]
    np.testing.assert_allclose(found.sd[0] ** 2, variance, rtol=0, atol=2e-14)
    log_evidence = np.concatenate([[0], np.cumsum(np.log((alpha + s) / (m * alpha + s)))[:-1]])
    np.testing.assert_allclose(found.log_evidence[0], log_evidence, rtol=1e-14, atol=1e-14)
    if alpha == 1:
        assert found.log_evidence[0, -1] == pytest.approx(-math.log(math.comb(length - 1, m - 1)), rel=1e-14)


def test_order_one_has_nothing_to_infer():
    rng = np.random.default_rng(0)
    task = MTD("chain", rng.dirichlet(np.ones(3), 3), 1)
    contexts = rng.integers(3, size=(5, 40))
    found = every_prefix(task, contexts)
    np.testing.assert_array_equal(found.mean, 1)
    np.testing.assert_array_equal(found.sd, 0)
    log_likelihood = np.log(lag_likelihoods(task, contexts)[..., 0]).cumsum(axis=1)
    np.testing.assert_allclose(found.log_evidence[:, 1:], log_likelihood, rtol=1e-14)


# ------------------------------------------------------------------------------------------- the urn in 80-bit floats


@functools.lru_cache(maxsize=1)
def urn_states(n, m):
    """All (c_1, .., c_{m-1}) of sum ≤ n, by sum, (m-1, states); and for each lag g < m, which state c + e_g is."""
    total = functools.reduce(np.add.outer, [np.arange(n + 1)] * (m - 1))
    inside = np.flatnonzero(total <= n)
    order = inside[np.argsort(total.ravel()[inside], kind="stable")]
    place = np.empty(total.size, dtype=int)
    place[order] = np.arange(len(order))
    can_grow = order[: math.comb(n + m - 2, m - 1)]
    after = [place[can_grow + (n + 1) ** (m - 2 - g)] for g in range(m - 1)]
    return np.stack(np.unravel_index(order, total.shape)).astype(EXTENDED), after


def urn(x, alpha):
    """Pólya-urn filter (docs/mathematics.md, section 2) of x (B, n, m), all prefixes: E[λ], E[λ²], log Z; 80 bits."""
    _, n, m = x.shape
    alpha, x = EXTENDED(alpha), x.astype(EXTENDED).transpose(1, 2, 0)
    states, after = urn_states(n, m)
    size = [math.comb(s + m - 1, m - 1) for s in range(n + 1)]  # states that are possible after s steps come first
    mass, mean, square, evidence = np.ones((1, x.shape[2]), EXTENDED), [], [], []
    for s in range(n + 1):
        counts, total = states[:, : size[s]], m * alpha + s
        evidence.append(mass.sum(axis=0))
        grown = np.zeros((size[s + 1] if s < n else 0, x.shape[2]), EXTENDED)
        first, second = [], []
        for g in range(m):
            a = (alpha + (counts[g] if g < m - 1 else s - counts.sum(axis=0)))[:, None]
            share = mass * a
            first.append(share.sum(axis=0) / (total * evidence[-1]))
            second.append((share * (a + 1)).sum(axis=0) / (total * (total + 1) * evidence[-1]))
            if s < n:
                share *= x[s, g] / total
                grown[after[g][: size[s]] if g < m - 1 else slice(size[s])] += share
        mean.append(first)
        square.append(second)
        mass = grown
    return *(np.moveaxis(np.array(moment), -1, 0) for moment in (mean, square)), np.log(np.array(evidence).T)


def matrices(rng, q):
    """Transition matrices from nearly uninformative to nearly deterministic."""
    near = 1 / q + 1e-3 / q * rng.uniform(-1, 1, (q, q))
    nearer = 1 / q + 1e-6 / q * rng.uniform(-1, 1, (q, q))
    sharp = np.full((q, q), 0.001 / (q - 1))
    sharp[np.arange(q), rng.permutation(q)] = 0.999
    uneven = 0.9999 * rng.dirichlet(np.full(q, 0.2), q) + 0.0001 / q
    candidates = (near, nearer, sharp, rng.dirichlet(np.ones(q), q), uneven)
    return [matrix / matrix.sum(axis=1, keepdims=True) for matrix in candidates]


def sequences(rng, task, length):
    """From the model, constant, alternating, cycling through the states, uniformly random."""
    q, t = task.n_states, np.arange(length)
    return np.array([drawn(rng, task, length), 0 * t + rng.integers(q), t % 2, t % q, rng.integers(q, size=length)])


def calibration(m, alpha, length, states, n_sequences):
    """Estimate over true error for every matrix and sequence of a cell. Checks the sd on the way."""
    rng = np.random.default_rng([m, length, int(10 * alpha)])
    ratios = []
    for q in states:
        for matrix in matrices(rng, q):
            task = MTD("cell", matrix, m, alpha)
            contexts = sequences(rng, task, length)[:n_sequences]
            found = every_prefix(task, contexts)
            mean, square, log_evidence = urn(lag_likelihoods(task, contexts), alpha)
            np.testing.assert_allclose(found.sd**2, (square - mean**2).astype(float), rtol=0, atol=2e-14)
            ratios.append(found.error / true_error(found, mean, log_evidence))
    return np.concatenate(ratios)


def report(m, length, alpha, ratios):
    """A row of the table in docs/exact_gold.md (`pytest -s` shows it)."""
    print(f"\nm={m} T={length} alpha={alpha:g}: {len(ratios)} sequences, {ratios.min():.2g} .. {ratios.max():.2g}")


FAST = [(2, 16), (2, 64), (3, 16), (3, 64), (4, 16)]
SLOW = [(2, 128), (2, 256), (4, 32), (3, 128), (3, 256), (4, 64), (4, 128)]


@needs_extended
@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
@pytest.mark.parametrize(("m", "length"), [*FAST, *(pytest.param(*cell, marks=pytest.mark.slow) for cell in SLOW)])
def test_error_estimate_bounds_the_error_within_a_hundredfold(m, length, alpha):
    states = (2, 5) if length < 128 or m == 2 else (3,)
    ratios = calibration(m, alpha, length, states, n_sequences=5 if (m, length) != (4, 128) else 2)
    report(m, length, alpha, ratios)
    assert ratios.min() > 1
    assert ratios.max() < 100


@needs_extended
@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_error_estimate_at_order_4_and_length_256(alpha):
    """The urn has 2.7 million states here: one matrix, one sequence."""
    rng = np.random.default_rng(int(10 * alpha))
    task = MTD("large", rng.dirichlet(np.ones(5), 5), 4, alpha)
    contexts = sequences(rng, task, 256)[:1]
    found = every_prefix(task, contexts)
    mean, _, log_evidence = urn(lag_likelihoods(task, contexts), alpha)
    ratios = found.error / true_error(found, mean, log_evidence)
    report(4, 256, alpha, ratios)
    assert ratios.min() > 1
    assert ratios.max() < 100


def test_core_tasks_are_exact_to_1e12(core_task):
    found = Exact().posterior(core_task, core_contexts(core_task, 128, 32))
    assert found.error.max() < 1e-12


# ------------------------------------------------------------------------------------- what holds for every sequence


@pytest.mark.parametrize("tolerance", [1e-6, MAX_TOLERANCE])
def test_a_tolerance_is_kept_and_its_bound_holds(core_task, tolerance):
    contexts = core_contexts(core_task, 70, 40)
    truth, posterior = every_prefix(core_task, contexts), Exact(tolerance=tolerance).posterior(core_task, contexts)
    loose = Exact(tolerance=tolerance).posterior(core_task, contexts, lengths=truth.lengths)
    error = true_error(loose, truth.mean, truth.log_evidence)
    assert (error <= loose.error).all()
    assert error.max() < tolerance
    assert (loose.error > truth.error).any()  # it has stopped earlier
    np.testing.assert_array_equal(loose.mean[:, -1], posterior.mean[:, 0])
    np.testing.assert_array_equal(Exact(tolerance=1e-17).posterior(core_task, contexts).mean[:, 0], truth.mean[:, -1])


@pytest.mark.parametrize(
    ("order", "length", "alpha"),
    [
        (3, 64, 0.3),
        (4, 64, 1.0),
        pytest.param(4, 128, 5.0, marks=pytest.mark.slow),
        pytest.param(5, 40, 1.0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("tolerance", [1e-6, 1e-9])
def test_the_bound_of_a_tolerance_holds_on_adversarial_sequences_too(order, length, alpha, tolerance):
    rng = np.random.default_rng(order)
    for rows in (1.0, 0.3):
        task = MTD("random", rng.dirichlet(np.full(5, rows), size=5), order, alpha, lengths=(length,))
        cycle = np.resize(np.arange(5), (1, length))
        drawn = sample(task, length, 8, seed=0).contexts
        contexts = np.concatenate([drawn, rng.integers(5, size=(8, length)), cycle, np.zeros_like(cycle)])
        lengths = range(order, length + 1)
        truth = Exact().posterior(task, contexts, lengths)
        loose = Exact(tolerance=tolerance).posterior(task, contexts, lengths)
        error = true_error(loose, truth.mean, truth.log_evidence)
        assert (error <= loose.error).all()
        assert loose.error.max() <= tolerance + 1e-13


@pytest.mark.parametrize("order", [7, 8])
def test_a_tolerance_reaches_orders_that_rounding_does_not(order):
    """Against the urn at T = 16; at T = 64 it is allowed."""
    rng = np.random.default_rng(order)
    task = MTD("random", rng.dirichlet(np.ones(4), size=4), order, lengths=(16,))
    contexts = sample(task, 16, 2, seed=0).contexts
    loose = build_baseline("exact:tolerance=1e-9")
    a, b = (f.posterior(task, contexts, [order, 12, 16]) for f in (loose, baselines.Urn()))
    np.testing.assert_allclose(a.mean, b.mean, rtol=0, atol=1e-9)
    assert (np.abs(a.mean - b.mean).max(axis=(1, 2)) <= a.error + b.error).all()
    loose.check(task, 64)
    if order == 8:
        with pytest.raises(InputError, match="With exact:tolerance=1e-9 more do"):
            Exact().check(task, 64)


@pytest.mark.parametrize("order", [7, pytest.param(8, marks=pytest.mark.slow)])
def test_high_orders_reach_the_tolerance_and_another_grid_agrees(order):
    """At T = 64, beyond the urn: the lags in another order are another grid, with the same integrals."""
    rng = np.random.default_rng(order)
    task = MTD("random", rng.dirichlet(np.ones(5), size=5), order, lengths=(64,))
    x = lag_likelihoods(task, drawn(rng, task, 64)[None])
    steps, both = np.array([64 - order]), (x, np.ascontiguousarray(x[..., ::-1]))
    with ThreadPoolExecutor(2) as workers:
        one, other = (_climb(y, 1.0, steps, 1e-9, workers, lambda _: None) for y in both)
    assert max(one[2].max(), other[2].max()) <= 1e-9 + 1e-13
    np.testing.assert_allclose(one[0][..., :order], other[0][..., order - 1 :: -1], rtol=0, atol=(one[2] + other[2])[0])


def test_a_tolerance_that_takes_too_long_names_the_sequence(monkeypatch):
    quadrature = sys.modules["mdbench.baselines.exact"]
    task = load_task("mtd-q3-m2")
    contexts = np.zeros((7, 64), int)  # three rules are enough for these
    contexts[6] = np.random.default_rng(0).integers(3, size=64)
    monkeypatch.setattr(quadrature, "MAX_WORK", 62 * 11)
    monkeypatch.setattr(quadrature, "PORTION", 4)
    with pytest.raises(SequenceError, match=r"sequence 7: .* for a tolerance of 1e-12; give a larger one"):
        Exact(tolerance=1e-12).posterior(task, contexts)


@pytest.mark.parametrize("tolerance", [-1e-9, 1e-3, math.nan])
def test_no_tolerance_is_too_large(tolerance):
    with pytest.raises(InputError, match=r"tolerance must be from 0 to 0\.0001, not"):
        Exact(tolerance=tolerance).posterior(load_task("mtd-q3-m2"), np.zeros((1, 16), int))


def test_evidence_is_within_the_bound_of_the_best_weights(core_task):
    """At α = 1, log Z ≤ max_λ ℓ(λ) ≤ log Z + log C(n+m-1, m-1); λ by EM, so ℓ(λ) is slightly below its maximum."""
    contexts = core_contexts(core_task, 96, 64)
    found = every_prefix(core_task, contexts)
    x, m = lag_likelihoods(core_task, contexts), core_task.order
    for n in (1, 10, 92 - m):
        weights = np.full((len(x), 1, m), 1 / m)
        for _ in range(2000):
            joint = weights * x[:, :n]
            weights = (joint / joint.sum(axis=-1, keepdims=True)).mean(axis=1, keepdims=True)
        log_likelihood = np.log((weights * x[:, :n]).sum(axis=-1)).sum(axis=1)
        gap = log_likelihood - found.log_evidence[:, n]
        assert (gap <= math.log(math.comb(n + m - 1, m - 1)) + 1e-12).all()
        assert (gap > -1e-3).all()


def test_every_prefix_is_the_posterior_of_that_prefix(core_task):
    contexts, m = core_contexts(core_task, 40, 8), core_task.order
    whole = every_prefix(core_task, contexts)
    np.testing.assert_allclose(whole.mean[:, 0], 1 / m, rtol=0)
    np.testing.assert_allclose(whole.sd[:, 0] ** 2, (m - 1) / (m**2 * (m + 1)), rtol=1e-14)
    np.testing.assert_array_equal(whole.log_evidence[:, 0], 0)
    for length in (m + 1, 17, 39):
        alone, k = Exact().posterior(core_task, contexts[:, :length]), length - m
        bound = (alone.error + whole.error)[:, None]
        assert (np.abs(alone.mean[:, 0] - whole.mean[:, k]) <= bound).all()
        assert (np.abs(alone.sd[:, 0] - whole.sd[:, k]) <= 1e-13).all()
        scale = 1 + np.abs(whole.log_evidence[:, k])
        assert (np.abs(alone.log_evidence[:, 0] - whole.log_evidence[:, k]) <= bound[:, 0] * scale).all()


def test_names_of_states_do_not_matter(core_task):
    contexts = core_contexts(core_task, 30, 8)
    order = np.random.default_rng(0).permutation(core_task.n_states)
    same(
        Exact().posterior(core_task, contexts),
        Exact().posterior(core_task.relabelled(order), np.argsort(order)[contexts]),
    )


def test_no_result_depends_on_the_batch_its_order_or_the_workers(core_task, monkeypatch):
    contexts = core_contexts(core_task, 70, 70)
    together = every_prefix(core_task, contexts)
    order = np.random.default_rng(0).permutation(70)
    same(every_prefix(core_task, contexts[order]), together, order)
    same(every_prefix(core_task, contexts[7:8]), together, slice(7, 8))
    same(every_prefix(core_task, np.repeat(contexts[40:43], 30, axis=0)), together, np.repeat([40, 41, 42], 30))
    monkeypatch.setattr(sys.modules[_climb.__module__], "n_cores", lambda: 5)
    same(every_prefix(core_task, contexts), together)


def same(posterior, expected, rows=slice(None)):
    """Equal bit for bit."""
    for field in ("mean", "sd", "log_evidence", "error"):
        np.testing.assert_array_equal(getattr(posterior, field), getattr(expected, field)[rows])


def test_lengths_select_prefixes_and_change_nothing(core_task):
    contexts = core_contexts(core_task, 40, 8)
    some, every = Exact().posterior(core_task, contexts, lengths=[40, 16]), every_prefix(core_task, contexts)
    assert some.lengths == (16, 40)
    at = [16 - core_task.order, 40 - core_task.order]
    np.testing.assert_array_equal(some.mean, every.mean[:, at])
    np.testing.assert_array_equal(some.sd, every.sd[:, at])
    np.testing.assert_array_equal(some.log_evidence, every.log_evidence[:, at])
    np.testing.assert_array_equal(some.error, every.error)


def test_progress_counts_every_sequence_once(core_task):
    finished = []
    Exact().posterior(core_task, core_contexts(core_task, 60, 70), progress=finished.append)
    assert sum(finished) == 70


# ------------------------------------------------------------------------------------------------------------- errors


def test_the_ladder_ends_at_the_rule_that_is_exact():
    assert _ladder(12) == [8]
    assert _ladder(58) == [12, 17, 24, 31]
    assert _ladder(125) == [17, 24, 34, 48, 64]
    for n in range(1, 300):
        rungs = _ladder(n)
        assert 2 * rungs[-1] - 1 >= n + 2 > 2 * (rungs[-1] - 1) - 1
        assert rungs == sorted(set(rungs))


def test_a_hopeless_grid_is_refused_with_a_length_that_fits():
    task = MTD("wide", np.full((2, 2), 0.5), 7)
    with pytest.raises(InputError, match=r"order 7 and length 200 .* lengths up to (\d+) fit") as caught:
        Exact().posterior(task, np.zeros((1, 200), dtype=int))
    fits = int(str(caught.value).split("lengths up to ")[1].split()[0])
    n = fits - 7
    assert n * _ladder(n)[-1] ** 6 <= MAX_WORK < (n + 1) * _ladder(n + 1)[-1] ** 6
    Exact().check(MTD("long", np.full((2, 2), 0.5), 2), 1_000_000)  # whose rules agree long before the last
    with pytest.raises(InputError, match="no length fits"):
        Exact().posterior(MTD("wider", np.full((2, 2), 0.5), 40, lengths=(50,)), np.zeros((1, 50), dtype=int))


def test_an_impossible_sequence_is_named(zeros_task):
    with pytest.raises(InputError, match=r"sequence 2.* impossible"):
        Exact().posterior(zeros_task, np.array([[0, 0, 1, 1], [0, 0, 0, 2]]))


def test_a_product_out_of_range_is_an_error_and_no_number():
    """Thousands of transitions that favour lag 1, then as many that favour lag 2."""
    x = np.full((1, 8000, 2), 0.01)
    x[0, :4000, 0] = x[0, 4000:, 1] = 0.99

    class InThisThread(Executor):
        map = staticmethod(map)

    with pytest.raises(InputError, match="range of float64"):
        _climb(x, 0.1, np.array([8000]), 0.0, InThisThread(), lambda _: None)


@pytest.mark.parametrize("order", [5, 6])
def test_high_orders_agree_with_the_urn_where_that_fits(order):
    rng = np.random.default_rng(order)
    for concentration in (0.3, 1.0):
        task = MTD("random", rng.dirichlet(np.ones(4), size=4), order, concentration, lengths=(22,))
        contexts = sample(task, 22, 5, seed=0).contexts
        lengths = range(order, 23)
        a, b = (f.posterior(task, contexts, lengths) for f in (Exact(), baselines.Urn()))
        np.testing.assert_allclose(a.mean, b.mean, rtol=0, atol=1e-13)
        np.testing.assert_allclose(a.sd, b.sd, rtol=0, atol=1e-12)
        np.testing.assert_allclose(a.log_evidence, b.log_evidence, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("order", "length"),
    [(5, 64), pytest.param(5, 128, marks=pytest.mark.slow), pytest.param(6, 128, marks=pytest.mark.slow)],
)
def test_the_order_of_the_lags_does_not_matter(order, length):
    """What checks order 6 at T = 128, beyond the urn: another order of the lags is another grid, with the same sums."""
    rng = np.random.default_rng(order)
    task = MTD("random", rng.dirichlet(np.ones(5), size=5), order, lengths=(length,))
    x = lag_likelihoods(task, sample(task, length, 2 if order < 6 else 1, seed=0).contexts)
    back, steps = np.arange(order)[::-1], np.arange(length - order + 1)
    quadrature = sys.modules["mdbench.baselines.exact"]
    with ThreadPoolExecutor(2) as workers:
        both = (x, np.ascontiguousarray(x[..., back]))
        one, other = (quadrature._climb(y, 1.0, steps, 0.0, workers, lambda _: None) for y in both)
    turned = other[0][..., np.concatenate([back, order + back])]
    np.testing.assert_allclose(one[0][..., :order], turned[..., :order], rtol=0, atol=2 * one[2].max())
    np.testing.assert_allclose(one[1], other[1], rtol=2 * one[2].max(), atol=1e-14)


def test_progress_counts_whole_sequences():
    """At which rung of the ladder one ends nobody knows before: from parts, hours were announced for 23 seconds."""
    rng = np.random.default_rng(0)
    task = MTD("random", rng.dirichlet(np.ones(5), size=5), 6, lengths=(40,))
    contexts = sample(task, 40, 2, seed=0).contexts
    told = []
    Exact().posterior(task, contexts, progress=told.append)
    assert sum(told) == 2
    assert all(k == int(k) for k in told)


def test_a_batch_changes_no_bit_at_high_order():
    rng = np.random.default_rng(1)
    task = MTD("random", rng.dirichlet(np.ones(5), size=5), 5, lengths=(30,))
    contexts = sample(task, 30, 6, seed=0).contexts
    whole, alone = Exact().posterior(task, contexts), Exact().posterior(task, contexts[4:5])
    np.testing.assert_array_equal(whole.mean[4:5], alone.mean)
