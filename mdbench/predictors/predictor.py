"""The predictor contract: what a predictor is, and what its output must be.

A *factory* ``build(task, **options)`` returns an object with one method, ``predict(contexts)``: int64 contexts
(batch, length) to probabilities of the next token (batch, q). It sees contexts and nothing else. numpy goes in; numpy,
or anything with ``__array__`` or DLPack, comes out.

Optional: ``check_length(length)`` raises ``mdbench.Unsupported`` with the reason for a length that it cannot do;
``runs(length)`` returns predictors that differ by their training seed alone, whose scores are averaged.
``predict_all(contexts)`` gives (batch, length, q), a prediction after every prefix in one pass. ``precision`` is
``"float32"`` where it computes in that (default ``"float64"``), ``standard_error`` the standard error of its
probabilities if chance has a part in them (default 0), and ``fixed_to_task`` true if its numbers were found for one
task (default false). :mod:`mdbench.evaluation.contract` checks all of it.
The built-in ``oracle`` alone is told θ, the task's latent (of a mixture the weights λ): it has
``predict_given_theta(contexts, theta)`` instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from mdbench.core import metrics
from mdbench.core.errors import InputError, PredictorError, foreign

SUM_TOLERANCE = 1e-3

MOST_RUNS = 100  # training seeds of a predictor

DECLARED_VALUES = ("precision", "standard_error", "fixed_to_task")


@runtime_checkable
class Predictor(Protocol):
    """Maps contexts to next-token probabilities."""

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Any:
        """Probabilities of the next token, (batch, q): finite, not negative, rows within 1e-3 of summing to one."""


@runtime_checkable
class Told(Protocol):
    """Like the oracle."""

    def predict_given_theta(self, contexts: Int[np.ndarray, "batch length"], theta: Any) -> Any:
        """p(· | θ, y)."""


@runtime_checkable
class ToldWeights(Protocol):
    """The same of a mixture, whose θ are the weights λ."""

    def predict_given_weights(self, contexts: Int[np.ndarray, "batch length"], weights: Any) -> Any:
        """p_λ(· | y)."""


Given = str | Predictor | Told | ToldWeights | Callable[..., Any]
"""What people give for a predictor: a name, an object, or a function from contexts to probabilities."""


@dataclass(frozen=True)
class Parts:
    """What an object has of the contract, read once; what it lacks is None, or what stands for it.

    A ``card`` is no part of it: a predictor may find out what stands there when it is asked.

    Attributes:
        predict: None for what is told θ alone.
        given_theta: ``predict_given_theta``, which of θ = λ may be called after the weights.
        own_check: ``check_length``.
        own_runs: ``runs``.
        predict_all: likewise.
        transformer: length to the torch module; what `inspect` looks into.
        precision: as declared.
        standard_error: as declared, whatever that is.
        fixed_to_task: whether its numbers were found for one task.
    """

    predict: Callable[[Any], Any] | None
    given_theta: Callable[[Any, Any], Any] | None
    own_check: Callable[[int], Any] | None
    own_runs: Callable[[int], Any] | None
    predict_all: Callable[[Any], Any] | None
    transformer: Callable[[int], Any] | None
    precision: Any
    standard_error: Any
    fixed_to_task: bool

    @classmethod
    def of(cls, predictor: Any) -> Parts:
        """Those of an object."""

        def part(name: str, default: Any = None) -> Any:
            return getattr(predictor, name, default)

        return cls(
            predict=part("predict"),
            given_theta=part("predict_given_theta") or part("predict_given_weights"),
            own_check=part("check_length"),
            own_runs=part("runs"),
            predict_all=part("predict_all"),
            transformer=part("transformer"),
            precision=part("precision"),
            standard_error=part("standard_error", 0.0),
            fixed_to_task=bool(part("fixed_to_task", False)),
        )

    @property
    def told(self) -> bool:
        """Whether it gets θ, as the oracle does."""
        return self.given_theta is not None

    def check_length(self, length: int) -> None:
        """Raise :class:`Unsupported` if the predictor says that it cannot do this length."""
        if self.own_check is not None:
            self.own_check(length)


def is_told(predictor: Any) -> bool:
    """Whether it gets θ, as the oracle does."""
    return Parts.of(predictor).told


def check_length(predictor: Any, length: int) -> None:
    """Raise :class:`Unsupported` if the predictor says that it cannot do this length."""
    Parts.of(predictor).check_length(length)


def runs_of(predictor: Any, length: int) -> Sequence[Any]:
    """One predictor for each training seed; most have none, and stand for themselves.

    Raises:
        TypeError: ``runs`` gives no predictors, or too many.
    """
    own = Parts.of(predictor).own_runs
    if own is None:
        return [predictor]
    runs = list(itertools.islice(own(length), MOST_RUNS + 1))
    if len(runs) > MOST_RUNS:
        raise TypeError(f"runs({length}) gives more than {MOST_RUNS} predictors")
    if not runs or any(Parts.of(run).predict is None for run in runs):
        raise TypeError(f"runs({length}) must give at least one predictor, and only predictors")
    return runs


def declared(predictor: Any) -> dict[str, Any]:
    """What it declares of itself, by name."""
    return {name: getattr(predictor, name) for name in ("card", *DECLARED_VALUES) if hasattr(predictor, name)}


def name_of(predictor: Any) -> str:
    """The name it was asked for by, or that of the function, or of its class."""
    if isinstance(predictor, str):
        return predictor
    return getattr(predictor, "__name__", type(predictor).__name__)  # of a function, or of the class of an object


def as_object(given: Any) -> Any:
    """What is given in place of a name: an object as it is, a function as a :class:`FunctionPredictor`.

    Raises:
        InputError: it is neither.
    """
    parts = Parts.of(given)
    whole = parts.predict is not None or parts.told
    if isinstance(given, type) or not (whole or callable(given)):
        raise InputError(
            "a predictor is a name, a function from contexts to probabilities or an object with a method "
            f"predict(contexts), not {given!r}."
        )
    return given if whole else FunctionPredictor(given)


def check_output(name: str, output: Any, shape: tuple[int, int]) -> Float[np.ndarray, "batch q"]:
    """``output`` in float64, each row divided by its sum.

    Raises:
        PredictorError: wrong type, shape or values; the message names the first offending row.
    """
    with foreign(f"predictor '{name}' returned {type(output).__name__}, not an array of numbers"):
        probs = to_numpy(output).astype(np.float64)
    if probs.shape != shape:
        raise PredictorError(f"predictor '{name}' returned shape {probs.shape}; expected {shape}, (batch, states).")
    distances = np.abs(probs.sum(axis=-1) - 1)
    if not (probs.min(initial=0) >= 0 and distances.max(initial=0) <= SUM_TOLERANCE):  # so of what is not a number, too
        raise PredictorError(f"predictor '{name}' returned {_fault(probs, distances)}.")
    return metrics.normalise(probs)


def _fault(probs: Float[np.ndarray, "batch q"], distances: Float[np.ndarray, " batch"]) -> str:
    """The first row of the worst that is wrong; ``distances`` are those of the sums from one."""
    faults = {
        "a value that is not finite": ~np.isfinite(probs).all(axis=-1),
        "a negative probability": (probs < 0).any(axis=-1),
        f"probabilities that do not sum to one within {SUM_TOLERANCE:g}": distances > SUM_TOLERANCE,
    }
    what, bad = next((what, bad) for what, bad in faults.items() if bad.any())
    row = int(np.argmax(bad))
    mend = "; divide each row by its sum" if "sum" in what else ""
    return f"{what} for sequence {row + 1} of a batch: {probs[row]}{mend}"


def to_numpy(output: Any) -> np.ndarray:
    """What a predictor returned as a numpy array of real numbers, off the tape and the device.

    Raises:
        TypeError: it is masked, or of no real numbers.
    """
    if hasattr(output, "detach"):
        output = output.detach().cpu()
        output = output.double() if "bfloat16" in str(output.dtype) else output  # which numpy does not know
    if not hasattr(output, "__array__") and hasattr(output, "__dlpack__"):
        output = np.from_dlpack(output)
    if isinstance(output, np.ma.MaskedArray):
        raise TypeError("it is a masked array, and what is masked is no probability")
    array = np.asarray(output)
    if array.dtype.kind in "iuf":
        return array
    if array.dtype.name.startswith(("bfloat", "float8")):  # of other libraries, which numpy takes for raw bytes
        return array.astype(np.float64)
    raise TypeError(f"it is {array.dtype}, not real numbers")


class FunctionPredictor:
    """A plain function from contexts to probabilities, as a predictor. What it declares are its attributes."""

    fixed_to_task = True  # it was never told of one

    def __init__(self, function: Callable[[Int[np.ndarray, "batch length"]], Any]) -> None:
        self.function = function
        for name, value in declared(function).items():
            setattr(self, name, value)

    def check_length(self, length: int) -> None:
        """As the function says, if it has an attribute of that name."""
        check_length(self.function, length)

    def predict(self, contexts: Int[np.ndarray, "batch length"]) -> Any:
        """What the function says."""
        return self.function(contexts)
