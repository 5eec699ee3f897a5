r"""One step of Mirror Descent whose size adapts, as three layers of attention can do it, written plainly.

    γ̃_t(g) = softmax_g W[y_t, y_{t-g}],    λ̂ = softmax(β Σ_t w(y_t) γ̃_t / Σ_t w(y_t))

With W = log πᵀ and all w equal it is one step. What trained networks of three layers do is near this: transitions are
weighted by their token, and since attention normalises the weights, a sequence of informative tokens takes another step
than one of others (docs/constructions.md).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdbench.algorithms.reweighting import LOG_FLOOR


class TokenWeights(NamedTuple):
    """What the three layers take.

    Attributes:
        evidence: W, (q, q): the row is the token that came, the column that of the lag.
        log_weights: log w, one for each token.
        beta: β.
    """

    evidence: Any
    log_weights: Any
    beta: Any

    @classmethod
    def of(cls, scalars: Any, n_states: int) -> TokenWeights:
        """From one array of q² + q + 1 numbers."""
        square = n_states**2
        return cls(scalars[:square].reshape(n_states, n_states), scalars[square:-1], scalars[-1])


def token_weighted(
    lagged: Int[Any, "batch n m"], tokens: Int[Any, "batch n"], scalars: Float[Any, " k"], n_states: int
) -> Float[Array, "batch m"]:
    """The estimate of λ, from each transition's token and those at its lags; differentiable in the scalars."""
    weights = TokenWeights.of(scalars, n_states)
    gamma = jax.nn.softmax(weights.evidence[tokens[..., None], lagged], axis=-1)
    share = jax.nn.softmax(weights.log_weights[tokens], axis=-1)
    return jax.nn.softmax(weights.beta * jnp.einsum("nt,ntg->ng", share, gamma), axis=-1)


def one_step_weights(transition: Float[np.ndarray, "q q"], beta: float) -> Float[np.ndarray, " k"]:
    """Where tuning starts: one step of Mirror Descent with β = η m n."""
    evidence = np.log(np.maximum(transition.T, np.exp(LOG_FLOOR)))
    return np.concatenate([evidence.ravel(), np.zeros(len(transition)), [beta]])
