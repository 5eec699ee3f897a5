"""Atoms, context trees and hidden Markov models: gold against brute force, models against gold, what does not fit."""

import functools
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from numpyro.contrib.funsor import config_enumerate, enum
from numpyro.contrib.funsor import infer_util as funsor_util
from numpyro.infer.util import log_density

import mdbench
from mdbench.core.errors import InputError, SequenceError
from mdbench.evaluation.gold import gold_predictive
from mdbench.tasks import HMM, MTD, Atoms, ContextTree, Markov, load_task, sample

ROOT = Path(__file__).parents[2]
WORLDS = ROOT / "examples" / "worlds"
RNG = np.random.default_rng(5)
MATRIX = RNG.dirichlet(np.ones(3), 3)
ATOMS = Atoms("atoms", 2, MATRIX, atoms=[[1, 0], [0.3, 0.7], [0.6, 0.4]], atom_probs=[0.5, 0.2, 0.3])
ONE_HOT = Atoms("one-hot", 3, MATRIX, one_hot=True)
MODELS = [
    {"initial": [0.5, 0.5], "transition": [[0.9, 0.1], [0.2, 0.8]], "emission": [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]},
    {"initial": [0.2, 0.3, 0.5], "transition": MATRIX.tolist(), "emission": RNG.dirichlet(np.ones(3), 3).tolist()},
]
TWO = HMM("two", models=MODELS, model_probs=[0.3, 0.7])
ONE = HMM("one", **MODELS[1])


def gold(task, contexts):
    return gold_predictive(task, np.asarray(contexts), [np.shape(contexts)[1]]).probs[:, 0]


# --------------------------------------------------------------------------------------------------------- atoms


def evidence_of_lags(task, weights, tokens):
    """The sum over every path of lags, token by token."""
    m, total = task.order, 0.0
    for lags in itertools.product(range(m), repeat=len(tokens) - m):
        product = 1.0
        for t, g in enumerate(lags, start=m):
            product *= weights[g] * task.transition[tokens[t - 1 - g], tokens[t]]
        total += product
    return total


@pytest.mark.parametrize("task", [ATOMS, ONE_HOT], ids=lambda task: task.name)
def test_gold_of_atoms_is_the_quotient_of_sums_over_all_atoms_and_lags(task):
    atoms, probs = task.support
    for tokens in ([0, 2, 1, 1, 0, 2], [1, 1, 2, 0, 0, 0]):

        def joint(sequence):
            return sum(p * evidence_of_lags(task, a, sequence) for p, a in zip(probs, atoms, strict=True))

        expected = [joint([*tokens, b]) / joint(tokens) for b in range(3)]
        np.testing.assert_allclose(gold(task, [tokens])[0], expected, rtol=1e-12)


def test_one_atom_leaves_nothing_to_infer():
    task = Atoms("one", 2, MATRIX, atoms=[[0.3, 0.7]])
    drawn = sample(task, 12, 20, 0)
    np.testing.assert_allclose(gold(task, drawn.contexts), task.truth(drawn.theta, drawn.contexts), rtol=1e-12)


def test_many_atoms_are_the_dirichlet_that_they_were_drawn_from():
    """The distance falls as one over their number: KL between two mixtures whose weights differ by chance."""
    contexts = sample(MTD("mtd", MATRIX, 2), 16, 64, 1).contexts
    apart = []
    for n_atoms in (64, 16_384):
        task = Atoms("drawn", 2, MATRIX, n_atoms=n_atoms, atom_seed=3)
        limit = gold(task.dirichlet, contexts)
        apart.append((limit * np.log(limit / gold(task, contexts))).sum(axis=1).mean())
    assert apart[1] < 1e-5
    assert apart[1] < apart[0] / 10


def test_the_numbers_of_drawn_atoms_are_the_task():
    drawn = Atoms("a", 2, MATRIX, n_atoms=5, atom_seed=3)
    again = Atoms("b", 2, MATRIX, atoms=drawn.atoms, concentration=1.0)
    assert drawn.task_hash == again.task_hash
    assert drawn.task_hash != Atoms("a", 2, MATRIX, n_atoms=5, atom_seed=4).task_hash
    assert Atoms("h", 2, MATRIX, one_hot=True).task_hash == Atoms("e", 2, MATRIX, atoms=np.eye(2)).task_hash


def test_enumeration_of_the_numpyro_model_has_the_evidence_of_gold():
    """Log p(y) by funsor, with atom and lags enumerated, against the sums."""
    tokens = np.array([0, 2, 1, 1, 0, 2])
    atoms, probs = ATOMS.support
    by_hand = math.log(sum(p * evidence_of_lags(ATOMS, a, tokens) for p, a in zip(probs, atoms, strict=True)) / 9)
    model = enum(config_enumerate(functools.partial(ATOMS.lags, jnp.asarray(tokens))), first_available_dim=-2)
    found, _ = funsor_util.log_density(model, (), {}, {})
    assert float(found) == pytest.approx(by_hand, rel=1e-9)


# --------------------------------------------------------------------------------------------------- context trees


def trees(q, depth, node=()):
    """Every tree below a node, as the set of its leaves with its prior odds (stop or go)."""
    if len(node) == depth:
        yield (node,), 1.0
        return
    yield (node,), "stop"
    for parts in itertools.product(*(list(trees(q, depth, (a, *node))) for a in range(q))):
        yield tuple(leaf for leaves, _ in parts for leaf in leaves), [odds for _, odds in parts]


def probability(odds, beta):
    if odds == "stop":
        return beta
    return 1.0 if odds == 1.0 else (1 - beta) * math.prod(probability(each, beta) for each in odds)


def evidence_of_leaves(leaves, tokens, q, depth, alpha):
    """Token by token: each leaf's row is a Pólya urn."""
    counts, product = {leaf: np.zeros(q) for leaf in leaves}, 1.0
    for t in range(depth, len(tokens)):
        leaf = next(leaf for leaf in leaves if tuple(tokens[t - len(leaf) : t]) == leaf)
        seen = counts[leaf]
        product *= (seen[tokens[t]] + alpha) / (seen.sum() + q * alpha)
        seen[tokens[t]] += 1
    return product


@pytest.mark.parametrize(("q", "depth"), [(2, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("beta", [0.2, 0.5])
def test_gold_of_context_trees_is_the_sum_over_all_trees(q, depth, beta):
    task, rng = ContextTree("tree", q, depth, 0.7, beta), np.random.default_rng(q)
    every = [(leaves, probability(odds, beta)) for leaves, odds in trees(q, depth)]
    assert sum(p for _, p in every) == pytest.approx(1, rel=1e-12)
    for tokens in rng.integers(q, size=(3, 9)).tolist():

        def joint(sequence):
            return sum(p * evidence_of_leaves(leaves, sequence, q, depth, 0.7) for leaves, p in every)

        expected = [joint([*tokens, b]) / joint(tokens) for b in range(q)]
        np.testing.assert_allclose(gold(task, [tokens])[0], expected, rtol=1e-11)


def test_a_tree_that_never_stops_is_a_markov_chain_and_one_that_does_has_no_memory():
    contexts = np.random.default_rng(1).integers(3, size=(9, 20))
    full = gold(ContextTree("full", 3, 2, 0.7, 0.0), contexts)
    np.testing.assert_allclose(full, gold(Markov("chain", 3, 2, 0.7), contexts), rtol=1e-12)
    counts = (contexts[:, 2:, None] == np.arange(3)).sum(axis=1)
    root = gold(ContextTree("root", 3, 2, 0.7, 1.0), contexts)
    np.testing.assert_allclose(root, (counts + 0.7) / (18 + 2.1), rtol=1e-12)


def test_rows_of_a_context_are_those_of_its_shallowest_leaf():
    task = ContextTree("tree", 2, 2)
    rows = np.arange(14).reshape(7, 2)  # root; 0, 1; 00, 01, 10, 11
    for stop, expected in (((1, 0, 0), [0, 0, 0, 0]), ((0, 0, 0), [3, 4, 5, 6]), ((0, 1, 0), [1, 4, 1, 6])):
        resolved = np.asarray(task._resolved(jnp.asarray(stop), jnp.asarray(rows)))
        np.testing.assert_array_equal(resolved, rows[expected])


# --------------------------------------------------------------------------------------------- hidden Markov models


def evidence_of_paths(model, tokens):
    """The sum over every hidden path."""
    initial, transition, emission = (np.asarray(model[part]) for part in ("initial", "transition", "emission"))
    total = 0.0
    for path in itertools.product(range(len(initial)), repeat=len(tokens)):
        product = initial[path[0]] * emission[path[0], tokens[0]]
        for t in range(1, len(tokens)):
            product *= transition[path[t - 1], path[t]] * emission[path[t], tokens[t]]
        total += product
    return total


@pytest.mark.parametrize("task", [ONE, TWO], ids=lambda task: task.name)
def test_gold_of_hidden_markov_models_is_the_quotient_of_sums_over_all_paths(task):
    models, probs = ([MODELS[1]], [1.0]) if task is ONE else (MODELS, [0.3, 0.7])
    for tokens in ([2], [0, 2, 1, 1, 0, 2]):

        def joint(sequence):
            return sum(p * evidence_of_paths(model, sequence) for p, model in zip(probs, models, strict=True))

        expected = [joint([*tokens, b]) / joint(tokens) for b in range(3)]
        np.testing.assert_allclose(gold(task, [tokens])[0], expected, rtol=1e-12)


def test_the_numpyro_model_of_several_has_the_evidence_of_each():
    tokens = np.array([0, 2, 1, 1, 0, 2])
    for k, model in enumerate(MODELS):
        with handlers.seed(rng_seed=0):
            found, _ = log_density(TWO.model, (jnp.asarray(tokens),), {}, {"number": jnp.asarray(k)})
        expected = math.log([0.3, 0.7][k] * evidence_of_paths(model, tokens))
        assert float(found) == pytest.approx(expected, rel=1e-12)


def test_truth_of_one_model_knows_the_hidden_state():
    contexts = sample(ONE, 9, 30, 2)
    _, transition, emission = ONE.matrices
    hidden = contexts.theta[:, 8].astype(int)
    np.testing.assert_allclose(contexts.next_probs, transition[0][hidden] @ emission[0])
    # The path was drawn from the chain: how often each state follows each.
    drawn = sample(ONE, 9, 4000, 2)
    pairs = np.zeros((3, 3))
    np.add.at(pairs, tuple(drawn.theta[:, 4:6].astype(int).T), 1)
    observed = pairs / pairs.sum(axis=1, keepdims=True)
    error = np.sqrt(transition[0] * (1 - transition[0]) / pairs.sum(axis=1, keepdims=True))
    assert (np.abs(observed - transition[0]) < 4.5 * error).all()


def test_a_model_that_cannot_emit_a_token_is_out():
    never = {"initial": [1.0], "transition": [[1.0]], "emission": [[0.5, 0.5, 0.0]]}
    task = HMM("out", models=[never, MODELS[0]])
    alone = HMM("alone", **MODELS[0])
    contexts = np.array([[0, 1, 2, 0, 0]])
    np.testing.assert_allclose(gold(task, contexts), gold(alone, contexts), rtol=1e-12)
    with pytest.raises(SequenceError, match="probability 0"):
        gold(HMM("never", **never), contexts)


def test_scan_and_draws_are_the_same_for_every_batch():
    for task in (ATOMS, ContextTree("tree", 3, 2), TWO):
        whole, part = sample(task, 12, 30, 4), sample(task, 12, 5, 4, start=20)
        np.testing.assert_array_equal(whole.tokens[20:25], part.tokens)
        np.testing.assert_array_equal(whole.theta[20:25], part.theta)
    assert jax.config.jax_enable_x64


# ----------------------------------------------------------------------------------------------- what does not fit


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('model = "atoms"\norder = 2\ntransition = [[0.5, 0.5], [0.2, 0.8]]', "by one of one_hot = true, atoms, or n_"),
        ('model = "atoms"\norder = 2\ntransition = [[0.5, 0.5], [0.2, 0.8]]\none_hot = true\nn_atoms = 3', "by one of"),
        ('model = "atoms"\norder = 2\ntransition = [[0.5, 0.5], [0.2, 0.8]]\none_hot = 1', "one_hot must be true or"),
        ('model = "atoms"\norder = 2\ntransition = [[0.5, 0.5], [0.2, 0.8]]\natoms = [[1.0]]', "rows of 2 weights"),
        ('model = "atoms"\norder = 2\ntransition = [[0.5, 0.5], [0.2, 0.8]]\natoms = [[0.9, 0.2]]', "row 1 of atoms"),
        ('model = "atoms"\norder = 2\ntransition = [[0.5, 0.5], [0.2, 0.8]]\nn_atoms = 0', "n_atoms must be a whole"),
        (
            'model = "atoms"\norder = 2\ntransition = [[0.5, 0.5], [0.2, 0.8]]\none_hot = true\natom_probs = [1.0]',
            "1 numbers for 2 atoms",
        ),
        ('model = "context_tree"\nn_states = 3\ndepth = 0', "depth must be a whole number"),
        ('model = "context_tree"\nn_states = 10\ndepth = 9', "10000 are the most"),
        ('model = "context_tree"\nn_states = 3\ndepth = 2\nstop = 1.5', "stop must be a probability"),
        ('model = "hmm"\ninitial = [1.0]\ntransition = [[1.0]]', "there is no 'emission'"),
        ('model = "hmm"\nmodels = []', "models is empty"),
        ('model = "hmm"\nmodels = [{initial = [1.0]}]', "model 1 must be a table"),
        (
            'model = "hmm"\ninitial = [0.5, 0.5]\ntransition = [[1.0]]\nemission = [[0.5, 0.5], [1, 0]]',
            "transition must have 2 rows of 2 numbers",
        ),
        (
            'model = "hmm"\ninitial = [0.5, 0.4]\ntransition = [[1, 0], [0, 1]]\nemission = [[0.5, 0.5], [1, 0]]',
            "initial sums to 0.9",
        ),
    ],
)
def test_bad_files_are_said_in_a_sentence(text, said, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=said.replace("[", r"\[")):
        load_task(path)


def test_atoms_that_were_not_drawn_have_no_dirichlet():
    with pytest.raises(InputError, match="were not drawn from a Dirichlet"):
        _ = ONE_HOT.dirichlet


@pytest.mark.parametrize("path", sorted(WORLDS.glob("*.toml")), ids=lambda path: path.stem)
def test_worlds_of_the_examples_are_worlds_for_the_small_task(path):
    world, task = load_task(path), load_task("mtd-q5-m3")
    found = mdbench.evaluate(
        ["bayes", "add_constant", "ctw"], task=task, world=world, lengths=[8], n_sequences=16, references=()
    )
    assert len(found.results) == 3
    assert all(0 <= result.excess_kl < 3 for result in found.results)


@pytest.mark.parametrize("task", [ATOMS, ContextTree("tree", 3, 2), TWO, ONE], ids=lambda task: task.name)
@pytest.mark.parametrize("method", ["nuts", "vi_logistic_normal"])
def test_what_follows_gradients_says_that_there_are_none(method, task):
    with pytest.raises(InputError, match="follows gradients, and θ of"):
        mdbench.evaluate(method, task=task, lengths=[8], n_sequences=4, references=())
