"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from mdbench.errors import InputError


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make the file under a temporary name beside ``path``, then move it into place.

    Raises:
        InputError: ``path`` cannot be written.
    """
    path = Path(path)
    check_writable(path)
    # mkstemp makes files that only their owner can read; the umask decides for ours, as for any other file.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(temporary))
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """:func:`write_whole` for text."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def check_writable(path: str | Path) -> None:
    """Raise :class:`InputError` if a file could not be written at ``path``; better before a long run than after it."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"cannot write '{path}': it is a folder.")
    if not path.parent.is_dir():
        raise InputError(f"cannot write '{path}': there is no folder '{path.parent}'.")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"cannot write '{path}': no permission.")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
