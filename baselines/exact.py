r"""The exact posterior of the mixture weights, by stick-breaking Gauss-Jacobi quadrature (SPEC section 2).

    λ_i = v_i Π_{j<i} (1 - v_j),   v_i ~ Beta(α, (m-i)α),   i = 1..m-1;   λ_m is what is left of the stick.

The likelihood times λ_g² is a polynomial of degree at most n + 2 in each v_i, so ⌈(n+3)/2⌉ Gauss nodes per stick give
every moment here exactly, up to rounding. Far fewer are usually enough: each sequence climbs a ladder of rules until two
successive ones agree, at every prefix, to rounding.

The likelihood is taken relative to that of a sequential plug-in estimate λ̂_t of λ, so that a product over the sequence
neither overflows nor underflows and takes no logarithm per factor and node:

    log Z = Σ_t log⟨λ̂_t, x_t⟩ + log E[Π_t f_t(λ)],   f_t(λ) = ⟨λ, x_t⟩ / ⟨λ̂_t, x_t⟩.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from mdbench.baselines.jacobi import beta_rule
from mdbench.baselines.posterior import Posterior, prefix_lengths
from mdbench.errors import InputError
from mdbench.tasks import Task, lag_likelihoods

# Fixed shapes of the compiled computation: no result depends on the batch around a sequence, nor on the workers.
CHUNK = 32  # sequences side by side
BLOCK = 512  # grid nodes at a time: BLOCK x CHUNK running products (128 KiB) stay in one core's cache
GROUP = 128  # nodes in one matrix product: too small for XLA to split over threads, which would reorder its sums
PORTION = 1024  # sequences that climb the ladder together: bounds the memory

FIRST_RULE = 12  # nodes per stick at the foot of the ladder; each rung has √2 times as many as the one before
MAX_WORK = 2e9  # grid nodes x transitions for one sequence: about a second on one core

ROUNDING = 1e-15


def exact(
    task: Task,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Posterior:
    """Posterior mean, sd and log evidence to float64 rounding, with a bound on the error that is left.

    Args:
        task: gives π, m and α.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone). The computation does not depend on them: rules are chosen,
            and errors estimated, over all prefixes of the whole sequence.
        progress: called with the number of sequences that have just been finished.

    Raises:
        InputError: a sequence is impossible, or (before anything is computed) the grid would be too large.
    """
    x = lag_likelihoods(task, contexts)
    n_sequences, n, m = x.shape
    wanted = prefix_lengths(task, n + m, lengths)
    _check_work(n, m)
    at = np.array(wanted) - m
    moments = np.empty((n_sequences, len(wanted), 2 * m))
    log_evidence = np.empty((n_sequences, len(wanted)))
    error = np.empty(n_sequences)
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        for first in range(0, n_sequences, PORTION):
            rows = slice(first, first + PORTION)
            result = _climb(x[rows], task.concentration, workers, progress or (lambda _: None))
            moments[rows], log_evidence[rows], error[rows] = result[0][:, at], result[1][:, at], result[2]
    mean, square = moments[..., :m], moments[..., m:]
    sd = np.sqrt(np.maximum(square - mean**2, 0))  # rounding can leave -1e-17 where the sd is 0
    return Posterior("exact", wanted, mean, sd, log_evidence, error)


def _check_work(n: int, m: int) -> None:
    def work(n: int) -> int:
        return n * _ladder(n)[-1] ** (m - 1)

    if work(n) > MAX_WORK:
        fits = max(fit for fit in range(1, n) if work(fit) <= MAX_WORK)
        raise InputError(
            f"exact quadrature at order {m} and length {n + m} could need {work(n):.1e} grid nodes x transitions a "
            f"sequence, over the limit of {MAX_WORK:.0e}; at this order, lengths up to {fits + m} fit."
        )


def _ladder(n: int) -> list[int]:
    """Numbers of nodes per stick to try, the last of which is exact for second moments."""
    rungs, exact_rule = [FIRST_RULE], (n + 4) // 2
    while rungs[-1] < exact_rule:
        rungs.append(round(FIRST_RULE * 2 ** (len(rungs) / 2)))
    return [*rungs[:-1], exact_rule]


def _climb(
    x: Float[np.ndarray, "B n m"], concentration: float, workers: Executor, progress: Callable[[int], None]
) -> tuple[Float[np.ndarray, "B n+1 2m"], Float[np.ndarray, "B n+1"], Float[np.ndarray, " B"]]:
    """E[λ_g] and E[λ_g²] side by side, and log Z, at the prefixes of m..T tokens; and the error estimate."""
    n_sequences, n, m = x.shape
    factors, log_scale = _relative_likelihoods(x, concentration)
    moments = np.zeros((n_sequences, n + 1, 2 * m))
    moments[:, 0] = [1 / m] * m + [(1 + 1 / concentration) / (m * (m + 1 / concentration))] * m
    log_evidence = np.zeros((n_sequences, n + 1))
    log_evidence[:, 1:] = np.inf  # no rule yet to agree with
    error = np.full(n_sequences, np.inf)
    floor = ROUNDING * np.sqrt(n)
    ladder = _ladder(n)
    for n_nodes in ladder:
        pending = np.flatnonzero(error == np.inf)
        chunks = [pending[i : i + CHUNK] for i in range(0, len(pending), CHUNK)]
        rules = _padded_rules(n_nodes, ladder[-1], m, concentration)
        jobs = workers.map(lambda rows: _integrate(factors[rows], rules, n_nodes), chunks)
        for rows, sums in zip(chunks, jobs, strict=True):
            evidence = sums[..., :m].sum(axis=-1)
            old = moments[rows], log_evidence[rows]
            moments[rows, 1:] = sums / evidence[..., None]
            log_evidence[rows, 1:] = log_scale[rows] + np.log(evidence)
            change = _change(*old, moments[rows], log_evidence[rows])
            error[rows] = np.where(change < floor, floor + change, np.inf)
            if n_nodes == ladder[-1]:
                error[rows] = floor
            progress(int(np.isfinite(error[rows]).sum()))
    return moments, log_evidence, error


def _change(old_moments, old_log_evidence, moments, log_evidence) -> Float[np.ndarray, " B"]:
    """How far two rules are apart, over all prefixes, in the measure of ``Posterior.error``."""
    m = moments.shape[-1] // 2
    mean = np.abs(moments - old_moments)[..., :m].max(axis=(1, 2))
    scaled = (np.abs(log_evidence - old_log_evidence) / (1 + np.abs(log_evidence))).max(axis=1)
    return np.maximum(mean, scaled)


def _relative_likelihoods(
    x: Float[np.ndarray, "B n m"], concentration: float
) -> tuple[Float[np.ndarray, "B n m"], Float[np.ndarray, "B n"]]:
    """x_t / ⟨λ̂_t, x_t⟩ and Σ_{s≤t} log⟨λ̂_s, x_s⟩, where λ̂_t ∝ α + the lags' expected counts before t."""
    factors, log_scale = np.empty_like(x), np.empty(x.shape[:2])
    counts = np.full(x[:, 0].shape, float(concentration))
    for t in range(x.shape[1]):
        joint = counts * x[:, t]
        total = joint.sum(axis=-1, keepdims=True)
        scale = total / counts.sum(axis=-1, keepdims=True)
        factors[:, t], log_scale[:, t] = x[:, t] / scale, np.log(scale[:, 0])
        counts += joint / total
    return factors, np.cumsum(log_scale, axis=1)


def _padded_rules(n_nodes: int, size: int, m: int, concentration: float) -> Float[np.ndarray, "m-1 3 size"]:
    """Node, 1 - node and weight of the rule of each stick, in arrays of one size: one compilation for all rungs."""
    rules = np.zeros((m - 1, 3, size))
    for i in range(m - 1):
        rules[i, :, :n_nodes] = beta_rule(n_nodes, concentration, (m - 1 - i) * concentration)
    return rules


def _integrate(
    factors: Float[np.ndarray, "C n m"], rules: Float[np.ndarray, "m-1 3 size"], n_nodes: int
) -> Float[np.ndarray, "C n 2m"]:
    """E[λ_g Π f] and E[λ_g² Π f] at every prefix, for at most CHUNK sequences."""
    padded = np.ones((*factors.shape[1:], CHUNK))
    padded[..., : len(factors)] = factors.transpose(1, 2, 0)
    return np.asarray(_sums(padded, rules, n_nodes))[..., : len(factors)].transpose(2, 0, 1)


@jax.jit
def _sums(
    factors: Float[Array, "n m CHUNK"], rules: Float[Array, "m-1 3 size"], n_nodes: Int[Array, ""]
) -> Float[Array, "n 2m CHUNK"]:
    n, m, _ = factors.shape

    def add_block(block, sums):
        weights, mass = _grid_nodes(rules, n_nodes, block * BLOCK + jnp.arange(BLOCK))
        moments = jnp.concatenate([weights, weights**2], axis=1) * mass[:, None]
        weights = weights.reshape(-1, GROUP, m)
        moments = moments.reshape(-1, GROUP, 2 * m).transpose(0, 2, 1)

        def step(product, factor):  # product: (BLOCK / GROUP, GROUP, CHUNK), factor: (m, CHUNK)
            product = product * (weights @ factor)
            return product, (moments @ product).sum(axis=0)

        return sums + lax.scan(step, jnp.ones((BLOCK // GROUP, GROUP, CHUNK)), factors)[1]

    n_blocks = -(-(n_nodes ** (m - 1)) // BLOCK)
    return lax.fori_loop(0, n_blocks, add_block, jnp.zeros((n, 2 * m, CHUNK)))


def _grid_nodes(rules, n_nodes, index) -> tuple[Float[Array, "BLOCK m"], Float[Array, " BLOCK"]]:
    """λ and its prior mass at the nodes numbered ``index`` of the tensor grid; mass 0 beyond its end."""
    mass = jnp.where(index < n_nodes ** len(rules), 1.0, 0.0)
    left, weights = jnp.ones(len(index)), []
    for rule in rules:
        node, rest, weight = rule[:, index % n_nodes]
        weights.append(left * node)
        left, mass, index = left * rest, mass * weight, index // n_nodes
    return jnp.stack([*weights, left], axis=1), mass
