"""Seeds side by side on the CPU, each trained by a process of its own.

As threads of one process they would wait for one another, since Python's lock changes hands at every operation: three
seeds at T = 16 made 566 steps a second as threads and 780 as processes. Requests and reports are lines of JSON.
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

from mdbench.errors import InputError
from mdbench.tasks import Task, task_from_json, task_to_json

if TYPE_CHECKING:
    from mdbench.training_config import TrainingConfig

# Otherwise glibc gives freed memory back and asks for it anew at the next step: a twentieth of a step at T = 32.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
ERRORS: dict[str, type[Exception]] = {error.__name__: error for error in (InputError, FloatingPointError)}


def train_side_by_side(
    task: Task,
    config: TrainingConfig,
    out: Path,
    seeds: Sequence[int],
    start_from: Path | None,
    progress: Callable[[int], None],
) -> None:
    """Train each seed in a process of its own; an error in one ends them all.

    ``progress(k)`` is called when the seed that is last has done k more steps.

    Raises:
        InputError, FloatingPointError: as ``training.train`` says.
    """
    from mdbench import training

    request = {"task": task_to_json(task), "config": asdict(config), "out": str(out), "n_side_by_side": len(seeds)}
    request |= {"start_from": start_from and str(start_from), "checkpoint_seconds": training.CHECKPOINT_SECONDS}
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
    n_cores, told = os.cpu_count() or 1, 0
    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process.reports, selectors.EVENT_READ, process)
        working, waiting = set(processes), set[_Process]()
        while working:
            for key, _ in selector.select():
                process = key.data
                working.discard(process)
                if process.hear():
                    waiting.add(process)
                else:
                    selector.unregister(process.reports)
            done = min(process.steps for process in processes)
            if done > told:
                progress(done - told)
                told = done
            while waiting and len(working) < n_cores:
                process = min(waiting, key=lambda process: process.steps)
                waiting.remove(process)
                working.add(process)
                process.go_on()


class _Process:
    """One seed's process, which waits after each report until it may go on."""

    def __init__(self, seed: int, request: dict[str, Any]) -> None:
        self.seed, self.steps = seed, 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mdbench.training_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | KEEP_MEMORY,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self.reports = self._process.stdin, self._process.stdout
        self._send(request | {"seed": seed})

    def hear(self) -> bool:
        """Read a report; whether more will come.

        Raises:
            InputError, FloatingPointError: what the process reports, or that it ended without a report.
        """
        line = self.reports.readline()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            what = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            raise InputError(
                f"the process that trained seed {self.seed} was ended {what}; if memory ran out, lower batch, train "
                "fewer seeds at once, or take a shorter length. The same command goes on from the last checkpoint."
            )
        report = json.loads(line)
        if "error" in report:
            raise ERRORS[report["error"]](report["message"])
        self.steps += report.get("steps", 0)
        return "steps" in report

    def go_on(self) -> None:
        """After a report."""
        self._send(None)

    def _send(self, request: dict[str, Any] | None) -> None:
        with contextlib.suppress(BrokenPipeError):  # its end is heard of where its report is read
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()

    def end(self) -> None:
        """Whatever it is doing."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self.reports.close()


# ------------------------------------------------------------------------------------------------ the other process


def _serve() -> None:
    """Train the seed that the first line of stdin asks for."""
    from mdbench import training
    from mdbench.training_config import TrainingConfig

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no report

    def report(**what: Any) -> None:
        reports.write(json.dumps(what) + "\n")
        reports.flush()

    def progress(steps: int) -> None:
        report(steps=steps)
        requests.get()

    request = json.loads(requests.get())
    training.CHECKPOINT_SECONDS = request["checkpoint_seconds"]
    try:
        training.train_together(
            task_from_json(request["task"]),
            TrainingConfig(**request["config"]),
            Path(request["out"]),
            (request["seed"],),
            request["start_from"] and Path(request["start_from"]),
            "cpu",
            progress,
            request["n_side_by_side"],
        )
    except tuple(ERRORS.values()) as error:
        kind = next(name for name, kind in ERRORS.items() if isinstance(error, kind))
        report(error=kind, message=str(error))
    else:
        report(finished=True)


def _listen(requests: SimpleQueue[str]) -> None:
    """Pass on the lines of stdin; when the parent is gone, end at once."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(1)


if __name__ == "__main__":
    _serve()
