"""Score predictors against gold on sequences from tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from jaxtyping import Int

from mdbench.core.cluster import Cluster, ahead, open_cluster
from mdbench.core.device import check_device
from mdbench.core.errors import InputError, PredictorError
from mdbench.core.files import check_writable, whole_file
from mdbench.core.progress import Progress, default_progress
from mdbench.core.store import Cache, open_store
from mdbench.evaluation.isolation import Limits
from mdbench.evaluation.outcome import MOST_KEPT, Evaluation
from mdbench.evaluation.scores import Score, all_scores
from mdbench.evaluation.serving import Run, check_measure, serve_task
from mdbench.evaluation.streaming import Stream, batch_of
from mdbench.predictors.catalogue import BUILT_IN
from mdbench.predictors.predictor import Given, as_object, name_of
from mdbench.tasks import Task, as_task, load_suite, load_task
from mdbench.tasks.task import Whole, check_order

Lengths = int | Sequence[int] | Int[np.ndarray, " n"] | None


def evaluate(
    predictors: Given | Sequence[Given],
    *,
    task: str | Path | Task | Sequence[str | Path | Task] | None = None,
    suite: str | None = None,
    world: str | Path | Task | None = None,
    lengths: Lengths = None,
    n_sequences: Whole | None = None,
    seed: Whole = 0,
    device: str = "cpu",
    references: Sequence[str] | None = None,
    gold: str | None = None,
    scores: Mapping[str, Score] | None = None,
    isolate: Limits | None = None,
    work: str | Path | None = None,
    cache: Cache = "all",
    cluster: str | Cluster | None = None,
    per_sequence: str | Path | None = None,
    progress: Progress | None = None,
    done: Callable[[Evaluation], None] | None = None,
) -> Evaluation:
    """Score predictors on every cell (task, length) of some tasks or a suite, against gold.

    Args:
        predictors: names, such as ``"md1"`` or ``"md:steps=3,eta=theory"``, or objects with ``predict``.
        task: tasks, task names or paths of task files; they are evaluated at their own lengths.
        suite: name of a suite (default ``core`` where no task is given).
        world: another task over the same states, whose sequences and gold these are, while predictors are built for
            ``task``: a shift. The row ``bayes`` is then what the wrong model costs.
        lengths: context lengths instead of the tasks' or the suite's own.
        n_sequences: sequences a cell (default 1024); more extend fewer, and all predictors see the same. Of recorded
            sequences the first so many test tokens (default all).
        seed: of the sequences; recorded ones have none but 0.
        device: torch device for predictors that have one.
        references: predictors scored beside the given ones; those that suit the family of each task if None.
        gold: the baseline that excess KL is measured against (default: that of the task's family, ``exact``): an exact
            one, or one that passes its gates on every sequence, such as ``reference`` for orders that exact methods do
            not reach.
        scores: what to score by, by name (default: `SCORES` of :mod:`mdbench.evaluation.scores`, and other packages').
        isolate: run the given predictors (those given by name) in processes of their own, within these limits.
        work: a folder in which every finished cell is kept: the same call goes on there after an interruption.
        cache: what the cache folder may answer: ``all`` (gold, and predictors that are built in), ``gold`` or ``none``.
        cluster: where cells are computed, if not here: ``local`` or ``local:N`` (processes on this machine), or the
            address of a Dask scheduler. No number depends on it.
        per_sequence: file (.csv or .parquet) for the scores of every sequence.
        progress: called to show progress; in a notebook there is a bar if none is given.
        done: called with the evaluation of each task once it is there, and something that was asked for has a score.

    Raises:
        InputError: bad arguments, or an explicitly asked length that a given predictor cannot serve.
        PredictorError: the only predictor that was asked for broke its contract. Where others have scores, the failure
            of one stands in ``failed``.
    """
    check_device(device)
    if per_sequence is not None:
        _check_table(Path(per_sequence))
    if cache not in get_args(Cache):
        raise InputError(f"cache must be one of {', '.join(get_args(Cache))}, not {cache!r}.")
    cells_of = grid(task, suite, lengths)
    shift = None if world is None else _world(as_task(world), cells_of)
    beside = dict.fromkeys(name for t, _ in cells_of for name in t.references) if references is None else references
    everyone, asked = _name_predictors(predictors, list(beside))
    if n_sequences is not None:
        check_order(n_sequences, "n-sequences")
    run = Run(
        asked,
        everyone,
        references is not None,
        n_sequences,
        seed,
        device,
        shift,
        gold,
        all_scores() if scores is None else scores,
        isolate,
        work,
        cache,
        open_store(work, cache != "none"),
        progress or default_progress(),
    )
    for name in asked:
        if not isinstance(everyone[name], str) and (work is not None or cluster is not None):
            what = "what is kept" if work is not None else "what a cluster computes"
            raise InputError(f"'{name}' is an object, and {what} must have a name: give it as file.py:{name}.")
    for task_, task_lengths in cells_of:
        check_measure(run, task_, task_lengths)
    served = [serve_task(run, task_, task_lengths) for task_, task_lengths in cells_of]
    if lengths is not None and len(asked) == 1:
        refusals = [each.refusals[asked[0]] for each in served if asked[0] in each.refusals]
        if len(refusals) == len(served):  # where another task is served, what is left out is said below the table
            raise refusals[0]
    if not any(by_name or each.failed for each in served for by_name in each.servers.values()):
        raise InputError(next(s.reason for each in served for s in each.skipped))

    parts: list[Evaluation] = []
    n_shown = 0
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(_rows_to(per_sequence))
        workers = stack.enter_context(open_cluster(cluster))
        streams = [Stream(run, each, workers) for each in served]
        if workers is not None:
            stack.enter_context(workers.batches(batch_of(streams, workers)))
        for found in _evaluations(streams, write):
            parts.append(found)
            if done and any(r.predictor in asked for part in parts for r in part.results):
                for part in parts[n_shown:]:
                    done(part)
                n_shown = len(parts)
        whole = Evaluation.merged(parts)
        if whole.failed and not any(r.predictor in asked for r in whole.results):  # no table is written then
            raise PredictorError(next((f for f in whole.failed if f.predictor in asked), whole.failed[0]).reason)
    if done:
        for part in parts[n_shown:]:
            done(part)
    return whole


def _evaluations(streams: Sequence[Stream], write: Callable[[pd.DataFrame], object] | None) -> Iterator[Evaluation]:
    """That of each task once it is there; ``write`` gets the scores of all sequences, shard by shard."""
    parts = [(stream, part) for stream in streams for part in stream.shards]
    n_ahead = max(stream.n_ahead for stream in streams)
    frames: list[pd.DataFrame] = []
    for (stream, part), shard in ahead(parts, lambda item: item[0].begin(item[1]), n_ahead):
        stream.add(shard)
        held = stream.n <= MOST_KEPT
        if held or write is not None:
            frame = stream.frame(part, shard)
            if write is not None and len(frame):
                write(frame)
            if held:
                frames.append(frame)
        if part == stream.shards[-1]:
            yield stream.evaluation(frames if held else None)
            frames = []


@contextlib.contextmanager
def _rows_to(path: str | Path | None) -> Iterator[Callable[[pd.DataFrame], object] | None]:
    """What adds rows to a table at that path, which is there at the end; None without one."""
    if path is None:
        yield None
        return
    with whole_file(path) as temporary:
        if temporary.suffix == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                yield lambda frame: frame.to_csv(file, index=False, header=file.tell() == 0)
            return
        import pyarrow as pa
        from pyarrow import parquet

        with contextlib.ExitStack() as stack:
            writers: list[Any] = []

            def write(frame: pd.DataFrame) -> None:
                table = pa.Table.from_pandas(frame, preserve_index=False)
                if not writers:
                    writers.append(stack.enter_context(parquet.ParquetWriter(temporary, table.schema)))
                writers[0].write_table(table)

            yield write


def _check_table(path: Path) -> None:
    """Raise :class:`InputError` unless a table can be written there."""
    check_writable(path)
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"scores of every sequence are written as .csv or .parquet, not '{path}'.")


def _name_predictors(predictors: Any, references: Sequence[str]) -> tuple[dict[str, Given], list[str]]:
    """Name -> predictor of all that are to be scored, and the names of those that were asked for."""
    given = [predictors] if isinstance(predictors, str) or not isinstance(predictors, Iterable) else list(predictors)
    if not given:
        raise InputError("give at least one predictor.")
    asked: list[str] = []
    plain: list[Given] = []
    for p in given:
        plain.append(p if isinstance(p, str) else as_object(p))
        asked.append(name_of(p))
        if not isinstance(p, str) and asked[-1] in BUILT_IN:
            raise InputError(f"'{asked[-1]}' is a built-in predictor; give yours another __name__.")
        if asked.count(asked[-1]) > 1:
            raise InputError(f"two predictors are called '{asked[-1]}'; give each once, and a __name__ of its own.")
    everyone: dict[str, Given] = dict(zip(asked, plain, strict=True))
    return everyone | {name: name for name in references if name not in everyone}, asked


def grid(task: Any, suite: str | None, lengths: Lengths) -> list[tuple[Task, list[int]]]:
    """(task, lengths) of everything to evaluate, checked."""
    if task is not None and suite is not None:
        raise InputError("give a task or a suite, not both.")
    if task is None:
        of_suite = load_suite("core" if suite is None else suite)
        cells = [(load_task(name), of_suite.lengths) for name in of_suite.tasks]
    else:
        tasks = [task] if isinstance(task, (str, Path, Task)) else task
        loaded = [as_task(t) for t in tasks]
        cells = [(t, t.lengths) for t in loaded]
    if len({t.name for t, _ in cells}) < len(cells):
        raise InputError("two of the tasks have the same name; rename one.")
    checked = []
    for t, own in cells:
        wanted = list(own if lengths is None else np.atleast_1d(np.asarray(lengths)).tolist())
        if not wanted:
            raise InputError("lengths is empty; give at least one context length.")
        for length in wanted:
            t.check_length(length)
        checked.append((t, sorted(set(wanted))))
    return checked


def _world(world: Task, cells_of: list[tuple[Task, list[int]]]) -> Task | None:
    """What the sequences come from; None if that is the task itself.

    Raises:
        InputError: there are several tasks, or its sequences cannot be contexts of the task.
    """
    if len(cells_of) != 1:
        raise InputError("a world goes with one task: predictors are built for that, and judged in the world.")
    ((task, lengths),) = cells_of
    if world.n_states != task.n_states:
        raise InputError(
            f"task '{task.name}' has {task.n_states} states, and the world '{world.name}' {world.n_states}; a "
            "predictor for the one cannot read sequences of the other."
        )
    for length in lengths:
        world.check_length(length)
    return None if world.task_hash == task.task_hash else world
