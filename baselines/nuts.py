"""NUTS on the simplex of weights, the lags summed out (Hoffman and Gelman, 2014; NumPyro's)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
from numpyro import infer

from mdbench.baselines.baseline import Contexts, Lengths, option
from mdbench.baselines.chains import Batch, Chains, chain_keys, run_padded, run_traced
from mdbench.baselines.model import check_numbers, mtd_weights
from mdbench.baselines.posterior import Posterior
from mdbench.core.errors import InputError
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletMixture, Task
from mdbench.tasks.sampling import rebuilt, split

OWN_MODEL_DEPTH = 5  # θ has more dimensions there than the weights of a mixture, and short trees leave it correlated


@dataclass(frozen=True)
class NUTS(Chains[Task]):
    """Posterior by NUTS on NumPyro's unconstrained space (for a simplex, stick-breaking), dense mass matrix.

    Of a mixture with z summed out; of any other family of its own NumPyro model, whose latent θ is reported as its
    numbers in a row.

    All sequences and chains of a chunk step side by side, so each waits for the largest tree: trees are kept to
    2^``tree_depth`` - 1 leapfrog steps, which on posteriors of weights costs few effective draws and saves most of the
    time.
    """

    name: ClassVar[str] = "nuts"

    tree_depth: int = option(
        3, f"of the largest tree; of a family's own model at least {OWN_MODEL_DEPTH}", least=1, most=15
    )
    target_accept: float = option(0.8, "of the step size's adaptation, between 0 and 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.target_accept, float) or not 0 < self.target_accept < 1:
            raise InputError(f"nuts: target_accept must be between 0 and 1, not {self.target_accept!r}.")

    def posterior(
        self, task: Task, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        sampler = functools.partial(self._sample_own, task)
        if isinstance(task, DirichletMixture):
            sampler = functools.partial(self._sample, task)
        return self.run(sampler, task, contexts, lengths, progress)

    def check_size(self, task: Task, length: int) -> None:
        """Raise :class:`InputError` where there is nothing to infer, or θ has too many numbers."""
        check_numbers(self.name, task)
        super().check_size(task, length)

    def _sample(self, task: DirichletMixture, batch: Batch) -> dict[str, np.ndarray]:
        run = _compiled(batch.warmup, batch.draws, self.tree_depth, self.target_accept)
        return run_padded(run, chain_keys(batch.seeds, self.chains), batch.x, 1.0, task.concentration)

    def _sample_own(self, task: Task, batch: Batch) -> dict[str, np.ndarray]:
        shaping, arguments = split(task)
        depth = max(self.tree_depth, OWN_MODEL_DEPTH)
        family: Any = type(task)
        run = _compiled_own(family, shaping, batch.warmup, batch.draws, depth, self.target_accept)
        return run_traced(run, chain_keys(batch.seeds, self.chains), batch.contexts, arguments)


@functools.lru_cache(maxsize=8)
def _compiled(warmup: int, draws: int, tree_depth: int, target_accept: float) -> Callable[..., Any]:
    def run(key: jax.Array, x: jax.Array, concentration: Any) -> dict[str, Any]:
        kernel = infer.NUTS(mtd_weights, dense_mass=True, max_tree_depth=tree_depth, target_accept_prob=target_accept)
        return _chain(kernel, "weights", warmup, draws, key, x, concentration)

    return _over_sequences_and_chains(run)


@functools.lru_cache(maxsize=8)
def _compiled_own(
    family: type[Task], shaping: Any, warmup: int, draws: int, tree_depth: int, target_accept: float
) -> Callable[..., Any]:
    def run(key: jax.Array, tokens: jax.Array, arguments: dict[str, Any]) -> dict[str, Any]:
        task = rebuilt(family, shaping, arguments)
        kernel = infer.NUTS(task.model, dense_mass=True, max_tree_depth=tree_depth, target_accept_prob=target_accept)
        return _chain(kernel, task.theta, warmup, draws, key, tokens)

    return _over_sequences_and_chains(run)


def _chain(kernel: infer.NUTS, site: str, warmup: int, draws: int, key: Any, *data: Any) -> dict[str, Any]:
    """One chain: θ's numbers in a row, and statistics."""
    mcmc = infer.MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
    mcmc.run(key, *data, extra_fields=("diverging", "energy", "num_steps"))
    stats = mcmc.get_extra_fields()
    return {
        "weights": mcmc.get_samples()[site].reshape(draws, -1),
        "diverging": stats["diverging"],
        "energy": stats["energy"],
        "n_steps": stats["num_steps"],
    }


def _over_sequences_and_chains(run: Any) -> Any:
    over_chains = jax.vmap(run, in_axes=(0, None, None))
    return jax.jit(jax.vmap(over_chains, in_axes=(0, 0, None)))
