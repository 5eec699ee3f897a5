"""What the keeper of a board writes beside the records: marks of reruns and times, kept by the records' bytes."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest

from mdbench.board import times, verification
from mdbench.board.marks import read_marks
from mdbench.board.times import ratio_to_reference, read_times, time_records
from mdbench.board.verification import CannotRerun, Rerun
from mdbench.board.writing import score_predictions
from mdbench.core.errors import InputError, PredictorError
from mdbench.tasks import load_task

TASK = "mtd-q3-m2"
KEPT = {"reruns.json": read_marks, "times.json": read_times}


@pytest.fixture(scope="module")
def made(make_records, tmp_path_factory):
    """Records of md1, uniform and oracle, and predictions alone."""
    place = tmp_path_factory.mktemp("leaderboard")
    make_records(place, "md1", "uniform", "oracle", lengths="16")
    np.savez(place / "p.npz", T16=np.full((5, 3), 1 / 3))
    score_predictions(place / "p.npz", load_task(TASK), "mine", place)
    return place


@pytest.fixture
def folder(made, tmp_path):
    """One that a test may change."""
    return shutil.copytree(made, tmp_path / "board")


def path_of(folder, name):
    return folder / "records" / TASK / f"{name}.json"


def digest(folder, name):
    return hashlib.sha256(path_of(folder, name).read_bytes()).hexdigest()


def seconds_of(folder, name):
    return json.loads(path_of(folder, name).read_text())["host"]["seconds"]


def mark(run, folder, *more):
    return run("verify", "--rerun", "--mark", "--n-sequences", 32, "--leaderboard", folder, *more)


def never(*_arguments, **_options):
    raise AssertionError("it ran again")


def test_a_mark_belongs_to_the_bytes_of_a_record(run, folder, monkeypatch, capsys):
    assert mark(run, folder, "--seed", 2**62 + 1).code == 0
    found = read_marks(folder)
    assert set(found) == {digest(folder, "md1"), digest(folder, "uniform")}  # neither oracle nor predictions alone
    of_md1 = found[digest(folder, "md1")]
    assert (of_md1.label, of_md1.task, of_md1.seed, of_md1.n_sequences) == ("md1", TASK, 2**62 + 1, 32)
    assert (of_md1.isolated, of_md1.compatible, of_md1.fault) == (False, True, None)
    assert [(t.length, t.score) for t in of_md1.tests] == [(16, score) for score in verification.TESTED]
    assert of_md1.p == min(t.p for t in of_md1.tests)

    monkeypatch.setattr("mdbench.board.marks.rerun", never)
    capsys.readouterr()
    assert mark(run, folder, path_of(folder, "md1"), path_of(folder, "uniform")).code == 0
    assert f"marked before: compatible (seed {2**62 + 1}" in capsys.readouterr().out
    content = path_of(folder, "md1").read_text()
    path_of(folder, "md1").write_text(content.replace('"device": "cpu"', '"device": "gpu"'))
    assert digest(folder, "md1") not in read_marks(folder)
    path_of(folder, "uniform").unlink()
    monkeypatch.setattr("mdbench.board.marks.rerun", lambda *_, **__: [])
    assert mark(run, folder, path_of(folder, "md1")).code == 0
    assert set(read_marks(folder)) == {digest(folder, "md1")}  # what is gone is dropped


def test_a_killed_run_keeps_what_is_finished_and_the_same_command_goes_on(run, folder, monkeypatch):
    asked = []

    def killed(path, _seed, **_options):
        asked.append(path.stem)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return []

    monkeypatch.setattr("mdbench.board.marks.rerun", killed)
    assert mark(run, folder).code == 130
    assert {m.label for m in read_marks(folder).values()} == {asked[0]}
    assert mark(run, folder).code == 0
    assert asked.count(asked[0]) == 1
    assert len(read_marks(folder)) == len(set(asked)) == 4


FORGED = Rerun(16, "kl", 0.1, 0.2, 9.0, 1e-9)


@pytest.mark.parametrize("fault", [None, "it memorised"])
def test_what_is_not_repeated_is_marked_so_and_stays_so(run, folder, monkeypatch, capsys, fault):
    def fails(*_arguments, **_options):
        if fault:
            raise PredictorError(fault)
        return [FORGED]

    monkeypatch.setattr("mdbench.board.marks.rerun", fails)
    assert mark(run, folder, path_of(folder, "md1")).code == 1
    found = read_marks(folder)[digest(folder, "md1")]
    assert not found.compatible
    assert (found.fault, found.p) == (fault, None if fault else 1e-9)
    monkeypatch.setattr("mdbench.board.marks.rerun", never)
    capsys.readouterr()
    assert mark(run, folder, path_of(folder, "md1")).code == 1  # no second throw of the dice
    assert "not repeated" in capsys.readouterr().out


def test_only_records_of_the_board_are_marked_and_only_of_reruns(run, folder, tmp_path, capsys):
    elsewhere = shutil.copy(path_of(folder, "md1"), tmp_path / "md1.json")
    assert mark(run, folder, elsewhere).code == 2
    assert run("verify", "--mark", "--leaderboard", folder).code == 2
    assert "give both" in capsys.readouterr().err
    assert not (folder / "reruns.json").exists()


ENTRY = {
    "reruns.json": {
        "task": TASK,
        "label": "md1",
        "seed": 1,
        "n_sequences": 64,
        "isolated": False,
        "date": "2026-01-01",
        "compatible": True,
        "p": 0.5,
        "tests": [{"length": 16, "score": "kl", "p": 0.5, "compatible": True}],
        "fault": None,
    },
    "times.json": {
        "task": TASK,
        "label": "md1",
        "reference": 1,
        "mdbench": "0.1.0",
        "n_sequences": 64,
        "date": "2026-01-01",
        "cells": [{"length": 16, "ratio": 0.5}],
    },
}
DAMAGE = {
    "reruns.json": [
        {"seed": True},
        {"seed": 2**63},
        {"seed": "1"},
        {"p": float("nan")},
        {"p": 2.0},
        {"p": 0.4},
        {"compatible": False},
        {"compatible": "true"},
        {"fault": "x" * 301},
        {"date": "today"},
        {"extra": 1},
        {"tests": []},
        {"label": "x" * 601},
        {"n_sequences": -1},
        {"n_sequences": 31},
        {"n_sequences": 2**62},
        {"seed": 0},
        {"tests": [{"length": 16, "score": "kl", "p": 0.5, "compatible": False}], "compatible": False},
    ],
    "times.json": [
        {"cells": []},
        {"cells": [{"length": 16, "ratio": 0.0}]},
        {"extra": 1},
        {"reference": "1"},
        {"cells": [{"length": 16, "ratio": float("nan")}]},
        {"cells": [{"length": 16, "ratio": float("inf")}]},
        {"cells": [{"length": 16, "ratio": 1e999}]},
        {"cells": [{"length": 16, "ratio": 1.7e308}]},
        {"cells": [{"length": 16, "ratio": True}]},
        {"mdbench": 1},
        {"n_sequences": 10**400},
    ],
}


def refused(folder, name):
    with pytest.raises(InputError, match=name) as error:
        KEPT[name](folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", KEPT)
def test_a_damaged_file_of_the_keeper_is_one_sentence(name, tmp_path, monkeypatch):
    path, key = tmp_path / name, "0" * 64
    assert KEPT[name](tmp_path) == {}
    path.write_text(json.dumps({key: ENTRY[name]}))
    assert KEPT[name](tmp_path)[key].label == "md1"
    for change in DAMAGE[name]:
        path.write_text(json.dumps({key: ENTRY[name] | change}))
        refused(tmp_path, name)
    whole = json.dumps({key: ENTRY[name]})
    for text in (
        "",
        "[]",
        "null",
        "{",
        '{"x": 1}',
        '{"' + key + '": 1}',
        '{"short": ' + whole[len(key) + 5 :],
        "[" * 100_000,
        whole[:-1] + "," + whole[1:],
        whole.replace(": 16", ": " + "9" * 5000),
        whole.replace("0.5", "NaN"),
    ):
        path.write_text(text)
        refused(tmp_path, name)
    path.write_bytes(b"\xff\xfe{}")
    refused(tmp_path, name)
    path.write_text(whole)
    monkeypatch.setattr("mdbench.board.files.LARGEST_RECORD", 100)
    refused(tmp_path, name)
    monkeypatch.undo()
    path.unlink()
    os.mkfifo(path)
    refused(tmp_path, name)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    refused(tmp_path, name)


@pytest.mark.parametrize("name", KEPT)
def test_a_damaged_file_of_the_keeper_ends_the_build_before_it_has_begun(run, folder, name, capsys):
    (folder / name).write_text('{"x": 1}')
    assert run("leaderboard", "build", "--leaderboard", folder).code == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert name in captured.err


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("reruns.json", {"label": "md2"}),
        ("reruns.json", {"task": "mtd-q5-m3"}),
        ("reruns.json", {"tests": [], "p": None}),
        ("reruns.json", {}),  # one test of all that a rerun makes
        ("times.json", {"label": "md2"}),
        ("times.json", {"cells": [{"length": 16, "ratio": 0.5}] * 2}),
        ("times.json", {"cells": [{"length": 17, "ratio": 0.5}]}),
    ],
)
def test_what_is_kept_of_a_record_must_be_of_that_record(run, folder, name, change, capsys):
    (folder / name).write_text(json.dumps({digest(folder, "md1"): ENTRY[name] | change}))
    assert run("leaderboard", "build", "--leaderboard", folder).code == 2
    assert "of the record of 'md1'" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- times


class Clock:
    """Time that passes only in what is called; ``pace`` is how slow the machine is by then."""

    def __init__(self, monkeypatch, pace=lambda _now: 1.0):
        self.now, self.pace, self.calls = 0.0, pace, 0
        monkeypatch.setattr(times.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(times, "_reference", lambda: self.work(0.01))

    def work(self, seconds):
        for _ in range(steps := max(1, round(seconds / 0.05))):
            self.now += seconds / steps * self.pace(self.now)

    def call(self, seconds, compiling=0.0):
        def called():
            self.calls += 1
            self.work(seconds + (compiling if self.calls == 1 else 0.0))

        return called


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.3, 8.0])
def test_a_ratio_leaves_compilation_out(monkeypatch, seconds):
    clock = Clock(monkeypatch)
    assert ratio_to_reference(clock.call(seconds, compiling=0.9)) == pytest.approx(seconds / 0.01, rel=0.01)
    assert (clock.calls == 2) == (seconds > 4.1)


def test_what_takes_very_long_runs_once(monkeypatch):
    clock = Clock(monkeypatch)
    assert ratio_to_reference(clock.call(20.0)) == pytest.approx(2000)
    assert clock.calls == 1


def test_a_ratio_holds_on_a_machine_that_becomes_slow(monkeypatch):
    """Three times slower from one second to the next, as other work comes and goes; or slower and slower."""
    for start in np.linspace(0, 3, 13):
        clock = Clock(monkeypatch, pace=lambda now, start=start: 3.0 if now > start else 1.0)
        assert ratio_to_reference(clock.call(0.4)) == pytest.approx(40, rel=0.02)
    clock = Clock(monkeypatch, pace=lambda now: 1 + now / 20)
    assert ratio_to_reference(clock.call(8.0)) == pytest.approx(800, rel=0.05)


def test_the_reference_is_as_large_as_its_number_says():
    """What is compared with it is stale when it changes: raise REFERENCE then."""
    assert (times.REFERENCE, times._STEPS, times._SIZE, times._REPEATS) == (1, 128, (64, 64), 8)


def test_all_that_can_be_run_is_timed_once(run, folder, monkeypatch, capsys):
    assert run("leaderboard", "time", "--leaderboard", folder).code == 0
    said = capsys.readouterr().out
    assert "oracle on mtd-q3-m2: not timed: 'oracle' is told" in said
    assert "mine on mtd-q3-m2: not timed: 'mine' was predicted elsewhere" in said
    found = read_times(folder)
    assert set(found) == {digest(folder, "md1"), digest(folder, "uniform")}
    assert all([cell.length for cell in t.cells] == [16] for t in found.values())
    before = (folder / "times.json").read_bytes()
    monkeypatch.setattr(times, "_time", never)
    assert run("leaderboard", "time", "--leaderboard", folder).code == 0
    assert (folder / "times.json").read_bytes() == before


def test_timing_goes_on_where_it_was_killed_and_after_a_failure(run, folder, monkeypatch):
    asked = []

    def timed(made, _progress):
        asked.append(made.predictor.label)
        if len(asked) == 2:
            raise KeyboardInterrupt
        if len(asked) == 3:
            raise PredictorError("it failed")
        return (times.CellTime(length=16, ratio=2.0),)

    monkeypatch.setattr(times, "_time", timed)
    with pytest.raises(KeyboardInterrupt):
        list(time_records(folder))
    cheap_first = sorted(("uniform", "md1"), key=lambda name: sum(seconds_of(folder, name).values()))
    assert asked == cheap_first  # by what they say
    found = {made.predictor.label: why for made, why in time_records(folder)}
    assert str(found[cheap_first[1]]) == "it failed"
    assert found[cheap_first[0]].mean == 2.0
    assert isinstance(found["oracle"], CannotRerun)
    assert run("leaderboard", "time", "--leaderboard", folder).code == 0
    assert asked == [cheap_first[0]] + [cheap_first[1]] * 3


def test_timing_ends_after_its_time_and_goes_on(folder, monkeypatch):
    monkeypatch.setattr(times, "_time", lambda record, _p: tuple(
        times.CellTime(length=cell.length, ratio=1.0) for cell in record.cells))  # fmt: skip
    monkeypatch.setattr(times, "MOST", -1.0)
    assert any("minutes are over; the same command goes on" in str(found) for _, found in time_records(folder))
    assert not (folder / times.FILE).exists()
    monkeypatch.setattr(times, "MOST", 60.0)
    assert any(isinstance(found, times.Time) for _, found in time_records(folder))


def test_times_of_another_reference_are_stale_and_a_release_leaves_them(folder, monkeypatch):
    monkeypatch.setattr(times, "_time", lambda *_: (times.CellTime(length=16, ratio=2.0),))
    list(time_records(folder))
    assert len(read_times(folder)) == 2
    for name, value in (("REFERENCE", 2), ("N_SEQUENCES", 32)):
        with monkeypatch.context() as patch:
            patch.setattr(times, name, value)
            assert read_times(folder) == {}
    monkeypatch.setattr(times, "version", lambda _name: "9")
    assert len(read_times(folder)) == 2
    path_of(folder, "md1").write_text(path_of(folder, "md1").read_text() + "\n")
    assert digest(folder, "md1") not in read_times(folder)
