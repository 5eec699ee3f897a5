"""Predictors for one task on sequences of another: scores are those of the two put together by hand."""

import dataclasses

import numpy as np
import pytest

import mdbench
from mdbench.core import metrics
from mdbench.core.errors import InputError
from mdbench.evaluation.gold import gold_predictive
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import Atoms, ContextTree, evaluation_sequences, load_task

TASK = load_task("mtd-q3-m2")
SPARSE = dataclasses.replace(TASK, name="sparse", concentration=0.2)
ONE_HOT = Atoms("one-hot", 2, TASK.transition, one_hot=True)
TREE = ContextTree("tree", 3, 3)
N, LENGTH = 64, 16


@pytest.mark.parametrize("world", [SPARSE, ONE_HOT, TREE], ids=lambda world: world.name)
def test_scores_of_a_shift(world):
    found = mdbench.evaluate(["md1", "bayes"], task=TASK, world=world, lengths=[LENGTH], n_sequences=N, references=())
    drawn = evaluation_sequences(world, LENGTH, N, 0)
    contexts = drawn.tokens[:, :-1].astype(np.int64)
    gold = gold_predictive(world, contexts, [LENGTH]).probs[:, 0]
    truth = world.truth(drawn.theta, contexts)
    for result in found.results:
        probs = build_predictor(result.predictor, TASK).predict(contexts)
        assert result.task == f"mtd-q3-m2 on {world.name}"
        assert result.excess_kl == pytest.approx(metrics.kl(gold, probs).mean(), rel=1e-9)
        assert result.kl == pytest.approx(metrics.kl(truth, probs).mean(), rel=1e-9)
        assert result.excess_kl > 1e-4  # the price of the wrong model


def test_a_task_on_itself_is_no_shift():
    options = {"task": TASK, "lengths": [LENGTH], "n_sequences": N}
    plain = mdbench.evaluate("md1", **options)
    same = mdbench.evaluate("md1", world=dataclasses.replace(TASK, name="copy"), **options)
    for a, b in zip(plain.results, same.results, strict=True):
        assert dataclasses.replace(a, seconds=0) == dataclasses.replace(b, seconds=0)


def test_the_right_model_is_at_gold_in_its_own_world():
    found = mdbench.evaluate("bayes", task=SPARSE, world=TASK, lengths=[LENGTH], n_sequences=N, references=())
    assert found.results[0].excess_kl > 1e-3
    found = mdbench.evaluate("bayes", task=SPARSE, world=SPARSE, lengths=[LENGTH], n_sequences=N, references=())
    assert found.results[0].at_gold


def test_what_does_not_fit(run):
    with pytest.raises(InputError, match="has 3 states, and the world 'mtd-q5-m3' 5"):
        mdbench.evaluate("md1", task=TASK, world="mtd-q5-m3")
    with pytest.raises(InputError, match="a world goes with one task"):
        mdbench.evaluate("md1", suite="core", world=TASK)
    with pytest.raises(InputError, match="told θ of 'mtd-q3-m2'"):
        mdbench.evaluate("oracle", task=TASK, world=SPARSE, lengths=[LENGTH], references=())
    with pytest.raises(InputError, match="at least order"):
        mdbench.evaluate("md1", task=TASK, world=TREE, lengths=[3])
    ran = run("evaluate", "--predictor", "md1", "--task", "mtd-q3-m2", "--world", "mtd-q3-m2", "--record")
    assert ran.code == 2
    assert "records are of a task's own sequences" in ran.err
