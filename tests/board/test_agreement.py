"""Who agrees with whom: the distances are those of the records, classes are connected, seeds are told apart."""

import json
from pathlib import Path

import numpy as np
import pytest

import mdbench
from mdbench.core import metrics
from mdbench.core.errors import InputError
from mdbench.evaluation.agreement import pairwise
from mdbench.predictors.catalogue import build_predictor
from mdbench.tasks import load_task, public_sequences, sample

BOARD = Path(__file__).parents[2] / "leaderboard"


def test_what_was_known_before():
    """Figures of a trial with code of its own, on the public sequences of mtd-q5-m3."""
    found = mdbench.agree(["trained_l3"], length=32, leaderboard=BOARD)
    assert found["trained_l3:seed=0", "trained_l3:seed=2"].kl == pytest.approx(2.3e-5, rel=0.05)
    assert found["trained_l3:seed=0", "trained_l3:seed=1"].kl == pytest.approx(9.5e-5, rel=0.05)
    assert found.classes == [["trained_l3:seed=0", "trained_l3:seed=2"]]
    found = mdbench.agree(["paper_l3:seed=0", "md1", "bayes"], length=16, leaderboard=BOARD)
    assert found["bayes", "paper_l3:seed=0"].kl == pytest.approx(1.8e-4, rel=0.05)
    assert found["paper_l3:seed=0", "md1"].kl == pytest.approx(2.4e-4, rel=0.05)
    assert found.nearest["paper_l3:seed=0"] == "bayes"


def test_fresh_sequences_and_each_training_seed_for_itself():
    task, names = load_task("mtd-q3-m2"), ["trained_l3", "md1"]
    found = mdbench.agree(names, task=task.name, length=16, n_sequences=300, seed=5)
    contexts = sample(task, 16, 300, 5).contexts
    ours = [metrics.normalise(run.predict(contexts)) for run in build_predictor("trained_l3", task).runs(16)]
    assert found.rows == [f"trained_l3:seed={k}" for k in range(len(ours))] + ["md1"]
    for a, b in ((0, 1), (1, 0), (2, 0)):
        # Batches of other sizes differ by rounding of float32.
        direct = metrics.kl(ours[a], ours[b]).mean()
        assert found[f"trained_l3:seed={a}", f"trained_l3:seed={b}"].kl == pytest.approx(direct, rel=1e-3)
    again = mdbench.agree(["trained_l3:seed=2", "md1"], task=task.name, length=16, n_sequences=300, seed=5)
    assert again["trained_l3:seed=2", "md1"] == found["trained_l3:seed=2", "md1"]


def test_relabelled_states_are_the_same_function():
    task = load_task("mtd-q5-m3")
    order = np.random.default_rng(0).permutation(5)
    contexts = public_sequences(task.name).tokens[:200, :32]
    plain = metrics.normalise(build_predictor("md1", task).predict(contexts))
    relabelled = metrics.normalise(
        build_predictor("md1:eta=0.02", task.relabelled(order)).predict(np.argsort(order)[contexts])
    )
    same = metrics.normalise(build_predictor("md1:eta=0.02", task).predict(contexts))
    found = pairwise(
        {"plain": plain, "same": same, "relabelled": relabelled[:, np.argsort(order)]}, load_task("mtd-q3-m2"), 32, ""
    )
    assert found["same", "relabelled"].kl <= 1e-12
    assert found["plain", "relabelled"].kl > 1e-9


@pytest.mark.wrong_types
def test_one_name_is_one_name():
    found = mdbench.agree("trained_l3", length=32, leaderboard=BOARD)
    assert len(found.rows) == 3
    with pytest.raises(InputError, match="agree takes names of predictors, not object"):
        mdbench.agree([object()], leaderboard=BOARD)


def test_classes_are_what_is_connected():
    rng = np.random.default_rng(3)
    rows = {f"r{k}": rng.dirichlet(np.full(4, 20.0), 50) for k in range(12)}
    matrix = pairwise(rows, load_task("mtd-q3-m2"), 16, "", 0.0).matrix
    apart = (matrix + matrix.T) / 2
    threshold = float(np.quantile(apart[apart > 0], 0.15))
    reached = (apart <= threshold).astype(int)
    for _ in range(12):
        reached = ((reached @ reached) > 0).astype(int)
    expected = {tuple(f"r{j}" for j in np.flatnonzero(row)) for row in reached if row.sum() > 1}
    found = pairwise(rows, load_task("mtd-q3-m2"), 16, "", threshold)
    assert {tuple(members) for members in found.classes} == expected
    assert [len(c) for c in found.classes] == sorted((len(c) for c in found.classes), reverse=True)


def test_what_is_infinite_stays_so():
    sure, even = np.array([[1.0, 0.0]] * 3), np.array([[0.5, 0.5]] * 3)
    found = pairwise({"sure": sure, "even": even}, load_task("mtd-q3-m2"), 16, "")
    assert found["sure", "even"].kl == pytest.approx(np.log(2))
    assert found["even", "sure"].kl == np.inf
    pair = next(p for p in found.to_dict()["pairs"] if p["row"] == "even")
    assert (pair["kl"], pair["kl_ci"]) == ("inf", None)
    assert found.classes == []


def test_command(run, tmp_path):
    asked = ("agree", "trained_l3", "md1", "--length", 16, "--leaderboard", BOARD)
    shown = run(*asked, "--out", tmp_path)
    assert shown.code == 0
    assert "Class 1" in shown.out or "No two rows" in shown.out
    page = (tmp_path / "agreement.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    pairs = json.loads(run(*asked, "--json").out)["pairs"]
    assert {(p["row"], p["column"]) for p in pairs} >= {("md1", "trained_l3:seed=0"), ("trained_l3:seed=0", "md1")}
    assert all(p["kl_ci"][0] <= p["kl"] <= p["kl_ci"][1] for p in pairs)


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["trained_l33"], {}, "no record 'trained_l33'; did you mean 'trained_l3'"),
        (["trained_l3:seed=7", "md1"], {}, "'trained_l3' has 3 training seeds, so no seed=7"),
        (["md1"], {}, "at least two rows, not 1"),
        (["md1", "md2"], {"length": 17}, "has T = 16, 32, 64, 128, not 17"),
        ([], {"n_sequences": 10}, "name the predictors"),
        (["oracle", "md1"], {"n_sequences": 10}, "'oracle' is told θ"),
        (["md1", "md2"], {"threshold": float("nan")}, "threshold must be a number"),
    ],
)
def test_bad_input_is_a_sentence(names, options, said):
    with pytest.raises(InputError, match=said):
        mdbench.agree(names, leaderboard=BOARD, **options)
