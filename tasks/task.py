"""What a task is: a generative model of sequences, with a latent θ that is drawn anew for each of them."""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import numbers
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mdbench.core.entries import LONGEST_NAME
from mdbench.core.errors import InputError, SequenceError, shown

Whole = int | np.integer
Real = float | int | np.floating | np.integer | numbers.Rational
"""Numbers of Python's own and of numpy."""
Rows = np.ndarray | Sequence[Any]
"""Numbers as people give them: an array, or lists of them."""

LONGEST = 1_000_000  # tokens in a context

EXACT = 1e-12  # how far from one a row may sum by rounding in float64
ROUNDED = 1e-6  # what rounding to six places may add to each entry of a row
LENGTHS = (16, 32, 64, 128)  # of contexts, unless a task says otherwise
CONCENTRATIONS = (1e-10, 1e10)  # beyond, float64 holds no useful posterior
LABELS = ("name", "lengths", "version")  # fields of every family that are not numbers of its model


class Stream(enum.IntEnum):
    """Key streams that never meet, whatever the seed."""

    EVALUATION = 0
    CALIBRATION = 1
    TRAINING = 2


class Predictive(NamedTuple):
    """p_B(· | y_1..y_length) of some sequences at some prefixes, and how far it may be off: what gold is.

    Attributes:
        probs: (B, P, q).
        bound: (B, P) on the error of each entry of ``probs``; 0 where standard errors take its place.
        standard_error: (B, P, q); 0 for an exact method.
    """

    probs: Float[np.ndarray, "B P q"]
    bound: Float[np.ndarray, "B P"]
    standard_error: Float[np.ndarray, "B P q"]


class Task(ABC):
    """A generative model over the states 0..q-1; a family of models is a frozen dataclass that derives from it.

    Its fields are ``name``, ``lengths``, ``version`` and the numbers that define the model: whole numbers, which shape
    compiled code, and floats and arrays, which are arguments of it.

    Attributes:
        name: what tables call it.
        lengths: context lengths T at which it is evaluated unless told otherwise.
        version: raised when the numbers behind a name change.
        n_states: q, the size of the vocabulary.
        family: what task files call the model.
        kind: the same as people say it, with its article.
        theta: the NumPyro site of θ.
        discrete: whether θ, or what it depends on, takes one of finitely many values, along which there is no gradient.
        references: predictors that are scored beside others unless told otherwise.
        gold: the baseline that they are measured against unless told otherwise; None where there can be none.
    """

    name: str
    lengths: tuple[int, ...]
    version: int
    n_states: int

    family: ClassVar[str]
    kind: ClassVar[str] = "a generative model"
    theta: ClassVar[str]
    discrete: ClassVar[bool] = False
    references: ClassVar[tuple[str, ...]] = ("bayes", "uniform")
    gold: ClassVar[str | None] = "exact"

    @property
    @abstractmethod
    def given(self) -> int:
        """How many tokens stand at the start that nothing predicts."""

    @property
    @abstractmethod
    def prior_mean(self) -> Float[np.ndarray, "..."]:
        """E[θ], of the shape of θ."""

    @abstractmethod
    def model(self, tokens: Any = None, length: int | None = None) -> Any:
        """NumPyro model of one sequence with θ as its only continuous latent.

        Give ``tokens`` (length,) to condition on them, or none and ``length`` to draw and return them.
        """

    @abstractmethod
    def truth(self, theta: Float[np.ndarray, "B ..."], contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B q"]:
        """p(· | θ, y_1..y_T)."""

    def prior_predictive(self, contexts: Int[np.ndarray, "B T"]) -> Float[np.ndarray, "B q"]:
        """What is said of the next token by whoever infers nothing of θ: p(· | E[θ], y)."""
        prior = self.prior_mean
        return self.truth(np.broadcast_to(prior, (len(contexts), *prior.shape)), contexts)

    @abstractmethod
    def relabelled(self, order: Int[np.ndarray, " q"]) -> Task:
        """The task after a permutation of its states: new state k is the old state ``order[k]``."""

    @property
    def positive(self) -> bool:
        """Whether every token can come after every context."""
        return True

    @property
    def concentrations(self) -> dict[str, float]:
        """By field: those of Dirichlet priors whose corners a sampler can miss without a sign of it."""
        return {}

    def draw(self, length: int) -> Any:
        """NumPyro model that draws one sequence and returns its tokens; it may have latents that :meth:`model` sums."""
        return self.model(length=length)

    def theta_of(self, theta: Float[np.ndarray, "B ..."], length: int) -> Float[np.ndarray, "B ..."]:  # noqa: ARG002
        """θ of the first ``length`` tokens; only a path is shorter for fewer of them."""
        return theta

    def cut(self, tokens: Int[np.ndarray, "B _"], size: int) -> Int[np.ndarray, "B size"]:
        """Sequences of fewer tokens from longer ones: the first of them."""
        return tokens[:, :size]

    @classmethod
    def of_table(cls, table: dict[str, Any], folder: Path) -> dict[str, Any]:  # noqa: ARG003
        """The fields in a task file that stands in that folder; a family may have some of them in files beside it."""
        return table

    def possible(self, contexts: Int[np.ndarray, "B T"]) -> Bool[np.ndarray, " B"]:
        """Whether a sequence has a probability above 0."""
        return np.ones(len(contexts), dtype=bool)

    def blocks(self, n: int) -> Int[np.ndarray, " n"] | None:  # noqa: ARG002
        """The block of each of the first n sequences; None where they are independent."""
        return None

    # ---------------------------------------------------------------------------------------------- for all families

    def settle(self, name: str, lengths: Sequence[Whole], version: Whole, **numbers: Any) -> None:
        """Set all fields of a frozen dataclass, checked numbers and what every family has.

        Raises:
            InputError: name, lengths or version cannot be.
        """
        for key, value in ({"name": name, "lengths": lengths, "version": version} | numbers).items():
            object.__setattr__(self, key, value)
        self.check_labels()

    def check_labels(self) -> None:
        """Raise :class:`InputError` unless name, lengths and version are as they must be; lengths become a tuple."""
        object.__setattr__(self, "lengths", tuple(self.lengths))
        printable = isinstance(self.name, str) and self.name.isprintable() and len(self.name) <= LONGEST_NAME
        if not printable or not re.fullmatch(r"[^./\\][^/\\]*", self.name):
            raise InputError(
                f"name must be 1 to {LONGEST_NAME} printable characters without slashes that do not begin with a dot, "
                f"not {shown(self.name)}."
            )
        if not is_whole(self.version):
            raise InputError(f"version must be a whole number, not {self.version!r}.")
        if not self.lengths:
            raise InputError("lengths is empty; give at least one context length.")
        for length in self.lengths:
            self.check_length(length)

    def check_length(self, length: Whole) -> None:
        """Raise :class:`InputError` unless a context of this length holds a token that something predicts."""
        if is_whole(length) and length > LONGEST:
            raise InputError(f"a context of {length} tokens is too long; {LONGEST} is the most.")
        if not is_whole(length) or length < self.given + 1:
            raise InputError(
                f"a context of task '{self.name}' needs a whole length of at least "
                f"{f'order + 1 = {self.given + 1}' if self.given else 1}, "
                f"not {length!r}."
            )

    def check_contexts(self, contexts: Any) -> Int[np.ndarray, "batch length"]:
        """``contexts`` as int64 if they are long enough and every entry is one of the states.

        Raises:
            InputError: they are no array of whole numbers of that kind; a :class:`SequenceError` names the sequence.
        """
        array = np.asarray(contexts)
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            raise InputError(
                f"contexts must be integers of shape (batch, length), not {array.dtype} of shape {array.shape}."
            )
        self.check_length(array.shape[1])
        if array.size and (array.min() < 0 or array.max() >= self.n_states):
            i, t = np.argwhere((array < 0) | (array >= self.n_states))[0]
            raise SequenceError(int(i), f"state {array[i, t]} at position {t + 1} is outside 0..{self.n_states - 1}.")
        return array.astype(np.int64)

    @property
    def numbers(self) -> dict[str, Any]:
        """The fields that define the model, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LABELS}  # type: ignore[arg-type]

    def definition(self) -> dict[str, Any]:
        """All that the generative model depends on, exactly, as JSON: names and lengths are labels and stay out."""
        return {"model": self.family, "version": self.version} | {k: _exactly(v) for k, v in self.numbers.items()}

    @functools.cached_property
    def task_hash(self) -> str:
        """SHA-256 (hex) of :meth:`definition`."""
        return hashlib.sha256(json.dumps(self.definition(), sort_keys=True).encode()).hexdigest()

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        numbers = {k: v for k, v in self.described().items() if k != "n_states" and not isinstance(v, bool)}
        scalars = {k: v for k, v in numbers.items() if isinstance(v, (int, float))}
        written = "".join(f", {name} {value:g}" for name, value in scalars.items())
        return f"{self.kind}, {self.n_states} states{written}"

    def described(self) -> dict[str, Any]:
        """Its numbers as JSON has them, for people."""
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in self.numbers.items()}


class ClosedForm(Task):
    """A family whose predictive has a closed form: its gold, which takes no posterior method."""

    kind = "a model with a closed-form predictive"

    @abstractmethod
    def predictive(self, contexts: Int[np.ndarray, "B T"], lengths: Sequence[int]) -> Predictive:
        """p_B after each of these prefixes, ascending, of checked contexts."""


def _exactly(value: Any) -> Any:
    """Floats by their bits, arrays as lists."""
    if isinstance(value, np.ndarray):
        return [_exactly(entry) for entry in value] if value.ndim else _exactly(value.item())
    return float(value).hex() if isinstance(value, (float, np.floating)) else int(value) if is_whole(value) else value


# ------------------------------------------------------------------------------------------------------ checks


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_order(order: Any, word: str = "order") -> None:
    """Raise :class:`InputError` unless ``order``, or what people give by that word, is a whole number of at least 1."""
    if not is_whole(order) or order < 1:
        raise InputError(f"{word} must be a whole number of at least 1, not {order!r}.")


def check_concentration(concentration: Any, word: str = "concentration") -> float:
    """It as a float, if it is a number that float64 can work with.

    Raises:
        InputError: it is not.
    """
    low, high = CONCENTRATIONS
    number = isinstance(concentration, numbers.Real) and not isinstance(concentration, bool)
    if not number or not low <= concentration <= high:
        raise InputError(f"{word} must be a number from {low:g} to {high:g}, not {concentration!r}.")
    return float(concentration)


def as_floats(given: Any, which: str, form: str = "numbers, in rows of one length") -> Float[np.ndarray, "..."]:
    """A float64 copy of numbers; messages call them ``which``, and say the ``form`` that they should have.

    Raises:
        InputError: they are none: texts, truth values, rows of different lengths.
    """
    try:
        array = np.array(given)
        # Numbers as they were given: beside others True would be 1. An array of numbers has none.
        plain = isinstance(given, np.ndarray) and given.dtype.kind in "iuf"
        cells = () if plain else np.array(given, dtype=object).ravel()
        if array.dtype.kind not in "iufO" or any(isinstance(cell, (str, bytes, bool, np.bool_)) for cell in cells):
            raise TypeError
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{which} must be {form}.") from None


def check_transition(transition: Any, which: str = "the transition matrix") -> Float[np.ndarray, "q q"]:
    """A float64 copy of ``transition``, not to be written, if it is a row-stochastic matrix up to six places.

    Rows that are off by more than rounding in float64 are divided by their sum.

    Raises:
        InputError: it is not; the message names the row.
    """
    matrix = as_floats(transition, which, "q rows of q numbers")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise InputError(
            f"{which} must be square with at least 2 states, not of shape {' x '.join(map(str, matrix.shape))}."
        )
    for i, row in enumerate(matrix, start=1):
        check_row(row, f"row {i} of {which}")
    matrix.setflags(write=False)
    return matrix


def check_row(row: Float[np.ndarray, " q"], which: str) -> None:
    """Raise :class:`InputError` unless it is a distribution; off by more than rounding, it is divided by its sum."""
    if not np.isfinite(row).all() or (row < 0).any():
        worst = row[~(np.isfinite(row) & (row >= 0))][0]
        raise InputError(f"{which} holds {worst:g}; probabilities are 0 to 1.")
    off = abs(row.sum() - 1)
    if off > ROUNDED * len(row):
        raise InputError(f"{which} sums to {row.sum():.9g}; it must sum to 1 (give more digits, or fractions).")
    if off > EXACT:
        row /= row.sum()
