"""Does a predictor's step adapt to the sequence, and how three layers of attention bring that about.

The *effective step* of a predictor on one sequence is the slope of log λ̂ on mean Γ over m n, with λ̂ from its prediction
by least squares over mixtures of the lags' rows. It is held against η_i = 1/(mα + 1 + m/(m-1) S_i), S_i = Σ_t |γ_t -
1/m|² (docs/approximations.md): a step of one size has slope 0 in log against log, the adaptive one 1, Bayes nearly 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from mdbench.algorithms.mirror_descent import adaptive_constants
from mdbench.algorithms.reweighting import responsibilities
from mdbench.core.statistics import CONFIDENCE
from mdbench.tasks import DirichletMixture
from mdbench.tasks.mixture import tokens_before

LEAST_SEQUENCES = 20
ROUNDING = 1e-9  # of log λ̂; less is no step
ALIKE = 1e-12  # variance of log steps that is rounding of one and the same
WORST_CONDITION = 1e4  # of the rows that a prediction mixes; beyond it, it does not say with which weights


@dataclass(frozen=True)
class StepAdaptation:
    """How the effective steps go with η_i, over sequences.

    Attributes:
        slope: of log η̂_i on log η_i, by least squares weighted with the variance of mean Γ over lags.
        slope_ci: its 95% interval, by a sandwich estimate.
        correlation: of the two logarithms, weighted likewise; 0 where the effective steps are all alike.
        eta: geometric mean of the effective steps.
        n_sequences: of which a step can be told: their rows differ, and the prediction is a step uphill.
        steps: (η_i, η̂_i) of these.
    """

    slope: float
    slope_ci: tuple[float, float]
    correlation: float
    eta: float
    n_sequences: int
    steps: Float[np.ndarray, "n 2"] = field(repr=False)


@dataclass(frozen=True)
class Leak:
    """What layer 1 gives away, and what layer 2 gives it back, by position.

    Attributes:
        positions: of the queries, from 1: m + 1 .. T.
        leak: of layer 1's attention there, the mean share that falls off the last m tokens.
        weight: layer 2's mean attention from position T to there, over its sum.
        correlation: over positions, of 1 - leak and weight: -1 if one makes up for the other.
    """

    positions: Int[np.ndarray, " n"]
    leak: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    correlation: float


def step_adaptation(
    task: DirichletMixture, contexts: Int[np.ndarray, "N T"], predicted: Float[np.ndarray, "N q"]
) -> StepAdaptation | None:
    """The effective steps of predictions; None where too few sequences show one, or all η_i are alike."""
    gamma = responsibilities(task.likelihoods(contexts))
    n, m = gamma.shape[1:]
    if m < 2:
        return None
    mean = gamma.mean(axis=1)
    x = mean - mean.mean(axis=1, keepdims=True)
    signal = (x**2).sum(axis=1)
    weights, told = _mixed(task.rows(contexts), predicted)
    told &= (weights > 0).all(axis=1) & (signal > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(np.where(told[:, None], weights, 1.0))
        slopes = ((y - y.mean(axis=1, keepdims=True)) * x).sum(axis=1) / signal
    told &= (slopes > 0) & (np.abs(y - y.mean(axis=1, keepdims=True)).max(axis=1) > ROUNDING)
    if told.sum() < LEAST_SEQUENCES:
        return None
    a, b = adaptive_constants(m, task.concentration)
    derived = 1 / (a + b * ((gamma - 1 / m) ** 2).sum(axis=(1, 2)))
    steps = np.column_stack([derived, slopes / (m * n)])[told]
    return _regressed(steps, signal[told])


def _regressed(steps: Float[np.ndarray, "n 2"], signal: Float[np.ndarray, " n"]) -> StepAdaptation | None:
    share = signal / signal.sum()
    log_steps = np.log(steps)
    u, v = (log_steps - share @ log_steps).T
    spread, moved = share @ u**2, share @ v**2
    if spread <= ALIKE:
        return None
    slope = (share @ (u * v)) / spread
    residual = v - slope * u
    se = np.sqrt(((share * u * residual) ** 2).sum()) / spread
    half = float(special.stdtrit(len(steps) - 2, (1 + CONFIDENCE) / 2)) * se
    correlation = 0.0 if moved <= ALIKE else float((share @ (u * v)) / np.sqrt(spread * moved))
    eta = float(np.exp(share @ log_steps[:, 1]))
    return StepAdaptation(float(slope), (float(slope - half), float(slope + half)), correlation, eta, len(steps), steps)


def _mixed(
    rows: Float[np.ndarray, "N m q"], predicted: Float[np.ndarray, "N q"]
) -> tuple[Float[np.ndarray, "N m"], np.ndarray]:
    """The weights that mix the rows nearest to the predictions, Σ_b (p̂_b - ⟨λ, r_b⟩)²/p̂_b, and where that is clear."""
    n, m = rows.shape[:2]
    scaled = rows / np.maximum(predicted, 1e-300)[:, None, :]
    system = np.zeros((n, m + 1, m + 1))
    system[:, :m, :m] = scaled @ rows.transpose(0, 2, 1)
    system[:, m, :m] = system[:, :m, m] = 1.0
    right = np.concatenate([np.ones((n, m)), np.ones((n, 1))], axis=1)  # Σ_b p̂_b r_b/p̂_b = 1
    told = np.linalg.cond(system) < WORST_CONDITION
    weights = np.full((n, m), 1 / m)
    if told.any():
        weights[told] = np.linalg.solve(system[told], right[told][..., None])[:, :m, 0]
    return weights, told


def leak(order: int, first: Float[np.ndarray, "T T"], second: Float[np.ndarray, "T T"]) -> Leak:
    """From the mean attention maps of layers 1 and 2 (rows: queries)."""
    length = len(first)
    queries = np.arange(order, length)
    on_lags = first[queries[:, None], tokens_before(np.arange(length), order, queries)].sum(axis=1)
    weight = second[-1, order:] / second[-1, order:].sum()
    flat = np.ptp(on_lags) <= 1e-9 or np.ptp(weight) <= 1e-9
    correlation = 0.0 if flat else float(np.corrcoef(on_lags, weight)[0, 1])
    return Leak(queries + 1, 1 - on_lags, weight, correlation)
