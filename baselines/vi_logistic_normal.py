"""Variational inference with a full-rank normal on the unconstrained simplex (NumPyro's SVI)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Int
from numpyro.distributions import constraints
from numpyro.distributions.transforms import StickBreakingTransform

from mdbench.baselines.laplace import normal_posterior
from mdbench.baselines.posterior import Posterior, Progress, prefix_seeds, prepare, refuse_order_one
from mdbench.baselines.svi import check_options, compiled_fit, fit_all
from mdbench.tasks import DirichletMixture

check_size = refuse_order_one


def vi_logistic_normal(
    task: DirichletMixture,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    steps: int = 1000,
    draws: int = 1000,
    seed: int = 0,
) -> Posterior:
    """The normal in NumPyro's stick-breaking coordinates that is nearest to the posterior in KL(guide ‖ posterior).

    How far off it is, it does not know.

    Args:
        task: gives x_t(g) and α.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone); each is a fit of its own.
        progress: called with the number of sequences that have just been finished.
        steps: of Adam.
        draws: independent draws from the guide to return.
        seed: with a sequence's tokens it fixes that sequence's fit and draws.
    """
    check_options("vi_logistic_normal", steps, draws)
    contexts, x, wanted = prepare(task, contexts, lengths)
    fitted = fit_all(_compiled(steps), task, contexts, x, wanted, seed, progress)
    location, root = (np.stack([p[name] for p in fitted], axis=1) for name in ("location", "root"))

    def simplex(u):
        return np.asarray(_simplex(u))

    seeds, settings = prefix_seeds(contexts, wanted, seed), {"steps": steps, "seed": seed}
    return normal_posterior("vi_logistic_normal", wanted, location, root, simplex, draws, seeds, settings)


@jax.jit
def _simplex(u):
    return StickBreakingTransform()(u)


def _guide(x, _concentration):
    d = x.shape[1] - 1
    location = numpyro.param("location", jnp.zeros(d))
    root = numpyro.param("root", 0.3 * jnp.eye(d), constraint=constraints.lower_cholesky)
    normal = dist.MultivariateNormal(location, scale_tril=root)
    numpyro.sample("weights", dist.TransformedDistribution(normal, StickBreakingTransform()))


@functools.lru_cache(maxsize=8)
def _compiled(steps: int):
    return compiled_fit(_guide, steps)
