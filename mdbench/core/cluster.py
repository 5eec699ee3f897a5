"""Cells computed by the workers of a Dask cluster: on the cores of this machine, or wherever its scheduler says.

A cell is a call of a function on arguments that can be sent. Whatever computes it, it is the same call, so results are
those of one process. What a worker sends back is its value or the error that the call raised; anything else (a worker
that died, a full disk) is tried again on whatever worker is free, three times in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import platform
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar

from mdbench.core.compilation import machine
from mdbench.core.device import n_cores
from mdbench.core.errors import InputError, PredictorError, reason_of, shown, warn_once
from mdbench.core.progress import BEGAN, ENDED, Advance, Note, no_advance, no_note
from mdbench.core.store import LIBRARIES, code_hash

Item = TypeVar("Item")
Value = TypeVar("Value")
Error = TypeVar("Error", bound=Exception)

ATTEMPTS = 3  # at a cell

ANSWER, FIRST_WORKER = 20, 60  # seconds in which a scheduler answers, and has a worker

PATIENCE = 10  # seconds without a worker until that is said

MOST_A_CORE = 8  # processes of ``local:N``

AHEAD = 4  # cells begun for each worker before the first of them is waited for

PACKAGES = (
    "core",
    "tasks",
    "baselines",
    "algorithms",
    "predictors",
    "evaluation",
    "posteriors",
    "training",
    "board",
    "mechanism",
    "claims",
)
"""Whose source must be the same on all workers."""


class CellFailure(RuntimeError):
    """A cell could not be computed, however often it was tried. The message says how it failed in the end."""


class _Stranger(Exception):
    """A worker that came later has another mdbench, or other libraries."""

    def __init__(self, address: str, sentence: str) -> None:
        super().__init__(address, sentence)
        self.address, self.sentence = address, sentence


class _Reply(NamedTuple):
    """What a worker sends: the value of a call, or the error that it raised."""

    value: Any
    error: Exception | None


class Cluster:
    """The workers of a scheduler, all of them with the mdbench that this process has."""

    def __init__(self, client: Any) -> None:
        self._client, self._topic = client, f"mdbench-{uuid.uuid4().hex}"
        self._expected = fingerprint()
        self._told: dict[str, _Told] = {}
        self._strangers: dict[str, str] = {}  # workers that are not used, and why
        self._waiting: list[_Call] = []  # begun and not sent
        self._batch = 1  # how many are sent together
        client.subscribe_topic(self._topic, self._hear)

    @property
    def n_workers(self) -> int:
        """How many there are now."""
        return max(1, len(self._workers()))

    @property
    def hosts(self) -> list[str]:
        """Of the workers, each once: for what others beside it would disturb."""
        return sorted({about["host"] for about in self._workers().values()})

    def everywhere(self, function: Callable[..., Value], *arguments: Any) -> dict[str, Value]:
        """What a function returns on every worker, by address."""
        return self._client.run(function, *arguments)

    def send(self, value: Any) -> Any:
        """Something large that several calls take as an argument: it is sent once, and again if a worker is lost."""
        return self._client.submit(_same, value, pure=False)

    def begin(
        self,
        function: Callable[..., Value],
        *arguments: Any,
        total: float = 1,
        advance: Advance = no_advance,
        note: Note = no_note,
        keep: Callable[[Value], object] | None = None,
        host: str | None = None,
    ) -> Callable[[], Value]:
        """Begin ``function(*arguments, advance)`` on a worker; what is returned waits for it.

        Args:
            function: of a module, so that the worker finds it.
            arguments: that can be sent, or what :meth:`send` returned.
            total: how much it is, in what ``advance`` counts.
            advance: called as it goes on, and with the rest when it is done.
            note: told where it is computed.
            keep: given the value as soon as it is there, from a thread of its own, whatever is waited for.
            host: the only one whose workers may do it.

        Raises (what waits):
            InputError, PredictorError: as the function does; the scheduler is gone; no worker has this mdbench.
            CellFailure: it failed three times in any other way.
        """
        call = _Call(function, arguments, _Told(total, advance, note), keep, host)
        self._told[call.name] = call.told
        if host is not None:
            self._send([call])
        else:
            self._waiting.append(call)
            if len(self._waiting) >= self._batch:
                self._flush()
        return functools.partial(self._wait, call)

    @contextlib.contextmanager
    def batches(self, of: int) -> Iterator[None]:
        """Meanwhile so many calls are sent together: for work that takes little longer than sending it."""
        before, self._batch = self._batch, of
        try:
            yield
        finally:
            self._flush()
            self._batch = before

    def _flush(self) -> None:
        """Send what has been begun."""
        calls, self._waiting = self._waiting, []
        if calls:
            self._send(calls)

    def _send(self, calls: list[_Call]) -> None:
        given: dict[str, Any] = {} if calls[0].host is None else {"workers": [calls[0].host]}
        if self._strangers and not given:
            known = [worker for worker in self._workers() if worker not in self._strangers]
            if not known:
                raise InputError(next(iter(self._strangers.values())))
            given = {"workers": known}
        of_calls = [(call.name, call.function, len(call.arguments)) for call in calls]
        future = self._client.submit(
            _on_worker, self._expected, self._topic, of_calls, *itertools.chain(*(call.arguments for call in calls)),
            key=f"{calls[0].function.__name__}-{uuid.uuid4().hex}", pure=False, retries=ATTEMPTS - 1, **given,
        )  # fmt: skip
        once, fetch = threading.Lock(), functools.cache(functools.partial(self._replies, future))

        def replies() -> list[_Reply]:  # sent here once, whoever asks first, and held while one needs it
            with once:
                return fetch()

        for place, call in enumerate(calls):
            call.replies, call.place, call.alone = replies, place, len(calls) == 1
        if any(call.keep for call in calls):
            future.add_done_callback(functools.partial(_keep, calls, replies))

    def _workers(self) -> dict[str, Any]:
        """What is known of each, by address."""
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def _replies(self, future: Any) -> list[_Reply]:
        """To all calls that were sent together; while there is nobody to compute them, that is said."""
        while True:
            try:
                return future.result(timeout=PATIENCE)
            except TimeoutError:
                if future.done():
                    raise
                if not self._workers().keys() - self._strangers.keys():
                    warn_once("the cluster has no worker; waiting for one ...")

    def _wait(self, call: _Call) -> Any:
        """The value of a call; one that failed with others is tried by itself."""
        if call.replies is None:
            self._flush()
        try:
            while True:
                assert call.replies is not None, "it has been sent"
                try:
                    reply = call.replies()[call.place]
                except Exception as error:  # whatever happened there
                    if type(error).__name__ in ("FutureCancelledError", "CancelledError"):
                        raise InputError(
                            "the Dask scheduler is gone; when there is one again, the same command with --work goes on."
                        ) from None
                    # To Dask a cell that waited at a worker when it died is as suspect as the one that ran.
                    died = type(error).__name__ == "KilledWorker"
                    if call.alone and not died:
                        raise CellFailure(f"it failed {ATTEMPTS} times: {reason_of(error)}".rstrip(".")) from None
                    if call.alone and call.told.begun >= ATTEMPTS:
                        raise CellFailure("the workers that computed it died, one after the other") from None
                    if not call.alone:
                        call.told.begun = 0
                else:
                    if not isinstance(reply.error, _Stranger):
                        break
                    self._refuse(reply.error, call)
                self._send([call])
        finally:
            del self._told[call.name]
            call.replies = None
        if reply.error is not None:
            raise reply.error
        call.told.end()
        return reply.value

    def _refuse(self, stranger: _Stranger, call: _Call) -> None:
        """Use a worker no more, and say so."""
        if call.host is not None:
            raise InputError(stranger.sentence)
        self._strangers[stranger.address] = stranger.sentence
        warn_once(f"{stranger.sentence.partition(';')[0]}: it is not used.")

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        """What a worker says of a cell while it computes it."""
        said = event[1]
        told = self._told.get(said["call"])
        if told is not None:
            told.hear(said)


class _Call:
    """A call that has been begun, and where its reply will be."""

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        told: _Told,
        keep: Callable[[Any], object] | None,
        host: str | None,
    ) -> None:
        self.function, self.arguments, self.told, self.name = function, arguments, told, uuid.uuid4().hex
        self.keep, self.host = keep, host
        self.replies: Callable[[], list[_Reply]] | None = None  # to all calls that were sent together
        self.place, self.alone = 0, True


class _Told:
    """What has been told of one call: a cell that is begun again does not count what it did before."""

    def __init__(self, total: float, advance: Advance, note: Note) -> None:
        self.total, self.advance, self.note = total, advance, note
        self.done = self.shown = 0.0
        self.begun = 0  # how often
        self.lock = threading.Lock()

    def hear(self, said: dict[str, Any]) -> None:
        with self.lock:
            if "event" in said:
                self.note(said["event"], said["host"], said["process"])
                self.begun += said["event"] == BEGAN
                self.done = 0.0
            else:
                self._show(self.done + said["did"])

    def end(self) -> None:
        with self.lock:
            self._show(self.total)

    def _show(self, done: float) -> None:
        self.done = done
        if done > self.shown:
            self.advance(done - self.shown)
            self.shown = done


def _keep(calls: list[_Call], replies: Callable[[], list[_Reply]], future: Any) -> None:
    """When all of them are there: those that came to something."""
    if future.status == "finished":
        for call, reply in zip(calls, replies(), strict=True):
            if call.keep is not None and reply.error is None:
                call.keep(reply.value)


@contextlib.contextmanager
def open_cluster(address: str | Cluster | None) -> Iterator[Cluster | None]:
    """The cluster at an address while it is needed: ``local``, ``local:N`` or a scheduler's; None without one.

    ``local:N`` are N processes on this machine, as many as it has cores if no number is given. One that is open already
    stays open.

    Raises:
        InputError: it is no address, nothing answers there, or the workers have another mdbench, or other libraries.
    """
    if address is None or isinstance(address, Cluster):
        yield address
        return
    local = re.fullmatch(r"local(?::([1-9][0-9]{0,3}))?", address)
    if not local and not re.fullmatch(r"(tcp|tls|ucxx?|wss?)://\S+:[0-9]{1,5}|inproc://\S+", address):
        raise InputError(
            f"--cluster takes local, local:4 (processes on this machine) or the address of a Dask scheduler such as "
            f"tcp://10.0.0.5:8786, not {shown(address)}."
        )
    n_local = int(local[1] or n_cores()) if local else 0
    if n_local > MOST_A_CORE * n_cores():
        raise InputError(
            f"--cluster {address} is {n_local} processes, and this machine has {n_cores()} cores; give at most "
            f"{MOST_A_CORE} a core."
        )
    if find_spec("distributed") is None:
        raise InputError("--cluster needs Dask, which is not installed: pip install 'mdbench[cluster]'.")
    import dask
    from distributed import Client, LocalCluster

    # The third worker that dies with a cell is the last. Of another scheduler that is a setting of its own.
    settings = {
        "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
        "distributed.admin.large-graph-warning-threshold": "1 TiB",
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        for name in ("distributed", "distributed.client"):  # which tell of every worker that comes and goes
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        where: Any = address
        if local:
            # Whoever reaches a scheduler runs code on its workers: other users of this machine lack the certificate.
            given = {
                "threads_per_worker": 1,
                "security": True,
                "dashboard_address": "127.0.0.1:0",
                "silence_logs": logging.CRITICAL,
            }
            where = stack.enter_context(LocalCluster(n_workers=n_local, **given))
        else:
            _check_scheduler(address)
        try:
            client = stack.enter_context(Client(where, timeout=ANSWER, set_as_default=False))
            client.wait_for_workers(1, timeout=FIRST_WORKER)
        except TimeoutError:
            raise InputError(f"the Dask scheduler at {shown(address)} has no worker after {FIRST_WORKER} s.") from None
        except (OSError, ValueError):
            raise InputError(f"the Dask scheduler at {shown(address)} is gone.") from None
        check_workers(client)
        yield Cluster(client)


def _check_scheduler(address: str) -> None:
    """Raise :class:`InputError` unless a Dask scheduler answers there.

    Before there is a client, which waits for ever for one that takes a connection and says nothing.
    """
    from distributed.core import rpc
    from distributed.security import Security

    async def ask() -> None:
        async with rpc(address, connection_args=Security().get_connection_args("client")) as scheduler:
            await asyncio.wait_for(scheduler.identity(), ANSWER)

    try:
        with ThreadPoolExecutor(1) as own:  # a notebook has a loop in this thread
            own.submit(asyncio.run, ask()).result()
    except (OSError, ValueError):  # TimeoutError is an OSError
        raise InputError(f"the Dask scheduler at {shown(address)} does not answer within {ANSWER} s.") from None
    except Exception as error:  # such as TLS without certificates
        raise InputError(f"no Dask scheduler can be asked at {shown(address)}: {reason_of(error)}") from None


def check_workers(client: Any) -> None:
    """Raise :class:`InputError` unless every worker has the mdbench and the libraries that this process has.

    Another kind of processor is said: it may compute other last digits.
    """
    here = fingerprint()
    try:
        there: dict[str, dict[str, str]] = client.run(fingerprint)
    except Exception as error:  # such as no mdbench at all
        raise InputError(f"the workers cannot run this mdbench: {reason_of(error)}") from None
    for address, found in sorted(there.items()):
        _compare(found, here, address)
    others = sorted(address for address, kind in client.run(machine).items() if kind != machine())
    if others:
        warn_once(f"worker {others[0]} has another kind of processor: last digits may differ from those made here.")


@functools.cache
def fingerprint() -> dict[str, str]:
    """What all numbers depend on, by name: mdbench, its source, Python and the libraries that compute."""
    found = {name: version(name) for name in ("mdbench", *LIBRARIES)} | {"Python": platform.python_version()}
    return found | {"the source of mdbench": code_hash(*(f"mdbench.{package}" for package in PACKAGES))[:12]}


def _compare(found: dict[str, str], here: dict[str, str], address: str) -> None:
    for name, value in here.items():
        if found.get(name) != value:
            raise InputError(
                f"worker {address} has {name} {found.get(name, 'unknown')}, and here it is {value}; "
                "give all of them one version."
            )


def ahead(
    items: Iterable[Item], begin: Callable[[Item], Callable[[], Value]], n: int, *errors: type[Error]
) -> Iterator[tuple[Item, Value | Error]]:
    """Each item with what its :func:`begin` returned returns, in order, while the next ``n`` are begun already.

    An error of these kinds is what comes of that item, and the others go on.
    """

    def begin_or_fail(item: Item) -> Callable[[], Value | Error]:
        try:
            wait = begin(item)
        except errors as error:
            failure = error
            return lambda: failure

        def wait_or_fail() -> Value | Error:
            try:
                return wait()
            except errors as error:
                return error

        return wait_or_fail

    begun: deque[tuple[Item, Callable[[], Value | Error]]] = deque()
    for item in items:
        begun.append((item, begin_or_fail(item)))
        if len(begun) > n:
            first, found = begun.popleft()
            yield first, found()
    for first, found in begun:
        yield first, found()


def _same(value: Value) -> Value:
    return value


_ONE = threading.Lock()  # a cell uses a process's cores, and what it prints goes where that process says


def _on_worker(
    expected: dict[str, str], topic: str, calls: list[tuple[str, Callable[..., Any], int]], *arguments: Any
) -> list[_Reply]:
    """On a worker: one call after the other, with word of when each begins, how it goes on and that it ended.

    Each is given by its name, its function and how many of the arguments are its own.
    """
    from distributed import get_worker

    worker = get_worker()
    replies = []
    with _ONE:
        try:
            _compare(fingerprint(), expected, worker.address)  # it may have come later
        except InputError as error:
            return [_Reply(None, _Stranger(worker.address, str(error)))] * len(calls)
        for name, function, n in calls:
            replies.append(_reply(worker, topic, name, functools.partial(function, *arguments[:n])))
            arguments = arguments[n:]
    return replies


def _reply(worker: Any, topic: str, name: str, function: Callable[[Advance], Any]) -> _Reply:
    from distributed.utils import sync

    key = worker.get_current_task()

    def say(**what: Any) -> None:
        worker.log_event(topic, {"call": name} | what)

    def advance(k: float) -> None:
        here = worker.state.tasks.get(key)
        if here is None or here.state == "cancelled":
            raise RuntimeError("nobody waits for it any more")
        say(did=float(k))

    who = {"host": platform.node(), "process": os.getpid()}
    # Whatever the cell does to this process, that it began is known.
    sync(worker.loop, worker.scheduler.log_event, topic=topic, msg={"call": name, "event": BEGAN} | who)
    try:
        return _Reply(function(advance), None)
    except (InputError, PredictorError, FloatingPointError) as error:
        return _Reply(None, error)
    finally:
        say(event=ENDED, **who)
