r"""Beyond one step of Mirror Descent: what four, five and seven layers of attention can do, written plainly.

With γ_t the responsibilities of transition t, a transformer's position T holds the mean of Γ after two layers. Each
further layer computes one of two things from a linear combination v = Σ_k a_k f_k of the features f_k found so far
(vectors over the lags, the first of them mean Γ):

- ``S``, a softmax over the lags: f = softmax(v);
- ``R``, a reweighted mean over the transitions: f = Σ_t w_t γ_t with w_t ∝ exp(-⟨v, γ_t⟩).

The last layer is an ``S``, whose result is the estimate of λ. Why: the gradient of the log likelihood is
∂_g ℓ(λ) = Σ_t γ_t(g)/⟨λ, γ_t⟩, and 1/⟨λ, γ_t⟩ ≈ m e exp(-m ⟨λ, γ_t⟩) near ⟨λ, γ_t⟩ = 1/m (docs/mathematics.md, section
4; docs/constructions.md derives it). ``""`` is one step of Mirror Descent, ``R``, ``SR`` and ``SRSR`` have four, five
and seven layers. The least that a derivation needs has most scalars zero; all of them free, at no further layer, halve
the excess KL and more.

Two more scalars cost no layer either. A *temperature* τ: γ_t(g) ∝ x_t(g)^τ. And a *sink*: every R divides by
Σ_t exp(-⟨v, γ_t⟩) + e^b, so that the length of the reweighted sum, which normalisation loses, comes back in part.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mdbench.core.errors import InputError

LOG_FLOOR = -500.0  # stands in for log 0 where π has zeros: a lag that cannot be gets weight e^-500 beside one that can

NO_SINK = -1e9  # b: nothing beside transitions whatever their coefficients, which may be large and nearly cancel

N_SHARED = 2  # scalars that all stages share: τ and b

STAGES = {3: "", 4: "R", 5: "SR", 7: "SRSR"}  # of the layers between the mean of Γ and the last, by depth


def responsibilities(x: Any) -> Any:
    """γ_t(g) = x_t(g) / Σ_h x_t(h), of numpy or jax arrays (..., m)."""
    return x / x.sum(axis=-1, keepdims=True)


class Scalars(NamedTuple):
    """What the stages take.

    Attributes:
        temperature: τ.
        sink: b.
        coefficients: a of each stage and of the last layer, one for each feature that it combines.
    """

    temperature: Any
    sink: Any
    coefficients: list[Any]


def n_scalars(stages: str) -> int:
    """How many scalars the stages and the last layer take: τ and b where there is an R, and the coefficients."""
    k = len(stages) + 1
    return k * (k + 1) // 2 + (N_SHARED if "R" in stages else 0)


def split_scalars(scalars: Any, stages: str) -> Scalars:
    """The parts of the array ``scalars``: τ and b first, where there is an R."""
    if len(scalars) != n_scalars(stages):
        raise InputError(f"the stages '{stages}' take {n_scalars(stages)} scalars, not {len(scalars)}.")
    temperature, sink = (scalars[0], scalars[1]) if "R" in stages else (1.0, NO_SINK)
    rest = scalars[N_SHARED:] if "R" in stages else scalars
    return Scalars(temperature, sink, [rest[k * (k + 1) // 2 : (k + 1) * (k + 2) // 2] for k in range(len(stages) + 1)])


@functools.partial(jax.jit, static_argnames="stages")
def reweighted(x: Float[Array, "batch n m"], scalars: Float[Array, " k"], stages: str) -> Float[Array, "batch m"]:
    """The estimate of λ from the lag likelihoods."""
    temperature, sink, coefficients = split_scalars(scalars, stages)
    gamma = jax.nn.softmax(temperature * jnp.maximum(jnp.log(x), LOG_FLOOR), axis=-1)
    features = [gamma.mean(axis=1)]
    for stage, a in zip(stages + "S", coefficients, strict=True):
        v = sum(a[k] * feature for k, feature in enumerate(features))
        if stage == "S":
            features.append(jax.nn.softmax(v))
        else:
            scores = -jnp.einsum("ng,ntg->nt", v, gamma)
            attention = jax.nn.softmax(jnp.concatenate([scores, jnp.full_like(scores[:, :1], sink)], axis=1))
            features.append(jnp.einsum("nt,ntg->ng", attention[:, :-1], gamma))
    return features[-1]


def start(stages: str, order: int, beta: float) -> Float[np.ndarray, " k"]:
    """Where tuning starts, as derived: R weighs its newest feature by m; S shares β between the first and the newest.

    β = η m (T - m) is one step's coefficient of mean Γ.
    """
    coefficients = [np.array([1.0, NO_SINK])] if "R" in stages else []
    for k, stage in enumerate(stages + "S"):
        a = np.zeros(k + 1)
        if stage == "R":
            a[-1] = order
        else:
            a[0] = beta / 2
            a[-1] += beta / 2
        coefficients.append(a)
    return np.concatenate(coefficients)


def with_sink(scalars: Float[np.ndarray, " k"], n: int) -> Float[np.ndarray, " k"]:
    """The same with a sink of about a tenth of all weight."""
    moved = scalars.copy()
    moved[1] = np.log(n) - 2
    return moved


def around(
    scalars: Float[np.ndarray, " k"], n: int, spread: float, number: int, rng: np.random.Generator
) -> Float[np.ndarray, "number k"]:
    """Other starts: coefficients moved at random, τ by a tenth, and the sink near that of :func:`with_sink`."""
    moved = with_sink(scalars, n) + rng.normal(0.0, spread, (number, len(scalars)))
    moved[:, 0] = scalars[0] * np.exp(rng.normal(0.0, 0.1, number))
    return moved
