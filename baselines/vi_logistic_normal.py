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

from mdbench.baselines.laplace import standard_normal_points
from mdbench.baselines.posterior import Draws, Posterior, Progress, prefix_lengths, refuse_order_one
from mdbench.baselines.svi import check_steps, compiled_fit, fit_all
from mdbench.tasks import Task, check_contexts

check_size = refuse_order_one


def vi_logistic_normal(
    task: Task,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    steps: int = 1000,
    seed: int = 0,
) -> Posterior:
    """The normal in NumPyro's stick-breaking coordinates that is nearest to the posterior in KL(guide ‖ posterior).

    Its moments are sums over 4,096 scrambled Sobol points, which are also its draws; how far off it is, it does not
    know.

    Args:
        task: gives π, m and α.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone); each is a fit of its own.
        progress: called with the number of sequences that have just been finished.
        steps: of Adam.
        seed: with a sequence's tokens it fixes that sequence's fit.
    """
    check_steps("vi_logistic_normal", steps)
    contexts = check_contexts(task, contexts)
    wanted = prefix_lengths(task, contexts.shape[1], lengths)
    fitted = fit_all(_compiled(steps), task, contexts, wanted, seed, progress)
    points = standard_normal_points(task.order - 1)
    weights = np.stack([_push(p["location"], p["root"], points) for p in fitted], axis=2)  # (S, B, P, m)
    return Posterior(
        "vi_logistic_normal",
        wanted,
        mean=weights.mean(axis=0),
        sd=weights.std(axis=0),
        draws=Draws(weights[None], settings={"steps": steps, "seed": seed}),
    )


def _push(location, root, points):
    """The points as draws of λ: (S, B, m)."""
    return np.asarray(_simplex(location + np.einsum("bde,se->sbd", root, points)))


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
