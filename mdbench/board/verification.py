"""Records are checked: their probabilities scored again, or their predictors run again on fresh sequences."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from mdbench.board.names import is_path
from mdbench.board.predictions import ByLength
from mdbench.board.reading import check_place, read_record
from mdbench.board.record import (
    CONTRIBUTED,
    GOLD,
    PREDICTIONS,
    RECORDED,
    UPPER_BOUND,
    CellRecord,
    Record,
    known_task,
)
from mdbench.core.errors import InputError, PredictorError
from mdbench.core.files import json_ready
from mdbench.core.progress import Progress, no_progress
from mdbench.core.statistics import MeanInterval, holm, mean_interval
from mdbench.core.store import Store
from mdbench.core.wording import p_text, title
from mdbench.evaluation.cell import Cell, cells
from mdbench.evaluation.evaluation import evaluate
from mdbench.evaluation.isolation import Limits
from mdbench.evaluation.results import Result, Scores, score_cell, summarise
from mdbench.evaluation.scores import SCORES
from mdbench.tasks import PUBLIC_SEED, Task

TOLERANCE = 1e-9  # relative; other processors differ in the last digits

RESOLUTION = 1e-25  # nats; a KL below it is rounding

GOLD_ERROR_FACTOR = 100.0  # between two estimates of the gold's error, which is itself of the size of rounding

TESTED = ("kl", "excess_kl", "cross_entropy")  # scores that a rerun holds against published ones

RERUN_SEQUENCES = 256

LEVEL = 0.01  # of the test whether a published score is compatible with one on fresh sequences


@dataclass(frozen=True)
class Rerun:
    """A published score and that of the same predictor on fresh sequences, at one length.

    ``p`` is that of the z-test, corrected for the number of tests (Holm); None where there are no standard errors.
    """

    length: int
    score: str
    published: float
    fresh: float
    z: float | None
    p: float | None

    @property
    def compatible(self) -> bool:
        """Whether chance may be all there is between them."""
        return self.published == self.fresh if self.p is None else self.p >= LEVEL

    def __str__(self) -> str:
        p = "" if self.p is None else f" (p: {p_text(self.p)})"
        both = f"{self.published:.4g} published, {self.fresh:.4g} on fresh sequences"
        return f"T = {self.length}: {title(self.score)} {both}{p}."

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return json_ready(asdict(self) | {"compatible": self.compatible})


class CannotRerun(InputError):
    """A record of something that nobody can run again, which is no fault of the record."""


def was_told(record: Record) -> bool:
    """Whether its predictions were made by knowing λ."""
    return record.predictor.kind == UPPER_BOUND


def check_runnable(record: Record, files: bool) -> None:
    """Raise :class:`CannotRerun` for what is not to be run here; ``files``: what is a path may be."""
    label = record.predictor.label
    if record.gold is None:
        raise CannotRerun(f"the sequences of '{record.task}' were recorded, and there are no fresh ones.")
    if was_told(record):
        raise CannotRerun(f"'{label}' is told θ and has no excess KL to repeat.")
    if record.predictor.kind == PREDICTIONS:
        raise CannotRerun(f"'{label}' was predicted elsewhere and cannot be run here.")
    if is_path(record.predictor.name) and not files:
        raise CannotRerun(f"'{label}' is a file or folder of somebody else's machine; --run-files runs what is there.")


def runs_isolated(record: Record) -> bool:
    """Whether its predictor, which is not ours, runs in a process of its own."""
    return record.predictor.kind == CONTRIBUTED


def score_record(record: Record, probs: ByLength, of_task: Sequence[Cell]) -> dict[int, Scores]:
    """Scores of its probabilities, by length."""
    return {cell.length: score_cell(cell, probs[cell.length], was_told(record)) for cell in of_task}


def differences(record: Record, scores: Mapping[int, Scores], of_task: Sequence[Cell]) -> Iterator[str]:
    """What a record says and its probabilities do not, a sentence each; ``scores`` as :func:`score_record` has them.

    Numbers agree within 1e-9 relative or, for excess KL, within the gold's error. The gold's error itself is an
    estimate of the size of rounding, and another machine's may differ: it agrees within a factor of 100.
    """
    by_length = {cell.length: cell for cell in of_task}
    for said in record.cells:
        cell = by_length[said.length]
        scored = summarise(cell, record.predictor.label, scores[said.length])
        for name, a, b in _pairs(said, scored):
            slack = RESOLUTION
            if "excess" in name or name == "runs":
                slack = max(slack, scored.gold_error or 0.0)
            if name == "gold_error" and a and b and math.isfinite(a) and math.isfinite(b):
                agree = 1 / GOLD_ERROR_FACTOR <= a / b <= GOLD_ERROR_FACTOR
            else:
                agree = _agree(a, b, slack)
            if not agree:
                yield f"T = {said.length}: {name} is {_shown(a)} in the record, {_shown(b)} by its probabilities."


def _pairs(said: CellRecord, scored: Result) -> Iterator[tuple[str, Any, Any]]:
    """What a record says of a cell and what its probabilities give, by the names of ``mdbench evaluate --json``."""
    computed = scored.to_dict()
    for name, score in said.scores.items():
        for part, suffix in (("mean", ""), ("se", "_se"), ("interval", "_ci")):
            if score is None or part in score.model_fields_set:
                yield f"{name}{suffix}", getattr(score, part, None), computed[f"{name}{suffix}"]
    for name in ("gold_error", "runs"):
        yield name, getattr(said, name), computed[name]


def verify(
    path: str | Path, progress: Progress = no_progress, in_place: bool = False, own: Task | None = None
) -> list[str]:
    """Score a record's probabilities again, with the gold computed here; the differences, none if it holds.

    ``own`` is a task of recorded sequences that it may be of.

    Raises:
        InputError: as :func:`read_record`; or, where it is to be ``in_place``, as :func:`check_place`.
    """
    record, probs = read_record(path, own)
    if in_place:
        check_place(record, Path(path))
    of_task = cells_of(record, progress, own)
    return list(differences(record, score_record(record, probs, of_task), of_task))


def cells_of(record: Record, progress: Progress, own: Task | None = None) -> list[Cell]:
    """The cells that a record is scored in."""
    task = known_task(record.task, record.task_hash, own)
    return public_cells(task, tuple(cell.length for cell in record.cells), record.n_sequences, progress)


@functools.lru_cache(maxsize=16)
def public_cells(task: Task, lengths: tuple[int, ...], n_sequences: int, progress: Progress) -> list[Cell]:
    """The first so many public sequences of a task at these lengths, with their gold, or recorded ones without.

    It is computed here and not taken from the cache folder, which whatever runs on this machine can write.
    """
    return list(cells(task, lengths, n_sequences, PUBLIC_SEED, GOLD, progress, Store(())))


def rerun(
    path: str | Path,
    seed: int,
    device: str = "cpu",
    limits: Limits | None = None,
    progress: Progress = no_progress,
    n_sequences: int = RERUN_SEQUENCES,
    files: bool = False,
    own: Task | None = None,
) -> list[Rerun]:
    """Run a record's predictor on fresh sequences: a predictor that memorised the public ones is caught.

    Held against the scores that the record's probabilities give, not against what it says. What is not built in runs in
    a process of its own, within limits; what is a path runs only where ``files`` asks for it. ``own`` is as for
    :func:`verify`.

    Raises:
        InputError: as :func:`read_record`; or the predictor is not here.
        CannotRerun: it was told θ, or predicted elsewhere.
        PredictorError: it fails on fresh sequences.
    """
    limits = limits or Limits()
    record, probs = read_record(path, own)
    label = record.predictor.label
    if seed == PUBLIC_SEED:
        raise InputError(f"seed {seed} gives the public sequences; give another for fresh ones.")
    check_runnable(record, files)
    of_task = cells_of(record, progress)
    scores = score_record(record, probs, of_task)
    for fault in differences(record, scores, of_task):
        raise InputError(f"it does not hold: {fault}")
    again = evaluate(
        label,
        task=record.task,
        lengths=[cell.length for cell in record.cells],
        n_sequences=n_sequences,
        seed=seed,
        device=device,
        references=(),
        scores={name: SCORES[name] for name in RECORDED},  # others may be code of other packages, which would run here
        isolate=limits if runs_isolated(record) else None,
        cache="none",
        progress=progress,
    )
    if again.failed or again.skipped:
        raise PredictorError((again.failed or again.skipped)[0].reason)
    tests = []
    for result in again.results:
        said, gold_error = scores[result.length], (scores[result.length].gold_error or 0.0) + (result.gold_error or 0.0)
        published = said.frame()
        for name in TESTED:
            before, fresh = mean_interval(published[name].to_numpy()), result.scores[name]
            assert fresh is not None, "it has all scores that records have"
            tests.append((result.length, name, before.mean, fresh.mean, _z(before, fresh, gold_error)))
    corrected = iter(holm([float(2 * stats.norm.sf(abs(z))) for *_, z in tests if z is not None]))
    return [Rerun(*test, p=None if test[-1] is None else next(corrected)) for test in tests]


def _z(said: MeanInterval, fresh: MeanInterval, gold_error: float) -> float | None:
    """Of the difference between two independent means; None where one has no standard error."""
    if said.se is None or fresh.se is None:
        return None
    difference, se = fresh.mean - said.mean, math.hypot(said.se, fresh.se)
    if abs(difference) <= gold_error:
        return 0.0
    return difference / se if se > 0 else math.copysign(math.inf, difference)


def _agree(a: Any, b: Any, slack: float) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_agree(x, y, slack) for x, y in zip(a, b, strict=True))
    if not (math.isfinite(a) and math.isfinite(b)):  # nothing infinite equals a number, or another infinity
        return a == b
    return abs(a - b) <= max(TOLERANCE * max(abs(a), abs(b)), slack)


def _shown(value: Any) -> str:
    return "nothing" if value is None else " .. ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
