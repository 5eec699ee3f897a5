"""Whole commands on workers of a real scheduler over loopback: the same bytes, whatever happens to the workers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

import mdbench
from mdbench.core.cluster import open_cluster
from mdbench.core.errors import PredictorError
from mdbench.core.progress import no_advance
from mdbench.evaluation import streaming
from mdbench.evaluation.running import answers
from mdbench.evaluation.serving import Source, predict_by_name

TASK = "mtd-q3-m2"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a scheduler with two workers, each started as people start them."""
    folder = tmp_path_factory.mktemp("dask")
    dask = [sys.executable, "-m", "dask"]
    told = folder / "scheduler.json"
    with ExitStack() as stack:

        def start(*arguments):
            process = subprocess.Popen(
                [*dask, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told))
        for _ in range(2):
            start("worker", "--scheduler-file", str(told), "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")
        deadline = time.monotonic() + 60
        while not told.exists() or not told.read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield json.loads(told.read_text())["address"]


def events(work):
    return [json.loads(line) for line in (work / "processes.jsonl").read_text().splitlines()]


def recorded(folder):
    """A record without what differs from run to run, and its predictions' bytes."""
    (path,) = folder.rglob("*.json")
    record = json.loads(path.read_text())
    assert record.pop("host")["seconds"]
    record.pop("date", None)
    (arrays,) = folder.rglob("*.npz")
    return record, arrays.read_bytes()


@pytest.mark.slow
def test_the_same_record_from_one_process_two_and_a_scheduler_one_of_whose_workers_is_killed(run, address, tmp_path):
    def record(name, *options):
        folder = tmp_path / name
        options = ("--record", "--leaderboard", folder, "--no-cache", *options)
        lengths = ("--lengths", "16,32", "--n-sequences", "1000")
        assert run("evaluate", "--predictor", "md2", "--task", TASK, *lengths, *options).code == 0
        return recorded(folder)

    serial = record("serial", "--work", tmp_path / "serial_work")
    assert len({event["process"] for event in events(tmp_path / "serial_work")}) == 1
    assert record("local", "--cluster", "local:2") == serial

    work = tmp_path / "work"
    killed = []

    def kill():
        """The first process whose second cell has begun."""
        while not killed:
            begun = []
            if (work / "processes.jsonl").exists():
                begun = [e["process"] for e in events(work) if e["event"] == "began"]
            twice = [process for process in begun if begun.count(process) == 2]
            for process in twice[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)
            time.sleep(0.002)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert record("scheduler", "--cluster", address, "--work", work) == serial
    killer.join(timeout=5)
    assert killed
    processes = {event["process"] for event in events(work)}
    assert len(processes) >= 2
    assert killed[0] in processes
    cells = {path.relative_to(work).with_suffix("").as_posix() for path in work.rglob("*.cell")}
    assert {event["cell"] for event in events(work) if event["event"] == "ended"} == cells
    assert len(cells) == 4 + 2 * 4  # gold of 256 sequences at both lengths; md2 at each


@pytest.mark.slow
def test_every_command_that_has_cells_comes_to_the_same_on_workers(address, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "SHARD", 512)  # several shards, begun ahead of one another
    options = {"task": [TASK, "mtd-q5-m3"], "lengths": [16, 32], "n_sequences": 1100, "seed": 3, "cache": "none"}
    evaluate = ["md1", "trained_l3", "laplace"], options | {"lengths": [16], "n_sequences": 30, "task": TASK}
    with open_cluster(address) as workers:
        for predictors, given in ((["md1", "oracle", "uniform"], options), evaluate):
            here, there = (mdbench.evaluate(predictors, **given, cluster=cluster) for cluster in (None, workers))
            columns = [name for name in here.table.columns if name != "seconds"]
            assert here.table[columns].equals(there.table[columns])
            assert here.per_sequence.equals(there.per_sequence)
            assert here.ties == there.ties
        numbers = {"length": 16, "n_sequences": 20, "calibration_length": 8, "n_simulations": 80, "cache": False}
        methods = ["urn", "laplace"]
        here, there = (
            mdbench.validate(tasks=[TASK], methods=methods, **numbers, cluster=cluster) for cluster in (None, workers)
        )
        for a, b in zip(here.accuracies + here.calibrations, there.accuracies + there.calibrations, strict=True):
            apart = {k for k in vars(a) if vars(a)[k] != vars(b)[k]}
            assert apart <= {"seconds", "ess_per_second"}
        assert here.verdicts == there.verdicts
        (claim,) = mdbench.reproduce(["first_order"], fast=True)
        (elsewhere,) = mdbench.reproduce(["first_order"], fast=True, cluster=workers)
        assert elsewhere.finding.rows == claim.finding.rows
        assert elsewhere.finding.verdict == claim.finding.verdict
        config = mdbench.preset_config("conditional", 8, steps=60)
        for name, cluster in (("here", None), ("there", workers)):
            mdbench.train(TASK, config, tmp_path / name, seeds=(0, 1), cluster=cluster)
        for seed in (0, 1):
            weights = [tmp_path / name / f"seed{seed}" / "weights.safetensors" for name in ("here", "there")]
            assert weights[0].read_bytes() == weights[1].read_bytes()
        cards = [(tmp_path / "there" / f"seed{seed}" / "card.json").stat().st_mtime_ns for seed in (0, 1)]
        mdbench.train(TASK, config, tmp_path / "there", seeds=(0, 1), cluster=workers)  # finished: nothing is done
        assert cards == [(tmp_path / "there" / f"seed{seed}" / "card.json").stat().st_mtime_ns for seed in (0, 1)]


@pytest.mark.slow
def test_what_fails_on_workers_is_reported_and_the_rest_goes_on(tmp_path):
    """A predictor that ends its process, and one that breaks its contract."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import os, numpy as np\n"
        "def dies(contexts):\n    os._exit(3)\n"
        "def breaks(contexts):\n    return np.ones((len(contexts), 3))\n"
    )
    names = [f"{file}:{name}" for name in ("breaks", "dies")]
    given = {"task": TASK, "lengths": [16], "n_sequences": 300, "references": (), "cluster": "local:2"}
    found = mdbench.evaluate(["md1", *names], **given)
    assert [r.predictor for r in found.results] == ["md1"]
    reasons = {f.predictor: f.reason for f in found.failed}
    assert "sum" in reasons[names[0]]
    assert reasons[names[1]].endswith("the workers that computed it died, one after the other.")


@pytest.mark.slow
def test_a_folder_that_workers_do_not_see(address, tmp_path, monkeypatch):
    config = mdbench.preset_config("conditional", 8, steps=60)
    with open_cluster(address) as workers:
        monkeypatch.setattr(workers, "everywhere", lambda _function, _path: {"tcp://there:1": False})
        with pytest.raises(mdbench.InputError, match="worker tcp://there:1 does not see the folder"):
            mdbench.train(TASK, config, tmp_path / "runs", cluster=workers)


def test_a_worker_builds_anew_what_has_changed_since(tmp_path):
    """Workers outlive a command: the same name may mean another file then."""
    file, task = tmp_path / "mine.py", mdbench.load_task(TASK)
    tokens = np.zeros((4, 9), dtype=np.int64)
    for row in ([0.2, 0.3, 0.5], [0.5, 0.3, 0.2]):
        file.write_text(f"import numpy as np\ndef mine(contexts):\n    return np.tile({row}, (len(contexts), 1))\n")
        text = f"{file}:mine"
        source = Source(text, task, "cpu", None, None, answers(text, task, "cpu", None, "none").key)
        probs = predict_by_name(source, 8, 0, tokens, no_advance)["probs"]
        np.testing.assert_allclose(probs, [row] * 4)
    file.write_text(file.read_text() + "# other\n")
    with pytest.raises(PredictorError, match="differs in its sources between a worker and here"):
        predict_by_name(source._replace(key=source.key | {"sources": "other"}), 8, 0, tokens, no_advance)


def test_an_object_has_no_name_that_a_worker_could_know():
    def mine(contexts):
        return contexts

    with pytest.raises(mdbench.InputError, match="what a cluster computes must have a name"):
        mdbench.evaluate(mine, task=TASK, lengths=[16], n_sequences=8, cluster="local")
