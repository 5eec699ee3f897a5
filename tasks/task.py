"""What a task is: the numbers that define one mixture of transition distributions, and the files they stand in."""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import numbers
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.errors import InputError, SequenceError, reason_of, unknown_name, warn_once

GROUP = "mdbench.tasks"
ROUNDED = 1e-6  # what rounding to six places may add to each entry of a row
LONGEST = 1_000_000  # tokens in a context
CONCENTRATIONS = (1e-10, 1e10)  # beyond, float64 holds no useful posterior


class Stream(enum.IntEnum):
    """Key streams that never meet, whatever the seed."""

    EVALUATION = 0
    CALIBRATION = 1
    TRAINING = 2


@dataclass(frozen=True, eq=False)
class Task:
    """A mixture of transition distributions (MTD) with known transition matrix and unknown mixture weights.

    Attributes:
        name: what tables call it.
        transition: π, shape (q, q), row-stochastic; ``transition[a, b]`` is P(b after a).
        order: m, the number of lags, at least 1.
        concentration: α > 0 of the symmetric Dirichlet prior on the weights λ.
        lengths: context lengths T at which it is evaluated unless told otherwise.
        version: raised when the numbers behind a name change.
    """

    name: str
    transition: Float[np.ndarray, "q q"]
    order: int
    concentration: float = 1.0
    lengths: tuple[int, ...] = (16, 32, 64, 128)
    version: int = 1

    def __post_init__(self) -> None:
        transition = check_transition(self.transition)
        transition.setflags(write=False)
        object.__setattr__(self, "transition", transition)
        object.__setattr__(self, "lengths", tuple(self.lengths))
        if not isinstance(self.name, str) or not re.fullmatch(r"[^./\\][^/\\]*", self.name):
            raise InputError(f"name must be text without slashes that does not begin with a dot, not {self.name!r}.")
        if not _is_integer(self.version):
            raise InputError(f"version must be a whole number, not {self.version!r}.")
        check_order(self.order)
        low, high = CONCENTRATIONS
        if not isinstance(self.concentration, numbers.Real) or not low <= self.concentration <= high:
            raise InputError(f"concentration must be a number from {low:g} to {high:g}, not {self.concentration!r}.")
        if not self.lengths:
            raise InputError("lengths is empty; give at least one context length.")
        for length in self.lengths:
            self.check_length(length)

    def check_length(self, length: int) -> None:
        """Raise :class:`InputError` unless a context of this length has at least one transition."""
        if _is_integer(length) and length > LONGEST:
            raise InputError(f"a context of {length} tokens is too long; {LONGEST} is the most.")
        if not _is_integer(length) or length < self.order + 1:
            raise InputError(
                f"a context of task '{self.name}' needs a whole length of at least order + 1 = {self.order + 1}, "
                f"not {length!r}."
            )

    @property
    def n_states(self) -> int:
        """q, the size of the vocabulary."""
        return len(self.transition)

    @functools.cached_property
    def task_hash(self) -> str:
        """SHA-256 (hex) of all that the generative model depends on; names and lengths are labels and stay out."""
        definition = {
            "model": "mtd",
            "version": self.version,
            "order": int(self.order),
            "concentration": float(self.concentration).hex(),
            "transition": [[float(p).hex() for p in row] for row in self.transition],
        }
        return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def task_to_json(task: Task) -> dict[str, Any]:
    """All fields of a task, as JSON has them: for a process of its own."""
    fields = ("name", "order", "concentration", "lengths", "version")
    return {name: getattr(task, name) for name in fields} | {"transition": task.transition.tolist()}


def task_from_json(fields: dict[str, Any]) -> Task:
    """The task that :func:`task_to_json` took apart."""
    return Task(**fields | {"transition": np.array(fields["transition"]), "lengths": tuple(fields["lengths"])})


def check_order(order: Any) -> None:
    """Raise :class:`InputError` unless ``order`` is a whole number of at least 1."""
    if not _is_integer(order) or order < 1:
        raise InputError(f"order must be a whole number of at least 1, not {order!r}.")


def check_transition(transition: Any) -> Float[np.ndarray, "q q"]:
    """A float64 copy of ``transition`` if it is a row-stochastic matrix, up to rounding to six places.

    Rows that are off by more than rounding in float64 are divided by their sum.

    Raises:
        InputError: it is not; the message names the row.
    """
    try:
        matrix = np.array(transition, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("the transition matrix must be q rows of q numbers.") from None
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise InputError(
            f"the transition matrix must be square with at least 2 states, "
            f"not of shape {' x '.join(map(str, matrix.shape))}."
        )
    for i, row in enumerate(matrix, start=1):
        if not np.isfinite(row).all() or (row < 0).any():
            worst = row[~(np.isfinite(row) & (row >= 0))][0]
            raise InputError(f"row {i} of the transition matrix holds {worst:g}; probabilities are 0 to 1.")
        off = abs(row.sum() - 1)
        if off > ROUNDED * len(row):
            raise InputError(f"row {i} of the transition matrix sums to {row.sum():.9g}; it must sum to 1.")
        if off > 1e-12:
            row /= row.sum()
    return matrix


def check_contexts(task: Task, contexts: Any) -> Int[np.ndarray, "batch length"]:
    """``contexts`` as int64 if every entry is one of the task's states and there is at least one transition."""
    array = np.asarray(contexts)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"contexts must be integers of shape (batch, length), not {array.dtype} of shape {array.shape}."
        )
    task.check_length(array.shape[1])
    bad = np.argwhere((array < 0) | (array >= task.n_states))
    if len(bad):
        i, t = bad[0]
        raise SequenceError(int(i), f"state {array[i, t]} at position {t + 1} is outside 0..{task.n_states - 1}.")
    return array.astype(np.int64)


def lag_likelihoods(task: Task, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch n m"]:
    """x_t(g) = π(y_{t-g}, y_t) for t = m+1..T and g = 1..m (SPEC section 1): what each lag says of each transition.

    Raises:
        SequenceError: some transition is impossible from every lag, so the sequence has probability 0 under every λ.
    """
    tokens = check_contexts(task, contexts)
    m, length = task.order, tokens.shape[1]
    lagged = np.stack([tokens[:, m - g : length - g] for g in range(1, m + 1)], axis=-1)
    x = task.transition[lagged, tokens[:, m:, None]]
    impossible = np.argwhere(x.sum(axis=-1) == 0)
    if len(impossible):
        i, t = impossible[0]
        raise SequenceError(
            int(i),
            f"impossible under this transition matrix: state {tokens[i, t + m]} at position {t + m + 1} has "
            f"probability 0 after each of the {m} states before it.",
        )
    return x


def next_token_probs(
    task: Task, weights: Float[np.ndarray, "batch m"], contexts: Int[np.ndarray, "batch length"]
) -> Float[np.ndarray, "batch q"]:
    """p_λ(b | y) = Σ_g λ_g π(y_{T+1-g}, b) (SPEC section 1). Linear in λ: at the posterior mean it is Bayes."""
    last = np.asarray(contexts)[:, -1 : -task.order - 1 : -1]  # (batch, m): lag 1 first
    return np.einsum("bg,bgq->bq", weights, task.transition[last])


# ---------------------------------------------------------------------------------------------- files and names


@dataclass(frozen=True)
class Suite:
    """A frozen, versioned list of (task, lengths) on which predictors are compared.

    ``planned`` are pairs of labels whose comparison was planned; ratios of excess KL within ``margin`` are equal.
    """

    name: str
    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    planned: tuple[tuple[str, str], ...] = ()
    margin: tuple[float, float] = (0.8, 1.25)


def task_names() -> list[str]:
    """Names of the built-in tasks."""
    return sorted(path.name.removesuffix(".toml") for path in _data().iterdir() if path.name.startswith("mtd-"))


def load_task(name_or_path: str | Path) -> Task:
    """The task of that name, built in or from an entry point, or the one that a TOML file (``.toml``) defines.

    A task file has ``order`` and ``transition`` and may have ``name``, ``concentration``, ``lengths``, ``version``.
    """
    text = str(name_or_path)
    if text in task_names():
        return _built_in(text)
    if text in plugin_tasks():
        return _from_plugin(text)
    if text.endswith(".toml"):
        try:
            source = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"task file '{text}' cannot be read: {_reason(error)}.") from None
        return _parse_task(source, text)
    raise unknown_name("task", text, [*task_names(), *plugin_tasks()])


def plugin_tasks() -> dict[str, EntryPoint]:
    """Tasks of other distributions, by name: the entry points of the group ``mdbench.tasks``. Nothing is imported.

    A built-in task wins, with a warning.
    """
    found, built_in = {}, task_names()
    for point in entry_points(group=GROUP):
        if point.name in built_in:
            warn_once(f"task '{point.name}'{_origin(point)} is not used: a built-in task has that name.")
        else:
            found[point.name] = point
    return found


def _origin(point: EntryPoint) -> str:
    return f" (from {point.dist.name} {point.dist.version})" if point.dist else ""


@functools.cache
def _from_plugin(name: str) -> Task:
    """What the entry point names: a task, a function that returns one, or the path of a task file.

    Raises:
        InputError: it cannot be imported, or is none of these; the message names the distribution.
    """
    point = plugin_tasks()[name]
    source = f"task '{name}'{_origin(point)}"
    try:
        found = point.load()
        found = found() if callable(found) else found
        found = load_task(found) if isinstance(found, (str, Path)) else found
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except (Exception, SystemExit) as error:
        raise InputError(f"{source} cannot be loaded: {reason_of(error)}") from error
    if not isinstance(found, Task):
        raise InputError(f"{source} is {type(found).__name__}, not a task, a function that returns one or a task file.")
    return found


def suite_names() -> list[str]:
    """Names of the suites, the unversioned names (which mean the newest version) first."""
    suites = _suites()
    return sorted({name.rsplit("-v", 1)[0] for name in suites}) + sorted(suites)


def load_suite(name: str) -> Suite:
    """The suite of that name; ``core`` means the newest ``core-vN``."""
    suites = _suites()
    versions = [full for full in suites if full == name or full.rsplit("-v", 1)[0] == name]
    if not versions:
        raise unknown_name("suite", name, suite_names())
    full = max(versions, key=lambda full: int(full.rsplit("-v", 1)[1]))
    found = suites[full]
    planned = tuple((a, b) for a, b in found.get("planned", []))
    return Suite(full, tuple(found["tasks"]), tuple(found["lengths"]), planned)


@functools.cache  # one object a task: compiled samplers are kept by task
def _built_in(name: str) -> Task:
    return _parse_task((_data() / f"{name}.toml").read_text(encoding="utf-8"), name)


def _parse_task(source: str, where: str) -> Task:
    known = {"name", "order", "concentration", "transition", "lengths", "version"}
    try:
        table = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"task file '{where}' is not TOML: {error}.") from None
    for key in table.keys() - known:
        raise InputError(f"task file '{where}': {unknown_name('field', key, known)}")
    for key in ("order", "transition"):
        if key not in table:
            raise InputError(f"task file '{where}' has no '{key}'.")
    if not isinstance(table.get("lengths", []), list):
        raise InputError(f"task file '{where}': lengths must be a list of whole numbers.")
    try:
        return Task(**({"name": Path(where).stem} | table))
    except InputError as error:
        raise InputError(f"task file '{where}': {error}") from None


@functools.cache
def _suites() -> dict[str, Any]:
    return tomllib.loads((_data() / "suites.toml").read_text(encoding="utf-8"))


def _data() -> Any:
    return resources.files("mdbench.tasks") / "data"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or "it is not UTF-8 text"


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
