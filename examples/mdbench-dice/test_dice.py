"""`pytest`, with the package installed."""

import numpy as np
import pytest
from dice import Dice
from dice_tasks import two_dice

import mdbench
from mdbench.evaluation.gold import gold_predictive
from mdbench.tasks import sample


def test_gold_is_bayes_rule():
    task = two_dice()
    throws = np.array([[2, 2, 0, 1, 2]])
    each = np.prod(task.dice[:, throws[0]], axis=1)
    expected = each @ task.dice / each.sum()
    np.testing.assert_allclose(gold_predictive(task, throws, [5]).probs[0, 0], expected, rtol=1e-12)


def test_it_keeps_the_contract():
    checks = {c.name: c.verdict for c in mdbench.check("bayes", two_dice(), [8])}
    assert "fail" not in checks.values()
    assert checks["relabelling"] == "pass"


def test_draws_come_from_the_dice():
    task = two_dice()
    drawn = sample(task, 20, 4000, seed=0)
    loaded = drawn.theta[:, 1] == 1
    assert abs(loaded.mean() - 0.5) < 0.04
    for which, row in ((~loaded, task.dice[0]), (loaded, task.dice[1])):
        observed = np.bincount(drawn.tokens[which].ravel(), minlength=3) / drawn.tokens[which].size
        np.testing.assert_allclose(observed, row, atol=0.01)


def test_it_has_its_names(tmp_path):
    assert mdbench.load_task("two_dice").task_hash == two_dice().task_hash
    file = tmp_path / "mine.toml"
    file.write_text('model = "dice"\ndice = [[0.5, 0.5], [0.9, 0.1]]\n')
    found = mdbench.evaluate("bayes", task=file, lengths=[8], n_sequences=64)
    assert next(r for r in found.results if r.predictor == "bayes").at_gold


@pytest.mark.parametrize(
    ("dice", "said"), [([0.5, 0.5], "rows of at least 2"), ([[0.9, 0.2]], "row 1 of dice sums to 1.1"), ([], "rows of")]
)
def test_bad_dice_are_a_sentence(dice, said):
    with pytest.raises(mdbench.InputError, match=said):
        Dice("bad", dice)
