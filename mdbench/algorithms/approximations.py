r"""Approximations of E[λ | y] with nothing to tune, for any mixture with a Dirichlet prior (docs/approximations.md).

Assumed-density filtering and expectation propagation keep a Dirichlet. With a prior Dir(a) and one transition x, the
*tilted* distribution ∝ Dir(λ; a) ⟨λ, x⟩ is the mixture Σ_g r_g Dir(a + e_g), r_g ∝ a_g x(g). With s = Σ_g a_g,

    E λ_h = (a_h + r_h)/(s + 1),    E λ_h² = [(1 - r_h) a_h (a_h + 1) + r_h (a_h + 1)(a_h + 2)]/((s + 1)(s + 2)),

and it is replaced by the Dirichlet of the same mean whose precision is Σ_h (E λ_h - E λ_h²)/Σ_h Var λ_h.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import gammaln
from scipy.special import softmax as np_softmax

from mdbench.algorithms.mirror_descent import TracedFloat, TracedInt, padded
from mdbench.algorithms.reweighting import responsibilities
from mdbench.baselines.softmax import find_mode

DAMPING = 0.7  # of EP after its first sweep
MOST_SWEEPS = 200
TOLERANCE = 1e-8  # largest change of E[λ] in a sweep after which EP has converged

MOST_SPLITS = 8

FIXED_POINT_STEPS, FIXED_POINT_TOLERANCE = 2000, 1e-10  # the most, and the change of λ at which one has ended


class Propagated(NamedTuple):
    """What expectation propagation found.

    Attributes:
        a: the Dirichlet's parameters.
        sweeps: until the mean stood still, or all that are allowed.
        converged: whether it stood still.
        skipped: sites that the last sweep left as they were, since without them no Dirichlet remains.
    """

    a: Float[np.ndarray, "batch m"]
    sweeps: Int[np.ndarray, " batch"]
    converged: Bool[np.ndarray, " batch"]
    skipped: Int[np.ndarray, " batch"]

    @property
    def mean(self) -> Float[np.ndarray, "batch m"]:
        """The Dirichlet's, which is the estimate of λ."""
        return self.a / self.a.sum(axis=1, keepdims=True)


def filtered(x: Float[np.ndarray, "batch n m"], alpha: float, split: int = 0) -> Float[np.ndarray, "batch n_and_one m"]:
    """E[λ] after 0, .., n transitions by assumed-density filtering, one pass.

    Dir(α, .., α) is the mixture over counts c of ``split`` draws from it, Σ_c P(c) Dir(α + c): each part is filtered by
    itself, and they are mixed by the evidence that their filters find. Parts are C(split + m - 1, m - 1).
    """
    m = x.shape[2]
    counts = np.array([np.bincount(c, minlength=m) for c in _multisets(m, split)])
    log_prior = gammaln(split + 1) - gammaln(counts + 1).sum(axis=1) + gammaln(m * alpha) - gammaln(m * alpha + split)
    log_prior += (gammaln(alpha + counts) - gammaln(alpha)).sum(axis=1)
    means = _filter(padded(x), jnp.asarray(alpha + counts), jnp.asarray(log_prior))
    return np.asarray(means)[:, : x.shape[1] + 1]


def _multisets(m: int, size: int) -> list[list[int]]:
    return [list(c) for c in itertools.combinations_with_replacement(range(m), size)]


def propagated(x: Float[np.ndarray, "batch n m"], alpha: float) -> Propagated:
    """Expectation propagation (Minka, UAI 2001), with a Dirichlet site for each transition.

    In sweeps: each site is taken out, the tilted distribution projected, and the difference put back; all of it in the
    first sweep, which is :func:`filtered`, and 70% of it afterwards.
    """
    return Propagated(*(np.asarray(part) for part in _propagate(padded(x), x.shape[1], alpha)))


def tierney_kadane(x: Float[np.ndarray, "batch n m"], alpha: float) -> Float[np.ndarray, "batch m"]:
    """Tierney and Kadane's approximation (JASA 81:82-86, 1986) in softmax coordinates, normalised.

    E[λ_g | y] is (1/m) p(y | λ ~ Dir(α + e_g)) / p(y | λ ~ Dir(α)), and Laplace's method finds each evidence.
    """
    m = x.shape[2]
    log_evidence = np.empty((len(x), m))
    for g in range(m):
        mode = find_mode(x, alpha + np.eye(m)[g])
        log_evidence[:, g] = mode.log_density - np.linalg.slogdet(mode.precision)[1] / 2
    return np_softmax(log_evidence, axis=1)


@jax.jit
def cvb0(x: Float[Array, "batch n m"], alpha: TracedFloat) -> Float[Array, "batch m"]:
    """λ_g = (α + Σ_t γ_t(g))/(mα + n) with γ_t(g) ∝ x_t(g) (α + Σ_{s≠t} γ_s(g)), iterated to its fixed point.

    Collapsed variational inference of zero order (Asuncion, Welling, Smyth and Teh, UAI 2009).
    """
    n, m = x.shape[1:]

    def weights(gamma: Float[Array, "batch n m"]) -> Float[Array, "batch m"]:
        return (alpha + gamma.sum(axis=1)) / (m * alpha + n)

    def step(gamma: Float[Array, "batch n m"]) -> Float[Array, "batch n m"]:
        return responsibilities(x * (alpha + gamma.sum(axis=1, keepdims=True) - gamma))

    return weights(fixed_point(step, responsibilities(x), weights))


def fixed_point(step: Callable[[Any], Any], start: Any, weights: Callable[[Any], Any]) -> Any:
    """Iterate ``step`` from ``start``, each sequence until its ``weights`` of the state, λ, stand still."""

    def one(state: Any) -> Any:
        k, value, going = state
        new = step(value)
        moved = jnp.abs(weights(new) - weights(value)).max(axis=1) > FIXED_POINT_TOLERANCE
        # A finished sequence stays where it is, whatever its neighbours need.
        still = going.reshape(-1, *(1,) * (new.ndim - 1))
        return k + 1, jnp.where(still, new, value), going & moved

    def unfinished(state: Any) -> Bool[Array, ""]:
        return (state[0] < FIXED_POINT_STEPS) & state[2].any()

    return jax.lax.while_loop(unfinished, one, (0, start, jnp.full(len(start), True)))[1]


def _project(a: Float[Array, "batch m"], x: Float[Array, "batch m"]) -> Float[Array, "batch m"]:
    """The Dirichlet in the place of the tilted distribution."""
    s = a.sum(axis=-1, keepdims=True)
    r = responsibilities(a * x)
    mean = (a + r) / (s + 1)
    square = ((1 - r) * a * (a + 1) + r * (a + 1) * (a + 2)) / ((s + 1) * (s + 2))
    variance = (square - mean**2).sum(axis=-1, keepdims=True)
    certain = a.shape[-1] == 1  # one component: nothing varies
    precision = s + 1 if certain else (mean - square).sum(axis=-1, keepdims=True) / variance
    return mean * precision


@jax.jit
def _filter(
    x: Float[Array, "batch n m"], starts: Float[Array, "parts m"], log_prior: Float[Array, " parts"]
) -> Float[Array, "batch n_and_one m"]:
    def mean(a: Array, log_weight: Array) -> Array:
        share = jax.nn.softmax(log_weight, axis=0)
        return jnp.einsum("pb,pbg->bg", share, a / a.sum(axis=-1, keepdims=True))

    def step(state: tuple[Array, Array], row: Float[Array, "batch m"]) -> tuple[Any, Array]:
        a, log_weight = state
        log_weight = log_weight + jnp.log((a * row).sum(axis=-1) / a.sum(axis=-1))
        new = jax.vmap(_project, (0, None))(a, row)
        return (new, log_weight), mean(new, log_weight)

    shape = (len(starts), x.shape[0])
    a = jnp.broadcast_to(starts[:, None], (*shape, x.shape[2]))
    log_weight = jnp.broadcast_to(log_prior[:, None], shape)
    after = jax.lax.scan(step, (a, log_weight), x.swapaxes(0, 1))[1]
    return jnp.concatenate([mean(a, log_weight)[:, None], after.swapaxes(0, 1)], axis=1)


@jax.jit
def _propagate(x: Float[Array, "batch n m"], n: TracedInt, alpha: TracedFloat) -> tuple[Array, Array, Array, Array]:
    """The first ``n`` transitions count."""
    batch, _, m = x.shape

    def visit(t: TracedInt, state: Any, share: TracedFloat, going: Bool[Array, " batch"]) -> Any:
        a, sites, skipped = state
        cavity = a - sites[:, t]
        proper = (cavity > 0).all(axis=-1)
        cavity = jnp.where(proper[:, None], cavity, 1.0)
        change = jnp.where((proper & going)[:, None], share * (_project(cavity, x[:, t]) - cavity - sites[:, t]), 0.0)
        return a + change, sites.at[:, t].add(change), skipped + (going & ~proper)

    def sweep(state: Any) -> Any:
        k, a, sites, skipped, sweeps, going = state
        one = functools.partial(visit, share=jnp.where(k == 0, 1.0, DAMPING), going=going)
        new, sites, skipped = jax.lax.fori_loop(0, n, one, (a, sites, jnp.where(going, 0, skipped)))
        moved = jnp.abs(new / new.sum(axis=-1, keepdims=True) - a / a.sum(axis=-1, keepdims=True)).max(axis=-1)
        # A finished sequence stays where it is, whatever its neighbours need.
        return k + 1, new, sites, skipped, sweeps + going, going & (moved > TOLERANCE)

    def unfinished(state: Any) -> Bool[Array, ""]:
        return (state[0] < MOST_SWEEPS) & state[5].any()

    none = jnp.zeros(batch, int)
    begin = (0, jnp.full((batch, m), alpha), jnp.zeros_like(x), none, none, jnp.full(batch, True))
    _, a, _, skipped, sweeps, going = jax.lax.while_loop(unfinished, sweep, begin)
    return a, sweeps, ~going, skipped
