"""A posterior method for coins: θ | y ~ Dirichlet(α + counts), exactly."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mdbench.baselines import EXACT, Baseline, Posterior, option

from .coin import Coin


@dataclass(frozen=True)
class Counts(Baseline[Coin]):
    name: ClassVar[str] = "counts"
    standing: ClassVar[str] = EXACT
    deterministic: ClassVar[bool] = True

    pseudo: float = option(0.0, "added to every count: 0 is exact")

    def posterior(self, task: Coin, contexts, lengths=None, progress=None):
        contexts, _, wanted = self.prepare(task, contexts, lengths)
        is_state = contexts[:, :, None] == np.arange(task.n_states)
        counts = np.stack([is_state[:, :length].sum(axis=1) for length in wanted], axis=1)  # (B, P, q)
        a = counts + task.concentration + self.pseudo
        total = a.sum(axis=-1, keepdims=True)
        mean = a / total
        if progress:
            progress(len(contexts))
        return Posterior(
            self.name, wanted, mean, np.sqrt(mean * (1 - mean) / (total + 1)), error=np.full(len(a), 1e-15)
        )
