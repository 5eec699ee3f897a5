"""A predictor in a process of its own, with a time and a memory limit, which gets contexts and nothing else.

Whatever it does there (raise, hang, print, fill the memory, end the process) is its own failure, a
:class:`PredictorError`. Requests and replies are JSON and plain arrays (npy without pickle) over pipes of their own.
"""

from __future__ import annotations

import contextlib
import io
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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from jaxtyping import Int

from mdbench.core.errors import InputError, PredictorError, Unsupported, reason_of
from mdbench.predictors.catalogue import TOLD, build_predictor, known_defaults
from mdbench.predictors.predictor import check_length, declared, runs_of, to_numpy
from mdbench.tasks import Task, task_from_json, task_to_json

POLL = 0.1  # seconds between looks at the memory

LARGEST_REPLY = 2**30

SIZE = struct.Struct("<Q")


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


class Isolated:
    """The predictor that ``text`` names, in a process of its own, within limits.

    Raises:
        Unsupported, InputError: as the predictor's factory says.
        PredictorError: anything else that goes wrong in there.
    """

    def __init__(self, text: str, task: Task, device: str = "cpu", limits: Limits | None = None) -> None:
        if text in TOLD:
            raise InputError(f"'{text}' is told θ, and an isolated predictor gets contexts only.")
        self.text, self.limits = text, limits or Limits()
        self._ended_by: PredictorError | None = None  # what ended the process: all later calls fail alike
        self._output, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        own = tempfile.TemporaryDirectory(prefix="mdbench-isolated-")  # ours holds gold, and code that we run
        kept_there = {"MDBENCH_CACHE": own.name, "JAX_COMPILATION_CACHE_DIR": f"{own.name}/jax"}
        child_reads, self._write_to = os.pipe()
        self._read_from, child_writes = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mdbench.evaluation.isolation", str(child_reads), str(child_writes)],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            env=os.environ | kept_there,
            pass_fds=(child_reads, child_writes),
            start_new_session=True,  # so that what it starts ends with it
        )
        os.close(child_reads)
        os.close(child_writes)
        os.set_blocking(self._write_to, False)
        self.close = weakref.finalize(self, _end, self._process, (self._write_to, self._read_from), own)
        request = {"do": "build", "text": text, "task": task_to_json(task), "device": device}
        built = self._ask(request)[0]
        self.defaults: dict[str, Any] = built["defaults"]  # of its options
        for name, value in built["declared"].items():
            setattr(self, name, value)

    def check_length(self, length: int) -> None:
        """As the predictor says."""
        self._ask({"do": "check_length", "length": int(length)})

    def runs(self, length: int) -> Sequence[Any]:
        """One for each training seed."""
        n = self._ask({"do": "runs", "length": int(length)})[0]["n"]
        return [_Run(self, (int(length), k)) for k in range(n)]

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> np.ndarray:
        """As the predictor says."""
        return self.predict_run(contexts, None)

    def predict_run(self, contexts: Int[np.ndarray, "batch length"], run: tuple[int, int] | None) -> Any:
        """One training seed's prediction."""
        return self._ask({"do": "predict", "run": run}, contexts)[1]

    def _ask(self, request: dict[str, Any], array: np.ndarray | None = None) -> tuple[dict[str, Any], Any]:
        """Send a request and wait for the reply, within the limits."""
        if self._ended_by is not None:
            raise self._ended_by
        deadline = time.monotonic() + self.limits.seconds
        try:
            self._send(_frame(request, array), deadline)
            reply, answer = _unframe(lambda n: self._receive(n, deadline))
        except PredictorError as error:
            self._ended_by = error
            self.close()
            raise
        printed = os.fstat(self._output.fileno()).st_size
        if printed:
            self._output.seek(0)
            text = self._output.read(60).decode(errors="replace").strip()
            raise self._failure(f"printed on stdout, which belongs to the results: {text!r}")
        if reply["kind"] == "unsupported":
            raise Unsupported(reply["message"], reply["label"])
        if reply["kind"] == "input":
            raise InputError(reply["message"])
        if reply["kind"] == "failure":
            raise self._failure(reply["message"])
        return reply, answer

    def _failure(self, what: str) -> PredictorError:
        return PredictorError(f"predictor '{self.text}', in a process of its own, {what}")

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
        if n > LARGEST_REPLY:
            raise self._failure("sent a reply of no known form.")
        parts = bytearray()
        while len(parts) < n:
            self._wait(deadline, [self._read_from], [])
            part = os.read(self._read_from, n - len(parts))
            if not part:
                raise self._ended()
            parts += part
        return bytes(parts)

    def _wait(self, deadline: float, reading: list[int], writing: list[int]) -> None:
        while not any(select.select(reading, writing, [], POLL)):
            if time.monotonic() > deadline:
                raise self._failure(f"took longer than {self.limits.seconds:g} seconds.")
            self._check_memory()
        self._check_memory()

    def _check_memory(self) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            used = sum(p.memory_info().rss for p in [process, *process.children(recursive=True)])
            if used > self.limits.gibibytes * 2**30:
                raise self._failure(f"used more than {self.limits.gibibytes:g} GiB of memory.")

    def _ended(self) -> PredictorError:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return self._failure("closed the pipe to its results.")
        self._errors.seek(0)
        lines = [line for line in self._errors.read()[-2000:].decode(errors="replace").splitlines() if line.strip()]
        last = f" Its last words: {lines[-1].strip()[:300]}" if lines else ""
        if code < 0:
            return self._failure(f"was ended by {signal.Signals(-code).name}.{last}")
        return self._failure(f"ended its process with exit code {code}.{last}")


class _Run:
    """One training seed of an isolated predictor."""

    def __init__(self, of: Isolated, run: tuple[int, int]) -> None:
        self.of, self.run = of, run

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Any:
        return self.of.predict_run(contexts, self.run)


def _end(process: subprocess.Popen, pipes: Sequence[int], own: tempfile.TemporaryDirectory) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in pipes:
        with contextlib.suppress(OSError):
            os.close(pipe)
    with contextlib.suppress(OSError):
        own.cleanup()


def _frame(header: dict[str, Any], array: Any = None) -> bytes:
    text, buffer = json.dumps(header).encode(), io.BytesIO()
    if array is not None:
        np.save(buffer, array, allow_pickle=False)
    return SIZE.pack(len(text)) + SIZE.pack(buffer.tell()) + text + buffer.getvalue()


def _unframe(read: Any) -> tuple[dict[str, Any], np.ndarray | None]:
    of_text, of_array = SIZE.unpack(read(SIZE.size))[0], SIZE.unpack(read(SIZE.size))[0]
    header = json.loads(read(of_text))
    return header, np.load(io.BytesIO(read(of_array)), allow_pickle=False) if of_array else None


def _end_with(parent: int) -> None:
    """End with the parent, however busy this process is, and whatever it started too."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def _refuse_pickles(event: str, _arguments: Any) -> None:
    if event == "pickle.find_class":
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

    state: dict[str, Any] = {}
    while True:
        request, contexts = _unframe(read)
        try:
            header, array = _answer(state, request, contexts)
            sys.stdout.flush()
            reply({"kind": "answer"} | header, array)
        except Unsupported as error:
            reply({"kind": "unsupported", "message": str(error), "label": error.label})
        except InputError as error:
            kind = "input" if request["do"] == "build" else "failure"  # of the options; of its own making
            reply({"kind": kind, "message": str(error) if kind == "input" else f"failed: {error}"})
        except SystemExit as error:
            reply({"kind": "failure", "message": f"called sys.exit({error.code!r})."})
        except Exception as error:
            what = str(error) if isinstance(error, PredictorError) else reason_of(error)
            reply({"kind": "failure", "message": f"failed: {what}"})


def _answer(state: dict[str, Any], request: dict[str, Any], contexts: Any) -> tuple[dict[str, Any], Any]:
    what = request["do"]
    if what == "build":
        state["built"] = built = build_predictor(request["text"], task_from_json(request["task"]), request["device"])
        state["runs"] = {}
        return {"declared": declared(built), "defaults": known_defaults(request["text"])}, None
    built = state["built"]
    if what == "check_length":
        check_length(built, request["length"])
        return {}, None
    if what == "runs":
        state["runs"][request["length"]] = runs = runs_of(built, request["length"])
        return {"n": len(runs)}, None
    if request["run"] is None:
        chosen = built
    else:
        length, run = request["run"]
        chosen = state["runs"][length][run]
    output = to_numpy(chosen.predict(contexts))
    if output.dtype.hasobject:
        raise PredictorError(f"returned {output.dtype}, not numbers.")
    return {}, output


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
