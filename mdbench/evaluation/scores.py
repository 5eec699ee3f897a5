"""Scores: what is said of one prediction. Other packages add theirs by the entry point ``mdbench.scores``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mdbench.core import metrics
from mdbench.core.entries import entry_points_of
from mdbench.core.errors import InputError, Point, foreign, origin, warn_once

if TYPE_CHECKING:
    from mdbench.evaluation.cell import Cell

GROUP = "mdbench.scores"


@dataclass(frozen=True)
class Score:
    """One score.

    Attributes:
        of: (cell, probabilities (N, q)) to one number a sequence, (N,), lower is better; a :class:`Cell` has the
            contexts, the tokens that came, θ, and what the truth and the gold say of the next token. Of recorded
            sequences it has the first two alone, and a score that asks for more is not defined there.
        about: what it is, in a line.
        to_gold: whether it is measured against the gold, so that it is not defined for what is told θ.
    """

    of: Callable[[Cell, Float[np.ndarray, "N q"]], Float[np.ndarray, " N"]]
    about: str = ""
    to_gold: bool = False


SCORES = {
    "kl": Score(lambda cell, probs: metrics.kl(cell.truth, probs), "KL(truth ‖ prediction)"),
    "excess_kl": Score(lambda cell, probs: metrics.kl(cell.bayes, probs), "KL(gold ‖ prediction): ranks", to_gold=True),
    "cross_entropy": Score(
        lambda cell, probs: metrics.cross_entropy(cell.truth, probs), "log loss, in expectation under the truth"
    ),
    "nll": Score(lambda cell, probs: metrics.nll(cell.next_tokens, probs), "log loss on the token that came"),
}

"""Those of docs/mathematics.md, section 5, in nats; records hold them, and no other (``RECORDED`` of the board)."""


def all_scores() -> dict[str, Score]:
    """These, and those of other packages, which are functions ``(cell, probs)`` or a :class:`Score`.

    Raises:
        PredictorError: one cannot be loaded.
        InputError: one is neither.
    """
    known = dict(SCORES)
    for point in sorted(entry_points_of(GROUP), key=lambda p: p.name):
        source = f"score '{point.name}' {origin(point)}"
        if point.name in SCORES or not point.name.isidentifier():
            warn_once(f"{source} is not used: scores have names of their own, such as 'brier'.")
            continue
        known[point.name] = _checked(point, source)
    return known


def score_names() -> dict[str, str]:
    """All that can be named, and what they are in a line; those of other packages are not imported."""
    plugins = {point.name: origin(point) for point in entry_points_of(GROUP)}
    return plugins | {name: score.about for name, score in SCORES.items()}


def _checked(point: Point, source: str) -> Score:
    """The score of another package; what it returns is one finite or infinite number a sequence."""
    with foreign(f"{source} cannot be loaded"):
        loaded: Any = point.load()
    score = loaded if isinstance(loaded, Score) else Score(loaded)
    if not callable(score.of):
        raise InputError(f"{source} must be a function (cell, probs) or a Score, not {type(loaded).__name__}.")

    def of(cell: Cell, probs: Float[np.ndarray, "N q"]) -> Float[np.ndarray, " N"]:
        from mdbench.evaluation.cell import NoTruth

        with foreign(f"{source} failed", NoTruth):
            values = np.asarray(score.of(cell, probs), dtype=float)
            if values.shape != (len(probs),) or np.isnan(values).any():
                raise ValueError(f"it must return {len(probs)} numbers, one a sequence, not {values.shape} or NaN")
        return values

    return Score(of, score.about or inspect.getdoc(score.of) or "", score.to_gold)
