"""How far rows and their training seeds are from each other: which of them compute the same function."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdbench.board.files import record_paths
from mdbench.board.predictions import ByLength
from mdbench.board.reading import check_place, read_record
from mdbench.board.record import BASELINE, UPPER_BOUND, Record
from mdbench.core.device import check_device
from mdbench.core.errors import InputError, shown, unknown_name
from mdbench.core.progress import Progress, no_progress
from mdbench.core.store import Cache
from mdbench.evaluation.agreement import SAME, Agreement, Probs, pairwise, rows_of
from mdbench.evaluation.running import answers, predict
from mdbench.predictors.catalogue import as_predictor
from mdbench.predictors.predictor import check_length, is_told, runs_of
from mdbench.tasks import Recorded, Task, as_task, sample

MOST_ROWS = 200
BAYES = "bayes"


def agree(
    names: str | Sequence[str] = (),
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
    wanted = [*dict.fromkeys([names] if isinstance(names, str) else names)]
    for name in wanted:
        if not isinstance(name, str):
            raise InputError(f"agree takes names of predictors, not {type(name).__name__}; 'FILE.py:NAME' is one, too.")
    if n_sequences is None:
        probs = _recorded(Path(leaderboard), loaded, length, wanted)
        source = "public sequences, from records"
    else:
        if not wanted:
            raise InputError("name the predictors that are to run on fresh sequences.")
        if isinstance(loaded, Recorded):
            raise InputError(
                f"the sequences of '{loaded.name}' were recorded, and there are no fresh ones; record rows."
            )
        check_device(device)
        probs = _fresh(loaded, length, wanted, n_sequences, seed, device, cache, progress)
        source = f"fresh sequences of seed {seed}"
    if len(probs) < 2:
        raise InputError(f"agreement is between at least two rows, not {len(probs)}; name another.")
    if len(probs) > MOST_ROWS:
        raise InputError(f"there are {len(probs)} rows, more than {MOST_ROWS}; name fewer.")
    return pairwise(probs, loaded, length, source, threshold)


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
        record, arrays = read_record(path, task)
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
            probs[row] = predict(label, run, task, contexts, advance, kept, k)
    return probs


def _runs(label: str, task: Task, length: int, device: str) -> Sequence[Any]:
    built = as_predictor(label, task, device)
    if is_told(built):
        raise InputError(f"{shown(label)} is told θ, so it has no function of the context.")
    check_length(built, length)
    return runs_of(built, length)
