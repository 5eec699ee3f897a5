"""The files of a leaderboard's folder, read as if somebody else wrote them: bounded, plain, and nothing but fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mdbench.core.errors import InputError

LARGEST_RECORD = 2**24  # bytes


class Strict(BaseModel):
    """Nothing but its fields, and unchanged once it is there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Model = TypeVar("Model")


def record_paths(folder: str | Path) -> list[Path]:
    """The records of a leaderboard; files that are still being written, or were left so, are none."""
    paths = (Path(folder) / "records").glob("*/*.json")
    return sorted(path for path in paths if not path.name.startswith("."))


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, what: str, validate: Callable[[str], Model]) -> Model:
    """What a file holds, by ``validate``, which is pydantic's; ``what`` is what messages call it.

    Raises:
        InputError: it is no ordinary file, too large, no plain JSON, or not of that form.
    """
    shown = f"{what} '{path}'"
    if path.is_symlink():
        raise InputError(f"{shown} is a link; {what}s are files of their own.")
    if not path.is_file():
        raise InputError(f"{shown} is not an ordinary file.")
    try:
        if path.stat().st_size > LARGEST_RECORD:
            raise InputError(f"{shown} is larger than {LARGEST_RECORD} bytes.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}.") from None
    try:
        json.loads(text, object_pairs_hook=_each_once)  # pydantic would take the last of several
        return validate(text)
    except _KeyTwice as error:
        raise InputError(f"{shown}: the key '{error}' stands twice in one place of it.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{shown} is not JSON: {error}.") from None
    except RecursionError:
        raise InputError(f"{shown} is nested too deeply.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"{shown}: {where[:80]}: {first['msg'][:200]}{more}.") from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{shown} cannot be read: {str(error)[:200]}.") from None


class _KeyTwice(Exception):
    pass


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise _KeyTwice(name[:80])
        seen.add(name)
