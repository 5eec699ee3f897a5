"""The models that are held against each other, each at its maximum likelihood.

| model        | p(y_t given the past)         | parameters that are counted |
|--------------|-------------------------------|-----------------------------|
| independence | p(y_t)                        | q - 1 |
| markov       | p(y_t given k tokens before)  | q - 1 for each context that came |
| mtd          | Σ_g λ_g π(y_{t-g}, y_t)       | m - 1 + q (q - 1) |
| per_lag      | Σ_g λ_g π_g(y_{t-g}, y_t)     | directions of θ in which some probability changes |

Parameters that are estimated as zero are left out, as Berchtold and Raftery (Statistical Science 17:328, 2002) do. In
``per_lag`` the matrices can exchange a distribution that does not depend on the past without any probability changing
(Lèbre and Bourguignon, 2008), so at most q - 1 + m (q - 1)² directions count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mdbench.core.errors import InputError
from mdbench.core.progress import Advance
from mdbench.series.likelihood import Climbed, MixtureLikelihood
from mdbench.series.profiles import HigherFound, Interval, profile_interval
from mdbench.series.transitions import Transitions

TRIES = 5  # times that profiles may find a higher maximum


@dataclass(frozen=True)
class Fitted:
    """A model at its maximum likelihood.

    Attributes:
        model: independence, markov, mtd or per_lag.
        order: how far back it looks.
        start: S; the first S observations of each sequence are given.
        log_likelihood: in nats, of the n observations that are predicted.
        n_parameters: k, as the table above counts them.
        bic: -2 LL + k log n.
        weights: (m,) λ, of a mixture.
        weights_ci: for each weight an interval by the profile likelihood.
        transition: (q, q) of the MTD, (m, q, q) of ``per_lag`` (None for a lag of weight 0), (q,) of independence; of a
            Markov chain, for each context that came, ``after`` (labels, oldest first), ``probabilities`` and ``count``.
        transition_ci: intervals of the MTD's matrix.
        states: labels of the rows and columns.
        notes: what must be known of it.
    """

    model: str
    order: int
    start: int
    log_likelihood: float
    n_parameters: int
    bic: float
    transition: Any
    states: list[str]
    weights: list[float] | None = None
    weights_ci: list[Interval] | None = None
    transition_ci: list[list[Interval]] | None = None
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What tables call it."""
        return {"independence": self.model, "markov": f"Markov chain of order {self.order}"}.get(
            self.model, f"MTD of order {self.order}{', a matrix per lag' if self.model == 'per_lag' else ''}"
        )


def fit_markov(transitions: Transitions, order: int, states: Sequence[str]) -> Fitted:
    """The Markov chain of an order, in closed form; order 0 is independence."""
    data, q = transitions.counted(order), transitions.n_states
    contexts, context = np.unique(data.lagged, axis=0, return_inverse=True)
    counts = np.zeros((len(contexts), q))
    np.add.at(counts, (context.ravel(), data.came), data.counts)
    probs = counts / counts.sum(axis=1, keepdims=True)
    value = float((data.counts * np.log(probs[context.ravel(), data.came])).sum())
    k = int((counts > 0).sum()) - len(contexts)
    if order == 0:
        transition: Any = probs[0].tolist()
    else:
        transition = [
            {"after": [states[a] for a in reversed(lags)], "probabilities": row.tolist(), "count": int(count)}
            for lags, row, count in zip(contexts.tolist(), probs, counts.sum(axis=1), strict=True)
        ]
    name = "markov" if order else "independence"
    bic = bic_of(value, k, len(transitions))
    return Fitted(name, order, transitions.start, value, k, bic, transition, [*states])


def fit_mixture(
    transitions: Transitions,
    order: int,
    per_lag: bool,
    states: Sequence[str],
    shorter: Fitted | None = None,
    progress: Advance | None = None,
) -> Fitted:
    """The MTD of an order, or that with a matrix per lag, with profile intervals.

    Args:
        transitions: the data.
        order: m, at least 2.
        per_lag: whether every lag has a matrix of its own.
        states: labels.
        shorter: the same model of one lag less, from which one start is made: a longer one is never worse.
        progress: called with the share of the intervals that have just been found.

    Raises:
        InputError: the data cannot say what the parameters are.
    """
    likelihood = likelihood_of(transitions, order, per_lag, states)
    best = likelihood.maximum(None if shorter is None else _longer(shorter, likelihood)[None])
    for _ in range(TRIES):
        try:
            return _described(likelihood, best, transitions, states, progress)
        except HigherFound as found:
            best = found.climbed
    raise InputError(f"the likelihood of order {order} has too many maxima to tell which is the largest.")


def likelihood_of(transitions: Transitions, order: int, per_lag: bool, states: Sequence[str]) -> MixtureLikelihood:
    """The likelihood of a mixture.

    Raises:
        InputError: the data cannot say what its parameters are.
    """
    q, n = transitions.n_states, len(transitions)
    likelihood = MixtureLikelihood(transitions.counted(order), q, per_lag)
    most = order - 1 + (order if per_lag else 1) * q * (q - 1)
    if most >= n:
        what = "MTD with a matrix per lag" if per_lag else "MTD"
        raise InputError(
            f"the {what} of order {order} over {q} states has {most} parameters, and {n} observations are too few; "
            "take a smaller order or join states."
        )
    left = np.isin(np.arange(q), likelihood.data.lagged)
    if not left.all():
        raise InputError(
            f"nothing follows state '{states[int(np.argmin(left))]}' among what is predicted, so its row cannot be "
            "estimated; leave it out (as missing) or join it with another."
        )
    return likelihood


def _longer(shorter: Fitted, likelihood: MixtureLikelihood) -> Float[np.ndarray, " P"]:
    """θ of one lag less as a start, all of it possible."""
    m, q = likelihood.order, likelihood.n_states
    weights = np.append(0.98 * np.array(shorter.weights), 0.02)
    if likelihood.per_lag:
        known = [np.full((q, q), 1 / q) if matrix is None else np.array(matrix) for matrix in shorter.transition]
        rows = np.stack([*known, np.mean(known, axis=0)])
    else:
        rows = np.array(shorter.transition)
    return np.concatenate([0.999 * weights + 0.001 / m, (0.999 * rows + 0.001 / q).ravel()])


def _described(
    likelihood: MixtureLikelihood,
    best: Climbed,
    transitions: Transitions,
    states: Sequence[str],
    progress: Advance | None,
) -> Fitted:
    """The maximum with its intervals."""
    m, q, theta = likelihood.order, likelihood.n_states, best.theta
    errors, n_flat = likelihood.curvature(theta)
    wanted = range(m if likelihood.per_lag else likelihood.size)
    intervals = []
    for k in wanted:
        error = float(errors[k]) if math.isfinite(errors[k]) else 0.0
        intervals.append(profile_interval(likelihood, best, k, error))
        if progress:
            progress(1 / len(wanted))
    free = sum(int((theta[block] > 0).sum()) - 1 for block in likelihood.blocks)
    idle = theta[:m] == 0
    zeros = int((theta == 0).sum())
    if likelihood.per_lag:  # the matrix of a lag without weight says nothing
        zeros = int(idle.sum() + (theta[m:].reshape(m, -1)[~idle] == 0).sum())
    notes = []
    if likelihood.per_lag:
        k = free - n_flat
        notes.append("a matrix per lag: λ and the matrices are known only together, so an interval holds all that fit")
    else:
        k = m - 1 + q * (q - 1) - zeros
        if n_flat:
            notes.append("λ and π are not identified: along some directions the likelihood does not change")
    if zeros:
        notes.append(f"the maximum lies on the boundary: numbers that are zero: {zeros}, with one-sided intervals")
    if any(interval == (0, 1) for interval in intervals[:m]):
        notes.append("an interval of λ that is all of 0 .. 1: the data do not tell that weight")
    rows = theta[m:].reshape(-1, q, q).tolist()
    return Fitted(
        "per_lag" if likelihood.per_lag else "mtd",
        m,
        transitions.start,
        best.value,
        k,
        bic_of(best.value, k, len(transitions)),
        [None if none else row for row, none in zip(rows, idle, strict=True)] if likelihood.per_lag else rows[0],
        [*states],
        theta[:m].tolist(),
        intervals[:m],
        None if likelihood.per_lag else [intervals[m + a * q : m + (a + 1) * q] for a in range(q)],
        tuple(notes),
    )


def bic_of(log_likelihood: float, k: int, n: int) -> float:
    """-2 LL + k log n."""
    return -2 * log_likelihood + k * math.log(n)
