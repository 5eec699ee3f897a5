"""How sequences lie in a table: a line or a column each, a letter a state, or an observation a line (a panel)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from mdbench.core.errors import InputError, shown
from mdbench.core.tables import NUMBER, Table
from mdbench.posteriors.times import Times, are_dates, begins_again, places

IDS = {
    "animal",
    "cage",
    "case",
    "client",
    "customer",
    "deelnemer",
    "fall",
    "group",
    "id",
    "ids",
    "individu",
    "individual",
    "individuo",
    "kunde",
    "mouse",
    "name",
    "names",
    "no",
    "nr",
    "participant",
    "patient",
    "patientid",
    "persnr",
    "person",
    "pid",
    "player",
    "pnr",
    "proband",
    "rat",
    "respondent",
    "seq",
    "sequence",
    "soggetto",
    "subj",
    "subject",
    "subjects",
    "subjid",
    "sujet",
    "sujeto",
    "unit",
    "user",
    "usubjid",
    "vp",
    "编号",
}
TIMES = {
    "annee",
    "année",
    "avisitn",
    "date",
    "datetime",
    "datum",
    "day",
    "dia",
    "día",
    "epoch",
    "fecha",
    "frame",
    "hour",
    "index",
    "jahr",
    "jour",
    "mes",
    "minute",
    "monat",
    "month",
    "obs",
    "observation",
    "period",
    "periodo",
    "pos",
    "position",
    "round",
    "session",
    "step",
    "t",
    "tag",
    "tempo",
    "temps",
    "tick",
    "tiempo",
    "tijd",
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
    "zeitpunkt",
}
STATES = {
    "activity",
    "behavior",
    "behaviour",
    "category",
    "choice",
    "estado",
    "etat",
    "outcome",
    "response",
    "stage",
    "state",
    "states",
    "stato",
    "status",
    "toestand",
    "value",
    "values",
    "weather",
    "x",
    "y",
    "zustand",
    "état",
}

WIDEST_PANEL = 12  # columns
NARROW = 4  # columns: a table of so few whose names say nothing is taken for nothing
MOST_FILLED = 100  # gaps for missing times, for each observation

ROW_NUMBERS = {"index", "nr", "no", "row", "rownames", "rowid", "unnamed"}
WITHIN = ",;-|/ "  # what may stand between the states of a cell


class Laid(NamedTuple):
    """Sequences as rows of cells, their names if they have some, and how they were found."""

    rows: list[list[Any]]
    names: tuple[str, ...] | None
    notes: list[str]


class Cells(NamedTuple):
    """What is known of the states: whether a cell can be one, whether a letter can, and how many there are."""

    is_state: Callable[[str], bool]
    is_letter: Callable[[str], bool]
    n_states: int


def lay_out(table: Table, order: int, cells: Cells, headed: bool = False) -> Laid:
    """The sequences in a table; ``headed`` if its first row is certainly a header.

    Raises:
        InputError: it can be read in several ways, or in none; the message says what would be right.
    """
    if table.names is not None:
        return Laid([*table.rows], tuple(table.names), ["FASTA"])
    rows = _whole_lines(_plain_numbers(table), table.separator, cells)
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
        found = _by_header(header, rows, cells, notes, table.source)
        if found is not None:
            return found
    elif not header and width in (2, 3):
        found = _without_header(rows, order, cells, notes, table.source)
        if found is not None:
            return found
    notes.append("one sequence a line")
    ids = [row[0] for row in rows]
    called = header is not None and (header[0] == "" or bool(words_in(header[0]) & IDS) or _name_then_numbered(header))
    rest = [cell for row in rows for cell in row[1:]]
    strange = len(set(ids)) == len(ids) and not any(map(cells.is_state, ids)) and all(map(cells.is_state, rest))
    counted = width is not None and width > 2 and len(ids) > 2 and counts(ids)
    if counted and not called and all(map(cells.is_state, ids)):
        raise InputError(
            f"{table.source}: its first column counts {', '.join(ids[:3])}: are these names or states? Give a header "
            "(id, t1, t2, ..), or letters for names."
        )
    if called or strange or counted:
        return Laid([row[1:] for row in rows], tuple(ids), [*notes, "first column as names"])
    return Laid(rows, None, notes)


# --------------------------------------------------------------------------------------------------------- headers


def _plain_numbers(table: Table) -> list[list[str]]:
    """Cells with ``1,0`` as ``1.0`` where commas separate nothing."""
    if table.separator == "commas":
        return table.rows
    return [[re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", cell) for cell in row] for row in table.rows]


def _whole_lines(rows: list[list[str]], separator: str | None, cells: Cells) -> list[list[str]]:
    """A column of labels that hold blanks, or of whole numbers with decimal commas under one name, as a column."""
    lines = [" ".join(row) for row in rows]
    if separator == "blanks" and any(len(row) > 1 for row in rows):
        below = {line for line in lines[1:] if line}
        if all(map(cells.is_state, below)) and not all(cells.is_state(cell) for row in rows[1:] for cell in row):
            return [[line] for line in lines]
    decimal = separator == "commas" and len(rows[0]) == 1 and len(rows) > 1
    if decimal and all(len(row) == 2 and row[0].isdecimal() and not row[1].strip("0") and row[1] for row in rows[1:]):
        return [rows[0], *([row[0]] for row in rows[1:])]
    return rows


def _header_of(rows: list[list[str]], cells: Cells) -> tuple[list[str] | None, list[str]]:
    """The first row, if it is one, and what is to be said of it."""
    first, body = rows[0], rows[1:]
    if not any(first):
        return None, []
    if body and _numbered_header(first, body) and (first[0] == "" or not all(map(cells.is_state, first))):
        return first, ["first line left out, which counts the columns"]
    named = [cell for cell in first if cell]
    if any(map(cells.is_state, named)) or len(set(named)) < len(named):
        return None, []
    if all(len(cell) <= 1 and not cell.isdigit() for row in rows for cell in row):
        return None, []  # H, T, X: states, whatever else they may mean
    known = any(words_in(cell) & (IDS | TIMES | STATES) for cell in named)
    if not body:
        return (first, ["header left out"]) if known else (None, [])
    below = {cell for row in body for cell in row}
    rest = [cell for row in body for cell in row[1:]] or [*below]  # the first column may be names
    years = len(named) > 2 and all(map(str.isdecimal, named[1:])) and all(map(cells.is_state, rest))
    if below & set(named) or (any(NUMBER.fullmatch(cell) for cell in named) and not years):
        return None, []
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


def words_in(name: str) -> set[str]:
    """Words of a column's name: subject_id, SubjectID and ``subject.id`` are of two."""
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return set(re.findall(r"[^\W\d_]+", spaced.lower()))


def alike(names: Sequence[str]) -> bool:
    """Whether columns are numbered: V1, V2, .. or dates."""
    return len({re.sub(r"\d+", "0", name) for name in names}) == 1


# ---------------------------------------------------------------------------------------------------------- panels


def _name_then_numbered(header: Sequence[str]) -> bool:
    """name, t1, t2, ..: one sequence a line, after its name."""
    return len(header) > 2 and alike(header[1:]) and not alike(header) and not words_in(header[0]) & TIMES


def _by_header(header: list[str], rows: list[list[str]], cells: Cells, notes: list[str], source: str) -> Laid | None:
    """What the names of the columns say; None where they say that lines are sequences."""
    first = [row[0] for row in rows]
    if header[0] == "" and are_dates(first):
        header = ["date", *header[1:]]
    index = 1 if (header[0] == "" or words_in(header[0]) & ROW_NUMBERS) and counts(first) else 0
    columns = range(index, len(header))
    if index and len(header) == 2:
        return Laid([[row[1] for row in rows]], None, [*notes, "one sequence, a state a line"])
    rest = [header[k] for k in columns if not words_in(header[k]) & IDS]
    if (len(rest) > 1 and alike(rest)) or _name_then_numbered(header[index:]):
        return None  # t1, t2, ..: one sequence a line, perhaps after its name
    state_like = [k for k in columns if words_in(header[k]) & STATES]
    times = [k for k in columns if words_in(header[k]) & TIMES and k not in state_like]
    ids = [k for k in columns if words_in(header[k]) & IDS and k not in (*state_like, *times)]
    others = [k for k in columns if k not in (*ids, *times)]
    if len(ids) == 2 and not others and not times:
        ids, others = ids[:1], ids[1:]  # name, seq
    if not ids and not times:
        if len(columns) <= NARROW and header[0] != "":
            raise InputError(
                f"{source} has columns {_listed(header)}: of a panel call them id, time and state; of one sequence a "
                "line leave the header out."
            )
        return None
    if len(others) > 1 and not ids and times == [index]:
        return _a_column_each(header, rows, index, others, notes, source)
    if len(columns) > WIDEST_PANEL and len(state_like) != 1:
        return None  # one sequence a line, after its name
    wide = len(ids) == 1 and not times and not state_like and len(others) > 1
    if wide and ids[0] == 0 and all(cells.is_state(row[k]) for row in rows for k in others):
        return None
    if len(others) != 1 and len(state_like) != 1:
        listed = _listed([header[k] for k in others]) or "none"
        raise InputError(f"{source} is a panel, but which of its columns is the state ({listed})? Call that one state.")
    if len(times) > 1 or len(ids) > 1:
        listed = _listed([header[k] for k in (times if len(times) > 1 else ids)])
        raise InputError(f"{source} is a panel, but {listed} are of one kind: keep one of them.")
    state = others[0] if len(others) == 1 else state_like[0]
    unused = _listed([header[k] for k in others if k != state])
    if unused and not (ids and times):
        lacking = "id" if times else "time"
        raise InputError(
            f"{source}: nothing uses its columns {unused}; call the one that is so {lacking}, or drop them."
        )
    said = [*notes, f"columns not used: {unused}"] if unused else notes
    return _panel(header, rows, ids[0] if ids else None, times[0] if times else None, state, cells, said, source)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shown(name)[1:-1] for name in names[:WIDEST_PANEL])


def _a_column_each(
    header: list[str], rows: list[list[str]], time: int, others: list[int], notes: list[str], source: str
) -> Laid:
    """Sequences side by side, by one column of times."""
    times = places([row[time] for row in rows], header[time], source)
    spaced = _Spacing.of([times.at], times)
    order = _order([row[time] for row in rows], times, source)
    gaps = spaced.gaps([times.at[k] for k in order])
    spaced.check(sum(gaps), len(rows), source)
    of_each: list[list[Any]] = [[] for _ in others]
    for k, n_missing in zip(order, gaps, strict=True):
        for column, sequence in zip(others, of_each, strict=True):
            sequence += [None] * n_missing + [rows[k][column]]
    said = [*notes, "one sequence a column, by time", *spaced.notes(sum(gaps))]
    return Laid(of_each, tuple(header[k] for k in others), said)


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
        return _panel([""] * 2, rows, 0, None, 1, cells, notes, source) if repeats and order >= 2 else None
    by_id: dict[str, list[str]] = {}
    for row in rows:
        by_id.setdefault(row[0], []).append(row[1])
    counted = all(all(map(str.isdecimal, t)) and counts(sorted(t, key=int)) for t in by_id.values())
    if counted and max(map(len, by_id.values())) > 2:
        return _panel([""] * 3, rows, 0, 1, 2, cells, notes, source)
    return None


def _panel(
    header: list[str],
    rows: list[list[str]],
    name: int | None,
    time: int | None,
    state: int,
    cells: Cells,
    notes: list[str],
    source: str,
) -> Laid:
    """Sequences by id, each in the order of its times."""
    of_rows = ["" if name is None else re.sub(r"^(\d+)\.0+$", r"\1", row[name]) for row in rows]
    by_id: dict[str, list[int]] = {}
    for k, of in enumerate(of_rows):
        by_id.setdefault(of, []).append(k)
    if time is None:
        if name is not None and len(by_id) == len(rows):
            words = states_within([row[state] for row in rows], cells)
            if words is not None:
                return Laid(words, tuple(by_id), [*notes, "a name, then its sequence"])
        in_order = {of: [rows[k][state] for k in group] for of, group in by_id.items()}
        return _named(in_order, name, notes)
    written = [row[time] for row in rows]
    times = places(written, header[time], source)
    spaced = _Spacing.of([[times.at[k] for k in group] for group in by_id.values()], times)
    sequences: dict[str, list[Any]] = {}
    filled = 0
    for of, group in by_id.items():
        of_group = times._replace(at=[times.at[k] for k in group])
        order = _order([written[k] for k in group], of_group, source, of if name is not None else None)
        gaps = spaced.gaps([of_group.at[k] for k in order])
        filled += sum(gaps)
        spaced.check(filled, len(rows), source)
        sequences[of] = [
            cell for k, n in zip(order, gaps, strict=True) for cell in (*[None] * n, rows[group[k]][state])
        ]
    return _named(sequences, name, notes, spaced.notes(filled))


def _named(sequences: dict[str, list[Any]], name: int | None, notes: list[str], missing: Sequence[str] = ()) -> Laid:
    how = f"a panel of {len(sequences)} sequences" if name is not None else "one sequence by time"
    return Laid(list(sequences.values()), tuple(sequences) if len(sequences) > 1 else None, [*notes, how, *missing])


class _Spacing(NamedTuple):
    """How far apart observations are: a whole number of steps, or anyhow (then ``step`` is None)."""

    step: float | None
    irregular: bool
    working: bool = False

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]], times: Times) -> _Spacing:
        """Of dates, which people also choose at will, most distances must be one step."""
        between = sorted(b - a for at in groups for a, b in pairwise(sorted(at)) if b > a)
        if not times.counted or not between:
            return cls(None, False)
        step = between[0]
        regular = all(abs(d / step - round(d / step)) < 1e-6 for d in between)
        regular &= not times.dated or between[len(between) // 2] == step
        return cls(step if regular else None, not regular, times.working and regular)

    def gaps(self, at: Sequence[float]) -> list[int]:
        """How many are missing before each of these, in their order."""
        if self.step is None:
            return [0] * len(at)
        return [0, *(round((b - a) / self.step) - 1 for a, b in pairwise(at))]

    def check(self, filled: int, n: int, source: str) -> None:
        """Raise :class:`InputError` if there are more gaps than could be meant."""
        if filled > MOST_FILLED * n:
            raise InputError(f"{source}: between its times {filled} are missing, for {n} observations; number them.")

    def notes(self, filled: int) -> list[str]:
        """What is to be said."""
        if self.irregular:
            return ["times at irregular distances, of which only the order counts"]
        said = ["working days: Monday follows Friday"] if self.working else []
        return [*said, f"{filled} missing times, as gaps"] if filled else said


def _order(written: list[str], times: Times, source: str, of: str | None = None) -> list[int]:
    """The order in which times come.

    Raises:
        InputError: two are equal, or they begin again.
    """
    at = times.at
    if times.cyclic and begins_again(at):
        k = next(k for k in range(len(at) - 1) if at[k + 1] < at[k])
        raise InputError(
            f"{source}: its times go back from {shown(written[k])} to {shown(written[k + 1])}; write dates, or number "
            "them."
        )
    order = sorted(range(len(at)), key=at.__getitem__)
    for a, b in pairwise(order):
        if at[a] == at[b]:
            who = f" of {shown(of)}" if of else ""
            mend = "" if of else " Whose they are is a column called id."
            raise InputError(
                f"{source}: two observations{who} at the time {shown(written[a])}; which comes first?{mend}"
            )
    return order


# ------------------------------------------------------------------------------------------------------ one column


def _of_one_column(column: list[str], cells: Cells, notes: list[str]) -> Laid:
    """One cell a line: one sequence, or one of letters a line. An empty line in a column is a missing state."""
    words = states_within([cell for cell in column if cell], cells)
    if words is None:
        return Laid([[*column]], None, [*notes, "one sequence, a state a line"])
    return Laid(words, None, [*notes, "a sequence a line"])


def states_within(words: list[str], cells: Cells) -> list[list[str]] | None:
    """Each cell as the states in it, with something between them or a letter a state; None where it is one state."""
    padded = cells.n_states <= 10 and any(re.fullmatch(r"0\d+", word) for word in words)  # 001 is three states
    if all(len(word) <= 1 for word in words) or (all(map(cells.is_state, words)) and not padded):
        return None
    bare = [word.strip("[](){}\"' ") for word in words]
    for separator in WITHIN:
        parts = [[part.strip(" \"'") for part in word.split(separator)] for word in bare]
        if all(len(p) > 1 and all(part and cells.is_state(part) for part in p) for p in parts):
            return parts
    letters = {letter for word in bare for letter in word}
    as_words = len(set(words)) == cells.n_states != len(letters)  # sunny, rainy
    return [list(word) for word in bare] if all(map(cells.is_letter, letters)) and not as_words else None
