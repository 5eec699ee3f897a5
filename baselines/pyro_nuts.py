"""NUTS once more, by Pyro on torch: the second opinion on ``nuts``."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mdbench.baselines import pyro_model
from mdbench.baselines.baseline import Contexts, Lengths, option
from mdbench.baselines.chains import Batch, Chains
from mdbench.baselines.posterior import Posterior
from mdbench.core.device import one_thread
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletLagMixture

CHUNK = 256  # sequences in one target density
ONE_AT_A_TIME = threading.Lock()  # Pyro's parameters and torch's random state belong to the process


@dataclass(frozen=True)
class PyroNUTS(Chains[DirichletLagMixture]):
    """Posterior by Pyro's NUTS, from a model that shares nothing with the rest of mdbench.

    Up to 256 sequences are one target density, their product, since every step costs Python's time. A draw therefore
    depends on the sequences beside it, divergences are those of the product, and Pyro keeps no energies (E-BFMI: not
    applicable).
    """

    name: ClassVar[str] = "pyro_nuts"
    alone: ClassVar[bool] = False
    accuracy_sequences: ClassVar[int | None] = 64
    calibration_options: ClassVar[Mapping[str, Any]] = {"chains": 2, "draws": 800}

    tree_depth: int = option(5, "trees have at most 2^tree_depth - 1 leapfrog steps", least=1, most=15)

    def posterior(
        self, task: DirichletLagMixture, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        return self.run(
            functools.partial(self._sample, task), task, contexts, lengths, progress, chunk=CHUNK, padded=False
        )

    def _sample(self, task: DirichletLagMixture, batch: Batch) -> dict[str, np.ndarray]:
        with ONE_AT_A_TIME, one_thread():
            chains = pyro_model.run_nuts(
                task.matrices,
                task.independent,
                task.concentration,
                batch.contexts,
                warmup=batch.warmup,
                draws=batch.draws,
                tree_depth=self.tree_depth,
                seeds=[int(batch.seeds[0, 0]) + chain for chain in range(self.chains)],
            )
        diverging = np.broadcast_to(chains["diverging"], (len(batch.contexts), self.chains, batch.draws))
        return {"weights": np.moveaxis(chains["weights"], 2, 0), "diverging": diverging}
