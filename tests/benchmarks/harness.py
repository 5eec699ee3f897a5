"""What mdbench adds: a predictor in the harness against the function by itself, `evaluate` against its parts, start-up.

python tests/benchmarks/bench.py --only harness evaluate start
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from measuring import ROUNDS, Row, in_turn, ratio

import mdbench
from mdbench.core.store import open_store
from mdbench.evaluation.cell import cells
from mdbench.evaluation.gold import gold_predictive
from mdbench.evaluation.results import score_cell
from mdbench.evaluation.running import CHUNK, predict
from mdbench.tasks import MTD, evaluation_sequences, load_task

TASK, N = "mtd-q5-m3", 4096
SEED = 1  # drawn: sequences of seed 0 are read from a file
NOWHERE = open_store(cache=False)


def mirror_descent() -> Iterator[Row]:
    """One step of Mirror Descent: as a predictor in the harness, alone, and as a jitted function written for it."""
    task = _task()
    md = mdbench.build_predictor("md1", task)
    for length in (16, 128):
        contexts = evaluation_sequences(task, length, N, SEED).tokens[:, :-1].astype(np.int64)
        function = _one_step(task, md.step_size(length))

        def alone(predict: Callable[..., Any], contexts: np.ndarray = contexts) -> np.ndarray:
            chunks = (contexts[i : i + CHUNK] for i in range(0, N, CHUNK))
            return np.concatenate([np.asarray(predict(chunk)) for chunk in chunks])

        def in_harness(contexts: np.ndarray = contexts) -> np.ndarray:
            return predict("md1", md, task, contexts)

        assert np.abs(in_harness() - alone(function)).max() < 1e-14, "another step"
        by_itself, hand = functools.partial(alone, md.predict), functools.partial(alone, function)
        harness, predictor, by_hand = in_turn(in_harness, by_itself, hand, rounds=3 * ROUNDS)  # the noisiest
        yield ratio(f"md1 in the harness / jitted by hand, T = {length}", harness, by_hand, at_most=1.2)
        yield ratio(f"md1 in the harness / md1.predict, T = {length}", harness, predictor)


def _one_step(task: MTD, eta: float) -> Callable[..., Any]:
    """λ ∝ exp(η Σ_t x_t(g) / mean x_t), and the mixture of the rows that it weighs."""
    transition, m = jnp.asarray(task.transition), task.order

    @jax.jit
    def probs(contexts: Int[Array, "B T"]) -> Float[Array, "B q"]:
        length = contexts.shape[1]
        lagged = jnp.stack([contexts[:, m - g : length - g] for g in range(1, m + 1)], axis=-1)
        x = transition[lagged, contexts[:, m:, None]]
        weights = jax.nn.softmax(eta * (x / x.mean(axis=-1, keepdims=True)).sum(axis=1))
        rows = transition[contexts[:, : length - m - 1 : -1]]
        return jnp.einsum("bg,bgq->bq", weights, rows)

    return probs


def evaluation() -> Iterator[Row]:
    """`evaluate` without a cache against what it is made of, each measured alone."""
    task, length = _task(), 64
    md = mdbench.build_predictor("md1", task)
    (cell,) = cells(task, [length], N, SEED, kept=NOWHERE)
    probs = predict("md1", md, task, cell.contexts)

    def whole() -> Any:
        return mdbench.evaluate("md1", task=task, lengths=length, n_sequences=N, seed=SEED, references=(), cache="none")

    (result,) = whole().results
    excess_kl = score_cell(cell, probs[None]).mean_ranking
    assert excess_kl is not None
    assert result.excess_kl == excess_kl.mean(), "another evaluation"
    seconds, *parts = in_turn(
        whole,
        lambda: evaluation_sequences(task, length, N, SEED),
        lambda: gold_predictive(task, cell.contexts, [length], kept=NOWHERE),
        lambda: predict("md1", md, task, cell.contexts),
        lambda: score_cell(replace(cell), probs[None]),  # a new one, which has nothing computed yet
    )
    total = np.sum(parts, axis=0)
    yield ratio(f"evaluate / the sum of its parts, md1, T = {length}, {N:,} sequences", seconds, total)
    for name, part in zip(("drawing", "gold", "predicting", "scoring"), parts, strict=True):
        yield ratio(f"of this sum: {name}", part, total)


def start_up() -> Iterator[Row]:
    """Whole processes, their files read before."""
    bare, numpys, ours, helps, lists = in_turn(
        *(
            _process(*arguments)
            for arguments in (
                ("-c", "pass"),
                ("-c", "import numpy"),
                ("-c", "import mdbench"),
                ("-m", "mdbench", "--help"),
                ("-m", "mdbench", "list"),
            )
        ),
    )
    yield ratio("import mdbench / import numpy", ours, numpys)
    yield ratio("mdbench --help / import numpy", helps, numpys)
    yield ratio("mdbench list / import numpy", lists, numpys)
    yield ratio("import numpy / python alone", numpys, bare)


def _process(*arguments: str) -> Callable[[], Any]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def _task() -> MTD:
    task = load_task(TASK)
    assert isinstance(task, MTD)
    return task
