"""Which states there are, where no matrix says it: the different cells that can be states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mdbench.core.errors import InputError, shown
from mdbench.core.tables import Table
from mdbench.posteriors.layout import IDS, STATES, TIMES, WITHIN, words_in
from mdbench.posteriors.reading import AMBIGUOUS, NO_VALUE, NUCLEOTIDES, Matrix, cells_in, plain, table_of

MOST_STATES = 100
MEND = "name the columns id, time and state, or give the labels of the states (--states, or states=)"


def alphabet_of(given: Any) -> Matrix:
    """Labels of the states in sequences, as :func:`as_sequences` takes them; with a matrix that says nothing else.

    Raises:
        InputError: there are none, one alone, or too many for states.
    """
    table = table_of(given)
    return _alphabet(_of_table(table) if table is not None else cells_in(given), "the data")


def alphabet_in(table: Table) -> Matrix:
    """The same of a table, as :func:`sequences_in` takes it."""
    return _alphabet(_of_table(table), table.source)


def stand_in(labels: Sequence[str]) -> Matrix:
    """What the readers of sequences take for a matrix: its size and labels, and nothing of its entries.

    Raises:
        InputError: fewer than two labels, or two that are the same.
    """
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise InputError(f"states must be two or more different labels, not {', '.join(map(shown, labels)) or 'none'}.")
    return Matrix(np.full((len(labels), len(labels)), 1 / len(labels)), tuple(labels))


def _alphabet(cells: Iterable[Any], source: str) -> Matrix:
    """Numbers in their order, words in that of the alphabet."""
    values = {plain(cell) for cell in cells} - {None}
    numbers = {value for value in values if isinstance(value, int)}
    words = {value for value in values if isinstance(value, str)}
    letters = {word.lower().replace("u", "t") for word in words}
    if not numbers and len(letters & NUCLEOTIDES) == 4 and letters <= NUCLEOTIDES | AMBIGUOUS:
        words = {*"ACGT"}  # the others stand for several of them
    labels = [str(value) for value in (*sorted(numbers), *sorted(words))]
    if not labels:
        raise InputError(f"{source}: there is no state in it; every value is missing.")
    if len(labels) == 1:
        raise InputError(f"{source}: its only state is {shown(labels[0])}, so there is nothing to predict.")
    if len(labels) > MOST_STATES:
        few = ", ".join(map(shown, labels[:3]))
        raise InputError(f"{source}: {len(labels)} different values ({few}, ..) are too many for states; {MEND}.")
    return stand_in(labels)


def _of_table(table: Table) -> list[str]:
    """The cells that are states, or the letters in them."""
    rows = [row for row in table.rows if any(row)]
    if table.names is not None or not rows:
        return [letter for row in rows for letter in row]
    header, body = rows[0], rows[1:]
    below = {cell for row in body for cell in row}
    if body and any(header) and not below & {cell for cell in header if cell and cell.lower() not in NO_VALUE}:
        column = _state_column(header, len(body[0]))
        cells = [row[column] for row in body if column < len(row)] if column is not None else None
        if cells is None:
            cells = _without_names(body)
    else:
        cells = _without_names(rows)
    return _within(cells)


def _state_column(header: Sequence[str], width: int) -> int | None:
    """Where the states of a panel stand, by the names of its columns."""
    if width not in (len(header), len(header) + 1):
        return None
    shift = width - len(header)  # R writes names of rows without a header
    kinds = [words_in(name) for name in header]
    named = [k for k, words in enumerate(kinds) if words & STATES]
    others = [k for k, words in enumerate(kinds) if not words & (IDS | TIMES) and header[k]]
    if len(named) == 1:
        return named[0] + shift
    return others[0] + shift if len(others) == 1 and len(header) <= 4 else None


def _without_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """All cells, but for a first column that names the rows."""
    first, rest = [row[0] for row in rows], [cell for row in rows for cell in row[1:]]
    named = rest and len(set(first)) == len(first) > 1 and not set(first) & set(rest)
    return rest if named else [*first, *rest]


def _within(cells: Sequence[str]) -> list[str]:
    """The states in cells that hold several: with something between them, or a letter each."""
    there = [cell.strip("[](){}\"' ") for cell in cells if cell.lower() not in NO_VALUE]
    for separator in WITHIN:
        if len(there) and all(separator in cell for cell in there):
            return [part.strip(" \"'") for cell in there for part in cell.split(separator)]
    long = [cell for cell in there if len(cell) > 3]
    if len(long) == len(there) > 0 and len(set(there)) > len(there) / 2 and all(cell.isalnum() for cell in there):
        return [letter for cell in there for letter in cell]
    return list(cells)
