r"""The mixture of transition distributions as a NumPyro model, and sequences drawn from it.

    λ ~ Dirichlet(α, .., α),   y_1..y_m ~ Uniform,   z_t ~ Categorical(λ),   y_t ~ π(y_{t - z_t}, ·)   for t > m

| symbol | site      | shape (one sequence) |
|--------|-----------|----------------------|
| λ      | `weights` | (m,)                 |
| y_1..m | `initial` | (m,)                 |
| z_t    | `lag`     | (T - m,), values 0..m-1 for lags 1..m |
| y_t    | `token`   | (T - m,)             |
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int
from numpyro import handlers
from numpyro.contrib.control_flow import scan

from mdbench.errors import InputError
from mdbench.tasks.task import Stream, Task, next_token_probs

MOST_TOKENS = 10**9  # in one draw
CHUNK = 1024  # sequences drawn per compiled call; no result depends on it
STRIDE = 128  # contexts of up to so many tokens are cut from one that long: compiling takes seconds for each length


def mtd_model(task: Task, tokens: Int[Array, " length"] | None = None, length: int | None = None) -> None:
    """NumPyro model of one sequence with z summed out: λ is its only latent (for NUTS and SVI).

    Give ``tokens`` to condition on them, or none and ``length`` to draw them.
    """
    weights = _weights(task)
    transition = jnp.asarray(task.transition)
    if tokens is not None:
        lagged = _condition_on_initial(task, tokens)
        probs = jnp.einsum("g,tgq->tq", weights, transition[lagged])
        with numpyro.plate("time", len(lagged)):
            numpyro.sample("token", dist.Categorical(probs=probs), obs=tokens[task.order :])
        return

    def step(window, _):  # window: (m,), lag 1 first
        token = numpyro.sample("token", dist.Categorical(probs=weights @ transition[window]))
        return _shift(window, token), None

    scan(step, _draw_initial(task), None, length=_n_transitions(task, length))


def mtd_lags(task: Task, tokens: Int[Array, " length"] | None = None, length: int | None = None) -> None:
    """NumPyro model of one sequence with explicit lags z (for enumeration, Gibbs); arguments as :func:`mtd_model`."""
    weights = _weights(task)
    transition = jnp.asarray(task.transition)
    if tokens is not None:
        lagged = _condition_on_initial(task, tokens)
        with numpyro.plate("time", len(lagged)):
            lag = numpyro.sample("lag", dist.Categorical(probs=weights), infer={"enumerate": "parallel"})
            previous = lagged[jnp.arange(len(lagged)), lag]
            numpyro.sample("token", dist.Categorical(probs=transition[previous]), obs=tokens[task.order :])
        return

    def step(window, _):
        lag = numpyro.sample("lag", dist.Categorical(probs=weights))
        token = numpyro.sample("token", dist.Categorical(probs=transition[window[lag]]))
        return _shift(window, token), None

    scan(step, _draw_initial(task), None, length=_n_transitions(task, length))


def _weights(task: Task):
    return numpyro.sample("weights", dist.Dirichlet(jnp.full(task.order, task.concentration, dtype=float)))


def _initial(task: Task):
    return dist.Categorical(probs=jnp.full(task.n_states, 1 / task.n_states)).expand([task.order]).to_event(1)


def _draw_initial(task: Task):
    return numpyro.sample("initial", _initial(task))[::-1]


def _condition_on_initial(task: Task, tokens):
    """Observe y_1..y_m; return y_{t-g} for every later t: (n, m), lag 1 first."""
    m, length = task.order, len(tokens)
    numpyro.sample("initial", _initial(task), obs=tokens[:m])
    return jnp.stack([tokens[m - g : length - g] for g in range(1, m + 1)], axis=-1)


def _shift(window, token):
    return jnp.concatenate([token[None], window[:-1]])


def _n_transitions(task: Task, length: int | None) -> int:
    if length is None:
        raise ValueError("give tokens to condition on, or a length to draw")
    return length - task.order


# ---------------------------------------------------------------------------------------------------- sampling


@dataclass(frozen=True)
class Sample:
    """Sequences with what produced them.

    Attributes:
        tokens: (N, L+1): a context of length L and the token after it.
        lags: (N, L+1-m): which lag, 1..m, each token from y_{m+1} on was drawn from.
        weights: (N, m): λ.
        next_probs: (N, q): p_λ(· | y_1..y_L), of which the last token is a draw.
    """

    tokens: Int[np.ndarray, "N L+1"]
    lags: Int[np.ndarray, "N L+1-m"]
    weights: Float[np.ndarray, "N m"]
    next_probs: Float[np.ndarray, "N q"]


def sample(
    task: Task, length: int, n_sequences: int, seed: int, *, stream: Stream = Stream.EVALUATION, start: int = 0
) -> Sample:
    """Draw sequences ``start`` .. ``start + n_sequences - 1`` from :func:`mtd_lags`.

    Sequence i depends on (task, stream, seed, i) alone: a longer draw extends a shorter one, in both directions.

    Raises:
        InputError: a length, number or seed that cannot be.
    """
    task.check_length(length)
    if not isinstance(n_sequences, int) or n_sequences < 1:
        raise InputError(f"n-sequences must be a whole number of at least 1, not {n_sequences}.")
    if n_sequences * (length + 1) > MOST_TOKENS:
        raise InputError(f"{n_sequences} sequences of {length} tokens do not fit into memory; draw fewer.")
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be a whole number from 0 to 2^63 - 1, not {seed}.")
    key = jax.random.key(seed)
    for word in (int(stream), int(task.task_hash[:8], 16)):
        key = jax.random.fold_in(key, word)
    draw = _compiled_draw(task.order, -(-length // STRIDE) * STRIDE + 1)
    cut = slice(length + 1), slice(length + 1 - task.order), slice(None)  # of tokens, lags and weights
    parts = []
    for first in range(start, start + n_sequences, CHUNK):
        n = start + n_sequences - first
        chunk = draw(key, np.arange(first, first + CHUNK, dtype=np.uint32), task.transition, float(task.concentration))
        parts.append([np.asarray(array)[:n, columns].copy() for array, columns in zip(chunk, cut, strict=True)])
    tokens, lags, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Sample(tokens, lags, weights, next_token_probs(task, weights, tokens[:, :-1]))


class _Numbers(NamedTuple):
    """What the models read of a task, as arguments of compiled code: tasks of one shape share it."""

    order: int
    transition: Float[Array, "q q"]
    concentration: Float[Array, ""]

    @property
    def n_states(self) -> int:
        return len(self.transition)


@functools.lru_cache(maxsize=16)
def _compiled_draw(order: int, length: int):
    def draw_one(key, index, transition, concentration):
        model = handlers.seed(mtd_lags, jax.random.fold_in(key, index))
        sites = handlers.trace(model).get_trace(_Numbers(order, transition, concentration), length=length)
        value = {name: sites[name]["value"] for name in ("initial", "token", "lag", "weights")}
        tokens = jnp.concatenate([value["initial"], value["token"]])
        return tokens, value["lag"] + 1, value["weights"]

    return jax.jit(jax.vmap(draw_one, in_axes=(None, 0, None, None)))
