"""What is tuned on calibration sequences: step sizes (docs/mathematics.md, section 3), scalars of constructions.

Those of the built-in tasks stand in ``tuned.json`` beside this file (``mdbench tune`` makes them anew). For any other
task or length they are tuned at first use and kept in the user's cache folder (``MDBENCH_CACHE`` names another), one
small file each. Both are found by task hash.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdbench.algorithms import learned_steps
from mdbench.algorithms.fitting import fit, fit_positive, kl, lag_rows, mix
from mdbench.algorithms.learned_steps import EVIDENCE, KINDS, POSITION, STEP, learned
from mdbench.algorithms.mirror_descent import (
    ADAPTIVE,
    ADAPTIVE_TUNED,
    MATRIX,
    adaptive_constants,
    adaptive_step,
    check_steps,
    descend_evenly,
)
from mdbench.algorithms.reweighting import STAGES, around, reweighted, start, with_sink
from mdbench.algorithms.token_weighting import one_step_weights, token_weighted
from mdbench.baselines.catalogue import build_baseline
from mdbench.core import metrics
from mdbench.core.errors import InputError
from mdbench.core.files import cache_folder, check_writable, make_folder, write_text
from mdbench.core.progress import Progress, no_progress
from mdbench.tasks import MTD, DirichletMixture, load_suite, load_task, suite_names, task_names
from mdbench.tasks.mixture import tokens_before

VERSION = 4  # raised when another way of tuning makes cached values stale

N_CALIBRATION, SEED = 2048, 0

HIGHEST_QUICK_ORDER = 4  # above it `exact` takes a good part of a second a sequence and more

MOST_LEARNED = 20  # steps: each has numbers of its own

FEWER = 256  # sequences there, by `reference`

STARTS = 2  # of the search for scalars around those that are derived, and around those that are known already

SPREAD, NEAR = 3.0, 0.5  # standard deviations of these

SHIPPED = Path(__file__).parent / "tuned.json"

log = logging.getLogger(__name__)


ETA, SCALARS = "eta", "scalars"


class Wanted(NamedTuple):
    """What to tune: η of ``number`` steps, scalars of ``number`` layers or of learned steps, a and b of one step."""

    kind: str  # ETA, SCALARS, ADAPTIVE, MATRIX or one of KINDS
    number: int

    def __str__(self) -> str:
        return {
            ETA: f"η for {self.number} steps",
            SCALARS: f"the scalars of {self.number} layers",
            **{kind: f"the sizes by {sizes} of {self.number} steps" for sizes, kind in KINDS.items()},
        }.get(self.kind, f"a and b of the {self.kind} step")


LEARNED = [  # of md_learned, what is shipped
    *(Wanted(KINDS[STEP], steps) for steps in (2, 5)),  # of one step it is η
    *(Wanted(KINDS[sizes], steps) for sizes in (POSITION, EVIDENCE) for steps in (1, 2, 5)),
]


def tuned_step_size(task: DirichletMixture, steps: int, length: int) -> float:
    """η shared by that many steps at this length."""
    return float(tuned(task, Wanted(ETA, steps), length))


def tuned_scalars(task: DirichletMixture, depth: int, length: int) -> list[float]:
    """The scalars of the constructed transformer of that many layers at this length."""
    return list(tuned(task, Wanted(SCALARS, depth), length))


def tuned_constants(task: DirichletMixture, kind: str, length: int) -> list[float]:
    """The constants a and b of one ``adaptive`` or ``matrix`` step at this length."""
    return list(tuned(task, Wanted(kind, 1), length))


def learned_scalars(task: DirichletMixture, sizes: str, steps: int, length: int) -> list[float]:
    """Those of :func:`mdbench.algorithms.learned_steps.learned`; by position they are the same at every length."""
    return list(tuned(task, Wanted(KINDS[sizes], steps), max(task.lengths) if sizes == POSITION else length))


@functools.lru_cache(maxsize=256)
def tuned(task: DirichletMixture, wanted: Wanted, length: int) -> Any:
    """The stored value, tuned now if nobody did before."""
    value = shipped_value(task, wanted, length)
    if value is not None:
        return value
    path = cache_file(task, wanted, length)
    try:
        return json.loads(path.read_text(encoding="utf-8"))[wanted.kind]
    except FileNotFoundError:
        log.info("%s, T = %d: tuning %s ...", task.name, length, wanted)
    except (OSError, ValueError, TypeError, KeyError):
        log.warning("'%s' is damaged; tuning %s anew ...", path, wanted)
    value = tune_one(task, wanted, length)
    try:
        cache(task, wanted, length, value)
    except InputError as error:
        log.warning("%s It is tuned again next time.", error)
    return value


def shipped_value(task: DirichletMixture, wanted: Wanted, length: int) -> Any:
    """What ``tuned.json`` has; None where it has nothing."""
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8")) if SHIPPED.exists() else {}
    return shipped.get(task.task_hash, {}).get(wanted.kind, {}).get(str(wanted.number), {}).get(str(length))


def tune_one(task: DirichletMixture, wanted: Wanted, length: int) -> Any:
    """Tune it anew."""
    if wanted.kind == ETA:
        return tune_step_size(task, wanted.number, length)
    if wanted.kind == SCALARS:
        return tune_scalars(task, wanted.number, length)
    for sizes, kind in KINDS.items():
        if wanted.kind == kind:
            return tune_learned(task, sizes, wanted.number, length)
    return tune_constants(task, wanted.kind, length)


def tune_step_size(task: DirichletMixture, steps: int, length: int) -> float:
    """The one η, shared by all steps, that minimises mean KL(p_B ‖ p̂) over the calibration sequences."""
    check_steps(steps)
    x, contexts, bayes = _calibration(task, length)

    def excess_kl(eta: float) -> float:
        weights = descend_evenly(x, eta, steps)
        return float(metrics.kl(bayes, task.truth(weights, contexts)).mean())

    # From a hundredth of `smooth` to 10, beyond which one step already picks a single lag.
    smooth = 1 / ((length - task.given) * task.n_components**2)
    eta = fit_positive(excess_kl, smooth / 100, 10.0)
    if eta is None:
        raise InputError(
            f"task '{task.name}', length {length}: no step size has a finite excess KL; give eta a number."
        )
    return eta


def tune_scalars(task: DirichletMixture, depth: int, length: int) -> list[float]:
    """The scalars that minimise mean KL(p_B ‖ p̂) over the calibration sequences, from several starts.

    Of three layers those of :mod:`mdbench.algorithms.token_weighting`; the paper's have a step size alone.
    """
    if depth == 3:
        return _tune_token_weights(task, length)
    if STAGES.get(depth, "") == "":
        known = ", ".join(map(str, STAGES))
        raise InputError(f"there are constructions with scalars of {known} layers, not {depth}.")
    stages, m = STAGES[depth], task.n_components
    x = _calibration(task, length)[0]
    n, rng = length - task.given, np.random.default_rng(SEED)
    derived = start(stages, m, tuned_step_size(task, 1, length) * m * n)
    starts = [derived, with_sink(derived, n), *around(derived, n, SPREAD, STARTS, rng)]
    known = shipped_value(task, Wanted(SCALARS, depth), length)
    if known is not None:  # none gets worse
        starts += [np.array(known), with_sink(np.array(known), n), *around(np.array(known), n, NEAR, STARTS, rng)]
    best = _fitted(task, length, f"no scalars of {depth} layers have", reweighted, stages, starts, x).tolist()
    if known is None:
        return best
    return min((best, known), key=lambda scalars: held_out(task, stages, scalars, length))  # many fit noise, too


def held_out(task: DirichletMixture, stages: str, scalars: Sequence[float], length: int) -> float:
    """Mean excess KL of scalars on as many sequences more of the calibration stream: nothing is fitted to these."""
    x, contexts, bayes = _calibration(task, length, start=N_CALIBRATION)
    weights = np.asarray(reweighted(jnp.asarray(x), jnp.asarray(scalars), stages))
    return float(metrics.kl(bayes, task.truth(weights, contexts)).mean())


def tune_constants(task: DirichletMixture, kind: str, length: int) -> list[float]:
    """The positive a and b that minimise mean KL(p_B ‖ p̂) over the calibration sequences, from where theory has them.

    Of ``matrix`` from two starts: information of each transition as it is, and as it counts in the isotropic step.
    """
    x = _calibration(task, length)[0]
    a, b = adaptive_constants(task.n_components, task.concentration)
    starts = [np.log([a, max(start, 1.0)]) for start in ((b, task.n_components) if kind == MATRIX else (b,))]
    return np.exp(_fitted(task, length, f"no {kind} step has", _step_by_logs, kind == MATRIX, starts, x)).tolist()


def tune_learned(task: DirichletMixture, sizes: str, steps: int, length: int) -> list[float]:
    """The scalars of learned steps, from where all steps are alike; by position those of all the task's own lengths."""
    check_steps(steps, MOST_LEARNED)
    eta = tuned_step_size(task, steps, length)
    a, b = adaptive_constants(task.n_components, task.concentration)
    scale = tuned_step_size(task, 1, length) / eta  # one of several steps is shorter
    start = learned_steps.start(sizes, steps, eta, length - task.given, (a * scale, max(b, 1.0) * scale))
    if sizes != POSITION:
        x = _calibration(task, length)[0]
        return _fitted(task, length, f"no sizes by {sizes} have", learned, sizes, [start], x).tolist()
    data: list[Any] = []
    for each in task.lengths:
        x, contexts, bayes = _calibration(task, each)
        data += [jnp.asarray(x), lag_rows(task, contexts), jnp.asarray(bayes)]
    best = fit(_excess_kl_of_lengths, [start], *data)
    if best is None:
        raise InputError(f"task '{task.name}': no sizes by {sizes} have a finite excess KL.")
    return best.tolist()


def _excess_kl_of_lengths(scalars: Array, *data: Array) -> Float[Array, ""]:
    """The geometric mean over lengths of the mean KL(p_B ‖ p̂), of sizes by position."""
    logs = [
        jnp.log(kl(bayes, mix(learned(x, scalars, POSITION), rows)).mean())
        for x, rows, bayes in zip(data[::3], data[1::3], data[2::3], strict=True)
    ]
    return jnp.exp(sum(logs) / len(logs))


def _step_by_logs(x: Float[Array, "N n m"], logarithms: Float[Array, " 2"], matrix: bool) -> Float[Array, "N m"]:
    """With positive constants."""
    return adaptive_step(x, jnp.exp(logarithms), matrix)


def _tune_token_weights(task: DirichletMixture, length: int) -> list[float]:
    if not isinstance(task, MTD):
        raise InputError(
            f"three layers with token weights are of a task with one transition matrix, not '{task.name}'."
        )
    contexts = _calibration(task, length)[1]
    beta = tuned_step_size(task, 1, length) * task.order * (length - task.order)
    lagged = tokens_before(contexts, task.order, np.arange(task.order, length))
    starts = [one_step_weights(task.transition, beta)]
    known = shipped_value(task, Wanted(SCALARS, 3), length)
    starts += [np.array(known)] if known is not None else []
    data = lagged, contexts[:, task.order :]
    return _fitted(task, length, "no token weights have", token_weighted, task.n_states, starts, *data).tolist()


def _fitted(
    task: DirichletMixture,
    length: int,
    none: str,
    estimate: Callable[..., Float[Array, "N m"]],
    option: Any,
    starts: Iterable[Float[np.ndarray, " k"]],
    *data: np.ndarray,
) -> Float[np.ndarray, " k"]:
    """Scalars with which ``estimate(*data, scalars, option)`` has the least mean KL(p_B ‖ p̂), from several starts."""
    _, contexts, bayes = _calibration(task, length)
    best = fit(
        _excess_kl(estimate, option), starts, *map(jnp.asarray, data), lag_rows(task, contexts), jnp.asarray(bayes)
    )
    if best is None:
        raise InputError(f"task '{task.name}', length {length}: {none} a finite excess KL.")
    return best


@functools.lru_cache
def _excess_kl(estimate: Callable[..., Float[Array, "N m"]], option: Any) -> Callable[..., Float[Array, ""]]:
    """One object for each, since it is compiled once for each."""

    def mean_kl(scalars: Array, *given: Array) -> Float[Array, ""]:
        *data, rows, bayes = given
        return kl(bayes, mix(estimate(*data, scalars, option), rows)).mean()

    return mean_kl


def tune(
    task: DirichletMixture, lengths: Iterable[int], wanted: Iterable[Wanted], done: Callable[[int], None]
) -> dict[tuple[Wanted, int], Any]:
    """Tune each of ``wanted`` anew at every length; ``done(1)`` is called after each."""
    values = {}
    for length in lengths:
        for what in wanted:
            if what.kind != KINDS[POSITION] or length == max(task.lengths):  # of all lengths at once
                values[what, length] = tune_one(task, what, length)
            done(1)
    return values


@dataclass(frozen=True)
class Tuned:
    """One tuned value of a task at one length."""

    task: str
    length: int
    wanted: Wanted
    value: Any

    @property
    def predictor(self) -> str:
        """The name of what takes it."""
        kind, number = self.wanted
        if kind == ETA:
            return f"md{number}"
        if kind == SCALARS:
            return "constructed_l3_adaptive" if number == 3 else f"constructed_l{number}"
        if kind in KINDS.values():
            return f"md_learned:steps={number},sizes={kind.removeprefix('learned_')}"
        return f"md:steps=1,eta={ADAPTIVE_TUNED if kind == ADAPTIVE else kind}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        number = "depth" if self.wanted.kind == SCALARS else "steps"
        return {
            "task": self.task,
            "length": self.length,
            number: self.wanted.number,
            self.wanted.kind: self.value,
        }


def tune_tasks(
    names: Sequence[str] | None,
    lengths: Sequence[int] | None,
    wanted: Sequence[Wanted],
    table: Path | None,
    progress: Progress = no_progress,
) -> Iterator[Tuned]:
    """Tune anew and keep what was found: in a table or where it is looked up (the shipped table, or the cache folder).

    Args:
        names: of tasks or task files; of a mixture with a Dirichlet prior; all built-in ones if None.
        lengths: if None those of its suites for a built-in task, a task's own for others.
        wanted: what to tune.
        table: a file like the shipped one.
        progress: called to show progress.

    Raises:
        InputError: a task without Dirichlet weights, a length that cannot be, or a table that cannot be written.
    """
    built_in = [name for name in task_names() if isinstance(load_task(name), DirichletMixture)]
    chosen = list(names or built_in)
    if table is None and set(chosen) <= set(built_in):
        table = SHIPPED
    if table is not None:
        check_writable(table)
    suites = [load_suite(name) for name in suite_names()]
    for name in chosen:
        task = load_task(name)
        if not isinstance(task, DirichletMixture):
            raise InputError(f"tuned numbers are of {DirichletMixture.kind}; '{name}' is {task.kind}.")
        of_suites = sorted({length for suite in suites if name in suite.tasks for length in suite.lengths})
        at = list(lengths or of_suites or task.lengths)
        for length in at:
            task.check_length(length)
        values = tune(task, at, wanted, progress(f"{task.name}: tuned values", len(at) * len(wanted)))
        if table is not None:
            store(table, task, values)
        for (what, length), value in values.items():
            if table is None:
                cache(task, what, length, value)
            yield Tuned(task.name, length, what, value)


def store(path: Path, task: DirichletMixture, values: dict[tuple[Wanted, int], Any]) -> None:
    """Add what was tuned to a table such as the shipped one."""
    try:
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        entry = table.setdefault(task.task_hash, {"task": task.name, "n_calibration": N_CALIBRATION})
        for (what, length), value in values.items():
            of_kind = entry.setdefault(what.kind, {})
            by_length = of_kind.setdefault(str(what.number), {}) | {str(length): value}
            of_kind[str(what.number)] = dict(sorted(by_length.items(), key=lambda item: int(item[0])))
    except (ValueError, AttributeError, TypeError, KeyError):
        raise InputError(f"'{path}' is not a table of tuned values; name another file or remove it.") from None
    write_text(path, json.dumps(table, indent=1) + "\n")


def cache(task: DirichletMixture, wanted: Wanted, length: int, value: Any) -> None:
    """Keep a tuned value for the next process."""
    path = cache_file(task, wanted, length)
    make_folder(path.parent)
    content = {"task": task.name, "number": wanted.number, "length": length, wanted.kind: value}
    write_text(path, json.dumps(content) + "\n")


def cache_file(task: DirichletMixture, wanted: Wanted, length: int) -> Path:
    """Where a tuned value of a task that is not built in is kept."""
    name = f"v{VERSION}-n{N_CALIBRATION}-{task.task_hash}-{wanted.kind}{wanted.number}-T{length}.json"
    return cache_folder() / "tuned" / name


def calibration_contexts(task: DirichletMixture, length: int, start: int = 0) -> Int[np.ndarray, "N T"]:
    """The sequences that everything is tuned on, and nothing is evaluated on; from ``start`` on."""
    from mdbench.tasks import Stream, sample  # NumPyro, which a table of tuned numbers does without

    return sample(task, length, N_CALIBRATION, SEED, stream=Stream.CALIBRATION, start=start).contexts


@functools.lru_cache(maxsize=4)
def _calibration(
    task: DirichletMixture, length: int, start: int = 0
) -> tuple[Float[np.ndarray, "N n m"], Int[np.ndarray, "N T"], Float[np.ndarray, "N q"]]:
    """(lag likelihoods, contexts, p_B) of the calibration sequences."""
    contexts = calibration_contexts(task, length, start)
    baseline = build_baseline("exact")
    try:
        if task.n_components > HIGHEST_QUICK_ORDER:
            raise InputError("exact takes too long for so many sequences.")
        baseline.check(task, length)
    except InputError:
        contexts = contexts[:FEWER]
        log.info("%s, T = %d: calibrating on %d sequences by `reference` ...", task.name, length, FEWER)
        baseline = build_baseline("reference", standard_error=1e-2)  # its noise does not depend on the step size
    bayes = baseline.next_token(task, contexts)
    return task.likelihoods(contexts), contexts, bayes
