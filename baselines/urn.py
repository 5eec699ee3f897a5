r"""The exact posterior by a Pólya-urn filter over lag counts (docs/mathematics.md, section 2).

With λ integrated out, the counts c of how many of the first s transitions came from each lag form a Markov chain,
P(next lag = g | c) = (α + c_g) / (mα + s). The filter carries w_s(c) = P(c, the first s transitions):

    w_{s+1}(c + e_g) += w_s(c) · (α + c_g) / (mα + s) · x_{m+s+1}(g),        w_0(0) = 1.

All terms are positive, so nothing cancels. Counts are packed: a state is (c_1, .., c_{m-1}) alone, since c_m = s minus
their sum. The states that share (c_1, .., c_{m-2}) are a *row*, in which c_{m-1} runs; a step updates each row in place
from itself (lags m-1 and m) and from the rows with one count less (the other lags), those of the highest sum first.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from mdbench.baselines.baseline import EXACT, SEEDS, Baseline, Contexts, Lengths, option, prefix_seeds
from mdbench.baselines.posterior import Draws, Posterior
from mdbench.baselines.softmax import draw_log_gamma
from mdbench.core.compilation import compiled
from mdbench.core.device import n_cores
from mdbench.core.errors import InputError
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletMixture

MEMORY_LIMIT = 4 * 2**30  # bytes, over all threads
MAX_WORK = 2e11  # weights that are touched, for a sequence: minutes
RESCALE_EVERY = 64  # steps; relative to uniform weights the evidence grows by at most m a step
LARGE = 600  # the sum is kept near 2^600: far from where small weights lose digits, and take ten times as long
ABREAST = 8  # steps that go over the rows together, one sum behind each other: what they touch stays in a cache
CHUNK = 16  # sequences in one task of a thread


@dataclass(frozen=True)
class Urn(Baseline[DirichletMixture]):
    """Exact posterior by the Pólya-urn filter.

    Costs O(m · C(n+m, m)) time a sequence and O(C(n+m-1, m-1)) memory, n = T - m.

    Draws are independent: lag counts c from the filter's weights at the prefix (the first step of sampling backwards; λ
    needs no other), then λ from Dirichlet(α + c). The seed and a sequence's tokens fix them.
    """

    name: ClassVar[str] = "urn"
    standing: ClassVar[str] = EXACT
    deterministic: ClassVar[bool] = True
    takes_closed_forms: ClassVar[bool] = True
    calibration_options: ClassVar[Mapping[str, Any]] = {"draws": 63}

    draws: int = option(0, "independent draws from the posterior to return", least=0)
    seed: int = option(0, "of the draws", least=0, most=SEEDS)

    def posterior(
        self, task: DirichletMixture, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        contexts, x, wanted = self.prepare(task, contexts, lengths)
        batch, n, m = x.shape
        steps = [length - task.given for length in wanted]
        seeds = prefix_seeds(contexts, wanted, self.seed) if self.draws else None
        drawn = np.empty((1, self.draws, batch, len(wanted), m))
        mean, sd = np.empty((2, batch, len(wanted), m))
        log_evidence = np.empty((batch, len(wanted)))

        def run(start: int) -> None:
            rows = range(start, min(start + CHUNK, batch))
            for i in rows:

                def draw(weights: Float[np.ndarray, " K"], prefix: int, i: int = i) -> None:
                    if seeds is not None:
                        rng = np.random.default_rng(seeds[i, prefix])
                        counts = _draw_counts(weights, n, m, steps[prefix], self.draws, rng)
                        log_gamma = draw_log_gamma(task.concentration + counts, counts.shape, rng)
                        drawn[0, :, i, prefix] = softmax(log_gamma, axis=-1)

                mean[i], sd[i], log_evidence[i] = _filter(x[i], task.concentration, steps, draw)
            if progress:
                progress(len(rows))

        with ThreadPoolExecutor(_threads(n, m)) as pool:
            list(pool.map(run, range(0, batch, CHUNK)))
        error = np.full(batch, _rounding_bound(n, m))
        kept = Draws(drawn, settings=asdict(self)) if self.draws else None
        return Posterior(self.name, wanted, mean, sd, log_evidence, error, draws=kept)

    def check_size(self, task: DirichletMixture, length: int) -> None:
        """Raise :class:`InputError` for counts that do not fit into memory, not even for one thread, or take hours."""
        m, given = task.n_components, task.given

        def too_much(length: int) -> str | None:
            n = length - given
            if _threads(n, m) < 1:
                return f"more than {MEMORY_LIMIT / 2**30:.0f} GiB"
            return f"more than {MAX_WORK:.0e} additions" if m * math.comb(n + m, m) > MAX_WORK else None

        if what := too_much(length):
            smaller = range(given + 1, length)
            n_fit = bisect.bisect_left(smaller, True, key=lambda k: too_much(k) is not None)
            fits = smaller[max(n_fit, 1) - 1] if smaller else given + 1
            raise InputError(f"the urn needs {what} for order {m} at length {length}; length {fits} would fit.")


def _filter(
    x: Float[np.ndarray, "n m"], alpha: float, report_at: Sequence[int], draw: Callable[[Any, int], None]
) -> tuple[Float[np.ndarray, "P m"], Float[np.ndarray, "P m"], Float[np.ndarray, " P"]]:
    """Posterior mean, sd and log evidence of one sequence after each of these numbers of transitions, ascending."""
    n, m = x.shape
    scale = x.mean(axis=-1)  # work relative to uniform weights; log evidence gets the scale back
    log_scale = np.concatenate([[0.0], np.cumsum(np.log(scale))])
    mean, sd, log_evidence = np.ones((len(report_at), m)), np.zeros((len(report_at), m)), log_scale[list(report_at)]
    if m == 1:
        for prefix in range(len(report_at)):
            draw(np.ones(1), prefix)
        return mean, sd, log_evidence
    rows = _rows(n, m)
    relative = np.ascontiguousarray(x / scale[:, None])
    up, down = alpha - 1 + np.arange(n + 1), alpha + np.arange(n)[::-1].copy()
    weights = np.zeros(_n_states(n, m))
    weights[rows.end[0]] = 2.0**LARGE
    done, exponent = 0, -LARGE
    for prefix, step in enumerate(report_at):
        while done < step:
            to = min(step, (done // ABREAST + 1) * ABREAST)
            _advance(weights, *rows[:4], up, down, relative, done, to)
            done = to
            if done % RESCALE_EVERY == 0:
                shift = math.frexp(weights.sum())[1] - LARGE
                exponent += shift
                weights *= math.ldexp(1.0, -shift)
        sums, size = np.zeros((step + 1, 2 * m + 1)), m * alpha + step
        _moments(weights, rows.end, rows.sums, rows.counts, rows.of_sum, alpha, step, sums)
        first, second, total = np.split(sums.sum(axis=0), [m, 2 * m])
        mean[prefix] = first / size / total
        sd[prefix] = np.sqrt(np.maximum(second / (size * (size + 1)) / total - mean[prefix] ** 2, 0.0))
        log_evidence[prefix] += math.log(total[0]) + exponent * math.log(2.0)
        draw(weights, prefix)
    return mean, sd, log_evidence


@compiled
def _advance(
    weights: Any,
    end: Any,
    source: Any,
    counts: Any,
    of_sum: Any,
    up: Any,
    down: Any,
    x: Any,
    start: int,
    stop: int,
) -> None:
    """Steps ``start`` to ``stop - 1`` over likelihoods x (n, m); ``up`` is α - 1, α, .., ``down`` ends in α + 1, α."""
    n, m = x.shape
    alpha = down[n - 1]
    highest = n if m > 2 else 0
    for front in range(min(start + 1, highest), start - stop, -1):
        for step in range(start, stop):
            row_sum = front + step - start  # rows of the sum below are as the step before left them
            if row_sum < 0 or row_sum > highest:
                continue
            size = m * alpha + step
            last, last_but_one = x[step, m - 1] / size, x[step, m - 2] / size
            k = step + 1 - row_sum  # c_{m-1} is k, .., 0 along the row
            rising = down[n - k :]
            for r in range(of_sum[row_sum], of_sum[row_sum + 1]):
                row = weights[end[r] - k : end[r] + 1]
                fewer = weights[end[r] - k + 1 : end[r] + 1]  # c_{m-1} - 1
                for i in range(k):
                    row[i] = row[i] * (up[i] * last) + fewer[i] * (rising[i] * last_but_one)
                row[k] *= up[k] * last
                for g in range(m - 2):
                    if counts[r, g] > 0:
                        factor = (alpha + (counts[r, g] - 1)) * x[step, g] / size
                        below = weights[source[r, g] - k : source[r, g] + 1]
                        for i in range(k + 1):
                            row[i] += below[i] * factor


@compiled
def _moments(weights: Any, end: Any, sums: Any, counts: Any, of_sum: Any, alpha: float, step: int, into: Any) -> None:
    """Σ_c w(c) (α + c_g) for each g, then Σ_c w(c) (α + c_g)(α + c_g + 1), then Σ_c w(c), for each sum of a row.

    Row by row and sum by sum, so that few roundings add up.
    """
    m = counts.shape[1] + 2
    for r in range(of_sum[step + 1]):
        k, row_sum = step - sums[r], sums[r]
        mass = one = two = last_one = last_two = 0.0
        for i in range(k + 1):
            w = weights[end[r] - k + i]
            a, b = alpha + (k - i), alpha + i  # of lags m-1 and m
            mass += w
            one += w * a
            two += w * a * (a + 1)
            last_one += w * b
            last_two += w * b * (b + 1)
        for g in range(m - 2):
            a = alpha + counts[r, g]
            into[row_sum, g] += mass * a
            into[row_sum, m + g] += mass * a * (a + 1)
        into[row_sum, m - 2] += one
        into[row_sum, m - 1] += last_one
        into[row_sum, 2 * m - 2] += two
        into[row_sum, 2 * m - 1] += last_two
        into[row_sum, 2 * m] += mass


def _draw_counts(
    weights: Float[np.ndarray, " K"], n: int, m: int, step: int, n_draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "D m"]:
    """Counts (c_1, .., c_m) of independent draws with probabilities ∝ the weights after ``step`` transitions."""
    index, counts = _states(n, m)
    reached = int(np.searchsorted(counts.sum(axis=1), step, side="right"))
    cumulative = np.cumsum(weights[index[:reached]])
    states = np.searchsorted(cumulative, rng.random(n_draws) * cumulative[-1], side="right")
    drawn = counts[np.minimum(states, reached - 1)].astype(np.float64)
    return np.column_stack([drawn, step - drawn.sum(axis=1)])


# ------------------------------------------------------------------------------------------------- packed counts


class _Rows(NamedTuple):
    """Where the states are that share (c_1, .., c_{m-2}), rows in order of their sum, lexicographic within one.

    Attributes:
        end: (R,) index of the state with c_{m-1} = 0; c_{m-1} = k stands k places before it.
        source: (R, m-2) ``end`` of the row with one less of c_g; 0 where c_g = 0.
        counts: (R, m-2) the c_g.
        of_sum: (n+2,) how many rows have a smaller sum than 0, 1, .., n+1.
        sums: (R,) c_1 + .. + c_{m-2}.
    """

    end: Int[np.ndarray, " R"]
    source: Int[np.ndarray, "R lags"]
    counts: Int[np.ndarray, "R lags"]
    of_sum: Int[np.ndarray, " sums"]
    sums: Int[np.ndarray, " R"]


@functools.lru_cache(maxsize=4)
def _rows(n: int, m: int) -> _Rows:
    by_sum = [_compositions(total, m - 2) for total in range(n + 1)]
    sizes = np.array([len(counts) for counts in by_sum])
    of_sum = np.concatenate([[0], np.cumsum(sizes)])
    counts = np.concatenate(by_sum)
    sums = np.repeat(np.arange(n + 1), sizes)
    end = np.cumsum(n + 1 - sums) - 1
    source = np.zeros_like(counts)
    for total in range(1, n + 1):
        here, below = slice(of_sum[total], of_sum[total + 1]), slice(of_sum[total - 1], of_sum[total])
        for g in range(m - 2):  # c -> c + e_g keeps the order: its images are reached one after the other
            source[here, g][counts[here, g] > 0] = end[below]
    return _Rows(end, source, counts, of_sum, sums)


@functools.lru_cache(maxsize=4)
def _states(n: int, m: int) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, "K counts"]]:
    """Index and (c_1, .., c_{m-1}) of every state, by the sum of these counts, lexicographic within one."""
    if m == 1:
        return np.zeros(1, dtype=int), np.zeros((1, 0), dtype=int)
    rows = _rows(n, m)
    sizes = n + 1 - rows.sums
    index = np.arange(sizes.sum())
    counts = np.column_stack([np.repeat(rows.counts, sizes, axis=0), np.repeat(rows.end, sizes) - index])
    order = np.lexsort([*counts.T[::-1], counts.sum(axis=1)])
    return index[order], counts[order]


def _compositions(total: int, parts: int) -> Int[np.ndarray, "K parts"]:
    """All non-negative integer vectors of that many parts and that sum, in lexicographic order."""
    if parts == 0:
        return np.zeros((int(total == 0), 0), dtype=int)
    if parts == 1:
        return np.array([[total]])
    blocks = []
    for first in range(total + 1):
        rest = _compositions(total - first, parts - 1)
        blocks.append(np.column_stack([np.full(len(rest), first), rest]))
    return np.concatenate(blocks)


def _n_states(n: int, m: int) -> int:
    return math.comb(n + m - 1, m - 1)


def _threads(n: int, m: int) -> int:
    """How many fit: each carries the weights of one sequence, and all share the rows."""
    rows = math.comb(n + m - 2, m - 2) if m > 1 else 0
    return min((MEMORY_LIMIT - 16 * m * rows) // (8 * _n_states(n, m)), n_cores())


def _rounding_bound(n: int, m: int) -> float:
    """Each step rounds each state at most m + 4 times, and nothing cancels; the mean is a ratio of two such sums.

    The roundings of the final sums are left out: far smaller in practice, though not by proof.
    """
    return 2 * (n + 1) * (m + 4) * np.finfo(np.float64).eps / 2
