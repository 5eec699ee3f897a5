"""The posterior as a density, for methods that take any NumPyro model.

Of a mixture ``tasks.mtd_model`` with its likelihood reduced to x_t(g); of any other family its own model.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from mdbench.core.errors import InputError, Unsupported
from mdbench.tasks import Task

MOST_NUMBERS = 300  # of θ: each is judged by itself, and their covariance is dense


def mtd_weights(x: Float[Array, "n m"], concentration: float | Float[Array, ""]) -> None:
    """NumPyro model of λ given the lag likelihoods, z summed out: the density of ``tasks.mtd_model`` given tokens.

    ``tasks.mtd_model`` forms all q probabilities of each token; this forms only that of the token that came.
    """
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(x.shape[1], concentration)))
    numpyro.factor("tokens", jnp.log(x @ weights).sum())


def check_numbers(method: str, task: Task) -> None:
    """Raise :class:`InputError` where θ has too many numbers, or moves along no gradient."""
    if task.discrete:
        raise Unsupported(
            f"'{method}' follows gradients, and θ of '{task.name}', {task.kind}, is discrete; `exact` enumerates it.",
            label="discrete θ",
        )
    n = task.prior_mean.size
    if n > MOST_NUMBERS:
        raise InputError(f"{method} looks at each number of θ, at most {MOST_NUMBERS}, and here are {n}.")
