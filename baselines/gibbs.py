"""Gibbs sampling by data augmentation: lags given weights, weights given lags (Tanner and Wong, 1987)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mdbench.baselines.baseline import Contexts, Lengths, option
from mdbench.baselines.chains import Batch, Chains, chain_keys, run_padded
from mdbench.baselines.posterior import Posterior
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletMixture


@dataclass(frozen=True)
class Gibbs(Chains[DirichletMixture]):
    """Posterior by Gibbs sampling: z_t ~ Categorical(λ_g x_t(g)), then λ ~ Dirichlet(α + counts of the lags).

    It moves slowly where the lags say nearly the same of each transition (an autocorrelation time of 10 to 20 sweeps is
    usual), so only some sweeps are kept. Each chain begins at a uniformly drawn λ.
    """

    name: ClassVar[str] = "gibbs"

    thin: int = option(10, "sweeps for each draw that is kept", least=1)
    warmup: int = option(200, "draws (of that many sweeps) thrown away first", least=1)

    def posterior(
        self, task: DirichletMixture, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        return self.run(functools.partial(self._sample, task.concentration), task, contexts, lengths, progress)

    def _sample(self, concentration: float, batch: Batch) -> dict[str, np.ndarray]:
        run = _compiled(batch.warmup, batch.draws, self.thin)
        return {"weights": run_padded(run, chain_keys(batch.seeds, self.chains), batch.x, 0.0, concentration)}


@functools.lru_cache(maxsize=8)
def _compiled(warmup: int, draws: int, thin: int) -> Callable[..., Any]:
    def sweep(x: jax.Array, concentration: Any, weights: jax.Array, key: jax.Array) -> jax.Array:
        lag_key, weights_key = jax.random.split(key)
        below = jnp.cumsum(x * weights, axis=1)  # (n, m)
        # 23 random bits a lag: their coarseness, 1e-7, is far below any Monte Carlo error.
        u = jax.random.uniform(lag_key, (len(x), 1), dtype=jnp.float32) * below[:, -1:]
        counts = jnp.diff((u < below).sum(axis=0), prepend=0)
        # In logarithms: a gamma variable of a small shape is often below what float64 holds.
        return jax.nn.softmax(jax.random.loggamma(weights_key, concentration + counts))

    def run(key: jax.Array, x: jax.Array, concentration: Any) -> jax.Array:
        def keep_one(weights: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            keys = jax.random.split(key, thin)
            weights = jax.lax.fori_loop(0, thin, lambda k, w: sweep(x, concentration, w, keys[k]), weights)
            return weights, weights

        start_key, key = jax.random.split(key)
        start = jax.random.dirichlet(start_key, jnp.ones(x.shape[1]))
        return jax.lax.scan(keep_one, start, jax.random.split(key, warmup + draws))[1][warmup:]

    over_chains = jax.vmap(run, in_axes=(0, None, None))
    return jax.jit(jax.vmap(over_chains, in_axes=(0, 0, None)))
