"""Names to what they mean: entries of a table or of another package, and options as ``name:option=value``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, distributions, entry_points, version
from typing import Any, ClassVar, TypeVar

from mdbench.core.errors import InputError, Point, foreign, origin, reason_of, shown, unknown_name, warn_once

LONGEST_NAME = 200  # characters


@dataclass(frozen=True)
class Entry:
    """Where something stands, what it is in one line, and the options that the name already fixes."""

    name: str
    target: str  # "module:attribute"
    summary: str
    options: dict[str, Any] = field(default_factory=dict)
    distribution: str | None = "mdbench"
    kind: ClassVar[str] = "predictor"

    @property
    def version(self) -> str | None:
        """Of its distribution; None where it has none."""
        return None if self.distribution is None else version(self.distribution)

    @property
    def source(self) -> str:
        """Where it comes from, as messages have it."""
        return f"'{self.name}'" if self.distribution == "mdbench" else f"'{self.name}' ({self.summary})"

    def load(self) -> Any:
        """Import it.

        Raises:
            PredictorError: that fails, in whatever way.
        """
        with foreign(f"{self.kind} {self.source} cannot be loaded"):
            factory = EntryPoint(self.name, self.target, "mdbench").load()
            if not callable(factory):
                raise TypeError(f"its entry point '{self.target}' is {type(factory).__name__}, not a factory")
            inspect.signature(factory)
        return factory


E = TypeVar("E", bound=Entry)


def entry_points_of(group: str) -> list[Point]:
    """The entry points of a group, of all distributions whose metadata can be read; of the others a warning."""
    try:
        points: list[Point] = list(entry_points(group=group))
        for point in points:
            origin(point)
    except Exception:  # one of them is broken: which?
        points = [point for distribution in distributions() for point in _readable(distribution, group)]
    return [point for point in points if _has_name(point)]


def _has_name(point: Point) -> bool:
    able = len(point.name) <= LONGEST_NAME and point.name.isprintable()
    if not able:
        warn_once(f"{shown(point.name)} {origin(point)} is not used: a name has up to {LONGEST_NAME} characters.")
    return able


def _readable(distribution: Any, group: str) -> list[Point]:
    try:
        points = [point for point in distribution.entry_points if point.group == group]
        for point in points:
            origin(point)
        return points
    except Exception as error:
        where = getattr(distribution, "_path", "an installed distribution")
        warn_once(f"{where}: its metadata cannot be read, so nothing of it is used: {reason_of(error)}")
        return []


def with_plugins(group: str, kind: type[E], built_in: Mapping[str, E]) -> dict[str, E]:
    """Entry points and what is built in, which wins over an entry point of the same name, with a warning."""
    entries: dict[str, E] = {}
    for point in sorted(entry_points_of(group), key=lambda p: (p.name, p.dist.name if p.dist else "")):
        source = origin(point)
        entry = kind(point.name, point.value, source, distribution=point.dist.name if point.dist else None)
        if ":" in point.name:
            warn_once(f"'{point.name}' {source} is not used: a name with a colon cannot be asked for.")
        elif point.name in built_in:
            warn_once(f"'{point.name}' {source} is not used: a built-in {kind.kind} has that name.")
        elif point.name not in entries:
            entries[point.name] = entry
        elif entries[point.name] != entry:
            warn_once(f"'{point.name}' {source} is not used: that name is taken, {entries[point.name].summary}.")
    return entries | dict(built_in)


def named(text: str, kind: str, entries: Mapping[str, E]) -> tuple[E, str]:
    """The entry of ``name`` or ``name:rest``, and the rest.

    Raises:
        InputError: there is no such entry; the message has the nearest one.
    """
    name, _, rest = text.partition(":")
    if name not in entries:
        raise unknown_name(kind, name, entries)
    return entries[name], rest


def given_options(entry: Entry, rest: str) -> dict[str, Any]:
    """The options in ``option=value,option=value``.

    Raises:
        InputError: it does not read so.
    """
    text = f"{entry.kind} {shown(f'{entry.name}:{rest}')}"
    options: dict[str, Any] = {}
    for item in rest.split(",") if rest else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"{text}: write options as {entry.name}:option=value, not {shown(item)}.")
        if key.strip() in options:
            raise InputError(f"{text}: option {shown(key.strip())} is given twice.")
        options[key.strip()] = literal(value.strip())
    return options


def check_options(entry: Entry, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` unless these are among the known ones, and all are there that have no default."""
    kind = entry.kind
    for key in options.keys() - known.keys():
        if not known:
            raise InputError(f"{kind} '{entry.name}' takes no options, so not {shown(key)}.")
        raise InputError(f"{kind} '{entry.name}': {unknown_name('option', key, known)}")
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in options:
            raise InputError(f"{kind} '{entry.name}' needs the option '{key}': write {entry.name}:{key}=...")


def literal(value: str) -> Any:
    """What an option's text means: a number, True, False, None, or the text itself.

    Raises:
        InputError: it is anything else that Python can write, or too large a number.
    """
    try:
        meant = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        meant = value
    plain = meant is None or isinstance(meant, (bool, int, float)) or meant == value
    if not plain or (isinstance(meant, int) and abs(meant) >= 2**63):
        raise InputError(f"an option is a number, True, False, None or a word, not {value[:50]}.")
    return meant
