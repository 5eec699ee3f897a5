"""Three layers that do one step of Mirror Descent by explicit weights (SPEC section 4; the paper's construction)."""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Float, Int

from mdbench.predictors.mirror_descent import MirrorDescent
from mdbench.predictors.transformer import DisentangledTransformer, run_model
from mdbench.tasks import Task

LOG_FLOOR = -500.0  # stands in for log 0 where π has zeros: a lag that cannot be gets weight e^-500 beside one that can
DELTA = 2000.0  # masks: beyond LOG_FLOOR by more than 745, so that a masked softmax weight is exactly 0 in float64


class ConstructedL3:
    """The constructed three-layer transformer; equal to MD with one step at the same η.

    Args:
        task: the task.
        eta: as for :class:`MirrorDescent`.
        device: torch device of the model.
    """

    def __init__(self, task: Task, eta: str | float = "tuned", device: str = "cpu") -> None:
        self.task, self.device = task, device
        self.step = MirrorDescent(task, steps=1, eta=eta)
        self._model = functools.lru_cache(self._build)

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """W_O h_T, which here is on the simplex as it stands."""
        return run_model(self._model(contexts.shape[1]), contexts)

    def _build(self, length: int) -> DisentangledTransformer:
        return construct_l3(self.task, length, self.step.step_size(length)).to(self.device)


def construct_l3(task: Task, length: int, eta: float) -> DisentangledTransformer:
    """The weights, in float64. Offsets are 0-based and lags 1-based: lag g is entry g - 1."""
    q, m = task.n_states, task.order
    model = DisentangledTransformer(q, length, depth=3, d_rel=m).double()
    first, second, third = model.layers
    lags = torch.arange(m)
    d_1 = 2 * q + m
    d_2 = 2 * d_1 + m
    with torch.no_grad():
        # Layer 1: position i attends to i - g with weight γ_i(g), and R_V = e_g stores these as Γ_i at offset 2q.
        log_transition = np.log(np.maximum(task.transition, np.exp(LOG_FLOOR)))
        first.attend.copy_(torch.from_numpy(log_transition.T))
        first.attend_offset.fill_(-DELTA)
        first.attend_offset[1 : m + 1] = 0.0
        first.value_offset[1 + lags, lags] = 1.0
        # Layer 2: position T averages positions m+1..T, so the mean of Γ lands at offset d_1 + 2q.
        second.attend_offset[length - m :, :q] = -DELTA
        # Layer 3: position T attends to T+1-g with softmax weight over g of β · mean Γ(g), the weights of one MD step.
        beta = eta * m * (length - m)
        third.attend_offset[m:, :q] = -DELTA
        third.attend_offset[lags, d_1 + 2 * q + lags] = beta
        # Read out π(y_{T+1-g}, ·) averaged with these weights: the one-hot tokens of layer 3's values start at d_2.
        model.readout[:, d_2 : d_2 + q] = torch.from_numpy(task.transition.T.copy())
    return model
