"""Laplace's approximation: a normal at the posterior mode in softmax coordinates (Tierney and Kadane, 1986)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from scipy.stats import qmc

from mdbench.baselines.posterior import Draws, Posterior, Progress, prefix_lengths, refuse_order_one
from mdbench.baselines.softmax import basis, find_mode
from mdbench.tasks import Task, check_contexts, lag_likelihoods

POINTS = 2**12
CHUNK = 256  # sequences at a time, for the memory

check_size = refuse_order_one


def laplace(
    task: Task,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Posterior:
    """Moments of softmax(V u), u ~ N(mode, (-Hessian)⁻¹), and Laplace's log evidence; how far off is not known.

    The normal is summed over 4,096 scrambled Sobol points, the same for every sequence; these are also its draws.
    """
    contexts = check_contexts(task, contexts)
    refuse_order_one(contexts.shape[1] - task.order, task.order)
    wanted = prefix_lengths(task, contexts.shape[1], lengths)
    x = lag_likelihoods(task, contexts)
    batch, _, m = x.shape
    points = standard_normal_points(m - 1)
    weights = np.empty((1, len(points), batch, len(wanted), m))
    log_evidence = np.empty((batch, len(wanted)))
    for start in range(0, batch, CHUNK):
        rows = slice(start, min(start + CHUNK, batch))
        for k, length in enumerate(wanted):
            mode = find_mode(x[rows, : length - m], task.concentration)
            root = np.linalg.cholesky(np.linalg.inv(mode.precision))
            u = mode.u + np.einsum("bde,se->sbd", root, points)
            weights[0, :, rows, k] = softmax(u @ basis(m).T, axis=-1)
            log_determinant = np.linalg.slogdet(mode.precision)[1]
            log_evidence[rows, k] = mode.log_density + (m - 1) / 2 * np.log(2 * np.pi) - log_determinant / 2
        if progress:
            progress(rows.stop - start)
    return Posterior(
        "laplace",
        wanted,
        mean=weights.mean(axis=(0, 1)),
        sd=weights.std(axis=(0, 1)),
        log_evidence=log_evidence,
        draws=Draws(weights),
    )


def standard_normal_points(dimension: int) -> Float[np.ndarray, "S d"]:
    """A fixed set of 4,096 points that integrates smooth functions of a standard normal to about 1e-5."""
    if dimension == 0:
        return np.zeros((POINTS, 0))
    return qmc.MultivariateNormalQMC(np.zeros(dimension), rng=np.random.default_rng(0)).random(POINTS)
