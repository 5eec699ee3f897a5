"""Mirror Descent whose step sizes are meta-trained: found by descending the excess KL through the unrolled algorithm.

step:      η_j, a number for each step
position:  η_j(n) = exp(a_j + b_j log n) after n transitions: one set of numbers for all lengths
evidence:  η_j = 1/(a_j + b_j S) with S = Σ_t |γ_t - 1/m|² of the sequence (docs/approximations.md)
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdbench.algorithms.mirror_descent import descend, deviations

STEP, POSITION, EVIDENCE = "step", "position", "evidence"
SIZES = (STEP, POSITION, EVIDENCE)
KINDS = {sizes: f"learned_{sizes}" for sizes in SIZES}  # what a table of tuned numbers calls their scalars


@functools.partial(jax.jit, static_argnums=2)
def learned(x: Float[Any, "batch n m"], scalars: Float[Any, " c"], sizes: str) -> Float[Array, "batch m"]:
    """λ after the steps, as many as the scalars are for; differentiable in these, which are logarithms.

    Of ``step`` log η_j; of ``position`` all a_j, then all b_j as they are; of ``evidence`` log a_j, then log b_j.
    """
    if sizes == STEP:
        return descend(x, jnp.exp(scalars))
    first, second = scalars.reshape(2, -1)
    if sizes == POSITION:
        return descend(x, jnp.exp(first + second * np.log(x.shape[1])))
    spread = (deviations(x) ** 2).sum(axis=(1, 2))
    return descend(x, 1 / (jnp.exp(first)[:, None, None] + jnp.exp(second)[:, None, None] * spread[:, None]))


def start(sizes: str, steps: int, eta: float, n: int, law: tuple[float, float]) -> Float[np.ndarray, " c"]:
    """Scalars of steps that are tied: each of size ``eta`` after n transitions, or by the ``law`` of one step."""
    if sizes == STEP:
        return np.full(steps, np.log(eta))
    if sizes == POSITION:
        return np.concatenate([np.full(steps, np.log(eta) + np.log(n) / 2), np.full(steps, -0.5)])
    return np.log(np.repeat(law, steps))
