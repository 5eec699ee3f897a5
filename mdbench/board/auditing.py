"""Records, one after the other: each is verified, or its predictor is run again, and gets a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdbench.board.files import digest_of
from mdbench.board.marks import FILE, check_markable, read_marks, rerun_marked
from mdbench.board.verification import RERUN_SEQUENCES, CannotRerun, Rerun, rerun, verify
from mdbench.core.errors import InputError, PredictorError
from mdbench.core.files import check_writable
from mdbench.core.progress import Progress, no_progress
from mdbench.core.verdict import Verdict
from mdbench.tasks import Task


@dataclass(frozen=True)
class Audited:
    """One record: what does not hold, and what a rerun gave, or a mark from an earlier one."""

    record: str
    verdict: Verdict
    faults: list[str]
    rerun: list[Rerun] | None = None
    marked: str | None = None

    @classmethod
    def of(cls, path: Path, faults: list[str], **more: Any) -> Audited:
        """It fails if there are faults."""
        return cls(str(path), Verdict.FAIL if faults else Verdict.PASS, faults, **more)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what there is not."""
        plain: dict[str, Any] = {"record": self.record, "verdict": self.verdict, "faults": self.faults}
        if self.marked is not None:
            plain["marked"] = self.marked
        if self.rerun is not None:
            plain["rerun"] = [test.to_dict() for test in self.rerun]
        return plain


def verify_all(
    paths: Sequence[Path], in_place: bool, progress: Progress = no_progress, own: Task | None = None
) -> Iterator[Audited]:
    """Score the probabilities of each again (:func:`mdbench.board.verification.verify`)."""
    for path in paths:
        try:
            yield Audited.of(path, verify(path, progress, in_place, own))
        except (InputError, PredictorError) as error:
            yield Audited.of(path, [str(error)])


def rerun_all(
    paths: Sequence[Path],
    seed: int,
    mark_in: Path | None = None,
    n_sequences: int = RERUN_SEQUENCES,
    progress: Progress = no_progress,
    **options: Any,
) -> Iterator[Audited]:
    """Run the predictor of each on fresh sequences; ``options`` are those of :func:`mdbench.board.verification.rerun`.

    With ``mark_in``, the folder of a leaderboard, what came of it is written there, and what is marked is not run.

    Raises:
        InputError: before anything runs: these cannot be marked there.
    """
    if mark_in is not None:
        check_markable(paths, mark_in, n_sequences)
        check_writable(mark_in / FILE)
    marked = {} if mark_in is None else read_marks(mark_in)
    options |= {"n_sequences": n_sequences, "progress": progress}
    for path in paths:
        before = marked.get(digest_of(path)) if path.is_file() else None
        if before is not None:
            yield Audited.of(path, [] if before.compatible else [str(before)], marked=str(before))
            continue
        try:
            tests = rerun(path, seed, **options) if mark_in is None else rerun_marked(mark_in, path, seed, **options)
            yield Audited.of(path, [str(test) for test in tests if not test.compatible], rerun=tests)
        except CannotRerun as error:
            yield Audited(str(path), Verdict.CANNOT_RERUN, [str(error)])
        except (InputError, PredictorError) as error:
            yield Audited.of(path, [str(error)])
