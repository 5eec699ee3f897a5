"""A person's own matrices and sequences, as files and objects have them, to numbers; and what was understood."""

from __future__ import annotations

import functools
import math
import numbers
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError, SequenceError
from mdbench.core.tables import Table, read_table, shown
from mdbench.tasks.task import ROUNDED

GAP = -1  # stands for a token that is missing
NO_VALUE = {"", "na", "n/a", "nan", "none", "null", "nil", "<na>", ".", "?", "-", "*"}
_NUMBER = re.compile(r"[+-]?(\d{1,400}\.?\d{0,400}|\.\d{1,400})([eE][+-]?\d{1,4})?")
_WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?")
_IDS = {
    "id",
    "name",
    "subject",
    "sequence",
    "seq",
    "unit",
    "individual",
    "person",
    "patient",
    "animal",
    "group",
    "index",
}
_TIMES = {"t", "time", "date", "datetime", "step", "visit", "wave", "year", "month", "day", "hour", "position", "pos"}


@dataclass(frozen=True)
class Matrix:
    """A transition matrix, the labels of its states if it has any, and what was understood."""

    values: Float[np.ndarray, "q q"]
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """Sequences of states 0..q-1, ``GAP`` where one is missing, their names and labels, and what was understood."""

    sequences: list[Int[np.ndarray, "_"]]
    names: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------------- matrices


def read_transition(path: str | Path, normalise: bool = False) -> Matrix:
    """The matrix in a file (:func:`mdbench.core.tables.read_table`), with or without header and row names.

    Raises:
        InputError: it is none; the message says what would be right.
    """
    table = read_table(path)
    values, labels, notes = _square(table)
    return _settled(values, labels, notes, normalise, "--normalise divides")


def as_transition(given: Any, normalise: bool = False) -> Matrix:
    """The matrix in an array, lists or a DataFrame, whose labels are kept.

    Raises:
        InputError: likewise.
    """
    labels = None
    if hasattr(given, "columns") and hasattr(given, "index"):  # a DataFrame
        rows, columns = [str(k) for k in given.index], [str(k) for k in given.columns]
        given, labels = given.to_numpy(), _agreed(rows, columns, "the transition matrix")
        if labels is not None and columns != list(labels):
            given = given[:, [columns.index(label) for label in labels]]
    try:
        if np.asarray(given).dtype.kind not in "iuf" and np.asarray(given).dtype != object:
            raise TypeError
        values = np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError("the transition matrix must be q rows of q numbers.") from None
    return _settled(values, labels, [], normalise, "normalise=True divides")


def _square(table: Table) -> tuple[Float[np.ndarray, "rows columns"], tuple[str, ...] | None, list[str]]:
    """The numbers of a table, and the labels of its header and row names."""
    rows = _without_empty_ends(table.rows)
    decimal_comma = table.separator != "commas"
    number = functools.partial(_number, decimal_comma=decimal_comma)
    width = max(map(len, rows))
    header: list[str] | None = None
    named = len(rows) > 1 and all(row and number(row[0]) is None for row in rows)
    if len(rows) > 1 and (
        any(number(cell) is None for cell in rows[0][named:])
        or len(rows[0]) == len(rows[1]) - 1
        or (len(rows) == width + 1 and [number(cell) for cell in rows[0]] in _counts(width))
    ):
        header, rows = rows[0], rows[1:]
    first = len(table.rows) - len(rows)
    names: list[str] | None = None
    corner = header is not None and (header[0] == "" or len(header) == len(rows[0]) - 1)
    numbered = len(rows[0]) == len(rows) + 1 and [number(row[0]) for row in rows if row] in _counts(len(rows))
    if corner or numbered or all(row and number(row[0]) is None for row in rows):
        names, rows = [row[0] for row in rows], [row[1:] for row in rows]
        header = header[1:] if header is not None and len(header) == len(rows[0]) + 1 else header
    for k, row in enumerate(rows):
        for cell in row:
            if number(cell) is None:
                raise table.refusal(first + k, f"{shown(cell)} is not a number.")
        if len(row) != len(rows[0]):
            raise table.refusal(first + k, f"{len(row)} numbers, but the first row has {len(rows[0])}.")
    labels = _agreed(names, header, table.source)
    values = np.array([[number(cell) for cell in row] for row in rows], dtype=np.float64)
    if labels is not None and header is not None and header != list(labels):
        values = values[:, [header.index(label) for label in labels]]
    notes = [f"separated by {table.separator}"] if table.separator not in (None, "commas") else []
    return values, labels, notes


def _counts(n: int) -> list[list[float]]:
    """How states are numbered where somebody numbers them."""
    return [[float(k) for k in range(n)], [float(k) for k in range(1, n + 1)]]


def _agreed(rows: Sequence[str] | None, columns: Sequence[str] | None, source: str) -> tuple[str, ...] | None:
    """The labels of the states: those of the rows, if the columns have no others; none where they only count from 0."""
    labels = list(rows if rows is not None else columns or [])
    if rows is not None and columns is not None and sorted(rows) != sorted(columns):
        raise InputError(
            f"{source}: its rows are called {_listed(rows)} and its columns {_listed(columns)}; both are the states."
        )
    if len(set(labels)) < len(labels):
        raise InputError(f"{source}: two states have the same label among {_listed(labels)}.")
    return None if labels == [str(k) for k in range(len(labels))] else tuple(labels) or None


def _settled(
    values: Float[np.ndarray, "..."],
    labels: tuple[str, ...] | None,
    notes: Iterable[str],
    normalise: bool,
    offer: str,
) -> Matrix:
    """As a row-stochastic matrix, or the mend."""
    said, source = list(notes), "the transition matrix"
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 2:
        shape = " x ".join(map(str, values.shape))
        raise InputError(f"{source} must be square with at least 2 states, not of shape {shape}.")
    if not np.isfinite(values).all() or (values < 0).any():
        k, g = np.argwhere(~(np.isfinite(values) & (values >= 0)))[0]
        raise InputError(
            f"row {k + 1} of {source} holds {values[k, g]:g}; probabilities are 0 to 1, and counts are not negative."
        )
    sums, within = values.sum(axis=1), ROUNDED * len(values)
    off = np.abs(sums - 1)
    if off.max() <= within:
        return Matrix(values, labels, (*said,))
    k = int(np.argmax(off))
    transposed = bool((np.abs(values.sum(axis=0) - 1) <= 1e-3).all())
    if not normalise:
        what = f"row {k + 1} of {source} sums to {sums[k]:.6g}, not to 1"
        if transposed:
            raise InputError(
                f"{what}, and its columns do: is it transposed? rows are the state before; {offer} anyway."
            )
        kind = " (counts?)" if (values == np.round(values)).all() and sums.max() > 1.5 else ""
        raise InputError(f"{what}{kind}: rows are off by up to {off.max():.2g}; {offer} each by its sum.")
    if not (sums > 0).all():
        raise InputError(f"row {int(np.argmin(sums)) + 1} of {source} is all zero, so nothing follows that state.")
    said.append(f"rows divided by their sums, which were off by up to {off.max():.2g}")
    if transposed:
        said.append("its columns sum to 1: is it transposed?")
    return Matrix(values / sums[:, None], labels, (*said,))


def _number(cell: str, decimal_comma: bool) -> float | None:
    """A number, a percentage or a fraction; None if it is neither."""
    text = cell.replace(",", ".") if decimal_comma and cell.count(",") == 1 and "." not in cell else cell
    if _NUMBER.fullmatch(text) and text.isascii():
        return float(text)
    if text.endswith("%") and (part := _number(text[:-1].strip(), False)) is not None:
        return part / 100
    above, slash, below = text.partition("/")
    if slash:
        parts = _number(above.strip(), False), _number(below.strip(), False)
        if parts[0] is not None and parts[1]:
            return parts[0] / parts[1]
    return None


def _without_empty_ends(rows: list[list[str]]) -> list[list[str]]:
    """Without the columns that a separator at the end of every line makes."""
    while all(len(row) > 1 and row[-1] == "" for row in rows):
        rows = [row[:-1] for row in rows]
    return rows


# ------------------------------------------------------------------------------------------------------ sequences


def read_sequences(path: str | Path, order: int, matrix: Matrix, **how: Any) -> Tokens:
    """The sequences in a file, for that matrix: one a line, one long column, a panel, letters, FASTA.

    ``how`` are ``states`` and ``first_state``, as :func:`as_sequences` takes them.

    Raises:
        InputError: they cannot be read; the message says where, and what would be right.
    """
    table = read_table(path)
    rows, names, notes = _rows_of(table, order, matrix)
    return _understood(rows, names, notes, matrix, table.source, **how)


def as_sequences(
    given: Any, matrix: Matrix, states: Sequence[str] | None = None, first_state: int | None = None
) -> Tokens:
    """The sequences in lists, arrays (masked ones, too), a DataFrame (a row each) or a Series, or a single one.

    Args:
        given: the sequences.
        matrix: of their states.
        states: the labels of its rows; those that the matrix has, if none are given.
        first_state: 0 or 1: what states that are numbers begin with; found if None.

    Raises:
        InputError: they are none.
    """
    names = None
    if hasattr(given, "columns") and hasattr(given, "to_numpy"):  # a DataFrame
        names = tuple(str(k) for k in given.index)
        rows = [list(row) for row in given.astype(object).to_numpy()]
    elif hasattr(given, "index") and hasattr(given, "to_numpy"):  # a Series: one sequence, or several in it
        rows = _nested(list(given))
    elif isinstance(given, str):
        rows = [list(given)]
    elif isinstance(given, np.ma.MaskedArray):
        whole = np.atleast_2d(given)
        rows = [_cells_of(row) for row in whole]
    else:
        try:
            rows = _nested(list(given))
        except TypeError:
            raise InputError("sequences must be lists of states, or one of them.") from None
    default = names == tuple(str(k) for k in range(len(rows)))
    return _understood(
        rows, None if default else names, [], matrix, "sequences", states=states, first_state=first_state
    )


def _nested(items: list[Any]) -> list[list[Any]]:
    """Rows of cells: of one sequence, or of several."""
    if any(_is_row(item) for item in items):
        for k, item in enumerate(items):
            if not _is_row(item):
                raise SequenceError(k, "it must be a list of states.")
        return [_cells_of(item) for item in items]
    if items and all(isinstance(item, str) and len(item) > 1 for item in items):
        return [list(item) for item in items]
    return [items] if items else []


def _is_row(item: Any) -> bool:
    return not isinstance(item, (str, bytes, numbers.Number)) and hasattr(item, "__iter__") and np.ndim(item) != 0


def _cells_of(item: Any) -> list[Any]:
    if isinstance(item, np.ma.MaskedArray):
        return [None if hidden else v for v, hidden in zip(item.data.tolist(), np.ma.getmaskarray(item), strict=True)]
    return list(np.asarray(item).tolist()) if hasattr(item, "dtype") and not hasattr(item, "index") else list(item)


def _rows_of(table: Table, order: int, matrix: Matrix) -> tuple[list[list[Any]], tuple[str, ...] | None, list[str]]:
    """The sequences of a table as rows of cells: their names, if they have some, and how they were found."""
    q, labels = len(matrix.values), set(matrix.labels or ())
    if table.names is not None:
        return [*table.rows], tuple(table.names), ["FASTA"]

    def is_state(cell: str) -> bool:
        plain = _plain(cell)
        return plain is None or (0 <= plain <= q if isinstance(plain, int) else plain in labels)

    rows = table.rows
    header = _header_of(rows, is_state)
    rows = rows[1:] if header else rows
    if not rows:
        raise InputError(f"{table.source} has a header and no rows.")
    notes = ["header left out"] if header else []
    if max(map(len, rows)) == 1:
        return _of_one_column([row[0] for row in rows], is_state, labels, q, notes)
    lowered = [cell.lower() for cell in header or []]
    panel = _panel(rows, lowered, order)
    if panel is not None:
        by_id, how = panel
        return list(by_id.values()), tuple(by_id) if len(by_id) > 1 else None, [*notes, how]
    notes.append("one sequence a line")
    ids = [row[0] for row in rows]
    called = lowered[:1] in ([""], *([name] for name in _IDS))
    strange = len(set(ids)) == len(ids) and not any(map(is_state, ids)) and all(map(is_state, _rest(rows)))
    if called or strange:
        return [row[1:] for row in rows], tuple(ids), [*notes, "first column as names"]
    return rows, None, notes


def _rest(rows: list[list[str]]) -> list[str]:
    return [cell for row in rows for cell in row[1:]]


def _header_of(rows: list[list[str]], is_state: Callable[[str], bool]) -> list[str] | None:
    """The first row, if it is one: its cells are no states, and what stands below are others."""
    if not any(rows[0]):
        return None
    first, below = [cell for cell in rows[0] if cell], {cell for row in rows[1:] for cell in row}
    known = {cell.lower() for cell in first} & (_IDS | _TIMES | {"state", "states", "value", "x", "y"})
    if len(rows) == 1:
        return rows[0] if known and not any(map(is_state, first)) else None
    if any(is_state(cell) for cell in first) or below & set(first):
        return None
    words = all(_plain(cell) is None or not isinstance(_plain(cell), int) for cell in first)
    if not words:
        return None
    rest = _rest(rows[1:]) or [*below]  # the first column may be names
    numbers_below = all(_plain(cell) is None or isinstance(_plain(cell), int) for cell in rest)
    return rows[0] if numbers_below or known or all(map(is_state, rest)) else None


def _of_one_column(
    cells: list[str], is_state: Callable[[str], bool], labels: set[str], q: int, notes: list[str]
) -> tuple[list[list[Any]], None, list[str]]:
    """One cell a line: one sequence, or one of letters a line."""
    letters = {c for cell in cells for c in cell if _plain(c) is not None}
    known = len(letters) <= q and (not labels or letters <= labels or all(map(str.isdigit, letters)))
    if all(map(is_state, cells)) or not known or all(len(cell) <= 1 for cell in cells):
        return [[*cells]], None, [*notes, "one sequence, a state a line"]
    return [list(cell) for cell in cells], None, [*notes, "a letter a state"]


def _panel(rows: list[list[str]], header: list[str], order: int) -> tuple[dict[str, list[Any]], str] | None:
    """Sequences by id, where each row is one observation; None where it is not."""
    width = len(rows[0])
    if width not in (2, 3) or any(len(row) != width for row in rows):
        return None
    ids = header[0] in _IDS if header else width == 2 and order >= 2 and len({row[0] for row in rows}) < len(rows)
    times = bool(header) and header[0] in _TIMES and width == 2
    timed = width == 3 and bool(header) and header[0] in _IDS and header[1] in _TIMES
    if times:
        ordered = sorted(rows, key=lambda row: _order_of(row[0]))
        return {"": [row[1] for row in ordered]}, "one sequence by time"
    if not (ids and width == 2) and not timed:
        return None
    by_id: dict[str, list[list[str]]] = {}
    for row in rows:
        by_id.setdefault(row[0], []).append(row)
    if timed:
        by_id = {name: sorted(of, key=lambda row: _order_of(row[1])) for name, of in by_id.items()}
    return {name: [row[-1] for row in of] for name, of in by_id.items()}, f"a panel of {len(by_id)} sequences"


def _order_of(cell: str) -> tuple[int, float, str]:
    value = _number(cell, False)
    return (0, value, "") if value is not None else (1, 0.0, cell)


# ---------------------------------------------------------------------------------------------------------- states


def _plain(cell: Any) -> int | str | None:
    """A cell as a whole number, a label, or None where a value is missing.

    Raises:
        InputError: it is neither.
    """
    if isinstance(cell, str):
        text = cell.strip()
        if text.lower() in NO_VALUE:
            return None
        return int(float(text)) if _WHOLE.fullmatch(text) and text.isascii() else text
    if cell is None or cell is np.ma.masked or type(cell).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(cell, (bool, np.bool_)):
        raise InputError(f"a state is a number or a label, not {cell}.")
    if isinstance(cell, numbers.Integral):
        return int(cell)
    if isinstance(cell, numbers.Real):
        if math.isnan(float(cell)):
            return None
        if float(cell).is_integer() and abs(float(cell)) < 2**53:
            return int(float(cell))
    raise InputError(f"a state is a whole number or a label, not {shown(repr(cell))[1:-1]}.")


def _understood(
    rows: Sequence[Sequence[Any]],
    names: tuple[str, ...] | None,
    notes: Sequence[str],
    matrix: Matrix,
    source: str,
    states: Sequence[str] | None = None,
    first_state: int | None = None,
) -> Tokens:
    """Cells to states, with what that took."""
    q, cells = len(matrix.values), []
    for k, row in enumerate(rows):
        try:
            cells.append([_plain(cell) for cell in row])
        except InputError as error:
            raise SequenceError(k, str(error)) from None
    there = {cell for row in cells for cell in row if cell is not None}
    if states is None and matrix.labels is None and any(isinstance(cell, int) for cell in there):
        for k, row in enumerate(cells):
            for t, cell in enumerate(row):
                if isinstance(cell, str):
                    raise SequenceError(k, f"{shown(cell)} at position {t + 1} is not a state (a whole number).")
    labels, by_label, said = _states(there, matrix, source, states, first_state)
    sequences = []
    for k, row in enumerate(cells):
        tokens = []
        for t, cell in enumerate(row):
            if cell is not None and cell not in by_label:
                raise SequenceError(k, _strange(cell, t, q, labels, by_label))
            tokens.append(GAP if cell is None else by_label[cell])
        sequences.append(_without_padding(np.array(tokens, dtype=np.int64)))
    gaps = sum(int((tokens == GAP).sum()) for tokens in sequences)
    missing = [f"{gaps} missing states, as gaps that no transition crosses"] if gaps else []
    return Tokens(sequences, names, labels, (*notes, *said, *missing))


def _strange(cell: int | str, t: int, q: int, labels: tuple[str, ...] | None, by_label: dict[Any, int]) -> str:
    if labels is None:
        first = min((key for key in by_label if isinstance(key, int)), default=0)
        return f"state {shown(cell)[1:-1]} at position {t + 1} is outside {first}..{first + q - 1}."
    return f"{shown(cell)} at position {t + 1} is none of the states {_listed(labels)}."


def _states(
    there: set[int | str], matrix: Matrix, source: str, states: Sequence[str] | None, first_state: int | None
) -> tuple[tuple[str, ...] | None, dict[Any, int], list[str]]:
    """The labels of the states if they have any, what each cell means, and what is to be said of it."""
    q = len(matrix.values)
    if first_state not in (None, 0, 1) or isinstance(first_state, bool):
        raise InputError(f"first_state must be 0 or 1, not {first_state!r}.")
    given = tuple(map(str, states)) if states is not None else None
    if given is not None and (len(given) != q or len(set(given)) < q):
        raise InputError(f"there are {q} states, so as many different labels, not {_listed(given)}.")
    for labels in (given, matrix.labels):
        if labels is None or first_state is not None:
            continue
        by_label: dict[Any, int] = {_plain(label): k for k, label in enumerate(labels)}
        if given is not None or there <= by_label.keys():
            return labels, by_label, [f"states {_listed(labels)}"]
    numbered = {cell for cell in there if isinstance(cell, int)}
    if len(numbered) == len(there):
        first = first_state
        said = []
        if first is None:
            first = 1 if numbered and 0 not in numbered and max(numbered) == q else 0
            unclear = first == 0 and bool(numbered) and min(numbered) >= 1
            said = [f"states counted from {first}"] if first or unclear else []
            said = ["states counted from 0, though none is 0: first state 1 says otherwise"] if unclear else said
        return None, {first + k: k for k in range(q)}, said
    found = sorted(map(str, there))
    if len(found) == q:
        return (
            tuple(found),
            {_plain(label): k for k, label in enumerate(found)},
            [f"states in the order {_listed(found)}"],
        )
    raise InputError(
        f"{source}: the states {_listed(found)} are not the {q} of the matrix; name them in the order of its rows "
        "(--states, or states=)."
    )


def _listed(labels: Sequence[Any]) -> str:
    """Some of them."""
    few = [shown(label)[1:-1] for label in labels[:8]]
    return ", ".join(few) + (", .." if len(labels) > 8 else "")


def _without_padding(tokens: Int[np.ndarray, " T"]) -> Int[np.ndarray, " n"]:
    """Without what is missing at either end."""
    there = np.flatnonzero(tokens != GAP)
    return tokens[there[0] : there[-1] + 1] if len(there) else tokens[:0]
