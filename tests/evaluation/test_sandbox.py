"""Hostile predictors in the sandbox, each beside an honest one, by ``mdbench evaluate --isolate``."""

import json
import os
import re
import socket
import time

import numpy as np
import psutil
import pytest

from mdbench.core.errors import InputError, PredictorError
from mdbench.evaluation import sandbox
from mdbench.evaluation.isolation import Isolated, Limits
from mdbench.tasks import load_task, sample

pytestmark = pytest.mark.skipif(sandbox.missing() is not None, reason=str(sandbox.missing()))

TASK = load_task("mtd-q3-m2")

HOSTILE = """
import os, signal, socket, struct, subprocess, sys, time
import numpy as np

def honest(contexts):
    return np.full((len(contexts), 3), 1 / 3)

def said(*facts):
    raise RuntimeError(" | ".join(map(str, facts)))

def reads_command_lines(contexts):
    seen = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        seen += open(f"/proc/{pid}/cmdline").read().split("\\0")
    said([word for word in seen if "evaluate" in word or "pytest" in word or "n-sequences" in word])

def signals_others(contexts):
    others = [int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and int(pid) not in (1, os.getpid())]
    said(others, os.getppid())

def writes(contexts):
    for place in PLACES:
        try:
            with open(os.path.join(place, "planted"), "w") as file:
                file.write("x")
        except OSError:
            continue
        said("written", place)
    said("nothing written")

def looks(contexts):
    there = [place for place in (*PLACES, *HIDDEN) if os.path.exists(place) and os.path.isdir(place)
             and os.listdir(place)]
    files = [place for place in HIDDEN if os.path.isfile(place) and open(place).read()]
    said(there, files, sorted(os.listdir(os.path.dirname(os.path.abspath(__file__)))))

def calls_home(contexts):
    try:
        socket.create_connection(("127.0.0.1", PORT), 3)
    except OSError as error:
        said("no network", type(error).__name__)
    said("connected")

def leaves_a_daemon(contexts):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "98765"])
        os._exit(0)
    os.wait()
    return honest(contexts)

def fills_memfd(contexts):
    file = os.memfd_create("x")
    for _ in range(64):
        os.write(file, bytes(2**26))
        time.sleep(0.05)
    return honest(contexts)

def fills_shm(contexts):
    for k in range(64):
        with open(f"/dev/shm/{k}", "wb") as file:
            file.write(bytes(2**26))
        time.sleep(0.05)
    return honest(contexts)

def fills_by_children(contexts):
    for _ in range(8):
        if os.fork() == 0:
            held = np.ones(2**25)
            time.sleep(100)
    time.sleep(100)

def fills_while_nobody_asks(task):
    import threading
    def fill():
        held = []
        for _ in range(64):
            held.append(np.ones(2**23))
            time.sleep(0.05)
        time.sleep(100)
    threading.Thread(target=fill, daemon=True).start()
    class P:
        def predict(self, contexts):
            return honest(contexts)
    return P()

def forks_without_end(contexts):
    while True:
        os.fork()

def gets_rights(contexts):
    answers = []
    for command in (["unshare", "-Ur", "id"], ["mount", "-t", "tmpfs", "none", "/tmp"], ["chroot", "/", "id"]):
        answers.append(subprocess.run(command, capture_output=True).returncode)
    said(all(answers), [line for line in open("/proc/self/status") if line.startswith("CapEff")])

def changes_the_machine(contexts):
    # Opens everything in /proc that is not of a process for writing, and writes nothing.
    opened = []
    for folder, folders, files in os.walk("/proc"):
        folders[:] = [name for name in folders if not (folder == "/proc" and name.isdecimal())]
        folders[:] = [name for name in folders if name not in ("self", "thread-self")]
        for name in files:
            try:
                os.close(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_NONBLOCK))
                opened.append(os.path.join(folder, name))
            except OSError:
                pass
    said("opened", opened)

class Unlike(BaseException):
    pass

def raises_what_nobody_catches(contexts):
    raise Unlike("of its own")

def devices(contexts):
    said(sorted(os.listdir("/dev")))
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """The file, beside a board and what is hidden; what it must neither see nor change stands in it."""
    project = tmp_path / "project"
    for folder in ("leaderboard/records", ".secret", "package"):
        (project / folder).mkdir(parents=True)
        (project / folder / "kept").write_text("kept")
    (project / ".token").write_text("secret")
    for deep in ("package/deep/.ssh", "package/deep/leaderboard/records", "package/cache"):
        (project / deep).mkdir(parents=True)
        (project / deep / "kept").write_text("kept")
    board = tmp_path / "board"
    (board / "records").mkdir(parents=True)
    cache, home = project / "package/cache", tmp_path / "home"
    for folder in (cache, home):
        folder.mkdir(exist_ok=True)
        (folder / "kept").write_text("kept")
    monkeypatch.setenv("MDBENCH_CACHE", str(cache))
    monkeypatch.setenv("HOME", str(home))
    places = [str(place) for place in (cache, home, board, project, project / "leaderboard/records")]
    places += [os.path.dirname(sandbox.__file__), "/usr/lib", "/etc"]
    hidden = [str(project / "package" / deep) for deep in ("deep/.ssh", "deep/leaderboard", "cache")]
    hidden += [str(project / ".token"), str(project / ".secret"), "/etc/shadow", "/var", "/home", "/root/.ssh"]
    path = project / "hostile.py"
    path.write_text(f"PLACES = {places!r}\nHIDDEN = {hidden!r}\nPORT = 0\n{HOSTILE}")
    return path


def reason(run, path, name, capsys, *more):
    """Why it failed, beside an honest one that did not."""
    names = [x for each in (name, "honest") for x in ("--predictor", f"{path}:{each}")]
    options = ["--task", TASK.name, "--lengths", 16, "--n-sequences", 8, "--no-references", "--isolate", "--json"]
    code = run("evaluate", *names, *options, *more).code
    found = json.loads(capsys.readouterr().out)
    assert f"{path}:honest" in [r["predictor"] for r in found["results"]]
    failed = {f["predictor"]: f["reason"] for f in found["failed"]}
    assert code == (1 if failed else 0)
    return failed.get(f"{path}:{name}")


SEEN = {
    "reads_command_lines": r"RuntimeError: \[\]\.$",
    "signals_others": r"RuntimeError: \[\] \| 1\.$",
    "writes": "nothing written",
    "changes_the_machine": r"opened \| \[\]\.$",
    "gets_rights": r"True \| \['CapEff:\\t0000000000000000",
}


@pytest.mark.parametrize("name", SEEN)
def test_it_sees_and_changes_nothing_of_ours(run, hostile, capsys, name):
    assert re.search(SEEN[name], reason(run, hostile, name, capsys))
    assert not list(hostile.parents[1].rglob("planted"))


def test_it_sees_its_own_folder_without_what_is_hidden_there_and_no_board(run, hostile, capsys):
    there, files, beside = reason(run, hostile, "looks", capsys).rpartition("RuntimeError: ")[2].split(" | ")
    visible = [str(hostile.parent), os.path.dirname(sandbox.__file__), "/usr/lib", "/etc"]
    assert set(json.loads(there.replace("'", '"'))) <= set(visible)
    assert files == "[]"
    assert "package" in beside


def test_whatever_it_raises_is_its_own_failure(run, hostile, capfd):
    assert "failed: Unlike: of its own" in reason(run, hostile, "raises_what_nobody_catches", capfd)


@pytest.mark.parametrize(
    "origin",
    [
        "[]",
        '{"url": 5, "dir_info": {"editable": true}}',
        "[" * 100_000,
        '{"url": "file:///", "dir_info": {"editable": true}}',
    ],
    ids=["list", "number", "deep", "root"],
)
def test_what_another_distribution_says_of_its_origin_ends_nothing(tmp_path, monkeypatch, origin):
    (tmp_path / "evil-1.dist-info").mkdir()
    (tmp_path / "evil-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (tmp_path / "evil-1.dist-info" / "direct_url.json").write_text(origin)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert str(tmp_path) not in sandbox.command([], "cpu")


def test_it_has_no_network(run, hostile, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        hostile.write_text(hostile.read_text().replace("PORT = 0", f"PORT = {server.getsockname()[1]}"))
        assert "no network" in reason(run, hostile, "calls_home", capsys)


def test_it_has_the_devices_of_everybody_alone(run, hostile, capsys):
    found = reason(run, hostile, "devices", capsys)
    assert "'null'" in found
    assert "sda" not in found
    assert "nvidia" not in found


def test_no_daemon_outlives_it(run, hostile, capsys):
    assert reason(run, hostile, "leaves_a_daemon", capsys) is None
    deadline = time.monotonic() + 20
    while any(
        "98765" in process.info["cmdline"] for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


FILLS = ["fills_memfd", "fills_shm", "fills_by_children"]


@pytest.mark.parametrize(
    ("name", "group"),
    [(name, False) for name in FILLS] + [pytest.param(name, True, marks=pytest.mark.slow) for name in FILLS],
    ids=lambda value: {True: "cgroup", False: "polling"}.get(value, value),
)
def test_memory_is_counted_wherever_it_lies(run, hostile, capsys, monkeypatch, name, group):
    if not group:
        monkeypatch.setattr(sandbox.MemoryGroup, "make", lambda _limit: None)
    elif sandbox.MemoryGroup.make(2**30) is None:
        pytest.skip("no memory cgroup can be made here")
    assert "used more than 0.5 GiB of memory" in reason(run, hostile, name, capsys, "--memory-limit", 0.5)


def test_memory_is_counted_while_nobody_asks(hostile):
    isolated = Isolated(f"{hostile}:fills_while_nobody_asks", TASK, limits=Limits(60, 0.5))
    deadline = time.monotonic() + 30
    while isolated._process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(PredictorError, match=r"used more than 0\.5 GiB"):
        isolated.predict(sample(TASK, 16, 4, seed=0).contexts)


def test_processes_are_counted(run, hostile, capsys):
    assert "processes" in reason(run, hostile, "forks_without_end", capsys, "--time-limit", 30)


def test_memory_of_a_process():
    """Against what this process does itself: resident pages, and a file in memory that nobody has mapped."""
    before, n_processes = sandbox.memory_of(os.getpid())
    file = os.memfd_create("x")
    os.write(file, bytes(2**27))
    after, _ = sandbox.memory_of(os.getpid())
    os.close(file)
    assert n_processes >= 1
    # Pages of libraries that are shared count for what is mapped already: a bound, and no other.
    assert after - before <= 2**27 + 2**24
    held = np.ones(2**24)
    assert sandbox.memory_of(os.getpid())[0] - before > 0.9 * held.nbytes


def test_what_a_name_points_at_is_shown(tmp_path):
    project, weights = tmp_path / "project", tmp_path / "weights"
    for folder in (project, weights):
        folder.mkdir()
    (project / "p.py").touch()
    (weights / "w.npz").touch()
    shown = sandbox.shown_for(f"{project}/p.py:f", [str(weights), 3, "no such file", None])
    assert shown == [project, weights]
    linked = tmp_path / "linked.py"
    linked.symlink_to(project / "p.py")
    assert sandbox.shown_for(f"{linked}:f", []) == [tmp_path, project]
    assert sandbox.shown_for("package.module:f", []) == []
    os.chmod(project, 0o1777)  # as /tmp is
    (project / "secret.txt").touch()
    (project / "package").mkdir()
    (project / "package" / "__init__.py").touch()
    assert set(sandbox.shown_for(f"{project}/p.py:f", [])) == {project / "p.py", project / "package"}


def test_a_folder_with_too_much_to_hide_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "MOST_HIDDEN", 3)
    for k in range(4):
        (tmp_path / f".{k}").touch()
    with pytest.raises(InputError, match="too many hidden files"):
        sandbox.command([tmp_path], "cpu")


def test_options_that_are_paths_can_be_read(tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    np.save(weights / "w.npy", np.array([0.5, 0.25, 0.25]))
    project = tmp_path / "project"
    project.mkdir()
    path = project / "mine.py"
    path.write_text(
        "import numpy as np\n\n\nclass P:\n    def __init__(self, task, weights):\n"
        "        self.w = np.load(weights)\n\n"
        "    def predict(self, contexts):\n        return np.tile(self.w, (len(contexts), 1))\n"
    )
    label = f"{path}:P:weights={weights / 'w.npy'}"
    isolated = Isolated(label, TASK)
    np.testing.assert_array_equal(isolated.predict(np.zeros((2, 16), np.int64)), [[0.5, 0.25, 0.25]] * 2)
