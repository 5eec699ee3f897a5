"""A person's own matrices and sequences, as files and objects have them, to numbers; and what was understood."""

from __future__ import annotations

import functools
import math
import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError, SequenceError, reason_of, shown
from mdbench.core.tables import Table, number_in, read_table
from mdbench.posteriors.layout import Cells, alike, counts, lay_out, states_within
from mdbench.tasks.task import ROUNDED, as_floats, is_whole

GAP = -1  # stands for a token that is missing
NO_VALUE = {
    "",
    "#n/a",
    "#na",
    "#null!",
    "#num!",
    "#nv",
    "#ref!",
    "#value!",
    "*",
    "-",
    ".",
    "<na>",
    "?",
    "missing",
    "n.a.",
    "n/a",
    "na",
    "nan",
    "nil",
    "none",
    "null",
}
NUCLEOTIDES = frozenset("acgtu")
AMBIGUOUS = frozenset("nxrywskmbdhv")  # IUPAC codes, in lower case
MISSING_MEND = "what is missing is left empty, or NA"
PANEL_MEND = "of a panel the columns are called id, time and state"
_THOUSANDS = re.compile(r"(?!1[.,]000$)[1-9]\d{0,2}([.,]\d{3})+")
_WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?")


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
    if isinstance(given, Mapping) and given and all(isinstance(row, Mapping) for row in given.values()):
        given = _pandas().DataFrame.from_dict(given, orient="index")
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    if hasattr(given, "toarray"):  # a sparse one
        given = given.toarray()
    if hasattr(given, "columns") and hasattr(given, "index"):  # a DataFrame
        if len(given.columns) == len(given) + 1:  # the states stand in a column of their own
            given = given.set_index(given.columns[0])
        rows, columns = _labels_of(given.index), _labels_of(given.columns)
        if _counts_from_zero(rows) != _counts_from_zero(columns):  # one axis has none
            rows = columns = columns if _counts_from_zero(rows) else rows
        given, labels = given.to_numpy(), _agreed(rows, columns, "the transition matrix")
        if labels is not None and columns != list(labels):
            given = given[:, [columns.index(label) for label in labels]]
    if np.ma.is_masked(given):
        raise InputError("the transition matrix has masked entries; all of it must be known.")
    return _settled(
        as_floats(given, "the transition matrix", "q rows of q numbers"),
        labels,
        [],
        normalise,
        "normalise=True divides",
    )


def _labels_of(index: Iterable[Any]) -> list[str]:
    """As text; whole numbers that missing values made floats without their point."""
    return _whole([str(label) for label in index])


def _whole(labels: list[str]) -> list[str]:
    return [label.split(".")[0] for label in labels] if all(map(_WHOLE.fullmatch, labels)) else labels


def _square(table: Table) -> tuple[Float[np.ndarray, "rows columns"], tuple[str, ...] | None, list[str]]:
    """The numbers of a table, and the labels of its header and row names."""
    rows = _without_empty_ends(table.rows)
    number = functools.partial(number_in, decimal_comma=True)  # commas inside a cell stood in quotes
    width = max(map(len, rows))
    header: list[str] | None = None
    named = len(rows) > 1 and all(row and number(row[0]) is None for row in rows)
    if len(rows) > 1 and (
        any(number(cell) is None for cell in rows[0][named:])
        or len(rows[0]) == len(rows[1]) - 1
        or (len(rows) == width + 1 and _are_labels(rows[0], number))
    ):
        header, rows = rows[0], rows[1:]
    first = len(table.rows) - len(rows)
    names: list[str] | None = None
    corner = header is not None and (header[0] == "" or len(header) == len(rows[0]) - 1)
    corner |= header is not None and number(header[0]) is None and len(rows[0]) == len(header) == len(rows) + 1 > 2
    numbered = len(rows[0]) == len(rows) + 1 and _are_labels([row[0] for row in rows if row], number)
    if corner or numbered or all(row and number(row[0]) is None for row in rows):
        names, rows = [row[0] for row in rows], [row[1:] for row in rows]
        header = header[1:] if header is not None and len(header) == len(rows[0]) + 1 else header
    for k, row in enumerate(rows):
        for cell in row:
            if number(cell) is None:
                raise table.refusal(first + k, f"{shown(cell)} is not a number.")
        if len(row) != len(rows[0]):
            raise table.refusal(first + k, f"{len(row)} numbers, but the first row has {len(rows[0])}.")
    if any(map(_THOUSANDS.fullmatch, cells := [cell for row in rows for cell in row])) and all(
        _THOUSANDS.fullmatch(cell) or cell.isdigit() for cell in cells
    ):
        cell = next(filter(_THOUSANDS.fullmatch, cells))
        raise InputError(f"{table.source}: is {cell} a count with a mark for thousands? write counts without it.")
    labels = _agreed(names, header, table.source)
    values = np.array([[number(cell) for cell in row] for row in rows], dtype=np.float64)
    if labels is not None and header is not None and _whole(header) != list(labels):
        values = values[:, [_whole(header).index(label) for label in labels]]
    notes = [f"separated by {table.separator}"] if table.separator not in (None, "commas") else []
    return values, labels, notes


def _unnamed(labels: Sequence[str]) -> bool:
    """Whether they only count, as R has it: 1, 2, ..; V1, V2, ..; [1,], [2,], .."""
    return alike(labels) and counts([re.sub(r"\D+", "", label) for label in labels])


def _are_labels(cells: Sequence[str], number: Callable[[str], float | None]) -> bool:
    """Whether numbers beside a matrix count its states: 0, 1, ..; 1, 2, ..; 10, 20, .."""
    values = [number(cell) for cell in cells]
    whole = all(value is not None and value.is_integer() for value in values)
    return whole and all(a < b for a, b in pairwise(values))  # type: ignore[operator]


def _agreed(rows: Sequence[str] | None, columns: Sequence[str] | None, source: str) -> tuple[str, ...] | None:
    """The labels of the states: those of the rows, if the columns have no others; none where they only count from 0."""
    rows, columns = (None if names is None else _whole(list(names)) for names in (rows, columns))
    labels = list(rows if rows is not None else columns or [])
    if rows is not None and columns is not None and _unnamed(rows) and _unnamed(columns):
        return tuple(rows) if list(rows) == list(columns) and not _counts_from_zero(rows) else None
    if rows is not None and columns is not None and sorted(rows) != sorted(columns):
        raise InputError(
            f"{source}: its rows are called {_listed(rows)} and its columns {_listed(columns)}; both are the states."
        )
    if len(set(labels)) < len(labels):
        raise InputError(f"{source}: two states have the same label among {_listed(labels)}.")
    return None if _counts_from_zero(labels) else tuple(labels) or None


def _counts_from_zero(labels: Sequence[str]) -> bool:
    return list(labels) == [str(k) for k in range(len(labels))]


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
        totals = values.ndim == 2 and (_is_total(values) or _is_total(values.T))
        mend = "; give it without the totals" if totals else ""
        raise InputError(f"{source} must be square with at least 2 states, not of shape {shape}{mend}.")
    if not np.isfinite(values).all() or (values < 0).any():
        k, g = np.argwhere(~(np.isfinite(values) & (values >= 0)))[0]
        raise InputError(
            f"row {k + 1} of {source} holds {values[k, g]:g}; probabilities are 0 to 1, and counts are not negative."
        )
    sums, within = values.sum(axis=1), ROUNDED * len(values)
    if sums.max() > 1.5 and _is_total(values[:-1]) and _is_total(values[:, :-1].T):
        raise InputError(f"the last row and column of {source} are sums of the others; give it without these totals.")
    if not np.isfinite(sums).all():
        raise InputError(f"row {int(np.argmin(np.isfinite(sums))) + 1} of {source} is too large to be summed.")
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


def _is_total(values: Float[np.ndarray, "rows columns"]) -> bool:
    """Whether the last column is the sum of the others."""
    return values.shape[1] > 2 and bool(np.allclose(values[:, -1], values[:, :-1].sum(axis=1)))


def _without_empty_ends(rows: list[list[str]]) -> list[list[str]]:
    """Without the columns that a separator at the end of every line makes."""
    while all(len(row) > 1 and row[-1] == "" for row in rows):
        rows = [row[:-1] for row in rows]
    return rows


# ------------------------------------------------------------------------------------------------------ sequences


def read_sequences(
    path: str | Path,
    order: int,
    matrix: Matrix,
    states: Sequence[str] | None = None,
    first_state: int | None = None,
) -> Tokens:
    """The sequences in a file, for that matrix: one a line, one long column, a panel, letters, FASTA.

    ``states`` and ``first_state`` are as :func:`as_sequences` takes them.

    Raises:
        InputError: they cannot be read; the message says where, and what would be right.
    """
    return sequences_in(read_table(path), order, matrix, states, first_state)


def sequences_in(
    table: Table,
    order: int,
    matrix: Matrix,
    states: Sequence[str] | None = None,
    first_state: int | None = None,
) -> Tokens:
    """The same of a table that has been read."""
    alphabet = _Alphabet.of(matrix, states, first_state)
    return _understood(*lay_out(table, order, alphabet.cells), alphabet, table.source)


def as_sequences(
    given: Any,
    matrix: Matrix,
    states: Sequence[str] | None = None,
    first_state: int | None = None,
    order: int = 1,
) -> Tokens:
    """The sequences in lists, arrays (masked ones, too), a dict by name, a Series or a DataFrame, or a single one.

    A DataFrame has a sequence a row, or an observation a row, where its columns are called id, time and state.

    Args:
        given: the sequences.
        matrix: of their states.
        states: the labels of its rows; those that the matrix has, if none are given.
        first_state: 0 or 1: what states that are numbers begin with; found if None.
        order: of the model.

    Raises:
        InputError: they are none.
    """
    alphabet = _Alphabet.of(matrix, states, first_state)
    try:
        return _of_object(given, alphabet, order)
    except InputError:
        raise
    except Exception as error:  # of whatever somebody else's object does
        raise InputError(f"sequences must be lists of states, or one of them: {reason_of(error)[:150]}") from None


def _of_object(given: Any, alphabet: _Alphabet, order: int) -> Tokens:
    names = None
    if hasattr(given, "columns") and not hasattr(given, "iloc"):  # a DataFrame, of another library than pandas
        given = _pandas().DataFrame({str(name): list(given[name]) for name in given.columns})
    if hasattr(given, "columns"):
        given = _with_index(given)
        cells = [list(row) for row in given.astype(object).to_numpy()]
        header = [str(name) for name in given.columns]
        if any(isinstance(name, str) for name in given.columns) or len(header) == 1:
            table = _with_names(header, cells)
            states = [row[0] for row in table.rows[1:]]
            if len(header) == 1 and not any(len(str(cell)) > 1 and not alphabet.is_state(cell) for cell in states):
                return _understood([[row[0] for row in cells]], None, [], alphabet, table.source)
            return _understood(*lay_out(table, order, alphabet.cells, headed=True), alphabet, table.source)
        names, rows = tuple(str(k) for k in given.index), cells
    elif isinstance(given, Mapping):
        names, rows = tuple(map(str, given)), _nested(list(given.values()), alphabet)
    elif hasattr(given, "index") and hasattr(given, "to_numpy"):  # a Series: one sequence, or several in it
        if (framed := _with_index(given)) is not given:
            return _of_object(framed, alphabet, order)
        rows = _nested(list(given), alphabet)
    elif isinstance(given, str):
        rows = [list(given)]
    elif isinstance(given, np.ma.MaskedArray):
        if given.ndim > 2:
            raise InputError(f"an array of sequences has a row each, not {given.ndim} axes.")
        rows = [_cells_of(row) for row in np.atleast_2d(given)]
    else:
        rows = _nested(list(_plain_array(given)), alphabet)
    default = names == tuple(str(k) for k in range(len(rows)))
    return _understood(rows, None if default else names, [], alphabet, "sequences")


def table_of(given: Any) -> Table | None:
    """A DataFrame whose columns have names, as a file would have it; None for anything else."""
    if hasattr(given, "index") and hasattr(given, "to_numpy") and not hasattr(given, "columns"):
        given = _with_index(given)  # a Series, perhaps with ids
    if not hasattr(given, "columns"):
        return None
    given = _with_index(given) if hasattr(given, "iloc") else given
    header = [str(name) for name in given.columns]
    if not any(isinstance(name, str) for name in given.columns):
        return None
    return _with_names(header, zip(*(list(given[name]) for name in given.columns), strict=True))


def _with_names(header: list[str], rows: Iterable[Iterable[Any]]) -> Table:
    """The cells of a DataFrame below the names of its columns."""
    body = [[_text(cell) for cell in row] for row in rows]
    return Table("the DataFrame", [header, *body], [*range(len(body) + 1)], "commas")


def cells_in(given: Any) -> list[Any]:
    """All cells of sequences that are no table, however they are nested; of strings their letters."""
    if isinstance(given, str):
        return list(given)
    items = list(given.values()) if isinstance(given, Mapping) else _cells_of(_values_of(given))
    cells = [cell for item in items for cell in (cells_in(item) if _is_row(item) else [item])]
    words = [cell for cell in cells if isinstance(cell, str)]
    if words and len(words) == len(cells) and all(len(word) > 3 for word in words) and len(set(words)) == len(words):
        return [letter for word in words for letter in word]
    return cells


def _values_of(given: Any) -> Any:
    """Of a DataFrame or Series its array."""
    return given.to_numpy().tolist() if hasattr(given, "to_numpy") else given


def _pandas() -> Any:
    import pandas  # loads long; whoever gives one has it loaded

    return pandas


def _with_index(given: Any) -> Any:
    """A DataFrame or Series with an index that says something (id, time) as columns; any other as it is."""
    index = given.index
    says = (
        getattr(index, "nlevels", 1) > 1
        or index.name is not None
        or type(index).__name__ in ("DatetimeIndex", "PeriodIndex")
    )
    if not says or any(_is_row(cell) for cell in given.iloc[:1].to_numpy().ravel()):
        return given
    framed = given.to_frame(name="state" if given.name is None else given.name) if hasattr(given, "to_frame") else given
    if index.nlevels == 1 and index.name is None:
        framed = framed.rename_axis("date")
    elif index.nlevels > 1 and all(name is None for name in index.names):
        framed = framed.rename_axis(["id", "time"][: index.nlevels] if index.nlevels == 2 else None)
    return framed.reset_index()


def _plain_array(given: Any) -> Any:
    """Of torch, jax, xarray, pyarrow and numpy as nested lists; anything else as it is."""
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    if hasattr(given, "to_pylist"):
        return given.to_pylist()
    if isinstance(given, (list, tuple)) or not hasattr(given, "__array__") or hasattr(given, "iloc"):
        return given
    array = np.asarray(given)
    array = array.astype(str) if array.dtype.kind == "S" else array
    return array.tolist() if array.ndim else [array.item()]


def _text(cell: Any) -> str:
    """A cell of a DataFrame as a file would have it."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType") or cell != cell:
        return ""
    return str(cell)


def _nested(items: list[Any], alphabet: _Alphabet) -> list[list[Any]]:
    """Rows of cells: of one sequence, or of several."""
    if any(_is_row(item) for item in items):
        for k, item in enumerate(items):
            if not _is_row(item):
                raise SequenceError(k, "it must be a list of states.")
        return [_cells_of(item) for item in items]
    items = [item.decode() if isinstance(item, bytes) else item for item in items]
    if items and all(isinstance(item, str) and len(item) > 1 for item in items):
        words = states_within(items, alphabet.cells)
        if words is not None:
            return [*words]
    return [items] if items else []


def _is_row(item: Any) -> bool:
    return not isinstance(item, (str, bytes, numbers.Number)) and hasattr(item, "__iter__") and np.ndim(item) != 0


def _cells_of(item: Any) -> list[Any]:
    if isinstance(item, np.ma.MaskedArray):
        return [None if hidden else v for v, hidden in zip(item.data.tolist(), np.ma.getmaskarray(item), strict=True)]
    return list(_plain_array(item))


# ---------------------------------------------------------------------------------------------------------- states


@dataclass(frozen=True)
class _Alphabet:
    """What cells may be: how many states there are, what they are called, and who says so.

    Attributes:
        q: how many.
        labels: of the states, if they have any.
        named: whether ``--states`` gave the labels, and not the matrix.
        first_state: the number of the first state, if it was given.
        by_spelling: which state a text is: its label, that in another case, U for T.
    """

    q: int
    labels: tuple[str, ...] | None
    named: bool
    first_state: int | None
    by_spelling: dict[str, int]

    @classmethod
    def of(cls, matrix: Matrix, states: Sequence[str] | None, first_state: int | None) -> _Alphabet:
        q = len(matrix.values)
        if first_state is not None and (not is_whole(first_state) or first_state not in (0, 1)):
            raise InputError(f"first_state must be 0 or 1, not {first_state!r}.")
        if states is not None and (isinstance(states, str) or not isinstance(states, Iterable)):
            raise InputError("states must be a list of labels, one for each row of the matrix.")
        given = tuple(str(label).strip() for label in states) if states is not None else None
        if given is not None and (len(given) != q or len(set(given)) < q):
            raise InputError(f"there are {q} states, so as many different labels, not {_listed(given)}.")
        if given is not None and matrix.labels is not None and set(given) == set(matrix.labels):
            given = matrix.labels  # the rows say themselves what they are
        labels = given if given is not None else matrix.labels
        return cls(q, labels, given is not None, first_state, _spellings(labels or ()))

    @property
    def cells(self) -> Cells:
        return Cells(self.is_state, self.is_letter, self.q)

    def plain(self, cell: Any) -> int | str | None:
        """A state's label, a whole number, None where a value is missing, or a text that is none of these.

        Raises:
            InputError: it is neither number nor text.
        """
        if isinstance(cell, str) and cell.strip() in self.by_spelling:
            return self._label(cell.strip())
        value = plain(cell)
        if value is not None and str(value) in self.by_spelling:
            return self._label(str(value))
        return None if isinstance(value, str) and self._may_be_any(value) else value

    def is_state(self, cell: str) -> bool:
        """Whether a text is a state or a missing one."""
        value = self.plain(cell)
        return value is None or (0 <= value <= self.q if isinstance(value, int) else value in (self.labels or ()))

    def is_letter(self, letter: str) -> bool:
        """Whether one letter can be a state or a missing one, where states are letters."""
        return self.is_state(letter) or (self.labels is None and letter.isalpha())

    def _label(self, text: str) -> str:
        assert self.labels is not None, "there are no spellings without labels"
        return self.labels[self.by_spelling[text]]

    def _may_be_any(self, text: str) -> bool:
        return self.q == 4 and set(map(str.lower, self.labels or "-")) <= NUCLEOTIDES and text.lower() in AMBIGUOUS


def _spellings(labels: Sequence[str]) -> dict[str, int]:
    """Labels as they are, then in other cases, then U as T, where that is not another label."""
    exact = {label.strip(): k for k, label in enumerate(labels)}
    others: dict[str, int] = {}
    for text, k in exact.items():
        for other in (text.lower(), text.upper(), text.capitalize(), text.casefold()):
            others[other] = k if others.get(other, k) == k else -1
    if set(map(str.lower, exact)) <= NUCLEOTIDES:
        for a, b in (("t", "u"), ("u", "t")):
            if a in others and b not in others:
                others |= {b: others[a], b.upper(): others[a]}
    return {text: k for text, k in others.items() if k >= 0} | exact


def plain(cell: Any) -> int | str | None:
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
    rows: Sequence[Sequence[Any]], names: tuple[str, ...] | None, notes: Sequence[str], alphabet: _Alphabet, source: str
) -> Tokens:
    """Cells to states, with what that took."""
    cells = []
    for k, row in enumerate(rows):
        try:
            cells.append([alphabet.plain(cell) for cell in row])
        except InputError as error:
            raise SequenceError(k, str(error)) from None
    there = {cell for row in cells for cell in row if cell is not None}
    labels, state_of, said = _states(there, alphabet, source)
    sequences = []
    for k, row in enumerate(cells):
        tokens = []
        for t, cell in enumerate(row):
            if cell is not None and cell not in state_of:
                raise SequenceError(k, _strange(cell, t, alphabet.q, labels, state_of))
            state = None if cell is None else state_of[cell]
            tokens.append(GAP if state is None else state)
        sequences.append(_without_padding(np.array(tokens, dtype=np.int64)))
    gaps = sum(int((tokens == GAP).sum()) for tokens in sequences)
    missing = [f"{gaps} missing states, as gaps that no transition crosses"] if gaps else []
    return Tokens(sequences, names, labels, (*notes, *said, *missing))


def _strange(
    cell: int | str, t: int, q: int, labels: tuple[str, ...] | None, state_of: Mapping[Any, int | None]
) -> str:
    if labels is not None:
        return f"{shown(cell)} at position {t + 1} is none of the states {_listed(labels)}; {MISSING_MEND}."
    if isinstance(cell, str):
        return f"{shown(cell)} at position {t + 1} is not a state (a whole number); {PANEL_MEND}."
    first = min((key for key in state_of if isinstance(key, int)), default=0)
    return f"state {shown(cell)[1:-1]} at position {t + 1} is outside {first}..{first + q - 1}; {MISSING_MEND}."


def _states(
    there: set[int | str], alphabet: _Alphabet, source: str
) -> tuple[tuple[str, ...] | None, dict[Any, int | None], list[str]]:
    """The labels of the states if they have any, what each cell means, and what is to be said of it."""
    q, labels, first = alphabet.q, alphabet.labels, alphabet.first_state
    numbered = {cell for cell in there if isinstance(cell, int)}
    if labels is not None:
        own = {label: k for k, label in enumerate(labels)}
        by_number = len(numbered) == len(there) and not any(map(_is_number, labels))
        by_number &= first is not None or not alphabet.named
        if (there <= own.keys() and there) or not by_number:
            return labels, {**own}, [f"states {_listed(labels)}"]
    if numbered or not there:
        said = [f"states numbered as the rows {_listed(labels)}"] if labels is not None else []
        if first is None:
            first = 1 if numbered and 0 not in numbered and max(numbered) == q else 0
            if first == 0 and numbered and min(numbered) >= 1:
                said.append("states counted from 0, though none is 0: first state 1 says otherwise")
            elif first:
                said.append("states counted from 1")
        return None, {first + k: k for k in range(q)}, said
    words = {str(cell) for cell in there}
    for how, spelled in (
        ("", {word: word for word in words}),
        (", in any case", {word: word.upper() for word in words}),
    ):
        found = sorted(set(spelled.values()))
        if len(found) == q:
            state_of = {word: found.index(label) for word, label in spelled.items()}
            return tuple(found), {**state_of}, [f"states in the order {_listed(found)}{how}"]
    nucleotides = {word: word.upper().replace("U", "T") for word in words if word.lower() in NUCLEOTIDES}
    if q == len(set(nucleotides.values())) == 4 and all(w in nucleotides or w.lower() in AMBIGUOUS for w in words):
        return tuple("ACGT"), {w: "ACGT".find(nucleotides[w]) if w in nucleotides else None for w in words}, [
            "states in the order A, C, G, T; codes for several of them are missing states"
        ]  # fmt: skip
    raise InputError(
        f"{source}: the states {_listed(sorted(words))} are not the {q} of the matrix; name them in the order of its "
        f"rows (--states, or states=); {PANEL_MEND}."
    )


def _is_number(text: str) -> bool:
    return _WHOLE.fullmatch(text) is not None


def _listed(labels: Sequence[Any]) -> str:
    """Some of them."""
    few = [shown(label)[1:-1] for label in labels[:8]]
    return ", ".join(few) + (", .." if len(labels) > 8 else "")


def _without_padding(tokens: Int[np.ndarray, " T"]) -> Int[np.ndarray, " n"]:
    """Without what is missing at either end."""
    there = np.flatnonzero(tokens != GAP)
    return tokens[there[0] : there[-1] + 1] if len(there) else tokens[:0]
