"""Files that are written whole or not at all, and what goes into them."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import platform
import re
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from mdbench.core.errors import InputError, shown

TEMPORARY = ".mdbench-"  # how names of files begin that are still being written

LARGEST = 2**24  # bytes of a file that is read whole

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make the file under a temporary name beside ``path``, then move it into place.

    Raises:
        InputError: ``path`` cannot be written.
    """
    with whole_file(path) as temporary:
        write(temporary)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """The temporary name of a file to write, which is moved to ``path`` at the end.

    Raises:
        InputError: ``path`` cannot be written.
    """
    path = Path(path)
    check_writable(path)
    _remove_leftovers(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{_HOST}-{os.getpid()}-{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache  # once for each folder
def _remove_leftovers(folder: Path) -> None:
    """Temporary files of writers that were killed: those of this machine that run no more, and any a day old."""
    import psutil  # not needed to say what there is

    with contextlib.suppress(OSError):
        for path in folder.glob(f"{TEMPORARY}*"):
            of_host = re.match(rf"{re.escape(TEMPORARY + _HOST)}-(\d+)-", path.name)
            if (of_host and not psutil.pid_exists(int(of_host[1]))) or time.time() - path.stat().st_mtime > 86400:
                path.unlink(missing_ok=True)


def read_bytes(path: str | Path, what: str, largest: int = LARGEST) -> bytes:
    """All of an ordinary file; ``what`` is what messages call it.

    Raises:
        InputError: it is none, is larger than ``largest`` bytes, or cannot be read.
    """
    name = f"{what} {shown(path)}"
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):  # a pipe may never end
            raise InputError(f"{name} is not an ordinary file.")
        if about.st_size > largest:
            raise InputError(f"{name} is larger than {largest} bytes.")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} cannot be read: {getattr(error, 'strerror', None) or 'no such path'}.") from None


def read_text(path: str | Path, what: str, largest: int = LARGEST) -> str:
    """The same of a file of UTF-8 text."""
    try:
        return read_bytes(path, what, largest).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{what} {shown(path)} cannot be read: it is not UTF-8 text.") from None


def read_json(path: str | Path, what: str, largest: int = LARGEST) -> Any:
    """What a JSON file holds."""
    text = read_text(path, what, largest)
    with parsing(f"{what} {shown(path)} is not JSON"):
        return json.loads(text)


@contextlib.contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turn what a parser says of a text (JSON, TOML) into one sentence."""
    try:
        yield
    except RecursionError:
        raise InputError(f"{what}: it is nested too deeply.") from None
    except ValueError as error:
        long = "Exceeds the limit" in str(error)  # of digits
        raise InputError(f"{what}: {'a number in it has thousands of digits' if long else error}.") from None


def write_text(path: str | Path, text: str) -> None:
    """:func:`write_whole` for text."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def check_writable(path: str | Path) -> None:
    """Raise :class:`InputError` if a file could not be written at ``path``; better before a long run than after it."""
    path = Path(path)
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"cannot write '{path}': the name is too long.") from None
    if path.is_dir():
        raise InputError(f"cannot write '{path}': it is a folder.")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write '{path}': it is not an ordinary file.")
    if not path.parent.is_dir():
        raise InputError(f"cannot write '{path}': there is no folder '{path.parent}'.")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"cannot write '{path}': no permission.")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:  # folders such as /proc let nobody, whatever their permissions say
        raise InputError(f"cannot write '{path}': {error.strerror}.") from None


def make_folder(path: str | Path) -> Path:
    """The folder, made with its parents where it is missing."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder '{path}': {error.strerror}.") from None
    return Path(path)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which is moved to ``folder`` at the end: all of it is there, or nothing."""
    try:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder.parent) as temporary:
            unfinished = Path(temporary) / folder.name
            unfinished.mkdir()
            yield unfinished
            os.rename(unfinished, folder)
    except OSError as error:
        raise InputError(f"cannot make the folder {shown(folder)}: {error.strerror or error}.") from None


def can_make(folder: Path) -> bool:
    """Whether a folder is there, or could be made, and could be written to."""
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK)


def cache_folder() -> Path:
    """What can be computed again is kept here: ``MDBENCH_CACHE``, or else the user's cache folder."""
    return Path(os.environ.get("MDBENCH_CACHE") or platformdirs.user_cache_dir("mdbench", appauthor=False))


def as_dicts(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Dataclasses as JSON has them, by their own ``to_dict`` where they have one."""
    return [json_ready(row.to_dict() if hasattr(row, "to_dict") else asdict(row)) for row in rows]


def json_ready(value: Any) -> Any:
    """``value`` with infinities as the strings "inf" and "-inf" and NaN as None, at any depth: JSON has neither.

    Arrays become lists.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
