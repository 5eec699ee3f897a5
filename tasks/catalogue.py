"""Names of tasks and suites to what they mean, and the files in which tasks are defined."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import numpy as np

from mdbench.core.entries import entry_points_of
from mdbench.core.errors import InputError, Point, foreign, origin, shown, unknown_name, warn_once
from mdbench.core.files import parsing, read_text
from mdbench.tasks.task import Task

GROUP = "mdbench.tasks"
SUITES = "suites.toml"
FAMILIES_GROUP = "mdbench.families"
FAMILIES = {  # by what task files call them
    "mtd": "mdbench.tasks.mtd:MTD",
    "per_lag": "mdbench.tasks.per_lag:PerLag",
    "markov": "mdbench.tasks.markov:Markov",
    "atoms": "mdbench.tasks.atoms:Atoms",
    "context_tree": "mdbench.tasks.context_tree:ContextTree",
    "hmm": "mdbench.tasks.hmm:HMM",
    "unknown_matrix": "mdbench.tasks.unknown_matrix:UnknownMatrix",
    "recorded": "mdbench.tasks.recorded:Recorded",
}


@dataclass(frozen=True)
class Suite:
    """A frozen, versioned list of (task, lengths) on which predictors are compared.

    ``unit`` is the row whose excess KL all others are a ratio of. ``planned`` are pairs of labels whose comparison was
    planned; ratios of excess KL within ``margin`` are equal.
    """

    name: str
    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    unit: str = "md1"
    planned: tuple[tuple[str, str], ...] = ()
    margin: tuple[float, float] = (0.8, 1.25)

    @property
    def short(self) -> str:
        """Its name without the version."""
        return unversioned(self.name)


def task_names() -> list[str]:
    """Names of the built-in tasks."""
    files = (path.name for path in _data().iterdir())
    return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml") and name != SUITES)


def load_task(name_or_path: str | Path) -> Task:
    """The task of that name, built in or from an entry point, or the one that a TOML file (``.toml``) defines.

    A task file names the family of its ``model`` (``mtd`` if it does not) and has that family's fields; those with a
    default, and ``name``, may be left out.
    """
    text = str(name_or_path)
    if text in task_names():
        return _built_in(text)
    if text in plugin_tasks():
        return _from_plugin(text)
    if text.endswith(".toml"):
        return _parse_task(read_text(text, "task file"), text)
    raise unknown_name("task", text, [*task_names(), *plugin_tasks()])


def built_in_like(task: Task) -> Task | None:
    """The built-in task that this is, whatever it is called; None if it is none."""
    alike = (load_task(name) for name in task_names() if _built_in_table(name).get("model", "mtd") == task.family)
    return next((same for same in alike if same.task_hash == task.task_hash), None)


def as_task(task: str | Path | Task) -> Task:
    """A task as it is, or the one of that name or file (:func:`load_task`)."""
    return task if isinstance(task, Task) else load_task(task)


def plugin_tasks() -> dict[str, Point]:
    """Tasks of other distributions, by name: the entry points of the group ``mdbench.tasks``. Nothing is imported.

    A built-in task wins, with a warning.
    """
    points, built_in = {}, task_names()
    for point in entry_points_of(GROUP):
        if point.name in built_in:
            warn_once(f"task '{point.name}'{_origin(point)} is not used: a built-in task has that name.")
        else:
            points[point.name] = point
    return points


@functools.cache
def _from_plugin(name: str) -> Task:
    """What the entry point names: a task, a function that returns one, or the path of a task file.

    Raises:
        InputError: it cannot be imported, or is none of these; the message names the distribution.
    """
    point = plugin_tasks()[name]
    source = f"task '{name}'{_origin(point)}"
    with foreign(f"{source} cannot be loaded", kind=InputError):
        given = point.load()
        given = given() if callable(given) else given
        given = load_task(given) if isinstance(given, (str, Path)) and str(given).endswith(".toml") else given
    if not isinstance(given, Task):
        raise InputError(f"{source} is {type(given).__name__}, not a task, a function that returns one or a task file.")
    return given


def suite_names() -> list[str]:
    """Names of the suites, the unversioned names (which mean the newest version) first."""
    suites = _suites()
    return sorted(set(map(unversioned, suites))) + sorted(suites)


def boards_of(tasks: Collection[str]) -> list[str]:
    """Suites, by their short names, that have a board where there are records of these tasks.

    Suites of the same tasks share their records, and the first of them has the board.
    """
    found: dict[tuple[str, ...], str] = {}
    for short in dict.fromkeys(map(unversioned, _suites())):
        suite = load_suite(short)
        if not set(suite.tasks).isdisjoint(tasks):
            found.setdefault(suite.tasks, short)
    return list(found.values())


def unversioned(suite: str) -> str:
    """``core`` of ``core-v1``."""
    return suite.rsplit("-v", 1)[0]


def load_suite(name: str) -> Suite:
    """The suite of that name; ``core`` means the newest ``core-vN``."""
    suites = _suites()
    versions = [full for full in suites if full == name or unversioned(full) == name]
    if not versions:
        raise unknown_name("suite", name, suite_names())
    full = max(versions, key=lambda full: int(full.rsplit("-v", 1)[1]))
    content = suites[full]
    plain = {key: value if isinstance(value, str) else tuple(value) for key, value in content.items()}
    planned = tuple((a, b) for a, b in content.get("planned", []))
    return Suite(**(plain | {"name": full, "planned": planned}))


@functools.cache
def _built_in_table(name: str) -> dict[str, Any]:
    return tomllib.loads((_data() / f"{name}.toml").read_text(encoding="utf-8"))


@functools.cache
def _built_in(name: str) -> Task:
    return _parse_task((_data() / f"{name}.toml").read_text(encoding="utf-8"), name)


def _parse_task(source: str, where: str) -> Task:
    with parsing(f"task file {shown(where)} is not TOML"):
        table = tomllib.loads(source)
    try:
        family = load_family(table.pop("model", "mtd"))
    except InputError as error:
        raise InputError(f"task file {shown(where)}: model: {error}") from None
    try:
        table = family.of_table(table, Path(where).parent)
    except InputError as error:
        raise InputError(f"task file {shown(where)}: {error}") from None
    known = {f.name: f for f in fields(family)}  # type: ignore[arg-type]
    for key in table.keys() - known.keys():
        raise InputError(f"task file {shown(where)}: {unknown_name('field', key, known)}")
    for key, f in known.items():
        if key != "name" and f.default is MISSING and key not in table:
            raise InputError(f"task file {shown(where)} has no '{key}'.")
    if not isinstance(table.get("lengths", []), list):
        raise InputError(f"task file {shown(where)}: lengths must be a list of whole numbers.")
    if "lengths" in table:
        table["lengths"] = tuple(table["lengths"])  # as families that write no __init__ annotate them
    try:
        return family(**({"name": Path(where).stem} | table))
    except InputError as error:
        raise InputError(f"task file {shown(where)}: {error}") from None


def load_family(name: Any) -> type[Task]:
    """The family of models that task files call so: built in, or an entry point of the group ``mdbench.families``.

    Raises:
        InputError: there is none, or what the entry point names is none.
    """
    if not isinstance(name, str):
        raise InputError(f"a family has a name in quotes, not {name!r}.")
    if name in FAMILIES:
        return _imported(FAMILIES[name])
    points = {point.name: point for point in entry_points_of(FAMILIES_GROUP)}
    if name not in points:
        raise unknown_name("family of tasks", name, [*FAMILIES, *points])
    with foreign(f"family '{name}'{_origin(points[name])} cannot be loaded", kind=InputError):
        family = points[name].load()
    if not (isinstance(family, type) and issubclass(family, Task) and is_dataclass(family)):
        raise InputError(f"family '{name}'{_origin(points[name])} must be a dataclass that derives from Task.")
    return family


def family_names() -> dict[str, str]:
    """All families that a task file can name, and what they are in a line; those of packages are not imported."""
    plugins = {point.name: origin(point) for point in entry_points_of(FAMILIES_GROUP)}
    return plugins | {name: _imported(target).kind for name, target in FAMILIES.items()}


def _origin(point: Point) -> str:
    return f" ({origin(point)})" if point.dist else ""


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def task_to_json(task: Task) -> dict[str, Any]:
    """Its class and all fields, as JSON has them: for a process of its own."""
    values = {f.name: getattr(task, f.name) for f in fields(task)}  # type: ignore[arg-type]
    plain = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}
    return {"class": f"{type(task).__module__}:{type(task).__qualname__}", "fields": plain}


def task_from_json(written: dict[str, Any]) -> Task:
    """The task that :func:`task_to_json` took apart."""
    return _imported(written["class"])(**written["fields"])


@functools.cache
def _suites() -> dict[str, Any]:
    return tomllib.loads((_data() / SUITES).read_text(encoding="utf-8"))


def _data() -> Any:
    return resources.files("mdbench.tasks") / "data"
