"""Records are read: each is what its form, its place, its name and its files say, or it is refused."""

from __future__ import annotations

import functools
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

from mdbench.board.files import digest_of, read_json
from mdbench.board.names import check_name, check_printable, is_path, skeleton, visible
from mdbench.board.predictions import ByLength, checked, fault_of_file, read_npz
from mdbench.board.record import (
    CONTRIBUTED,
    PREDICTIONS,
    Record,
    RowIdentity,
    command_of,
    data_of,
    file_stem,
    known_task,
    row_of,
    score_command,
)
from mdbench.core.entries import literal
from mdbench.core.errors import InputError, PredictorError, reason_of
from mdbench.evaluation.isolation import Isolated
from mdbench.predictors.catalogue import BUILT_IN, SHIPPED_WEIGHTS, build_predictor, predictor_entries, row_identity
from mdbench.tasks import Recorded, Task


def read_record(path: str | Path, own: Task | None = None) -> tuple[Record, ByLength]:
    """A record and its probabilities; ``own`` is a task of recorded sequences that it may be of.

    Raises:
        InputError: something about it is not as it must be; the message says what.
    """
    path = Path(path)
    record = read_json(path, "record", _validated)
    lengths = [cell.length for cell in record.cells]
    if len(set(lengths)) < len(lengths):
        raise InputError(f"record '{path}': a length stands in it twice.")
    if both := set(lengths) & record.left_out.keys():
        raise InputError(f"record '{path}': left_out: at T = {min(both)} it has scores, so nothing is left out.")
    task = _task_of(record, path, own)
    _check_identity(record, path, task)
    file = path.parent / record.predictions.file
    if fault := fault_of_file(file):
        raise InputError(f"record '{path}': its predictions '{file.name}' are {fault}.")
    if digest_of(file) != record.predictions.sha256:
        raise InputError(f"record '{path}': its predictions '{file.name}' are not those that it names (other SHA-256).")
    arrays = read_npz(file)
    if sorted(arrays) != sorted(lengths):
        has = ", ".join(map(str, sorted(arrays)))
        raise InputError(f"record '{path}' has the lengths {', '.join(map(str, lengths))}, its predictions {has}.")
    probs = {length: checked(record.predictor.label, length, array, task) for length, array in arrays.items()}
    for length, array in probs.items():
        if array.shape[1] != record.n_sequences:
            raise InputError(
                f"record '{path}' says {record.n_sequences} sequences; at T = {length} there are {array.shape[1]}."
            )
    return record, probs


def check_place(record: Record, path: Path) -> None:
    """Raise :class:`InputError` unless a record stands where it belongs in a leaderboard, so that no copy counts."""
    if path.parent.is_symlink():
        raise InputError("it stands behind a link; records are files of their own.")
    if record.task != path.parent.name:
        raise InputError(f"it is of task '{record.task}' and stands in the folder of '{path.parent.name}'.")
    own = f"{file_stem(record.predictor.label)}.json"
    if path.name != own:
        raise InputError(f"the record of '{record.predictor.label}' is called '{own}'; a copy counts for nothing.")


_VERSION_1 = {  # names of the parts of each score
    "kl": {"mean": "kl", "se": "kl_se"},
    "excess_kl": {"mean": "excess_kl", "se": "excess_kl_se", "interval": "excess_kl_ci"},
    "cross_entropy": {"mean": "cross_entropy"},
    "nll": {"mean": "nll"},
}


def _validated(text: str) -> Record:
    content = json.loads(text)
    if isinstance(content, dict) and content.get("schema_version") == 1 and isinstance(content.get("cells"), list):
        content["cells"] = [_of_version_1(cell) for cell in content["cells"]]
        text = json.dumps(content)
    return Record.model_validate_json(text)


def _of_version_1(cell: Any) -> Any:
    """A cell of a record of version 1, with its scores as a dict."""
    if not isinstance(cell, dict) or "scores" in cell:
        raise ValueError("cells of version 1 have scores as fields")
    parts = {name: {part: cell[key] for part, key in keys.items() if key in cell} for name, keys in _VERSION_1.items()}
    rest = {key: value for key, value in cell.items() if not any(key in keys.values() for keys in _VERSION_1.values())}
    return rest | {"scores": {name: None if all(v is None for v in of.values()) else of for name, of in parts.items()}}


def _check_identity(record: Record, path: Path, task: Task) -> None:
    """Raise unless a row is what it says, as far as that can be told here: of what is installed, all of it."""
    row = record.predictor
    if set(record.host.seconds) - {cell.length for cell in record.cells}:
        raise InputError(f"record '{path}': host.seconds: they are of lengths that it does not have.")
    try:
        _check_texts(row)
    except InputError as error:
        raise InputError(f"record '{path}': predictor: {error}") from None
    if row.kind == PREDICTIONS:
        if record.host.seconds:
            raise InputError(f"record '{path}': host.seconds: nobody here timed predictions that were made elsewhere.")
        if row.label != row.name or row.options or row.distribution or row.version:
            raise InputError(f"record '{path}': predictor: predictions alone have a name of their own, and no options.")
        if not _scores(record):
            raise InputError(f"record '{path}': command: it is not one that scores these predictions.")
        return
    lengths = [cell.length for cell in record.cells]
    if record.command != command_of(row, record.task, lengths, record.n_sequences, record.reference):
        raise InputError(f"record '{path}': command: it is not the one that makes this record.")
    if row.name in predictor_entries() and row.name != "run":
        if row.label != row.name and not row.label.startswith(f"{row.name}:"):
            raise InputError(f"record '{path}': predictor.label: '{row.label}' is not one of '{row.name}'.")
        try:
            ours = row.name in BUILT_IN
            defaults = None if ours else _defaults(row.label, task)
            expected = row_of(row_identity(row.label, defaults))
            if ours and expected.label != row.name:  # options: whether they are possible
                build_predictor(row.label, task)
        except (InputError, PredictorError) as error:
            raise InputError(f"record '{path}': predictor.label: {error}") from None
        except Exception as error:  # of whatever a label can make of our own code
            raise InputError(f"record '{path}': predictor.label: {reason_of(error)[:200]}") from None
        if ours and (SHIPPED_WEIGHTS / row.name).is_dir():
            for length in lengths:
                if not (SHIPPED_WEIGHTS / row.name / record.task / f"T{length}").is_dir():
                    raise InputError(f"record '{path}': '{row.name}' has no weights for T = {length}.")
        for name in ("distribution", "name", "options", "label", "kind"):
            if getattr(row, name) != getattr(expected, name):
                said = f"{getattr(row, name)!r}, which '{row.label}' is not: {getattr(expected, name)!r}"
                raise InputError(f"record '{path}': predictor.{name}: {said}.")
    elif row.kind != CONTRIBUTED:
        raise InputError(f"record '{path}': predictor: '{row.name}' is not built in, so its kind is '{CONTRIBUTED}'.")
    elif not _is_label(row):
        raise InputError(f"record '{path}': predictor.label: '{row.label}' is not what its name and options make.")


def _check_texts(row: RowIdentity) -> None:
    """Raise unless every text in it can be seen, and its name is none of a built-in that it is not.

    A label is what others are asked to run, so it names what the name says: a file, or none.
    """
    if is_path(row.label) != is_path(row.name):
        raise InputError(f"label: '{visible(row.label, 80)}' reads like a path.")
    if is_path(row.name) and row.kind != PREDICTIONS:
        folder = row.options.get("path")
        if row.name == "run" and isinstance(folder, str):
            check_printable(folder, "folder")
        elif not re.fullmatch(r"[^:]+\.py:[A-Za-z_]\w*", check_printable(row.name, "name")):
            raise InputError(f"'{row.name[:50]}' is neither FILE.py:function nor run:FOLDER.")
    elif row.kind == PREDICTIONS or row.name not in BUILT_IN:
        check_name(row.name)
    for key, value in row.options.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII):
            raise InputError(f"options have names such as 'steps', unlike {key[:50]!a}.")
        if isinstance(value, str) and value:
            check_printable(value, "value of an option")
        elif isinstance(value, float) and not math.isfinite(value):
            continue
        read = literal(str(value))
        if type(read) is not type(value) or read != value:
            raise InputError(f"the option {key} is {value!r}, which no label means.")
    if row.distribution is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", row.distribution):
        raise InputError(f"a distribution is called so as Python packages are, unlike {row.distribution[:50]!a}.")
    if row.distribution == "mdbench" and row.name not in BUILT_IN:
        raise InputError(f"mdbench has no predictor '{row.name[:50]}'.")
    if row.distribution not in (None, "mdbench") and skeleton(row.distribution) == skeleton("mdbench"):
        raise InputError(f"'{row.distribution[:50]}' looks like 'mdbench', which it is not.")
    if row.version is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*", row.version):
        raise InputError(f"a version reads such as 1.0.2, unlike {row.version[:50]!a}.")


def _scores(record: Record) -> bool:
    """Whether its command scores these predictions, whatever their file was called."""
    try:
        file = shlex.split(record.command)[3]
    except (ValueError, IndexError):
        return False
    return record.command == score_command(file, record.task, record.predictor.name, record.reference)


@functools.cache
def _defaults(label: str, task: Task) -> dict[str, Any]:
    """Of the options of a predictor of another distribution, as it says in a process of its own."""
    isolated = Isolated(label, task)
    try:
        return isolated.defaults
    finally:
        isolated.close()


def _is_label(row: RowIdentity) -> bool:
    """Whether the label is the name with some of the options, as a row that is not installed here would have it."""
    if row.name == "run":
        return row.label == f"run:{row.options.get('path')}" and set(row.options) == {"path"}
    written = {f"{k}={v}" for k, v in row.options.items()}
    rest = row.label.removeprefix(row.name)
    items = rest[1:].split(",") if rest.startswith(":") else []
    return row.label == row.name + (":" if items else "") + ",".join(sorted(items)) and set(items) <= written


def _task_of(record: Record, path: Path, own: Task | None) -> Task:
    """The task of a record, if it and its sequences are the ones known here."""
    try:
        task = known_task(record.task, record.task_hash, own)
    except InputError as error:
        raise InputError(f"record '{path}': {error}") from None
    data = data_of(task)
    if data.data_hash != record.data_hash:
        raise InputError(f"record '{path}': data_hash: its sequences are not the public ones of '{record.task}'.")
    if isinstance(task, Recorded) != (record.gold is None):
        raise InputError(f"record '{path}': gold: there is one just where sequences were drawn.")
    if isinstance(task, Recorded) and record.n_sequences != len(data.tokens):
        raise InputError(
            f"record '{path}': n_sequences: there are {len(data.tokens)} test tokens, not {record.n_sequences}."
        )
    return task
