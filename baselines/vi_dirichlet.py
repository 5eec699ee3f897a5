"""Variational inference with a Dirichlet guide (NumPyro's SVI)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Float, Int
from numpyro.distributions import constraints

from mdbench.baselines.baseline import Contexts, Lengths, prefix_seeds
from mdbench.baselines.chains import run_padded
from mdbench.baselines.model import mtd_weights
from mdbench.baselines.posterior import Draws, Posterior
from mdbench.baselines.svi import Variational, optimised
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletMixture


@dataclass(frozen=True)
class VIDirichlet(Variational[DirichletMixture]):
    """The Dirichlet that is nearest to the posterior in KL(guide ‖ posterior); how far off it is, it does not know."""

    name: ClassVar[str] = "vi_dirichlet"

    def posterior(
        self, task: DirichletMixture, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        contexts, x, wanted = self.prepare(task, contexts, lengths)
        compiled, given, concentration = _compiled(self.steps), task.given, task.concentration

        def run(keys: jax.Array, rows: Int[np.ndarray, " chunk"], length: int) -> dict[str, np.ndarray]:
            return run_padded(compiled, keys, x[rows, : length - given], 1.0, concentration)

        fitted = self.fit(run, contexts, wanted, progress)
        a = np.stack([parameters["concentration"] for parameters in fitted], axis=1)  # (B, P, m)
        return dirichlet_posterior(self, a, contexts, wanted)


def dirichlet_posterior(
    method: Any, a: Float[np.ndarray, "B P m"], contexts: Int[np.ndarray, "B T"], lengths: tuple[int, ...]
) -> Posterior:
    """The posterior that Dirichlet(a) claims, with independent draws from it."""
    total = a.sum(axis=-1, keepdims=True)
    mean = a / total
    drawn = np.empty((1, method.draws, *a.shape))
    seeds = prefix_seeds(contexts, lengths, method.seed)
    for i, k in np.ndindex(seeds.shape[:2] if method.draws else (0, 0)):
        drawn[0, :, i, k] = np.random.default_rng(seeds[i, k]).dirichlet(a[i, k], method.draws)
    sd = np.sqrt(mean * (1 - mean) / (total + 1))
    kept = Draws(drawn, settings=asdict(method)) if method.draws else None
    return Posterior(method.name, lengths, mean=mean, sd=sd, draws=kept)


def _guide(x: jax.Array, concentration: Any) -> None:
    m = x.shape[1]
    start = concentration + jnp.full(m, 0.3 * len(x) / m)
    a = numpyro.param("concentration", start, constraint=constraints.positive)
    numpyro.sample("weights", dist.Dirichlet(a))


@functools.lru_cache(maxsize=8)
def _compiled(steps: int) -> Callable[..., Any]:
    fit = functools.partial(optimised, mtd_weights, _guide, steps)
    return jax.jit(jax.vmap(fit, in_axes=(0, 0, None)))
