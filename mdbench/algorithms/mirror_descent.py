r"""k steps of Mirror Descent on λ with the negative-entropy potential (docs/model.md, section 3).

    λ⁰ = (1/m, .., 1/m),    λ^{j+1}_g ∝ λ^j_g exp(η ∂_g ℓ(λ^j)),    ∂_g ℓ(λ) = Σ_t x_t(g) / ⟨λ, x_t⟩

The same update is EG_η of Helmbold, Schapire, Singer and Warmuth (Machine Learning 27:97-119, 1997).
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mdbench.core.errors import InputError

TracedFloat = float | Float[Array, ""]  # as compiled code gets them
TracedInt = int | Int[Array, ""]
STEP_SIZES = ("tuned", "theory", "smooth")

MOST_STEPS = 100_000

STRIDE = 128  # transitions: contexts of up to so many more share compiled code

LARGEST_LOG_RATIO = 600.0  # log of x/⟨λ, x⟩: keeps a gradient finite where a weight has all but vanished


def check_steps(steps: int) -> None:
    """Raise :class:`InputError` unless ``steps`` is a whole number from 1 to 100,000."""
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MOST_STEPS:
        raise InputError(f"steps must be a whole number from 1 to {MOST_STEPS}, not {steps!r}.")


def descend_evenly(x: Float[np.ndarray, "batch n m"], eta: float, steps: int) -> Float[Array, "batch m"]:
    """λ^k from the lag likelihoods, with one step size."""
    n = x.shape[1]
    filled = np.pad(x, ((0, 0), (0, -n % STRIDE), (0, 0)), constant_values=1.0)
    return _descend_padded(filled, n, eta, steps)


@jax.jit
def _descend_padded(
    x: Float[Array, "batch n m"], n: TracedInt, eta: TracedFloat, steps: TracedInt
) -> Float[Array, "batch m"]:
    """The first ``n`` transitions count: one compilation for many lengths."""
    log_x, counts = jnp.log(x), jnp.arange(x.shape[1]) < n
    step = functools.partial(_step, log_x, eta=eta, counts=counts)
    return jnp.exp(jax.lax.fori_loop(0, steps, lambda _, log_weights: step(log_weights), _start(x)))


def descend(x: Float[Array, "batch n m"], etas: Float[Array, " k"]) -> Float[Array, "batch m"]:
    """λ^k with a step size for each step; differentiable in them."""
    log_x = jnp.log(x)
    return jnp.exp(jax.lax.scan(lambda log_weights, eta: (_step(log_x, log_weights, eta), None), _start(x), etas)[0])


def _start(x: Float[Array, "batch n m"]) -> Float[Array, "batch m"]:
    return jnp.full((x.shape[0], x.shape[2]), -math.log(x.shape[2]))


def _step(
    log_x: Float[Array, "batch n m"],
    log_weights: Float[Array, "batch m"],
    eta: TracedFloat,
    counts: Bool[Array, " n"] | None = None,
) -> Float[Array, "batch m"]:
    """One step, in logarithms: a large one takes a weight below what float64 can hold."""
    log_mixture = jax.nn.logsumexp(log_weights[:, None, :] + log_x, axis=-1, keepdims=True)  # log⟨λ, x_t⟩
    ratio = jnp.exp(jnp.minimum(log_x - log_mixture, LARGEST_LOG_RATIO))
    gradient = ratio.sum(axis=1, where=None if counts is None else counts[:, None])
    return jax.nn.log_softmax(log_weights + eta * gradient)
