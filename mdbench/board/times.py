"""What predictions cost: their seconds beside those of one fixed computation, in ``times.json`` beside the records.

Seconds of different days and machines cannot be compared; ratios to a computation that ran just before and after can,
as far as one machine is like another.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter

from mdbench.board.files import Strict, digest_of, record_paths
from mdbench.board.kept import Digest, Kept, Natural, read_kept, write_kept
from mdbench.board.reading import read_record
from mdbench.board.record import Record
from mdbench.board.verification import CannotRerun, check_runnable, runs_isolated
from mdbench.core.cluster import CellFailure, Cluster, ahead, open_cluster
from mdbench.core.errors import InputError, PredictorError, foreign
from mdbench.core.files import check_writable
from mdbench.core.progress import Advance, Progress, no_progress
from mdbench.evaluation.isolation import Isolated
from mdbench.predictors.catalogue import build_predictor, predictor_entries
from mdbench.predictors.predictor import runs_of
from mdbench.tasks import load_task, public_sequences

FILE = "times.json"  # in the folder of a leaderboard

N_SEQUENCES = 64

ROUNDS = 3

CALLS = 0.02  # seconds that the calls of one round take, at least

ONCE = 5.0  # seconds of a call that is timed in one round only

SLOW = 10.0  # and of one that is not made again: compilation, some seconds, then counts

MOST = 20 * 60.0  # of one command: after that no record is begun, and the same command goes on

SHARE = 0.05  # of a call's seconds that the reference takes on each side of it

# The reference: steps of a filter, in NumPy on one core. Raise its number when it changes, or when predictors that are
# built in become faster or slower: all times are then made anew.
REFERENCE = 1

_STEPS, _SIZE, _REPEATS = 128, (64, 64), 8


class CellTime(Strict):
    """Seconds of all predictions at one length, as a ratio to those of the reference."""

    model_config = ConfigDict(strict=True)

    length: Natural
    ratio: Annotated[float, Field(gt=0, le=1e12)]


class Time(Kept):
    """Of one record: which reference and which mdbench it was timed with, on how many sequences and processors."""

    reference: Natural
    mdbench: Annotated[str, Field(max_length=100)]
    n_sequences: Natural
    date: Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    cells: Annotated[tuple[CellTime, ...], Field(min_length=1, max_length=1000)]

    def check(self, record: Record) -> None:
        """Likewise: every length, once."""
        super().check(record)
        if sorted(cell.length for cell in self.cells) != sorted(cell.length for cell in record.cells):
            raise self._wrong(record, "its lengths are others")

    @property
    def mean(self) -> float:
        """Over its lengths."""
        return sum(cell.ratio for cell in self.cells) / len(self.cells)


_TIMES: TypeAdapter[dict[Digest, Time]] = TypeAdapter(dict[Digest, Time])


def read_times(folder: str | Path) -> dict[str, Time]:
    """By the record's SHA-256, those of this reference.

    Raises:
        InputError: the file is damaged.
    """
    now = (REFERENCE, N_SEQUENCES)
    kept = read_kept(Path(folder) / FILE, _TIMES.validate_json)
    return {digest: t for digest, t in kept.items() if (t.reference, t.n_sequences) == now}


def time_records(
    folder: str | Path, files: bool = False, progress: Progress = no_progress, cluster: str | Cluster | None = None
) -> Iterator[tuple[Record, Time | InputError | PredictorError]]:
    """Time what has no time yet, cheap records first; each is written at once, so that the same call goes on later.

    After 20 minutes none is begun any more. On a ``cluster`` one is timed on each host at a time.

    An error says why a record has none: :class:`mdbench.board.verification.CannotRerun`, or what went wrong.

    Raises:
        InputError: there are no records; or the times cannot be read or written.
    """
    paths = record_paths(folder)
    if not paths:
        raise InputError(f"there are no records to time in '{Path(folder) / 'records'}'.")
    check_writable(Path(folder) / FILE)
    readable = []
    for path in paths:
        with contextlib.suppress(InputError):  # which `verify` and `build` say
            readable.append((read_record(path)[0], digest_of(path)))
    began = time.monotonic()
    with open_cluster(cluster) as workers:
        hosts = itertools.cycle([None] if workers is None else workers.hosts)
        n_ahead = 0 if workers is None else len(workers.hosts) - 1

        def begin(pair: tuple[Record, str]) -> Callable[[], Time | tuple[CellTime, ...]]:
            record, digest = pair
            times = read_times(folder)
            if digest in times:
                return lambda: times[digest]
            check_runnable(record, files)
            if time.monotonic() - began > MOST:
                raise CannotRerun(f"{MOST / 60:g} minutes are over; the same command goes on with it.")
            advance = progress(f"{record.predictor.label} on {record.task}: lengths timed", len(record.cells))
            if workers is None:
                return lambda: _time(record, advance)
            return workers.begin(_time, record, total=len(record.cells), advance=advance, host=next(hosts))

        cheap_first = sorted(readable, key=lambda pair: _seconds_said(pair[0]))
        errors = (InputError, PredictorError, CellFailure)
        for (record, digest), found in ahead(cheap_first, begin, n_ahead, *errors):
            if isinstance(found, tuple):
                timed = Time(
                    task=record.task,
                    label=record.predictor.label,
                    reference=REFERENCE,
                    mdbench=version("mdbench"),
                    n_sequences=N_SEQUENCES,
                    date=datetime.now(UTC).date().isoformat(),
                    cells=found,
                )
                write_kept(folder, FILE, read_times(folder) | {digest: timed})
                yield record, timed
            elif isinstance(found, Time | InputError | PredictorError):
                yield record, found
            else:
                yield record, PredictorError(f"{found}.")


def _seconds_said(record: Record) -> float:
    """Of a sequence, by the record: enough to begin with what is cheap."""
    return sum(record.host.seconds.values()) / record.n_sequences


def _time(record: Record, advance: Advance) -> tuple[CellTime, ...]:
    """All lengths of a record, on public sequences, others for each call; of several training seeds the first."""
    row, task = record.predictor, load_task(record.task)
    here = predictor_entries().get(row.name)
    if runs_isolated(record) and here is not None and here.version != row.version:
        raise InputError(f"'{row.label}' is of version {row.version}, and {here.version} is installed; record it anew.")
    built: Any = Isolated(row.label, task) if runs_isolated(record) else build_predictor(row.label, task)
    timed = []
    try:
        for length in (cell.length for cell in record.cells):
            tokens = public_sequences(task.name).tokens[:, :length].astype(np.int64)
            others = itertools.cycle(np.split(tokens, len(tokens) // N_SEQUENCES))  # what was answered is no answer
            with foreign(f"predictor '{row.label}' failed at length {length} of task '{task.name}'", InputError):
                run = runs_of(built, length)[0]
                ratio = ratio_to_reference(functools.partial(_predict_next, run, others))
            timed.append(CellTime(length=length, ratio=ratio))
            advance(1)
    finally:
        if isinstance(built, Isolated):
            built.close()
    return tuple(timed)


def _predict_next(run: Any, others: Iterator[np.ndarray]) -> None:
    run.predict(next(others))


def ratio_to_reference(call: Callable[[], object]) -> float:
    """Seconds of one call over those of the reference, which runs before and after it: the median of some rounds.

    The first call compiles and is not counted, unless it is so slow that it stays the only one.
    """
    before = _seconds(_reference)
    first = _seconds(call)
    if first > SLOW:
        return _rounded(2 * first / (before + _mean_seconds(_reference, SHARE * first)))
    calls = max(CALLS, SHARE * first) if first < CALLS else 0.0
    ratios = []
    for _ in range(1 if first > ONCE else ROUNDS):
        before = _mean_seconds(_reference, SHARE * first)
        took = _mean_seconds(call, calls)
        ratios.append(2 * took / (before + _mean_seconds(_reference, SHARE * first)))
    return _rounded(statistics.median(ratios))


def _rounded(ratio: float) -> float:
    return float(f"{ratio:.3g}")


def _reference() -> None:
    """The fixed computation: weights times likelihoods, divided by their sum, step after step."""
    likelihoods = np.linspace(0.1, 0.9, _STEPS * _SIZE[0] * _SIZE[1]).reshape(_STEPS, *_SIZE)
    for _ in range(_REPEATS):
        weights = np.full(_SIZE, 1 / _SIZE[1])
        for likelihood in likelihoods:
            weights = weights * likelihood
            weights /= weights.sum(axis=1, keepdims=True)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _mean_seconds(call: Callable[[], object], at_least: float) -> float:
    """Of as many calls as take that long, one if it is zero."""
    started, n = time.perf_counter(), 0
    while n == 0 or time.perf_counter() - started < at_least:
        call()
        n += 1
    return (time.perf_counter() - started) / n
