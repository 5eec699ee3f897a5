"""Scores: arrays in, one number a sequence out, in nats and float64 (docs/mathematics.md, section 5)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def normalise(probs: Float[np.ndarray, "batch q"]) -> Float[np.ndarray, "batch q"]:
    """Each row divided by its sum, in float64: otherwise an output that sums to 1.001 would score below Bayes."""
    probs = np.asarray(probs, dtype=np.float64)
    return probs / probs.sum(axis=-1, keepdims=True)


def kl(p: Float[np.ndarray, "batch q"], p_hat: Float[np.ndarray, "batch q"]) -> Float[np.ndarray, " batch"]:
    """KL(p ‖ p̂) = Σ_b [p log(p/p̂) - p + p̂]; infinite where p̂ gives 0 to a possible token.

    Each term is p·(r - log(1 + r)) with r = (p̂ - p)/p, which no rounding makes noticeably negative: it resolves
    1e-30 between nearly equal distributions, where p log(p/p̂) alone stops at 1e-16.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        r = (p_hat - p) / p
        terms = np.where(np.isfinite(r), p * np.maximum(r - np.log1p(r), 0.0), p_hat)  # beyond: p is 0 or next to it
    return terms.sum(axis=-1)


def cross_entropy(p: Float[np.ndarray, "batch q"], p_hat: Float[np.ndarray, "batch q"]) -> Float[np.ndarray, " batch"]:
    """-Σ_b p(b) log p̂(b), with 0 log 0 = 0; infinite where p̂ gives 0 to a possible token."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.where(p > 0, p * np.log(p_hat), 0.0).sum(axis=-1)


def nll(tokens: Int[np.ndarray, " batch"], p_hat: Float[np.ndarray, "batch q"]) -> Float[np.ndarray, " batch"]:
    """-log p̂(y_{T+1}) of the token that came; the only score that real data allows."""
    with np.errstate(divide="ignore"):
        return -np.log(p_hat[np.arange(len(tokens)), tokens])


def gold_error(
    gold: Float[np.ndarray, "batch q"],
    p_hat: Float[np.ndarray, "batch q"],
    bound: Float[np.ndarray, " batch"],
    se: Float[np.ndarray, "batch q"] | float = 0.0,
    same: Int[np.ndarray, " batch"] | None = None,
) -> float:
    """Bound on |mean KL(p_B ‖ p̂) - mean KL(p̃_B ‖ p̂)| over the batch, in nats (docs/mathematics.md, section 5).

    Each entry of the gold p̃_B is within ``bound`` of p_B, and has beside that the standard error ``se``, independent
    between sequences but for those of one number in ``same`` (equal contexts), whose errors are equal. To first order
    an entry's error Δ_b costs Δ_b log(p̃_b/p̂_b) (the terms -p + p̂ cancel to that), to second order Δ_b²/p̃_b. Bounds add
    up; noise adds up in squares, at three standard errors, and shifts the mean upwards by ½ Var(p̃_b)/p_b.
    """
    se = np.broadcast_to(se, gold.shape)
    same = np.arange(len(gold)) if same is None else same
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(gold > 0, np.abs(np.log(gold / p_hat)), 0.0)
        bounded = np.where(bound[:, None] > 0, bound[:, None] * ratio + bound[:, None] ** 2 / gold, 0.0)
        noise = np.where(se > 0, se * ratio, 0.0).sum(axis=-1)
        bias = np.where((se > 0) & (gold > 0), 0.5 * se**2 / gold, 0.0).sum(axis=-1)
    bounded = np.where(gold > 0, bounded, 0.0).sum(axis=-1)
    spread = np.bincount(same, noise) ** 2 + 2 * np.bincount(same, bias) ** 2  # ½ z² has variance ½, z normal
    return float((bounded + bias).mean() + 3 * np.sqrt(spread.sum()) / len(gold))
