"""An induction head by explicit weights: two layers that find the last token earlier on and copy what came next."""

from __future__ import annotations

import functools
import numbers
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from mdbench.core.errors import InputError
from mdbench.predictors.constructed import DELTA, width_before
from mdbench.predictors.transformer import DisentangledTransformer, run_model
from mdbench.tasks import Task

LARGEST = DELTA / 4


class InductionHead:
    """p(b) ∝ e^β N_c(b) + (N(b) - N_c(b)) over tokens 2..T, N_c(b) how often b came after the last token.

    Layer 1 attends to the token before (Elhage et al., "A Mathematical Framework for Transformer Circuits", 2021;
    Olsson et al., arXiv 2209.11895); layer 2 attends from position T to those whose token before is y_T, β above all
    others. What did not occur cannot be copied: a share ``floor`` of the prediction is uniform.

    Args:
        task: the task; its number of states alone is used.
        beta: β, how much more attention a match gets, as a logarithm.
        floor: the share that is uniform, above 0 and below 1.
        device: torch device of the model.
    """

    def __init__(self, task: Task, beta: float = 3.0, floor: float = 0.01, device: str = "cpu") -> None:
        self.q, self.device = task.n_states, device
        self.beta, self.floor = _number(beta, "beta", 0.0, LARGEST), _number(floor, "floor", 0.0, 1.0)
        if not 0 < self.floor < 1:
            raise InputError(f"floor must be a number above 0 and below 1, not {floor!r}.")
        self.transformer = functools.lru_cache(self._build)

    def check_length(self, length: int) -> None:
        """Raise :class:`InputError` for a context of one token, after which nothing came."""
        if length < 2:
            raise InputError("an induction head needs contexts of at least 2 tokens.")

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """W_O h_T, which here is on the simplex, with the floor."""
        return (1 - self.floor) * run_model(self.transformer(contexts.shape[1]), contexts) + self.floor / self.q

    def _build(self, length: int) -> DisentangledTransformer:
        q = self.q
        model = DisentangledTransformer(q, length, depth=2, d_rel=1).double()
        before, match = model.layers
        states = torch.arange(q)
        with torch.no_grad():
            before.attend_offset.fill_(-DELTA)
            before.attend_offset[1] = 0.0  # offset 1; position 1 has none and attends to itself
            match.attend[states, q + states] = self.beta  # the query's token, and the key's token before
            match.attend_offset[length - 1, :q] = -DELTA  # position 1 came after nothing
            start = width_before(match)
            model.readout[:, start : start + q] = torch.eye(q, dtype=torch.float64)
        return model.to(self.device)


def _number(value: Any, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= float(value) <= high:
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, not {value!r}.")
    return float(value)
