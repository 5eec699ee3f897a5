import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest

from mdbench.core import cluster as cluster_module
from mdbench.core.cluster import ATTEMPTS, CellFailure, ahead, open_cluster
from mdbench.core.errors import InputError, PredictorError, SequenceError, Unsupported


@pytest.fixture(scope="module")
def cluster():
    with open_cluster("local:2") as workers:
        yield workers


def test_calls_run_elsewhere_and_say_how_far_they_are(cluster):
    def count(n, advance):
        for _ in range(n):
            advance(1)
        return os.getpid()

    told, notes = [], []
    wait = cluster.begin(count, 5, total=7, advance=told.append, note=lambda *what: notes.append(what))
    process = wait()
    assert process != os.getpid()
    assert sum(told) == 7  # what it did not tell itself is told at its end
    assert [(event, where) for event, _, where in notes] == [("began", process)] or notes[-1][0] == "ended"


def test_known_errors_come_back_as_they_are_and_once(cluster, tmp_path):
    def refuse(kind, path, _advance):
        with open(path, "a") as file:
            file.write("x")
        raise {"u": Unsupported("no", "label"), "s": SequenceError(3, "bad"), "p": PredictorError("broke")}[kind]

    for kind, error in (("u", Unsupported), ("s", SequenceError), ("p", PredictorError)):
        path = tmp_path / kind
        with pytest.raises(error) as caught:
            cluster.begin(refuse, kind, str(path))()
        assert path.read_text() == "x"
        if kind == "u":
            assert caught.value.label == "label"
        if kind == "s":
            assert (caught.value.index, str(caught.value)) == (3, "sequence 4: bad")


def test_any_other_error_is_tried_three_times(cluster, tmp_path):
    def fail(path, until, _advance):
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < until:
            raise OSError("disk full")
        return "there"

    assert cluster.begin(fail, str(tmp_path / "a"), ATTEMPTS)() == "there"
    with pytest.raises(CellFailure, match="failed 3 times: OSError: disk full"):
        cluster.begin(fail, str(tmp_path / "b"), ATTEMPTS + 1)()
    assert (tmp_path / "b").read_text() == "x" * ATTEMPTS


def test_calls_that_are_sent_together_fail_apart(cluster, tmp_path):
    def work(k, path, _advance):
        with open(f"{path}-{k}", "a") as file:
            file.write("x")
        if k == 2:
            raise InputError("no")
        if k == 3:
            raise OSError("disk full")
        return os.getpid()

    with cluster.batches(4):
        begun = [cluster.begin(work, k, str(tmp_path / "log")) for k in range(6)]
        first, second = begun[0](), begun[1]()
        with pytest.raises(InputError, match="no"):
            begun[2]()
        with pytest.raises(CellFailure, match="disk full"):
            begun[3]()
        assert begun[4]() == begun[5]()  # the last two went together, though there are no four
    assert isinstance(first, int)
    assert isinstance(second, int)
    with pytest.raises(CellFailure, match="disk full"):
        cluster.begin(work, 3, str(tmp_path / "again"))()
    assert (tmp_path / "log-4").read_text() == "x"


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_what_it_was_sent_is_sent_again(cluster, tmp_path):
    def die_once(path, numbers, _advance):
        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return sum(numbers)

    sent = cluster.send(list(range(10)))
    begun = [cluster.begin(die_once, str(tmp_path / f"{k}"), sent) for k in range(2)]
    assert [wait() for wait in begun] == [45, 45]


@pytest.mark.slow
def test_a_cell_that_kills_its_workers_is_given_up(cluster, tmp_path):
    def die(path, _advance):
        with open(path, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    def live(_advance):
        return "lived"

    dying = cluster.begin(die, str(tmp_path / "deaths"))
    beside = [cluster.begin(live) for _ in range(30)]  # which wait at those workers, and have done nothing
    with pytest.raises(CellFailure, match="died, one after the other"):
        dying()
    assert (tmp_path / "deaths").read_text() == "x" * ATTEMPTS
    assert {wait() for wait in beside} == {"lived"}


def test_one_cell_at_a_time_in_a_process(cluster):
    def busy(seconds, _advance):
        began = time.time()
        time.sleep(seconds)
        return os.getpid(), began, time.time()

    spans = sorted(wait() for wait in [cluster.begin(busy, 0.05) for _ in range(6)])
    for (p, _, ended), (q, began, _) in pairwise(spans):
        assert p != q or began >= ended


def test_workers_of_another_version_are_refused(cluster, monkeypatch):
    here = cluster_module.fingerprint()
    cluster_module.check_workers(cluster._client)

    class Old:
        def run(self, function):
            return {"tcp://there:1": here | {"jax": "0.0.1"} if function is cluster_module.fingerprint else "cpu"}

    with pytest.raises(InputError, match=r"worker tcp://there:1 has jax 0\.0\.1, and here it is \S+; give"):
        cluster_module.check_workers(Old())
    monkeypatch.setattr(cluster, "_expected", here | {"numpy": "1"})  # one that comes later is found out by its cells
    monkeypatch.setattr(cluster, "_strangers", {})
    with pytest.raises(InputError, match=r"worker tls://\S+ has numpy \S+, and here it is 1; give"):
        cluster.begin(lambda _advance: 1)()


def test_a_worker_of_another_version_that_comes_later_is_not_used_and_the_others_go_on(cluster, monkeypatch):
    def where(_advance):
        from distributed import get_worker

        return get_worker().address

    stranger = sorted(cluster._workers())[0]
    monkeypatch.setattr(cluster, "_strangers", {})
    cluster.everywhere(_say_another_version_on, stranger)
    try:
        found = {wait() for wait in [cluster.begin(where) for _ in range(8)]}
    finally:
        cluster.everywhere(_say_the_version_again)
    assert found == cluster._workers().keys() - {stranger}
    assert set(cluster._strangers) == {stranger}


def _say_another_version_on(address, dask_worker):
    if dask_worker.address == address:
        cluster_module.fingerprint = lambda: cluster_module_fingerprint() | {"numpy": "1"}


def _say_the_version_again():
    cluster_module.fingerprint = cluster_module_fingerprint


cluster_module_fingerprint = cluster_module.fingerprint


def test_what_is_there_is_kept_whatever_is_waited_for(cluster, tmp_path):
    def work(path, _advance):
        while path is not None and not os.path.exists(path):
            time.sleep(0.01)
        return "there"

    kept = queue.Queue()
    first = cluster.begin(work, str(tmp_path / "go"))
    cluster.begin(work, None, keep=kept.put)  # nobody waits for it
    assert kept.get(timeout=30) == "there"
    (tmp_path / "go").touch()
    assert first() == "there"


def test_no_worker_is_said(cluster, monkeypatch, caplog):
    class Never:
        asked = 0

        def result(self, timeout):
            self.asked += 1
            assert timeout == 0.01
            if self.asked == 3:
                return []
            raise TimeoutError

        def done(self):
            return False

    monkeypatch.setattr(cluster_module, "PATIENCE", 0.01)
    monkeypatch.setattr(cluster, "_workers", dict)
    assert cluster._replies(Never()) == []
    assert [record.message for record in caplog.records] == ["mdbench: the cluster has no worker; waiting for one ..."]


def test_a_scheduler_that_goes_away_is_said(cluster, monkeypatch):
    class FutureCancelledError(Exception):
        pass

    def gone(_future):
        raise FutureCancelledError("scheduler-connection-lost")

    monkeypatch.setattr(cluster, "_replies", gone)
    with pytest.raises(InputError, match="the Dask scheduler is gone"):
        cluster.begin(lambda _advance: 1)()


@pytest.mark.parametrize(
    "address", ["local:0", "here", "tcp://", "10.0.0.1:8786", "tcp://10.0.0.1", "http://10.0.0.1:80"]
)
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match="--cluster takes local"), open_cluster(address):
        pass


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(cluster_module, "ANSWER", 0.5)
    with (
        pytest.raises(InputError, match=r"scheduler at 'tcp://127\.0\.0\.1:1' does not answer within 0\.5 s"),
        open_cluster("tcp://127.0.0.1:1"),
    ):
        pass


@pytest.mark.parametrize("says", [b"", b"HTTP/1.0 400 Bad Request\r\n\r\n"])
def test_something_else_answers(monkeypatch, says):
    monkeypatch.setattr(cluster_module, "ANSWER", 0.5)

    def serve(listening):
        taken, _ = listening.accept()
        taken.sendall(says)
        time.sleep(3)
        taken.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(InputError, match=r"Dask scheduler"), open_cluster(address):
            pass


def test_tls_without_certificates_is_a_sentence():
    said = r"no Dask scheduler can be asked at 'tls://127\.0\.0\.1:1': .*ssl_context"
    with pytest.raises(InputError, match=said), open_cluster("tls://127.0.0.1:1"):
        pass


def test_more_processes_than_a_machine_can_bear():
    said = r"--cluster local:9999 is 9999 processes, and this machine has \d+ cores"
    with pytest.raises(InputError, match=said), open_cluster("local:9999"):
        pass


def test_nobody_works(monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(cluster_module, "FIRST_WORKER", 0.5)
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as idle,
        pytest.raises(InputError, match=r"has no worker after 0\.5 s"),
        open_cluster(idle.scheduler_address),
    ):
        pass


@pytest.mark.parametrize("n", [0, 1, 5])
def test_ahead_begins_so_many_and_keeps_the_order(n):
    log = []

    def begin(k):
        log.append(f"+{k}")
        if k == 1:
            raise ValueError("one")

        def wait():
            log.append(f"-{k}")
            if k == 2:
                raise KeyError("two")
            return k

        return wait

    found = dict(ahead(range(4), begin, n, ValueError, KeyError))
    assert list(found) == [0, 1, 2, 3]
    assert (found[0], found[3]) == (0, 3)
    assert isinstance(found[1], ValueError)
    assert isinstance(found[2], KeyError)
    assert log[: min(n, 3) + 2] == [*(f"+{k}" for k in range(min(n, 3) + 1)), "-0"]


def test_without_dask_the_sentence_says_how_to_get_it():
    script = (
        "import sys; sys.modules['distributed'] = None\n"
        "from mdbench.core.cluster import open_cluster\n"
        "import importlib.util; real = importlib.util.find_spec\n"
        "import mdbench.core.cluster as c; c.find_spec = lambda name: None if name == 'distributed' else real(name)\n"
        "try:\n"
        "    with open_cluster('local'): pass\n"
        "except c.InputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "--cluster needs Dask, which is not installed: pip install 'mdbench[cluster]'.\n"
