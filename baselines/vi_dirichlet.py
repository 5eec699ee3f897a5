"""Variational inference with a Dirichlet guide (NumPyro's SVI)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Float, Int
from numpyro.distributions import constraints

from mdbench.baselines.posterior import Draws, Posterior, Progress, prefix_seeds, prepare, refuse_order_one
from mdbench.baselines.svi import check_options, compiled_fit, fit_all
from mdbench.tasks import DirichletMixture

check_size = refuse_order_one


def vi_dirichlet(
    task: DirichletMixture,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    steps: int = 1000,
    draws: int = 1000,
    seed: int = 0,
) -> Posterior:
    """The Dirichlet that is nearest to the posterior in KL(guide ‖ posterior); how far off that is, it does not know.

    Args:
        task: gives x_t(g) and α.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone); each is a fit of its own.
        progress: called with the number of sequences that have just been finished.
        steps: of Adam.
        draws: independent draws from the guide to return.
        seed: with a sequence's tokens it fixes that sequence's fit and draws.
    """
    check_options("vi_dirichlet", steps, draws)
    contexts, x, wanted = prepare(task, contexts, lengths)
    fitted = fit_all(_compiled(steps), task, contexts, x, wanted, seed, progress)
    a = np.stack([parameters["concentration"] for parameters in fitted], axis=1)  # (B, P, m)
    settings = {"steps": steps, "seed": seed}
    return dirichlet_posterior("vi_dirichlet", wanted, a, draws, prefix_seeds(contexts, wanted, seed), settings)


def dirichlet_posterior(method, lengths, a: Float[np.ndarray, "B P m"], n_draws: int, seeds, settings) -> Posterior:
    """The posterior that Dirichlet(a) claims, with independent draws from it."""
    total = a.sum(axis=-1, keepdims=True)
    mean = a / total
    drawn = np.empty((1, n_draws, *a.shape))
    for i, k in np.ndindex(seeds.shape[:2] if n_draws else (0, 0)):
        drawn[0, :, i, k] = np.random.default_rng(seeds[i, k]).dirichlet(a[i, k], n_draws)
    sd = np.sqrt(mean * (1 - mean) / (total + 1))
    return Posterior(method, lengths, mean=mean, sd=sd, draws=Draws(drawn, settings=settings) if n_draws else None)


def _guide(x, concentration):
    m = x.shape[1]
    start = concentration + jnp.full(m, 0.3 * len(x) / m)
    a = numpyro.param("concentration", start, constraint=constraints.positive)
    numpyro.sample("weights", dist.Dirichlet(a))


@functools.lru_cache(maxsize=8)
def _compiled(steps: int):
    return compiled_fit(_guide, steps)
