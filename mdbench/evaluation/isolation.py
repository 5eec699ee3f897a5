"""A predictor in a process of its own, with a time and a memory limit, which gets contexts and nothing else.

Where bubblewrap is installed the process runs in a sandbox (:mod:`mdbench.evaluation.sandbox`). Whatever it does there
(raise, hang, fill the memory, end the process) is its own failure, a :class:`PredictorError`; what it prints goes to
stderr. Requests and replies are JSON and plain arrays (npy without pickle) over pipes of their own; a reply is believed
to be nothing but what was asked for, by name, size and type.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import psutil
from jaxtyping import Int

from mdbench.core.errors import InputError, PredictorError, Unsupported, reason_of, warn_once
from mdbench.evaluation import sandbox
from mdbench.predictors.catalogue import TOLD, build_predictor, known_defaults, parse_name
from mdbench.predictors.predictor import MOST_RUNS, Parts, check_length, declared, runs_of, to_numpy
from mdbench.tasks import Task, task_from_json, task_to_json

POLL = 0.1  # seconds between looks at the memory

LARGEST_HEADER = 2**20  # bytes of a reply's JSON

LONGEST_MESSAGE = 1000  # characters of it

MOST_PRINTED = 2**16  # bytes of what it prints; the rest is dropped

SIZES = struct.Struct("<QQ")  # of a frame's JSON and of its array

OPTIONAL = ("runs", "predict_all")  # parts of the contract

DECLARED: dict[str, tuple[type, ...]] = {
    "card": (dict, type(None)),
    "precision": (str, type(None)),
    "standard_error": (int, float),
    "fixed_to_task": (bool,),
}

Isolation = Literal["bubblewrap", "process"]  # how a predictor was isolated, as records say it

BUBBLEWRAP: Isolation = "bubblewrap"

PROCESS: Isolation = "process"


@dataclass(frozen=True)
class Limits:
    """The longest that building a predictor or one call may take, and the most memory of its process and children."""

    seconds: float = 600.0
    gibibytes: float = 8.0

    def __post_init__(self) -> None:
        for name in ("seconds", "gibibytes"):
            if not 0 < getattr(self, name) < math.inf:
                what = {"seconds": "time limit", "gibibytes": "memory limit"}[name]
                raise InputError(f"the {what} must be positive and finite {name}, not {getattr(self, name)}.")


def how_isolated() -> Isolation:
    """How predictors are isolated here: in a sandbox by bubblewrap, or in a process alone, which is said once."""
    missing = sandbox.missing()
    if missing is None:
        return BUBBLEWRAP
    warn_once(
        f"{missing}: an isolated predictor has a process of its own and no sandbox; "
        "docs/trust.md says what that leaves open."
    )
    return PROCESS


class Isolated:
    """The predictor that ``text`` names, in a process of its own, within limits.

    It has the optional parts of the contract that the predictor has.

    Raises:
        Unsupported, InputError: as the predictor's factory says.
        PredictorError: anything else that goes wrong in there.
    """

    def __init__(self, text: str, task: Task, device: str = "cpu", limits: Limits | None = None) -> None:
        if text in TOLD:
            raise InputError(f"'{text}' is told θ, and an isolated predictor gets contexts only.")
        self.text, self.limits, self._n_states = text, limits or Limits(), task.n_states
        self.ended_by: PredictorError | None = None  # what ended the process: all later calls fail alike
        child_reads, self._write_to = os.pipe()
        self._read_from, child_writes = os.pipe()
        prints_from, child_prints = os.pipe()
        self._sandboxed = how_isolated() == BUBBLEWRAP
        # The user's cache holds gold, and code that we run: it has one of its own, which ends with it.
        own = tempfile.TemporaryDirectory(prefix="mdbench-isolated-")
        place = sandbox.SCRATCH if self._sandboxed else own.name
        command = [sys.executable, "-P", "-m", "mdbench.evaluation.isolation", str(child_reads), str(child_writes)]
        self._group = None
        with tempfile.TemporaryFile() as walls:
            if self._sandboxed:
                entry, options = parse_name(text)
                program, *arguments, end = sandbox.command(sandbox.shown_for(entry.target, options.values()), device)
                walls.write(b"".join(argument.encode() + b"\0" for argument in arguments))
                walls.seek(0)  # no process in there sees them as the command line of another
                command = [program, "--args", str(walls.fileno()), end, *command]
                self._group = sandbox.MemoryGroup.make(int(self.limits.gibibytes * 2**30))
                command = [*(self._group.command() if self._group else []), *command]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=child_prints,
                stderr=child_prints,
                env=os.environ | {"MDBENCH_CACHE": f"{place}/cache", "JAX_COMPILATION_CACHE_DIR": f"{place}/jax"},
                pass_fds=(child_reads, child_writes, walls.fileno()),
                start_new_session=True,  # so that what it starts ends with it
            )
        for descriptor in (child_reads, child_writes, child_prints):
            os.close(descriptor)
        os.set_blocking(self._write_to, False)
        self._watch = _Watch(self._process, self._group, prints_from, self.limits, text)
        self._watch.start()
        self.close = weakref.finalize(self, _end, self._process, (self._write_to, self._read_from), own, self._group)
        request = {"do": "build", "text": text, "task": task_to_json(task), "device": device}
        built = self._ask(request)[0]
        if not isinstance(built.get("defaults"), dict) or not isinstance(built.get("declared"), dict):
            raise self._unknown_reply()
        self.defaults: dict[str, Any] = built["defaults"]  # of its options
        self._has = [part for part in OPTIONAL if built.get(part) is True]
        for name, value in built["declared"].items():
            if type(value) not in DECLARED.get(name, ()):
                raise self._failure(f"declares {name!s:.80} = {value!r:.80}, of another type than the contract's.")
            setattr(self, name, value)

    def check_length(self, length: int) -> None:
        """As the predictor says."""
        self._ask({"do": "check_length", "length": int(length)})

    @property
    def runs(self) -> Callable[[int], Sequence[Any]] | None:
        """Predictors for a length, one for each training seed, where it has them."""
        return self._runs if "runs" in self._has else None

    @property
    def predict_all(self) -> Callable[[np.ndarray], Any] | None:
        """Its prediction after every prefix, where it has that."""
        return self._predict_all if "predict_all" in self._has else None

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> np.ndarray:
        """As the predictor says."""
        return self.predict_run(contexts, None)

    def predict_run(self, contexts: Int[np.ndarray, "batch length"], run: tuple[int, int] | None) -> Any:
        """One training seed's prediction."""
        return self._predicted({"do": "predict", "run": run}, contexts)

    def _runs(self, length: int) -> Sequence[Any]:
        n = self._ask({"do": "runs", "length": int(length)})[0].get("n")
        if type(n) is not int or not 0 < n <= MOST_RUNS:
            raise self._unknown_reply()
        return [_Run(self, (int(length), k)) for k in range(n)]

    def _predict_all(self, contexts: Int[np.ndarray, "batch length"]) -> Any:
        return self._predicted({"do": "predict_all"}, contexts)

    def _predicted(self, request: dict[str, Any], contexts: Int[np.ndarray, "batch length"]) -> Any:
        reply, answer = self._ask(request, contexts)
        if answer is None:
            raise self._unknown_reply()
        if reply.get("changed") is not None:  # as if it had been handed the array itself
            with contextlib.suppress(Exception):  # whatever it says there
                k, row = reply["changed"]
                contexts[k] = row
        return answer

    def _ask(self, request: dict[str, Any], array: np.ndarray | None = None) -> tuple[dict[str, Any], Any]:
        """Send a request and wait for the reply, within the limits."""
        if self.ended_by is not None:
            raise self.ended_by
        deadline = time.monotonic() + self.limits.seconds
        largest = 0 if array is None else _largest(array, self._n_states)
        try:
            self._send(_frame(request, array), deadline)
            reply, answer = _unframe(lambda n: self._receive(n, deadline), LARGEST_HEADER, largest)
            self._watch.read()
            kind, message = reply.get("kind"), str(reply.get("message"))[:LONGEST_MESSAGE]
            if kind not in ("answer", "unsupported", "input", "failure"):
                raise _NoFrame
        except _NoFrame:
            raise self._end_by(self._unknown_reply()) from None
        except PredictorError as error:
            raise self._end_by(error) from None
        if kind == "unsupported":
            raise Unsupported(message, str(reply.get("label"))[:80])
        if kind == "input":
            raise InputError(message)
        if kind == "failure":
            raise self._failure(message)
        return reply, answer

    def _end_by(self, error: PredictorError) -> PredictorError:
        self.ended_by = error
        self.close()
        return error

    def _failure(self, what: str) -> PredictorError:
        return PredictorError(f"predictor '{self.text}', in a process of its own, {what}")

    def _unknown_reply(self) -> PredictorError:
        return self._failure("sent a reply of no known form.")

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(deadline, [], [self._write_to])
            try:
                view = view[os.write(self._write_to, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise self._ended() from None

    def _receive(self, n: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < n:
            self._wait(deadline, [self._read_from], [])
            part = os.read(self._read_from, min(n - len(parts), 2**20))
            if not part:
                raise self._ended()
            parts += part
        return bytes(parts)

    def _wait(self, deadline: float, reading: list[int], writing: list[int]) -> None:
        while not any(select.select(reading, writing, [], POLL)):
            if time.monotonic() > deadline:
                raise self._failure(f"took longer than {self.limits.seconds:g} seconds.")
        if self._watch.exceeded:
            raise self._failure(self._watch.exceeded)

    def _ended(self) -> PredictorError:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return self._failure("closed the pipe to its results.")
        if self._group is not None and self._group.overflowed:
            self._watch.exceeded = self._watch.exceeded or _too_much(self.limits)
        if self._watch.exceeded:
            return self._failure(self._watch.exceeded)
        self._watch.read()
        lines = [line for line in self._watch.last.decode(errors="replace").splitlines() if line.strip()]
        last = f" Its last words: {lines[-1].strip()[:300]}" if lines else ""
        ended_by = code - 128 if self._sandboxed else -code  # bubblewrap says it as a shell does
        if ended_by in set(signal.Signals):
            return self._failure(f"was ended by {signal.Signals(ended_by).name}.{last}")
        return self._failure(f"ended its process with exit code {code}.{last}")


class _Watch(threading.Thread):
    """Passes on what a process prints, and ends it when it holds too much memory."""

    def __init__(
        self,
        process: subprocess.Popen,
        group: sandbox.MemoryGroup | None,
        prints_from: int,
        limits: Limits,
        text: str,
    ) -> None:
        super().__init__(daemon=True)
        self.exceeded = ""  # which limit
        self.last = b""  # of what it printed
        self._process, self._group, self._limits, self._text = process, group, limits, text
        self._prints_from: int | None = prints_from
        self._lock, self._line, self._n_printed = threading.Lock(), b"", 0

    def run(self) -> None:
        """Until the process has ended."""
        look_at = 0.0
        while self._process.poll() is None:
            open_ends = [] if self._prints_from is None else [self._prints_from]
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                select.select(open_ends, [], [], POLL)
            self.read()
            started = time.monotonic()
            if started >= look_at:
                self._check_memory()
                look_at = time.monotonic() + max(POLL, 10 * (time.monotonic() - started))
        self.read()
        with self._lock:
            if self._prints_from is not None:
                os.close(self._prints_from)
                self._prints_from = None

    def read(self) -> None:
        """Pass on what it has printed by now."""
        with self._lock:
            for _ in range(256):  # it may print faster than that can be read
                if self._prints_from is None or not select.select([self._prints_from], [], [], 0)[0]:
                    return
                data = os.read(self._prints_from, 2**16)
                self.last = (self.last + data)[-2000:]
                if not data:
                    os.close(self._prints_from)
                    self._prints_from = None
                self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if self._n_printed > MOST_PRINTED:
            return
        self._n_printed += len(data)
        *lines, self._line = (self._line + data).split(b"\n")
        if not data or self._n_printed > MOST_PRINTED:
            lines, self._line = [*lines, self._line] if self._line else lines, b""
        if self._n_printed > MOST_PRINTED:
            lines.append(f"mdbench: what else '{self._text}' prints is dropped.".encode())
        for line in lines:
            text = line[:MOST_PRINTED].decode(errors="replace").rstrip("\r").replace("\t", "    ")
            printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
            with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody listens
                print(printable, file=sys.stderr, flush=True)

    def _check_memory(self) -> None:
        with contextlib.suppress(psutil.Error):
            used, n_processes = sandbox.memory_of(self._process.pid)
            overflowed = self._group is not None and self._group.overflowed
            if used > self._limits.gibibytes * 2**30 or overflowed:
                self.exceeded = _too_much(self._limits)
            elif n_processes > sandbox.MOST_PROCESSES:
                self.exceeded = f"started more than {sandbox.MOST_PROCESSES} processes."
            if self.exceeded:
                _kill(self._process)


def _too_much(limits: Limits) -> str:
    return f"used more than {limits.gibibytes:g} GiB of memory."


class _Run:
    """One training seed of an isolated predictor."""

    def __init__(self, of: Isolated, run: tuple[int, int]) -> None:
        self.of, self.run = of, run

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Any:
        return self.of.predict_run(contexts, self.run)


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(
    process: subprocess.Popen,
    pipes: Sequence[int],
    own: tempfile.TemporaryDirectory,
    group: sandbox.MemoryGroup | None,
) -> None:
    _kill(process)
    process.wait()
    for pipe in pipes:
        with contextlib.suppress(OSError):
            os.close(pipe)
    with contextlib.suppress(OSError):
        own.cleanup()
    if group is not None:
        group.remove()


class _NoFrame(Exception):
    """What came is no frame, or one of another size than can be."""


def _largest(contexts: np.ndarray, n_states: int) -> int:
    """Bytes of an answer: what a prediction after every prefix takes in long doubles."""
    return 16 * n_states * (contexts.size + len(contexts))


def _frame(header: dict[str, Any], array: np.ndarray | None = None) -> bytes:
    """Sizes, JSON, and the bytes of an array whose type and shape stand there."""
    raw = b""
    if array is not None:
        array = np.ascontiguousarray(array)
        header, raw = header | {"array": [array.dtype.str, list(array.shape)]}, array.tobytes()
    text = json.dumps(header).encode()
    return SIZES.pack(len(text), len(raw)) + text + raw


def _unframe(
    read: Callable[[int], bytes], largest_header: float = math.inf, largest_array: float = math.inf
) -> tuple[dict[str, Any], np.ndarray | None]:
    """The JSON and the array that ``read`` gives, of limited sizes in bytes, or :class:`_NoFrame`."""
    of_text, of_array = SIZES.unpack(read(SIZES.size))
    if of_text > largest_header or of_array > largest_array:
        raise _NoFrame
    text, raw = read(of_text), read(of_array)
    try:
        header = json.loads(text)
        if "array" not in header:
            return dict(header), None
        name, shape = header["array"]
        dtype = np.dtype(name)
        if dtype.kind not in "biuf":
            raise _NoFrame
        return dict(header), np.frombuffer(raw, dtype).reshape(shape).copy()
    except (ValueError, TypeError, RecursionError) as error:
        raise _NoFrame from error


def _end_with(parent: int) -> None:
    """End with the parent, however busy this process is, and whatever it started too."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def _refuse_pickles(event: str, _arguments: Any) -> None:
    # numba compiles, and keeps what it has compiled, by way of pickles of its own.
    if event == "pickle.find_class" and not str(sys._getframe(1).f_globals.get("__name__")).startswith("numba."):
        raise PredictorError("loads a pickle, which runs whatever its author wrote; keep weights in safetensors.")


def _serve(read_from: int, write_to: int) -> None:
    """Answer requests until the pipe is closed."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    sys.addaudithook(_refuse_pickles)
    source = os.fdopen(read_from, "rb")

    def read(n: int) -> bytes:
        data = source.read(n)
        if len(data) < n:
            os.killpg(0, signal.SIGKILL)  # the other side is gone
        return data

    def reply(header: dict[str, Any], array: Any = None) -> None:
        data = memoryview(_frame(header, array))
        while data:
            data = data[os.write(write_to, data) :]

    def refuse(kind: str, message: str, label: str = "") -> None:
        sys.stdout.flush()
        reply({"kind": kind, "message": message[:LONGEST_MESSAGE], "label": label[:LONGEST_MESSAGE]})

    state: dict[str, Any] = {}
    while True:
        request, contexts = _unframe(read)
        try:
            header, array = _answer(state, request, contexts)
            sys.stdout.flush()
            reply({"kind": "answer"} | header, array)
        except Unsupported as error:
            refuse("unsupported", str(error), error.label)
        except InputError as error:
            if request["do"] == "build":  # of the options
                refuse("input", str(error))
            else:  # of its own making
                refuse("failure", f"failed: {error}")
        except SystemExit as error:
            refuse("failure", f"called sys.exit({error.code!r}).")
        except BaseException as error:  # of whatever it raises
            refuse("failure", f"failed: {error if isinstance(error, PredictorError) else reason_of(error)}")


def _answer(state: dict[str, Any], request: dict[str, Any], contexts: Any) -> tuple[dict[str, Any], Any]:
    what = request["do"]
    if what == "build":
        task = task_from_json(request["task"])
        built = build_predictor(request["text"], task, request["device"])
        parts = Parts.of(built)
        state |= {"built": built, "runs": {}, "n_states": task.n_states}
        has = {"runs": parts.own_runs is not None, "predict_all": parts.predict_all is not None}
        return has | {"declared": declared(built), "defaults": known_defaults(request["text"])}, None
    built = state["built"]
    if what == "check_length":
        check_length(built, request["length"])
        return {}, None
    if what == "runs":
        state["runs"][request["length"]] = runs = runs_of(built, request["length"])
        return {"n": len(runs)}, None
    given = contexts.copy()
    if what == "predict_all":
        output = built.predict_all(contexts)
    elif request["run"] is None:
        output = built.predict(contexts)
    else:
        length, run = request["run"]
        output = state["runs"][length][run].predict(contexts)
    try:
        array = to_numpy(output)
    except TypeError as error:
        raise PredictorError(f"returned what is no array of numbers: {error}.") from error
    if array.nbytes > _largest(given, state["n_states"]):
        raise PredictorError(f"returned an array of shape {array.shape}.")
    changed = np.flatnonzero((given != contexts).any(axis=1))[:1].tolist()
    return {"changed": [changed[0], contexts[changed[0]].tolist()] if changed else None}, array


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
