"""What compiles: jax's settings, and where compiled code is kept between commands.

jax reads its settings from the environment when it is imported, so they are put there before: importing mdbench
imports no jax, and processes that it starts have the same. Those that would draw other numbers from the same seed, or
compute in single precision, are ours whatever the environment says. Compiled code is kept in the cache folder (unless
``JAX_COMPILATION_CACHE_DIR`` names another) for one processor and one set of library versions: another processor may
lack instructions that it uses.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import platform
import sys
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from mdbench.core.files import cache_folder, can_make

JAX_SETTINGS: dict[str, Any] = {
    "jax_enable_x64": True,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
}

KEPT = "JAX_COMPILATION_CACHE_DIR"  # where jax keeps compiled code, and numba here too; empty: nowhere

LEAST_SECONDS = 0.1  # of a compilation that is worth a file

LIBRARIES = ("jax", "jaxlib", "numba", "llvmlite")

Function = TypeVar("Function", bound=Callable[..., Any])


def settle_jax() -> None:
    """Give jax its settings, now if it has been imported, else through the environment."""
    settings = dict(JAX_SETTINGS)
    if KEPT not in os.environ and can_make(folder := cache_folder() / "compiled" / machine()):
        settings |= {KEPT.lower(): str(folder), "jax_persistent_cache_min_compile_time_secs": LEAST_SECONDS}
    for name, value in settings.items():
        os.environ[name.upper()] = str(int(value) if isinstance(value, bool) else value)
        if "jax" in sys.modules:
            sys.modules["jax"].config.update(name, value)


@functools.cache
def machine() -> str:
    """Of the processor's features and the versions of what compiles: where code compiled here may run."""
    digest = hashlib.sha256(f"{platform.machine()} {sys.version}".encode())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    wanted = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU")
    digest.update("\n".join(line for line in lines if line.startswith(wanted) and "MHz" not in line).encode())
    for library in LIBRARIES:
        try:
            digest.update(f"{library} {version(library)}".encode())
        except PackageNotFoundError:
            continue
    return digest.hexdigest()[:16]


def compiled(function: Function) -> Function:
    """``function`` compiled by numba at its first call, to run without the interpreter's lock.

    numba is imported then, not before.
    """
    lock = threading.Lock()
    ready: list[Callable[..., Any]] = []

    def compile_it() -> Callable[..., Any]:
        import numba

        folder, config = os.environ.get(KEPT), vars(numba.config)
        kept = bool(folder) and can_make(Path(folder or ""))
        before, config["CACHE_DIR"] = config["CACHE_DIR"], f"{folder}/numba" if kept else ""
        try:
            # Without what others wrapped around it, such as checks of its types.
            return numba.njit(
                inspect.unwrap(function), nogil=True, cache=kept, fastmath={"contract"}, error_model="numpy"
            )
        finally:
            config["CACHE_DIR"] = before

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if not ready:
            with lock:
                if not ready:
                    ready.append(compile_it())
        return ready[0](*arguments)

    return call  # type: ignore[return-value]
