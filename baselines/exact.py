r"""The exact posterior of the mixture weights, by stick-breaking Gauss-Jacobi quadrature (docs/model.md, section 2).

    λ_i = v_i Π_{j<i} (1 - v_j),   v_i ~ Beta(α, (m-i)α),   i = 1..m-1;   λ_m is what is left of the stick.

The likelihood times λ_g² is a polynomial of degree at most n + 2 in each v_i, so ⌈(n+3)/2⌉ Gauss nodes per stick give
every moment here exactly, up to rounding. Far fewer are usually enough: each sequence climbs a ladder of rules until
two successive ones agree, at every prefix, to rounding, or, where a tolerance is given, until the last two changes say
that less than that is left.

Each factor is computed as ⟨λ, x⟩ = min_g x(g) + Σ_g λ_g (x(g) - min_h x(h)): nothing cancels, and where the lags agree
no rounding of λ enters, which over a long constant sequence would add up. It is divided by a power of two, exactly
then, such that the running product stays near that of a sequential plug-in estimate: no logarithm per factor.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from mdbench.baselines.baseline import EXACT, Baseline, Contexts, Lengths, option
from mdbench.baselines.jacobi import beta_rule
from mdbench.baselines.posterior import Posterior
from mdbench.core.compilation import compiled
from mdbench.core.device import n_cores
from mdbench.core.errors import InputError, SequenceError
from mdbench.core.progress import Advance, no_advance
from mdbench.tasks import DirichletMixture

CHUNK = 32  # sequences in one task of a worker, but no more than have
TASK = 2**22  # grid nodes x transitions together: a millisecond or two. No result depends on these two
SLICE = 2**18  # grid nodes in one task, where one sequence has more
NODE, REST, WEIGHT, OF_NODE, OF_REST, OF_NODE_SQUARED, OF_REST_SQUARED = range(7)  # rows of a stick's rule
LANES = 8  # the last stick has a multiple of that many nodes: vector instructions take it whole
NOTHING = 2.0**-960  # of running products near 1 at the best nodes; below 2^-1022 arithmetic is many times slower
SWEEP = 8  # transitions, after which products below that are set to 0
LEAST_EVIDENCE = 2.0**-900  # beside which they do not count
HINDSIGHT = 100  # steps of EM for a scale
LONG = 2**14  # transitions, from which the first rules of the ladder are too coarse for the posterior
PORTION = 1024  # sequences that climb the ladder together: bounds the memory

FIRST_RULE = 12  # nodes per stick at the foot of the ladder; each rung has √2 times as many as the one before
TOO_FEW = 1.55  # times the root of the number of transitions: with fewer nodes hardly a rule agrees with the next
LOOSE_RULES = (6, 8, 10, 12, 14, 16, 18, 20)  # the same where a tolerance above rounding is given: close together
FIRST_LONG_GRID = 2**10  # nodes of the whole grid at the foot for long sequences: with fewer none may be near
ENOUGH = 40  # nodes per stick and root of the number of transitions, at which the rules of long sequences have agreed
CAUTION = 20  # times the error that two changes say is left
MAX_TOLERANCE = 1e-4  # far from where a Gauss rule's error is no longer its distance to the next
MAX_WORK = 1.6e11  # grid nodes x transitions for one sequence: half a minute on one core

# Rounding errs by less than ROUNDING √n, and by more than a hundredth of it. Measured against 80-bit arithmetic for
# α in {0.1, 1, 10}, m = 2..4, T = 16..256, on sequences from the model and on adversarial ones (test_exact.py).
ROUNDING = 7e-16


@dataclass(frozen=True)
class Exact(Baseline[DirichletMixture]):
    """Posterior mean, sd and log evidence to float64 rounding, with a bound on the error that is left.

    The computation does not depend on which prefixes are asked for: rules are chosen, and errors estimated, over all
    prefixes of the whole sequence.
    """

    name: ClassVar[str] = "exact"
    standing: ClassVar[str] = EXACT
    deterministic: ClassVar[bool] = True
    takes_closed_forms: ClassVar[bool] = True

    # The error is usually far below the tolerance, and the bound says by how much at least.
    tolerance: float = option(
        0.0, "of the error estimate, for orders that rounding is too dear for; below rounding it changes nothing"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.tolerance, (int, float)) or not 0 <= self.tolerance <= MAX_TOLERANCE:
            raise InputError(f"tolerance must be from 0 to {MAX_TOLERANCE:g}, not {self.tolerance}.")

    def posterior(
        self, task: DirichletMixture, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        _, x, wanted = self.prepare(task, contexts, lengths)
        n_sequences, _, m = x.shape
        steps = np.array(wanted, dtype=int) - task.given
        moments = np.empty((n_sequences, len(wanted), 2 * m))
        log_evidence = np.empty((n_sequences, len(wanted)))
        error = np.empty(n_sequences)
        with ThreadPoolExecutor(n_cores()) as workers:
            for first in range(0, n_sequences, PORTION):
                rows = slice(first, first + PORTION)
                given = x[rows], task.concentration, steps, self.tolerance, workers, progress or no_advance
                try:
                    result = _climb(*given)
                except _OutOfRange:
                    result = _climb(*given, _in_hindsight)
                except SequenceError as fault:
                    raise SequenceError(first + fault.index, fault.what) from None
                moments[rows], log_evidence[rows], error[rows] = result
        mean, square = moments[..., :m], moments[..., m:]
        sd = np.sqrt(np.maximum(square - mean**2, 0))  # rounding can leave -1e-17 where the sd is 0
        return Posterior(self.name, wanted, mean, sd, log_evidence, error)

    def check_size(self, task: DirichletMixture, length: int) -> None:
        """Raise :class:`InputError` for a length whose grid is too large."""
        m, given = task.n_components, task.given

        def work(length: int) -> int:
            n = length - given
            if self.tolerance >= _least_tolerance(n):  # three rules are the fewest; too many are refused on the way
                return _work(n, m, _ladder(n, LOOSE_RULES)[:3][-1])
            last = _ladder(n)[-1]
            # The posterior is as wide as 1/√n, and the polynomial that a rule has to resolve as smooth.
            return _work(n, m, last if n <= LONG else min(last, round(ENOUGH * math.sqrt(n))))

        if work(length) > MAX_WORK:
            smaller = range(given + 1, length)
            n_fit = bisect.bisect_right(smaller, MAX_WORK, key=work)
            fits = smaller[n_fit - 1] if n_fit else None
            raise InputError(
                f"exact quadrature at order {m} and length {length} could take 1e{math.log10(work(length)):.0f} grid "
                f"nodes x transitions for a sequence, more than the limit of {MAX_WORK:.0e}; "
                + (f"at this order, lengths up to {fits} fit." if fits else "no length fits at this order.")
                + ("" if self.tolerance else " With exact:tolerance=1e-9 more do.")
            )


def _least_tolerance(n: int) -> float:
    """Below it a tolerance changes nothing: rounding errs by as much."""
    return 2 * ROUNDING * math.sqrt(n)


def _work(n: int, m: int, n_nodes: int) -> int:
    """Grid nodes x transitions for one sequence."""
    return int(n * n_nodes ** (m - 1))


def _foot(n: int) -> int:
    """Nodes per stick at the foot of the ladder: the posterior is as wide as 1/√n, and a rule has to resolve it."""
    k = math.floor(2 * math.log2(TOO_FEW * math.sqrt(n) / FIRST_RULE))
    return round(FIRST_RULE * 2 ** (max(k, 0) / 2))


def _ladder(n: int, foot: Sequence[int] = ()) -> list[int]:
    """Numbers of nodes per stick to try, from these on, the last of which is exact for second moments."""
    foot = foot or (_foot(n),)
    rungs, exact_rule, k = list(foot), (n + 4) // 2, 1
    while rungs[-1] < exact_rule:
        rungs.append(round(foot[-1] * 2 ** (k / 2)))
        k += 1
    return [*(rung for rung in rungs if rung < exact_rule), exact_rule]


def _climb(
    x: Float[np.ndarray, "B n m"],
    concentration: float,
    steps: Int[np.ndarray, " P"],
    tolerance: float,
    workers: Executor,
    progress: Advance,
    scale: Callable[[Float[np.ndarray, "B n m"], float], Float[np.ndarray, "B n"]] | None = None,
) -> tuple[Float[np.ndarray, "B P 2*m"], Float[np.ndarray, "B P"], Float[np.ndarray, " B"]]:
    """(E[λ_g], E[λ_g²]) side by side and log Z, after these numbers of transitions; and the error estimate.

    The estimate is the bound on rounding plus an eighth of the change from the rule before. The eighth is generous:
    the change is that rule's error, and Gauss rules converge geometrically. Given a tolerance, the rungs are close
    together, and the share is that by which the last change is smaller than the one before, times ``CAUTION``. The last
    rung has rounding errors only.

    Raises:
        SequenceError: a sequence needs a rule that takes too long for the tolerance.
    """
    n_sequences, n, m = x.shape
    factors, exponent = _scaled_factors(x, (scale or _as_learned)(x, concentration))
    asked = np.isin(np.arange(1, n + 1), steps)
    given = np.count_nonzero(steps == 0)  # whether the prior is asked for
    mean, log_evidence = np.full((n_sequences, n + 1, m), 1 / m), np.zeros((n_sequences, n + 1))
    square = np.full((n_sequences, len(steps), m), (concentration + 1) / (m * (m * concentration + 1)))
    log_evidence[:, 1:] = np.inf  # no rule yet to agree with
    error, last_change = np.full(n_sequences, np.inf), np.full(n_sequences, np.inf)
    rounding = ROUNDING * np.sqrt(n)
    loose = tolerance >= _least_tolerance(n)
    limit = tolerance if loose else rounding / 4
    foot = LOOSE_RULES if loose else (_foot(n),)
    if n > LONG and m > 1:
        foot = (max(foot[0], round(FIRST_LONG_GRID ** (1 / (m - 1)))),)
    ladder = _ladder(n, foot)
    for n_nodes in ladder:
        pending = np.flatnonzero(error == np.inf)
        if not pending.size:
            break
        if loose and _work(n, m, n_nodes) > MAX_WORK:
            raise SequenceError(
                int(pending[0]),
                f"exact quadrature would take more than the limit of {MAX_WORK:.0e} grid nodes x transitions for a "
                f"tolerance of {tolerance:g}; give a larger one, or shorter contexts.",
            )
        width = max(1, min(CHUNK, TASK // _work(n, m, n_nodes)))
        chunks = [pending[i : i + width] for i in range(0, len(pending), width)]
        sticks, counts = _sticks(n_nodes, m, concentration)
        slices = _slices(counts)
        # Squares wait for a rule that may be the last: what comes before has nothing to agree with.
        decides = n_nodes == ladder[-1] or n_nodes not in ladder[: 2 if loose else 1]
        squared = asked if decides else np.zeros_like(asked)
        partial = workers.map(
            lambda rows, nodes, sticks=sticks, counts=counts, squared=squared: _integrate(
                factors[rows], sticks, counts, nodes.start, nodes.stop, squared
            ),
            *zip(*itertools.product(chunks, slices), strict=True),
        )
        for rows in chunks:
            sums, squares = (
                functools.reduce(np.add, parts) for parts in zip(*itertools.islice(partial, len(slices)), strict=True)
            )
            change, evidence = _renew(mean, log_evidence, rows, sums, exponent)
            _check_range(evidence)
            if decides:
                square[rows, given:] = squares[..., -m:] / evidence[:, asked, None]
            left = _left(change, last_change[rows]) if loose else change / 8
            last_change[rows] = change
            error[rows] = np.where(left < limit, rounding + left, np.inf)
            if n_nodes == ladder[-1]:
                error[rows] = rounding
            progress(int(np.isfinite(error[rows]).sum()))  # whole sequences: at which rung one ends nobody knows before
    return np.concatenate([mean[:, steps], square], axis=-1), log_evidence[:, steps], error


def _left(change: Float[np.ndarray, " C"], before: Float[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
    """What a rule errs by, from the last two changes: rungs that are close together have to show how they converge."""
    share = CAUTION * change / np.where(np.isfinite(before), np.maximum(before, np.finfo(float).tiny), 1.0)
    return np.where(np.isfinite(before), change * np.minimum(share, 1), np.inf)


@compiled
def _as_learned(x: Float[np.ndarray, "B n m"], concentration: float) -> Float[np.ndarray, "B n"]:
    """log2⟨λ̂_t, x_t⟩, where λ̂_t ∝ α + the lags' expected counts before t: near the best node for each prefix."""
    n_sequences, n, m = x.shape
    log_scale, counts = np.empty((n_sequences, n)), np.empty(m)
    for i in range(n_sequences):
        counts[:] = concentration
        for t in range(n):
            total = 0.0
            for g in range(m):
                total += counts[g] * x[i, t, g]
            log_scale[i, t] = math.log2(total / (m * concentration + t))
            for g in range(m):
                counts[g] *= 1 + x[i, t, g] / total
    return log_scale


def _in_hindsight(x: Float[np.ndarray, "B n m"], concentration: float) -> Float[np.ndarray, "B n"]:
    """log2⟨λ*, x_t⟩ near the best λ: in long sequences what learning cost adds up to more than float64 holds.

    By EM with α pseudo-counts, which gets near enough soon.
    """
    n, m = x.shape[1:]
    weights = np.full((len(x), m), 1 / m)
    for _ in range(HINDSIGHT):
        counts = np.einsum("btg,bt->bg", x, 1 / np.einsum("btg,bg->bt", x, weights)) * weights
        weights = (concentration + counts) / (m * concentration + n)
    return np.log2(np.einsum("btg,bg->bt", x, weights))


@compiled
def _scaled_factors(
    x: Float[np.ndarray, "B n m"], log_scale: Float[np.ndarray, "B n"]
) -> tuple[Float[np.ndarray, "B n factors"], Int[np.ndarray, "B n"]]:
    """(min_g x(g), x - min_g x(g)) divided by powers of two, and the sum of these powers' exponents up to t.

    The sum is that of the scale to the nearest integer. Lags of weight 0 (``_sticks``) come first.
    """
    n_sequences, n, m = x.shape
    factors, exponent = np.zeros((n_sequences, n, 1 + max(m, 3))), np.empty((n_sequences, n), np.int64)
    for i in range(n_sequences):
        total, before = 0.0, 0
        for t in range(n):
            total += log_scale[i, t]
            exponent[i, t] = round(total)
            unit = math.ldexp(1.0, before - exponent[i, t])
            least = x[i, t, 0]
            for g in range(1, m):
                least = min(least, x[i, t, g])
            factors[i, t, 0] = unit * least
            for g in range(m):
                factors[i, t, g - m] = unit * (x[i, t, g] - least)
            before = exponent[i, t]
    return factors, exponent


def _sticks(
    n_nodes: int, m: int, concentration: float
) -> tuple[Float[np.ndarray, "sticks 7 lanes"], Int[np.ndarray, " sticks"]]:
    """The rule of each stick, padded by weights of 0, and how many nodes each has.

    A rule's rows are node, 1 - node, weight, and weight times the first and the second power of node and of 1 - node.
    There are at least two sticks: at orders 1 and 2 the first have one node, 0, for lags that there are not.
    """
    counts = np.array([1] * (3 - m) + [n_nodes] * (m - 1))
    rules = np.zeros((len(counts), 3, -(-n_nodes // LANES) * LANES))
    rules[:, 1:, 0] = 1
    for i in range(m - 1):
        rules[len(counts) - m + 1 + i, :, :n_nodes] = beta_rule(n_nodes, concentration, (m - 1 - i) * concentration)
    sides, weight = rules[:, :2], rules[:, 2:]
    return np.concatenate([rules, weight * sides, weight * sides**2], axis=1), counts


def _slices(counts: Int[np.ndarray, " sticks"]) -> list[range]:
    """The nodes of all sticks but two, as many together as one task of a worker goes over."""
    n_outer, step = math.prod(counts[:-2].tolist()), max(1, SLICE // int(counts[-2] * counts[-1]))
    return [range(first, min(first + step, n_outer)) for first in range(0, n_outer, step)]


class _OutOfRange(InputError):
    """Products of factors leave float64, however they are scaled."""


def _check_range(evidence: Float[np.ndarray, "C n"]) -> None:
    if not ((evidence > LEAST_EVIDENCE) & (evidence < np.inf)).all():
        raise _OutOfRange(
            f"exact quadrature leaves the range of float64 on a sequence of {evidence.shape[1]} transitions: its lags "
            "change along the way, so that no fixed weights explain it; give shorter contexts."
        )


@compiled
def _renew(
    mean: Float[np.ndarray, "B n+1 m"],
    log_evidence: Float[np.ndarray, "B n+1"],
    rows: Int[np.ndarray, " C"],
    sums: Float[np.ndarray, "C n lags"],
    exponent: Int[np.ndarray, "B n"],
) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, "C n"]]:
    """Put what a new rule says of these rows in the place of what the one before said.

    Returns the largest change of each, of the mean or of the log evidence relative to 1 + |log evidence|; and the
    evidence, scaled.
    """
    m, change, evidence = mean.shape[2], np.zeros(len(rows)), np.empty(sums.shape[:2])
    for i in range(len(rows)):
        row = rows[i]
        for t in range(1, mean.shape[1]):
            total = 0.0
            for g in range(m):
                total += sums[i, t - 1, g - m]
            for g in range(m):
                value = sums[i, t - 1, g - m] / total
                change[i] = max(change[i], abs(value - mean[row, t, g]))
                mean[row, t, g] = value
            value = math.log(total) + exponent[row, t - 1] * math.log(2.0)
            change[i] = max(change[i], abs(value - log_evidence[row, t]) / (1 + abs(value)))
            log_evidence[row, t] = value
            evidence[i, t - 1] = total
    return change, evidence


@compiled
def _integrate(
    factors: Float[np.ndarray, "C n factors"],
    sticks: Float[np.ndarray, "sticks 7 lanes"],
    counts: Int[np.ndarray, " sticks"],
    first: int,
    last: int,
    asked: Bool[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, "C n m"], Float[np.ndarray, "C asked m"]]:
    """E[λ_g Π f] at every prefix, and E[λ_g² Π f] at those asked for, over a part of the grid.

    The part is all nodes of the last two sticks for nodes first..last-1 of the others together. The running products of
    one sequence stand in a matrix, the last stick along its rows; sums over its columns are all that a step needs.
    """
    n_sequences, n, n_factors = factors.shape
    m, n_nodes, n_lanes, n_asked = n_factors - 1, counts[-2], sticks.shape[2] // LANES * LANES, 0
    for t in range(n):
        n_asked += asked[t]
    sums, squares = np.zeros((n_sequences, n, m)), np.zeros((n_sequences, n_asked, m))
    middle, end, weights = sticks[-2], sticks[-1], np.empty(m)
    n_rows = n_nodes + n_nodes % 2  # two at a time; the weights of one too many are 0
    product, tail = np.empty((n_rows, n_lanes)), np.empty(n_lanes)
    of_node, of_rest = np.empty(n_lanes), np.empty(n_lanes)
    of_node_squared, of_rest_squared = np.empty(n_lanes), np.empty(n_lanes)
    for i in range(n_sequences):
        for index in range(first, last):
            left = mass = 1.0
            for g in range(m - 3):
                k = index % counts[g]
                index //= counts[g]
                weights[g] = left * sticks[g, NODE, k]
                left *= sticks[g, REST, k]
                mass *= sticks[g, WEIGHT, k]
            for k in range(n_rows):
                for j in range(n_lanes):
                    product[k, j] = 1.0
            place = 0
            for t in range(n):
                factor, wanted = factors[i, t], asked[t]
                base = factor[0]
                for g in range(m - 3):
                    base += weights[g] * factor[g + 1]
                for j in range(n_lanes):
                    tail[j] = end[NODE, j] * factor[m - 1] + end[REST, j] * factor[m]
                    of_node[j] = of_rest[j] = of_node_squared[j] = of_rest_squared[j] = 0.0
                share = left * factor[m - 2]
                for k in range(0, n_rows, 2):
                    a, a_next = base + share * middle[NODE, k], base + share * middle[NODE, k + 1]
                    b, b_next = left * middle[REST, k], left * middle[REST, k + 1]
                    c, c_next = middle[OF_NODE, k], middle[OF_NODE, k + 1]
                    d, d_next = middle[OF_REST, k], middle[OF_REST, k + 1]
                    e, e_next = middle[OF_NODE_SQUARED, k], middle[OF_NODE_SQUARED, k + 1]
                    f, f_next = middle[OF_REST_SQUARED, k], middle[OF_REST_SQUARED, k + 1]
                    for j in range(n_lanes):
                        value = product[k, j] * (a + b * tail[j])
                        following = product[k + 1, j] * (a_next + b_next * tail[j])
                        product[k, j] = value
                        product[k + 1, j] = following
                        of_node[j] = (of_node[j] + c * value) + c_next * following
                        of_rest[j] = (of_rest[j] + d * value) + d_next * following
                        if wanted:
                            of_node_squared[j] = (of_node_squared[j] + e * value) + e_next * following
                            of_rest_squared[j] = (of_rest_squared[j] + f * value) + f_next * following
                third_last = second_last = last_of_all = 0.0
                for j in range(n_lanes):
                    third_last += end[WEIGHT, j] * of_node[j]
                    second_last += end[OF_NODE, j] * of_rest[j]
                    last_of_all += end[OF_REST, j] * of_rest[j]
                evidence = third_last + second_last + last_of_all
                for g in range(m - 3):
                    sums[i, t, g] += mass * weights[g] * evidence
                share = mass * left
                sums[i, t, m - 3] += share * third_last
                sums[i, t, m - 2] += share * second_last
                sums[i, t, m - 1] += share * last_of_all
                if wanted:
                    third_last = second_last = last_of_all = 0.0
                    for j in range(n_lanes):
                        third_last += end[WEIGHT, j] * of_node_squared[j]
                        second_last += end[OF_NODE_SQUARED, j] * of_rest_squared[j]
                        last_of_all += end[OF_REST_SQUARED, j] * of_rest_squared[j]
                    for g in range(m - 3):
                        squares[i, place, g] += mass * weights[g] * weights[g] * evidence
                    share *= left
                    squares[i, place, m - 3] += share * third_last
                    squares[i, place, m - 2] += share * second_last
                    squares[i, place, m - 1] += share * last_of_all
                    place += 1
                if t % SWEEP == 0:
                    for k in range(n_rows):
                        for j in range(n_lanes):
                            if product[k, j] < NOTHING:
                                product[k, j] = 0.0
    return sums, squares
