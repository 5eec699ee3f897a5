"""Every posterior method against the exact posterior, and simulation-based calibration of its draws.

Accuracy: errors of the posterior mean of a mixture's weights λ, or, of any other family, of the next-token
probabilities p, held against its closed form or, where it has none, the method that is its gold, whose standard error
counts too; and z-scores (error over stated standard error), which are standard normal if the stated error is right.
Calibration (Talts et al., arXiv 1804.06788): θ from the prior, tokens given θ, draws given the tokens; the rank of each
number of θ among independent draws is then uniform. Beside these the log likelihood is ranked, which sees a method that
does not look at the data (Modrák et al., 2023).

Kolmogorov-Smirnov tests of the z-scores and χ² tests of the ranks, all of one run, are corrected together by Holm's
method. Only methods that may be gold can pass; of the approximations it is shown what they get wrong.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from mdbench.baselines import APPROXIMATE, Baseline, Exact, Posterior
from mdbench.baselines.catalogue import baseline_entries, build_baseline
from mdbench.core.cluster import CellFailure, Cluster, ahead, open_cluster
from mdbench.core.errors import InputError, Unsupported
from mdbench.core.files import as_dicts
from mdbench.core.progress import Advance, Note, Progress, no_progress
from mdbench.core.statistics import holm
from mdbench.core.store import Keep, Store, code_hash, foreign_code, open_store
from mdbench.core.verdict import Verdict
from mdbench.evaluation.gold import check_gold, gold_predictive
from mdbench.tasks import DirichletMixture, Mixture, Stream, Task, as_task, load_suite, sample
from mdbench.tasks.needs import check_fits

LEVEL = 0.01  # of all tests of a run together

RANK_DRAWS = 63  # thinned draws: ranks 0..63

BINS = 16  # of four ranks each

Z_BINS = np.linspace(-4, 4, 17)
CLOSED_FORM = 1e-9  # what an exact method of a family with a closed form may be off by, beyond its own bound


@dataclass(frozen=True)
class Accuracy:
    """One method on one task: errors against exact, over sequences and weights or states.

    ``options`` is the method with the options that were set, ``of`` what errors are of: ``λ`` or ``p``. ``z`` counts
    z-scores in the bins of ``Z_BINS`` (and beyond, at either end); ``z_p`` is the Kolmogorov-Smirnov p-value for each
    weight or state. Both are empty for methods that state no standard error. ``n_beyond_bound`` counts sequences that
    differ from exact by more than the two bounds allow. ``seconds`` include compilation.
    """

    method: str
    standing: str
    options: str
    of: str
    task: str
    length: int
    n_sequences: int
    largest_error: float
    rms_error: float
    largest_sd_error: float | None
    n_failed: int
    n_beyond_bound: int
    seconds: float
    ess_per_second: float | None
    z: tuple[int, ...] = ()
    z_sd: float | None = None
    z_largest: float | None = None
    z_p: tuple[float, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """Simulation-based calibration of one method on one task.

    ``ranks`` counts the simulations in ``BINS`` bins of the rank, for each of ``quantities``; ``p`` are χ² p-values.
    """

    method: str
    standing: str
    options: str
    task: str
    length: int
    n_simulations: int
    n_failed: int
    seconds: float
    quantities: tuple[str, ...]
    ranks: tuple[tuple[int, ...], ...]
    p: tuple[float, ...]


@dataclass(frozen=True)
class Judgement:
    """Of one method on one task: ``pass``, ``fail`` with the reasons, or ``approximate`` with what is wrong."""

    method: str
    task: str
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Validation:
    """What :func:`validate` returns."""

    accuracies: list[Accuracy]
    calibrations: list[Calibration]
    verdicts: list[Judgement]

    @property
    def failures(self) -> list[Judgement]:
        """Methods that may be gold and did not pass."""
        return [verdict for verdict in self.verdicts if verdict.verdict == Verdict.FAIL]

    @property
    def only_calibrated(self) -> list[Calibration]:
        """Of methods that nothing was held against: what is gold itself."""
        held = {(a.method, a.task) for a in self.accuracies}
        return [c for c in self.calibrations if (c.method, c.task) not in held]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; infinities as strings."""
        return {name: as_dicts(rows) for name, rows in vars(self).items()}

    def to_json(self) -> str:
        """:meth:`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1)


def validate(
    *,
    tasks: Sequence[str | Task] | None = None,
    methods: Sequence[str] | None = None,
    length: int = 64,
    n_sequences: int = 256,
    calibration_length: int = 32,
    n_simulations: int = 1000,
    seed: int = 0,
    cache: bool = True,
    cluster: str | Cluster | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Run accuracy and calibration of methods on tasks.

    Args:
        tasks: default: those of the suite ``core``.
        methods: default: all baselines, on each task those that are made for it.
        length: T of the accuracy runs.
        n_sequences: of the accuracy runs.
        calibration_length: T of the calibration runs.
        n_simulations: of the calibration runs.
        seed: of the sequences and of the methods.
        cache: take finished parts from the cache folder: an interrupted run goes on there.
        cluster: where the parts are computed, as :func:`mdbench.evaluate` has it.
        progress: called to show progress.

    Raises:
        InputError: an unknown name, a method that is not made for a task, or a number that cannot be.
    """
    loaded = [as_task(t) for t in tasks or load_suite("core").tasks]
    for task in loaded:
        for at in (length, calibration_length):
            task.check_length(at)
    names = list(methods or [name for name in baseline_entries() if name != "exact"])
    golds = {task: check_gold(task, length, task.gold) for task in loaded}
    for name in names:
        if name == "exact":
            raise InputError(
                "'exact' is what the others are held against; its draws, for calibration, are those of 'urn'."
            )
        baseline = build_baseline(name)
        if ":" in name:
            raise InputError(
                f"validate takes plain names and sets options itself (the report names them), not '{name}'."
            )
        for task in loaded if methods else ():
            for at in (length, calibration_length):
                _check(baseline, task, at)
    if n_sequences < 2 or n_simulations < 5 * BINS:
        raise InputError(f"validate needs at least 2 sequences and {5 * BINS} simulations, 5 for each bin of ranks.")
    parts: list[_Part] = []
    for task in loaded:
        for name in names:
            plain = build_baseline(name)
            try:
                _check(plain, task, length)
            except Unsupported:
                continue
            if name != golds[task].name:  # what all are held against where nothing is exact
                method = replace(plain, **plain.accuracy_options)
                n = min(n_sequences, plain.accuracy_sequences or n_sequences)
                parts.append(_Part(accuracy, method, task, length, n, seed))
            method = replace(plain, **plain.calibration_options)
            if method.n_draws:
                parts.append(_Part(calibration, method, task, calibration_length, n_simulations, seed))
    kept = open_store(cache=cache)
    with open_cluster(cluster) as workers:
        n_ahead = 0 if workers is None else len(parts)
        begin = functools.partial(_begin, kept=kept, cluster=workers, progress=progress or no_progress)
        found = list(ahead(parts, begin, n_ahead, CellFailure))
    accuracies = [each for _, each in found if isinstance(each, Accuracy)]
    calibrations = [each for _, each in found if isinstance(each, Calibration)]
    failures = [
        Judgement(part.method.name, part.task.name, Verdict.FAIL, (f"{part.run.__name__}: {each}",))
        for part, each in found
        if isinstance(each, CellFailure)
    ]
    return Validation(accuracies, calibrations, [*judge(accuracies, calibrations), *failures])


def accuracy(
    method: Baseline[Any],
    task: Task,
    length: int,
    n_sequences: int,
    seed: int,
    progress: Advance | None = None,
) -> Accuracy:
    """Run a method on evaluation sequences and compare its posterior with the exact one.

    Of a family without a closed form, next-token probabilities with those of its gold; both state their errors.
    """
    contexts = sample(task, length, n_sequences, seed).contexts
    started = time.perf_counter()
    posterior = method.posterior(task, contexts, progress=progress)
    seconds = time.perf_counter() - started
    errors = _errors(task, contexts, posterior)
    gates = posterior.checks_made
    ess = next((gate.values for gate in gates if gate.name in ("ess_bulk", "ess") and gate.values is not None), None)
    result = Accuracy(
        method=method.name,
        standing=method.standing,
        options=method.label,
        of=errors.of,
        task=task.name,
        length=length,
        n_sequences=n_sequences,
        largest_error=float(np.abs(errors.error).max()),
        rms_error=float(np.sqrt((errors.error**2).mean())),
        largest_sd_error=errors.largest_sd_error,
        n_failed=int(posterior.failed.sum()),
        n_beyond_bound=errors.n_beyond_bound,
        seconds=seconds,
        ess_per_second=None if ess is None else float(np.nansum(ess) / seconds),
    )
    if errors.stated is None:
        return result
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.nan_to_num(errors.error / errors.stated, nan=np.inf)  # no stated error at all: infinitely far off
    edges = np.concatenate([[-np.inf], Z_BINS[1:-1], [np.inf]])
    return replace(
        result,
        z=tuple(int(count) for count in np.histogram(np.clip(z, -1e300, 1e300), edges)[0]),
        z_sd=float(np.sqrt((np.clip(z, -1e100, 1e100) ** 2).mean())),
        z_largest=float(np.abs(z).max()),
        z_p=tuple(float(stats.kstest(column, "norm").pvalue) for column in z.T),
    )


class _Errors(NamedTuple):
    """Errors (N, k) of k weights or states, and the standard errors that the method states, if it states any."""

    of: str
    error: Float[np.ndarray, "N k"]
    stated: Float[np.ndarray, "N k"] | None
    largest_sd_error: float | None = None
    n_beyond_bound: int = 0


def _errors(task: Task, contexts: Int[np.ndarray, "N T"], posterior: Posterior) -> _Errors:
    if not isinstance(task, DirichletMixture):
        gold = gold_predictive(task, contexts, [contexts.shape[1]], task.gold)
        stated = None
        if posterior.next_token_se is not None:
            stated = np.hypot(posterior.next_token_se[:, 0], gold.standard_error[:, 0])
        predictive = posterior.predictive(task, contexts)
        error = predictive.probs[:, 0] - gold.probs[:, 0]
        beyond = int((np.abs(error).max(axis=1) > predictive.bound[:, 0] + CLOSED_FORM).sum())
        bounded = stated is None and not gold.standard_error.any()
        return _Errors("p", error, stated, n_beyond_bound=beyond if bounded else 0)
    exact = Exact().posterior(task, contexts)
    error = posterior.mean[:, 0] - exact.mean[:, 0]
    sd_error = float(np.abs(posterior.sd - exact.sd).max())
    n_beyond = 0
    if posterior.error is not None:
        n_beyond = int((np.abs(error).max(axis=1) > posterior.error + _known(exact.error)).sum())
    return _Errors("λ", error, None if posterior.mean_se is None else posterior.mean_se[:, 0], sd_error, n_beyond)


def calibration(
    method: Baseline[Any],
    task: Task,
    length: int,
    n_simulations: int,
    seed: int,
    progress: Advance | None = None,
) -> Calibration:
    """Simulation-based calibration of a method's draws."""
    # The calibration stream: sequences that no accuracy run and no score has seen.
    drawn = sample(task, length, n_simulations, seed, stream=Stream.CALIBRATION)
    contexts = drawn.contexts
    started = time.perf_counter()
    posterior = method.posterior(task, contexts, progress=progress)
    seconds = time.perf_counter() - started
    draws = thinned(posterior)  # (L, N, k)
    true = drawn.theta.reshape(n_simulations, -1)
    symbol = "λ" if isinstance(task, Mixture) else task.theta
    quantities = [(f"{symbol}_{g + 1}", true[:, g], draws[..., g]) for g in range(true.shape[1])]
    quantities.append(("log likelihood", log_likelihood(task, true, contexts), log_likelihood(task, draws, contexts)))
    ranks = {label: rank(value, among, seed) for label, value, among in quantities}
    counts = {label: np.bincount(r * BINS // (RANK_DRAWS + 1), minlength=BINS) for label, r in ranks.items()}
    return Calibration(
        method=method.name,
        standing=method.standing,
        options=method.label,
        task=task.name,
        length=length,
        n_simulations=n_simulations,
        n_failed=int(posterior.failed.sum()),
        seconds=seconds,
        quantities=tuple(counts),
        ranks=tuple(tuple(int(k) for k in count) for count in counts.values()),
        p=tuple(float(stats.chisquare(count).pvalue) for count in counts.values()),
    )


def log_likelihood(
    task: Task, theta: Float[np.ndarray, "... N k"], contexts: Int[np.ndarray, "N T"]
) -> Float[np.ndarray, "... N"]:
    """Log p(y_{given+1}..y_T | θ, the given tokens) in nats, θ's numbers in a row."""
    if isinstance(task, Mixture):
        return np.log(np.einsum("ntg,...ng->...nt", task.likelihoods(contexts), theta)).sum(axis=-1)
    shaped = theta.reshape(-1, len(contexts), *task.prior_mean.shape)  # (draws, N, ...)
    total, rows = np.zeros(shaped.shape[:2]), np.arange(len(contexts))
    for t in range(task.given, contexts.shape[1]):
        for of_draw, weights in zip(total, shaped, strict=True):
            of_draw += np.log(task.truth(weights, contexts[:, :t])[rows, contexts[:, t]])
    return total.reshape(theta.shape[:-1])


def thinned(posterior: Posterior) -> Float[np.ndarray, "L N m"]:
    """``RANK_DRAWS`` draws for each sequence, as far apart in the chains as possible."""
    if posterior.draws is None:
        raise InputError(f"'{posterior.method}' has no draws to calibrate.")
    weights = posterior.draws.weights[..., 0, :]  # (C, D, N, m)
    flat = weights.reshape(-1, *weights.shape[2:])
    if len(flat) < RANK_DRAWS:
        raise InputError(f"calibration needs {RANK_DRAWS} draws, but '{posterior.method}' has {len(flat)}.")
    return flat[np.linspace(0, len(flat) - 1, RANK_DRAWS).round().astype(int)]


def rank(true: Float[np.ndarray, " N"], draws: Float[np.ndarray, "L N"], seed: int) -> Int[np.ndarray, " N"]:
    """How many draws are below the true value; among equal ones a random place."""
    below, equal = (draws < true).sum(axis=0), (draws == true).sum(axis=0)
    return below + np.random.default_rng(seed).integers(0, equal + 1)


def judge(accuracies: Sequence[Accuracy], calibrations: Sequence[Calibration]) -> list[Judgement]:
    """A verdict for each method and task, all tests together at ``LEVEL``."""
    tests: dict[tuple[str, str, str], float] = {}
    for a in accuracies:
        for g, p in enumerate(a.z_p, start=1):
            tests[a.method, a.task, f"z-scores of {a.of}_{g}"] = p
    for c in calibrations:
        for quantity, p in zip(c.quantities, c.p, strict=True):
            tests[c.method, c.task, f"ranks of {quantity}"] = p
    # Approximations are not on trial: more tests would only weaken the correction for the others.
    rows: list[Accuracy | Calibration] = [*accuracies, *calibrations]
    approximate = {row.method for row in rows if row.standing == APPROXIMATE}
    on_trial = {key: p for key, p in tests.items() if key[0] not in approximate}
    corrected = dict(zip(on_trial, holm(list(on_trial.values())), strict=True))
    verdicts = []
    for method, task in dict.fromkeys((row.method, row.task) for row in rows):
        mine = {key[2]: p for key, p in tests.items() if key[:2] == (method, task)}
        if method in approximate:
            reasons = tuple(f"{what}: p = {p:.1g}" for what, p in mine.items() if p < LEVEL)
            verdicts.append(Judgement(method, task, Verdict.APPROXIMATE, reasons))
            continue
        by_what = {what: corrected[method, task, what] for what in mine}
        reasons = tuple(f"{what}: corrected p = {p:.1g}" for what, p in by_what.items() if p < LEVEL)
        for row in rows:
            if (row.method, row.task) == (method, task) and row.n_failed:
                kind = "accuracy" if isinstance(row, Accuracy) else "calibration"
                reasons += (f"{row.n_failed} sequences of the {kind} run fail their gates",)
            if (row.method, row.task) == (method, task) and isinstance(row, Accuracy) and row.n_beyond_bound:
                reasons += (f"{row.n_beyond_bound} sequences are further from exact than the bounds allow",)
        verdicts.append(Judgement(method, task, Verdict.FAIL if reasons else Verdict.PASS, reasons))
    return verdicts


def _known(error: Float[np.ndarray, " B"] | None) -> Float[np.ndarray, " B"]:
    assert error is not None, "exact methods bound their error"
    return error


def _check(method: Baseline[Any], task: Task, length: int) -> None:
    """Raise unless it is made for that, itself: a closed form that would stand in for it is what it is held against."""
    check_fits(method.name, method.posterior, task)
    method.check_size(task, length)


class _Part(NamedTuple):
    """One method on one task: ``run`` is :func:`accuracy` or :func:`calibration`."""

    run: Callable[..., Accuracy | Calibration]
    method: Baseline[Any]
    task: Task
    length: int
    n: int
    seed: int


def _begin(
    part: _Part, kept: Store, cluster: Cluster | None, progress: Progress
) -> Callable[[], Accuracy | Calibration]:
    """What waits for a part, as it is kept if it is there."""
    run, method, task, length, n, seed = part
    advance = progress(f"{task.name}: {run.__name__} of {method.name}", n)
    key = {
        "run": run.__name__,
        "task": task.task_hash,
        "method": method.label,
        "numbers": [length, n, seed, RANK_DRAWS, BINS],
        "code": code_hash("mdbench.core", "mdbench.tasks", "mdbench.baselines", "mdbench.posteriors"),
        "foreign code": foreign_code(task, method),
    }

    def elsewhere(note: Note, keep: Keep[dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        assert cluster is not None
        return cluster.begin(compute, part, total=n, advance=advance, note=note, keep=keep)

    there = functools.partial(advance, n)
    begun = kept.begin_json(
        "validation", key, functools.partial(compute, part, advance), there, elsewhere if cluster else None
    )

    def wait() -> Accuracy | Calibration:
        plain = begun()
        kind = Accuracy if run is accuracy else Calibration
        return kind(**{name: _tuples(value) for name, value in plain.items()} | {"task": task.name})

    return wait


def compute(part: _Part, advance: Advance) -> dict[str, Any]:
    """A part, as JSON can hold it."""
    return asdict(part.run(*part[1:], advance))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def band(n: int) -> tuple[float, float]:
    """Between which counts all bins of a calibrated rank histogram lie with 99% probability (Bonferroni)."""
    low, high = stats.binom.interval(1 - LEVEL / BINS, n, 1 / BINS)
    return float(low), float(high)
