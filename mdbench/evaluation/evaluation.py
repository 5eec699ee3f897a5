"""Score predictors against gold on sequences from tasks."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from mdbench.baselines import EXACT
from mdbench.core.device import check_device
from mdbench.core.errors import InputError, PredictorError, Unsupported, foreign
from mdbench.core.files import json_ready, write_whole
from mdbench.core.progress import Advance, Progress, default_progress
from mdbench.core.store import Cache, Store, open_store
from mdbench.evaluation.cell import Cell, cells
from mdbench.evaluation.gold import check_gold
from mdbench.evaluation.isolation import Isolated, Limits
from mdbench.evaluation.results import Result, Scores, columns, is_tied, paired_difference, score_cell, summarise
from mdbench.evaluation.running import Answers, answers, may_refuse, predict_timed
from mdbench.evaluation.scores import Score, all_scores
from mdbench.predictors.catalogue import BUILT_IN, build_predictor
from mdbench.predictors.predictor import (
    Given,
    as_object,
    check_length,
    is_told,
    name_of,
    runs_of,
)
from mdbench.tasks import Task, as_task, load_suite, load_task
from mdbench.tasks.task import Whole

SCHEMA_VERSION = 1
N_SEQUENCES = 1024  # a cell, unless told otherwise
Lengths = int | Sequence[int] | Int[np.ndarray, " n"] | None

FAILED = "failed"


@dataclass(frozen=True)
class Skipped:
    """A predictor that cannot serve a cell of the suite, and why: in a sentence, and in a word or two."""

    predictor: str
    task: str
    length: int
    reason: str
    label: str


@dataclass(frozen=True)
class Tie:
    """Two neighbours in a cell's ranking whose paired difference in excess KL is not told from zero."""

    task: str
    length: int
    predictors: tuple[str, str]
    difference: float
    difference_ci: tuple[float, float] | None


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` returns.

    Attributes:
        results: one a predictor and cell, ranked by excess KL within the cell (the unranked oracle first).
        skipped: cells of the suite that a predictor cannot serve.
        failed: cells in which a predictor broke its contract or raised an error; the others went on.
        ties: neighbours in the ranking that these sequences cannot tell apart.
        per_sequence: every sequence's scores, in the columns predictor, task, length, sequence, and one a score: kl,
            excess_kl, cross_entropy, nll, and those of other packages.
        cards: (predictor, task) -> what a predictor that has a ``card`` says of itself (JSON-ready).
        defaults: predictor -> the options that it takes, with their defaults, of what ran in a process of its own.
        predictions: (predictor, task, length) -> (R, N, q), the probabilities that were scored, by run (training seed).
    """

    results: list[Result]
    skipped: list[Skipped]
    failed: list[Skipped]
    ties: list[Tie]
    per_sequence: pd.DataFrame = field(repr=False)
    cards: dict[tuple[str, str], Any] = field(repr=False)
    defaults: dict[str, dict[str, Any]] = field(repr=False)
    predictions: dict[tuple[str, str, int], Float[np.ndarray, "R N q"]] = field(repr=False)

    @classmethod
    def merged(cls, parts: Sequence[Evaluation]) -> Evaluation:
        """One of several tasks, from those of each."""
        frames = [part.per_sequence for part in parts if len(part.per_sequence)]
        return cls(
            [r for part in parts for r in part.results],
            [s for part in parts for s in part.skipped],
            [f for part in parts for f in part.failed],
            [t for part in parts for t in part.ties],
            pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
            {key: card for part in parts for key, card in part.cards.items()},
            {name: defaults for part in parts for name, defaults in part.defaults.items()},
            {key: probs for part in parts for key, probs in part.predictions.items()},
        )

    @property
    def table(self) -> pd.DataFrame:
        """The results, one a row; an interval is two columns, so that it comes back from a CSV file as two numbers."""
        rows = []
        for result in self.results:
            row: dict[str, Any] = {}
            for name, value in result.to_dict().items():
                if name.endswith("_ci"):
                    row |= dict(zip((f"{name}_low", f"{name}_high"), value or (None, None), strict=True))
                else:
                    row[name] = value
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def notes(self) -> list[str]:
        """A sentence each: what is missing and why, the ties, the scores by training seed."""
        notes = []
        for who, reason in dict.fromkeys((s.predictor, s.reason) for s in self.skipped):
            notes.append(f"Left out: {reason}" if who in reason else f"Left out: {who}: {reason}")
        notes += [f"Failed: {reason}" for reason in dict.fromkeys(f.reason for f in self.failed)]
        tied: dict[tuple[str, ...], list[str]] = {}
        for tie in self.ties:
            tied.setdefault((tie.task, *sorted(tie.predictors)), []).append(str(tie.length))
        for (task, a, b), lengths in tied.items():
            notes.append(f"Tied at {task}, T = {', '.join(lengths)}: {a} and {b}.")
        by_seed: dict[tuple[str, str], list[str]] = {}
        for r in self.results:
            if r.runs:
                seeds = ", ".join(f"{value:.3g}" for value in r.runs)
                by_seed.setdefault((r.predictor, r.task), []).append(f"T = {r.length}: {seeds}")
        for (predictor, task), cells_of in by_seed.items():
            notes.append(f"{predictor} at {task}, excess KL by training seed: {'; '.join(cells_of)}.")
        if any(r.at_gold for r in self.results):
            notes.append("at gold: excess KL below the error of the gold it is measured against.")
        return notes

    def __str__(self) -> str:
        return self.table.to_string(index=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: infinities as the strings "inf" and "-inf", what does not exist as null."""
        return {
            "schema_version": SCHEMA_VERSION,
            "results": [json_ready(result.to_dict()) for result in self.results],
            "skipped": [json_ready(asdict(skipped)) for skipped in self.skipped],
            "failed": [json_ready(asdict(failed)) for failed in self.failed],
            "ties": [json_ready(asdict(tie)) for tie in self.ties],
        }

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def write_per_sequence(self, path: Path) -> None:
        """Every sequence's scores as .csv or .parquet."""
        frame = self.per_sequence
        write = frame.to_csv if path.suffix == ".csv" else frame.to_parquet
        write_whole(path, lambda temporary: write(temporary, index=False))

    def _repr_html_(self) -> str:
        """What a notebook shows: scores and notes, as the command prints them."""
        rows = [[r.task, *r.row] for r in self.results]
        return pd.DataFrame(rows, columns=["task", *columns(self.results)]).to_html(index=False) + "".join(
            f"<p>{html.escape(note)}</p>" for note in self.notes
        )


def evaluate(
    predictors: Given | Sequence[Given],
    *,
    task: str | Path | Task | Sequence[str | Path | Task] | None = None,
    suite: str | None = None,
    world: str | Path | Task | None = None,
    lengths: Lengths = None,
    n_sequences: Whole = N_SEQUENCES,
    seed: Whole = 0,
    device: str = "cpu",
    references: Sequence[str] | None = None,
    gold: str | None = None,
    scores: Mapping[str, Score] | None = None,
    isolate: Limits | None = None,
    work: str | Path | None = None,
    cache: Cache = "all",
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
        n_sequences: sequences a cell; more extend fewer, and all predictors see the same.
        seed: of the sequences.
        device: torch device for predictors that have one.
        references: predictors scored beside the given ones; those that suit the family of each task if None.
        gold: the baseline that excess KL is measured against (default: that of the task's family, ``exact``): an exact
            one, or one that passes its gates on every sequence, such as ``reference`` for orders that exact methods do
            not reach.
        scores: what to score by, by name (default: `SCORES` of :mod:`mdbench.evaluation.scores`, and other packages').
        isolate: run the given predictors (those given by name) in processes of their own, within these limits.
        work: a folder in which every finished cell is kept: the same call goes on there after an interruption.
        cache: what the cache folder may answer: ``all`` (gold, and predictors that are built in), ``gold`` or ``none``.
        progress: called to show progress; in a notebook there is a bar if none is given.
        done: called with the evaluation of each task once it is there, and something that was asked for has a score.

    Raises:
        InputError: bad arguments, or an explicitly asked length that a given predictor cannot serve.
        PredictorError: the only predictor that was asked for broke its contract. Where others have scores, the failure
            of one stands in ``failed``.
    """
    check_device(device)
    if cache not in get_args(Cache):
        raise InputError(f"cache must be one of {', '.join(get_args(Cache))}, not {cache!r}.")
    cells_of = grid(task, suite, lengths)
    shift = None if world is None else _world(as_task(world), cells_of)
    beside = dict.fromkeys(name for t, _ in cells_of for name in t.references) if references is None else references
    everyone, asked = _name_predictors(predictors, list(beside))
    run = _Run(
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
        if work is not None and not isinstance(everyone[name], str):
            raise InputError(f"'{name}' is an object, and what is kept must have a name: give it as file.py:{name}.")
    for task_, task_lengths in cells_of:
        _check_measure(run, task_, task_lengths)
    served = [_serve_task(run, task_, task_lengths) for task_, task_lengths in cells_of]
    if lengths is not None and len(asked) == 1:
        refusals = [each.refusals[asked[0]] for each in served if asked[0] in each.refusals]
        if len(refusals) == len(served):  # where another task is served, what is left out is said below the table
            raise refusals[0]
    if not any(by_name or each.failed for each in served for by_name in each.servers.values()):
        raise InputError(next(s.reason for each in served for s in each.skipped))

    parts: list[Evaluation] = []
    n_shown = 0
    for each in served:
        parts.append(_evaluate_task(run, each))
        if done and any(r.predictor in asked for part in parts for r in part.results):
            for part in parts[n_shown:]:
                done(part)
            n_shown = len(parts)
    whole = Evaluation.merged(parts)
    if whole.failed and not any(r.predictor in asked for r in whole.results):
        raise PredictorError(next((f for f in whole.failed if f.predictor in asked), whole.failed[0]).reason)
    if done:
        for part in parts[n_shown:]:
            done(part)
    return whole


@dataclass(frozen=True)
class _Run:
    """What is the same for all tasks of an evaluation: names that were asked for, predictors by name, and how."""

    asked: list[str]
    everyone: dict[str, Given]
    named: bool  # whether references were: they are scored on every task then, else where the family names them
    n_sequences: Whole
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

    def gold_of(self, task: Task) -> str:
        """The baseline that a task is measured against."""
        return self.gold or self.drawn_from(task).gold

    def label(self, task: Task) -> str:
        """What tables call it."""
        return task.name if self.world is None else f"{task.name} on {self.world.name}"

    def predictors_of(self, task: Task) -> dict[str, Given]:
        """Those that are scored on a task."""
        return {n: p for n, p in self.everyone.items() if self.named or n in self.asked or n in task.references}


@dataclass(frozen=True)
class _Served:
    """What predicts in the cells of a task, by length and name; what does not, and the refusals by predictor."""

    task: Task
    servers: dict[int, dict[str, _Server]]
    skipped: list[Skipped]
    failed: list[Skipped]
    refusals: dict[str, Unsupported]


def _check_measure(run: _Run, task: Task, lengths: Sequence[int]) -> None:
    """Raise :class:`InputError` unless the gold can be that, and nothing that was asked for is the gold itself."""
    measure = check_gold(run.drawn_from(task), max(lengths), run.gold_of(task))
    itself = [name for name in run.asked if name.partition(":")[0] == measure.name and measure.standing != EXACT]
    if itself and run.world is None:
        raise InputError(f"'{itself[0]}' is the gold itself, noise and all; measure it against another, such as exact.")


def _serve_task(run: _Run, task: Task, lengths: list[int]) -> _Served:
    served = _Served(task, {length: {} for length in lengths}, [], [], {})
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


def _evaluate_task(run: _Run, served: _Served) -> Evaluation:
    """Every cell of one task."""
    label, failed = run.label(served.task), served.failed
    frames, results, ties, predictions = [], [], [], {}
    for cell, scored, failures in _score_task(run, served):
        failed = failed + failures
        results_here = [summarise(cell, name, s.scores, s.seconds, label) for name, s in scored.items()]
        ranked = sorted(results_here, key=_rank_key)
        results += ranked
        ties += _ties(ranked, {name: s.scores.mean_excess_kl for name, s in scored.items()})
        for name, s in scored.items():
            where = {"predictor": name, "task": label, "length": cell.length}
            frames.append(s.scores.frame().assign(**where)[[*where, "sequence", *s.scores.values]])
            predictions[name, label, cell.length] = s.probs
    built = {name: server.built for by_name in served.servers.values() for name, server in by_name.items()}
    cards = {(name, label): getattr(one, "card", None) for name, one in built.items()}
    return Evaluation(
        results,
        served.skipped,
        failed,
        ties,
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        {key: card for key, card in cards.items() if card is not None},
        {name: one.defaults for name, one in built.items() if isinstance(one, Isolated)},
        predictions,
    )


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


@dataclass(frozen=True)
class _Server:
    """A built predictor at one length: what predicts there, one for each training seed, and where answers are kept."""

    built: Any
    runs: Sequence[Any]
    kept: Answers | None


def _serve(
    run: _Run, name: str, predictor: Given, task: Task, lengths: list[int]
) -> Iterator[tuple[int, _Server | Unsupported | PredictorError]]:
    """For each length what predicts there, or why it cannot."""
    kept, defaults = None, None
    built: Any = predictor
    try:
        if isinstance(predictor, str) and run.isolate is not None and name in run.asked:
            built = Isolated(predictor, task, run.device, run.isolate)
            defaults = built.defaults
        elif isinstance(predictor, str):
            built = build_predictor(predictor, task, run.device)
        if isinstance(predictor, str):
            kept = answers(predictor, task, run.device, run.work, run.cache, defaults)
    except (Unsupported, PredictorError) as refusal:
        yield from ((length, refusal) for length in lengths)
        return
    passing = may_refuse(predictor)
    for length in lengths:
        try:
            if run.world is not None and is_told(built):
                raise Unsupported(f"'{name}' is told θ of '{task.name}', which sequences of another world have not.")
            with foreign(f"predictor '{name}' failed when asked for length {length}", Unsupported, *passing):
                check_length(built, length)
                runs = runs_of(built, length)
        except (Unsupported, PredictorError) as refusal:
            yield length, refusal
        else:
            yield length, _Server(built, runs, kept)


def _score_task(run: _Run, served: _Served) -> Iterator[tuple[Cell, dict[str, _Scored], list[Skipped]]]:
    """For each length, what every predictor that serves it said, with its scores; and the failures."""
    task, servers, n = served.task, served.servers, int(run.n_sequences)
    lengths = [length for length, by_name in servers.items() if by_name]
    if not lengths:
        return
    n_runs = sum(len(server.runs) for by_name in servers.values() for server in by_name.values())
    advance: Advance | None = None
    world, gold = run.drawn_from(task), run.gold_of(task)
    for cell in cells(world, lengths, run.n_sequences, run.seed, gold, run.progress, run.kept_gold):
        advance = advance or run.progress(f"{task.name}: predictors", n * n_runs)  # after the gold's own
        scored, failures = {}, []
        for name, server in servers[cell.length].items():
            try:
                timed = [
                    predict_timed(name, one, task, cell.contexts, cell.theta, advance, server.kept, k)
                    for k, one in enumerate(server.runs)
                ]
            except PredictorError as error:
                failures.append(Skipped(name, run.label(task), cell.length, str(error), FAILED))
                continue
            probs, seconds = np.stack([p for p, _ in timed]), float(np.mean([s for _, s in timed]))
            scored[name] = _Scored(probs, score_cell(cell, probs, is_told(server.built), run.scores), seconds)
        yield cell, scored, failures


@dataclass(frozen=True)
class _Scored:
    """What one predictor said in one cell, by run, and its scores; ``seconds`` are those of one run."""

    probs: Float[np.ndarray, "R N q"]
    scores: Scores
    seconds: float


def _rank_key(result: Result) -> float:
    """Excess KL to ten digits, so that what differs by rounding alone stays in the order it was asked for."""
    return -1.0 if result.excess_kl is None else float(f"{result.excess_kl:.9e}")


def _ties(results: list[Result], scores: dict[str, Any]) -> list[Tie]:
    """Neighbours in one cell's ranking that are not told apart: by chance or within the gold's error."""
    ties = []
    for better, worse in pairwise(result for result in results if result.excess_kl is not None):
        difference = paired_difference(scores[worse.predictor], scores[better.predictor])
        if is_tied(difference, better, worse):
            names = (better.predictor, worse.predictor)
            ties.append(Tie(better.task, better.length, names, difference.mean, difference.interval))
    return ties
