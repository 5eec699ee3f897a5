"""A posterior method for coins: θ | y ~ Dirichlet(α + counts), exactly."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mdbench.baselines import EXACT, Baseline, Draws, Posterior, option

from .coin import Coin


@dataclass(frozen=True)
class Counts(Baseline[Coin]):
    name: ClassVar[str] = "counts"
    standing: ClassVar[str] = EXACT
    deterministic: ClassVar[bool] = True

    draws: int = option(0, "independent draws to return", least=0)

    def posterior(self, task: Coin, contexts, lengths=None, progress=None):
        contexts, _, wanted = self.prepare(task, contexts, lengths)
        is_state = contexts[:, :, None] == np.arange(task.n_states)
        counts = np.stack([is_state[:, :length].sum(axis=1) for length in wanted], axis=1)  # (B, P, q)
        a = counts + task.concentration
        total = a.sum(axis=-1, keepdims=True)
        mean = a / total
        if progress:
            progress(len(contexts))
        sd = np.sqrt(mean * (1 - mean) / (total + 1))
        drawn = np.random.default_rng(0).gamma(a, size=(1, self.draws, *a.shape))
        drawn /= drawn.sum(axis=-1, keepdims=True)
        kept = Draws(drawn) if self.draws else None
        return Posterior(self.name, wanted, mean, sd, error=np.full(len(a), 1e-15), draws=kept, site=task.theta)
