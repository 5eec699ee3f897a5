r"""k steps of Mirror Descent on λ with the negative-entropy potential (docs/mathematics.md, section 3).

    λ⁰ = (1/m, .., 1/m),    λ^{j+1}_g ∝ λ^j_g exp(η ∂_g ℓ(λ^j)),    ∂_g ℓ(λ) = Σ_t x_t(g) / ⟨λ, x_t⟩

The same update is EG_η of Helmbold, Schapire, Singer and Warmuth (Machine Learning 27:97-119, 1997).

One step whose size depends on the sequence (docs/approximations.md), with d_t = γ_t - 1/m, S = Σ_t |d_t|²:

    adaptive: λ = softmax(m Σ_t d_t / (a + b S)),    matrix: λ = softmax((a I + b Σ_t d_t d_tᵀ)⁻¹ m Σ_t d_t)
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdbench.algorithms.reweighting import responsibilities
from mdbench.core.compilation import compiled
from mdbench.core.errors import InputError

TracedFloat = float | Float[Array, ""]  # as compiled code gets them
TracedInt = int | Int[Array, ""]
STEP_SIZES = ("tuned", "theory", "smooth")
ADAPTIVE, ADAPTIVE_TUNED, MATRIX = "adaptive", "adaptive_tuned", "matrix"
OF_ONE_STEP = ("theory", ADAPTIVE, ADAPTIVE_TUNED, MATRIX)

MOST_STEPS = 100_000

LEAST_PADDED = 16  # transitions; beyond them each power of two has compiled code of its own

LARGEST_LOG_RATIO = 600.0  # log of x/⟨λ, x⟩: keeps a gradient finite where a weight has all but vanished


def check_steps(steps: int, most: int = MOST_STEPS, word: str = "steps") -> None:
    """Raise :class:`InputError` unless ``steps``, or what ``word`` calls it, is a whole number from 1 to ``most``."""
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= most:
        raise InputError(f"{word} must be a whole number from 1 to {most}, not {steps!r}.")


def descend_evenly(x: Float[np.ndarray, "batch n m"], eta: float, steps: int) -> Float[np.ndarray, "batch m"]:
    """λ^k from the lag likelihoods, with one step size.

    The first step needs no logarithm of x: at equal weights no ratio is above m. It is compiled apart, since one step
    is what most ask for, and handing an array to jax takes longer than the step.
    """
    n = x.shape[1]
    first = _first_step(np.ascontiguousarray(x), float(eta))
    if steps == 1:
        return np.exp(first)
    log_x = np.log(padded(x)).transpose(1, 2, 0)  # sequences side by side, for vector instructions
    return np.asarray(_descend_padded(log_x, first.T, n, eta, steps - 1)).T


def padded(x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch more m"]:
    """With transitions that say nothing, so that many lengths share compiled code."""
    n = x.shape[1]
    more = max(LEAST_PADDED, 1 << (n - 1).bit_length()) - n
    return np.pad(x, ((0, 0), (0, more), (0, 0)), constant_values=1.0)


@compiled
def _first_step(x: Float[np.ndarray, "batch n m"], eta: float) -> Float[np.ndarray, "batch m"]:
    """Log λ¹: η Σ_t x_t(g) / mean x_t, and what makes the weights sum to one."""
    batch, n, m = x.shape
    log_weights = np.zeros((batch, m))
    for i in range(batch):
        for t in range(n):
            total = 0.0
            for g in range(m):
                total += x[i, t, g]
            scale = eta * m / total
            for g in range(m):
                log_weights[i, g] += scale * x[i, t, g]
        most, total = log_weights[i].max(), 0.0
        for g in range(m):
            total += np.exp(log_weights[i, g] - most)
        log_weights[i] -= most + np.log(total)
    return log_weights


@jax.jit
def _descend_padded(
    log_x: Float[Array, "n m batch"],
    log_weights: Float[Array, "m batch"],
    n: TracedInt,
    eta: TracedFloat,
    steps: TracedInt,
) -> Float[Array, "m batch"]:
    """So many steps more. The first ``n`` transitions count: one compilation for many lengths."""
    step = functools.partial(_step, log_x, eta=eta, counts=jnp.arange(log_x.shape[0]) < n)
    return jnp.exp(jax.lax.fori_loop(0, steps, lambda _, log_weights: step(log_weights), log_weights))


def descend(x: Float[Array, "batch n m"], etas: Float[Array, "k ..."]) -> Float[Array, "batch m"]:
    """λ^k with a step size for each step, the same for all sequences or (k, batch, 1); differentiable in them."""
    log_x = jnp.log(x).transpose(1, 2, 0)
    start = jnp.full(log_x.shape[1:], -math.log(x.shape[2]))
    return jnp.exp(jax.lax.scan(lambda log_weights, eta: (_step(log_x, log_weights, eta.T), None), start, etas)[0]).T


def adaptive_constants(m: int, alpha: float) -> tuple[float, float]:
    """Those of ``adaptive``: prior precision, and information that counts as isotropic."""
    return m * alpha + 1, m / (m - 1) if m > 1 else 0.0


def adaptive_step(
    x: Float[Any, "batch n m"], constants: Float[Any, " 2"], matrix: bool = False
) -> Float[Array, "batch m"]:
    """λ after one step of ``adaptive`` or ``matrix``, a and b its ``constants``; differentiable in them."""
    d = deviations(jnp.asarray(x))
    spread = jnp.einsum("btg,bth->bgh", d, d) if matrix else (d**2).sum(axis=(1, 2))[:, None, None]
    return _adapted(d.sum(axis=1), spread, constants, matrix)


def one_step_prefixes(
    x: Float[Any, "batch n m"], etas: Float[Array, " n_and_one"]
) -> Float[Array, "batch n_and_one m"]:
    """λ of one step after 0, .., n transitions, with a step size for each."""
    total = _with_none(jnp.cumsum(deviations(x), axis=1))
    return jax.nn.softmax(etas[:, None] * x.shape[2] * total, axis=-1)


def adaptive_prefixes(x: Float[Array, "batch n m"], constants: Float[Any, " 2"]) -> Float[Array, "batch n_and_one m"]:
    """λ of ``adaptive`` after 0, .., n transitions."""
    d = deviations(x)
    spread = _with_none(jnp.cumsum((d**2).sum(axis=-1, keepdims=True), axis=1))
    return _adapted(_with_none(jnp.cumsum(d, axis=1)), spread[..., None], constants, False)


def deviations(x: Float[Any, "batch n m"]) -> Float[Array, "batch n m"]:
    """d_t = γ_t - 1/m."""
    return responsibilities(x) - 1 / x.shape[2]


def _with_none(sums: Float[Array, "batch n k"]) -> Float[Array, "batch n_and_one k"]:
    """With the sum of no transition in front."""
    return jnp.pad(sums, ((0, 0), (1, 0), (0, 0)))


def _adapted(
    total: Float[Array, "... m"], spread: Float[Array, "... k k"], constants: Float[Any, " 2"], matrix: bool
) -> Float[Array, "... m"]:
    a, b = constants
    m = total.shape[-1]
    if matrix:
        return jax.nn.softmax(jnp.linalg.solve(a * jnp.eye(m) + b * spread, m * total[..., None])[..., 0], axis=-1)
    return jax.nn.softmax(m * total / (a + b * spread[..., 0]), axis=-1)


def _step(
    log_x: Float[Array, "n m batch"],
    log_weights: Float[Array, "m batch"],
    eta: TracedFloat | Float[Array, "1 batch"],
    counts: Bool[Array, " n"] | None = None,
) -> Float[Array, "m batch"]:
    """One step, in logarithms: a large one takes a weight below what float64 can hold."""
    log_mixture = jax.nn.logsumexp(log_weights + log_x, axis=1, keepdims=True)  # log⟨λ, x_t⟩
    ratio = jnp.exp(jnp.minimum(log_x - log_mixture, LARGEST_LOG_RATIO))
    gradient = ratio.sum(axis=0, where=None if counts is None else counts[:, None, None])
    return jax.nn.log_softmax(log_weights + eta * gradient, axis=0)
