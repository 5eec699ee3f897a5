"""Records are made: of an evaluation, or of predictions that were made elsewhere."""

from __future__ import annotations

import hashlib
import io
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mdbench.board.names import check_name, check_reference, is_path, visible
from mdbench.board.predictions import ByLength, checked, read_predictions
from mdbench.board.record import (
    GOLD,
    LONGEST_REASON,
    MOST_LENGTHS,
    PREDICTIONS,
    RECORDED,
    SCHEMA_VERSION,
    CellRecord,
    Host,
    Predictions,
    Record,
    RowIdentity,
    ScoreRecord,
    command_of,
    data_of,
    file_stem,
    known_task,
    row_of,
    score_command,
)
from mdbench.core.device import n_cores
from mdbench.core.errors import InputError
from mdbench.core.files import json_ready, make_folder, write_text, write_whole
from mdbench.core.progress import Progress, no_progress
from mdbench.evaluation.cell import cells
from mdbench.evaluation.isolation import Isolation, how_isolated
from mdbench.evaluation.outcome import Evaluation
from mdbench.evaluation.results import Result, score_cell, summarise
from mdbench.predictors.catalogue import is_built_in, row_identity
from mdbench.tasks import N_PUBLIC, PUBLIC_SEED, Recorded, Task, built_in_like, load_task, task_names

LIBRARIES = ("jax", "jaxlib", "numpy", "numpyro", "scipy", "torch")


def record_evaluation(
    evaluation: Evaluation,
    predictors: Sequence[str],
    folder: str | Path,
    device: str,
    reference: str | None = None,
    own: Sequence[Task] = (),
) -> list[Path]:
    """Write a record for each task and each of the named predictors that has a score there.

    ``own`` are those of its tasks whose sequences were recorded: they may have no name that is known.

    Raises:
        InputError: the evaluation is not on public sequences against the exact gold, or cannot be written.
    """
    paths = []
    for label in predictors:
        for task in dict.fromkeys(r.task for r in evaluation.results if r.predictor == label):
            identity = row_identity(label, evaluation.defaults.get(label))
            results = [r for r in evaluation.results if (r.predictor, r.task) == (label, task)]
            without = [s for s in (*evaluation.skipped, *evaluation.failed) if (s.predictor, s.task) == (label, task)]
            left_out = {s.length: visible(s.reason, LONGEST_REASON) for s in without}
            probs = {r.length: evaluation.predictions[label, task, r.length] for r in results}
            row = row_of(identity)
            command = command_of(row, task, [r.length for r in results], results[0].n_sequences, reference)
            card = evaluation.cards.get((label, task))
            how = how_isolated() if label in evaluation.defaults else None
            of_task = next((one for one in own if one.name == task), None) or load_task(task)
            written = (row, results, probs, left_out, command, card, device, reference, how)
            paths.append(_write(folder, of_task, *written))
    return paths


def check_recordable(
    tasks: Sequence[Task],
    lengths: int,
    n_sequences: int | None,
    seed: int,
    gold: str | None,
    predictors: Sequence[str] = (),
) -> None:
    """Raise :class:`InputError` unless records can be made of an evaluation like that, at so many lengths.

    ``n_sequences`` is None for all that there are.
    """
    for text in predictors:
        if not is_built_in(text) and not is_path(text):
            check_name(text)
    if lengths > MOST_LENGTHS:
        raise InputError(f"a record has at most {MOST_LENGTHS} lengths, not {lengths}.")
    if gold not in (None, GOLD):
        raise InputError(f"records are measured against the gold '{GOLD}', not '{gold}'.")
    if seed != PUBLIC_SEED:
        raise InputError(f"records are on the public sequences, which are those of seed {PUBLIC_SEED}, not {seed}.")
    for task in tasks:
        if isinstance(task, Recorded) and built_in_like(task) is None and task.name in task_names():
            raise InputError(f"'{task.name}' is the name of a built-in task; give yours another in its file.")
        known_task(task.name, task.task_hash, task)
        if isinstance(task, Recorded):
            if n_sequences not in (None, task.n_test):
                raise InputError(
                    f"a record of '{task.name}' is of all its {task.n_test} test tokens; leave out the number."
                )
        elif n_sequences is not None and n_sequences > N_PUBLIC:
            raise InputError(f"there are {N_PUBLIC} public sequences, not {n_sequences}; record at most as many.")


def score_predictions(
    path: str | Path,
    task: Task,
    name: str,
    folder: str | Path | None,
    progress: Progress = no_progress,
    reference: str | None = None,
) -> tuple[list[Result], Path | None]:
    """Score predictions that were made elsewhere on the public sequences; with a ``folder``, make a record of them.

    ``path`` is what :func:`mdbench.board.predictions.read_predictions` reads; N are the first so many public sequences.

    Raises:
        InputError: the file is damaged, or what it holds are not predictions for this task.
    """
    check_name(name)
    if reference is not None:
        check_reference(reference)
    check_recordable([task], 1, None, PUBLIC_SEED, GOLD)
    path = Path(path)
    arrays = read_predictions(path, task)
    probs = {length: checked(name, length, array, task) for length, array in arrays.items()}
    sizes = {array.shape[1] for array in probs.values()}
    if len(sizes) > 1:
        raise InputError(f"'{path}' has {' and '.join(map(str, sorted(sizes)))} sequences; give all lengths as many.")
    results = [
        summarise(cell, name, score_cell(cell, probs[cell.length]))
        for cell in cells(task, list(probs), sizes.pop(), PUBLIC_SEED, GOLD, progress)
    ]
    if folder is None:
        return results, None
    row = RowIdentity(name=name, options={}, label=name, kind=PREDICTIONS, distribution=None, version=None)
    command = score_command(path.name, task.name, name, reference)
    return results, _write(folder, task, row, results, probs, {}, command, None, "unknown", reference, None)


def _write(
    folder: str | Path,
    task: Task,
    row: RowIdentity,
    results: Sequence[Result],
    probs: ByLength,
    left_out: dict[int, str],
    command: str,
    card: dict[str, Any] | None,
    device: str,
    reference: str | None,
    isolated: Isolation | None,
) -> Path:
    results = sorted(results, key=lambda r: r.length)
    if isinstance(task, Recorded):
        check_recordable([task], len(results), results[0].n_sequences, PUBLIC_SEED, None)
    place = make_folder(Path(folder) / "records" / task.name)
    stem = file_stem(row.label)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"T{r.length}": probs[r.length] for r in results}
    np.savez_compressed(buffer, **arrays)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    predictions = place / f"{stem}-{digest[:8]}.npz"
    record = Record(
        schema_version=SCHEMA_VERSION,
        task=task.name,
        task_hash=task.task_hash,
        data_hash=data_of(task).data_hash,
        gold=None if results[0].gold is None else GOLD,
        n_sequences=results[0].n_sequences,
        predictor=row,
        cells=tuple(_cell_record(r) for r in results),
        left_out=left_out,
        predictions=Predictions(file=predictions.name, sha256=digest),
        command=command,
        card=json_ready(card),
        reference=reference,
        host=_host({r.length: r.seconds for r in results if r.seconds is not None}, device, isolated),
    )
    write_whole(predictions, lambda temporary: temporary.write_bytes(content))
    path = place / f"{stem}.json"
    write_text(path, record.to_json() + "\n")
    for old in place.glob("*.npz"):
        if re.fullmatch(re.escape(stem) + r"-[0-9a-f]{8}\.npz", old.name) and old != predictions:
            old.unlink()
    return path


def _cell_record(result: Result) -> CellRecord:
    """Of the scores that everybody has: nobody else could check those of other packages."""
    scores = {name: result.scores[name] for name in RECORDED}
    return CellRecord(
        length=result.length,
        scores={k: None if v is None else ScoreRecord(**vars(v)) for k, v in scores.items()},
        gold_error=result.gold_error,
        runs=result.runs,
    )


def _host(seconds: dict[int, float], device: str, isolated: Isolation | None) -> Host:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    ours = git("ls-files", "--error-unmatch", Path(__file__).name) is not None  # not some repository around a venv
    changes = git("status", "--porcelain", "--untracked-files=no", ":/", ":!/leaderboard") if ours else None
    return Host(
        seconds=seconds,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device,
        platform=f"{platform.system()} {platform.machine()}",
        processors=n_cores(),
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
        commit=git("rev-parse", "HEAD") if ours else None,
        dirty=None if changes is None else changes != "",
        isolation=isolated,
    )
