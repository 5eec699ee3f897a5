"""NUTS once more, by Pyro on torch: the second opinion on ``nuts``."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mdbench.baselines import pyro_model
from mdbench.baselines.chains import run_chains
from mdbench.baselines.posterior import Posterior, Progress, check_whole_number, refuse_order_one
from mdbench.device import one_thread
from mdbench.tasks import LagMixture

CHUNK = 256  # sequences in one target density
ONE_AT_A_TIME = threading.Lock()  # Pyro's parameters and torch's random state belong to the process

check_size = refuse_order_one


def pyro_nuts(
    task: LagMixture,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    draws: int = 1000,
    warmup: int = 300,
    chains: int = 4,
    tree_depth: int = 5,
    seed: int = 0,
) -> Posterior:
    """Posterior by Pyro's NUTS, from a model that shares nothing with the rest of mdbench.

    Up to 256 sequences are one target density, their product, since every step costs Python's time. A draw therefore
    depends on the sequences beside it, divergences are those of the product, and Pyro keeps no energies (E-BFMI: not
    applicable).

    Args:
        task: gives its matrices and α.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone); each is a run of its own.
        progress: called with the number of sequences that have just been finished.
        draws: for each chain, after ``warmup``.
        warmup: adaptation steps.
        chains: independent chains.
        tree_depth: trees have at most 2^``tree_depth`` - 1 leapfrog steps.
        seed: with the tokens it fixes the draws.
    """
    check_whole_number("pyro_nuts", "tree_depth", tree_depth, 1)

    def sampler(contexts, _x, seeds, warmup, draws):
        with ONE_AT_A_TIME, one_thread():
            found = pyro_model.run_nuts(
                task.matrices,
                task.independent,
                task.concentration,
                contexts,
                warmup=warmup,
                draws=draws,
                tree_depth=tree_depth,
                seeds=[int(seeds[0, 0]) + chain for chain in range(chains)],
            )
        diverging = np.broadcast_to(found["diverging"], (len(contexts), chains, draws))
        return {"weights": np.moveaxis(found["weights"], 2, 0), "diverging": diverging}

    return run_chains(
        "pyro_nuts",
        sampler,
        task,
        contexts,
        lengths,
        warmup=warmup,
        draws=draws,
        seed=seed,
        progress=progress,
        settings={"chains": chains, "tree_depth": tree_depth},
        chunk=CHUNK,
        padded=False,
    )
