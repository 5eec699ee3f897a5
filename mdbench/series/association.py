"""How strongly a token depends on the one k before it, in data and in replicates drawn from a model.

The measure is Cramér's V of the pairs (y_{t-k}, y_t): √(χ² / (n (min(rows, columns) - 1))), 0 where they are
independent and 1 where one says the other; rows and columns are the states that occur.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from mdbench.series.transitions import Transitions

LAGS = 20  # at most


def cramers_v(
    stretches: Sequence[Int[np.ndarray, "... _"]], n_states: int, lags: Sequence[int]
) -> Float[np.ndarray, "lags ..."]:
    """Cramér's V at each lag, over pairs within a stretch; NaN where a pair has a side of one state alone.

    Args:
        stretches: tokens (.., T), of one series or of many side by side, each axis before the last one a series.
        n_states: q.
        lags: k.
    """
    shape = stretches[0].shape[:-1]
    n_series = int(np.prod(shape))
    found = []
    for lag in lags:
        pairs = np.zeros(n_series * n_states**2)
        for tokens in stretches:
            flat = tokens.reshape(n_series, -1)
            codes = flat[:, :-lag] * n_states + flat[:, lag:] + np.arange(n_series)[:, None] * n_states**2
            pairs += np.bincount(codes.ravel(), minlength=pairs.size)
        found.append(_of_tables(pairs.reshape(n_series, n_states, n_states)).reshape(shape))
    return np.stack(found)


def _of_tables(pairs: Float[np.ndarray, "B q q"]) -> Float[np.ndarray, " B"]:
    before, after, n = pairs.sum(axis=2), pairs.sum(axis=1), pairs.sum(axis=(1, 2))
    expected = before[:, :, None] * after[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        squares = np.where(expected > 0, pairs**2 / expected, 0.0).sum(axis=(1, 2)) - 1  # χ² / n
        smaller = np.minimum((before > 0).sum(axis=1), (after > 0).sum(axis=1)) - 1
        return np.where((smaller > 0) & (n > 0), np.sqrt(np.maximum(squares, 0) / smaller), np.nan)


def replicates(
    transitions: Transitions,
    weights: Float[np.ndarray, "R m"],
    matrices: Float[np.ndarray, "R m q q"],
    rng: np.random.Generator,
) -> list[Int[np.ndarray, "R _"]]:
    """The stretches drawn anew, one replicate for each set of weights and matrices, after the same first tokens."""
    n = len(weights)
    memory, rows = transitions.memory, np.arange(n)
    drawn = []
    for tokens in transitions.stretches:
        new = np.repeat(tokens[None], n, axis=0)
        lags = (rng.random((n, len(tokens)))[..., None] > weights.cumsum(axis=1)[:, None, :-1]).sum(axis=-1)
        u = rng.random((n, len(tokens)))
        for t in range(memory, len(tokens)):
            lag = lags[:, t]
            below = matrices[rows, lag, new[rows, t - 1 - lag]].cumsum(axis=-1)
            new[:, t] = (u[:, t, None] * below[:, -1:] >= below[:, :-1]).sum(axis=-1)
        drawn.append(new)
    return drawn
