"""A benchmark made of a person's own sequences: a folder with a task file, the sequences and the fit.

The first share of each sequence is for training, in time; the rest is for testing. All models are fitted to the
training part alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mdbench.core.errors import InputError, shown
from mdbench.core.files import check_writable, json_ready, make_folder, whole_folder, write_text, write_whole
from mdbench.core.progress import Progress, no_progress
from mdbench.posteriors.reading import GAP, Tokens
from mdbench.series.fitted import fit
from mdbench.series.transitions import transitions_of
from mdbench.tasks import Recorded
from mdbench.tasks.recorded import ARRAYS
from mdbench.tasks.task import LENGTHS, Whole, check_order

TASK, DATA, FIT = "task.toml", "data.npz", "fit.json"  # in the folder

SHARE = 0.7  # of each sequence, for training
ROUNDED = 1e-9  # 0.29 of 100 is 28.999999999999996 in float64
COUNT = 0.5  # what is added to the expected counts of the matrix: the rule of Krichevsky and Trofimov


def task_from_data(
    tokens: Tokens,
    order: Whole,
    name: str,
    *,
    share: float = SHARE,
    start: Whole | None = None,
    lengths: Sequence[Whole] | None = None,
    progress: Progress = no_progress,
) -> tuple[Recorded, dict[str, Any]]:
    """The task, and what :func:`mdbench.fit` finds in its training part.

    The matrix of the task is the fitted one with half an observation more for each transition, in expected counts, so
    that nothing is impossible because training had none of it.

    Args:
        tokens: sequences, as they were read.
        order: m of the MTD, at least 2.
        name: what tables call it.
        share: of each sequence, for training.
        start: S, how many observations of each sequence are given to the fit; m if None.
        lengths: of the contexts; those of 16, 32, 64 and 128 that leave half of the test observations, if None.
        progress: of the fit.

    Raises:
        InputError: the data cannot tell what the model is, or leave nothing to test.
    """
    check_options(order, share)
    sequences = [sequence for sequence in tokens.sequences if len(sequence)]
    if not any((sequence != GAP).any() for sequence in sequences):
        raise InputError("there is no state in the sequences; every value is missing.")
    trained = np.array([math.floor(len(sequence) * share + ROUNDED) for sequence in sequences])
    first = [sequence[:n] for sequence, n in zip(sequences, trained, strict=True)]
    rest = [sequence[n:] for sequence, n in zip(sequences, trained, strict=True)]
    labels = tokens.labels or ()
    for part, which in ((first, "training"), (rest, "test")):
        if not any((sequence != GAP).any() for sequence in part):
            raise InputError(f"there is no state in the {which} part; take another share, or more data.")
    new = np.setdiff1d(np.concatenate(rest), [*np.concatenate(first), GAP])
    if len(new):
        raise InputError(
            f"state {shown(labels[new[0]])} is in the test part and not in the training part, so nothing is learned "
            "of it; join it with another state, leave it out (as missing), or take a larger share."
        )
    numbers: dict[str, Any] = {
        "transition": np.full((len(labels), len(labels)), 1 / len(labels)),  # in the place of the fit
        "order": int(order),
        "weights": np.full(int(order), 1 / int(order)),
        "tokens": np.concatenate(sequences),
        "ends": np.cumsum([len(sequence) for sequence in sequences]),
        "trained": trained,
    }
    # What cannot be is said before a fit that takes its time.
    unfitted = Recorded(name, **numbers, lengths=lengths or _lengths(numbers, rest))
    try:
        found = fit(replace(tokens, sequences=first), order, start=order if start is None else start, progress=progress)
    except InputError as error:
        raise InputError(f"the training part (the first {share:g} of each sequence): {error}") from None
    mtd = next(each for each in found["fits"] if (each["model"], each["order"]) == ("mtd", order))
    weights, start = np.array(mtd["weights"]), mtd["start"]
    transitions = transitions_of(first, len(labels), found["data"]["memory"], int(start))
    numbers |= {
        "transition": _smoothed(np.array(mtd["transition"]), weights, transitions.lagged[:, :order], transitions.came),
        "weights": weights,
    }
    return Recorded(name, **numbers, lengths=unfitted.lengths), found


def check_options(order: Whole, share: float) -> None:
    """Raise :class:`InputError` for an order or a share that cannot be, whatever the sequences are."""
    check_order(order)
    if order < 2:
        raise InputError("order must be at least 2: an MTD of order 1 is a Markov chain, which is scored beside.")
    if not isinstance(share, (int, float)) or not 0 < share < 1:
        raise InputError(f"share must be a number between 0 and 1, not {share!r}.")


def write_task(folder: Path, task: Recorded, found: dict[str, Any], labels: Sequence[str], made_by: str) -> None:
    """The folder, whole or not at all; ``made_by`` is the command that makes it.

    Raises:
        InputError: it is there, or cannot be written.
    """
    check_folder(folder)
    make_folder(folder.parent)
    rows = ",\n".join(f"    {row}" for row in task.transition.tolist())
    text = f"""# Made by: {made_by}
# States: {json.dumps(dict(enumerate(labels)), ensure_ascii=False)}
model = "{task.family}"
name = {json.dumps(task.name, ensure_ascii=False)}
data = "{DATA}"
lengths = {[*task.lengths]}
order = {task.order}
concentration = {task.concentration}
weights = {task.weights.tolist()}
transition = [
{rows},
]
"""
    with whole_folder(folder) as unfinished:
        arrays: dict[str, Any] = {key: getattr(task, key) for key in ARRAYS}
        write_whole(unfinished / DATA, lambda path: np.savez_compressed(path, **arrays))
        write_text(unfinished / FIT, json.dumps(json_ready(found), indent=1, ensure_ascii=False) + "\n")
        write_text(unfinished / TASK, text)


def check_folder(folder: Path) -> None:
    """Raise :class:`InputError` if a task cannot be made there; better before a fit than after it."""
    if folder.exists():
        raise InputError(f"'{folder}' exists; take another name, or move it away.")
    there = next(parent for parent in folder.absolute().parents if parent.exists())
    check_writable(there / "task.toml")


def _smoothed(
    transition: Float[np.ndarray, "q q"], weights: Float[np.ndarray, " m"], lagged: np.ndarray, came: np.ndarray
) -> Float[np.ndarray, "q q"]:
    """(N_ab + c)/(N_a + q c), N_ab the expected number of times that a token b came from a token a."""
    shares = weights * transition[lagged, came[:, None]]
    shares /= shares.sum(axis=1, keepdims=True)
    counts = np.full(transition.shape, COUNT)
    np.add.at(counts, (lagged, came[:, None]), shares)
    return counts / counts.sum(axis=1, keepdims=True)


def _lengths(numbers: dict[str, Any], rest: Sequence[np.ndarray]) -> list[int]:
    """Those of the usual lengths with which half of the test observations have so many tokens before them."""
    least = sum(int((part != GAP).sum()) for part in rest) / 2
    fitting: list[int] = []
    for length in LENGTHS:
        try:
            if length > numbers["order"] and Recorded("lengths", **numbers, lengths=[length]).n_test >= least:
                fitting.append(length)
        except InputError:
            break
    if not fitting:
        raise InputError(
            f"fewer than half of the test observations have {LENGTHS[0]} tokens before them, none missing; give "
            "shorter --lengths."
        )
    return fitting
