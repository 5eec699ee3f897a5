"""Finished cells on disk: what a run has computed is kept whole, and found again by all that it depends on.

A cell is a file named by the SHA-256 of its key. It carries its own checksum, so a damaged one is noticed and computed
anew; it is written under another name and then moved into place, so a run that is killed leaves no half of it, and runs
that share a folder cannot spoil it. A folder that cannot be written costs time only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import platform
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from mdbench.core.compilation import machine
from mdbench.core.errors import InputError, warn_once
from mdbench.core.files import cache_folder, can_make, make_folder, write_whole
from mdbench.core.progress import BEGAN, ENDED, Note

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

Value = TypeVar("Value")

Keep = Callable[[Value], object]

Elsewhere = Callable[[Note, Keep[Value]], Callable[[], Value]]
"""Begins a cell in another process, tells the :data:`Note` where, and returns what waits for it.

The value is given to ``Keep`` as soon as it is there: cells are waited for in order, and come in another.
"""

Cache = Literal["all", "gold", "none"]

"""What the cache folder may answer: gold and deterministic predictors that are built in; gold alone; nothing."""

PROCESSES = "processes.jsonl"  # in the folder of a run: which process began and ended which cell

FORMAT = 2  # raised when the files hold something else

LIBRARIES = ("numpy", "jax", "jaxlib", "numpyro", "scipy", "torch", "pyro-ppl", "arviz", "numba")


@dataclass(frozen=True)
class Store:
    """The folders in which cells are looked for, in that order; what is found or computed is kept in all of them."""

    folders: tuple[Path, ...]
    work: Path | None = None  # the folder of a run, in which it is written down which process computed what

    def arrays(
        self,
        kind: str,
        key: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        compute: Callable[[], Arrays],
        there: Callable[[], object] = lambda: None,
    ) -> Arrays:
        """The arrays of a cell: finite numbers of just these names and shapes, or it counts as damaged.

        ``there()`` is called where nothing had to be computed.
        """
        return self.begin_arrays(kind, key, shapes, compute, there)()

    def begin_arrays(
        self,
        kind: str,
        key: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        compute: Callable[[], Arrays],
        there: Callable[[], object] = lambda: None,
        elsewhere: Elsewhere[Arrays] | None = None,
    ) -> Callable[[], Arrays]:
        """What waits for :meth:`arrays`; if the cell is missing and can be computed elsewhere, it is begun at once."""

        def read(payload: bytes) -> Arrays:
            with np.load(io.BytesIO(payload), allow_pickle=False) as file:
                arrays = dict(file)
            if {name: array.shape for name, array in arrays.items()} != dict(shapes):
                raise ValueError("other arrays")
            if not all(array.dtype.kind in "biuf" and np.isfinite(array).all() for array in arrays.values()):
                raise ValueError("no finite numbers")
            return arrays

        def write(arrays: Arrays) -> bytes:
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
            return buffer.getvalue()

        return self._begin(kind, key, read, write, compute, there, elsewhere)

    def json(
        self, kind: str, key: Mapping[str, Any], compute: Callable[[], Any], there: Callable[[], object] = lambda: None
    ) -> Any:
        """What a cell holds that JSON can hold."""
        return self.begin_json(kind, key, compute, there)()

    def begin_json(
        self,
        kind: str,
        key: Mapping[str, Any],
        compute: Callable[[], Any],
        there: Callable[[], object] = lambda: None,
        elsewhere: Elsewhere[Any] | None = None,
    ) -> Callable[[], Any]:
        """What waits for :meth:`json`, likewise."""
        return self._begin(kind, key, json.loads, lambda value: json.dumps(value).encode(), compute, there, elsewhere)

    def _begin(
        self,
        kind: str,
        key: Mapping[str, Any],
        read: Callable[[bytes], Value],
        write: Callable[[Value], bytes],
        compute: Callable[[], Value],
        there: Callable[[], object],
        elsewhere: Elsewhere[Value] | None,
    ) -> Callable[[], Value]:
        name = hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()

        def note(event: str, host: str, process: int) -> None:
            if self.work is not None:
                _note(self.work, cell=f"{kind}/{name}", event=event, host=host, process=process)

        def computed() -> Value:
            here = platform.node(), os.getpid()
            note(BEGAN, *here)
            value = compute()
            note(ENDED, *here)
            return value

        kept: set[Path] = set()
        lock = threading.Lock()

        def keep(missing: list[Path], value: Value) -> None:
            with lock:
                for path in missing:
                    if path not in kept:
                        _write(path, write(value))
                        kept.add(path)

        def get(compute: Callable[[], Value], found: tuple[Value | None, list[Path]]) -> Value:
            value, missing = found
            if value is None:
                value = compute()
            else:
                there()
            keep(missing, value)
            return value

        if elsewhere is None:  # what was computed since it was begun is found
            return lambda: get(computed, self._find(kind, name, read))
        found = self._find(kind, name, read)
        if found[0] is not None:
            return functools.partial(get, computed, found)
        return functools.partial(get, elsewhere(note, functools.partial(keep, found[1])), found)

    def _find(self, kind: str, name: str, read: Callable[[bytes], Value]) -> tuple[Value | None, list[Path]]:
        """What a cell holds, if it is there, and where it is missing."""
        paths = [folder / kind / f"{name}.cell" for folder in self.folders]
        value_there, missing = None, []
        for path in paths:
            payload = _read(path)
            if payload is not None and value_there is None:
                try:
                    value_there = read(payload)
                except (ValueError, zipfile.BadZipFile, EOFError, OSError, KeyError):
                    log.warning("'%s' is damaged; computing it anew ...", path)
                    payload = None
            if payload is None:
                missing.append(path)
        return value_there, missing


def open_store(work: str | Path | None = None, cache: bool = True) -> Store:
    """Cells in ``work``, if there is one, and in the cache folder, for this machine alone.

    Raises:
        InputError: there can be no such folder as ``work``, or it holds something else.
    """
    folders = []
    if work is not None:
        work = Path(work)
        if not work.is_dir():
            make_folder(work)
        elif _is_something_else(work):
            raise InputError(
                f"'{work}' holds other things than the cells of a run; give an empty folder, or one that --work made."
            )
        elif not can_make(work):
            log.warning(
                "'%s' cannot be written: what is there is used, what is missing is computed and not kept.", work
            )
        folders.append(work)
    if cache:
        folders.append(cache_folder() / "cells" / machine())
    return Store(tuple(folders), work)


def _is_something_else(folder: Path) -> bool:
    """Whether there are files, and no sign of a run."""
    visible = any(not path.name.startswith(".") for path in folder.iterdir())
    return visible and not (folder / PROCESSES).exists() and not any(folder.glob("*/*.cell"))


def _read(path: Path) -> bytes | None:
    """What was written, or None if the file is not there or not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    checksum, payload = content[:32], content[32:]
    if hashlib.sha256(payload).digest() == checksum:
        return payload
    log.warning("'%s' is damaged; computing it anew ...", path)
    return None


def _write(path: Path, payload: bytes) -> None:
    try:
        make_folder(path.parent)
        write_whole(path, lambda temporary: temporary.write_bytes(hashlib.sha256(payload).digest() + payload))
    except InputError as error:
        reason = str(error).rpartition(": ")[2]
        warn_once(f"cells cannot be kept in '{path.parent}', so the next run computes them again: {reason}")


def _note(work: Path, **what: Any) -> None:
    """Add a line to the list of a run's processes; one that cannot be written is left out."""
    line = json.dumps(what | {"at": datetime.now(UTC).isoformat(timespec="milliseconds")})
    with contextlib.suppress(OSError), (work / PROCESSES).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def hash_of(array: Any) -> str:
    """SHA-256 of whole numbers."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype="<i8").tobytes()).hexdigest()


@functools.cache
def code_hash(*packages: str) -> str:
    """Of the source of these packages and the libraries that compute: a change of either makes old cells stale."""
    digest = hashlib.sha256()
    for package in packages:
        sources = [file for file in resources.files(package).iterdir() if file.name.endswith((".py", ".json"))]
        for file in sorted(sources, key=lambda file: file.name):
            digest.update(file.read_bytes())
    for library in LIBRARIES:
        digest.update(f"{library} {version(library)}".encode())
    return digest.hexdigest()


def sources_of(module: str) -> list[Path]:
    """The files, and folders of them, of the package that a module belongs to; none where nobody knows."""
    try:
        spec = find_spec(module.partition(".")[0])
    except ValueError:  # a script or a notebook
        return []
    folders = list(spec.submodule_search_locations or []) if spec else []
    return [Path(place) for place in folders or ([spec.origin] if spec and spec.origin else [])]


def foreign_code(*objects: Any) -> str:
    """Hashes of the packages that bring the classes of these objects, where they are not ours."""
    packages = {type(each).__module__.partition(".")[0] for each in objects} - {"mdbench"}
    return "".join(map(package_hash, sorted(packages)))


@functools.cache
def package_hash(package: str) -> str:
    """Of the source of a package; in one process it is asked once."""
    return hash_of_files(path for path in sources_of(package) if path.exists())


def hash_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the files at these paths, and in these folders: what each is called there, and what it holds."""
    digest = hashlib.sha256()
    for top in sorted(paths):
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(top)}\0{path.stat().st_size}\0".encode())
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
