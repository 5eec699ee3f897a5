"""`pytest`, with the package installed."""

import numpy as np
import pytest
from online_eg import OnlineEg

import mdbench


def test_it_keeps_the_contract():
    checks = {c.name: c for c in mdbench.check("online_eg", "mtd-q5-m3", [16])}
    assert [c for c in checks.values() if c.verdict == "fail"] == []
    assert checks["predict_all"].verdict == checks["relabelling"].verdict == "pass"


def test_with_one_transition_it_is_one_step_of_mirror_descent():
    task = mdbench.load_task("mtd-q3-m2")
    contexts = np.array([[0, 1, 2], [2, 2, 1], [1, 0, 0]])
    (x,) = np.moveaxis([[[task.transition[c[1], c[2]], task.transition[c[0], c[2]]] for c in contexts]], 0, 0)
    weights = np.exp(0.3 * 2 * x / x.sum(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    expected = weights[:, :1] * task.transition[contexts[:, 2]] + weights[:, 1:] * task.transition[contexts[:, 1]]
    np.testing.assert_allclose(OnlineEg(task, eta=0.3).predict(contexts), expected, rtol=1e-12)


def test_it_is_better_than_ignoring_the_context():
    found = mdbench.evaluate("online_eg", task="mtd-q5-m3", lengths=[64], n_sequences=256, references=["uniform"])
    excess = {r.predictor: r.excess_kl for r in found.results}
    assert excess["online_eg"] < 0.5 * excess["uniform"]


@pytest.mark.parametrize("eta", [0, -1, "much", float("inf"), True])
def test_a_bad_step_size_is_a_sentence(eta):
    with pytest.raises(mdbench.InputError, match="eta must be a positive number"):
        OnlineEg(mdbench.load_task("mtd-q3-m2"), eta)
