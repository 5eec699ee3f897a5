"""Laplace's approximation: a normal at the posterior mode in softmax coordinates (Tierney and Kadane, 1986)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from scipy.stats import qmc

from mdbench.baselines.posterior import (
    Draws,
    Posterior,
    Progress,
    check_whole_number,
    prefix_seeds,
    prepare,
    refuse_order_one,
)
from mdbench.baselines.softmax import basis, find_mode
from mdbench.tasks import DirichletMixture

POINTS = 2**12
CHUNK = 256  # sequences at a time, for the memory

check_size = refuse_order_one


def laplace(
    task: DirichletMixture,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Posterior:
    """Moments of softmax(V u), u ~ N(mode, (-Hessian)⁻¹), and Laplace's log evidence; how far off is not known.

    Args:
        task: gives x_t(g) and α.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone).
        progress: called with the number of sequences that have just been finished.
        draws: independent draws from the normal to return.
        seed: with a sequence's tokens it fixes its draws.
    """
    check_whole_number("laplace", "draws", draws, 0)
    contexts, x, wanted = prepare(task, contexts, lengths)
    batch, _, m = x.shape
    location, root = np.empty((batch, len(wanted), m - 1)), np.empty((batch, len(wanted), m - 1, m - 1))
    log_evidence = np.empty((batch, len(wanted)))
    for start in range(0, batch, CHUNK):
        rows = slice(start, min(start + CHUNK, batch))
        for k, length in enumerate(wanted):
            mode = find_mode(x[rows, : length - task.given], task.concentration)
            location[rows, k], root[rows, k] = mode.u, np.linalg.cholesky(np.linalg.inv(mode.precision))
            log_determinant = np.linalg.slogdet(mode.precision)[1]
            log_evidence[rows, k] = mode.log_density + (m - 1) / 2 * np.log(2 * np.pi) - log_determinant / 2
        if progress:
            progress(rows.stop - start)

    def simplex(u):
        return softmax(u @ basis(m).T, axis=-1)

    seeds = prefix_seeds(contexts, wanted, seed)
    return normal_posterior("laplace", wanted, location, root, simplex, draws, seeds, {"seed": seed}, log_evidence)


def normal_posterior(
    method: str,
    lengths: tuple[int, ...],
    location: Float[np.ndarray, "B P d"],
    root: Float[np.ndarray, "B P d d"],
    simplex: Callable[[np.ndarray], np.ndarray],
    n_draws: int,
    seeds: Int[np.ndarray, "B P 4"],
    settings: dict[str, Any],
    log_evidence: Float[np.ndarray, "B P"] | None = None,
) -> Posterior:
    """The posterior of λ = simplex(u) that N(location, root rootᵀ) claims for u, with independent draws from it.

    Moments are sums over 4,096 fixed quasi-random points, which serve no other purpose.
    """
    batch, n_prefixes, d = location.shape
    points = standard_normal_points(d)
    mean, sd = np.empty((2, batch, n_prefixes, d + 1))
    drawn = np.empty((1, n_draws, batch, n_prefixes, d + 1))
    for i, k in np.ndindex(batch, n_prefixes):
        weights = simplex(location[i, k] + points @ root[i, k].T)
        mean[i, k], sd[i, k] = weights.mean(axis=0), weights.std(axis=0)
        if n_draws:
            normal = np.random.default_rng(seeds[i, k]).standard_normal((n_draws, d))
            drawn[0, :, i, k] = simplex(location[i, k] + normal @ root[i, k].T)
    kept = Draws(drawn, settings=settings) if n_draws else None
    return Posterior(method, lengths, mean, sd, log_evidence, draws=kept)


@functools.cache
def standard_normal_points(dimension: int) -> Float[np.ndarray, "S d"]:
    """A fixed set of 4,096 points that integrates smooth functions of a standard normal to about 1e-5."""
    if dimension == 0:
        return np.zeros((POINTS, 0))
    return qmc.MultivariateNormalQMC(np.zeros(dimension), rng=np.random.default_rng(0)).random(POINTS)
