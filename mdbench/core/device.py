"""Which torch device a name means, how many cores and threads there are to use, and how much memory was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mdbench.core.errors import InputError, shown


def check_device(device: str) -> str:
    """``device`` if torch has it here.

    Raises:
        InputError: it is no device name, or torch sees no such device.
    """
    if device == "cpu":
        return device
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"device {shown(device)} cannot be used here; use cpu. ({reason})") from None
    return device


def n_cores() -> int:
    """Cores that this process may use: on a shared machine often fewer than there are. No result depends on it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # a system that cannot tie a process to some cores


def peak_memory(device: str = "cpu", process: int | str = "self") -> int | None:
    """The most bytes that torch has allocated on a GPU, or that a process has had in memory; None where unknown.

    Of a process since it began: what the system's ``getrusage`` says is at least what its parent had.
    """
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux, or the process has ended
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch on the CPU: what is computed here is too small to share out.

    Threads that wait for each other are a hundred times slower on a busy machine; and no sum depends on their number.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
