"""Gibbs sampling by data augmentation: lags given weights, weights given lags (Tanner and Wong, 1987)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from mdbench.baselines.chains import chain_keys, run_chains, run_padded
from mdbench.baselines.posterior import Posterior, Progress, check_whole_number, refuse_order_one
from mdbench.tasks import DirichletMixture

check_size = refuse_order_one


def gibbs(
    task: DirichletMixture,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    draws: int = 1000,
    thin: int = 10,
    warmup: int = 200,
    chains: int = 4,
    seed: int = 0,
) -> Posterior:
    """Posterior by Gibbs sampling: z_t ~ Categorical(λ_g x_t(g)), then λ ~ Dirichlet(α + counts of the lags).

    It moves slowly where the lags say nearly the same of each transition (an autocorrelation time of 10 to 20
    sweeps is usual), so only every ``thin``-th sweep is kept.

    Args:
        task: gives x_t(g) and α.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone); each is a run of its own.
        progress: called with the number of sequences that have just been finished.
        draws: kept for each chain.
        thin: sweeps for each draw that is kept.
        warmup: draws (of ``thin`` sweeps) thrown away first.
        chains: independent chains, each from a uniformly drawn λ.
        seed: with a sequence's tokens it fixes that sequence's draws.
    """
    check_whole_number("gibbs", "thin", thin, 1)
    sampler = functools.partial(_sample, task.concentration, chains, thin)
    return run_chains(
        "gibbs",
        sampler,
        task,
        contexts,
        lengths,
        warmup=warmup,
        draws=draws,
        seed=seed,
        progress=progress,
        settings={"chains": chains, "thin": thin},
    )


def _sample(concentration, chains, thin, _contexts, x, seeds, warmup, draws):
    run = _compiled(warmup, draws, thin)
    return {"weights": run_padded(run, chain_keys(seeds, chains), x, 0.0, concentration)}


@functools.lru_cache(maxsize=8)
def _compiled(warmup: int, draws: int, thin: int):
    def sweep(x, concentration, weights, key):
        lag_key, weights_key = jax.random.split(key)
        below = jnp.cumsum(x * weights, axis=1)  # (n, m)
        # 23 random bits a lag: their coarseness, 1e-7, is far below any Monte Carlo error.
        u = jax.random.uniform(lag_key, (len(x), 1), dtype=jnp.float32) * below[:, -1:]
        counts = jnp.diff((u < below).sum(axis=0), prepend=0)
        # In logarithms: a gamma variable of a small shape is often below what float64 holds.
        return jax.nn.softmax(jax.random.loggamma(weights_key, concentration + counts))

    def run(key, x, concentration):
        def keep_one(weights, key):
            keys = jax.random.split(key, thin)
            weights = jax.lax.fori_loop(0, thin, lambda k, w: sweep(x, concentration, w, keys[k]), weights)
            return weights, weights

        start_key, key = jax.random.split(key)
        start = jax.random.dirichlet(start_key, jnp.ones(x.shape[1]))
        return jax.lax.scan(keep_one, start, jax.random.split(key, warmup + draws))[1][warmup:]

    over_chains = jax.vmap(run, in_axes=(0, None, None))
    return jax.jit(jax.vmap(over_chains, in_axes=(0, 0, None)))
