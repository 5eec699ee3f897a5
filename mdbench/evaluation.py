"""Score predictors against gold on sequences from tasks."""

from __future__ import annotations

import html
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from mdbench.baselines import EXACT
from mdbench.device import check_device
from mdbench.errors import InputError, PredictorError, Unsupported, foreign
from mdbench.files import json_ready
from mdbench.gold import check_gold
from mdbench.isolation import Isolated, Limits
from mdbench.predictor import FunctionPredictor, Predictor, check_length, runs_of
from mdbench.registry import BUILT_IN, build_predictor
from mdbench.running import Answers, answers, is_told, may_refuse, name_of, predict_timed
from mdbench.scores import Score, all_scores
from mdbench.scoring import Cell, Progress, Result, Scores, cells, columns, no_progress, paired_difference
from mdbench.statistics import MeanInterval, sequences_to_separate
from mdbench.store import Cache, Store, store
from mdbench.tasks import Task, load_suite, load_task

SCHEMA_VERSION = 1
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
        """The results, one a row."""
        return pd.DataFrame([result.to_dict() for result in self.results])

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

    def _repr_html_(self) -> str:
        """What a notebook shows: scores and notes, as the command prints them."""
        rows = [[r.task, *r.row] for r in self.results]
        return pd.DataFrame(rows, columns=["task", *columns(self.results)]).to_html(index=False) + "".join(
            f"<p>{html.escape(note)}</p>" for note in self.notes
        )


def evaluate(
    predictors: str | Predictor | Sequence[str | Predictor],
    *,
    task: str | Path | Task | Sequence[str | Path | Task] | None = None,
    suite: str | None = None,
    lengths: int | Sequence[int] | None = None,
    n_sequences: int = 1024,
    seed: int = 0,
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
        lengths: context lengths instead of the tasks' or the suite's own.
        n_sequences: sequences a cell; more extend fewer, and all predictors see the same.
        seed: of the sequences.
        device: torch device for predictors that have one.
        references: predictors scored beside the given ones; those that suit the family of each task if None.
        gold: the baseline that excess KL is measured against (default: that of the task's family, ``exact``): an exact
            one, or one that passes its gates on every sequence, such as ``reference`` for orders that exact methods do
            not reach.
        scores: what to score by, by name (default: :data:`mdbench.scores.SCORES` and what other packages bring).
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
    progress, which = progress or default_progress(), all_scores() if scores is None else scores
    cells_of = grid(task, suite, lengths)
    beside = dict.fromkeys(name for t, _ in cells_of for name in t.references) if references is None else references
    everyone, asked = _name_predictors(predictors, list(beside))
    for name in asked:
        if work is not None and not isinstance(everyone[name], str):
            raise InputError(f"'{name}' is an object, and what is kept must have a name: give it as file.py:{name}.")
    for task_, task_lengths in cells_of:
        measure = check_gold(task_, max(task_lengths), gold or task_.gold)
        itself = [name for name in asked if name.partition(":")[0] == measure.name and measure.standing != EXACT]
        if itself:
            raise InputError(
                f"'{itself[0]}' is the gold itself, noise and all; measure it against another, such as exact."
            )
    kept_gold = store(work, cache != "none")

    served: list[tuple[Task, dict[int, dict[str, _Server]], list[Skipped], list[Skipped]]] = []
    for task_, task_lengths in cells_of:
        skipped: list[Skipped] = []
        failed: list[Skipped] = []
        servers: dict[int, dict[str, _Server]] = {length: {} for length in task_lengths}
        for name, predictor in everyone.items():
            if name not in asked and references is None and name not in task_.references:
                continue  # it suits another family
            limits = isolate if name in asked else None
            for length, found in _serve(predictor, task_, task_lengths, device, limits, work, cache):
                if isinstance(found, PredictorError):
                    failed.append(Skipped(name, task_.name, length, str(found), FAILED))
                elif not isinstance(found, Unsupported):
                    servers[length][name] = found
                elif lengths is not None and asked == [name]:
                    raise found
                else:
                    skipped.append(Skipped(name, task_.name, length, str(found), found.label))
        served.append((task_, servers, skipped, failed))
    if not any(by_name or failed for _, servers, _, failed in served for by_name in servers.values()):
        raise InputError(next(s.reason for _, _, skipped, _ in served for s in skipped))

    parts: list[Evaluation] = []
    n_shown = 0
    for task_, servers, skipped, failed in served:
        how = (n_sequences, seed, gold or task_.gold, kept_gold, which, progress)
        parts.append(_evaluate_task(task_, servers, skipped, failed, *how))
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


def _evaluate_task(
    task: Task,
    servers: dict[int, dict[str, _Server]],
    skipped: list[Skipped],
    failed: list[Skipped],
    n_sequences: int,
    seed: int,
    gold: str,
    kept_gold: Store,
    which: Mapping[str, Score],
    progress: Progress,
) -> Evaluation:
    """Every cell of one task."""
    frames, results, ties, predictions = [], [], [], {}
    for cell, scored, failures in _score_task(task, servers, n_sequences, seed, gold, kept_gold, which, progress):
        failed = failed + failures
        found = [cell.summarise(name, s.scores, s.seconds) for name, s in scored.items()]
        ranked = sorted(found, key=_rank_key)
        results += ranked
        ties += _ties(ranked, {name: s.scores.mean_excess_kl for name, s in scored.items()})
        for name, s in scored.items():
            where = {"predictor": name, "task": task.name, "length": cell.length}
            frames.append(s.scores.frame().assign(**where)[[*where, "sequence", *s.scores.values]])
            predictions[name, task.name, cell.length] = s.probs
    built = {name: server.built for by_name in servers.values() for name, server in by_name.items()}
    return Evaluation(
        results,
        skipped,
        failed,
        ties,
        pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(),
        {(name, task.name): one.card for name, one in built.items() if hasattr(one, "card")},
        {name: one.defaults for name, one in built.items() if isinstance(one, Isolated)},
        predictions,
    )


@dataclass(frozen=True)
class Comparison:
    """Two predictors in one cell: mean excess KL of each, and the paired difference a - b over the same sequences.

    ``difference_ci`` is the 95% interval (None where there is none: one sequence, infinite scores). ``verdict`` names
    the better one, or is ``tied``: the interval holds zero, or the difference is within the two errors of the gold.
    ``n_to_separate`` says how many sequences would tell a tied pair apart (with a power of 80%, were the difference
    what it seems); None if they are not tied, or differ by no more than the errors of the gold.
    """

    task: str
    length: int
    n_sequences: int
    a: str
    b: str
    excess_kl_a: float
    excess_kl_b: float
    difference: float
    difference_se: float | None
    difference_ci: tuple[float, float] | None
    gold_error_a: float
    gold_error_b: float
    verdict: str
    n_to_separate: int | None


def compare(a: str | Predictor, b: str | Predictor, **options: Any) -> list[Comparison]:
    """Compare two predictors on the same sequences, cell by cell; ``options`` are those of :func:`evaluate`.

    Raises:
        InputError: as :func:`evaluate`; or no cell has an excess KL of both.
    """
    found = evaluate([a, b], references=(), **options)
    name_a, name_b = name_of(a), name_of(b)
    by_cell: dict[tuple[str, int], dict[str, Result]] = {}
    for result in found.results:
        if result.excess_kl is not None:
            by_cell.setdefault((result.task, result.length), {})[result.predictor] = result
    scores = {
        key: frame["excess_kl"].to_numpy() for key, frame in found.per_sequence.groupby(["task", "length", "predictor"])
    }
    comparisons = []
    for (task, length), results in by_cell.items():
        if len(results) < 2:
            continue
        of_a, of_b = results[name_a], results[name_b]
        excess_a, excess_b = scores[task, length, name_a], scores[task, length, name_b]
        difference = paired_difference(excess_a, excess_b)
        tied = _tied(difference, of_a, of_b)
        open_ = tied and not _within_gold(difference, of_a, of_b)
        comparisons.append(
            Comparison(
                task=task,
                length=length,
                n_sequences=of_a.n_sequences,
                a=name_a,
                b=name_b,
                excess_kl_a=float(excess_a.mean()),
                excess_kl_b=float(excess_b.mean()),
                difference=difference.mean,
                difference_se=difference.se,
                difference_ci=difference.interval,
                gold_error_a=of_a.gold_error or 0.0,
                gold_error_b=of_b.gold_error or 0.0,
                verdict="tied" if tied else name_a if difference.mean < 0 else name_b,
                n_to_separate=sequences_to_separate(difference, of_a.n_sequences) if open_ else None,
            )
        )
    if not comparisons:
        reasons = [skipped.reason for skipped in found.skipped] or ["'oracle' is told θ and has no excess KL."]
        raise InputError(f"'{name_a}' and '{name_b}' have no cell in common: {reasons[0]}")
    return comparisons


def default_progress() -> Progress:
    """A bar in a notebook, nothing elsewhere."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return no_progress
    from tqdm.auto import tqdm

    def start(description: str, total: int) -> Callable[[float], None]:
        return tqdm(desc=description, total=total).update

    return start


def _name_predictors(predictors, references: Sequence[str]) -> tuple[dict[str, str | Predictor], list[str]]:
    """Name -> predictor of all that are to be scored, and the names of those that were asked for."""
    given = [predictors] if isinstance(predictors, str) or not isinstance(predictors, Iterable) else list(predictors)
    if not given:
        raise InputError("give at least one predictor.")
    asked = []
    for p in given:
        if isinstance(p, type) or not (isinstance(p, str) or hasattr(p, "predict") or is_told(p) or callable(p)):
            raise InputError(
                "a predictor is a name, a function from contexts to probabilities or an object with a method "
                f"predict(contexts), not {p!r}."
            )
        asked.append(name_of(p))
        if not isinstance(p, str) and asked[-1] in BUILT_IN:
            raise InputError(f"'{asked[-1]}' is a built-in predictor; give yours another __name__.")
        if asked.count(asked[-1]) > 1:
            raise InputError(f"two predictors are called '{asked[-1]}'; give each once, and a __name__ of its own.")
    plain = [p if isinstance(p, str) or hasattr(p, "predict") or is_told(p) else FunctionPredictor(p) for p in given]
    everyone: dict[str, str | Predictor] = dict(zip(asked, plain, strict=True))
    return everyone | {name: name for name in references if name not in everyone}, asked


def grid(task, suite: str | None, lengths: int | Sequence[int] | None) -> list[tuple[Task, list[int]]]:
    """(task, lengths) of everything to evaluate, checked."""
    if task is not None and suite is not None:
        raise InputError("give a task or a suite, not both.")
    if task is None:
        found = load_suite("core" if suite is None else suite)
        cells = [(load_task(name), found.lengths) for name in found.tasks]
    else:
        tasks = [task] if isinstance(task, (str, Path, Task)) else task
        loaded = [t if isinstance(t, Task) else load_task(t) for t in tasks]
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


@dataclass(frozen=True)
class _Server:
    """A built predictor at one length: what predicts there, one for each training seed, and where answers are kept."""

    built: Any
    runs: Sequence[Any]
    kept: Answers | None


def _serve(
    predictor: str | Predictor,
    task: Task,
    lengths: list[int],
    device: str,
    isolate: Limits | None,
    work: str | Path | None,
    cache: Cache,
) -> Iterator[tuple[int, _Server | Unsupported | PredictorError]]:
    """For each length what predicts there, or why it cannot."""
    kept = None
    try:
        if not isinstance(predictor, str):
            built: Any = predictor
        elif isolate is not None:
            built = Isolated(predictor, task, device, isolate)
        else:
            built = build_predictor(predictor, task, device)
        if isinstance(predictor, str):
            kept = answers(predictor, task, device, work, cache, getattr(built, "defaults", None) if isolate else None)
    except (Unsupported, PredictorError) as refusal:
        yield from ((length, refusal) for length in lengths)
        return
    name, passing = name_of(predictor), may_refuse(predictor)
    for length in lengths:
        try:
            with foreign(f"predictor '{name}' failed when asked for length {length}", Unsupported, *passing):
                check_length(built, length)
                runs = runs_of(built, length)
        except (Unsupported, PredictorError) as refusal:
            yield length, refusal
        else:
            yield length, _Server(built, runs, kept)


def _score_task(
    task: Task,
    servers: dict[int, dict[str, _Server]],
    n: int,
    seed: int,
    gold: str,
    kept_gold: Store,
    which: Mapping[str, Score],
    progress: Progress,
) -> Iterator[tuple[Cell, dict[str, _Scored], list[Skipped]]]:
    """For each length, what every predictor that serves it said, with its scores; and the failures."""
    lengths = [length for length, by_name in servers.items() if by_name]
    if not lengths:
        return
    n_runs = sum(len(server.runs) for by_name in servers.values() for server in by_name.values())
    advance: Callable[[float], None] | None = None
    for cell in cells(task, lengths, n, seed, gold, progress, kept_gold):
        advance = advance or progress(f"{task.name}: predictors", n * n_runs)  # after the gold's own
        scored, failures = {}, []
        for name, server in servers[cell.length].items():
            try:
                timed = [
                    predict_timed(name, run, task, cell.contexts, cell.theta, advance, server.kept, k)
                    for k, run in enumerate(server.runs)
                ]
            except PredictorError as error:
                failures.append(Skipped(name, task.name, cell.length, str(error), FAILED))
                continue
            probs, seconds = np.stack([p for p, _ in timed]), float(np.mean([s for _, s in timed]))
            scored[name] = _Scored(probs, cell.score(probs, is_told(server.built), which), seconds)
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
        if _tied(difference, better, worse):
            names = (better.predictor, worse.predictor)
            ties.append(Tie(better.task, better.length, names, difference.mean, difference.interval))
    return ties


def _tied(difference: MeanInterval, a: Result, b: Result) -> bool:
    """Whether chance or the gold's error could be all there is to a difference."""
    return difference.holds_zero or _within_gold(difference, a, b)


def _within_gold(difference: MeanInterval, a: Result, b: Result) -> bool:
    resolution = (a.gold_error or 0.0) + (b.gold_error or 0.0)
    return math.isfinite(difference.mean) and abs(difference.mean) <= resolution


def as_json(rows: Sequence[Any]) -> str:
    """Dataclasses as JSON text, like :meth:`Evaluation.to_json`."""
    return json.dumps(
        [json_ready(row.to_dict() if isinstance(row, Result) else asdict(row)) for row in rows],
        indent=1,
        allow_nan=False,
    )
