"""Marks: what the keeper of a board ran again, and what came of it, in ``reruns.json`` beside the records.

A mark belongs to the bytes of a record, by their SHA-256, so a record that is changed has none. Nothing in a record
itself can mark it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from mdbench.board.files import Strict, digest_of, record_paths
from mdbench.board.kept import Digest, Kept, Natural, read_kept, write_kept
from mdbench.board.reading import read_record
from mdbench.board.record import Record
from mdbench.board.verification import LEVEL, TESTED, Rerun, rerun, runs_isolated
from mdbench.core.errors import InputError, PredictorError
from mdbench.core.wording import p_text
from mdbench.tasks import N_PUBLIC, PUBLIC_SEED

FILE = "reruns.json"  # in the folder of a leaderboard

LONGEST_FAULT = 300

LEAST = 32  # sequences a cell: fewer would let pass nearly anything

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Compared(Strict):
    """One score at one length: its p-value, corrected for the tests of the record; None where there was no test."""

    model_config = ConfigDict(strict=True)

    length: Natural
    score: Annotated[str, Field(max_length=50)]
    p: Probability | None
    compatible: bool


class Mark(Kept):
    """One rerun of one record.

    ``p`` is the smallest of the corrected p-values. ``isolated``: in a process of its own. ``fault`` says why there are
    no tests: the predictor failed.
    """

    seed: Natural
    n_sequences: Natural
    isolated: bool
    date: Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    compatible: bool
    p: Probability | None
    tests: Annotated[tuple[Compared, ...], Field(max_length=1000)]
    fault: Annotated[str, Field(max_length=LONGEST_FAULT)] | None

    @model_validator(mode="after")
    def _agrees(self) -> Mark:
        if self.seed == PUBLIC_SEED or not LEAST <= self.n_sequences <= N_PUBLIC:
            raise ValueError(f"a rerun has a seed of its own and {LEAST} to {N_PUBLIC} sequences a cell")
        if any(test.compatible != (test.p >= LEVEL) for test in self.tests if test.p is not None):
            raise ValueError("a test is not what its p says")
        if self.p != _smallest(self.tests):
            raise ValueError("p is not the smallest of its tests")
        if self.compatible != (self.fault is None and all(test.compatible for test in self.tests)):
            raise ValueError("compatible is not what its tests say")
        return self

    def check(self, record: Record) -> None:
        """Likewise: every test that a rerun makes, and no other."""
        super().check(record)
        if self.isolated != runs_isolated(record):
            raise self._wrong(record, "what is not built in, and that alone, runs in a process of its own")
        made = sorted((test.length, test.score) for test in self.tests)
        wanted = sorted((cell.length, score) for cell in record.cells for score in TESTED)
        if made != ([] if self.fault is not None else wanted):
            raise self._wrong(record, "its tests are not those of a rerun")

    def __str__(self) -> str:
        """What stands in the details of a row."""
        where = "in a process of its own" if self.isolated else "in mdbench's own process"
        p = "" if self.p is None else f", smallest corrected p: {p_text(self.p)}"
        verdict = "compatible" if self.compatible else "not repeated"
        why = "" if self.fault is None else f": {self.fault}"
        run = f"seed {self.seed}, {self.n_sequences} fresh sequences a cell{p}, {self.date}, {where}"
        return f"{verdict} ({run}){why}"


_MARKS: TypeAdapter[dict[Digest, Mark]] = TypeAdapter(dict[Digest, Mark])


def read_marks(folder: str | Path) -> dict[str, Mark]:
    """By the record's SHA-256; none where nothing was marked.

    Raises:
        InputError: the file is damaged.
    """
    return read_kept(Path(folder) / FILE, _MARKS.validate_json)


def check_markable(paths: Iterable[Path], folder: str | Path, n_sequences: int) -> None:
    """Raise :class:`InputError` unless these are records of the leaderboard in that folder, rerun on enough."""
    if not LEAST <= n_sequences <= N_PUBLIC:
        raise InputError(f"a mark is of {LEAST} to {N_PUBLIC} fresh sequences a cell, not of {n_sequences}.")
    known = {path.resolve() for path in record_paths(folder)}
    for path in paths:
        if path.resolve() not in known:
            raise InputError(f"'{path}' is no record of the leaderboard '{folder}', whose reruns are marked.")


def rerun_marked(folder: str | Path, path: Path, seed: int, **options: Any) -> list[Rerun]:
    """:func:`mdbench.board.verification.rerun`, with ``options`` of that, and what came of it written down.

    Raises:
        InputError: as there, and nothing is marked; or the marks cannot be read or written.
        PredictorError: as there; the mark says so.
    """
    record, _ = read_record(path)
    digest, fault = digest_of(path), None
    tests_made: list[Rerun] = []
    try:
        tests_made = rerun(path, seed, **options)
    except PredictorError as error:
        fault = error
    tests = tuple(Compared(length=r.length, score=r.score, p=r.p, compatible=r.compatible) for r in tests_made)
    mark = Mark(
        task=record.task,
        label=record.predictor.label,
        seed=seed,
        n_sequences=options["n_sequences"],
        isolated=runs_isolated(record),
        date=datetime.now(UTC).date().isoformat(),
        compatible=fault is None and all(test.compatible for test in tests),
        p=_smallest(tests),
        tests=tests,
        fault=None if fault is None else str(fault).encode(errors="replace").decode()[:LONGEST_FAULT],
    )
    write_kept(folder, FILE, read_marks(folder) | {digest: mark})
    if fault is not None:
        raise fault
    return tests_made


def _smallest(tests: Sequence[Compared]) -> float | None:
    return min((test.p for test in tests if test.p is not None), default=None)
