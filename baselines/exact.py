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
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from mdbench.baselines.baseline import EXACT, Baseline, Contexts, Lengths, option
from mdbench.baselines.jacobi import beta_rule
from mdbench.baselines.posterior import Posterior
from mdbench.core.device import n_cores
from mdbench.core.errors import InputError, SequenceError
from mdbench.core.progress import Advance, no_advance
from mdbench.tasks import DirichletMixture

# Fixed shapes of the compiled computation: no result depends on the batch around a sequence, nor on the workers.
CHUNK = {1: 32, 2: 32, 3: 32, 4: 32, 5: 4}  # sequences side by side, by order; alone from order 6 on
BLOCK = {32: 512, 4: 2048, 1: 2048}  # grid nodes at a time, by chunk: their running products stay in one core's cache
SLICE = 2**22  # nodes in one task of a worker
GROUP = 128  # nodes in one matrix product: too small for XLA to split over threads, which would reorder its sums
HINDSIGHT = 100  # steps of EM for a scale
LONG = 2**14  # transitions; longer sequences are integrated alone, whatever the order
PORTION = 1024  # sequences that climb the ladder together: bounds the memory

FIRST_RULE = 12  # nodes per stick at the foot of the ladder; each rung has √2 times as many as the one before
LOOSE_RULES = (6, 8, 10, 12, 14, 16, 18, 20)  # the same where a tolerance above rounding is given: close together
FIRST_LONG_GRID = 2**10  # nodes of the whole grid at the foot for long sequences: fewer take as long, a block at a time
ENOUGH = 40  # nodes per stick and root of the number of transitions, at which the rules of long sequences have agreed
CAUTION = 20  # times the error that two changes say is left
MAX_TOLERANCE = 1e-4  # far from where a Gauss rule's error is no longer its distance to the next
MAX_WORK = 1.6e11  # grid nodes x transitions for one sequence: about four minutes on two cores

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
        at = np.array(wanted, dtype=int) - task.given
        moments = np.empty((n_sequences, len(wanted), 2 * m))
        log_evidence = np.empty((n_sequences, len(wanted)))
        error = np.empty(n_sequences)
        with ThreadPoolExecutor(n_cores()) as workers:
            for first in range(0, n_sequences, PORTION):
                rows = slice(first, first + PORTION)
                given = x[rows], task.concentration, self.tolerance, workers, progress or no_advance
                try:
                    result = _climb(*given)
                except _OutOfRange:
                    result = _climb(*given, _in_hindsight)
                except SequenceError as fault:
                    raise SequenceError(first + fault.index, fault.what) from None
                moments[rows], log_evidence[rows], error[rows] = result[0][:, at], result[1][:, at], result[2]
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


def _ladder(n: int, foot: Sequence[int] = (FIRST_RULE,)) -> list[int]:
    """Numbers of nodes per stick to try, from these on, the last of which is exact for second moments."""
    rungs, exact_rule, k = list(foot), (n + 4) // 2, 1
    while rungs[-1] < exact_rule:
        rungs.append(round(foot[-1] * 2 ** (k / 2)))
        k += 1
    return [*(rung for rung in rungs if rung < exact_rule), exact_rule]


def _climb(
    x: Float[np.ndarray, "B n m"],
    concentration: float,
    tolerance: float,
    workers: Executor,
    progress: Advance,
    scale: Callable[[Float[np.ndarray, "B n m"], float], Float[np.ndarray, "B n"]] | None = None,
) -> tuple[Float[np.ndarray, "B n+1 2*m"], Float[np.ndarray, "B n+1"], Float[np.ndarray, " B"]]:
    """(E[λ_g], E[λ_g²]) side by side and log Z, at the prefixes of m..T tokens; and the error estimate.

    The estimate is the bound on rounding plus an eighth of the change from the rule before. The eighth is generous:
    the change is that rule's error, and Gauss rules converge geometrically. Given a tolerance, the rungs are close
    together, and the share is that by which the last change is smaller than the one before, times ``CAUTION``. The last
    rung has rounding errors only.

    Raises:
        SequenceError: a sequence needs a rule that takes too long for the tolerance.
    """
    n_sequences, n, m = x.shape
    factors, exponent = _scaled_factors(x, (scale or _as_learned)(x, concentration))
    moments = np.zeros((n_sequences, n + 1, 2 * m))
    moments[:, 0] = [1 / m] * m + [(concentration + 1) / (m * (m * concentration + 1))] * m  # the prior
    log_evidence = np.zeros((n_sequences, n + 1))
    log_evidence[:, 1:] = np.inf  # no rule yet to agree with
    error, last_change = np.full(n_sequences, np.inf), np.full(n_sequences, np.inf)
    rounding = ROUNDING * np.sqrt(n)
    loose = tolerance >= _least_tolerance(n)
    limit = tolerance if loose else rounding / 4
    foot = LOOSE_RULES if loose else (FIRST_RULE,)
    if n > LONG and m > 1:
        foot = (max(foot[0], round(FIRST_LONG_GRID ** (1 / (m - 1)))),)
    ladder = _ladder(n, foot)
    width = CHUNK.get(m, 1) if n <= LONG else 1
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
        chunks = [pending[i : i + width] for i in range(0, len(pending), width)]
        rules = _padded_rules(n_nodes, ladder[-1], m, concentration)
        slices = range(0, n_nodes ** (m - 1), SLICE)
        tasks = [(rows, first) for rows in chunks for first in slices]
        partial = workers.map(
            lambda task, rules=rules, n=n_nodes: _integrate(rules, n, factors[task[0]], width, task[1]), tasks
        )
        for rows in chunks:
            sums = np.zeros(())
            for _ in slices:
                sums = sums + next(partial)
            _check_range(sums)
            evidence = sums[..., :m].sum(axis=-1)
            new_moments = sums / evidence[..., None]
            new_log_evidence = exponent[rows] * np.log(2) + np.log(evidence)
            change = np.maximum(
                np.abs(new_moments - moments[rows, 1:])[..., :m].max(axis=(1, 2)),
                (np.abs(new_log_evidence - log_evidence[rows, 1:]) / (1 + np.abs(new_log_evidence))).max(axis=1),
            )
            moments[rows, 1:], log_evidence[rows, 1:] = new_moments, new_log_evidence
            left = _left(change, last_change[rows]) if loose else change / 8
            last_change[rows] = change
            error[rows] = np.where(left < limit, rounding + left, np.inf)
            if n_nodes == ladder[-1]:
                error[rows] = rounding
            progress(int(np.isfinite(error[rows]).sum()))  # whole sequences: at which rung one ends nobody knows before
    return moments, log_evidence, error


def _left(change: Float[np.ndarray, " C"], before: Float[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
    """What a rule errs by, from the last two changes: rungs that are close together have to show how they converge."""
    share = CAUTION * change / np.where(np.isfinite(before), np.maximum(before, np.finfo(float).tiny), 1.0)
    return np.where(np.isfinite(before), change * np.minimum(share, 1), np.inf)


def _as_learned(x: Float[np.ndarray, "B n m"], concentration: float) -> Float[np.ndarray, "B n"]:
    """log2⟨λ̂_t, x_t⟩, where λ̂_t ∝ α + the lags' expected counts before t: near the best node for each prefix."""
    log_scale = np.empty(x.shape[:2])
    counts = np.full(x[:, 0].shape, float(concentration))
    for t in range(x.shape[1]):
        joint = counts * x[:, t]
        total = joint.sum(axis=-1, keepdims=True)
        log_scale[:, t] = np.log2(total / counts.sum(axis=-1, keepdims=True))[:, 0]
        counts += joint / total
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


def _scaled_factors(
    x: Float[np.ndarray, "B n m"], log_scale: Float[np.ndarray, "B n"]
) -> tuple[Float[np.ndarray, "B n m+1"], Int[np.ndarray, "B n"]]:
    """(min_g x(g), x - min_g x(g)) divided by powers of two, and the sum of these powers' exponents up to t.

    The sum is that of the scale to the nearest integer.
    """
    exponent = np.rint(np.cumsum(log_scale, axis=1)).astype(np.int64)
    least = x.min(axis=-1, keepdims=True)
    factors = np.concatenate([least, x - least], axis=-1)
    return np.ldexp(factors, -np.diff(exponent, axis=1, prepend=0)[..., None]), exponent


def _padded_rules(n_nodes: int, size: int, m: int, concentration: float) -> Float[np.ndarray, "d 3 size"]:
    """Node, 1 - node and weight of the rule of each stick, in arrays of one size: one compilation for all rungs."""
    rules = np.zeros((m - 1, 3, size))
    for i in range(m - 1):
        rules[i, :, :n_nodes] = beta_rule(n_nodes, concentration, (m - 1 - i) * concentration)
    return rules


def _integrate(
    rules: Float[np.ndarray, "d 3 size"],
    n_nodes: int,
    factors: Float[np.ndarray, "C n factors"],
    width: int,
    first: int,
) -> Float[np.ndarray, "C n moments"]:
    """E[λ_g Π f] and E[λ_g² Π f] at every prefix over one slice of the grid, for at most ``width`` sequences."""
    padded = np.ones((*factors.shape[1:], width))
    padded[..., : len(factors)] = factors.transpose(1, 2, 0)
    last = min(first + SLICE, n_nodes ** len(rules))
    sums = _grid_sums(padded, rules, n_nodes, first, last, BLOCK[width])
    return np.asarray(sums)[..., : len(factors)].transpose(2, 0, 1)


class _OutOfRange(InputError):
    """Products of factors leave float64, however they are scaled."""


def _check_range(sums: Float[np.ndarray, "C n moments"]) -> None:
    if not (np.isfinite(sums).all() and (sums.sum(axis=-1) > 0).all()):
        raise _OutOfRange(
            f"exact quadrature leaves the range of float64 on a sequence of {sums.shape[1]} transitions: its lags "
            "change along the way, so that no fixed weights explain it; give shorter contexts."
        )


@functools.partial(jax.jit, static_argnames="block")
def _grid_sums(
    factors: Float[Array, "n factors width"],
    rules: Float[Array, "d 3 size"],
    n_nodes: Int[Array, ""],
    first: Int[Array, ""],
    last: Int[Array, ""],
    block: int,
) -> Float[Array, "n moments width"]:
    """Prior mass times (λ, λ²) times the running product of ⟨λ, f_t⟩, summed over the nodes first..last-1."""
    n, _, width = factors.shape
    m = len(rules) + 1

    def add_block(k: Int[Array, ""], sums: Float[Array, "n k width"]) -> Float[Array, "n k width"]:
        weights, mass = _grid_nodes(rules, n_nodes, first + k * block + jnp.arange(block))
        moments = jnp.concatenate([weights, weights**2], axis=1) * mass[:, None]
        design = jnp.concatenate([jnp.ones((block, 1)), weights], axis=1).reshape(-1, GROUP, m + 1)
        moments = moments.reshape(-1, GROUP, 2 * m).transpose(0, 2, 1)

        def step(product: Array, factor: Array) -> tuple[Array, Array]:  # (block / GROUP, GROUP, width), (m + 1, width)
            product = product * (design @ factor)
            return product, (moments @ product).sum(axis=0)

        return sums + lax.scan(step, jnp.ones((block // GROUP, GROUP, width)), factors)[1]

    return lax.fori_loop(0, -(-(last - first) // block), add_block, jnp.zeros((n, 2 * m, width)))


def _grid_nodes(
    rules: Float[Array, "d 3 size"], n_nodes: Int[Array, ""], index: Int[Array, " block"]
) -> tuple[Float[Array, "block m"], Float[Array, " block"]]:
    """λ and its prior mass at the nodes numbered ``index`` of the tensor grid; mass 0 beyond its end."""
    mass = jnp.where(index < n_nodes ** len(rules), 1.0, 0.0)
    left, weights = jnp.ones(len(index)), []
    for rule in rules:
        node, rest, weight = rule[:, index % n_nodes]
        weights.append(left * node)
        left, mass, index = left * rest, mass * weight, index // n_nodes
    return jnp.stack([*weights, left], axis=1), mass
