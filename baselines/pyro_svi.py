"""Variational inference once more, by Pyro on torch: the second opinion on ``vi_dirichlet``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mdbench.baselines import pyro_model
from mdbench.baselines.baseline import Contexts, Lengths, sequence_seeds
from mdbench.baselines.posterior import Posterior
from mdbench.baselines.pyro_nuts import ONE_AT_A_TIME
from mdbench.baselines.svi import Variational
from mdbench.baselines.vi_dirichlet import dirichlet_posterior
from mdbench.core.device import one_thread
from mdbench.core.progress import Advance
from mdbench.tasks import DirichletLagMixture

CHUNK = 256  # sequences fitted together


@dataclass(frozen=True)
class PyroSVI(Variational[DirichletLagMixture]):
    """The Dirichlet nearest to the posterior in KL(guide ‖ posterior), by Pyro's SVI; how far off, it does not know.

    256 sequences are fitted together, so that a fit depends on the sequences beside it.
    """

    name: ClassVar[str] = "pyro_svi"
    alone: ClassVar[bool] = False

    def posterior(
        self, task: DirichletLagMixture, contexts: Contexts, lengths: Lengths = None, progress: Advance | None = None
    ) -> Posterior:
        """As :meth:`Baseline.posterior`."""
        contexts, _, wanted = self.prepare(task, contexts, lengths)
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
                        steps=self.steps,
                        seed=int(sequence_seeds(contexts[start : start + 1, :length], self.seed)[0, 0]),
                    )
            if progress:
                progress(len(contexts[rows]))
        return dirichlet_posterior(self, a, contexts, wanted)
