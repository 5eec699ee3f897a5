"""Mirror Descent where the matrix is not known: on an estimate of it from the same context."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mdbench.algorithms.mirror_descent import adaptive_constants, adaptive_step, check_steps
from mdbench.predictors.counting import positive_number
from mdbench.tasks import MTD, UnknownMatrix, tokens_before

MOST_ROUNDS = 1000


class PlugIn:
    """One step of Mirror Descent on λ with counts in the place of π, the two in turn.

    A round counts each transition from y_{t-g} to y_t with weight γ_t(g), adds c and divides: π̂. Then it takes the step
    of ``md1_adaptive`` on λ from 1/m, with π̂ for π. γ is 1/m in the first round, then λ_g π̂(y_{t-g}, y_t), normalised.

    Args:
        task: the task; of an MTD its matrix is not looked at.
        rounds: 1 for the plug-in estimate, more for updates of π̂ and λ in turn.
        c: what is added to every count.
    """

    def __init__(self, task: UnknownMatrix | MTD, rounds: int = 1, c: float = 1.0) -> None:
        check_steps(rounds, MOST_ROUNDS, "rounds")
        self.task, self.rounds, self.c = task, rounds, positive_number(c, "c")

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """Σ_g λ_g π̂(y_{T+1-g}, ·)."""
        m, q, length = self.task.order, self.task.n_states, contexts.shape[1]
        constants = np.array(adaptive_constants(m, self.task.concentration))
        everyone = np.arange(len(contexts))
        lagged = tokens_before(contexts, m, np.arange(m, length))  # (batch, n, m)
        came = np.broadcast_to(contexts[:, m:, None], lagged.shape)
        place = (everyone[:, None, None], lagged, came)
        shares: Any = np.full(lagged.shape, 1 / m)
        for _ in range(self.rounds):
            matrix = np.full((len(contexts), q, q), self.c)
            np.add.at(matrix, place, shares)
            matrix /= matrix.sum(axis=-1, keepdims=True)
            x = matrix[place]
            weights = np.asarray(adaptive_step(jnp.asarray(x), constants))
            shares = x * weights[:, None]
            shares /= shares.sum(axis=-1, keepdims=True)
        return np.einsum("bg,bgq->bq", weights, matrix[everyone[:, None], tokens_before(contexts, m, length)])
