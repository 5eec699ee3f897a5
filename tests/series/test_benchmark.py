"""`mdbench task from-data`: what is in the folder, what it is fitted to, and what is refused."""

import json

import numpy as np
import pytest

from mdbench.series.fitted import fit, read
from mdbench.tasks import load_task, sample

PI = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.1, 0.6]])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Three sequences of an MTD, with labels and a gap."""
    tokens = sample(load_task("mtd-q3-m2"), 199, 3, 5).tokens
    lines = [" ".join("abc"[y] for y in row) for row in tokens]
    lines[1] = lines[1][:40] + "NA" + lines[1][41:]
    path = tmp_path_factory.mktemp("data") / "s.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_folder_is_a_task_of_the_sequences_in_the_file(file, tmp_path, run):
    ran = run("task", "from-data", file, "--out", tmp_path / "mine", "--order", 2, "--share", 0.6, "--json")
    assert ran.code == 0
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["data.npz", "fit.json", "task.toml"]
    task, given = load_task(tmp_path / "mine" / "task.toml"), read(file, 2)
    assert (task.name, task.trained.tolist()) == ("mine", [120] * 3)
    for mine, theirs in zip(task.sequences, given.sequences, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert task.n_test == 200 - 128 + (200 - 149) + 200 - 128  # the gap at 20 is in no context of 128 from 149 on
    found = json.loads((tmp_path / "mine" / "fit.json").read_text())
    again = fit([[None if y < 0 else int(y) for y in tokens[:120]] for tokens in given.sequences], 2, start=2)
    mtd, same = (next(f for f in each["fits"] if f["model"] == "mtd") for each in (found, again))
    assert mtd["log_likelihood"] == pytest.approx(same["log_likelihood"], rel=1e-9)
    np.testing.assert_allclose(task.weights, mtd["weights"], rtol=1e-9)
    assert found["data"]["observations"] == 359
    np.testing.assert_allclose(task.transition, mtd["transition"], atol=0.02)  # half an observation more
    assert not np.allclose(task.transition, mtd["transition"], atol=1e-5)
    about = json.loads(ran.out)
    assert (about["observations"], about["training"], about["test"]) == (599, 359, 195)
    assert about["lengths"] == [16, 32, 64, 128]
    taken = run("task", "from-data", file, "--out", tmp_path / "mine", "--order", 2)
    assert taken.code == 2
    assert "exists" in taken.err


def test_a_share_is_of_decimal_numbers(tmp_path, run):
    """In float64 0.29 x 100 is below 29."""
    (tmp_path / "s.txt").write_text("a b b a a " * 20 + "\n")
    given = ("task", "from-data", tmp_path / "s.txt", "--order", 2, "--lengths", 4, "--share", 0.29)
    assert run(*given, "--out", tmp_path / "mine").code == 0
    assert load_task(tmp_path / "mine" / "task.toml").trained.tolist() == [29]


@pytest.mark.slow
def test_a_network_learns_on_the_training_part_and_is_scored_on_the_rest(file, tmp_path, run):
    assert run("task", "from-data", file, "--out", tmp_path / "mine", "--order", 2, "--lengths", 8).code == 0
    path = tmp_path / "mine" / "task.toml"
    refused = run("train", "--task", path, "--lengths", 8, "--out", tmp_path / "runs")
    assert refused.code == 2
    assert "take the target 'token'" in refused.err
    short = ("--steps", 60, "--batch", 32, "--preset", "cross-entropy")
    ran = run("train", "--task", path, "--lengths", 8, "--out", tmp_path / "runs", *short)
    assert ran.code == 0
    folder = tmp_path / "runs" / "mine" / "T8" / "seed0"
    assert json.loads((folder / "card.json").read_text())["final_scores"] is None
    scored = run("evaluate", "--predictor", f"run:{folder}", "--task", path, "--no-references", "--json")
    (row,) = json.loads(scored.out)["results"]
    assert 0.5 < row["nll"] < np.log(3) + 0.2


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("NA NA NA NA", (), "every value is missing"),
        ("a a a a a", (), "only state"),
        ("a b a b", ("--lengths", 3), "too short"),
        ("a b " * 40, ("--share", 1.5), "between 0 and 1"),
        ("a b " * 40 + "c c", (), "'c' is in the test part and not in the training part"),
        ("a b", ("--share", 0.3), "no state in the training part"),
        ("a b b a a " * 8, ("--order", 1), "at least 2"),
        ("a b b a a " * 8, ("--lengths", 64), "no token after the training part"),
        ("a b b a a " * 3, (), "fewer than half"),
        ("x,y,z\n1,2,3\n2,1,3\n", (), "leave the header out"),
        ("0 1 1 0 0 1 " * 8, ("--states", "a,b"), "is none of the states a, b"),
    ],
    ids=range(11),
)
def test_what_cannot_be_is_refused_and_leaves_nothing(text, options, sentence, tmp_path, run):
    (tmp_path / "s.txt").write_text(text + "\n")
    given = options if "--order" in options else ("--order", 2, *options)
    ran = run("task", "from-data", tmp_path / "s.txt", "--out", tmp_path / "mine", *given)
    assert ran.code == 2
    assert sentence in ran.err
    assert not (tmp_path / "mine").exists()
