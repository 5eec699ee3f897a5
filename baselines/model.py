"""The posterior as a density, for samplers: ``tasks.mtd_model`` with its likelihood reduced to x_t(g)."""

from __future__ import annotations

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float


def mtd_weights(x: Float[Array, "n m"], concentration: Float[Array, ""]) -> None:
    """NumPyro model of λ given the lag likelihoods, z summed out: the density of ``tasks.mtd_model`` given tokens.

    ``tasks.mtd_model`` forms all q probabilities of each token; this forms only that of the token that came.
    """
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.full(x.shape[1], concentration)))
    numpyro.factor("tokens", jnp.log(x @ weights).sum())
