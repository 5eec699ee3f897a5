"""Files of predictions: probabilities by length, as .npz or .csv."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mdbench.board.record import MOST_RUNS, data_of
from mdbench.core.errors import InputError, reason_of, shown
from mdbench.core.tables import NUMBER, number_in, read_table
from mdbench.predictors.predictor import check_output
from mdbench.tasks import Task

LARGEST = 2**28  # bytes of all arrays in a file of predictions

ByLength = Mapping[int, Float[np.ndarray, "_R _N _q"]]  # records of one board differ


def fault_of_file(path: Path) -> str | None:
    """What keeps it from being read as the predictions beside a record."""
    try:
        if not path.is_file() or path.is_symlink():
            return "not a file beside it"
    except OSError:  # a name that cannot be
        return "not a file beside it"
    return f"larger than {LARGEST} bytes" if path.stat().st_size > LARGEST else None


def read_npz(path: Path) -> dict[int, np.ndarray]:
    """Arrays named ``T<length>``, (R, N, q), by length: the predictions of a record."""
    named = _unpacked(path, r"T([1-9][0-9]{0,6})")
    return {int(name[1:]): array for name, array in named.items()}


def read_predictions(path: Path, task: Task) -> dict[int, np.ndarray]:
    """What somebody predicted elsewhere, (R, N, q) by length, from .npz or .csv.

    An .npz has arrays (N, q) called ``T<length>`` or, of several training seeds, ``seed<k>/T<length>``; a .csv the
    columns length, sequence (from 0), p0, .., p<q-1>.

    Raises:
        InputError: it is neither; the message says what would be right.
    """
    if path.suffix not in (".npz", ".csv", ".tsv"):
        raise InputError(f"predictions are read from .npz, .csv or .tsv, not from '{path}'.")
    if path.suffix != ".npz":
        return {length: array[None] for length, array in read_csv(path, task).items()}
    by_length: dict[int, dict[str, np.ndarray]] = {}
    for name, array in _unpacked(path, r"(seed(?:0|[1-9][0-9]{0,8})/)?T([1-9][0-9]{0,6})").items():
        seed, _, of_length = name.rpartition("/")
        if array.ndim == 1:
            raise InputError(f"'{path}': '{name}' has one axis; give (N, q), a row a sequence.")
        if array.ndim == 3:
            raise InputError(
                f"'{path}': '{name}' has three axes; give the prediction after the last token, (N, q). Of several "
                "training seeds give each its own array: seed0/T16, seed1/T16."
            )
        if array.dtype == np.float16:
            raise InputError(
                f"'{path}': '{name}' is float16, which holds no small probability; give float32 or float64."
            )
        by_length.setdefault(int(of_length[1:]), {})[seed] = array
    seeds = {seed for of_seeds in by_length.values() for seed in of_seeds}
    for length, of_seeds in by_length.items():
        if "" in seeds and len(seeds) > 1:
            raise InputError(f"'{path}': some arrays are called T<length>, others seed<k>/T<length>; give one kind.")
        if missing := sorted(seeds - of_seeds.keys()):
            raise InputError(f"'{path}': {missing[0]} has no T{length}, which another seed has.")
        if len({array.shape for array in of_seeds.values()}) > 1:
            raise InputError(f"'{path}': the seeds of T{length} have arrays of different shapes.")
    return {length: np.stack([of[seed] for seed in sorted(of)]) for length, of in by_length.items()}


def _check_file(path: Path) -> None:
    if not path.is_file():  # a pipe may never end
        raise InputError(f"{shown(path)} {'is not an ordinary file' if path.exists() else 'does not exist'}.")


def _unpacked(path: Path, pattern: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, which are of that pattern."""
    _check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # whatever zip files can hold
        raise InputError(f"'{path}' is not a file of arrays (.npz): {reason_of(error)[:200]}") from None
    if not members:
        raise InputError(f"'{path}' holds no arrays; give one called T<length> for each length.")
    for member in members:  # before any of them is unpacked
        if not re.fullmatch(pattern + r"\.npy", member.filename):
            name = member.filename.removesuffix(".npy")[:80]
            raise InputError(f"'{path}': arrays are called T<length>, such as T32, not {name!r}.")
    if len({member.filename for member in members}) < len(members):
        raise InputError(f"'{path}': an array stands in it twice.")
    size = sum(member.file_size for member in members)
    if size > LARGEST:
        raise InputError(f"'{path}': its arrays are larger than {LARGEST} bytes.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            named = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # whatever npy headers can hold
        raise InputError(f"'{path}' is not a file of arrays (.npz): {reason_of(error)[:200]}") from None
    for name, array in named.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"'{path}': '{name}' is no array.")
    return named


def read_csv(path: Path, task: Task) -> dict[int, np.ndarray]:
    """Probabilities (N, q) by length, from a table with these columns in any order (and pandas' index)."""
    _check_file(path)
    table = read_table(path)
    wanted = ["length", "sequence", *(f"p{b}" for b in range(task.n_states))]
    header, rows = [name.lower() for name in table.rows[0]], table.rows[1:]
    if rows and all(len(row) == len(header) + 1 for row in rows):
        header = ["", *header]  # as R writes row names
    if sorted(name for name in header if name) != sorted(wanted):
        there = ",".join(header)[:80]
        mend = "; of several training seeds give an .npz with seed0/T16, seed1/T16" if "seed" in header else ""
        raise InputError(f"'{path}' must have the columns {','.join(wanted)}, not {there}{mend}.")
    if not rows:
        raise InputError(f"'{path}' has a header and no rows.")
    values, at = np.empty((len(rows), len(wanted))), [header.index(name) for name in wanted]
    for k, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise table.refusal(k, f"{len(row)} cells, but the header has {len(header)}.")
        for column, name in enumerate(wanted):
            number = number_in(cell := row[at[column]], decimal_comma=table.separator != "commas")
            if number is None:
                raise table.refusal(k, f"{name} is {shown(cell)}, not a number.")
            if name in wanted[:2] and not (NUMBER.fullmatch(cell) and number.is_integer() and 0 <= number < 2**31):
                raise table.refusal(k, f"{name} must be a whole number, not {shown(cell)}.")
            values[k - 1, column] = number
    arrays = {}
    for length in np.unique(values[:, 0]):
        of = values[values[:, 0] == length]
        of = of[np.argsort(of[:, 1])]
        if not np.array_equal(of[:, 1], np.arange(len(of))):
            raise InputError(f"'{path}': at length {int(length)} the sequences must be 0, 1, .., each once.")
        arrays[int(length)] = of[:, 2:]
    return arrays


def checked(name: str, length: int, array: np.ndarray, task: Task) -> Float[np.ndarray, "R N q"]:
    """As probabilities of the public sequences; rows are divided by their sum."""
    where = f"the predictions of '{name}' for T = {length}"
    task.check_length(length)
    tokens = data_of(task).tokens
    if length >= tokens.shape[1]:
        raise InputError(f"the public sequences of '{task.name}' go up to T = {tokens.shape[1] - 1}, not {length}.")
    array = array[None] if array.ndim == 2 else array
    if array.ndim == 3 and array.shape[0] > MOST_RUNS:
        raise InputError(f"{where} are of {array.shape[0]} training seeds; a record has at most {MOST_RUNS}.")
    if array.ndim != 3 or array.shape[2] != task.n_states or not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"{where} must be floats of shape (N, {task.n_states}), one row a sequence, not {array.dtype} of shape "
            f"{array.shape[1:] if array.ndim == 3 and len(array) == 1 else array.shape}."
        )
    if not array.shape[0] or not 1 <= array.shape[1] <= len(tokens):
        raise InputError(f"{where} are for {array.shape[1]} sequences; there are {len(tokens)}.")
    try:
        return np.stack([check_output(name, run, run.shape) for run in array])
    except RuntimeError as error:
        raise InputError(f"T = {length}: {error}") from None
