"""The family of algorithms that ``identify`` fits: the built-in ones, and those that others bring."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mdbench.algorithms.known import ALGORITHMS, BY_NAME, Algorithm
from mdbench.core.entries import Entry, with_plugins
from mdbench.core.errors import InputError, foreign, shown, unknown_name
from mdbench.predictors.catalogue import FileEntry, of_file

GROUP = "mdbench.algorithms"


@dataclass(frozen=True)
class AlgorithmEntry(Entry):
    """Of another distribution."""

    kind: ClassVar[str] = "algorithm"

    def load(self) -> Algorithm:
        """The algorithm, under this name."""
        from importlib.metadata import EntryPoint

        with foreign(f"{self.kind} {self.source} cannot be loaded"):
            there = EntryPoint(self.name, self.target, GROUP).load()
        return as_algorithm(there, self.name, self.source)


@dataclass(frozen=True)
class AlgorithmFile(FileEntry):
    """``FILE.py:name``."""

    kind: ClassVar[str] = "algorithm"

    def load(self) -> Algorithm:
        """The algorithm, under the name that it has in the file."""
        return as_algorithm(self.attribute(), self.target.rpartition(":")[2], self.source)


def as_algorithm(given: Any, name: str, source: str) -> Algorithm:
    """An :class:`Algorithm`, or a function from evidence to λ with nothing to fit.

    Raises:
        InputError: it is neither.
    """
    if isinstance(given, Algorithm):
        return _checked(replace(given, name=name))
    if callable(given) and not isinstance(given, type) and len(inspect.signature(given).parameters) == 1:
        return Algorithm(name, f"from {source}", estimate=lambda evidence, _scalars: given(evidence))
    raise InputError(
        f"algorithm {source} must be an mdbench.Algorithm, or a function with one parameter, the evidence; "
        f"it is {shown(type(given).__name__)}."
    )


def _checked(algorithm: Algorithm) -> Algorithm:
    if algorithm.estimate is None and algorithm.baseline is None:
        raise InputError(f"algorithm {shown(algorithm.name)} has neither an estimate nor a baseline.")
    if isinstance(algorithm.scalars, str):
        raise InputError(f"algorithm {shown(algorithm.name)}: scalars are names, such as ('p',), not one text.")
    return replace(algorithm, scalars=tuple(algorithm.scalars))


def is_built_in(algorithm: Algorithm) -> bool:
    """Whether it is one of ours: what it gives may be kept on disk, known by our code."""
    return BY_NAME.get(algorithm.name) is algorithm


def all_algorithms(more: Sequence[str | Algorithm] = ()) -> list[Algorithm]:
    """All built-in algorithms, those of installed packages, and ``more``: of files (``FILE.py:name``), or objects.

    Raises:
        InputError: a file is not there, or two have one name.
        PredictorError: one cannot be loaded.
    """
    taken = {name: AlgorithmEntry(name, "", "") for name in BY_NAME}
    entries = with_plugins(GROUP, AlgorithmEntry, taken)
    found = [*ALGORITHMS]
    for name, entry in entries.items():
        if name not in BY_NAME:
            found.append(entry.load())
    for given in more:
        if isinstance(given, Algorithm):
            found.append(given if is_built_in(given) else _checked(given))
            continue
        file = of_file(given, AlgorithmFile)
        if file is None:
            raise InputError(
                f"{unknown_name('algorithm', given, [a.name for a in found])} All known ones are fitted anyway; give "
                "one of your own as FILE.py:name."
            )
        found.append(file[0].load())
    names = [algorithm.name for algorithm in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two algorithms are called {shown(name)}; give yours another name.")
    return found
