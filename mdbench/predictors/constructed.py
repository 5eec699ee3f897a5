"""Transformers by explicit weights: the paper's three layers; four, five and seven (docs/mathematics.md, section 4)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from mdbench.algorithms.reweighting import LOG_FLOOR, STAGES, split_scalars
from mdbench.algorithms.token_weighting import TokenWeights
from mdbench.algorithms.tuning import tuned_scalars
from mdbench.predictors.mirror_descent import MirrorDescent
from mdbench.predictors.transformer import DisentangledAttention, DisentangledTransformer, run_model
from mdbench.tasks import MTD

DELTA = 2000.0  # masks: beyond LOG_FLOOR by more than 745, so that a masked softmax weight is exactly 0 in float64


class Constructed:
    """The constructed transformer, its scalars tuned on calibration sequences of the task and length.

    It computes what :func:`mdbench.algorithms.reweighting.reweighted` does.

    Args:
        task: the task.
        depth: number of layers, one of ``STAGES``.
        device: torch device of the model.
    """

    def __init__(self, task: MTD, depth: int, device: str = "cpu") -> None:
        self.task, self.depth, self.device = task, depth, device
        self.transformer = functools.lru_cache(self._build)
        self.fixed_to_task = True

    def scalars(self, length: int) -> Sequence[float]:
        """For contexts of this length."""
        return tuned_scalars(self.task, self.depth, length)

    def check_length(self, length: int) -> None:
        """Have the scalars ready, so that tuning them at first use is not timed as prediction."""
        self.scalars(length)

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Float[np.ndarray, "batch q"]:
        """W_O h_T, which here is on the simplex as it stands."""
        return run_model(self.transformer(contexts.shape[1]), contexts)

    def _build(self, length: int) -> DisentangledTransformer:
        return construct(self.task, length, STAGES[self.depth], self.scalars(length)).to(self.device)


class ConstructedL3(Constructed):
    """The paper's construction with three layers; equal to MD with one step at the same η.

    Args:
        task: the task.
        eta: as for :class:`MirrorDescent`.
        device: torch device of the model.
    """

    def __init__(self, task: MTD, eta: str | float = "tuned", device: str = "cpu") -> None:
        super().__init__(task, depth=3, device=device)
        self.step = MirrorDescent(task, steps=1, eta=eta)
        self.fixed_to_task = self.step.fixed_to_task

    def scalars(self, length: int) -> Sequence[float]:
        """β = η m (T - m)."""
        return [self.step.step_size(length) * self.task.order * (length - self.task.order)]


class ConstructedL3Adaptive(Constructed):
    """Three layers of our own: a free matrix in layer 1, and in layer 2 a weight for each token, all tuned.

    It computes what :func:`mdbench.algorithms.token_weighting.token_weighted` does: one step whose size adapts.

    Args:
        task: the task.
        device: torch device of the model.
    """

    def __init__(self, task: MTD, device: str = "cpu") -> None:
        super().__init__(task, depth=3, device=device)

    def _build(self, length: int) -> DisentangledTransformer:
        weights = TokenWeights.of(np.asarray(self.scalars(length)), self.task.n_states)
        return construct_adaptive(self.task, length, weights).to(self.device)


def construct_adaptive(task: MTD, length: int, weights: TokenWeights) -> DisentangledTransformer:
    """The weights of :class:`ConstructedL3Adaptive`, in float64."""
    model = construct(task, length, STAGES[3], [float(weights.beta)])
    first, second, _ = model.layers
    q = task.n_states
    with torch.no_grad():
        first.attend.copy_(torch.from_numpy(np.array(weights.evidence)))
        second.attend[:q, :q] = torch.from_numpy(np.array(weights.log_weights))  # by the key's token alone
    return model


def construct(
    task: MTD, length: int, stages: str, scalars: Sequence[float] | Float[np.ndarray, " k"]
) -> DisentangledTransformer:
    """The weights, in float64. Offsets are 0-based and lags 1-based: lag g is entry g - 1.

    Args:
        task: the task.
        length: T.
        stages: what the layers between the second and the last compute (:mod:`mdbench.algorithms.reweighting`).
        scalars: their coefficients; for three layers β = η m (T - m) alone.
    """
    q, m = task.n_states, task.order
    temperature, sink, coefficients_of = split_scalars(np.asarray(scalars), stages)
    model = DisentangledTransformer(q, length, depth=len(stages) + 3, d_rel=m).double()
    first, second, *others = model.layers
    lags = torch.arange(m)
    gamma = 2 * q  # where each position holds its Γ
    with torch.no_grad():
        # Layer 1: position i attends to i - g with weight γ_i(g), and R_V = e_g stores these as Γ_i.
        log_transition = np.log(np.maximum(task.transition, np.exp(LOG_FLOOR)))
        first.attend.copy_(torch.from_numpy(float(temperature) * log_transition.T))
        first.attend_offset.fill_(-DELTA)
        first.attend_offset[1 : m + 1] = 0.0
        first.value_offset[1 + lags, lags] = 1.0
        # Layer 2: position T averages positions m+1..T, so the mean of Γ stands where its values' Γ does.
        second.attend_offset[length - m :, :q] = -DELTA
        features = [width_before(second) + gamma]  # where position T holds them
        for layer, stage, coefficients in zip(others, stages + "S", coefficients_of, strict=True):
            width = width_before(layer)
            masked = -DELTA - 2 * float(np.abs(coefficients).sum())  # features lie in [0, 1]
            if stage == "S":
                # Position T attends to T+1-g with softmax weight of v(g), and R_V = e_g stores these weights.
                layer.attend_offset[m:, :q] = masked
                for feature, a in zip(features, coefficients, strict=True):
                    layer.attend_offset[lags, feature + lags] = float(a)
                layer.value_offset[lags, lags] = 1.0
                features.append(2 * width)
            else:
                # Position T attends to positions t > m with weight ∝ exp(-⟨v, Γ_t⟩), and to position 1, whose Γ is
                # zero since it attends to itself in layer 1, with weight e^b.
                layer.attend_offset[length - m :, :q] = masked
                layer.attend_offset[length - 1, :q] = float(sink)
                for feature, a in zip(features, coefficients, strict=True):
                    layer.attend[feature + lags, gamma + lags] = -float(a)
                features.append(width + gamma)
        # Read out π(y_{T+1-g}, ·) averaged with the last weights: the one-hot tokens of the last layer's values.
        start = width_before(others[-1])
        model.readout[:, start : start + q] = torch.from_numpy(task.transition.T.copy())
    return model


def width_before(layer: DisentangledAttention) -> int:
    """Width of the residual stream that a layer reads."""
    return layer.attend.shape[0]
