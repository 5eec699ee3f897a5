"""Variational inference once more, by Pyro on torch: the second opinion on ``vi_dirichlet``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mdbench.baselines import pyro_model
from mdbench.baselines.posterior import (
    Posterior,
    Progress,
    prefix_seeds,
    prepare,
    refuse_order_one,
    sequence_seeds,
)
from mdbench.baselines.pyro_nuts import ONE_AT_A_TIME
from mdbench.baselines.svi import check_options
from mdbench.baselines.vi_dirichlet import dirichlet_posterior
from mdbench.device import one_thread
from mdbench.tasks import LagMixture

CHUNK = 256  # sequences fitted together

check_size = refuse_order_one


def pyro_svi(
    task: LagMixture,
    contexts: Int[np.ndarray, "B T"],
    *,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
    steps: int = 1000,
    draws: int = 1000,
    seed: int = 0,
) -> Posterior:
    """The Dirichlet nearest to the posterior in KL(guide ‖ posterior), by Pyro's SVI; how far off, it does not know.

    Args:
        task: gives its matrices and α.
        contexts: (B, T) tokens.
        lengths: the prefixes to return (default: T alone); each is a fit of its own.
        progress: called with the number of sequences that have just been finished.
        steps: of Adam.
        draws: independent draws from the guide to return.
        seed: of fit and draws.
    """
    check_options("pyro_svi", steps, draws)
    contexts, _, wanted = prepare(task, contexts, lengths)
    seeds = sequence_seeds(contexts, seed)
    a = np.empty((len(contexts), len(wanted), task.n_components))
    for start in range(0, len(contexts), CHUNK):
        rows = slice(start, start + CHUNK)
        for k, length in enumerate(wanted):
            with ONE_AT_A_TIME, one_thread():
                a[rows, k] = pyro_model.run_svi(
                    task.matrices,
                    task.independent,
                    task.concentration,
                    contexts[rows, :length],
                    steps=steps,
                    seed=int(seeds[start, 0]),
                )
        if progress:
            progress(len(contexts[rows]))
    return dirichlet_posterior(
        "pyro_svi", wanted, a, draws, prefix_seeds(contexts, wanted, seed), {"steps": steps, "seed": seed}
    )
