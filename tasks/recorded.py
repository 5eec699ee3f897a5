r"""Sequences that were recorded, not drawn: a training part, a test part, and an MTD fitted to the training part.

Nobody knows what recorded sequences come from. So there is no truth, no gold, and no KL to either: a predictor is
scored by its log loss on the test tokens, each predicted from the T tokens before it.

The fitted MTD (π, λ, m) makes it a mixture with a Dirichlet prior on the weights. Whatever infers weights in context
can run here, with the fitted matrix; to draw from the task is to draw from that model, as `tune` does.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from mdbench.core.errors import InputError, reason_of, shown
from mdbench.core.files import read_bytes
from mdbench.tasks.mtd import MTD
from mdbench.tasks.task import LENGTHS, Real, Rows, Whole, as_floats, check_row, is_whole

MISSING = -1  # stands for a token that is missing
N_BLOCKS = 10  # of the test part, the fewest that Schmeiser (Operations Research 30:556-568, 1982) advises: long ones
LARGEST_DATA = 2**28  # bytes of a file of sequences
ARRAYS = ("tokens", "ends", "trained")
PACKAGED = {"package": str, "extra": str, "file": str, "column": str, "bounds": list, "trained": int}  # in a package


@dataclass(frozen=True, eq=False, init=False)
class Recorded(MTD):
    """Recorded sequences with an MTD fitted to their training part.

    A *test token* is an observation after the training part of its sequence, with as many observations before it, none
    missing, as the longest of ``lengths``. So all lengths are scored on the same tokens. The tokens before it may be of
    the training part: they are its past.

    Attributes:
        transition: π of the fitted MTD.
        order: its m.
        weights: its λ, (m,).
        tokens: (n,) all sequences, one after the other; -1 is a missing one.
        ends: (S,) where each sequence ends.
        trained: (S,) how many observations at its start, missing ones too, are for training.
        concentration: α of the prior on the weights, for what infers them in context.
    """

    weights: Float[np.ndarray, " m"]  # type: ignore[misc]
    tokens: Int[np.ndarray, " n"]  # type: ignore[misc]
    ends: Int[np.ndarray, " S"]  # type: ignore[misc]
    trained: Int[np.ndarray, " S"]  # type: ignore[misc]

    family: ClassVar[str] = "recorded"
    kind: ClassVar[str] = "recorded sequences with a fitted MTD"
    gold: ClassVar[str | None] = None
    references: ClassVar[tuple[str, ...]] = (
        *(f"fitted_chain:order={k}" for k in range(4)),
        "fitted_mtd",
        "fitted_ctw",
        "bayes",
    )

    def __init__(
        self,
        name: str,
        transition: Rows,
        order: Whole,
        weights: Rows,
        tokens: Rows,
        ends: Rows,
        trained: Rows,
        concentration: Real = 1.0,
        lengths: Sequence[Whole] = LENGTHS,
        version: Whole = 1,
    ) -> None:
        given = {"tokens": tokens, "ends": ends, "trained": trained}
        for key, array in {key: _whole(value, key) for key, value in given.items()}.items():
            object.__setattr__(self, key, array)
        super().__init__(name, transition, order, concentration, lengths, version)
        fitted = as_floats(weights, "weights", "m numbers")
        if fitted.shape != (self.order,):
            raise InputError(f"weights must be {self.order} numbers, one a lag, not of shape {fitted.shape}.")
        check_row(fitted, "weights")
        fitted.setflags(write=False)
        object.__setattr__(self, "weights", fitted)
        if ((self.tokens < MISSING) | (self.tokens >= self.n_states)).any():
            raise InputError(f"tokens must be states 0..{self.n_states - 1}, or {MISSING} where one is missing.")
        sizes = np.diff(self.ends, prepend=0)
        if not len(sizes) or (sizes <= 0).any() or self.ends[-1] != len(self.tokens):
            raise InputError("ends must say where each sequence ends, the last of them at the end of tokens.")
        if self.trained.shape != sizes.shape or ((self.trained < 0) | (self.trained > sizes)).any():
            raise InputError("trained must say of each sequence how many of its observations are for training.")
        if not any((part != MISSING).any() for part in self.training):
            raise InputError("the training part is empty.")
        if not self.n_test:
            raise InputError(
                f"no token after the training part has {self.longest} tokens before it, none missing; take shorter "
                "lengths or a smaller training part."
            )

    @classmethod
    def of_table(cls, table: dict[str, Any], folder: Path) -> dict[str, Any]:
        """The arrays that its ``data`` names: a file beside the task file, or a file of a package.

        Raises:
            InputError: they are not there, or are not such arrays.
        """
        if "data" not in table:
            raise InputError("there is no 'data', the file of the sequences.")
        data = table.pop("data")
        return table | (_read_arrays(folder / data) if isinstance(data, str) else read_packaged(data))

    # ------------------------------------------------------------------------------------------------ its two parts

    @property
    def longest(self) -> int:
        """The most tokens that a test token is predicted from."""
        return max((int(length) for length in self.lengths if is_whole(length)), default=0)

    @property
    def sequences(self) -> list[Int[np.ndarray, " _"]]:
        """All of them, -1 where a token is missing."""
        return np.split(self.tokens, self.ends[:-1])

    @property
    def training(self) -> list[Int[np.ndarray, " _"]]:
        """The training part of each sequence, -1 where a token is missing."""
        return [tokens[:n] for tokens, n in zip(self.sequences, self.trained, strict=True)]

    def training_windows(self, size: int) -> Int[np.ndarray, "K size"]:
        """All of ``size`` tokens in a row, none missing, within the training part."""
        found = []
        for part in self.training:
            if len(part) >= size:
                windows = np.lib.stride_tricks.sliding_window_view(part, size)
                found.append(windows[(windows != MISSING).all(axis=1)])
        return np.concatenate(found) if found else np.empty((0, size), dtype=np.int64)

    @functools.cached_property
    def _test(self) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
        """Where each test token stands in ``tokens``, and the number of its sequence."""
        there = np.concatenate([[0], np.cumsum(self.tokens != MISSING)])
        starts = np.concatenate([[0], self.ends[:-1]])
        places, owners = [], []
        for k, (start, end, n) in enumerate(zip(starts, self.ends, self.trained, strict=True)):
            at = np.arange(start + max(n, self.longest), end)
            at = at[there[at + 1] - there[at - self.longest] == self.longest + 1]
            places.append(at)
            owners.append(np.full(len(at), k))
        return np.concatenate(places), np.concatenate(owners)

    @property
    def n_test(self) -> int:
        """Number of test tokens."""
        return len(self._test[0])

    def test_windows(self, part: slice) -> Int[np.ndarray, "N L1"]:
        """Some of the test tokens, in order, each the last of a row behind the ``longest`` tokens before it."""
        return self.tokens[self._test[0][part][:, None] + np.arange(-self.longest, 1)].astype(np.int32)

    def blocks(self, n: int) -> Int[np.ndarray, " n"]:
        """The block of each of the first n test tokens: neighbours depend on each other, so means are taken over these.

        A block is of consecutive test tokens of one sequence. The test tokens of a sequence are cut into blocks that
        are as equal as can be, each of at least n / ``N_BLOCKS`` tokens; a sequence with fewer is a block.
        """
        least = math.ceil(n / N_BLOCKS)
        found, n_blocks = [], 0
        for size in np.bincount(self._test[1][:n]):
            if size:
                pieces = max(1, int(size) // least)
                found.append(n_blocks + np.arange(size) * pieces // size)
                n_blocks += pieces
        return np.concatenate(found)

    # --------------------------------------------------------------------------------------------------- as any task

    def cut(self, tokens: Int[np.ndarray, "B _"], size: int) -> Int[np.ndarray, "B size"]:
        """The last of them: what stands right before a test token."""
        return tokens[:, tokens.shape[1] - size :]

    def check_length(self, length: Whole) -> None:
        """Likewise; no longer than the longest of ``lengths``, by which the test tokens are chosen."""
        super().check_length(length)
        if length > self.longest:
            raise InputError(
                f"the test tokens of '{self.name}' have {self.longest} tokens before them, so a context cannot have "
                f"{length}; give its task file longer lengths."
            )

    def definition(self) -> dict[str, Any]:
        """Likewise, with the SHA-256 of the sequences in their place."""
        written = super().definition()
        for key in ARRAYS:
            del written[key]
        return written | {"data": self.data_hash, "longest": self.longest}

    @functools.cached_property
    def data_hash(self) -> str:
        """SHA-256 (hex) of the sequences and of what is training."""
        digest = hashlib.sha256()
        for key in ARRAYS:
            array = getattr(self, key)
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()

    def described(self) -> dict[str, Any]:
        """Its numbers, and what there is of sequences."""
        about = {key: value for key, value in super().described().items() if key not in ARRAYS}
        counts = {"sequences": len(self.ends), "observations": int((self.tokens != MISSING).sum())}
        counts["training"] = int(sum((part != MISSING).sum() for part in self.training))
        return about | counts | {"test": self.n_test}

    def relabelled(self, order: Int[np.ndarray, " q"]) -> Recorded:
        """New state k is the old state ``order[k]``, in the sequences too."""
        tokens = np.where(self.tokens == MISSING, MISSING, np.argsort(order)[self.tokens])
        return Recorded(
            "relabelled",
            self.transition[np.ix_(order, order)],
            self.order,
            self.weights,
            tokens,
            self.ends,
            self.trained,
            self.concentration,
            self.lengths,
        )


def _whole(value: Any, which: str) -> Int[np.ndarray, " n"]:
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"{which} must be whole numbers in a row, not {array.dtype} of shape {array.shape}.")
    array = array.astype(np.int64)
    array.setflags(write=False)
    return array


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    content = read_bytes(path, "data", LARGEST_DATA)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in ARRAYS}
    except Exception as error:  # whatever such a file can hold
        raise InputError(f"data {shown(path)} is no .npz with {', '.join(ARRAYS)}: {reason_of(error)[:200]}") from None


def read_packaged(data: Any) -> dict[str, np.ndarray]:
    """One sequence from a column of numbers in a table that a package ships: state k is from the k-th bound on.

    ``data`` has package, extra (of mdbench, which installs it), file, column, bounds (ascending) and trained.

    Raises:
        InputError: it has not, the package is not installed, or there is no such column of numbers.
    """
    import csv

    if not isinstance(data, dict) or data.keys() != PACKAGED.keys():
        raise InputError(f"data must be the name of a file, or a table with {', '.join(PACKAGED)}.")
    for key, kind in PACKAGED.items():
        if not isinstance(data[key], kind):
            raise InputError(f"data: {key} cannot be {shown(data[key])}.")
    package, extra, column = data["package"], data["extra"], data["column"]
    if not package.isidentifier() or ".." in Path(data["file"]).parts:
        raise InputError("data: package must be the name of a package, and file a path within it.")
    found = find_spec(package)  # which does not import it
    folders = found.submodule_search_locations if found else None
    file = Path(folders[0], data["file"]) if folders else None
    if file is None:
        raise InputError(
            f"its sequences are in the package {package}, which is not installed; install mdbench[{extra}]."
        )
    text = read_bytes(file, f"data in the package {package}", LARGEST_DATA).decode("utf-8", errors="replace")
    rows = list(csv.DictReader(io.StringIO(text)))
    try:
        values = np.array([row[column] for row in rows], dtype=float)
        bounds = np.array(data["bounds"], dtype=float)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"data: column {shown(column)} of {data['file']} and bounds must be numbers.") from None
    if bounds.ndim != 1 or not len(bounds) or (np.diff(bounds) <= 0).any() or not len(values):
        raise InputError("data: bounds must be ascending numbers, and the file a table with rows.")
    tokens = np.searchsorted(bounds, values, side="right")
    return {"tokens": tokens, "ends": np.array([len(tokens)]), "trained": np.array([data["trained"]])}
