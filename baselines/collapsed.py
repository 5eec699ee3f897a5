"""Collapsed Gibbs sampling of the lags of an MTD whose matrix is unknown: λ and π summed out.

Given the lags z, with c_g transitions of lag g and N(a, b) transitions from a to b, both are conjugate:

    λ | z ~ Dirichlet(α + c),   π(a, ·) | z ~ Dirichlet(β + N(a, ·)),
    P(z_t = g | the other z) ∝ (α + c_g) (β + N(y_{t-g}, y_t)) / (qβ + N(y_{t-g})),   counts without t.

λ and π are independent given z, so that E[λ_g | z] E[π(a, b) | z] predicts without the noise of drawing them (Rao and
Blackwell); a draw has its mean over the sweeps that it stands for. Lags that explain each other's transitions make
modes that single z_t do not leave, so each sweep ends with the exchange of two lags, z_t = g and z_t = h for all t,
accepted by the ratio of the evidences of N (Metropolis).
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.compilation import compiled


@compiled
def lag_counts(
    lagged: Int[np.ndarray, "n m"],
    came: Int[np.ndarray, " n"],
    last: Int[np.ndarray, " m"],
    q: int,
    concentration: float,
    row_concentration: float,
    sweeps: tuple[int, int, int],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "D m"], Float[np.ndarray, "D q q"], Float[np.ndarray, "D q"]]:
    """Counts c and N of one chain, from uniformly drawn lags on, and p(· | z) of the next token.

    Args:
        lagged: y_{t-g}, lag 1 first; of at least two lags.
        came: y_t.
        last: y_{T+1-g}, which the next token comes after.
        q: number of states.
        concentration: α.
        row_concentration: β.
        sweeps: draws to throw away, draws to keep, sweeps for each.
        rng: of the chain.
    """
    n, m = lagged.shape
    warmup, draws, thin = sweeps
    z = np.empty(n, dtype=np.int64)
    c, pairs, rows = np.zeros(m), np.zeros((q, q)), np.zeros(q)
    for t in range(n):
        z[t] = int(rng.random() * m)
        c[z[t]] += 1
        pairs[lagged[t, z[t]], came[t]] += 1
        rows[lagged[t, z[t]]] += 1
    below, other = np.empty(m), np.empty((q, q))
    kept_c, kept_pairs, next_token = np.empty((draws, m)), np.empty((draws, q, q)), np.zeros((draws, q))
    for sweep in range((warmup + draws) * thin):
        for t in range(n):
            b = came[t]
            a = lagged[t, z[t]]
            c[z[t]] -= 1
            pairs[a, b] -= 1
            rows[a] -= 1
            total = 0.0
            for g in range(m):
                a = lagged[t, g]
                total += (concentration + c[g]) * (row_concentration + pairs[a, b]) / (q * row_concentration + rows[a])
                below[g] = total
            u = rng.random() * total
            g = 0
            while g < m - 1 and u >= below[g]:
                g += 1
            z[t] = g
            a = lagged[t, g]
            c[g] += 1
            pairs[a, b] += 1
            rows[a] += 1
        g = int(rng.random() * m)
        h = int(rng.random() * (m - 1))
        h += h >= g
        other[:] = pairs
        for t in range(n):
            if z[t] == g or z[t] == h:
                other[lagged[t, z[t]], came[t]] -= 1
                other[lagged[t, h if z[t] == g else g], came[t]] += 1
        gain = 0.0
        for a in range(q):
            gain -= math.lgamma(q * row_concentration + other[a].sum())
            gain += math.lgamma(q * row_concentration + rows[a])
            for b in range(q):
                if other[a, b] != pairs[a, b]:
                    gain += math.lgamma(row_concentration + other[a, b])
                    gain -= math.lgamma(row_concentration + pairs[a, b])
        if math.log(rng.random()) < gain:
            for t in range(n):
                if z[t] == g:
                    z[t] = h
                elif z[t] == h:
                    z[t] = g
            c[g], c[h] = c[h], c[g]
            pairs[:] = other
            for a in range(q):
                rows[a] = pairs[a].sum()
        k = sweep // thin - warmup
        if k < 0:
            continue
        for g in range(m):
            a = last[g]
            share = (concentration + c[g]) / (m * concentration + n) / (q * row_concentration + rows[a]) / thin
            for b in range(q):
                next_token[k, b] += share * (row_concentration + pairs[a, b])
        if sweep % thin == thin - 1:
            kept_c[k] = c
            kept_pairs[k] = pairs
    return kept_c, kept_pairs, next_token
