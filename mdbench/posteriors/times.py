"""Times as people write them, to places on a line: numbers, dates, months, quarters, clock times."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from mdbench.core.errors import InputError, shown
from mdbench.core.tables import NUMBER

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CYCLES = {
    "day",
    "heure",
    "hour",
    "jour",
    "minute",
    "mois",
    "monat",
    "month",
    "semaine",
    "stunde",
    "tag",
    "week",
    "woche",
}
"""Names of columns whose numbers begin again: 51, 52, 1."""
LONGEST_CYCLE = 367  # days of a year
CENTURIES = range(1800, 2200)
_DATE = re.compile(r"(\d{1,4})([./])(\d{1,2})\2(\d{1,4})( \d{1,2}:\d{2}(:\d{2})?)?")
_ISO = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?")
_ISO_MONTH = re.compile(r"(\d{4})-(\d{2})")
_QUARTER = re.compile(r"(\d{4})[ -]?Q([1-4])|Q([1-4])[ -/]?(\d{4})", re.IGNORECASE)
_MONTH_YEAR = re.compile(r"([A-Za-z]{3,9})[-. /]?(\d{4}|\d{2})")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(?:\.0*)?)?(?: ?([AaPp])\.?[Mm]\.?)?")
_STEM = re.compile(r"(.*?)(\d{1,15})")
_WRITTEN = ("%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d %Y", "%b %d, %Y", "%B %d, %Y", "%B %d %Y", "%d-%b-%y")


class Times(NamedTuple):
    """Where each observation lies.

    Attributes:
        at: the places.
        counted: whether distances say what is missing between two.
        cyclic: whether times begin again, as months and hours do.
        dated: whether they are dates, which people also choose at will.
        working: whether they are working days, of which Monday follows Friday.
    """

    at: list[float]
    counted: bool
    cyclic: bool = False
    dated: bool = False
    working: bool = False


def places(cells: Sequence[str], name: str, source: str) -> Times:
    """The places of the times in a column of that name.

    Raises:
        InputError: they have no order, or several.
    """
    for read in (_numbers, _dates_of_iso, _months, _quarters, _dates_of_numbers, _dates_in_words, _clock, _stems):
        found = read(cells, source)
        if found is not None:
            cyclic = read is _numbers and bool(set(re.findall(r"[a-z]+", name.lower())) & CYCLES)
            return found._replace(cyclic=True) if cyclic and max(found.at) < LONGEST_CYCLE else found
    bad = next((cell for cell in cells if not NUMBER.fullmatch(cell)), cells[0])
    raise InputError(f"{source}: the time {shown(bad)} has no order; write numbers, or dates such as 2020-01-31.")


def are_dates(cells: Sequence[str]) -> bool:
    """Whether a column without a name holds dates."""
    return all(_ISO.fullmatch(cell) or _ISO_MONTH.fullmatch(cell) or _DATE.fullmatch(cell) for cell in cells)


def begins_again(at: Sequence[float]) -> bool:
    """Whether they go up, back once, and up again without reaching where they began."""
    return sum(b < a for a, b in pairwise(at)) == 1 and at[-1] < at[0]


def _numbers(cells: Sequence[str], _source: str) -> Times | None:
    """Numbers; 20200131 and 202001 are dates where all are such."""
    if not all(NUMBER.fullmatch(cell) for cell in cells):
        return None
    if all(re.fullmatch(r"\d{8}", cell) for cell in cells):
        days = [_date(int(cell[:4]), int(cell[4:6]), int(cell[6:])) for cell in cells]
        if all(day is not None and day.year in CENTURIES for day in days):
            return _of_days([day for day in days if day is not None])
    if all(re.fullmatch(r"\d{6}", cell) and int(cell[:4]) in CENTURIES and 1 <= int(cell[4:]) <= 12 for cell in cells):
        return Times([12.0 * int(cell[:4]) + int(cell[4:]) for cell in cells], True)
    whole = all(re.fullmatch(r"-?\d{1,15}(\.0*)?", cell) for cell in cells)
    return Times([float(cell) for cell in cells], whole)


def _dates_of_iso(cells: Sequence[str], source: str) -> Times | None:
    """2020-01-31, with or without a time of day and an offset."""
    if not all(_ISO.fullmatch(cell) for cell in cells):
        return None
    import pandas as pd  # loads long

    try:
        stamps = pd.to_datetime(list(cells), format="mixed", utc=True)
    except (ValueError, OverflowError):
        raise InputError(f"{source}: not all of its times are dates such as 2020-01-31 or 2020-01-31 09:30.") from None
    return _of_stamps(list(stamps.to_pydatetime()))


def _months(cells: Sequence[str], _source: str) -> Times | None:
    """2020-01, Jan 2020, Jan-20; January alone has no year."""
    if all(found := [_ISO_MONTH.fullmatch(cell) for cell in cells]):
        return Times([12.0 * int(f[1]) + int(f[2]) for f in found if f], True)
    found = [_MONTH_YEAR.fullmatch(cell) for cell in cells]
    if all(f and f[1][:3].lower() in MONTHS for f in found):
        years = [int(f[2]) if len(f[2]) == 4 else 1900 + int(f[2]) + 100 * (int(f[2]) < 70) for f in found if f]
        return Times([12.0 * y + _month(f[1]) for y, f in zip(years, found, strict=True) if f], True)
    if all(re.fullmatch(r"[A-Za-z]{3,9}\.?", cell) and cell[:3].lower() in MONTHS for cell in cells):
        return Times([float(_month(cell)) for cell in cells], True, cyclic=True)
    return None


def _quarters(cells: Sequence[str], _source: str) -> Times | None:
    """2020Q1 or Q1 2020."""
    found = [_QUARTER.fullmatch(cell) for cell in cells]
    if not all(found):
        return None
    return Times([4.0 * int(f[1] or f[4]) + int(f[2] or f[3]) for f in found if f], True)


def _dates_of_numbers(cells: Sequence[str], source: str) -> Times | None:
    """31.1.2020, 1/31/2020, where they can be read in one way only; points stand between day, month and year."""
    found = [_DATE.fullmatch(cell) for cell in cells]
    if not all(found):
        return None
    parts = [(int(d[1]), int(d[3]), int(d[4])) for d in found if d]
    possible = [order for order in ([0, 1, 2], [2, 1, 0], [2, 0, 1]) if _are_dates(parts, order)]
    if [2, 1, 0] in possible and all(d and d[2] == "." for d in found):
        possible = [[2, 1, 0]]
    if len(possible) != 1:
        raise InputError(f"{source}: dates such as {shown(cells[0])} can be read in two ways; write 2020-01-31.")
    year, month, day = possible[0]
    days = [datetime.datetime(part[year], part[month], part[day], tzinfo=datetime.UTC) for part in parts]
    clock = [_seconds(d[5].strip()) if d and d[5] else 0.0 for d in found]
    return _of_stamps([day + datetime.timedelta(seconds=s) for day, s in zip(days, clock, strict=True)])


def _dates_in_words(cells: Sequence[str], _source: str) -> Times | None:
    """30-Jan-2020, Jan 30 2020 and the like."""
    for form in _WRITTEN:
        try:
            days = [datetime.datetime.strptime(cell, form) for cell in cells]  # days have no zone
        except ValueError:
            continue
        return _of_days([day.date() for day in days])
    return None


def _clock(cells: Sequence[str], _source: str) -> Times | None:
    """9:00, 09:30:15, 1:00 PM."""
    if not all(_CLOCK.fullmatch(cell) for cell in cells):
        return None
    return Times([_seconds(cell) for cell in cells], True, cyclic=True)


def _stems(cells: Sequence[str], _source: str) -> Times | None:
    """w1, w2, ..: a number after the same beginning."""
    found = [_STEM.fullmatch(cell) for cell in cells]
    if not all(found) or len({f[1] for f in found if f}) != 1:
        return None
    return Times([float(f[2]) for f in found if f], True)


def _of_stamps(stamps: Sequence[datetime.datetime]) -> Times:
    if all(s.hour == s.minute == s.second == s.microsecond == 0 for s in stamps):
        return _of_days([s.date() for s in stamps])
    first = min(stamps)
    return Times([(s - first).total_seconds() for s in stamps], True, dated=True)


def _of_days(days: Sequence[datetime.date]) -> Times:
    """Days; months where each has one and the same day; working days where none is on a weekend."""
    months = [12 * day.year + day.month for day in days]
    if len({day.day for day in days}) == 1 and len(set(months)) > 1:
        return Times([float(month) for month in months], True, dated=True)
    ordinals = [day.toordinal() for day in days]
    if max(day.weekday() for day in days) < 5 and max(ordinals) - min(ordinals) >= 7:
        return Times(
            [float(n - 2 * ((n - 1) // 7)) for n in ordinals], True, dated=True, working=True
        )  # 1 was a Monday
    return Times([float(n) for n in ordinals], True, dated=True)


def _are_dates(parts: list[tuple[int, int, int]], order: list[int]) -> bool:
    """Whether they can be (year, month, day) in that order."""
    return all(p[order[0]] > 31 and _date(*(p[k] for k in order)) is not None for p in parts)


def _date(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def _month(name: str) -> int:
    return 1 + MONTHS.index(name[:3].lower())


def _seconds(clock: str) -> float:
    found = _CLOCK.fullmatch(clock)
    assert found is not None, "checked before"
    hour = int(found[1]) % 12 + 12 * (found[4].lower() == "p") if found[4] else int(found[1])
    return 3600.0 * hour + 60 * int(found[2]) + int(found[3] or 0)
