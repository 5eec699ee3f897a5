"""The predictor contract (:mod:`mdbench.predictors.predictor`) as checks that anyone can run: ``mdbench check``.

Every check says what was expected and, where it fails, shows the smallest example. Contexts are those of the task, one
constant context for each state, and one that runs through the states; of each length in turn.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from scipy import stats

from mdbench.core.device import check_device
from mdbench.core.errors import InputError, PredictorError, Unsupported, foreign, reason_of
from mdbench.core.files import as_dicts
from mdbench.core.progress import Advance, no_advance
from mdbench.core.verdict import Verdict
from mdbench.evaluation.cell import cells
from mdbench.evaluation.isolation import Isolated, Limits
from mdbench.predictors.catalogue import as_predictor, is_built_in
from mdbench.predictors.predictor import (
    SUM_TOLERANCE,
    Given,
    Parts,
    check_length,
    check_output,
    name_of,
    runs_of,
    to_numpy,
)
from mdbench.tasks import N_PUBLIC, PUBLIC_SEED, Recorded, Task, as_task, built_in_like, sample

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}  # absolute, on probabilities

CONTEXTS, SEED = 24, 1  # drawn for the checks of one length
OTHERS_SEED, MANY_SEED, ORDER_SEED = 2, 3, 0  # of contexts beside them, of many, of orders and names of states

MANY = 256  # contexts, as many as `evaluate` gives at a time

SLOW = 2e-3  # seconds a sequence

LARGEST_ERROR = 0.05  # that may be declared: a tolerance of more than six times that holds for anything

FIXED = "(One whose numbers belong to one task declares fixed_to_task = True.)"

EXACT_SUM = 1e-9  # how near to one rows sum that were not rounded, or were divided by their sum afterwards
LEVEL = 1e-6  # of the test for memorised answers: it is run on every predictor


@dataclass(frozen=True)
class Check:
    """One clause of the contract at one task: what was expected, and what was found where it is not so."""

    name: str
    expected: str
    verdict: Verdict
    found: str


class Checks(list[Check]):
    """The clauses in their order; in a notebook, a table."""

    def _repr_html_(self) -> str:
        return pd.DataFrame(as_dicts(self)).to_html(index=False)


class _Broken(Exception):
    """A clause does not hold; the message is the smallest example."""


class _NotApplicable(Exception):
    """A clause says nothing about this predictor; the message says why."""


def check(
    predictor: Given,
    task: str | Task = "mtd-q3-m2",
    lengths: Sequence[int] | None = None,
    *,
    device: str = "cpu",
    limits: Limits | None = None,
    progress: Advance = no_advance,
) -> Checks:
    """Hold a predictor to its contract.

    What is not built in, and has a name, is never run here: all that is held to the contract is what it says in a
    process of its own, within limits. If it ends that process, hangs or fails there, that is what is reported; nothing
    else is tried.

    Args:
        predictor: a name, a function from contexts to probabilities, or an object with ``predict``. What has no name
            cannot be built anew: the checks that need that do not apply to it.
        task: the task, or its name.
        lengths: context lengths; the task's own if none. Those that the predictor says it cannot do are left out.
        device: torch device for predictors that have one.
        limits: for its process.
        progress: called with 1 after each check.

    Raises:
        InputError: bad arguments, what it declares among them, or no length that the predictor serves.
        PredictorError: it cannot be built.
    """
    loaded = as_task(task)
    check_device(device)
    there: dict[int, np.ndarray] | PredictorError | None = None
    isolated = isinstance(predictor, str) and not is_built_in(predictor)
    if isinstance(predictor, str):
        there = _in_a_fresh_process(predictor, loaded, lengths, device, limits)
        if isinstance(there, PredictorError) and isolated:
            return _only_failed("fresh process", str(there), progress)

    def build(of_task: Task) -> Any:
        return (
            Isolated(str(predictor), of_task, device, limits) if isolated else as_predictor(predictor, of_task, device)
        )

    with foreign(f"predictor '{name_of(predictor)}' failed", InputError):
        subject = _Subject.of(predictor, build, loaded, lengths, there)
    checks = Checks()
    ended_in = ""  # the clause in which its process ended
    for name, (expected, clause) in CLAUSES.items():
        try:
            if ended_in:
                raise _NotApplicable(f"mend '{ended_in}' first")
            found, verdict = clause(subject) or "", Verdict.PASS
        except _NotApplicable as why:
            found, verdict = str(why), Verdict.NOT_APPLICABLE
        except _Broken as broken:
            found, verdict = str(broken), Verdict.FAIL
        except Unsupported as refusal:
            found, verdict = f"refused although it said it could: {refusal}", Verdict.FAIL
        except SystemExit as error:
            found, verdict = f"called sys.exit({error.code!r})", Verdict.FAIL
        except Exception as error:
            found, verdict = f"raised {reason_of(error)}", Verdict.FAIL
        checks.append(Check(name, expected.format(tolerance=subject.tolerance), verdict, found))
        if isinstance(subject.built, Isolated) and subject.built.ended_by is not None:
            ended_in = ended_in or name
        progress(1)
    return checks


def _in_a_fresh_process(
    text: str, task: Task, lengths: Sequence[int] | None, device: str, limits: Limits | None
) -> dict[int, np.ndarray] | PredictorError:
    """What it says there of the contexts of each length that it serves, or how it failed."""
    there = {}
    try:
        isolated = Isolated(text, task, device, limits)
        try:
            for length in lengths or task.lengths:
                task.check_length(length)
                try:
                    isolated.check_length(length)
                except Unsupported:
                    continue
                there[length] = to_numpy(isolated.predict(_contexts(task, length))).astype(np.float64)
        finally:
            isolated.close()
    except PredictorError as error:
        return error
    return there


def _only_failed(name: str, what: str, progress: Advance) -> Checks:
    """That clause fails; the others wait for it."""
    progress(len(CLAUSES))
    checks = Checks()
    for clause, (expected, _) in CLAUSES.items():
        verdict, found = (Verdict.FAIL, what) if clause == name else (Verdict.NOT_APPLICABLE, f"mend '{name}' first")
        checks.append(Check(clause, expected.format(tolerance=TOLERANCE["float64"]), verdict, found))
    return checks


@dataclass(frozen=True)
class _Subject:
    """The predictor, and contexts for it by length."""

    name: str
    text: str | None  # what builds it anew
    built: Any
    build: Callable[[Task], Any]  # anew, for any task
    task: Task
    contexts: dict[int, Int[np.ndarray, "N T"]]  # shortest first
    there: dict[int, np.ndarray] | PredictorError | None  # what it said in a fresh process
    tolerance: float  # how far two predictions for one context may be apart
    first: dict[int, np.ndarray] = field(default_factory=dict)  # by length: what it said when first asked

    @classmethod
    def of(
        cls,
        predictor: Any,
        build: Callable[[Task], Any],
        task: Task,
        lengths: Sequence[int] | None,
        there: dict[int, np.ndarray] | PredictorError | None,
    ) -> _Subject:
        text = predictor if isinstance(predictor, str) else None
        built = build(task)
        parts = Parts.of(built)
        if parts.told:
            raise InputError(f"'{name_of(predictor)}' is told θ and not a predictor of contexts.")
        refusals = []
        contexts = {}
        for length in sorted(set(lengths or task.lengths)):
            task.check_length(length)
            try:
                check_length(built, length)
                contexts[length] = _contexts(task, length)
            except Unsupported as refusal:
                refusals.append(str(refusal))
        if not contexts:
            raise InputError(f"'{name_of(predictor)}' serves none of these lengths: {refusals[0]}")
        name = name_of(predictor)
        precision = parts.precision or _precision_of(built, next(iter(contexts.values())))
        if precision not in TOLERANCE:
            raise InputError(f"'{name}': precision must be one of {', '.join(TOLERANCE)}, not {precision!r}.")
        error = parts.standard_error
        if not isinstance(error, (int, float)) or not 0 <= error <= LARGEST_ERROR:
            raise InputError(f"'{name}': standard_error must be a number from 0 to {LARGEST_ERROR:g}, not {error!r}.")
        return cls(name, text, built, build, task, contexts, there, TOLERANCE[precision] + 6 * error)

    @functools.cached_property
    def parts(self) -> Parts:
        """What it has of the contract."""
        return Parts.of(self.built)

    @property
    def standard_error(self) -> float:
        return float(self.parts.standard_error)

    def predict(self, contexts: Int[np.ndarray, "batch length"], built: Any = None) -> np.ndarray:
        """As float64, of whatever shape."""
        return to_numpy((built or self.built).predict(contexts.copy())).astype(np.float64)

    def output(self, length: int) -> np.ndarray:
        """All contexts of that length in one batch: asked once, for all clauses."""
        if length not in self.first:
            self.first[length] = to_numpy(self.built.predict(self.contexts[length].copy())).copy()
        return self.first[length]

    def whole(self, length: int) -> np.ndarray:
        """The same as float64."""
        return self.output(length).astype(np.float64)

    def compare(self, a: np.ndarray, b: np.ndarray, contexts: np.ndarray, what: str) -> None:
        """Break unless the predictions agree."""
        if a.shape != b.shape:
            raise _Broken(f"T = {contexts.shape[1]}, {what}: shapes {a.shape} and {b.shape}.")
        with np.errstate(invalid="ignore"):
            off = np.abs(a - b)
        off = np.where(np.isnan(a) & np.isnan(b), 0.0, np.where(np.isnan(off), np.inf, off)).max(axis=-1)
        if (off > self.tolerance).any():
            k = int(np.argmax(off > self.tolerance))
            digits = 6 if off[k] > TOLERANCE["float32"] else 12
            raise _Broken(
                f"{_shown(contexts[k])}, {what}: {_probs(a[k], digits)} and {_probs(b[k], digits)}, {off[k]:.2g} apart."
            )


def _precision_of(built: Any, contexts: np.ndarray) -> str:
    """float32 where its numbers are; what it fails at is for the checks to say."""
    with contextlib.suppress(Exception):
        return "float32" if to_numpy(built.predict(contexts.copy())).dtype == np.float32 else "float64"
    return "float64"


def _contexts(task: Task, length: int) -> Int[np.ndarray, "N T"]:
    """Drawn ones, a constant one for each state and one that runs through the states, where they are possible."""
    drawn = sample(task, length, CONTEXTS, SEED).contexts
    q = task.n_states
    made = np.stack([*(np.full(length, a) for a in range(q)), np.arange(length) % q])
    return np.concatenate([drawn, made[task.possible(made)]])


def _shown(context: np.ndarray) -> str:
    return f"context {' '.join(map(str, context))}"


def _probs(row: np.ndarray, digits: int = 6) -> str:
    return "[" + " ".join(f"{value:.{digits}g}" for value in row) + "]"


def _shape(s: _Subject) -> None:
    for length, contexts in s.contexts.items():
        for n in (len(contexts), 1, 2):
            output = s.output(length) if n == len(contexts) else to_numpy(s.built.predict(contexts[:n].copy()))
            if output.shape != (n, s.task.n_states):
                raise _Broken(f"{n} contexts of length {length} gave shape {output.shape}.")
            if not np.issubdtype(output.dtype, np.floating):
                raise _Broken(f"{output.dtype}, not floats.")


def _precision(s: _Subject) -> None:
    """Half precision shows in the type, or in that every number is one of its few but rows do not sum to one."""
    for length in s.contexts:
        output = s.output(length)
        if output.dtype == np.float16:
            raise _Broken("float16: probabilities below 6e-8 vanish, and all others are off by up to 5e-4.")
        rounded = (output.astype(np.float16).astype(np.float64) == output.astype(np.float64)).all()
        if rounded and np.abs(output.astype(np.float64).sum(axis=-1) - 1).max() > EXACT_SUM:
            raise _Broken(f"at T = {length} every number is one of float16's: somewhere it computes in half precision.")


def _rows(s: _Subject, bad: Callable[[np.ndarray], np.ndarray], what: Callable[[np.ndarray], str]) -> None:
    for length, contexts in s.contexts.items():
        output = s.whole(length)
        with np.errstate(invalid="ignore"):
            wrong = bad(output)
        if wrong.any():
            k = int(np.argmax(wrong))
            raise _Broken(f"{_shown(contexts[k])}: {what(output[k])}")


def _finite(s: _Subject) -> None:
    _rows(s, lambda p: np.asarray(~np.isfinite(p).all(axis=-1)), _probs)


def _not_negative(s: _Subject) -> None:
    _rows(s, lambda p: np.asarray((p < 0).any(axis=-1)), _probs)


def _normalised(s: _Subject) -> None:
    limit = max(s.tolerance, 1e-6)
    _rows(
        s,
        lambda p: np.asarray(~(np.abs(p.sum(axis=-1) - 1) <= limit)),
        lambda row: f"{_probs(row)} sums to {row.sum():.9g}.",
    )


def _positive(s: _Subject) -> None:
    if not s.task.positive:
        raise _NotApplicable("the task rules out tokens itself")
    _rows(s, lambda p: (p == 0).any(axis=-1), lambda row: f"{_probs(row)} rules out a token that can come.")


def _repeat(s: _Subject) -> None:
    for length, contexts in s.contexts.items():
        s.compare(s.whole(length), s.predict(contexts), contexts, "asked twice")


def _state(s: _Subject) -> None:
    for length, contexts in s.contexts.items():
        for other in s.contexts:
            s.predict(s.contexts[other][::-1] if other != length else _others(s, length))
        s.compare(s.whole(length), s.predict(contexts), contexts, "before and after it saw other contexts")


def _batch_size(s: _Subject) -> None:
    for length, contexts in s.contexts.items():
        whole = s.whole(length)
        alone = np.concatenate([s.predict(c[None]) for c in contexts])
        s.compare(whole, alone, contexts, f"in a batch of {len(contexts)} and alone")
        for size in (2, 7):
            parts = [s.predict(contexts[i : i + size]) for i in range(0, len(contexts), size)]
            s.compare(whole, np.concatenate(parts), contexts, f"in batches of {len(contexts)} and of {size}")
    length, contexts = next(iter(s.contexts.items()))
    if _seconds(s, length) < SLOW:
        many = sample(s.task, length, MANY, MANY_SEED).contexts
        parts = [s.predict(many[i : i + CONTEXTS]) for i in range(0, MANY, CONTEXTS)]
        s.compare(s.predict(many), np.concatenate(parts), many, f"in batches of {MANY} and of {CONTEXTS}")


def _order(s: _Subject) -> None:
    rng = np.random.default_rng(ORDER_SEED)
    for length, contexts in s.contexts.items():
        whole = s.whole(length)
        for order in (np.arange(len(contexts))[::-1], rng.permutation(len(contexts))):
            back = np.empty_like(whole)
            back[order] = s.predict(contexts[order])
            s.compare(whole, back, contexts, "in one order and in another")


def _others(s: _Subject, length: int) -> Int[np.ndarray, "N T"]:
    return sample(s.task, length, len(s.contexts[length]), OTHERS_SEED).contexts


def _neighbours(s: _Subject) -> None:
    for length, contexts in s.contexts.items():
        whole = s.whole(length)
        others = _others(s, length)
        for keep in (0, len(contexts) // 2, len(contexts) - 1):
            changed = others.copy()
            changed[keep] = contexts[keep]
            again = s.predict(changed)[keep : keep + 1]
            s.compare(whole[keep : keep + 1], again, contexts[keep : keep + 1], "among other neighbours")


def _input(s: _Subject) -> None:
    for contexts in s.contexts.values():
        given = contexts.copy()
        s.built.predict(given)
        if (given != contexts).any():
            k = int(np.argmax((given != contexts).any(axis=1)))
            raise _Broken(f"{_shown(contexts[k])} was changed to {_shown(given[k])}.")


def _fresh_process(s: _Subject) -> None:
    if s.there is None:
        raise _NotApplicable("it has no name to build it by")
    if isinstance(s.there, PredictorError):
        raise _Broken(str(s.there))
    for length, contexts in s.contexts.items():
        s.compare(s.whole(length), s.there[length], contexts, "here and in a fresh process")


def _runs(s: _Subject) -> None:
    if s.parts.own_runs is None:
        raise _NotApplicable("it has no runs")
    for length, contexts in s.contexts.items():
        for run in runs_of(s.built, length):
            check_output(s.name, run.predict(contexts.copy()), (len(contexts), s.task.n_states))


def _predict_all(s: _Subject) -> None:
    if s.parts.predict_all is None:
        raise _NotApplicable("it has no predict_all")
    for length, contexts in s.contexts.items():
        output = to_numpy(s.parts.predict_all(contexts.copy())).astype(np.float64)
        if output.shape != (len(contexts), length, s.task.n_states):
            raise _Broken(f"{len(contexts)} contexts of length {length} gave shape {output.shape}.")
        claimed = output[:, s.task.given :]
        with np.errstate(invalid="ignore"):
            wrong = ~(np.isfinite(claimed) & (claimed >= 0)).all(axis=-1) | ~(
                np.abs(claimed.sum(axis=-1) - 1) < SUM_TOLERANCE
            )
        if wrong.any():
            k, position = np.argwhere(wrong)[0]
            shown = _shown(contexts[k, : position + s.task.given + 1])
            raise _Broken(f"{shown}: {_probs(claimed[k, position])} by predict_all.")
        every = range(s.task.given + 1, length + 1)
        for prefix in every if _seconds(s, length) < SLOW else sorted({every[0], every[len(every) // 2], length}):
            try:
                check_length(s.built, prefix)
            except Unsupported:
                continue
            of_prefix = contexts[:, :prefix]
            s.compare(s.predict(of_prefix), output[:, prefix - 1], of_prefix, "by predict and by predict_all")


def _relabelling(s: _Subject) -> None:
    if s.text is None:
        raise _NotApplicable("it has no name to build it by")
    if s.parts.fixed_to_task:
        raise _NotApplicable("its numbers were found for this task")
    if s.standard_error:
        raise _NotApplicable("chance has a part in it")
    cycle = np.random.default_rng(ORDER_SEED).permutation(s.task.n_states)
    order = np.empty_like(cycle)  # new state k is the old state order[k], for no state the same
    order[cycle] = np.roll(cycle, 1)
    try:
        other = s.build(s.task.relabelled(order))
    except Unsupported:
        raise _NotApplicable("it serves this task alone") from None
    except PredictorError as error:
        raise _Broken(f"for the same task with other names of its states {error} {FIXED}") from None
    new_state = np.argsort(order)
    for length, contexts in s.contexts.items():
        renamed = s.predict(new_state[contexts], other)[:, new_state]
        try:
            s.compare(s.whole(length), renamed, contexts, "with the states and with others' names for them")
        except _Broken as broken:
            raise _Broken(f"{broken} {FIXED}") from None


def _memorised(s: _Subject) -> str:
    """An honest p̂ is a function of the context, and λ beyond it is chance: E[⟨p̂ - p_B, p_λ - p_B⟩ | context] = 0."""
    if isinstance(s.task, Recorded):
        raise _NotApplicable("its sequences were recorded, and nobody knows λ of them")
    if built_in_like(s.task) is None:
        raise _NotApplicable("the task has no public sequences")
    if s.standard_error:
        raise _NotApplicable("chance has a part in it; `verify --rerun` is the test")
    smallest = 1.0
    n = N_PUBLIC if _seconds(s, max(s.contexts)) < SLOW else N_PUBLIC // 4
    for cell in cells(s.task, list(s.contexts), n, PUBLIC_SEED):
        contexts, bayes = cell.contexts[:n], cell.bayes[:n]
        predicted = np.concatenate([s.predict(contexts[i : i + 256]) for i in range(0, n, 256)])
        truth = s.task.truth(cell.theta[:n], contexts)
        departure = predicted - bayes
        size = np.linalg.norm(departure, axis=1)
        kept = size > 10 * s.tolerance  # beyond rounding: nothing is learned from the others
        if kept.sum() < 30:
            continue
        # Divided by the size of p̂ - p_B, which is a function of the context too: small departures count as much.
        along = ((departure / np.maximum(size, 1e-300)[:, None]) * (truth - bayes)).sum(axis=1)[kept]
        p = float(stats.ttest_1samp(along, 0.0, alternative="greater").pvalue)
        smallest = min(smallest, p)
        if p < LEVEL:
            raise _Broken(
                f"at T = {cell.length} its departures from Bayes point to the true λ of the public sequences "
                f"(p = {p:.1g}), which no context tells."
            )
    return f"p = {smallest:.2g}"


def _seconds(s: _Subject, length: int) -> float:
    """A sequence, once what is compiled is compiled."""
    s.predict(s.contexts[length])
    started = time.perf_counter()
    s.predict(s.contexts[length])
    return (time.perf_counter() - started) / len(s.contexts[length])


def _time(s: _Subject) -> str:
    return ", ".join(f"{_seconds(s, length):.2g} s at T = {length}" for length in s.contexts)


Clause = Callable[[_Subject], str | None]

CLAUSES: dict[str, tuple[str, Clause]] = {
    "shape": ("contexts (B, T) give floats (B, q), for B = 1 too", _shape),
    "finite": ("every number is finite, for constant contexts of every state too", _finite),
    "not negative": ("no number is negative", _not_negative),
    "normalised": (f"rows sum to one (beyond {SUM_TOLERANCE:g} `evaluate` refuses them)", _normalised),
    "possible": ("no token that can come has probability 0", _positive),
    "precision": ("numbers of more than half precision", _precision),
    "repeat": ("the same contexts twice give the same, to {tolerance:.2g}", _repeat),
    "state": ("nothing that it saw before changes what it says, to {tolerance:.2g}", _state),
    "batch size": ("the same whatever the size of the batch, to {tolerance:.2g}", _batch_size),
    "order": ("the same whatever the order of the batch, to {tolerance:.2g}", _order),
    "neighbours": ("nothing but its own context matters, to {tolerance:.2g}", _neighbours),
    "input": ("contexts are left as they were", _input),
    "fresh process": ("the same in a process of its own, to {tolerance:.2g}", _fresh_process),
    "runs": ("predictors, one for each training seed, with probabilities", _runs),
    "predict_all": ("every prefix as predict has it, to {tolerance:.2g}", _predict_all),
    "relabelling": ("other names for the states, in π too, change nothing, to {tolerance:.2g}", _relabelling),
    "memorised": ("departures from Bayes do not know the λ of the public sequences", _memorised),
    "time": ("seconds a sequence, in a small batch", _time),
}
