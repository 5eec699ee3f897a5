"""Seeds side by side on the CPU, each trained by a process of its own.

As threads of one process they would wait for one another, since Python's lock changes hands at every operation
(docs/performance.md has figures). Requests and reports are lines of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from mdbench.core.device import n_cores
from mdbench.core.errors import InputError

if TYPE_CHECKING:
    from mdbench.predictors.training_config import TrainingConfig
    from mdbench.tasks import Task


# Otherwise glibc gives freed memory back and asks for it anew at the next step: a twentieth of a step at T = 32.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}

PACKAGE = str(Path(__file__).resolve().parents[1])

ERRORS: dict[str, type[Exception]] = {error.__name__: error for error in (InputError, FloatingPointError)}


def train_side_by_side(
    task: Task,
    config: TrainingConfig,
    out: Path,
    seeds: Sequence[int],
    start_from: Path | None,
    progress: Callable[[int], None],
    snapshots: int = 0,
) -> None:
    """Train each seed in a process of its own; an error in one ends them all.

    ``progress(k)`` is called when the seed that is last has done k more steps.

    Raises:
        InputError, FloatingPointError, ChildProcessError: as :func:`mdbench.training.run.train` says.
    """
    from mdbench.tasks import task_to_json
    from mdbench.training import trainer

    request = {
        "package": PACKAGE,
        "task": task_to_json(task),
        "config": asdict(config),
        "out": str(out),
        "start_from": start_from and str(start_from),
        "n_processes": len(seeds),
        "checkpoint_seconds": trainer.CHECKPOINT_SECONDS,
        "snapshots": snapshots,
    }
    processes: list[_Process] = []
    try:
        processes += (_Process(seed, request) for seed in seeds)
        _take_turns(processes, progress)
    finally:
        for process in processes:
            process.end()


def _take_turns(processes: list[_Process], progress: Callable[[int], None]) -> None:
    """Let as many processes work as there are cores, those that are behind first, until all are done.

    More of them at once would take the caches from one another: three on two cores make a tenth fewer steps.
    """
    at_most, told = n_cores(), 0
    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process.reports, selectors.EVENT_READ, process)
        working, waiting = set[_Process](), list(processes)  # working: starting up, too, or on their next steps
        while working or waiting:
            while waiting and len(working) < at_most:
                process = min(waiting, key=lambda process: process.steps)
                waiting.remove(process)
                working.add(process)
                process.go_on()
            for key, _ in selector.select():
                process = key.data
                working.discard(process)
                if process.hear():
                    waiting.append(process)
                else:
                    selector.unregister(process.reports)
            done = min(process.steps for process in processes)
            if done > told:
                progress(done - told)
                told = done


class _Process:
    """One seed's process, which waits at its start and after each report until it may go on."""

    def __init__(self, seed: int, request: dict[str, Any]) -> None:
        self.seed, self.steps, self._request = seed, 0, json.dumps(request | {"seed": seed}).encode()
        read_from, child_writes = os.pipe()  # not its stdout, where anything may be printed
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mdbench.training.process", str(child_writes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(child_writes,),
            env=KEEP_MEMORY | os.environ,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
        )
        os.close(child_writes)
        assert self._process.stdin is not None
        self._requests, self.reports = self._process.stdin, os.fdopen(read_from, "rb")

    def hear(self) -> bool:
        """Read a report; whether more will come.

        Raises:
            InputError, FloatingPointError: what the process reports.
            ChildProcessError: it ended without a report.
        """
        line = self.reports.readline()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            what = f"with exit code {code}" if code >= 0 else f"by signal {-code} ({signal.strsignal(-code)})"
            hint = ""
            if code == -signal.SIGKILL:
                hint = "If memory ran out, lower batch, train fewer seeds at once, or take a shorter length. "
            raise ChildProcessError(
                f"the process that trained seed {self.seed} was ended {what}. {hint}"
                "The same command goes on from the last checkpoint."
            )
        report = json.loads(line)
        if "error" in report:
            raise ERRORS[report["error"]](report["message"])
        self.steps += report.get("steps", 0)
        return "steps" in report

    def go_on(self) -> None:
        """Start, or go on after a report."""
        with contextlib.suppress(BrokenPipeError):  # its end is heard of where its report is read
            self._requests.write(self._request + b"\n")
            self._requests.flush()
        self._request = b""

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self.reports.close()


def _serve(write_to: int) -> None:
    """Train the seed that the first line of stdin asks for; each later line is leave to go on."""
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    reports = os.fdopen(write_to, "w")

    def report(**what: Any) -> None:
        reports.write(json.dumps(what) + "\n")
        reports.flush()

    def progress(steps: float) -> None:
        report(steps=steps)
        requests.get()

    request = json.loads(requests.get())
    if request["package"] != PACKAGE:  # the parent found it in its current folder, or on a path of its own
        what = f"mdbench of '{request['package']}' cannot start itself: Python finds that of '{PACKAGE}'; install it."
        report(error="InputError", message=what)
        return

    from mdbench.predictors.training_config import TrainingConfig
    from mdbench.tasks import task_from_json
    from mdbench.training import trainer

    trainer.CHECKPOINT_SECONDS = request["checkpoint_seconds"]
    try:
        trainer.train_here(
            task_from_json(request["task"]),
            TrainingConfig(**request["config"]),
            Path(request["out"]),
            (request["seed"],),
            request["start_from"] and Path(request["start_from"]),
            "cpu",
            progress,
            request["n_processes"],
            request["snapshots"],
        )
    except tuple(ERRORS.values()) as error:
        name = next(name for name, kind in ERRORS.items() if isinstance(error, kind))
        report(error=name, message=str(error))
    else:
        report(finished=True)


def _listen(requests: SimpleQueue[str]) -> None:
    """Pass on the lines of stdin; when the parent is gone, end at once."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(1)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
