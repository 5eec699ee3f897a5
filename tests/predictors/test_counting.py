"""Counting, context-tree weighting, one lag and the induction head: against plain loops and exact models."""

import numpy as np
import pytest

from mdbench.core.errors import InputError, Unsupported
from mdbench.evaluation.gold import gold_predictive
from mdbench.predictors.catalogue import build_predictor
from mdbench.predictors.counting import after_same_context
from mdbench.tasks import MTD, Atoms, ContextTree, Markov, UnknownMatrix, load_task

RNG = np.random.default_rng(3)
Q = 3
CONTEXTS = RNG.integers(Q, size=(12, 20))
CHAIN = Markov("chain", Q, 2, 0.5)
MATRIX = RNG.dirichlet(np.ones(Q), Q)


def counts_of(tokens, order):
    counts = np.zeros(Q)
    last = tuple(tokens[len(tokens) - order :])
    for t in range(order, len(tokens)):
        if tuple(tokens[t - order : t]) == last:
            counts[tokens[t]] += 1
    return counts


@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_counts_are_those_of_a_loop(order):
    expected = np.array([counts_of(tokens.tolist(), order) for tokens in CONTEXTS])
    np.testing.assert_array_equal(after_same_context(CONTEXTS, order, Q), expected)
    np.testing.assert_array_equal(after_same_context(CONTEXTS[:, :3], 5, Q), 0)


def test_adding_the_priors_constant_is_bayes_of_a_chain():
    probs = build_predictor("add_constant:order=2,c=0.5", CHAIN).predict(CONTEXTS)
    np.testing.assert_allclose(probs, gold_predictive(CHAIN, CONTEXTS, [20]).probs[:, 0], rtol=1e-12)


def test_backing_off_is_a_chain_of_priors():
    probs = build_predictor("back_off:order=2,s=2.0", CHAIN).predict(CONTEXTS)
    for tokens, found in zip(CONTEXTS, probs, strict=True):
        expected = np.full(Q, 1 / Q)
        for order in range(3):
            counts = counts_of(tokens.tolist(), order)
            expected = (counts + 2 * expected) / (counts.sum() + 2)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_context_tree_weighting_is_bayes_of_its_own_model_wherever_it_runs():
    tree = ContextTree("tree", Q, 2, 0.7, 0.4)
    probs = build_predictor("ctw:depth=2,c=0.7,stop=0.4", CHAIN).predict(CONTEXTS)
    np.testing.assert_allclose(probs, gold_predictive(tree, CONTEXTS, [20]).probs[:, 0], rtol=1e-12)


def test_one_lag_is_bayes_of_one_hot_weights():
    task, atoms = MTD("mtd", MATRIX, 3), Atoms("one-hot", 3, MATRIX, one_hot=True)
    expected = gold_predictive(atoms, CONTEXTS, [20]).probs[:, 0]
    for world in (task, atoms):
        np.testing.assert_allclose(build_predictor("one_lag", world).predict(CONTEXTS), expected, rtol=1e-12)
    with pytest.raises(InputError, match="needs a mixture over lags"):
        build_predictor("one_lag", CHAIN)


@pytest.mark.parametrize("beta", [0.0, 1.5, 400.0])
def test_the_induction_head_is_its_formula(beta):
    probs = build_predictor(f"induction_head:beta={beta},floor=0.02", CHAIN).predict(CONTEXTS)
    for tokens, found in zip(CONTEXTS, probs, strict=True):
        weights = np.array([np.exp(beta) if before == tokens[-1] else 1.0 for before in tokens[:-1]])
        expected = np.array([weights[tokens[1:] == b].sum() for b in range(Q)]) / weights.sum()
        np.testing.assert_allclose(found, 0.98 * expected + 0.02 / Q, atol=1e-12)


@pytest.mark.wrong_types
def test_bad_options():
    for name, said in (
        ("add_constant:order=-1", "order must be a whole number"),
        ("add_constant:c=0", "c must be a positive number"),
        ("back_off:s=x", "s must be a positive number"),
        ("ctw:depth=0", "depth must be"),
        ("ctw:stop=2", "stop must be a probability"),
        ("induction_head:beta=-1", "beta must be"),
        ("induction_head:floor=0", "floor must be"),
    ):
        with pytest.raises(InputError, match=said):
            build_predictor(name, CHAIN)
    with pytest.raises(InputError, match="at least 2 tokens"):
        build_predictor("induction_head", CHAIN).check_length(1)


def plug_in(tokens, order, rounds, alpha, c):
    """By loops: counts with weights, then the adaptive step, in turn."""
    n = len(tokens) - order
    shares = np.full((n, order), 1 / order)
    for _ in range(rounds):
        matrix = np.full((Q, Q), float(c))
        for t in range(n):
            for g in range(order):
                matrix[tokens[order + t - 1 - g], tokens[order + t]] += shares[t, g]
        matrix /= matrix.sum(axis=1, keepdims=True)
        x = np.array([[matrix[tokens[order + t - 1 - g], tokens[order + t]] for g in range(order)] for t in range(n)])
        d = x / x.sum(axis=1, keepdims=True) - 1 / order
        scale = order * alpha + 1 + order / (order - 1) * (d**2).sum()
        weights = np.exp(order * d.sum(axis=0) / scale)
        weights /= weights.sum()
        shares = weights * x / (x @ weights)[:, None]
    return sum(weights[g] * matrix[tokens[-1 - g]] for g in range(order))


@pytest.mark.parametrize("rounds", [1, 4])
def test_plug_in_is_counts_and_a_step_in_turn(rounds):
    task = UnknownMatrix("unknown", Q, 3, 0.7)
    found = build_predictor(f"plug_in:rounds={rounds},c=0.5", task).predict(CONTEXTS)
    expected = [plug_in(tokens.tolist(), 3, rounds, 0.7, 0.5) for tokens in CONTEXTS]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_plug_in_of_one_lag_counts():
    found = build_predictor("plug_in", MTD("one", MATRIX, 1)).predict(CONTEXTS)
    counting = build_predictor("add_constant:order=1,c=1", Markov("chain", Q, 1)).predict(CONTEXTS)
    np.testing.assert_allclose(found, counting, rtol=1e-12)


def test_plug_in_does_not_look_at_the_matrix():
    known = build_predictor("plug_in", MTD("mtd", MATRIX, 2)).predict(CONTEXTS)
    np.testing.assert_array_equal(known, build_predictor("plug_in", UnknownMatrix("u", Q, 2)).predict(CONTEXTS))
    for text, what in (("plug_in:rounds=0", "rounds"), ("plug_in:c=0", "c")):
        with pytest.raises(InputError, match=f"^{what} must be a"):
            build_predictor(text, MTD("mtd", MATRIX, 2))


def test_dirichlet_is_what_infers():
    """Bayes of the MTD that the atoms were drawn for, or any other predictor for it."""
    mtd, contexts = load_task("mtd-q3-m2"), CONTEXTS[:, :16]
    drawn = Atoms("drawn", 2, mtd.transition, n_atoms=4)
    np.testing.assert_allclose(
        build_predictor("dirichlet", drawn).predict(contexts),
        gold_predictive(mtd, contexts, [16]).probs[:, 0],
        atol=1e-9,
    )
    for name in ("md1", "trained_l3"):
        found = build_predictor(f"dirichlet:predictor={name}", drawn).predict(contexts)
        np.testing.assert_array_equal(found, build_predictor(name, mtd).predict(contexts))
    with pytest.raises(Unsupported, match="were not drawn"):
        build_predictor("dirichlet", Atoms("one", 2, MATRIX, one_hot=True))
    with pytest.raises(InputError, match="no predictor 'mdd1'"):
        build_predictor("dirichlet:predictor=mdd1", drawn)
