"""The algorithms that ``mdbench identify`` knows: each estimates λ from a context, with a few scalars to fit.

Written once: predictors of these names (:mod:`mdbench.predictors.estimators`) take them from here. Other packages bring
theirs by the entry points ``mdbench.algorithms``, and anybody by ``--algorithm FILE.py:NAME``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdbench.algorithms.approximations import cvb0, filtered, fixed_point, propagated, tierney_kadane
from mdbench.algorithms.maximum_likelihood import maximise_likelihood
from mdbench.algorithms.mirror_descent import adaptive_constants, adaptive_step, descend
from mdbench.algorithms.reweighting import (
    N_SHARED,
    STAGES,
    around,
    n_scalars,
    responsibilities,
    reweighted,
    start,
    with_sink,
)
from mdbench.algorithms.token_weighting import Variant, log_evidence

SEED, SPREAD = 0, 3.0  # of a start beside the derived one: how far

Lags = Float[Array, "batch n m"]

Scalars = Float[Array, " k"]
Alpha = float | Float[Array, ""]
Weights = Float[Array, "batch m"]


class Evidence(NamedTuple):
    """What an algorithm may use of some sequences.

    Attributes:
        x: x_t(g), the likelihood of each transition if its lag were g.
        alpha: α of the prior on λ.
        tokens: the token that came at each transition; of an ``mtd`` alone, as the next.
        lagged: the tokens that may have decided it, lag 1 first.
        posterior: E[λ | y], exact.
    """

    x: Lags
    alpha: Alpha
    tokens: Int[Array, "batch n"] | None = None
    lagged: Int[Array, "batch n m"] | None = None
    posterior: Weights | None = None


class Setting(NamedTuple):
    """What a search for scalars may begin from.

    Attributes:
        order: m, the number of components.
        n: transitions in a context.
        alpha: α.
        transition: π, of an ``mtd``.
        fitted: the scalars of the algorithms before this one in the list.
    """

    order: int
    n: int
    alpha: float
    transition: Float[np.ndarray, "q q"] | None
    fitted: Mapping[str, Sequence[float]]

    @property
    def beta(self) -> float:
        """β = η m n of the fitted single step."""
        return self.fitted["md1"][0] * self.order * self.n


Estimate = Callable[[Evidence, Scalars], Weights]
Starts = Callable[[Setting], "list[Float[np.ndarray, ' k']]"]


@dataclass(frozen=True)
class Algorithm:
    """One algorithm.

    Attributes:
        name: its name.
        summary: what it does, in one line.
        scalars: names of what is fitted; a step size's begins with η: it goes as 1/n from one length to another.
        estimate: (evidence, scalars) to λ, a differentiable function of jax in the scalars if there are any; None for a
            posterior method.
        baseline: the posterior method whose mean it is, else None.
        positive: whether the scalars are positive: their logarithms are fitted.
        begin: where a search for scalars begins; if not given, at 1 where they are positive, else at 0.
        between: of one positive scalar: where it is looked for everywhere, since there may be several valleys.
        variant: of the steps whose tokens have weights; their scalars depend on the number of states.
    """

    name: str
    summary: str
    scalars: tuple[str, ...] = ()
    estimate: Estimate | None = None
    baseline: str | None = None
    positive: bool = False
    begin: Starts | None = None
    between: Callable[[Setting], tuple[float, float]] | None = None
    variant: Variant | None = None

    def names(self, n_states: int) -> tuple[str, ...]:
        """Of all scalars."""
        return self.scalars if self.variant is None else self.variant.names(n_states)

    def n_free(self, n_states: int) -> int:
        """How many of them change the estimate: of those that only shift others alike, none counts."""
        return len(self.scalars) if self.variant is None else self.variant.n_free(n_states)

    def starts(self, setting: Setting) -> list[Float[np.ndarray, " k"]]:
        """Where the search for several scalars begins (positive ones by their logarithms)."""
        if self.begin is None:
            return [np.zeros(len(self.scalars))]
        starts = self.begin(setting)
        return [np.log(each) for each in starts] if self.positive else starts

    def carried(self, scalars: Sequence[float], n: int, to: int) -> tuple[float, ...]:
        """Scalars fitted on n transitions for sequences of another number: step sizes go as 1/n, all else stays."""
        if self.variant is not None:
            return tuple(scalars)
        return tuple(
            value * n / to if name.startswith("η") else value for name, value in zip(self.scalars, scalars, strict=True)
        )


def _of_lags(estimate: Callable[[Lags, Scalars], Weights]) -> Estimate:
    """An algorithm that uses the lag likelihoods alone."""
    return lambda evidence, scalars: estimate(evidence.x, scalars)


def _of_prior(estimate: Callable[[Lags, Alpha], Weights]) -> Estimate:
    """One that uses α too, and has nothing to fit."""
    return lambda evidence, _scalars: estimate(evidence.x, evidence.alpha)


def _in_numpy(estimate: Callable[[np.ndarray, float], np.ndarray]) -> Estimate:
    """The same, not traced."""
    return lambda evidence, _scalars: jnp.asarray(estimate(np.asarray(evidence.x), float(evidence.alpha)))


def _uniform(x: Lags) -> Weights:
    return jnp.full((x.shape[0], x.shape[2]), 1 / x.shape[2])


@partial(jax.jit, static_argnames="steps")
def _shared_steps(x: Lags, scalars: Scalars, steps: int) -> Weights:
    return descend(x, jnp.broadcast_to(scalars[0], (steps,)))


@partial(jax.jit, static_argnames="steps")
def _em(x: Lags, _scalars: Scalars, steps: int) -> Weights:
    weights = _uniform(x)
    for _ in range(steps):
        weights = responsibilities(weights[:, None] * x).mean(axis=1)
    return weights


@jax.jit
def _dirichlet_em(x: Lags, scalars: Scalars) -> Weights:
    """λ_g = (c + Σ_t γ_t(g))/(m c + n), with the γ_t at λ: iterated to its fixed point."""
    n, m = x.shape[1:]

    def step(weights: Weights) -> Weights:
        return (scalars[0] + responsibilities(weights[:, None] * x).sum(axis=1)) / (m * scalars[0] + n)

    return fixed_point(step, _uniform(x), lambda weights: weights)


@jax.jit
def _quasi_bayes(x: Lags, alpha: Alpha) -> Weights:
    """λ += (γ_t - λ)/(mα + t) through the sequence, with γ_t at the λ of before (Smith and Makov, 1978)."""
    m = x.shape[2]

    def step(weights: Weights, at: tuple[Array, Array]) -> tuple[Weights, None]:
        t, row = at
        gamma = responsibilities(weights * row)
        return weights + (gamma - weights) / (m * alpha + t), None

    times = jnp.arange(1, x.shape[1] + 1)
    return jax.lax.scan(step, _uniform(x), (times, x.swapaxes(0, 1)))[0]


@jax.jit
def _soft_counts(x: Lags, scalars: Scalars) -> Weights:
    """λ_g ∝ c + Σ_t γ_t(g)."""
    counts = scalars[0] + responsibilities(x).sum(axis=1)
    return counts / counts.sum(axis=-1, keepdims=True)


@jax.jit
def _hard_counts(x: Lags, scalars: Scalars) -> Weights:
    """λ_g ∝ c + how often lag g is the likeliest; lags that are equally likely share."""
    likeliest = x == x.max(axis=-1, keepdims=True)
    counts = scalars[0] + (likeliest / likeliest.sum(axis=-1, keepdims=True)).sum(axis=1)
    return counts / counts.sum(axis=-1, keepdims=True)


def _adaptive(x: Lags, alpha: Alpha) -> Weights:
    return adaptive_step(x, jnp.asarray(adaptive_constants(x.shape[2], float(alpha))))


def _steps_between(setting: Setting) -> tuple[float, float]:
    """From a hundredth of ``smooth`` to 10, where one step picks a single lag."""
    return 1 / (setting.n * setting.order**2) / 100, 10.0


def _counts_between(setting: Setting) -> tuple[float, float]:
    """From nearly nothing to far more than there are transitions."""
    return 5e-2, 1e2 * setting.n


def _from_adaptive(setting: Setting) -> list[np.ndarray]:
    a, b = adaptive_constants(setting.order, setting.alpha)
    return [np.array([a, max(b, 1.0)])]


def _free_steps(k: int) -> Algorithm:
    return Algorithm(
        f"md{k}_free",
        f"Mirror Descent, {k} steps of {k} sizes",
        tuple(f"η{j + 1}" for j in range(k)),
        _of_lags(descend),
        positive=True,
        begin=lambda setting: [np.full(k, setting.fitted[f"md{k}"][0])],
    )


def _constructed(depth: int) -> Algorithm:
    stages = STAGES[depth]

    def begin(setting: Setting) -> list[np.ndarray]:
        derived = start(stages, setting.order, setting.beta)
        one_step = np.zeros_like(derived)
        one_step[:N_SHARED], one_step[-len(stages) - 1] = derived[:N_SHARED], setting.beta
        (near,) = around(derived, setting.n, SPREAD, 1, np.random.default_rng(SEED))
        return [derived, one_step, with_sink(derived, setting.n), near]

    return Algorithm(
        f"l{depth}",
        f"the algorithm of constructed_l{depth}: transitions reweighted",
        ("τ", "b", *(f"a{k + 1}" for k in range(n_scalars(stages) - N_SHARED))),
        _of_lags(partial(reweighted, stages=stages)),
        begin=begin,
    )


def _weighted(name: str, summary: str, variant: Variant) -> Algorithm:
    """One step whose transitions have weights by their token."""

    def estimate(evidence: Evidence, scalars: Scalars) -> Weights:
        assert evidence.tokens is not None
        return variant.estimate(evidence.x, evidence.lagged, evidence.tokens, scalars)

    def begin(setting: Setting) -> list[np.ndarray]:
        assert setting.transition is not None
        return variant.starts(log_evidence(setting.transition), setting.beta)

    return Algorithm(name, summary, estimate=estimate, begin=begin, variant=variant)


def _with_bayes(of: Algorithm) -> Algorithm:
    """Its estimate and the posterior mean, mixed at some odds; since p is linear in λ, predictions mix likewise."""
    inner = of.estimate
    assert inner is not None

    def estimate(evidence: Evidence, scalars: Scalars) -> Weights:
        assert evidence.posterior is not None
        return (inner(evidence, scalars[:-1]) + scalars[-1] * evidence.posterior) / (1 + scalars[-1])

    def begin(setting: Setting) -> list[np.ndarray]:
        return [np.array([*setting.fitted[of.name], odds]) for odds in (0.1, 1.0)]

    return Algorithm(
        f"{of.name}+bayes",
        f"{of.summary}, mixed with Bayes at some odds",
        (*of.scalars, "odds"),
        estimate,
        positive=True,
        begin=begin,
    )


_UNIFORM = Algorithm("uniform", "λ = 1/m", estimate=lambda evidence, _scalars: _uniform(evidence.x))

_ONE_STEP, *_STEPS = (
    Algorithm(
        f"md{k}",
        f"Mirror Descent, {k} step{'s' if k > 1 else ''} of one size",
        ("η",),
        _of_lags(partial(_shared_steps, steps=k)),
        positive=True,
        between=_steps_between,
    )
    for k in range(1, 6)
)

_TUNED = Algorithm(
    "md1_adaptive_tuned",
    "one step of size 1/(a + b S)",
    ("a", "b"),
    lambda evidence, scalars: adaptive_step(evidence.x, scalars),
    positive=True,
    begin=_from_adaptive,
)

ALGORITHMS: Sequence[Algorithm] = (
    Algorithm("bayes", "the exact posterior mean", baseline="exact"),
    Algorithm("laplace", "Laplace's approximation of the posterior mean", baseline="laplace"),
    Algorithm("tierney_kadane", "ratios of Laplace's evidences", estimate=_in_numpy(tierney_kadane)),
    Algorithm(
        "ep",
        "expectation propagation with Dirichlet sites",
        estimate=_in_numpy(lambda x, alpha: propagated(x, alpha).mean),
    ),
    Algorithm("adf", "one pass that keeps a Dirichlet", estimate=_in_numpy(lambda x, alpha: filtered(x, alpha)[:, -1])),
    Algorithm("cvb0", "collapsed variational inference of zero order", estimate=_of_prior(cvb0)),
    _UNIFORM,
    _ONE_STEP,
    *_STEPS,
    *(_free_steps(k) for k in range(2, 6)),
    Algorithm("md1_adaptive", "one step of a size that each sequence decides", estimate=_of_prior(_adaptive)),
    _TUNED,
    Algorithm(
        "md1_matrix",
        "one step through (a I + b Σ d dᵀ)⁻¹",
        ("a", "b"),
        lambda evidence, scalars: adaptive_step(evidence.x, scalars, matrix=True),
        positive=True,
        begin=_from_adaptive,
    ),
    _weighted("tokens_sum", "one step, transitions weighted by their token", Variant()),
    _weighted("tokens", "the same, divided by the sum of the weights", Variant(normalised=True)),
    _weighted("tokens_sum_free", "tokens_sum with a free matrix for log π", Variant(free=True)),
    _weighted("tokens_free", "tokens with a free matrix for log π", Variant(normalised=True, free=True)),
    _weighted(
        "tokens_leak",
        "tokens_free, whose lags share with something else that is always there",
        Variant(normalised=True, free=True, leak=True),
    ),
    *(_with_bayes(of) for of in (_UNIFORM, _ONE_STEP, _TUNED)),
    Algorithm("em", "maximum likelihood, EM's limit", estimate=_in_numpy(lambda x, _alpha: maximise_likelihood(x))),
    *(Algorithm(f"em{k}", f"{k} steps of EM", estimate=_of_lags(partial(_em, steps=k))) for k in (1, 2, 5)),
    Algorithm(
        "dirichlet_em",
        "EM with c pseudo-counts a lag, to its limit",
        ("c",),
        _of_lags(_dirichlet_em),
        positive=True,
        between=_counts_between,
    ),
    Algorithm("quasi_bayes", "λ += (γ - λ)/(mα + t) through the sequence", estimate=_of_prior(_quasi_bayes)),
    Algorithm(
        "soft_counts",
        "counts of responsibilities plus c",
        ("c",),
        _of_lags(_soft_counts),
        positive=True,
        between=_counts_between,
    ),
    Algorithm(
        "hard_counts",
        "counts of the likeliest lags plus c",
        ("c",),
        _of_lags(_hard_counts),
        positive=True,
        between=_counts_between,
    ),
    *(_constructed(depth) for depth in (4, 5, 7)),
)

BY_NAME: Mapping[str, Algorithm] = {algorithm.name: algorithm for algorithm in ALGORITHMS}
