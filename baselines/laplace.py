"""Laplace's approximation: a normal at the posterior mode in softmax coordinates (Tierney and Kadane, 1986)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from scipy.stats import qmc

from mdbench.baselines.baseline import SEEDS, Baseline, Contexts, Lengths, option, prefix_seeds
from mdbench.baselines.posterior import Draws, Posterior
from mdbench.baselines.softmax import basis, find_mode
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletMixture, Task

POINTS, POINTS_SEED = 2**12, 0
CHUNK = 256  # sequences at a time, for the memory


@dataclass(frozen=True)
class Laplace(Baseline[DirichletMixture]):
    """Moments of softmax(V u), u ~ N(mode, (-Hessian)⁻¹), and Laplace's log evidence; how far off is not known."""

    name: ClassVar[str] = "laplace"
    deterministic: ClassVar[bool] = True

    draws: int = option(1000, "independent draws from the normal to return", least=0)
    seed: int = option(0, "with a sequence's tokens it fixes its draws", least=0, most=SEEDS)

    def posterior(
        self, task: DirichletMixture, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        contexts, x, wanted = self.prepare(task, contexts, lengths)
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

        def simplex(u: Float[np.ndarray, "S d"]) -> Float[np.ndarray, "S m"]:
            return softmax(u @ basis(m).T, axis=-1)

        claimed = normal_posterior(self, location, root, simplex, contexts, wanted)
        return replace(claimed, log_evidence=log_evidence)


def normal_posterior(
    method: Any,
    location: Float[np.ndarray, "B P d"],
    root: Float[np.ndarray, "B P d d"],
    theta: Callable[[Float[np.ndarray, "S d"]], Float[np.ndarray, "S k"]],
    contexts: Int[np.ndarray, "B T"],
    lengths: tuple[int, ...],
    own: Task | None = None,
) -> Posterior:
    """The posterior of θ = theta(u) that N(location, root rootᵀ) claims for u, with independent draws from it.

    Moments are sums over 4,096 fixed quasi-random points, which serve no other purpose; of a family's ``own`` model so
    is the next token.
    """
    batch, n_prefixes, d = location.shape
    points = standard_normal_points(d)
    k = theta(points[:1]).shape[1]
    mean, sd = np.empty((2, batch, n_prefixes, k))
    drawn = np.empty((1, method.draws, batch, n_prefixes, k))
    next_token = None if own is None else np.empty((batch, n_prefixes, own.n_states))
    seeds = prefix_seeds(contexts, lengths, method.seed)
    for i, p in np.ndindex(batch, n_prefixes):
        values = theta(location[i, p] + points @ root[i, p].T)
        mean[i, p], sd[i, p] = values.mean(axis=0), values.std(axis=0)
        if own is not None and next_token is not None:
            repeated = np.broadcast_to(contexts[i, : lengths[p]], (len(points), lengths[p]))
            next_token[i, p] = own.truth(values.reshape(-1, *own.prior_mean.shape), repeated).mean(axis=0)
        if method.draws:
            normal = np.random.default_rng(seeds[i, p]).standard_normal((method.draws, d))
            drawn[0, :, i, p] = theta(location[i, p] + normal @ root[i, p].T)
    kept = Draws(drawn, settings=asdict(method)) if method.draws else None
    site = "weights" if own is None else own.theta
    return Posterior(method.name, lengths, mean, sd, draws=kept, next_token=next_token, site=site)


@functools.cache
def standard_normal_points(dimension: int) -> Float[np.ndarray, "S d"]:
    """A fixed set of 4,096 points that integrates smooth functions of a standard normal to about 1e-5."""
    if dimension == 0:
        return np.zeros((POINTS, 0))
    return qmc.MultivariateNormalQMC(np.zeros(dimension), rng=np.random.default_rng(POINTS_SEED)).random(POINTS)
