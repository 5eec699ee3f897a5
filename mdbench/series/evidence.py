"""Which lags matter: the evidence of every set of lags, weights and matrix summed out.

Under the prior λ ~ Dirichlet(α, .., α) on the lags of a set S, π(a, ·) ~ Dirichlet(β, .., β), the evidence

    p(y | S) = Σ_z p(z | S) p(y | z)

is estimated by a particle filter over the transitions, each particle with the counts of the lags z that it drew
(λ and π summed out as in :mod:`mdbench.baselines.collapsed`). The estimate of p(y | S) is unbiased; independent runs
give its standard error. A set of one lag is a Markov chain and that of none is independence: both have closed forms.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from mdbench.core.progress import Advance, no_advance
from mdbench.core.statistics import log_dirichlet_multinomial

PARTICLES = 500  # of one run
RUNS = 8
LARGEST = 5  # order, with 32 sets
SURE = 0.5  # nats: a larger standard error of a log evidence leaves probabilities unknown


class Evidence(NamedTuple):
    """Log p(y | S) in nats, and its standard error: 0 where it is exact."""

    lags: tuple[int, ...]
    value: float
    error: float


def evidence_of_lags(
    lagged: Int[np.ndarray, "n m"],
    came: Int[np.ndarray, " n"],
    n_states: int,
    concentration: float = 1.0,
    row_concentration: float = 1.0,
    advance: Advance = no_advance,
) -> list[Evidence]:
    """Of every set of lags, small sets first; ``advance`` is called with 1 for each."""
    found = []
    for size in range(lagged.shape[1] + 1):
        for chosen in itertools.combinations(range(lagged.shape[1]), size):
            lags = tuple(g + 1 for g in chosen)
            if size <= 1:
                before = lagged[:, chosen[0]] if chosen else np.zeros_like(came)
                found.append(Evidence(lags, _of_chain(before, came, n_states, row_concentration), 0.0))
            else:
                runs = particle_evidence(lagged[:, chosen], came, n_states, concentration, row_concentration)
                mean = float(logsumexp(runs) - math.log(RUNS))
                relative = np.exp(runs - mean)
                found.append(Evidence(lags, mean, float(relative.std(ddof=1) / math.sqrt(RUNS))))
            advance(1)
    return found


def _of_chain(before: Int[np.ndarray, " n"], came: Int[np.ndarray, " n"], q: int, beta: float) -> float:
    """Σ_a log of the Dirichlet-multinomial of what came after a."""
    pairs = np.zeros((q, q))
    np.add.at(pairs, (before, came), 1)
    return float(log_dirichlet_multinomial(pairs, beta).sum())


def particle_evidence(
    lagged: Int[np.ndarray, "n s"], came: Int[np.ndarray, " n"], q: int, alpha: float, beta: float
) -> Float[np.ndarray, " R"]:
    """Log evidence by ``RUNS`` independent runs of ``PARTICLES``, side by side; the same data give the same."""
    n, s = lagged.shape
    rng = np.random.default_rng(0)
    each = np.arange(RUNS * PARTICLES)
    c, pairs = np.zeros((each.size, s)), np.zeros((each.size, q, q))
    rows = np.zeros((each.size, q))
    log_weights, total = np.zeros((RUNS, PARTICLES)), np.zeros(RUNS)
    for done, t in enumerate(rng.permutation(n)):
        a, b = lagged[t], came[t]
        joint = (alpha + c) / (s * alpha + done) * (beta + pairs[:, a, b]) / (q * beta + rows[:, a])
        below = joint.cumsum(axis=1)
        lag = (rng.random(each.size) * below[:, -1] >= below[:, :-1].T).sum(axis=0)
        c[each, lag] += 1
        pairs[each, a[lag], b] += 1
        rows[each, a[lag]] += 1
        log_weights += np.log(below[:, -1]).reshape(RUNS, PARTICLES)
        shares = np.exp(log_weights - logsumexp(log_weights, axis=1, keepdims=True))
        if (1 / (shares**2).sum(axis=1) < PARTICLES / 2).any():
            total += logsumexp(log_weights, axis=1) - math.log(PARTICLES)
            log_weights[:] = 0
            places = (rng.random((RUNS, 1)) + np.arange(PARTICLES)) / PARTICLES  # systematic
            kept = np.concatenate(
                [
                    r * PARTICLES + np.searchsorted(shares[r].cumsum(), places[r]).clip(max=PARTICLES - 1)
                    for r in range(RUNS)
                ]
            )
            c, pairs, rows = c[kept], pairs[kept], rows[kept]
    return total + logsumexp(log_weights, axis=1) - math.log(PARTICLES)


def probabilities(found: list[Evidence], order: int) -> list[float] | None:
    """For each lag the posterior probability that it matters: of the sets with it, all sets equally likely before.

    None where an evidence that counts is not known well enough.
    """
    values = np.array([each.value for each in found])
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    if any(share > 0.01 and each.error > SURE for share, each in zip(shares, found, strict=True)):
        return None
    return [
        min(1.0, float(sum(p for p, e in zip(shares, found, strict=True) if g in e.lags))) for g in range(1, order + 1)
    ]
