"""The predictor contract: what a predictor is, and what its output must be.

A *factory* ``build(task, **options)`` returns an object with one method, ``predict(contexts)``: int64 contexts
(batch, length) to probabilities of the next token (batch, q). It sees contexts and nothing else. numpy goes in; numpy,
or anything with ``__array__`` or DLPack, comes out.

Optional: ``check_length(length)`` raises ``mdbench.errors.Unsupported`` with the reason for a length that it cannot do;
``runs(length)`` returns predictors that differ by their training seed alone, whose scores are averaged.
``predict_all(contexts)`` gives (batch, length, q), a prediction after every prefix in one pass. ``precision`` is
``"float32"`` where it computes in that (default ``"float64"``), ``standard_error`` the standard error of its
probabilities if chance has a part in them (default 0), and ``fixed_to_task`` true if its numbers were found for one
task (default false). :mod:`mdbench.contract` checks all of it.
The built-in ``oracle`` alone is told θ, the task's latent (of a mixture the weights λ): it has
``predict_given_theta(contexts, theta)`` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from mdbench import metrics
from mdbench.errors import PredictorError

SUM_TOLERANCE = 1e-3
DECLARED_VALUES = ("precision", "standard_error", "fixed_to_task")


class Predictor(Protocol):
    """Maps contexts to next-token probabilities."""

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Any:
        """Probabilities of the next token, (batch, q): finite, not negative, rows within 1e-3 of summing to one."""


def check_length(predictor: Predictor, length: int) -> None:
    """Raise :class:`Unsupported` if the predictor says that it cannot do this length."""
    if hasattr(predictor, "check_length"):
        predictor.check_length(length)


def runs_of(predictor: Any, length: int) -> Sequence[Any]:
    """One predictor for each training seed; most have none, and stand for themselves.

    Raises:
        TypeError: ``runs`` gives no predictors.
    """
    if not hasattr(predictor, "runs"):
        return [predictor]
    runs = list(predictor.runs(length))
    if not runs or not all(hasattr(run, "predict") for run in runs):
        raise TypeError(f"runs({length}) must give at least one predictor, and only predictors")
    return runs


def check_output(name: str, output: Any, shape: tuple[int, int]) -> Float[np.ndarray, "batch q"]:
    """``output`` in float64, each row divided by its sum.

    Raises:
        PredictorError: wrong type, shape or values; the message names the first offending row.
    """
    try:
        probs = to_numpy(output).astype(np.float64)
    except Exception as error:
        raise PredictorError(f"predictor '{name}' returned {type(output).__name__}, not an array: {error}") from error
    if probs.shape != shape:
        raise PredictorError(f"predictor '{name}' returned shape {probs.shape}; expected {shape}, (batch, states).")
    sums = probs.sum(axis=-1)
    for what, bad in (
        ("a value that is not finite", ~np.isfinite(probs).all(axis=-1)),
        ("a negative probability", (probs < 0).any(axis=-1)),
        (f"probabilities that do not sum to one within {SUM_TOLERANCE:g}", ~(np.abs(sums - 1) <= SUM_TOLERANCE)),
    ):
        if bad.any():
            row = int(np.argmax(bad))
            raise PredictorError(f"predictor '{name}' returned {what} for sequence {row + 1} of a batch: {probs[row]}.")
    return metrics.normalise(probs)


def to_numpy(output: Any) -> np.ndarray:
    """What a predictor returned as a numpy array, off the tape and the device."""
    if hasattr(output, "detach"):
        output = output.detach().cpu()
        output = output.double() if "bfloat16" in str(output.dtype) else output  # which numpy does not know
    if not hasattr(output, "__array__") and hasattr(output, "__dlpack__"):
        output = np.from_dlpack(output)
    return np.asarray(output)


class FunctionPredictor:
    """A plain function from contexts to probabilities, as a predictor. What it declares are its attributes."""

    fixed_to_task = True  # it was never told of one

    def __init__(self, function: Callable[[Int[np.ndarray, "batch length"]], Any]) -> None:
        self.function = function
        for name in ("check_length", "card", *DECLARED_VALUES):
            if hasattr(function, name):
                setattr(self, name, getattr(function, name))

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Any:
        """What the function says."""
        return self.function(contexts)
