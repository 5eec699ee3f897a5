r"""One step of Mirror Descent whose size adapts, as three layers of attention can do it, written plainly.

    γ̃_t(g) = softmax_g W[y_t, y_{t-g}],    λ̂ = softmax(β Σ_t w(y_t) γ̃_t / Σ_t w(y_t))

With W = log πᵀ and all w equal it is one step. What trained networks of three layers do is near this: transitions are
weighted by their token, and since attention normalises the weights, a sequence of informative tokens takes another step
than one of others (docs/constructions.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdbench.algorithms.reweighting import LOG_FLOOR, responsibilities

LOWEST_START = -20.0  # of a free W: from log 0 no gradient leads away


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
    return _step(weights.beta, jax.nn.softmax(weights.log_weights[tokens], axis=-1), gamma)


def _step(beta: Any, share: Float[Array, "batch n"], gamma: Float[Array, "batch n m"]) -> Float[Array, "batch m"]:
    """softmax(β Σ_t share_t γ̃_t)."""
    return jax.nn.softmax(beta * jnp.einsum("nt,ntg->ng", share, gamma), axis=-1)


def log_evidence(transition: Float[np.ndarray, "q q"]) -> Float[np.ndarray, "q q"]:
    """Log π, the row the token that came; LOG_FLOOR stands in for log 0."""
    return np.log(np.maximum(transition.T, np.exp(LOG_FLOOR)))


def one_step_weights(transition: Float[np.ndarray, "q q"], beta: float) -> Float[np.ndarray, " k"]:
    """Where tuning starts: one step of Mirror Descent with β = η m n."""
    return np.concatenate([log_evidence(transition).ravel(), np.zeros(len(transition)), [beta]])


@dataclass(frozen=True)
class Variant:
    """A step of this family: which of its parts are there.

    Attributes:
        normalised: λ̂ = softmax(β Σ_t w γ̃_t / Σ_t w); without, softmax(Σ_t w γ̃_t / n): weights in the sum alone.
        free: γ̃ is of a matrix W of its own; without, W = log πᵀ.
        leak: γ̃_t(g) = e^W/(Σ_h e^W + 1): attention that goes elsewhere, more of it the less likely all lags are.
    """

    normalised: bool = False
    free: bool = False
    leak: bool = False

    def names(self, n_states: int) -> tuple[str, ...]:
        """Of the scalars: β, log w by token, W row by row."""
        weights = [f"log w[{b}]" for b in range(n_states)]
        matrix = [f"W[{b},{a}]" for b in range(n_states) for a in range(n_states)]
        return (*(("β",) if self.normalised else ()), *weights, *(matrix if self.free else ()))

    def n_free(self, n_states: int) -> int:
        """Those that count: not one of log w where their sum divides, nor one of each row of W where nothing leaks."""
        shifts = int(self.normalised) + (n_states if self.free and not self.leak else 0)
        return len(self.names(n_states)) - shifts

    def estimate(
        self,
        x: Float[Array, "batch n m"],
        lagged: Int[Array, "batch n m"] | None,
        tokens: Int[Array, "batch n"],
        scalars: Float[Any, " k"],
    ) -> Float[Array, "batch m"]:
        """λ̂; differentiable in the scalars."""
        first, more = int(self.normalised), len(scalars) - int(self.normalised)
        q = more if not self.free else math.isqrt(4 * more + 1) // 2  # more = q + q²
        weight = scalars[first : first + q][tokens]
        if self.free:
            scores = scalars[first + q :].reshape(q, q)[tokens[..., None], lagged]
            if self.leak:
                scores = jnp.concatenate([scores, jnp.zeros_like(scores[..., :1])], axis=-1)
            gamma = jax.nn.softmax(scores, axis=-1)[..., : x.shape[2]]
        else:
            gamma = responsibilities(x)
        if self.normalised:
            return _step(scalars[0], jax.nn.softmax(weight, axis=-1), gamma)
        return _step(1 / x.shape[1], jnp.exp(weight), gamma)

    def starts(self, evidence: Float[np.ndarray, "q q"], beta: float) -> list[Float[np.ndarray, " k"]]:
        """One step of Mirror Descent, β = η m n; where something leaks, from a little and from as much as a lag."""
        q = len(evidence)
        begin = [np.array([beta]), np.zeros(q)] if self.normalised else [np.full(q, np.log(beta))]
        shifts = (3.0, 0.5) if self.leak else (0.0,)
        matrices = (
            [(np.maximum(evidence, LOWEST_START) + shift).ravel() for shift in shifts] if self.free else [np.zeros(0)]
        )
        return [np.concatenate([*begin, matrix]) for matrix in matrices]
