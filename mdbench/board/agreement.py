"""How far rows and their training seeds are from each other: which of them compute the same function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from mdbench.board.files import record_paths
from mdbench.board.predictions import ByLength
from mdbench.board.reading import check_place, read_record
from mdbench.board.record import BASELINE, UPPER_BOUND, Record
from mdbench.core import metrics
from mdbench.core.device import check_device
from mdbench.core.errors import InputError, shown, unknown_name
from mdbench.core.files import json_ready
from mdbench.core.progress import Progress, no_progress
from mdbench.core.statistics import mean_interval
from mdbench.core.store import Cache
from mdbench.evaluation.running import answers, predict_timed
from mdbench.predictors.catalogue import as_predictor
from mdbench.predictors.predictor import check_length, is_told, runs_of
from mdbench.tasks import Task, as_task, sample

SAME = 5e-5  # nats: rows that are nearer than that are of one class
MOST_ROWS = 200
BAYES = "bayes"

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


def agree(
    names: Sequence[str] = (),
    *,
    task: str | Path | Task = "mtd-q5-m3",
    length: int = 32,
    leaderboard: str | Path = "leaderboard",
    n_sequences: int | None = None,
    seed: int = 0,
    threshold: float = SAME,
    device: str = "cpu",
    cache: Cache = "all",
    progress: Progress = no_progress,
) -> Agreement:
    """Mean KL between all pairs of rows, each training seed a row of its own.

    Args:
        names: of predictors, ``name:seed=k`` for one training seed (from 0); all of the board but posterior methods and
            what is told θ, if there are none.
        task: the task.
        length: context length.
        leaderboard: folder whose records are read.
        n_sequences: run the predictors on so many fresh sequences, instead of reading records.
        seed: of these.
        threshold: of classes, in nats.
        device: torch device of predictors that are run.
        cache: as for :func:`mdbench.evaluate`, likewise.
        progress: called to show progress, likewise.

    Raises:
        InputError: bad arguments, no record of a name, or a length that it does not have.
        PredictorError: a predictor broke its contract.
    """
    loaded = as_task(task)
    loaded.check_length(length)
    if not threshold >= 0:
        raise InputError(f"threshold must be a number of nats of at least 0, not {threshold!r}.")
    wanted = [*dict.fromkeys(names)]
    if n_sequences is None:
        probs = _recorded(Path(leaderboard), loaded, length, wanted)
        source = "public sequences, from records"
    else:
        if not wanted:
            raise InputError("name the predictors that are to run on fresh sequences.")
        check_device(device)
        probs = _fresh(loaded, length, wanted, n_sequences, seed, device, cache, progress)
        source = f"fresh sequences of seed {seed}"
    if len(probs) < 2:
        raise InputError(f"agreement is between at least two rows, not {len(probs)}; name another.")
    if len(probs) > MOST_ROWS:
        raise InputError(f"there are {len(probs)} rows, more than {MOST_ROWS}; name fewer.")
    return pairwise(probs, loaded.name, length, source, threshold)


def pairwise(probs: Mapping[str, Probs], task: str, length: int, source: str, threshold: float = SAME) -> Agreement:
    """Of predictions for the same sequences, by row; of rows with fewer sequences than others all count so many."""
    n = min(map(len, probs.values()))
    rows = list(probs)
    pairs: list[Pair] = []
    nearest = {}
    for row in rows:
        of_row = []
        for column in rows:
            if row != column:
                kl = mean_interval(metrics.kl(probs[row][:n], probs[column][:n]))
                of_row.append(Pair(row, column, kl.mean, kl.interval))
        nearest[row] = min(of_row, key=lambda pair: pair.kl).column
        pairs += of_row
    found = Agreement(task, length, n, source, rows, pairs, nearest, threshold, [])
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


def _without_seed(name: str) -> tuple[str, int | None]:
    """A name and the training seed at its end."""
    found = re.fullmatch(r"(.*?)[:,]seed=([0-9]{1,6})", name)
    return (found[1], int(found[2])) if found else (name, None)


def is_of_interest(record: Record) -> bool:
    """Whether it predicts from the context; of the posterior methods one will do."""
    return record.predictor.kind not in (BASELINE, UPPER_BOUND) or record.predictor.label == BAYES


def _recorded(folder: Path, task: Task, length: int, names: Sequence[str]) -> dict[str, Probs]:
    """The probabilities of the records of a task: of those named, or of all that are of interest."""
    there: dict[str, ByLength] = {}
    interesting = []
    for path in record_paths(folder):
        if path.parent.name != task.name:
            continue
        record, arrays = read_record(path)
        check_place(record, path)
        there[record.predictor.label] = arrays
        if length in arrays and is_of_interest(record):
            interesting.append(record.predictor.label)
    probs: dict[str, Probs] = {}
    for name in names or interesting:
        label, seed = (name, None) if name in there else _without_seed(name)
        if label not in there:
            raise InputError(f"{unknown_name('record', label, there)} Without one: --n-sequences.")
        if length not in there[label]:
            has = ", ".join(map(str, there[label]))
            raise InputError(f"the record of {shown(label)} has T = {has}, not {length}.")
        probs |= rows_of(label, [*there[label][length]], seed)
    return probs


def _fresh(
    task: Task,
    length: int,
    names: Sequence[str],
    n_sequences: int,
    seed: int,
    device: str,
    cache: Cache,
    progress: Progress,
) -> dict[str, Probs]:
    """The probabilities of predictors for sequences that are drawn now."""
    contexts = sample(task, length, n_sequences, seed).contexts
    probs: dict[str, Probs] = {}
    for name in names:
        label, training_seed = _without_seed(name)
        runs = _runs(label, task, length, device)
        if training_seed is not None and len(runs) == 1:  # an option of its own, of that name
            label, training_seed, runs = name, None, _runs(name, task, length, device)
        kept = answers(label, task, device, None, cache)
        chosen = rows_of(label, [*enumerate(runs)], training_seed)
        advance = progress(name, len(contexts) * len(chosen))
        for row, (k, run) in chosen.items():
            probs[row] = predict_timed(label, run, task, contexts, advance=advance, kept=kept, run=k)[0]
    return probs


def _runs(label: str, task: Task, length: int, device: str) -> Sequence[Any]:
    built = as_predictor(label, task, device)
    if is_told(built):
        raise InputError(f"{shown(label)} is told θ, so it has no function of the context.")
    check_length(built, length)
    return runs_of(built, length)
