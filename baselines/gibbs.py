"""Gibbs sampling by data augmentation: lags given weights, weights given lags (Tanner and Wong, 1987).

Where the matrix is unknown too, weights and matrix are summed out (:mod:`mdbench.baselines.collapsed`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from mdbench.baselines.baseline import Contexts, Lengths, option
from mdbench.baselines.chains import Batch, Chains, chain_keys, run_padded
from mdbench.baselines.collapsed import lag_counts
from mdbench.baselines.model import check_numbers
from mdbench.baselines.posterior import Posterior
from mdbench.baselines.softmax import draw_log_gamma
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletMixture, UnknownMatrix, tokens_before

COLLAPSED_CHUNK = 8  # sequences in one task of a thread


@dataclass(frozen=True)
class Gibbs(Chains[DirichletMixture | UnknownMatrix]):
    """Posterior by Gibbs sampling: z_t ~ Categorical(λ_g x_t(g)), then λ ~ Dirichlet(α + counts of the lags).

    With an unknown matrix the z_t are drawn one after the other with λ and π summed out, and the next token is
    predicted by E[λ_g | z] E[π | z], which has less noise than draws of both.

    It moves slowly where the lags say nearly the same of each transition (an autocorrelation time of 10 to 20 sweeps is
    usual), so only some sweeps are kept. Each chain begins at a uniformly drawn λ.
    """

    name: ClassVar[str] = "gibbs"

    thin: int = option(10, "sweeps for each draw that is kept", least=1)
    warmup: int = option(200, "draws (of that many sweeps) thrown away first", least=1)

    def posterior(
        self,
        task: DirichletMixture | UnknownMatrix,
        contexts: Contexts,
        lengths: Lengths = None,
        progress: Advance | None = None,
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        if isinstance(task, UnknownMatrix):
            sampler = functools.partial(self._sample_collapsed, task)
            return self.run(sampler, task, contexts, lengths, progress, chunk=COLLAPSED_CHUNK, padded=False)
        return self.run(functools.partial(self._sample, task.concentration), task, contexts, lengths, progress)

    def check_size(self, task: DirichletMixture | UnknownMatrix, length: int) -> None:
        """Raise :class:`InputError` where there is nothing to infer, or θ has too many numbers."""
        if isinstance(task, UnknownMatrix):
            check_numbers(self.name, task)
        super().check_size(task, length)

    def _sample(self, concentration: float, batch: Batch) -> dict[str, np.ndarray]:
        run = _compiled(batch.warmup, batch.draws, self.thin)
        return {"weights": run_padded(run, chain_keys(batch.seeds, self.chains), batch.x, 0.0, concentration)}

    def _sample_collapsed(self, task: UnknownMatrix, batch: Batch) -> dict[str, np.ndarray]:
        m, q, alpha, beta = task.order, task.n_states, task.concentration, task.row_concentration
        sweeps = (batch.warmup, batch.draws, self.thin)
        theta = np.empty((len(batch.contexts), self.chains, batch.draws, m + q * q))
        next_token = np.empty((*theta.shape[:3], q))
        lagged = tokens_before(batch.contexts, m, np.arange(m, batch.contexts.shape[1]))
        last = tokens_before(batch.contexts, m, batch.contexts.shape[1])
        for i, k in np.ndindex(theta.shape[:2]):
            rng = np.random.default_rng([*map(int, batch.seeds[i]), k])
            came = batch.contexts[i, m:]
            there = (lagged[i] >= 0).all(axis=1) & (came >= 0)  # what is negative is missing
            data = lagged[i, there], came[there], last[i]
            c, pairs, next_token[i, k] = lag_counts(*data, q, alpha, beta, sweeps, rng)
            theta[i, k, :, :m] = softmax(draw_log_gamma(alpha + c, c.shape, rng), axis=-1)
            theta[i, k, :, m:] = softmax(draw_log_gamma(beta + pairs, pairs.shape, rng), axis=-1).reshape(
                batch.draws, -1
            )
        return {"weights": theta, "next_token": next_token}


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
