"""Predictions of several rows for the same sequences: which of them compute the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from mdbench.core import metrics
from mdbench.core.errors import InputError, shown
from mdbench.core.files import json_ready
from mdbench.core.statistics import moments
from mdbench.tasks import Task

SAME = 5e-5  # nats: rows that are nearer than that are of one class

Probs = Float[np.ndarray, "N q"]
Run = TypeVar("Run")  # of one training seed


@dataclass(frozen=True)
class Pair:
    """Mean KL(row ‖ column) in nats, with its 95% interval; None where the mean is infinite."""

    row: str
    column: str
    kl: float
    kl_ci: tuple[float, float] | None


@dataclass(frozen=True)
class Agreement:
    """What :func:`agree` returns.

    Attributes:
        task: its name.
        length: T.
        n_sequences: that means are over.
        source: where the predictions come from.
        rows: names, with ``:seed=k`` where there are several training seeds.
        pairs: all pairs, in both directions.
        nearest: for each row the column of least KL(row ‖ column).
        threshold: in nats, of single linkage: whoever is that near to somebody of a class is of it, by the mean of the
            two directions.
        classes: of rows, largest first; those that stand alone are left out.
    """

    task: str
    length: int
    n_sequences: int
    source: str
    rows: list[str]
    pairs: list[Pair]
    nearest: dict[str, str]
    threshold: float
    classes: list[list[str]]

    @property
    def matrix(self) -> Float[np.ndarray, "R R"]:
        """KL(row ‖ column), 0 on the diagonal."""
        at = {name: k for k, name in enumerate(self.rows)}
        values = np.zeros((len(self.rows), len(self.rows)))
        for pair in self.pairs:
            values[at[pair.row], at[pair.column]] = pair.kl
        return values

    def by_classes(self) -> tuple[list[str], Float[np.ndarray, "R R"]]:
        """The rows in the order of their classes, then those that stand alone; and the :attr:`matrix` of these."""
        ordered = list(dict.fromkeys([*(row for members in self.classes for row in members), *self.rows]))
        at = [self.rows.index(row) for row in ordered]
        return ordered, self.matrix[np.ix_(at, at)]

    def __getitem__(self, names: tuple[str, str]) -> Pair:
        """The pair of a row and a column."""
        return next(pair for pair in self.pairs if (pair.row, pair.column) == names)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return json_ready(asdict(self))


def pairwise(
    probs: Mapping[str, Probs],
    task: Task,
    length: int,
    source: str,
    threshold: float = SAME,
) -> Agreement:
    """Of predictions for the same sequences, by row; of rows with fewer sequences than others all count so many."""
    n = min(map(len, probs.values()))
    blocks = task.blocks(n)
    rows = list(probs)
    pairs: list[Pair] = []
    nearest = {}
    for row in rows:
        of_row = []
        for column in rows:
            if row != column:
                kl = moments(metrics.kl(probs[row][:n], probs[column][:n]), blocks).interval
                of_row.append(Pair(row, column, kl.mean, kl.interval))
        nearest[row] = min(of_row, key=lambda pair: pair.kl).column
        pairs += of_row
    found = Agreement(task.name, length, n, source, rows, pairs, nearest, threshold, [])
    classes: dict[int, list[str]] = {}
    for row, number in zip(rows, _linked(found.matrix, threshold), strict=True):
        classes.setdefault(number, []).append(row)
    found.classes.extend(sorted((c for c in classes.values() if len(c) > 1), key=lambda c: -len(c)))
    return found


def _linked(distance: Float[np.ndarray, "R R"], threshold: float) -> list[int]:
    """The class of each row, by single linkage of the mean of both directions."""
    symmetric = np.minimum((distance + distance.T) / 2, np.finfo(float).max)  # an infinite one joins nothing
    return fcluster(linkage(squareform(symmetric, checks=False), "single"), threshold, "distance").tolist()


def rows_of(label: str, runs: Sequence[Run], seed: int | None = None) -> dict[str, Run]:
    """A row for each training seed, or for that one; what has a single one is its predictor's.

    Raises:
        InputError: there is no such seed.
    """
    if seed is not None and seed >= len(runs):
        raise InputError(f"{shown(label)} has {len(runs)} training seeds, so no seed={seed}.")
    join = "," if ":" in label else ":"
    rows = {f"{label}{join}seed={k}" if len(runs) > 1 else label: run for k, run in enumerate(runs)}
    return rows if seed is None else dict([list(rows.items())[seed]])
