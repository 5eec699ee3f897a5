"""Records and boards of recorded sequences: no gold anywhere, the data known by their hash, means over blocks."""

import json
import shutil

import numpy as np
import pytest

from mdbench.board import board
from mdbench.board.record import Record
from mdbench.core.errors import InputError
from mdbench.core.statistics import BlockMoments
from mdbench.pages.board import render_markdown
from mdbench.tasks import load_task, recorded

SUITE = ("--suite", "real")


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """A folder of a task of one's own, with a record of it in a leaderboard; and records of the built-in one."""
    place = tmp_path_factory.mktemp("recorded")
    tokens = np.random.default_rng(0).integers(3, size=240)
    (place / "s.txt").write_text("\n".join("abc"[y] for y in tokens) + "\n")
    made = run("task", "from-data", place / "s.txt", "--out", place / "mine", "--order", 2, "--lengths", "4,8")
    assert made.code == 0
    task = ("--task", place / "mine" / "task.toml")
    ran = run("evaluate", "--predictor", "fitted_mtd", *task, "--record", "--leaderboard", place / "own")
    assert ran.code == 0
    rows = [part for k in (0, 1) for part in ("--predictor", f"fitted_chain:order={k}")]
    assert run("evaluate", *SUITE, *rows, "--record", "--leaderboard", place / "real").code == 0
    return place


def record_of(folder):
    return folder / "own" / "records" / "mine" / "fitted_mtd.json"


def test_a_record_of_ones_own_sequences_is_verified_where_they_are(folder, run):
    made = Record.model_validate_json(record_of(folder).read_text())
    assert (made.gold, made.n_sequences) == (None, 72)
    assert made.command.startswith("mdbench evaluate --predictor fitted_mtd --task mine/task.toml --lengths 4,8")
    for cell in made.cells:
        assert cell.scores["kl"] is cell.scores["excess_kl"] is cell.scores["cross_entropy"] is cell.gold_error is None
        assert cell.scores["nll"].interval is not None
    assert run("verify", record_of(folder), "--task", folder / "mine" / "task.toml").code == 0
    missing = run("verify", record_of(folder))
    assert missing.code == 1
    assert "--task FOLDER/task.toml" in missing.out
    again = run("verify", record_of(folder), "--task", folder / "mine" / "task.toml", "--rerun")
    assert again.code == 0
    assert "there are no fresh ones" in again.out


@pytest.mark.parametrize("what", ["data", "score", "gold"])
def test_what_was_changed_is_found(what, folder, run, tmp_path):
    shutil.copytree(folder / "mine", tmp_path / "mine")
    shutil.copytree(folder / "own" / "records" / "mine", tmp_path / "records")
    path = tmp_path / "records" / "fitted_mtd.json"
    if what == "data":
        with np.load(tmp_path / "mine" / "data.npz") as arrays:
            changed = dict(arrays)
        changed["tokens"][200] = (changed["tokens"][200] + 1) % 3
        np.savez(tmp_path / "mine" / "data.npz", **changed)
    else:
        content = json.loads(path.read_text())
        if what == "score":
            content["cells"][0]["scores"]["nll"]["mean"] -= 1e-4
        else:
            content["gold"] = "exact"
        path.write_text(json.dumps(content))
    sentence = {"data": "another task", "score": "nll is", "gold": "just where sequences were drawn"}[what]
    ran = run("verify", path, "--task", tmp_path / "mine" / "task.toml")
    assert ran.code == 1
    assert sentence in ran.out


def test_a_record_is_of_all_test_tokens(folder, run):
    task = ("--task", folder / "mine" / "task.toml", "--leaderboard", folder / "other")
    ran = run("evaluate", "--predictor", "fitted_mtd", *task, "--record", "--n-sequences", 10)
    assert ran.code == 2
    assert "all its 72 test tokens" in ran.err


def test_the_board_is_of_log_losses_and_says_so(folder):
    built = board.build(folder / "real", "real")
    rows = {row.label: row.tables[board.SUITE] for row in built.rows}
    assert rows["fitted_chain:order=0"].score == 1
    task = load_task("seattle-rain")
    came = task.test_windows(slice(None))[:, -1]
    before = task.test_windows(slice(None))[:, -2]
    counts = np.full((3, 3), 0.5)
    training = task.training[0]
    np.add.at(counts, (training[:-1], training[1:]), 1)
    alone = np.full(3, 0.5) + np.bincount(training)
    chain = -np.log((counts / counts.sum(axis=1, keepdims=True))[before, came])
    nothing = -np.log((alone / alone.sum())[came])
    found = rows["fitted_chain:order=1"]
    assert found.score == pytest.approx(chain.mean() / nothing.mean(), rel=1e-12)
    # By the delta method over blocks: the bootstrap has the same interval, up to its own noise and curvature.
    ratio = chain.mean() / nothing.mean()
    around = BlockMoments.of((chain - ratio * nothing) / nothing.mean(), task.blocks(365)).interval
    np.testing.assert_allclose(found.interval, ratio + np.array(around.interval), atol=0.15 * around.se * 2.3)
    page = render_markdown(built, "mdbench leaderboard build")
    assert "mean NLL in nats" in page
    assert "nobody knows a gold" in page
    assert "excess KL" not in page


def test_without_the_package_it_is_said_what_to_install(folder, monkeypatch):
    with pytest.raises(InputError, match="no records to rank"):
        board.build(folder / "own", "real")
    monkeypatch.setattr(recorded, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"not installed; install mdbench\[data\]"):
        recorded.read_packaged(
            {"package": "vega_datasets", "extra": "data", "file": "f", "column": "c", "bounds": [1], "trained": 1}
        )
