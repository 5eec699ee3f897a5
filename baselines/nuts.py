"""NUTS on the simplex of weights, the lags summed out (Hoffman and Gelman, 2014; NumPyro's)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Int
from numpyro.infer import MCMC, NUTS

from mdbench.baselines.chains import chain_keys, run_chains, run_padded, run_traced
from mdbench.baselines.model import mtd_weights
from mdbench.baselines.posterior import Posterior, Progress, check_whole_number, refuse_order_one
from mdbench.errors import InputError
from mdbench.tasks import DirichletMixture, Task
from mdbench.tasks.sampling import rebuilt, split

OWN_MODEL_DEPTH = 5  # θ has more dimensions there than the weights of a mixture, and short trees leave it correlated
MOST_NUMBERS = 300  # of θ: each is judged by itself, and the mass matrix is dense


def check_size(n: int, m: int) -> None:
    """Raise :class:`InputError` where there is nothing to infer, or θ has too many numbers."""
    refuse_order_one(n, m)
    if m > MOST_NUMBERS:
        raise InputError(f"nuts looks at each number of θ, at most {MOST_NUMBERS}, and here are {m}.")


def nuts(
    task: Task,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    draws: int = 1000,
    warmup: int = 300,
    chains: int = 4,
    tree_depth: int = 3,
    target_accept: float = 0.8,
    seed: int = 0,
) -> Posterior:
    """Posterior by NUTS on NumPyro's unconstrained space (for a simplex, stick-breaking), dense mass matrix.

    Of a mixture with z summed out; of any other family of its own NumPyro model, whose latent θ is reported as its
    numbers in a row.

    All sequences and chains of a chunk step side by side, so each waits for the largest tree: trees are kept to
    2^``tree_depth`` - 1 leapfrog steps, which on these posteriors costs few effective draws and saves most of the time.

    Args:
        task: gives x_t(g) and α, or its model.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone); each is a run of its own.
        progress: called with the number of sequences that have just been finished.
        draws: for each chain, after ``warmup``.
        warmup: adaptation steps.
        chains: independent chains, each from a point of its own.
        tree_depth: largest tree; for a family's own model at least 5.
        target_accept: of the step size's adaptation.
        seed: with a sequence's tokens it fixes that sequence's draws.
    """
    check_whole_number("nuts", "tree_depth", tree_depth, 1)
    if not isinstance(target_accept, float) or not 0 < target_accept < 1:
        raise InputError(f"nuts: target_accept must be between 0 and 1, not {target_accept!r}.")
    if isinstance(task, DirichletMixture):
        sampler = functools.partial(_sample, task.concentration, chains, tree_depth, target_accept)
    else:
        tree_depth = max(tree_depth, OWN_MODEL_DEPTH)
        sampler = functools.partial(_sample_any, task, chains, tree_depth, target_accept)
    settings = {"chains": chains, "tree_depth": tree_depth, "target_accept": target_accept}
    return run_chains(
        "nuts",
        sampler,
        task,
        contexts,
        lengths,
        warmup=warmup,
        draws=draws,
        seed=seed,
        progress=progress,
        settings=settings,
    )


def _sample(concentration, chains, tree_depth, target_accept, _contexts, x, seeds, warmup, draws):
    run = _compiled(warmup, draws, tree_depth, target_accept)
    return run_padded(run, chain_keys(seeds, chains), x, 1.0, concentration)


@functools.lru_cache(maxsize=8)
def _compiled(warmup: int, draws: int, tree_depth: int, target_accept: float):
    def run(key, x, concentration):
        kernel = NUTS(mtd_weights, dense_mass=True, max_tree_depth=tree_depth, target_accept_prob=target_accept)
        return _chain(kernel, "weights", warmup, draws, key, x, concentration)

    return _over_sequences_and_chains(run)


def _sample_any(task: Task, chains, tree_depth, target_accept, contexts, _x, seeds, warmup, draws):
    shaping, arguments = split(task)
    run = _compiled_any(type(task), shaping, warmup, draws, tree_depth, target_accept)
    return run_traced(run, chain_keys(seeds, chains), contexts, arguments)


@functools.lru_cache(maxsize=8)
def _compiled_any(family: type[Task], shaping: Any, warmup: int, draws: int, tree_depth: int, target_accept: float):
    def run(key, tokens, arguments):
        task = rebuilt(family, shaping, arguments)
        kernel = NUTS(task.model, dense_mass=True, max_tree_depth=tree_depth, target_accept_prob=target_accept)
        return _chain(kernel, task.theta, warmup, draws, key, tokens)

    return _over_sequences_and_chains(run)


def _chain(kernel: NUTS, site: str, warmup: int, draws: int, key: Any, *data: Any) -> dict[str, Any]:
    """One chain: θ's numbers in a row, and statistics."""
    mcmc = MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
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
