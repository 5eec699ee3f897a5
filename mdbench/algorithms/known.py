"""The algorithms that ``mdbench identify`` knows: each estimates λ from a context, with a few scalars to fit.

Written once: predictors of these names (:mod:`mdbench.predictors.estimators`) take them from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdbench.algorithms.approximations import cvb0, fixed_point, tierney_kadane
from mdbench.algorithms.maximum_likelihood import maximise_likelihood
from mdbench.algorithms.mirror_descent import descend
from mdbench.algorithms.reweighting import N_SHARED, around, n_scalars, responsibilities, reweighted, start

SEED, SPREAD, AROUND = 0, 3.0, 2  # of starts of a search: how far, and how many

Lags = Float[Array, "batch n m"]

Scalars = Float[Array, " k"]
Alpha = float | Float[Array, ""]
Weights = Float[Array, "batch m"]
Estimate = Callable[[Lags, Scalars, Alpha], Weights]


@dataclass(frozen=True)
class Algorithm:
    """One algorithm.

    Attributes:
        name: its name.
        summary: what it does, in one line.
        scalars: names of what is fitted.
        estimate: (lag likelihoods, scalars, α) to λ, differentiable in the scalars; None for a posterior method.
        baseline: the posterior method whose mean it is, else None.
        positive: whether the scalars are positive: their logarithms are fitted.
        stages: of a constructed transformer's algorithm, else None.
    """

    name: str
    summary: str
    scalars: tuple[str, ...] = ()
    estimate: Estimate | None = None
    baseline: str | None = None
    positive: bool = False
    stages: str | None = None

    def starts(self, order: int, n: int, fitted: Mapping[str, Sequence[float]]) -> list[Float[np.ndarray, " k"]]:
        """Where the search for several scalars begins: at simpler algorithms' fits, which it contains, and around."""
        if self.stages is None:
            (eta,) = fitted[self.name.removesuffix("_free")]
            return [np.log(np.full(len(self.scalars), eta))]
        beta = fitted["md1"][0] * order * n
        derived = start(self.stages, order, beta)
        one_step = np.zeros_like(derived)
        one_step[:N_SHARED], one_step[-len(self.stages) - 1] = derived[:N_SHARED], beta
        return [derived, one_step, *around(derived, n, SPREAD, AROUND, np.random.default_rng(SEED))]

    def carried(self, scalars: Sequence[float], n: int, to: int) -> tuple[float, ...]:
        """Scalars fitted on n transitions for sequences of another number: step sizes go as 1/n, all else stays."""
        return tuple(
            value * n / to if name.startswith("η") else value for name, value in zip(self.scalars, scalars, strict=True)
        )


@jax.jit
def _uniform(x: Lags, _scalars: Scalars | None, _alpha: Alpha) -> Weights:
    return jnp.full((x.shape[0], x.shape[2]), 1 / x.shape[2])


@partial(jax.jit, static_argnames="steps")
def _shared_steps(x: Lags, scalars: Scalars, _alpha: Alpha, steps: int) -> Weights:
    return descend(x, jnp.broadcast_to(scalars[0], (steps,)))


@jax.jit
def _own_steps(x: Lags, scalars: Scalars, _alpha: Alpha) -> Weights:
    return descend(x, scalars)


@partial(jax.jit, static_argnames="steps")
def _em(x: Lags, _scalars: Scalars, _alpha: Alpha, steps: int) -> Weights:
    weights = _uniform(x, None, 1.0)
    for _ in range(steps):
        weights = responsibilities(weights[:, None] * x).mean(axis=1)
    return weights


def _em_limit(x: Lags, _scalars: Scalars, _alpha: Alpha) -> Weights:
    return jnp.asarray(maximise_likelihood(np.asarray(x)))


@jax.jit
def _dirichlet_em(x: Lags, scalars: Scalars, _alpha: Alpha) -> Weights:
    """λ_g = (c + Σ_t γ_t(g))/(m c + n), with the γ_t at λ: iterated to its fixed point."""
    n, m = x.shape[1:]

    def step(weights: Weights) -> Weights:
        return (scalars[0] + responsibilities(weights[:, None] * x).sum(axis=1)) / (m * scalars[0] + n)

    return fixed_point(step, _uniform(x, None, 1.0), lambda weights: weights)


@jax.jit
def _quasi_bayes(x: Lags, _scalars: Scalars, alpha: Alpha) -> Weights:
    """λ += (γ_t - λ)/(mα + t) through the sequence, with γ_t at the λ of before (Smith and Makov, 1978)."""
    m = x.shape[2]

    def step(weights: Weights, at: tuple[Array, Array]) -> tuple[Weights, None]:
        t, row = at
        gamma = responsibilities(weights * row)
        return weights + (gamma - weights) / (m * alpha + t), None

    times = jnp.arange(1, x.shape[1] + 1)
    return jax.lax.scan(step, _uniform(x, None, 1.0), (times, x.swapaxes(0, 1)))[0]


@jax.jit
def _soft_counts(x: Lags, scalars: Scalars, _alpha: Alpha) -> Weights:
    """λ_g ∝ c + Σ_t γ_t(g)."""
    counts = scalars[0] + responsibilities(x).sum(axis=1)
    return counts / counts.sum(axis=-1, keepdims=True)


@jax.jit
def _hard_counts(x: Lags, scalars: Scalars, _alpha: Alpha) -> Weights:
    """λ_g ∝ c + how often lag g is the likeliest; lags that are equally likely share."""
    likeliest = x == x.max(axis=-1, keepdims=True)
    counts = scalars[0] + (likeliest / likeliest.sum(axis=-1, keepdims=True)).sum(axis=1)
    return counts / counts.sum(axis=-1, keepdims=True)


def _cvb0(x: Lags, _scalars: Scalars, alpha: Alpha) -> Weights:
    return cvb0(x, alpha)


def _tierney_kadane(x: Lags, _scalars: Scalars, alpha: Alpha) -> Weights:
    return jnp.asarray(tierney_kadane(np.asarray(x), float(alpha)))


def _reweighting(x: Lags, scalars: Scalars, _alpha: Alpha, stages: str) -> Weights:
    return reweighted(x, scalars, stages)


def _constructed(depth: int, stages: str) -> Algorithm:
    names = ("τ", "b", *(f"a{k + 1}" for k in range(n_scalars(stages) - N_SHARED)))
    return Algorithm(
        f"l{depth}",
        f"the algorithm of constructed_l{depth}: transitions reweighted",
        names,
        partial(_reweighting, stages=stages),
        stages=stages,
    )


ALGORITHMS: Sequence[Algorithm] = (
    Algorithm("bayes", "the exact posterior mean", baseline="exact"),
    Algorithm("laplace", "Laplace's approximation of the posterior mean", baseline="laplace"),
    Algorithm("uniform", "λ = 1/m", estimate=_uniform),
    *(
        Algorithm(
            f"md{k}", f"Mirror Descent, {k} steps of one size", ("η",), partial(_shared_steps, steps=k), None, True
        )
        for k in range(1, 6)
    ),
    *(
        Algorithm(
            f"md{k}_free",
            f"Mirror Descent, {k} steps of {k} sizes",
            tuple(f"η{j + 1}" for j in range(k)),
            _own_steps,
            None,
            True,
        )
        for k in range(2, 6)
    ),
    Algorithm("em", "maximum likelihood, EM's limit", estimate=_em_limit),
    *(Algorithm(f"em{k}", f"{k} steps of EM", estimate=partial(_em, steps=k)) for k in (1, 2, 5)),
    Algorithm("dirichlet_em", "EM with c pseudo-counts a lag, to its limit", ("c",), _dirichlet_em, None, True),
    Algorithm("quasi_bayes", "λ += (γ - λ)/(mα + t) through the sequence", estimate=_quasi_bayes),
    Algorithm("soft_counts", "counts of responsibilities plus c", ("c",), _soft_counts, None, True),
    Algorithm("hard_counts", "counts of the likeliest lags plus c", ("c",), _hard_counts, None, True),
    _constructed(4, "R"),
    _constructed(5, "SR"),
)

APPROXIMATIONS: Sequence[Algorithm] = (
    Algorithm("tierney_kadane", "ratios of Laplace's evidences", estimate=_tierney_kadane),
    Algorithm("cvb0", "collapsed variational inference of zero order", estimate=_cvb0),
)
"""Known by name, not of the family that ``identify`` fits."""

BY_NAME = {algorithm.name: algorithm for algorithm in (*ALGORITHMS, *APPROXIMATIONS)}
