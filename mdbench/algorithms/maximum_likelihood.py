r"""Maximum likelihood: the fixed point of EM, EM_η of docs/mathematics.md, section 2 at η = 1 run to its end.

ℓ is concave, and max_g ∂_g ℓ(λ) - n bounds ℓ* - ℓ(λ) (weak duality, as Σ_g λ_g ∂_g ℓ = n). EM itself,
λ_g ← λ_g ∂_g ℓ / n, is slow where a weight vanishes or the maximum is flat; a primal-dual interior-point method gets to
the same point in a few dozen. It solves, for μ → 0,

    ∂_g ℓ(λ) + s_g = ν,    λ_g s_g = μ,    Σ_g λ_g = 1,    λ, s > 0.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

GAP = 1e-8  # nats
State = tuple[Any, Float[Array, "batch m"], Float[Array, "batch m"]]  # iteration, λ, s

MAX_ITERATIONS = 200


def maximise_likelihood(x: Float[np.ndarray, "batch n m"]) -> Float[np.ndarray, "batch m"]:
    """argmax_λ Σ_t log⟨λ, x_t⟩.

    Raises:
        FloatingPointError: the duality gap stays above 1e-8 for some sequence.
    """
    weights, gap = jax.tree.map(np.asarray, _interior_point(jnp.asarray(x)))
    if not (gap <= GAP).all():
        raise FloatingPointError(f"maximum likelihood: the duality gap stands at {gap.max():.1e} nats, above {GAP:g}.")
    return weights


def log_likelihood_gradient(weights: Float[Array, "batch m"], x: Float[Array, "batch n m"]) -> Float[Array, "batch m"]:
    """∂_g ℓ(λ) = Σ_t x_t(g) / ⟨λ, x_t⟩."""
    return (x / jnp.einsum("btg,bg->bt", x, weights)[..., None]).sum(axis=1)


def duality_gap(weights: Float[Array, "batch m"], x: Float[Array, "batch n m"]) -> Float[Array, " batch"]:
    """max_g ∂_g ℓ(λ) - n, an upper bound on ℓ* - ℓ(λ) in nats."""
    return log_likelihood_gradient(weights, x).max(axis=-1) - x.shape[1]


@jax.jit
def _interior_point(x: Float[Array, "batch n m"]) -> tuple[Float[Array, "batch m"], Float[Array, " batch"]]:
    batch, n, m = x.shape
    weights = jnp.full((batch, m), 1 / m)

    def newton(
        weights: Float[Array, "batch m"], slack: Float[Array, "batch m"]
    ) -> tuple[Float[Array, "batch m"], Float[Array, "batch m"]]:
        """One step for each sequence, with μ a tenth of the present mean of λ_g s_g."""
        mu = 0.1 * (weights * slack).mean(axis=-1, keepdims=True)
        ratio = x / jnp.einsum("btg,bg->bt", x, weights)[..., None]
        curvature = jnp.einsum("btg,bth->bgh", ratio, ratio) + (slack / weights)[..., None] * jnp.eye(m)
        # [C 1; 1ᵀ 0] [dλ; ν] = [∂ℓ + μ/λ; 0]: solve with C, then choose ν so that dλ sums to zero.
        sides = jnp.stack([ratio.sum(axis=1) + mu / weights, jnp.ones_like(weights)], axis=-1)
        solved = jnp.linalg.solve(curvature, sides)
        nu = solved[..., 0].sum(axis=-1, keepdims=True) / solved[..., 1].sum(axis=-1, keepdims=True)
        d_weights = solved[..., 0] - nu * solved[..., 1]
        d_slack = (mu - slack * d_weights) / weights - slack
        weights = weights + _step_inside(weights, d_weights) * d_weights
        return weights / weights.sum(axis=-1, keepdims=True), slack + _step_inside(slack, d_slack) * d_slack

    def unfinished(state: State) -> Bool[Array, ""]:
        iteration, weights, _ = state
        return (iteration < MAX_ITERATIONS) & (duality_gap(weights, x) > GAP).any()

    def body(state: State) -> State:
        iteration, weights, slack = state
        new_weights, new_slack = newton(weights, slack)
        # A finished sequence stays where it is, whatever its neighbours need.
        going = (duality_gap(weights, x) > GAP)[:, None]
        return iteration + 1, jnp.where(going, new_weights, weights), jnp.where(going, new_slack, slack)

    _, weights, slack = jax.lax.while_loop(unfinished, body, (0, weights, jnp.full((batch, m), float(n))))
    # Where the slack is the larger of the two, the maximum has λ_g = 0, and a prediction that rests on g is impossible
    # rather than improbable. Taken at its word wherever the gap allows it (it does not where nothing was to be done).
    cut = jnp.where(weights < slack, 0.0, weights)
    cut = cut / cut.sum(axis=-1, keepdims=True)
    weights = jnp.where((duality_gap(cut, x) <= GAP)[:, None], cut, weights)
    return weights, duality_gap(weights, x)


def _step_inside(value: Float[Array, "batch m"], direction: Float[Array, "batch m"]) -> Float[Array, "batch 1"]:
    """The longest step up to 1 that keeps 1% of the way to the boundary."""
    to_boundary = jnp.where(direction < 0, -value / jnp.where(direction < 0, direction, -1.0), jnp.inf)
    return jnp.minimum(1.0, 0.99 * to_boundary.min(axis=-1, keepdims=True))
