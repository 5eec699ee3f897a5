"""Who predicts what: predictors, built for the tasks of an evaluation, by cell; here, or on a worker by their names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from mdbench.baselines import EXACT
from mdbench.core.cluster import CellFailure, Cluster
from mdbench.core.errors import InputError, PredictorError, Unsupported, foreign
from mdbench.core.progress import Advance, Note, Progress
from mdbench.core.store import Arrays, Cache, Elsewhere, Keep, Store
from mdbench.evaluation.gold import check_gold
from mdbench.evaluation.isolation import Isolated, Limits
from mdbench.evaluation.results import FAILED, Skipped
from mdbench.evaluation.running import Answers, answers, may_refuse, predict_chunk
from mdbench.evaluation.scores import Score
from mdbench.predictors.catalogue import build_predictor
from mdbench.predictors.predictor import Given, check_length, is_told, runs_of
from mdbench.tasks import Recorded, Task, evaluation_sequences
from mdbench.tasks.task import Whole

N_SEQUENCES = 1024  # a cell, unless told otherwise
MOST_BUILT = 16  # predictors that a worker keeps


@dataclass(frozen=True)
class Run:
    """What is the same for all tasks of an evaluation: names that were asked for, predictors by name, and how."""

    asked: list[str]
    everyone: dict[str, Given]
    named: bool  # whether references were: they are scored on every task then, else where the family names them
    n_sequences: Whole | None
    seed: Whole
    device: str
    world: Task | None  # where sequences come from, if it is another model than that of the task
    gold: str | None
    scores: Mapping[str, Score]
    isolate: Limits | None
    work: str | Path | None
    cache: Cache
    kept_gold: Store
    progress: Progress

    def drawn_from(self, task: Task) -> Task:
        """What the sequences come from."""
        return self.world or task

    def gold_of(self, task: Task) -> str | None:
        """The baseline that a task is measured against; None for recorded sequences."""
        return self.gold or self.drawn_from(task).gold

    def n_of(self, task: Task) -> int:
        """How many sequences; of recorded ones all test tokens, unless told otherwise."""
        if self.n_sequences is not None:
            return int(self.n_sequences)
        return task.n_test if isinstance(task, Recorded) else N_SEQUENCES

    def label(self, task: Task) -> str:
        """What tables call it."""
        return task.name if self.world is None else f"{task.name} on {self.world.name}"

    def predictors_of(self, task: Task) -> dict[str, Given]:
        """Those that are scored on a task."""
        return {n: p for n, p in self.everyone.items() if self.named or n in self.asked or n in task.references}


class Source(NamedTuple):
    """What a worker builds a predictor from, and all that its answers depend on but for seed and contexts."""

    text: str
    task: Task
    device: str
    limits: Limits | None
    defaults: dict[str, Any] | None
    key: dict[str, Any]


@dataclass(frozen=True)
class Server:
    """A built predictor at one length: what predicts there, one for each training seed, and where answers are kept.

    ``source`` is None for what has no name, or is told θ.
    """

    built: Any
    runs: Sequence[Any]
    kept: Answers | None
    source: Source | None

    def elsewhere(
        self, cluster: Cluster, length: int, run: int, sent: Sequence[Any]
    ) -> Callable[[int], Elsewhere[Arrays]] | None:
        """How a chunk's predictions are begun on a cluster, by its number; None if it has no name."""
        source = self.source
        if source is None:
            return None

        def of_chunk(k: int) -> Elsewhere[Arrays]:
            def begin(note: Note, keep: Keep[Arrays]) -> Callable[[], Arrays]:
                wait = cluster.begin(predict_by_name, source, length, run, sent[k], note=note, keep=keep)

                def wait_for() -> Arrays:
                    try:
                        return wait()
                    except CellFailure as error:
                        where = f"at length {length} of task '{source.task.name}'"
                        raise PredictorError(f"predictor '{source.text}' failed {where}: {error}.") from None

                return wait_for

            return begin

        return of_chunk


def _build(text: str, task: Task, device: str, limits: Limits | None) -> Any:
    return build_predictor(text, task, device) if limits is None else Isolated(text, task, device, limits)


_BUILT: dict[tuple[Any, ...], tuple[Any, dict[int, Sequence[Any]]]] = {}
"""On a worker: predictors by all that their answers depend on, with their training seeds at each length."""


def predict_by_name(source: Source, length: int, run: int, tokens: Int[np.ndarray, "n L"], _advance: Advance) -> Arrays:
    """On a worker: :func:`predict_chunk` of ``length`` of the tokens.

    Raises:
        PredictorError: what has that name here is not what was asked for, or breaks its contract.
    """
    text, task, device, limits, defaults, key = source
    name = (json.dumps(key, sort_keys=True), limits)
    if name not in _BUILT:
        here = answers(text, task, device, None, "none", defaults).key
        differs = [what for what in key if here[what] != key[what]]
        if differs:
            raise PredictorError(f"'{text}' differs in its {differs[0]} between a worker and here.")
        built = _build(text, task, device, limits)
        while len(_BUILT) >= MOST_BUILT:
            del _BUILT[next(iter(_BUILT))]
        _BUILT[name] = built, {}
    built, by_length = _BUILT[name]
    if length not in by_length:
        by_length[length] = runs_of(built, length)
    return predict_chunk(text, by_length[length][run], task, task.cut(tokens, length))


@dataclass(frozen=True)
class Served:
    """What predicts in the cells of a task, by length and name; what does not, and the refusals by predictor."""

    task: Task
    servers: dict[int, dict[str, Server]]
    skipped: list[Skipped]
    failed: list[Skipped]
    refusals: dict[str, Unsupported]


def check_measure(run: Run, task: Task, lengths: Sequence[int]) -> None:
    """Raise :class:`InputError` unless the gold can be that, and nothing that was asked for is the gold itself."""
    if isinstance(task, Recorded) or isinstance(run.world, Recorded):
        if run.world is not None:
            raise InputError("a world is a generative model that sequences are drawn from; recorded ones have none.")
        if run.gold is not None:
            check_gold(task, max(lengths), run.gold)
        evaluation_sequences(task, max(lengths), run.n_of(task), run.seed, slice(1))
        return
    measure = check_gold(run.drawn_from(task), max(lengths), run.gold_of(task))
    itself = [name for name in run.asked if name.partition(":")[0] == measure.name and measure.standing != EXACT]
    if itself and run.world is None:
        raise InputError(f"'{itself[0]}' is the gold itself, noise and all; measure it against another, such as exact.")


def serve_task(run: Run, task: Task, lengths: list[int]) -> Served:
    """Build all that are scored on a task."""
    served = Served(task, {length: {} for length in lengths}, [], [], {})
    for name, predictor in run.predictors_of(task).items():
        for length, answer in _serve(run, name, predictor, task, lengths):
            if isinstance(answer, PredictorError):
                served.failed.append(Skipped(name, run.label(task), length, str(answer), FAILED))
            elif isinstance(answer, Unsupported):
                served.skipped.append(Skipped(name, run.label(task), length, str(answer), answer.label))
                served.refusals.setdefault(name, answer)
            else:
                served.servers[length][name] = answer
    return served


def _serve(
    run: Run, name: str, predictor: Given, task: Task, lengths: list[int]
) -> Iterator[tuple[int, Server | Unsupported | PredictorError]]:
    """For each length what predicts there, or why it cannot."""
    kept, source = None, None
    built: Any = predictor
    try:
        if isinstance(predictor, str):
            limits = run.isolate if name in run.asked else None
            built = _build(predictor, task, run.device, limits)
            defaults = built.defaults if isinstance(built, Isolated) else None
            kept = answers(predictor, task, run.device, run.work, run.cache, defaults)
            source = Source(predictor, task, run.device, limits, defaults, kept.key)
    except (Unsupported, PredictorError) as refusal:
        yield from ((length, refusal) for length in lengths)
        return
    passing = may_refuse(predictor)
    for length in lengths:
        try:
            if run.world is not None and is_told(built):
                raise Unsupported(f"'{name}' is told θ of '{task.name}', which sequences of another world have not.")
            if isinstance(task, Recorded) and is_told(built):
                why = f"'{name}' is told θ; the sequences of '{task.name}' were recorded, and nobody knows one."
                raise Unsupported(why, label="no truth")
            with foreign(f"predictor '{name}' failed when asked for length {length}", Unsupported, *passing):
                check_length(built, length)
                runs = runs_of(built, length)
        except (Unsupported, PredictorError) as refusal:
            yield length, refusal
        else:
            yield length, Server(built, runs, kept, None if is_told(built) else source)
