"""Files of a person's own sequences and matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdbench.core.errors import InputError


def read_transition(path: str | Path) -> Float[np.ndarray, "rows columns"]:
    """The numbers of a CSV file with one row of the matrix a line."""
    rows = _read_csv(path, float, "number")
    if len({len(row) for _, row in rows}) > 1:
        first, odd = len(rows[0][1]), next((line, row) for line, row in rows if len(row) != len(rows[0][1]))
        raise InputError(f"'{path}', line {odd[0]}: {len(odd[1])} numbers, but the first line has {first}.")
    return np.array([row for _, row in rows])


def read_sequences(path: str | Path) -> list[list[int]]:
    """The sequences of a CSV file with one sequence a line, states separated by commas."""
    return [row for _, row in _read_csv(path, int, "state (a whole number)")]


def _read_csv(path: str | Path, convert: Callable[[str], Any], what: str) -> list[tuple[int, list[Any]]]:
    """(line number, values) of every line that is not blank."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"'{path}' cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}."
        ) from None
    rows = []
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip():
            continue
        values = []
        for cell in content.split(","):
            try:
                if "_" in cell or not cell.isascii():  # Python would take 1_0 for 10, and digits of other scripts
                    raise ValueError
                values.append(convert(cell.strip()))
            except ValueError:
                raise InputError(f"'{path}', line {line}: '{cell.strip()}' is not a {what}.") from None
        rows.append((line, values))
    if not rows:
        raise InputError(f"'{path}' is empty.")
    return rows
