r"""The exact posterior by a Pólya-urn filter over lag counts (SPEC section 2).

With λ integrated out, the counts c of how many of the first s transitions came from each lag form a Markov chain,
P(next lag = g | c) = (α + c_g) / (mα + s). The filter carries w_s(c) = P(c, the first s transitions):

    w_{s+1}(c + e_g) += w_s(c) · (α + c_g) / (mα + s) · x_{m+s+1}(g),        w_0(0) = 1.

All terms are positive, so nothing cancels. Counts are packed: a state is (c_1, .., c_{m-1}) alone, since c_m = s - d
with d = c_1 + .. + c_{m-1} its *grade*, and its index within the grade does not depend on s. A step therefore updates
each grade in place from itself (lag m) and from the grade below (the other lags), highest grade first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from mdbench.baselines.posterior import Draws, Posterior, Progress, check_whole_number, prefix_seeds, prepare
from mdbench.baselines.softmax import draw_log_gamma
from mdbench.device import n_cores
from mdbench.errors import InputError
from mdbench.tasks import Task

MEMORY_LIMIT = 4 * 2**30  # bytes, over all threads
RESCALE_EVERY = 64  # steps; relative to uniform weights the evidence grows by at most m a step


def urn(
    task: Task,
    contexts: Any,
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    draws: int = 0,
    seed: int = 0,
) -> Posterior:
    """Exact posterior by the Pólya-urn filter, for ``contexts`` of shape (B, T).

    Costs O(m · C(n+m, m)) time a sequence and O(C(n+m-1, m-1)) memory, n = T - m. ``progress(k)`` is called as k more
    sequences are done.

    With ``draws``, also that many independent draws from the posterior: lag counts c from the filter's weights at the
    prefix (the first step of sampling backwards; λ needs no other), then λ from Dirichlet(α + c). ``seed`` and a
    sequence's tokens fix its draws.

    Raises:
        InputError: bad or impossible contexts, or counts that do not fit into 4 GiB.
    """
    check_whole_number("urn", "draws", draws, 0)
    contexts, x, wanted = prepare(task, contexts, lengths, check_size)
    batch, n, m = x.shape
    chunk, workers = plan(n, m)
    seeds = prefix_seeds(contexts, wanted, seed)
    drawn = np.empty((1, draws, batch, len(wanted), m))
    grades = _grades(n, m)
    coefficients = [[task.concentration + c for c in grade.counts] for grade in grades]

    mean, sd = np.empty((2, batch, len(wanted), m))
    log_evidence = np.empty((batch, len(wanted)))

    def run(start: int) -> None:
        rows = slice(start, min(start + chunk, batch))
        padded = np.ones((chunk, n, m))
        padded[: rows.stop - start] = x[rows]

        def draw(weights, step: int, prefix: int) -> None:
            for i, words in enumerate(seeds[rows, prefix] if draws else []):
                rng = np.random.default_rng(words)
                counts = _draw_counts([w[:, i] for w in weights], grades, step, draws, rng)
                log_gamma = draw_log_gamma(task.concentration + counts, counts.shape, rng)
                drawn[0, :, start + i, prefix] = softmax(log_gamma, axis=-1)

        moments = _filter(padded, grades, coefficients, task.concentration, [length - m for length in wanted], draw)
        for into, values in zip((mean, sd, log_evidence), moments, strict=True):
            into[rows] = values[: rows.stop - start]
        if progress:
            progress(rows.stop - start)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, range(0, batch, chunk)))
    error = np.full(batch, _rounding_bound(n, m))
    settings = {"seed": seed}
    kept = Draws(drawn, settings=settings) if draws else None
    return Posterior("urn", wanted, mean, sd, log_evidence, error, draws=kept)


def _filter(x, grades, coefficients, alpha: float, report_at: list[int], draw: Callable[[Any, int, int], None]):
    """Run the filter over likelihoods (B, n, m); return mean (B, P, m), sd and log evidence at those step counts."""
    batch, n, m = x.shape
    scale = x.mean(axis=-1)  # work relative to uniform weights; log evidence gets the scale back
    relative = np.ascontiguousarray((x / scale[..., None]).transpose(1, 2, 0))  # (n, m, B)
    log_scale = np.concatenate([np.zeros((1, batch)), np.cumsum(np.log(scale.T), axis=0)])
    exponent = np.zeros(batch, dtype=np.int64)
    weights = [np.zeros((grade.size, batch)) for grade in grades]
    weights[0][:] = 1.0
    largest = max(grade.size for grade in grades)
    buffers = np.empty((2, largest, batch))

    means, sds, log_evidences = [], [], []
    for step in range(n + 1):
        if step in report_at:
            draw(weights[: step + 1], step, report_at.index(step))
            first, second, total = _moments(weights[: step + 1], grades, coefficients, alpha, step)
            mean = first / total
            means.append(mean)
            sds.append(np.sqrt(np.maximum(second / total - mean**2, 0.0)))
            log_evidences.append(log_scale[step] + np.log(total) + exponent * math.log(2.0))
        if step == n:
            break
        likelihood = relative[step] / (m * alpha + step)
        for d in range(min(step + 1, len(grades) - 1), -1, -1):
            weights[d] *= (alpha + max(step - d, 0)) * likelihood[m - 1]
            if d > 0:
                _move_up(weights[d], weights[d - 1], grades[d], coefficients[d - 1], likelihood, buffers)
        if (step + 1) % RESCALE_EVERY == 0:
            shift = np.frexp(sum(w.sum(axis=0) for w in weights))[1]
            exponent += shift
            for w in weights:
                np.ldexp(w, -shift, out=w)
    return (
        np.stack(means, axis=1).transpose(2, 1, 0),
        np.stack(sds, axis=1).transpose(2, 1, 0),
        np.array(log_evidences).T,
    )


def _move_up(target, source, grade: _Grade, coefficients, likelihood, buffers) -> None:
    """Add to a grade what comes from the one below: for each lag g < m, (α + c_g) · x(g) · w(c) goes to c + e_g."""
    moved, gathered = buffers[0, : len(source)], buffers[1, : len(target)]
    for g, tail in enumerate(grade.arrives):
        np.multiply(source, coefficients[g][:, None], out=moved)
        moved *= likelihood[g]
        if isinstance(tail, slice):
            target[tail] += moved
        else:
            # np.add.at is far slower than gathering every row and zeroing those that nothing reaches.
            np.take(moved, tail, axis=0, out=gathered, mode="clip")
            gathered[grade.unreached[g]] = 0.0
            target += gathered


def _moments(weights, grades, coefficients, alpha: float, step: int):
    """Σ_c w(c) E[λ_g | c], Σ_c w(c) E[λ_g² | c] (both (m, B)) and Σ_c w(c)."""
    m, batch = len(coefficients[0]) + 1, weights[0].shape[1]
    first, second, total = np.zeros((m, batch)), np.zeros((m, batch)), np.zeros(batch)
    for d, w in enumerate(weights[: len(grades)]):
        a = np.array([*coefficients[d], np.full(len(w), alpha + step - d)])  # (m, K): α + c_g
        first += a @ w
        second += (a * (a + 1)) @ w
        total += w.sum(axis=0)
    size = m * alpha + step
    return first / size, second / (size * (size + 1)), total


def _draw_counts(weights, grades, step: int, n: int, rng) -> Float[np.ndarray, "n m"]:
    """Counts (c_1, .., c_m) of n independent draws with probabilities ∝ the weights of all grades."""
    used = grades[: len(weights)]
    cumulative = np.cumsum(np.concatenate(weights))
    states = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
    if not used[0].counts:  # order 1: one state
        return np.full((n, 1), float(step))
    counts = np.stack(
        [np.concatenate(columns) for columns in zip(*(grade.counts for grade in used), strict=True)], axis=-1
    )
    drawn = counts[np.minimum(states, len(counts) - 1)]
    return np.column_stack([drawn, step - drawn.sum(axis=1)])


# ------------------------------------------------------------------------------------------------- packed counts


@dataclass(frozen=True)
class _Grade:
    """The states (c_1, .., c_{m-1}) with one sum d, in lexicographic order.

    c -> c + e_g keeps that order, so the images of the grade below are reached one after the other: ``arrives[g]`` is
    the slice of this grade that they fill or, where they are no slice, for each state the source row to take, and
    ``unreached[g]`` are the states with c_g = 0.
    """

    size: int
    counts: tuple[Float[np.ndarray, " K"], ...]
    arrives: tuple[slice | Int[np.ndarray, " K"], ...]
    unreached: tuple[Int[np.ndarray, " U"], ...]


@functools.lru_cache(maxsize=4)
def _grades(n: int, m: int) -> list[_Grade]:
    if m == 1:
        return [_Grade(1, (), (), ())]
    grades = []
    for d in range(n + 1):
        counts = _compositions(d, m - 1)
        arrives: list[Any] = []
        unreached = []
        for g in range(m - 1):
            reached = counts[:, g] > 0
            where = np.flatnonzero(reached)
            if d > 0 and where[-1] - where[0] + 1 == len(where):
                arrives.append(slice(where[0], where[-1] + 1))
            else:
                arrives.append(np.maximum(np.cumsum(reached) - 1, 0))
            unreached.append(np.flatnonzero(~reached))
        columns = tuple(counts[:, g].astype(np.float64) for g in range(m - 1))
        grades.append(_Grade(len(counts), columns, tuple(arrives), tuple(unreached)))
    return grades


def _compositions(total: int, parts: int) -> Int[np.ndarray, "K parts"]:
    """All non-negative integer vectors of that many parts and that sum, in lexicographic order."""
    if parts == 1:
        return np.array([[total]])
    blocks = []
    for first in range(total + 1):
        rest = _compositions(total - first, parts - 1)
        blocks.append(np.column_stack([np.full(len(rest), first), rest]))
    return np.concatenate(blocks)


def plan(n: int, m: int) -> tuple[int, int]:
    """(sequences filtered together, threads) for n transitions of order m.

    The largest grade of a chunk stays within about a megabyte, to be in the cache, and all threads within the limit.

    Raises:
        InputError: not even one thread fits.
    """
    chunk = min(max(2**17 // math.comb(n + m - 2, max(m - 2, 0)), 8), 1024)

    def threads_that_fit(n: int) -> int:
        states = math.comb(n + m - 1, m - 1)
        return (MEMORY_LIMIT - 40 * (m - 1) * states) // (8 * chunk * states)

    threads = threads_that_fit(n)
    if threads < 1:
        fits = max((k for k in range(1, n) if threads_that_fit(k) >= 1), default=1)
        raise InputError(
            f"the urn needs more than {MEMORY_LIMIT / 2**30:.0f} GiB for order {m} at length {n + m}; "
            f"length {fits + m} would fit."
        )
    return chunk, min(threads, n_cores())


def check_size(n: int, m: int) -> None:
    """Raise :class:`InputError` for n transitions of order m that do not fit into memory."""
    plan(n, m)


def _rounding_bound(n: int, m: int) -> float:
    """Each step rounds each state at most m + 4 times, and nothing cancels; the mean is a ratio of two such sums.

    The roundings of the final sums are left out: far smaller in practice, though not by proof.
    """
    return 2 * (n + 1) * (m + 4) * np.finfo(np.float64).eps / 2
