"""How sequences lie in a table: a line or a column each, a letter a state, or an observation a line (a panel)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from mdbench.core.errors import InputError, shown
from mdbench.core.tables import NUMBER, Table

IDS = {
    "animal",
    "case",
    "group",
    "id",
    "ids",
    "index",
    "individual",
    "kunde",
    "name",
    "names",
    "participant",
    "patient",
    "patientid",
    "person",
    "pid",
    "proband",
    "respondent",
    "seq",
    "sequence",
    "subject",
    "subjects",
    "sujet",
    "unit",
    "user",
}
TIMES = {
    "annee",
    "date",
    "datetime",
    "datum",
    "day",
    "fecha",
    "hour",
    "jahr",
    "jour",
    "minute",
    "monat",
    "month",
    "obs",
    "observation",
    "period",
    "pos",
    "position",
    "round",
    "session",
    "step",
    "t",
    "tag",
    "temps",
    "time",
    "times",
    "timestamp",
    "trial",
    "visit",
    "wave",
    "week",
    "welle",
    "year",
    "zeit",
}
STATES = {
    "activity",
    "category",
    "estado",
    "etat",
    "outcome",
    "response",
    "state",
    "states",
    "status",
    "value",
    "values",
    "x",
    "y",
    "zustand",
}

WIDEST_PANEL = 12  # columns
NARROW = 4  # columns: a table of so few whose names say nothing is taken for nothing
MOST_FILLED = 100  # gaps for missing times, for each observation

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2})?([T ].*)?")
_DATE = re.compile(r"(\d{1,4})([./])(\d{1,2})\2(\d{1,4})")
_STEM = re.compile(r"(.*?)(\d{1,15})")


class Laid(NamedTuple):
    """Sequences as rows of cells, their names if they have some, and how they were found."""

    rows: list[list[Any]]
    names: tuple[str, ...] | None
    notes: list[str]


class Cells(NamedTuple):
    """What is known of the states: whether a cell can be one, and whether a letter can."""

    is_state: Callable[[str], bool]
    is_letter: Callable[[str], bool]


def lay_out(table: Table, order: int, cells: Cells, headed: bool = False) -> Laid:
    """The sequences in a table; ``headed`` if its first row is certainly a header.

    Raises:
        InputError: it can be read in several ways, or in none; the message says what would be right.
    """
    if table.names is not None:
        return Laid([*table.rows], tuple(table.names), ["FASTA"])
    rows = _plain_numbers(table)
    if rows[0][0].startswith("@") and any(row[0].startswith("+") for row in rows[2::4]):
        raise InputError(f"{table.source} looks like FASTQ: give it as FASTA, without the qualities.")
    header, notes = (rows[0], []) if headed else _header_of(rows, cells)
    rows = rows[1:] if header else rows
    if not rows:
        raise InputError(f"{table.source} has a header and no rows.")
    if header and all(len(row) == len(header) + 1 for row in rows):
        header = ["", *header]  # as R writes row names
    if max(map(len, rows)) == 1:
        return _of_one_column([row[0] for row in rows], cells, notes)
    rows = [row for row in rows if row != [""]]
    width = len(rows[0]) if len({len(row) for row in rows}) == 1 else None
    if header and width == len(header):
        found = _by_header(header, rows, notes, table.source)
        if found is not None:
            return found
    elif not header and width in (2, 3):
        found = _without_header(rows, order, cells, notes, table.source)
        if found is not None:
            return found
    notes.append("one sequence a line")
    ids = [row[0] for row in rows]
    called = header is not None and (header[0] == "" or bool(_parts(header[0]) & IDS))
    rest = [cell for row in rows for cell in row[1:]]
    strange = len(set(ids)) == len(ids) and not any(map(cells.is_state, ids)) and all(map(cells.is_state, rest))
    counted = width is not None and width > 2 and len(ids) > 2 and counts(ids)
    if called or strange or counted:
        return Laid([row[1:] for row in rows], tuple(ids), [*notes, "first column as names"])
    return Laid(rows, None, notes)


# --------------------------------------------------------------------------------------------------------- headers


def _plain_numbers(table: Table) -> list[list[str]]:
    """Cells with ``1,0`` as ``1.0`` where commas separate nothing."""
    if table.separator == "commas":
        return table.rows
    return [[re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", cell) for cell in row] for row in table.rows]


def _header_of(rows: list[list[str]], cells: Cells) -> tuple[list[str] | None, list[str]]:
    """The first row, if it is one, and what is to be said of it."""
    first, body = rows[0], rows[1:]
    if not any(first):
        return None, []
    if body and _numbered_header(first, body):
        return first, ["first line left out, which counts the columns"]
    named = [cell for cell in first if cell]
    if any(map(cells.is_state, named)):
        return None, []
    known = any(_parts(cell) & (IDS | TIMES | STATES) for cell in named)
    if not body:
        return (first, ["header left out"]) if known else (None, [])
    below = {cell for row in body for cell in row}
    if below & set(named) or any(NUMBER.fullmatch(cell) for cell in named):
        return None, []
    rest = [cell for row in body for cell in row[1:]] or [*below]  # the first column may be names
    if known or all(cells.is_state(cell) or NUMBER.fullmatch(cell) for cell in rest):
        return first, ["header left out"]
    return None, []


def _numbered_header(first: list[str], body: list[list[str]]) -> bool:
    """Columns 0, 1, .. as pandas writes them, with or without the index."""
    if any(len(row) != len(first) for row in body):
        return False
    if first[0] == "":
        return counts(first[1:]) and counts([row[0] for row in body])
    return len(first) > 2 and first == [str(k) for k in range(len(first))]


def counts(cells: Sequence[str]) -> bool:
    """Whether they are 0, 1, .. or 1, 2, .."""
    return any(list(cells) == [str(k + first) for k in range(len(cells))] for first in (0, 1))


def _parts(name: str) -> set[str]:
    """Words of a column's name: subject_id, SubjectID and ``subject.id`` are of two."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return set(re.findall(r"[^\W\d_]+", spaced.lower()))


def alike(names: Sequence[str]) -> bool:
    """Whether columns are numbered: V1, V2, .. or dates."""
    return len({re.sub(r"\d+", "0", name) for name in names}) == 1


# ---------------------------------------------------------------------------------------------------------- panels


def _by_header(header: list[str], rows: list[list[str]], notes: list[str], source: str) -> Laid | None:
    """What the names of the columns say; None where they say that lines are sequences."""
    index = 1 if header[0] == "" and counts([row[0] for row in rows]) else 0
    columns = range(index, len(header))
    if index and len(header) == 2:
        return Laid([[row[1] for row in rows]], None, [*notes, "one sequence, a state a line"])
    rest = [header[k] for k in columns if not _parts(header[k]) & IDS]
    if len(rest) > 1 and alike(rest):
        return None  # t1, t2, ..: one sequence a line, perhaps after its name
    state_like = [k for k in columns if _parts(header[k]) & STATES]
    times = [k for k in columns if _parts(header[k]) & TIMES and k not in state_like]
    ids = [k for k in columns if _parts(header[k]) & IDS and k not in (*state_like, *times)]
    others = [k for k in columns if k not in (*ids, *times)]
    if not ids and not times:
        if len(columns) <= NARROW and header[0] != "":
            names = ", ".join(shown(name)[1:-1] for name in header)
            raise InputError(
                f"{source} has columns {names}: of a panel call them id, time and state; of one sequence a line leave "
                "the header out."
            )
        return None
    if len(others) > 1 and not ids and times == [index]:
        order, _ = _ordered([row[index] for row in rows], source)
        of_each = [[rows[k][column] for k in order] for column in others]
        return Laid(of_each, tuple(header[k] for k in others), [*notes, "one sequence a column, by time"])
    if len(columns) > WIDEST_PANEL and len(state_like) != 1:
        return None  # one sequence a line, after its name
    if len(others) != 1 and len(state_like) != 1:
        listed = ", ".join(shown(header[k])[1:-1] for k in others) or "none"
        raise InputError(f"{source} is a panel, but which of its columns is the state ({listed})? Call that one state.")
    if len(times) > 1 or len(ids) > 1:
        listed = ", ".join(shown(header[k])[1:-1] for k in (times if len(times) > 1 else ids))
        raise InputError(f"{source} is a panel, but {listed} are of one kind: keep one of them.")
    state = others[0] if len(others) == 1 else state_like[0]
    return _panel(rows, ids[0] if ids else None, times[0] if times else None, state, notes, source)


def _without_header(rows: list[list[str]], order: int, cells: Cells, notes: list[str], source: str) -> Laid | None:
    """Two or three columns that say nothing of themselves."""
    ids = [row[0] for row in rows]
    if len(rows[0]) == 2:
        repeats = len(set(ids)) < len(ids)
        letters = [row[1] for row in rows]
        if (
            not repeats
            and not any(map(cells.is_state, [*ids, *letters]))
            and all(map(cells.is_letter, "".join(letters)))
        ):
            return Laid([list(word) for word in letters], tuple(ids), [*notes, "a name, then a letter a state"])
        return _panel(rows, 0, None, 1, notes, source) if repeats and order >= 2 else None
    by_id: dict[str, list[str]] = {}
    for row in rows:
        by_id.setdefault(row[0], []).append(row[1])
    counted = all(all(map(str.isdecimal, t)) and counts(sorted(t, key=int)) for t in by_id.values())
    if counted and max(map(len, by_id.values())) > 2:
        return _panel(rows, 0, 1, 2, notes, source)
    return None


def _panel(
    rows: list[list[str]], name: int | None, time: int | None, state: int, notes: list[str], source: str
) -> Laid:
    """Sequences by id, each in the order of its times."""
    by_id: dict[str, list[list[str]]] = {}
    for row in rows:
        by_id.setdefault("" if name is None else row[name], []).append(row)
    sequences: dict[str, list[Any]] = {}
    filled = 0
    step = _step(list(by_id.values()), time) if time is not None else None
    for of, group in by_id.items():
        if time is None:
            sequences[of] = [row[state] for row in group]
            continue
        order, values = _ordered([row[time] for row in group], source, of)
        sequences[of] = [group[order[0]][state]]
        for k, (a, b) in zip(order[1:], pairwise(values), strict=True):
            gaps = round((b - a) / step) - 1 if step else 0
            filled += gaps
            if filled > MOST_FILLED * len(rows):
                raise InputError(f"{source}: times jump from {a:g} to {b:g}; number them consecutively.")
            sequences[of] += [None] * gaps + [group[k][state]]
    how = f"a panel of {len(sequences)} sequences" if name is not None else "one sequence by time"
    missing = [f"{filled} missing times, as gaps"] if filled else []
    return Laid(list(sequences.values()), tuple(sequences) if len(sequences) > 1 else None, [*notes, how, *missing])


def _step(groups: list[list[list[str]]], time: int) -> float | None:
    """The smallest distance between whole-numbered times; None where times are no whole numbers."""
    cells = [[row[time] for row in group] for group in groups]
    if not all(re.fullmatch(r"-?\d{1,15}(\.0*)?", cell) for group in cells for cell in group):
        return None
    between = [b - a for group in cells for a, b in pairwise(sorted(map(float, group))) if b > a]
    return min(between, default=1.0)


def _ordered(cells: list[str], source: str, of: str = "") -> tuple[list[int], list[float]]:
    """The order in which times come, and the times in it (numbers alone; others as 0, 1, ..)."""
    keys = _time_keys(cells, source)
    order = sorted(range(len(cells)), key=keys.__getitem__)
    for a, b in pairwise(order):
        if keys[a] == keys[b]:
            who = f" of {shown(of)}" if of else ""
            raise InputError(f"{source}: two observations{who} at the time {shown(cells[a])}; which comes first?")
    numbers = all(isinstance(key, float) for key in keys)
    return order, [float(keys[k]) if numbers else float(n) for n, k in enumerate(order)]


def _time_keys(cells: list[str], source: str) -> list[Any]:
    if all(NUMBER.fullmatch(cell) for cell in cells):
        return [float(cell) for cell in cells]
    if all(_ISO.fullmatch(cell) for cell in cells):
        return list(cells)
    dates = [_DATE.fullmatch(cell) for cell in cells]
    if all(dates):
        parts = [(int(d[1]), int(d[3]), int(d[4])) for d in dates if d]
        for possible in ([0, 1, 2], [2, 1, 0], [2, 0, 1]):  # year first, day first, month first
            others = [p for p in ([2, 1, 0], [2, 0, 1]) if p != possible]
            dotted = possible == [2, 1, 0] and all(d and d[2] == "." for d in dates)
            if _are_dates(parts, possible) and (dotted or not any(_are_dates(parts, p) for p in others)):
                return [tuple(part[k] for k in possible) for part in parts]
        raise InputError(f"{source}: dates such as {shown(cells[0])} can be read in two ways; write 2020-01-31.")
    stems = [_STEM.fullmatch(cell) for cell in cells]
    if all(stems) and len({s[1] for s in stems if s}) == 1:
        return [int(s[2]) for s in stems if s]
    if all(cell[:3].lower() in MONTHS for cell in cells):
        return [MONTHS.index(cell[:3].lower()) for cell in cells]
    bad = next(cell for cell in cells if not NUMBER.fullmatch(cell))
    raise InputError(f"{source}: the time {shown(bad)} has no order; write numbers, or dates such as 2020-01-31.")


def _are_dates(parts: list[tuple[int, int, int]], order: list[int]) -> bool:
    """Whether they can be (year, month, day) in that order."""
    return all(p[order[0]] > 31 and 1 <= p[order[1]] <= 12 and 1 <= p[order[2]] <= 31 for p in parts)


# ------------------------------------------------------------------------------------------------------ one column


def _of_one_column(column: list[str], cells: Cells, notes: list[str]) -> Laid:
    """One cell a line: one sequence, or one of letters a line. An empty line in a column is a missing state."""
    there = [cell for cell in column if cell]
    if all(map(cells.is_state, column)) or all(len(cell) <= 1 for cell in column):
        return Laid([[*column]], None, [*notes, "one sequence, a state a line"])
    for separator in "-|/":
        parts = [cell.split(separator) for cell in there]
        if all(len(p) > 1 and all(part and cells.is_state(part) for part in p) for p in parts):
            return Laid([*parts], None, [*notes, f"states separated by {separator}"])
    letters = {letter for cell in there for letter in cell}
    if all(map(cells.is_letter, letters)) and any(len(cell) > 1 for cell in there):
        return Laid([list(cell) for cell in there], None, [*notes, "a letter a state"])
    return Laid([[*column]], None, [*notes, "one sequence, a state a line"])
