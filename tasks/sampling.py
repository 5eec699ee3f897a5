"""Sequences drawn from the model of any task, compiled once for each shape of its numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from numpyro import handlers

from mdbench.core.errors import InputError
from mdbench.tasks.task import LABELS, Stream, Task, Whole, is_whole

MOST_TOKENS = 10**9  # in one draw
CHUNK = 1024  # sequences drawn per compiled call; no result depends on it
NUMBERS = 2**20  # of θ, likewise
STRIDE = 128  # contexts of up to so many tokens are cut from one that long: compiling takes seconds for each length


@dataclass(frozen=True)
class Sample:
    """Sequences with what produced them.

    Attributes:
        tokens: (N, L+1): a context of length L and the token after it.
        theta: (N, ...): θ of each sequence, such as the weights (N, m) of a mixture.
        next_probs: (N, q): p(· | θ, y_1..y_L), of which the last token is a draw.
        lags: (N, L+1-m): of a mixture over lags: which component, 1..n_components, each token from y_{m+1} on was
            drawn from; else None.
    """

    tokens: Int[np.ndarray, "N L1"]
    theta: Float[np.ndarray, "N ..."]
    next_probs: Float[np.ndarray, "N q"]
    lags: Int[np.ndarray, "N n"] | None = None

    @property
    def contexts(self) -> Int[np.ndarray, "N L"]:
        """All tokens but the last, as predictors get them: (N, L) int64."""
        return self.tokens[:, :-1].astype(np.int64)

    @property
    def weights(self) -> Float[np.ndarray, "N m"]:
        """θ of a mixture: λ."""
        return self.theta


def sample(
    task: Task, length: Whole, n_sequences: Whole, seed: Whole, *, stream: Stream = Stream.EVALUATION, start: int = 0
) -> Sample:
    """Draw sequences ``start`` .. ``start + n_sequences - 1`` from the task's model.

    Sequence i depends on (task, stream, seed, i) alone: a longer draw extends a shorter one, in both directions.

    Raises:
        InputError: a length, number or seed that cannot be.
    """
    task.check_length(length)
    if not is_whole(n_sequences) or n_sequences < 1:
        raise InputError(f"n-sequences must be a whole number of at least 1, not {n_sequences}.")
    if n_sequences * (length + 1 + task.prior_mean.size) > MOST_TOKENS:
        raise InputError(f"{n_sequences} sequences of {length} tokens do not fit into memory; draw fewer.")
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be a whole number from 0 to 2^63 - 1, not {seed}.")
    length, n_sequences, seed = int(length), int(n_sequences), int(seed)
    key = jax.random.key(seed)
    for word in (int(stream), int(task.task_hash[:8], 16)):
        key = jax.random.fold_in(key, word)
    shaping, arguments = split(task)
    draw = _compiled_draw(type(task), shaping, -(-length // STRIDE) * STRIDE + 1)
    parts = []
    chunk = max(1, min(CHUNK, NUMBERS // task.prior_mean.size))
    for first in range(start, start + n_sequences, chunk):
        n = start + n_sequences - first
        tokens, theta, lags = draw(key, np.arange(first, first + chunk, dtype=np.uint32), arguments)
        of_time = [(tokens, length + 1), *((lag, length + 1 - task.given) for lag in lags)]
        cut = [np.asarray(array)[:n, :columns].copy() for array, columns in of_time]
        parts.append([cut[0], task.theta_of(np.asarray(theta)[:n], length + 1).copy(), *cut[1:]])
    tokens, theta, *lags = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Sample(tokens, theta, task.truth(theta, tokens[:, :-1]), *lags)


def split(task: Task) -> tuple[tuple[tuple[str, Any], ...], dict[str, Any]]:
    """The numbers that shape compiled code, and those that are arguments of it, so that tasks of one shape share it."""
    arguments = {k: v for k, v in task.numbers.items() if isinstance(v, (float, np.ndarray))}
    return tuple((k, v) for k, v in task.numbers.items() if k not in arguments), arguments


def rebuilt(family: type[Task], shaping: tuple[tuple[str, Any], ...], arguments: dict[str, Any]) -> Task:
    """The task that :func:`split` took apart, within compiled code: its numbers are traced and not checked again."""
    task = object.__new__(family)
    for name, value in [*shaping, *arguments.items(), *((label, None) for label in LABELS)]:
        object.__setattr__(task, name, value)
    return task


@functools.lru_cache(maxsize=16)
def _compiled_draw(family: type[Task], shaping: tuple[tuple[str, Any], ...], length: int) -> Any:
    def draw_one(key: jax.Array, index: jax.Array, arguments: dict[str, Any]) -> tuple[Any, Any, list[Any]]:
        task = rebuilt(family, shaping, arguments)
        with handlers.trace() as sites, handlers.seed(rng_seed=jax.random.fold_in(key, index)):
            tokens = task.draw(length)
        lags = [sites["lag"]["value"] + 1] if "lag" in sites else []
        return tokens, sites[task.theta]["value"], lags

    return jax.jit(jax.vmap(draw_one, in_axes=(None, 0, None)))
