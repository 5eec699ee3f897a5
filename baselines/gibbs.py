"""Gibbs sampling by data augmentation: lags given weights, weights given lags (Tanner and Wong, 1987)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from mdbench.baselines.baseline import Contexts, Lengths, option
from mdbench.baselines.chains import Chains, chain_keys, run_padded
from mdbench.baselines.posterior import Posterior, Progress
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
        self, task: DirichletMixture, contexts: Contexts, lengths: Lengths = None, progress: Progress | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        return self.run(functools.partial(self._sample, task.concentration), task, contexts, lengths, progress)

    def _sample(self, concentration, _contexts, x, seeds, warmup, draws):
        run = _compiled(warmup, draws, self.thin)
        return {"weights": run_padded(run, chain_keys(seeds, self.chains), x, 0.0, concentration)}


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
