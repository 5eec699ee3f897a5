"""What holds for every family of tasks: draws come from the model, and gold is its posterior predictive."""

import json

import numpy as np
import pytest
from scipy import stats

import mdbench
from mdbench.evaluation.contract import check
from mdbench.evaluation.gold import gold_predictive
from mdbench.tasks import (
    HMM,
    MTD,
    Atoms,
    ContextTree,
    Markov,
    PerLag,
    Recorded,
    UnknownMatrix,
    sample,
    task_from_json,
    task_to_json,
)
from mdbench.tasks.catalogue import FAMILIES

TRANSITIONS = np.random.default_rng(0).dirichlet(np.ones(3), (2, 3))
HIDDEN = np.random.default_rng(1).dirichlet(np.ones(3), (4, 3))
TASKS = [
    MTD("mtd", TRANSITIONS[0], 2, 0.7, lengths=(8,)),
    PerLag("per-lag", TRANSITIONS, 0.7, np.array([0.2, 0.5, 0.3]), lengths=(8,)),
    Markov("markov", 3, 2, 0.5, lengths=(8,)),
    Atoms("atoms", 2, TRANSITIONS[0], atoms=[[1, 0], [0.3, 0.7]], lengths=(8,)),
    ContextTree("tree", 3, 2, 0.7, 0.4, lengths=(8,)),
    HMM("path", HIDDEN[0][0], HIDDEN[1], HIDDEN[2], lengths=(8,)),
    HMM("models", [[0.2, 0.3, 0.5]] * 2, [HIDDEN[0], HIDDEN[1]], [HIDDEN[2], HIDDEN[3]], lengths=(8,)),
]
SAMPLED = [UnknownMatrix("unknown", 3, 2, 0.7, 0.8, lengths=(8,))]  # families whose gold is sampled
by_name = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
of_all = pytest.mark.parametrize("task", [*TASKS, *SAMPLED], ids=lambda task: task.name)


def test_every_family_is_here():
    without_truth = {Recorded.family}  # tests/tasks/test_recorded.py
    assert {task.family for task in [*TASKS, *SAMPLED]} | without_truth == set(FAMILIES)


def plain_theta(task, rng):
    """θ from its prior, without NumPyro."""
    if isinstance(task, Atoms):
        atoms, probs = task.support
        return atoms[rng.choice(len(atoms), p=probs)]
    if isinstance(task, UnknownMatrix):
        rows = rng.dirichlet(np.full(3, task.row_concentration), 3)
        return np.concatenate([rng.dirichlet(np.full(task.order, task.concentration)), rows.ravel()])
    shape = task.prior_mean.shape
    rows = rng.dirichlet(np.full(shape[-1], task.concentration), *([shape[0]] if len(shape) == 2 else []))
    if isinstance(task, ContextTree):  # of depth 2: a leaf of depth 0 or 1 gives its row to all below it
        last = np.arange(9) % 3
        for leaf in range(3):
            if rng.random() < task.stop:
                rows[last == leaf] = rng.dirichlet(np.full(3, task.concentration))
        if rng.random() < task.stop:
            rows[:] = rng.dirichlet(np.full(3, task.concentration))
    return rows


def hidden_markov(task, rng, length):
    """Path and tokens, one after the other."""
    k = rng.choice(task.n_components, p=task.model_probs)
    initial, transition, emission = (part[k] for part in task.matrices)
    tokens, state = [], initial
    for _ in range(length):
        hidden = rng.choice(len(state), p=state)
        tokens.append(rng.choice(3, p=emission[hidden]))
        state = transition[hidden]
    return tokens


@of_all
def test_a_draw_comes_from_the_model(task):
    """How often each pair of tokens stands at a place, by two routes: `sample`, and θ and tokens in plain loops."""
    n, length = 4000, 6
    drawn = sample(task, length - 1, n, seed=0)
    rng, plain = np.random.default_rng(0), np.empty((n, length), dtype=int)
    for i in range(n):
        if isinstance(task, HMM):
            plain[i] = hidden_markov(task, rng, length)
            continue
        theta, tokens = plain_theta(task, rng), list(rng.integers(3, size=task.given))
        while len(tokens) < length:
            tokens.append(rng.choice(3, p=task.truth(theta[None], np.array([tokens]))[0]))
        plain[i] = tokens
    for t in range(1, length):
        a, b = (np.bincount(3 * rows[:, t - 1] + rows[:, t], minlength=9) for rows in (drawn.tokens, plain))
        assert stats.chi2_contingency([a, b]).pvalue > 1e-4
    if drawn.theta.shape[1:] == task.prior_mean.shape:  # of a path there is no mean
        np.testing.assert_allclose(drawn.theta.mean(axis=0), task.prior_mean, atol=0.03)
    np.testing.assert_array_equal(drawn.next_probs, task.truth(drawn.theta, drawn.tokens[:, :-1]))
    part = sample(task, length - 1, 5, seed=0, start=7)
    np.testing.assert_array_equal(part.tokens, drawn.tokens[7:12])


@pytest.mark.parametrize(
    "task",
    [*TASKS, *(pytest.param(task, marks=pytest.mark.slow) for task in SAMPLED)],
    ids=lambda task: task.name,
)
def test_gold_is_calibrated(task):
    """In every bin of p_B with many expected hits: 200 of 20,000 sequences, 30 of 400 where gold is sampled."""
    n, least, method = (400, 30, "gibbs:draws=400,thin=2,warmup=50") if task in SAMPLED else (20_000, 200, "exact")
    drawn = sample(task, 8, n, seed=3)
    probs, came = gold_predictive(task, drawn.tokens[:, :-1], [8], method).probs[:, 0], drawn.tokens[:, -1]
    hit = came[:, None] == np.arange(3)
    bins = np.digitize(probs, np.linspace(0, 1, 21))
    looked_at = 0
    for k in range(1, 22):
        inside = bins == k
        expected = probs[inside].sum()
        if expected >= least:
            looked_at += 1
            z = (hit[inside].sum() - expected) / np.sqrt((probs[inside] * (1 - probs[inside])).sum())
            assert abs(z) <= 3.5, (k, z)
    assert looked_at >= 5


@by_name
def test_other_names_of_the_states_change_nothing(task):
    order = np.array([2, 0, 1])
    contexts = np.random.default_rng(2).integers(3, size=(5, 8))
    other = gold_predictive(task.relabelled(order), np.argsort(order)[contexts], [8]).probs[:, 0]
    np.testing.assert_allclose(other, gold_predictive(task, contexts, [8]).probs[:, 0][:, order], atol=1e-14)


@by_name
def test_every_prefix_is_the_gold_of_that_prefix(task):
    contexts = np.random.default_rng(2).integers(3, size=(5, 8))
    whole = gold_predictive(task, contexts, [2, 5, 8])
    for p, length in enumerate((5, 8), start=1):
        np.testing.assert_allclose(
            whole.probs[:, p], gold_predictive(task, contexts[:, :length], [length]).probs[:, 0], atol=1e-14
        )
    if task.given == 2:  # where nothing has been predicted, nothing is known
        np.testing.assert_allclose(whole.probs[:, 0], task.prior_predictive(contexts[:, :2]), atol=1e-14)


@pytest.mark.parametrize(
    "task",
    [*TASKS, *(pytest.param(task, marks=pytest.mark.slow) for task in SAMPLED)],
    ids=lambda task: task.name,
)
def test_default_rows_suit_the_family(task):
    found = mdbench.evaluate("uniform", task=task, n_sequences=4 if task in SAMPLED else 64)
    assert {r.predictor for r in found.results} == set(task.references) | {"uniform"}
    assert not found.skipped
    assert next(r for r in found.results if r.predictor == task.references[0]).at_gold


@pytest.mark.parametrize(
    ("name", "task"),
    [("bayes", task) for task in TASKS] + [("uniform", task) for task in [*TASKS, *SAMPLED]],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_contract_holds(name, task):
    checks = {c.name: c.verdict for c in check(name, task, [8])}
    assert "fail" not in checks.values()
    assert checks["relabelling"] == checks["fresh process"] == "pass"


@of_all
def test_a_process_of_its_own_gets_the_same_task(task):
    again = task_from_json(json.loads(json.dumps(task_to_json(task))))
    assert type(again) is type(task)
    assert again.task_hash == task.task_hash
    assert (again.name, again.lengths) == (task.name, task.lengths)
