"""Cells on disk: what is kept is found again, never mixed with anything else, and never worse than computing anew."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

import mdbench
from mdbench.core import store as store_module
from mdbench.core.errors import InputError
from mdbench.core.store import Store, open_store
from mdbench.evaluation import running

TASK = "mtd-q3-m2"
OPTIONS = {"task": TASK, "lengths": [12, 16], "n_sequences": 600, "references": ()}


@pytest.fixture
def predicted(monkeypatch, tmp_path):
    """Every chunk that a predictor really answered, in a cache of its own."""
    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path / "cache"))
    calls = []
    check = running.check_output

    def spy(name, *arguments):
        calls.append(name)
        return check(name, *arguments)

    monkeypatch.setattr(running, "check_output", spy)
    return calls


def numbers(evaluation):
    return json.dumps(evaluation.to_dict())


def test_what_is_built_in_answers_once_a_machine(predicted):
    first = mdbench.evaluate(["md2", "bayes"], **OPTIONS)
    assert len(predicted) == 2 * 2 * 3
    again = mdbench.evaluate(["bayes", "md2"], **OPTIONS)
    assert len(predicted) == 12
    assert numbers(again) == numbers(first)  # seconds too: those that it took
    more = mdbench.evaluate("md2", **OPTIONS | {"n_sequences": 700})
    assert len(predicted) == 14  # the last chunk of each length, which is another
    fresh = mdbench.evaluate("md2", **OPTIONS | {"n_sequences": 700}, cache="none")
    assert len(predicted) == 14 + 6
    assert fresh.table.drop(columns="seconds").equals(more.table.drop(columns="seconds"))
    mdbench.evaluate("md2", **OPTIONS, cache="gold")  # as `verify --rerun` asks
    assert len(predicted) == 20 + 6


def test_another_option_task_or_code_is_another_answer(predicted, monkeypatch):
    one = OPTIONS | {"lengths": [12], "n_sequences": 10}
    for names in (["md:steps=2,eta=0.1"], ["md:steps=2,eta=0.2"], ["md:eta=0.1,steps=2"], ["md:steps=3,eta=0.1"]):
        mdbench.evaluate(names, **one)
    assert len(predicted) == 3  # one of them is the first, written otherwise
    mdbench.evaluate("uniform", **one | {"seed": 1})
    mdbench.evaluate("uniform", **one | {"seed": 2})
    mdbench.evaluate("uniform", **one | {"task": "mtd-q5-m3", "lengths": [12]})
    assert len(predicted) == 6
    monkeypatch.setattr(running, "code_hash", lambda *_packages: "another")
    mdbench.evaluate("uniform", **one | {"seed": 1})
    assert len(predicted) == 7


def of_file(path, source):
    path.write_text(f"import numpy as np\n\n\ndef p(contexts):\n    {source}\n")
    return f"{path}:p"


def test_a_folder_of_work_goes_on_and_keeps_what_others_bring(predicted, tmp_path):
    name, work = of_file(tmp_path / "mine.py", "return np.full((len(contexts), 3), 1 / 3)"), tmp_path / "work"
    unbroken = mdbench.evaluate([name, "md2"], **OPTIONS, work=tmp_path / "unbroken")
    predicted.clear()
    first = mdbench.evaluate([name, "md2"], **OPTIONS, work=work)
    assert predicted == [name] * 6  # nobody else's answers are in the cache, and md2's are copied from there
    for kind in ("gold", "answers"):
        for cell in sorted((work / kind).iterdir())[::2]:
            cell.unlink()
    n_missing = 12 - len(list((work / "answers").iterdir()))
    predicted.clear()
    resumed = mdbench.evaluate([name, "md2"], **OPTIONS, work=work, cache="none")
    assert len(predicted) == n_missing == 6
    columns = resumed.table.drop(columns="seconds")
    assert columns.equals(first.table.drop(columns="seconds"))
    assert columns.equals(unbroken.table.drop(columns="seconds"))
    predicted.clear()
    assert numbers(mdbench.evaluate([name, "md2"], **OPTIONS, work=work, cache="none")) == numbers(resumed)
    assert predicted == []
    of_file(tmp_path / "mine.py", "return np.full((len(contexts), 3), 1 / 3) + 1e-5")
    changed = mdbench.evaluate([name, "md2"], **OPTIONS, work=work, cache="none")
    assert predicted == [name] * 6
    assert changed.results != resumed.results


def test_work_needs_names(tmp_path):
    with pytest.raises(InputError, match="is an object, and what is kept must have a name"):
        mdbench.evaluate(lambda contexts: contexts, task=TASK, work=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        mdbench.evaluate("uniform", task=TASK, work=tmp_path / "file")


def cell_of(folder, arrays, shapes=None):
    shapes = {name: array.shape for name, array in arrays.items()} if shapes is None else shapes
    calls = []

    def compute():
        calls.append(1)
        return arrays

    found = Store((folder,)).arrays("kind", {"a": 1}, shapes, compute)
    return found, len(calls)


@pytest.mark.parametrize("what", ["nan", "shape", "name", "more", "type", "cut", "flipped", "checksum only"])
def test_what_is_not_what_was_written_is_computed_anew(tmp_path, caplog, what):
    """Whatever the checksum says."""
    right = {"mean": np.arange(6.0).reshape(2, 3)}
    wrong = {
        "nan": {"mean": np.full((2, 3), np.nan)},
        "shape": {"mean": np.zeros((3, 2))},
        "name": {"means": right["mean"]},
        "more": right | {"more": np.zeros(2)},
        "type": {"mean": np.full((2, 3), "x")},
    }.get(what, right)
    assert cell_of(tmp_path, right)[1] == 1
    assert cell_of(tmp_path, right)[1] == 0
    (path,) = tmp_path.rglob("*.cell")
    if wrong is not right:
        import hashlib
        import io

        buffer = io.BytesIO()
        np.savez(buffer, **wrong)
        path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    content = bytearray(path.read_bytes())
    content[-20] ^= what == "flipped"
    path.write_bytes({"cut": content[:-9], "checksum only": content[:32]}.get(what, content))
    found, computed = cell_of(tmp_path, right)
    assert computed == 1
    np.testing.assert_array_equal(found["mean"], right["mean"])
    assert "damaged" in caplog.text
    assert cell_of(tmp_path, right)[1] == 0


def test_what_cannot_be_kept_costs_time_only(tmp_path, monkeypatch, caplog):
    def full(path, _write):
        raise InputError(f"cannot write '{path}': No space left on device.")

    monkeypatch.setattr(store_module, "write_whole", full)
    right = {"mean": np.ones((2, 3))}
    for _ in range(3):
        found, computed = cell_of(tmp_path, right)
        assert computed == 1
        np.testing.assert_array_equal(found["mean"], right["mean"])
    assert caplog.text.count("No space left on device") == 1


def test_a_cell_found_in_one_folder_is_kept_in_the_others(tmp_path):
    shapes, value = {"mean": (1,)}, {"mean": np.ones(1)}
    Store((tmp_path / "b",)).arrays("kind", {}, shapes, lambda: value)
    Store((tmp_path / "a", tmp_path / "b")).arrays("kind", {}, shapes, lambda: pytest.fail("it is there"))
    assert [path.parent.parent.name for path in sorted(tmp_path.rglob("*.cell"))] == ["a", "b"]
    assert Store(()).arrays("kind", {}, shapes, lambda: value) == value


def test_the_cache_is_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MDBENCH_CACHE", str(tmp_path))
    here = open_store().folders
    monkeypatch.setattr(store_module, "machine", lambda: "another")
    assert open_store().folders != here


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_bytes(tmp_path):
    """`python tests/kills.py` does thirty, and full disks, read-only folders and two runs at once."""
    kills = runpy.run_path(str(Path(__file__).parents[1] / "kills.py"))
    kills["killed"](2, 0, kills["prepared"](tmp_path), say=lambda _line: None)


def test_a_folder_of_other_things_is_no_folder_of_work(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other things than the cells of a run; give an empty folder"):
        open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
