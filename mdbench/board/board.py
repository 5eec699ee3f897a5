"""The board: records to rows, with their standings in every table (:mod:`mdbench.board.ranking`), marks and times."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdbench.board.agreement import is_of_interest
from mdbench.board.files import digest_of, record_paths
from mdbench.board.marks import Mark, read_marks
from mdbench.board.names import visible
from mdbench.board.predictions import ByLength
from mdbench.board.ranking import Excess, Place, Planned, Standing, complete, planned_comparisons, standings
from mdbench.board.reading import check_place, read_record
from mdbench.board.record import LONGEST_REASON, PREDICTIONS, CellRecord, Record
from mdbench.board.times import Time, read_times
from mdbench.board.verification import cells_of, differences, score_record
from mdbench.core.errors import InputError
from mdbench.core.files import json_ready
from mdbench.core.progress import Progress, no_progress
from mdbench.evaluation.agreement import Agreement, pairwise, rows_of
from mdbench.evaluation.results import Scores, is_at_gold, ranked_by
from mdbench.predictors.catalogue import BUILT_IN, SHIPPED_WEIGHTS
from mdbench.tasks import N_PUBLIC, Suite, boards_of, load_suite, load_task, task_names


@dataclass(frozen=True)
class Row:
    """One predictor on the board: its records, one a task, and where it stands.

    ``tables`` maps a task, or ``SUITE`` for all, to its standing there; a table in which it lacks a cell is not in it.
    ``missing`` says of these cells why. ``marks`` and ``times`` are those of its records, by task, where there are any.
    """

    label: str
    records: dict[str, Record]
    tables: dict[str, Standing]
    missing: dict[Place, str]
    marks: dict[str, Mark]
    times: dict[str, Time]

    @property
    def first(self) -> Record:
        """Of its records: what does not differ between tasks."""
        return next(iter(self.records.values()))

    @property
    def kind(self) -> str:
        """As in its records."""
        return self.first.predictor.kind

    @property
    def n_sequences(self) -> int:
        """The fewest of any task."""
        return min(record.n_sequences for record in self.records.values())

    @property
    def one_seed(self) -> bool:
        """Whether it was trained, somewhere with one seed only: how much seeds matter is unknown there."""
        return _is_trained(self.first) and any(cell.runs is None for _, _, cell in self.cells())

    @property
    def seeds_unknown(self) -> bool:
        """Whether it was trained, everywhere with one seed: what stands on the board is of that very training."""
        return _is_trained(self.first) and all(cell.runs is None for _, _, cell in self.cells())

    @property
    def few(self) -> bool:
        """Whether it was scored on fewer than all public sequences."""
        return self.first.gold is not None and self.n_sequences < N_PUBLIC

    @property
    def rerun(self) -> str:
        """What the keeper of the board found when running it again on fresh sequences, in a word or a few."""
        if self.kind == PREDICTIONS:
            return PREDICTIONS
        if not all(mark.compatible for mark in self.marks.values()):
            return NOT_REPEATED
        if len(self.marks) == len(self.records):
            return RERUN
        return f"{len(self.marks)} of {len(self.records)} tasks rerun" if self.marks else NOT_RERUN

    @property
    def cost(self) -> float | None:
        """Seconds for 64 sequences over those of the reference computation, mean over its cells; None if unknown."""
        ratios = [cell.ratio for time in self.times.values() for cell in time.cells]
        return sum(ratios) / len(ratios) if ratios and self.times.keys() == self.records.keys() else None

    @property
    def references(self) -> list[str]:
        """What its author says to read, each once."""
        return list(dict.fromkeys(r.reference for r in self.records.values() if r.reference is not None))

    def cells(self) -> Iterator[tuple[Place, Record, CellRecord]]:
        """All cells that it has, with their records."""
        for task, record in self.records.items():
            for cell in record.cells:
                yield (task, cell.length), record, cell


def _is_trained(record: Record) -> bool:
    """Of what is built in the catalogue knows; of the rest, whether it tells of a training."""
    row = record.predictor
    if row.name in BUILT_IN and row.name != "run":
        return (SHIPPED_WEIGHTS / row.name).is_dir()
    return record.card is not None


SUITE = "suite"
MOST_AGREEING = 60  # rows, training seeds each one, whose distances from each other the page shows

RERUN, NOT_RERUN, NOT_REPEATED = "rerun", "not rerun", "not repeated"


@dataclass(frozen=True)
class Refused:
    """A record that is not on the board, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Board:
    """The rows, ranked ones first, best first; planned comparisons; what was refused; how far rows are apart.

    ``beside`` are the suites whose boards stand in the same folder, for its pages to lead there.
    """

    suite: Suite
    rows: list[Row]
    planned: list[Planned]
    refused: list[Refused]
    notes: list[str] = field(default_factory=list)
    agreements: dict[Place, Agreement] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)

    @property
    def ranked_by(self) -> str:
        """The score that orders rows: ``nll`` where sequences were recorded."""
        return ranked_by(self.rows[0].first.gold)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        rows = []
        for row in self.rows:
            tables = {name: asdict(standing) for name, standing in row.tables.items()}
            missing = [{"task": t, "length": n, "reason": why} for (t, n), why in row.missing.items()]
            about = row.first.predictor.model_dump() | {"n_sequences": row.n_sequences}
            marks = {task: mark.model_dump() for task, mark in row.marks.items()}
            kept = {"rerun": row.rerun, "marks": marks, "cost": row.cost, "references": row.references}
            rows.append(about | {"tables": tables, "missing": missing} | kept)
        planned, refused = [asdict(p) for p in self.planned], [asdict(r) for r in self.refused]
        plain = {"suite": self.suite.name, "rows": rows, "planned": planned, "refused": refused, "notes": self.notes}
        return json_ready(plain)


def suites_in(folder: str | Path) -> list[str]:
    """Short names of the suites of which the folder of a leaderboard has records, in their own order."""
    return boards_of({path.parent.name for path in record_paths(folder)})


def build(
    folder: str | Path,
    suite: str = "core",
    progress: Progress = no_progress,
) -> Board:
    """The board of a suite from the records ``folder/records/<task>/*.json``.

    Every record is scored anew from its probabilities; one that does not hold is refused, and the rest is built.

    Raises:
        InputError: there are no records, or none that holds; or the keeper's own files, marks and times, are damaged.
    """
    loaded = load_suite(suite)
    marks, times = read_marks(folder), read_times(folder)
    read, refused = _read_all(Path(folder), loaded, progress)
    if not read:
        reason = f"; the first was refused: {refused[0].reason}" if refused else ""
        others = ", ".join(name for name in suites_in(folder) if name != loaded.short)
        reason = reason or (f"; it has some of other suites ({others})" if others else "")
        raise InputError(f"there are no records to rank of {loaded.name} in '{Path(folder) / 'records'}'{reason}")
    places = [(task, length) for task in loaded.tasks for length in loaded.lengths]
    by_row: dict[str, dict[str, tuple[Record, dict[int, Scores]]]] = {}
    digests: dict[tuple[str, str], str] = {}
    for record, _, scores, digest in read:
        for kept in (marks.get(digest), times.get(digest)):
            if kept is not None:
                kept.check(record)
        by_row.setdefault(row_key(record), {})[record.task] = record, scores
        digests[row_key(record), record.task] = digest
    missing = {key: _missing(tasks, places) for key, tasks in by_row.items()}
    excess = {
        key: {
            (task, length): _excess(s.ranking, s)
            for task, (_, scores) in tasks.items()
            for length, s in scores.items()
            if s.ranking is not None and (task, length) in places
        }
        for key, tasks in by_row.items()
    }
    notes = []
    tables: dict[str, dict[str, Standing]] = {}
    for task in loaded.tasks:
        tables[task] = standings(complete(excess, [p for p in places if p[0] == task]), unit=None)
    unit_label = (loaded.unit, "mdbench")
    about = {key: _first(tasks).predictor for key, tasks in by_row.items()}
    unit = next((key for key, row in about.items() if (row.label, row.distribution) == unit_label), None)
    whole = complete(excess, places)
    if unit in whole:
        tables[SUITE] = standings(whole, whole[unit])
    else:
        notes.append(
            f"There is no whole record of {loaded.unit}, so the suite is not ranked; `mdbench evaluate --suite "
            f"{loaded.short} --predictor {loaded.unit} --record` makes it, and a clone of mdbench has those of all "
            "built-in predictors."
        )
    rows = [
        Row(
            label=_first(tasks).predictor.label,
            records={task: tasks[task][0] for task in loaded.tasks if task in tasks},
            tables={name: of_rows[key] for name, of_rows in tables.items() if key in of_rows},
            missing=missing[key],
            marks={task: marks[digests[key, task]] for task in tasks if digests[key, task] in marks},
            times={task: times[digests[key, task]] for task in tasks if digests[key, task] in times},
        )
        for key, tasks in by_row.items()
    ]
    ours = {  # by label: the rows that may be meant
        _first(tasks).predictor.label: key
        for key, tasks in by_row.items()
        if _first(tasks).predictor.distribution == "mdbench"
    }
    unknown = {key: row.seeds_unknown for key, row in zip(by_row, rows, strict=True)}
    planned = planned_comparisons(loaded, {label: (excess[key], unknown[key]) for label, key in ours.items()})
    ranked = sorted(rows, key=_order)
    agreements = _agreements([(record, probs) for record, probs, *_ in read], ranked, places)
    return Board(loaded, ranked, planned, refused, notes, agreements)


def _agreements(
    read: Sequence[tuple[Record, ByLength]], rows: Sequence[Row], places: Sequence[Place]
) -> dict[Place, Agreement]:
    """How far apart the best rows and their training seeds are, place by place."""
    rank = {row.label: k for k, row in enumerate(rows)}
    ordered = sorted((pair for pair in read if is_of_interest(pair[0])), key=lambda p: rank[p[0].predictor.label])
    found = {}
    for task, length in places:
        probs: dict[str, Any] = {}
        for record, arrays in ordered:
            if record.task == task and length in arrays and len(probs) + len(arrays[length]) <= MOST_AGREEING:
                probs |= rows_of(record.predictor.label, [*arrays[length]])
        if len(probs) > 1:
            found[task, length] = pairwise(probs, load_task(task), length, "public sequences, from records")
    return found


def _excess(ranking: Float[np.ndarray, "R N"], scores: Scores) -> Excess:
    """What a row is ranked by in a cell, summed over blocks where there are any."""
    if scores.blocks is None:
        return Excess(ranking, scores.gold_error or 0.0)
    sums = np.stack([np.bincount(scores.blocks, run) for run in ranking])
    return Excess(sums, 0.0, np.bincount(scores.blocks).astype(float))


def row_key(record: Record) -> str:
    """Which row a record belongs to: name, options and distribution."""
    row = record.predictor
    return json.dumps([row.name, sorted(row.options.items()), row.distribution, row.kind])


def all_at_gold(row: Row, tasks: Sequence[str]) -> bool:
    """Whether all that it has in these tasks is below the gold's error."""
    return all(at_gold(cell) for (task, _), _, cell in row.cells() if task in tasks)


def _order(row: Row) -> tuple[Any, ...]:
    in_suite = row.tables.get(SUITE)
    return (in_suite is None, in_suite.position if in_suite else 0, row.kind, row.label)


def _first(tasks: dict[str, tuple[Record, Any]]) -> Record:
    return next(iter(tasks.values()))[0]


def _read_all(
    folder: Path, suite: Suite, progress: Progress
) -> tuple[list[tuple[Record, ByLength, dict[int, Scores], str]], list[Refused]]:
    """Records that hold, with probabilities, scores by sequence and the SHA-256 of their bytes; and the others."""
    held: list[tuple[Record, ByLength, dict[int, Scores], str]] = []
    refused = []
    rows: dict[tuple[str, str], str] = {}
    of_others = set(task_names()) - set(suite.tasks)
    for path in record_paths(folder):
        if path.parent.name in of_others:
            continue
        shown = visible(path.relative_to(folder).as_posix())
        try:
            record, probs = read_record(path)
            check_place(record, path)
            label = record.predictor.label
            of_task = cells_of(record, progress)
            scores = score_record(record, probs, of_task)
            for fault in differences(record, scores, of_task):
                raise InputError(f"it does not hold: {fault}")
            row = record.task, row_key(record)
            if row in rows:
                raise InputError(f"another record is of the same row, with the label '{rows[row]}'.")
            rows[row] = label
            held.append((record, probs, scores, digest_of(path)))
        except InputError as error:
            refused.append(Refused(shown, visible(str(error).replace(str(path), shown), LONGEST_REASON)))
    return held, refused


def _missing(tasks: dict[str, tuple[Record, dict[int, Scores]]], places: Sequence[Place]) -> dict[Place, str]:
    missing = {}
    for task, length in places:
        record, scores = tasks.get(task, (None, {}))
        if length not in scores:
            why = "no record" if record is None else record.left_out.get(length, "not in its record")
            missing[task, length] = why
    return missing


def at_gold(cell: CellRecord) -> bool:
    """Whether an excess KL is below the gold's error."""
    return is_at_gold(cell.excess_kl, cell.gold_error)
