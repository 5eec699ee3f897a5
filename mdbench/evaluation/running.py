"""Predictors at work: checked predictions in chunks of one size, timed, and kept where they need not be made again."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from mdbench.baselines.catalogue import baseline_entries
from mdbench.core.errors import InputError, foreign
from mdbench.core.progress import Advance, no_advance
from mdbench.core.store import (
    Arrays,
    Cache,
    Elsewhere,
    Store,
    code_hash,
    hash_of,
    hash_of_files,
    open_store,
    sources_of,
)
from mdbench.predictors.catalogue import SHIPPED_WEIGHTS, FileEntry, is_built_in, row_identity
from mdbench.predictors.predictor import Given, Parts, check_output
from mdbench.tasks import Task

Probs = Float[np.ndarray, "N q"]

LEVELS = [f"mdbench.{level}" for level in ("core", "tasks", "baselines", "algorithms", "predictors", "evaluation")]
"""Packages whose code an answer depends on."""
CHUNK = 256  # contexts in one call of predict, padded to that; no option changes it, so no score depends on one


def may_refuse(predictor: Given) -> tuple[type[Exception], ...]:
    """An InputError of what is built in is about the input, one of anything else is that predictor's failure."""
    return (InputError,) if isinstance(predictor, str) and is_built_in(predictor) else ()


@dataclass(frozen=True)
class Answers:
    """Where the answers of a predictor are kept, and all that they depend on but for its training seed and contexts."""

    store: Store
    key: dict[str, Any]


def answers(
    text: str, task: Task, device: str, work: str | Path | None, cache: Cache, defaults: dict[str, Any] | None = None
) -> Answers:
    """Where the answers of a predictor with a name are kept: in ``work``, and in the cache if it is built in.

    What is built in is known by its name, its options and our code; a run or a file by what is in it; what another
    distribution brings by that one's version and by the source of its package. ``defaults`` are those of its options,
    if it is not to be imported for them.
    """
    identity = row_identity(text, defaults)
    entry = identity.entry
    ours = is_built_in(text) and entry.name != "run"
    if entry.name == "run":
        from mdbench.predictors import runs  # torch, which runs need and others do without

        sources = runs.sources(identity.options["path"])
    elif isinstance(entry, FileEntry):
        sources = [Path(entry.target.rpartition(":")[0])]
    elif ours:
        sources = list((SHIPPED_WEIGHTS / entry.name / task.name).glob("*/*/*.json"))
    else:
        brings = baseline_entries()[entry.options["baseline"]] if "baseline" in entry.options else entry
        sources = sources_of(brings.target.partition(":")[0])
    key = {
        "predictor": entry.name,
        "options": {name: repr(value) for name, value in identity.options.items()},
        "from": [entry.distribution, entry.version],
        "sources": hash_of_files(path for path in sources if path.exists()),
        "task": [task.name, task.task_hash],
        "device": device,
        "code": code_hash(*LEVELS),
    }
    return Answers(open_store(work, cache == "all" and ours), key)


def predict(
    name: str,
    predictor: Any,
    task: Task,
    contexts: np.ndarray,
    advance: Advance = no_advance,
    kept: Answers | None = None,
    run: int = 0,
) -> Probs:
    """The probabilities that :func:`begin_predictions` waits for, of one that is told nothing."""
    return begin_predictions(name, predictor, task, contexts, advance=advance, kept=kept, run=run)()[0]


def begin_predictions(
    name: str,
    predictor: Any,
    task: Task,
    contexts: np.ndarray,
    theta: Float[np.ndarray, "N ..."] | None = None,
    advance: Advance = no_advance,
    kept: Answers | None = None,
    run: int = 0,
    elsewhere: Callable[[int], Elsewhere[Arrays]] | None = None,
) -> Callable[[], tuple[Probs, list[float]]]:
    """Checked predictions, made in padded chunks of one size: no predictor sees how many sequences there are.

    Args:
        name: what messages call it.
        predictor: what predicts.
        task: the task.
        contexts: (N, T).
        theta: (N, ...) for those that are told θ.
        advance: called with the number of sequences that are done.
        kept: where its answers are kept, unless it is told θ.
        run: which of its training seeds this is.
        elsewhere: how the k-th chunk is begun in another process, unless it is told θ.

    Returns:
        What waits for the probabilities and the seconds of each chunk.
    """
    given_theta = None if theta is None else Parts.of(predictor).given_theta
    begun: list[tuple[int, Callable[[], Arrays]]] = []
    for k, start in enumerate(range(0, len(contexts), CHUNK)):
        chunk = contexts[start : start + CHUNK]
        chunk_theta = None if given_theta is None or theta is None else theta[start : start + CHUNK]

        def compute(chunk: np.ndarray = chunk, chunk_theta: np.ndarray | None = chunk_theta) -> Arrays:
            return predict_chunk(name, predictor, task, chunk, chunk_theta)

        if kept is None or given_theta is not None:
            begun.append((len(chunk), compute))
        else:
            key = kept.key | {"run": run, "contexts": hash_of(chunk), "shape": list(chunk.shape)}
            shapes: dict[str, tuple[int, ...]] = {"probs": (len(chunk), task.n_states), "seconds": ()}
            begin = None if elsewhere is None else elsewhere(k)
            begun.append((len(chunk), kept.store.begin_arrays("answers", key, shapes, compute, elsewhere=begin)))

    def wait() -> tuple[Probs, list[float]]:
        parts, seconds = [], []
        for n, chunk in begun:
            answer = chunk()
            parts.append(answer["probs"])
            seconds.append(float(answer["seconds"]))
            advance(n)
        return np.concatenate(parts), seconds

    return wait


def predict_chunk(
    name: str,
    predictor: Any,
    task: Task,
    contexts: Int[np.ndarray, "n T"],
    theta: Float[np.ndarray, "n ..."] | None = None,
) -> Arrays:
    """Checked probabilities for up to ``CHUNK`` contexts, in one call on just so many, and the seconds it took.

    ``theta`` is given to what is told it.
    """
    # Past the end the last sequence is repeated; every predictor gets a copy of its own.
    rows = np.minimum(np.arange(CHUNK), len(contexts) - 1)
    chunk = contexts[rows].astype(np.int64)
    started = time.perf_counter()
    where = f"{CHUNK} contexts of length {contexts.shape[1]} of task '{task.name}'"
    with (
        foreign(f"predictor '{name}' failed on {where}", *may_refuse(name)),
        contextlib.redirect_stdout(sys.stderr),  # stdout is for results
    ):
        if theta is None:
            output = predictor.predict(chunk)
        else:
            told = Parts.of(predictor).given_theta
            assert told is not None, "it is told θ"
            output = told(chunk, theta[rows])
    probs = check_output(name, output, (CHUNK, task.n_states))[: len(contexts)]
    return {"probs": probs, "seconds": np.array(time.perf_counter() - started)}


def median_seconds(chunks: Sequence[float]) -> float:
    """Of all chunks at the median time of one: where there are several, without compilation."""
    return float(np.median(chunks)) * len(chunks)
