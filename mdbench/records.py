"""Records: what a predictor scored on the public sequences of a task, with all that is needed to judge and repeat it.

A record is ``<folder>/records/<task>/<row>.json`` and, beside it, the probabilities that were scored
(``<row>-<hash>.npz``, (R, N, q) for each length T as ``T<length>``, R training seeds), so that anyone can score them
again without running the predictor. The probabilities are written first and under the name of their content, so the
JSON, which is moved into place, always names a whole file.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
import platform
import re
import shlex
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import quote

import numpy as np
import pandas as pd
from jaxtyping import Float
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from scipy import stats

from mdbench.device import n_cores
from mdbench.errors import InputError, PredictorError, reason_of
from mdbench.evaluation import Evaluation, evaluate
from mdbench.files import json_ready, make_folder, write_text, write_whole
from mdbench.isolation import Isolated, Limits
from mdbench.names import LONGEST_NAME, check_name, check_printable, check_reference, is_path, skeleton, visible
from mdbench.predictor import check_output
from mdbench.registry import (
    BUILT_IN,
    SHIPPED_WEIGHTS,
    TOLD,
    Identity,
    build_predictor,
    is_built_in,
    literal,
    predictor_entries,
    row_identity,
)
from mdbench.scores import SCORES
from mdbench.scoring import Cell, Progress, Result, Scores, cells, no_progress
from mdbench.statistics import MeanInterval, holm, mean_interval
from mdbench.store import Store
from mdbench.tasks import N_PUBLIC, PUBLIC_SEED, Task, load_task, public_sequences, task_names
from mdbench.tasks.task import LONGEST
from mdbench.wording import p_text, title

SCHEMA_VERSION: Literal[2] = 2
GOLD: Literal["exact"] = "exact"
TOLERANCE = 1e-9  # relative; other processors differ in the last digits
RESOLUTION = 1e-25  # nats; a KL below it is rounding
GOLD_ERROR_FACTOR = 100.0  # between two estimates of the gold's error, which is itself of the size of rounding
TESTED = ("kl", "excess_kl", "cross_entropy")  # scores that a rerun holds against published ones
RERUN_SEQUENCES = 256
LEVEL = 0.01  # of the test whether a published score is compatible with one on fresh sequences
LONGEST_LABEL = 600
LONGEST_REASON = 2000  # for a length that is left out
MOST_OPTIONS = 50
LARGEST = 2**28  # bytes of all arrays in a file of predictions
LARGEST_RECORD = 2**24  # bytes
LARGEST_CARD = 2**16  # characters
MOST_LENGTHS, MOST_RUNS = 16, 100
LIBRARIES = ("jax", "jaxlib", "numpy", "numpyro", "scipy", "torch")

Kind = Literal["predictor", "baseline", "upper bound", "contributed", "predictions only"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PREDICTOR, BASELINE, UPPER_BOUND, CONTRIBUTED, PREDICTIONS = KINDS


def _from_json(value: Any) -> Any:
    return {"inf": math.inf, "-inf": -math.inf}.get(value, value) if isinstance(value, str) else value


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("NaN is not a score")
    return value


def _is_json(value: Any) -> Any:
    text = json.dumps(value, allow_nan=False)  # a ValueError names what is none
    if len(text) > LARGEST_CARD or len(json.dumps(value, indent=1)) > 4 * LARGEST_CARD:  # deep ones take more to show
        raise ValueError(f"it is larger than {LARGEST_CARD} characters")
    return value


Number = Annotated[
    float,
    BeforeValidator(_from_json),
    AfterValidator(_not_nan),
    PlainSerializer(json_ready, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf"]}]}),
]


class Strict(BaseModel):
    """Nothing but its fields, and unchanged once it is there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Length = Annotated[int, Field(ge=1, le=LONGEST)]


def _is_visible(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


ShortText = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_is_visible)]


class RowIdentity(Strict):
    """Which row of a board a record is: a name with all its options, and where it comes from.

    ``label`` is the name with the options that are not the default, as `mdbench evaluate` takes it. ``distribution``
    and ``version`` are null for predictions that were made elsewhere, and for a predictor from a file.
    """

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    options: Annotated[dict[ShortText, bool | int | Number | ShortText | None], Field(max_length=MOST_OPTIONS)]
    label: Annotated[str, Field(min_length=1, max_length=LONGEST_LABEL), AfterValidator(_is_visible)]
    kind: Kind
    distribution: str | None = Field(max_length=LONGEST_NAME)
    version: str | None = Field(max_length=LONGEST_NAME)


class ScoreRecord(Strict):
    """A mean over sequences with its standard error and 95% interval; records of version 1 lack some of these."""

    mean: Number
    se: Number | None = None
    interval: tuple[Number, Number] | None = None


class CellRecord(Strict):
    """Scores at one length, by name; meaning as :class:`mdbench.scoring.Result`."""

    length: int
    scores: Annotated[dict[ShortText, ScoreRecord | None], Field(max_length=100)]
    gold_error: Number | None
    runs: Annotated[tuple[Number, ...], Field(max_length=MOST_RUNS)] | None

    def mean(self, score: str) -> float | None:
        """Of a score; None where it is not defined, or not in the record."""
        found = self.scores.get(score)
        return None if found is None else found.mean

    @property
    def excess_kl(self) -> float | None:
        """What rows are ranked by."""
        return self.mean("excess_kl")


class Predictions(Strict):
    """The file of probabilities beside the record, and its SHA-256."""

    file: str = Field(pattern=r"^[^/\\\x00]+\.npz$", max_length=255)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Host(Strict):
    """Times and facts of the machine: all that may differ when a run is repeated.

    ``seconds`` are the wall time of one run of all predictions, by length.
    """

    seconds: dict[Length, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
    date: ShortText
    device: ShortText
    platform: ShortText
    processors: Annotated[int, Field(ge=0, le=2**31)] | None
    python: ShortText
    libraries: Annotated[dict[ShortText, ShortText], Field(max_length=100)]
    commit: ShortText | None
    dirty: bool | None


class Record(Strict):
    """One predictor on the public sequences of one task.

    ``task_hash`` and ``data_hash`` say which task and which sequences; ``n_sequences`` are the first so many of them.
    ``left_out`` gives for the lengths that the predictor cannot serve the reason. ``card`` is what the predictor says
    of itself (a trained one: of its training), and ``reference`` what its author says to read: a paper, a DOI.

    Version 1, which is read for ever, had four scores as fields of a cell (:func:`_of_version_1`).
    """

    schema_version: Literal[1, 2]
    task: ShortText
    task_hash: ShortText
    data_hash: ShortText
    gold: Literal["exact"]
    n_sequences: int = Field(ge=1)
    predictor: RowIdentity
    cells: tuple[CellRecord, ...] = Field(min_length=1, max_length=MOST_LENGTHS)
    left_out: dict[Length, Annotated[str, Field(max_length=LONGEST_REASON), AfterValidator(_is_visible)]]
    predictions: Predictions
    command: str = Field(max_length=2 * LONGEST_LABEL)
    card: Annotated[dict[str, Any] | None, AfterValidator(_is_json)]
    reference: Annotated[str, AfterValidator(check_reference)] | None = None
    host: Host

    @model_validator(mode="after")
    def _has_all_scores(self) -> Self:
        for cell in self.cells:
            if set(cell.scores) != set(SCORES):
                raise ValueError(f"at T = {cell.length} the scores must be {', '.join(SCORES)}")
            whole = all(s.model_fields_set == set(ScoreRecord.model_fields) for s in cell.scores.values() if s)
            if self.schema_version == 2 and not whole:
                raise ValueError(f"at T = {cell.length} each score has mean, se and interval")
        return self

    def to_json(self) -> str:
        """As it is written: the same but for ``host`` whenever the run is repeated on the same machine."""
        without = {"reference"} if self.reference is None else set()  # records of before had no such field
        content = json_ready(self.model_dump(mode="json", exclude=without))
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def json_schema() -> str:
    """The published JSON schema of a record."""
    return json.dumps(Record.model_json_schema(mode="serialization"), indent=1)


# ------------------------------------------------------------------------------------------------- making records

Model = TypeVar("Model")
ByLength = Mapping[int, Float[np.ndarray, "R N q"]]


def record_evaluation(
    found: Evaluation, predictors: Sequence[str], folder: str | Path, device: str, reference: str | None = None
) -> list[Path]:
    """Write a record for each task and each of the named predictors that has a score there.

    Raises:
        InputError: the evaluation is not on public sequences against the exact gold, or cannot be written.
    """
    paths = []
    for label in predictors:
        for task in dict.fromkeys(r.task for r in found.results if r.predictor == label):
            identity = row_identity(label, found.defaults.get(label))
            results = [r for r in found.results if (r.predictor, r.task) == (label, task)]
            without = [s for s in (*found.skipped, *found.failed) if (s.predictor, s.task) == (label, task)]
            left_out = {s.length: visible(s.reason, LONGEST_REASON) for s in without}
            probs = {r.length: found.predictions[label, task, r.length] for r in results}
            row = _row(identity)
            command = _command(row, task, [r.length for r in results], results[0].n_sequences, reference)
            card = found.cards.get((label, task))
            paths.append(_write(folder, row, results, probs, left_out, command, card, device, reference))
    return paths


def _command(row: RowIdentity, task: str, lengths: Sequence[int], n_sequences: int, reference: str | None) -> str:
    """What repeats a record."""
    arguments = ["--predictor", row.label, "--task", task, "--lengths", ",".join(map(str, sorted(lengths)))]
    arguments += ["--n-sequences", str(n_sequences), "--record"]
    return shlex.join(["mdbench", "evaluate", *arguments, *_given(reference)])


def _score_command(file: str, task: str, name: str, reference: str | None) -> str:
    """What scored the predictions in a file of that name."""
    arguments = ["--predictions", file, "--task", task, "--name", name, "--record"]
    return shlex.join(["mdbench", "score", *arguments, *_given(reference)])


def _given(reference: str | None) -> list[str]:
    return [] if reference is None else ["--reference", reference]


def check_recordable(
    tasks: Sequence[Task], lengths: int, n_sequences: int, seed: int, gold: str | None, predictors: Sequence[str] = ()
) -> None:
    """Raise :class:`InputError` unless records can be made of an evaluation like that, at so many lengths."""
    for text in predictors:
        if not is_built_in(text) and not is_path(text):
            check_name(text)
    if lengths > MOST_LENGTHS:
        raise InputError(f"a record has at most {MOST_LENGTHS} lengths, not {lengths}.")
    if gold not in (None, GOLD):
        raise InputError(f"records are measured against the gold '{GOLD}', not '{gold}'.")
    if seed != PUBLIC_SEED:
        raise InputError(f"records are on the public sequences, which are those of seed {PUBLIC_SEED}, not {seed}.")
    for task in tasks:
        _public(task.name, task.task_hash)
        if n_sequences > N_PUBLIC:
            raise InputError(f"there are {N_PUBLIC} public sequences, not {n_sequences}; record at most as many.")


def score_predictions(
    path: str | Path,
    task: Task,
    name: str,
    folder: str | Path | None,
    progress: Progress = no_progress,
    reference: str | None = None,
) -> tuple[list[Result], Path | None]:
    """Score predictions that were made elsewhere on the public sequences; with a ``folder``, make a record of them.

    ``path`` is an .npz with an array (N, q), or (R, N, q) for R training seeds, named ``T<length>`` for each length; or
    a .csv with the columns length, sequence (from 0), p0, .., p<q-1>. N are the first so many public sequences.

    Raises:
        InputError: the file is damaged, or what it holds are not predictions for this task.
    """
    check_name(name)
    if reference is not None:
        check_reference(reference)
    check_recordable([task], 1, 1, PUBLIC_SEED, GOLD)
    path = Path(path)
    if path.suffix not in (".npz", ".csv"):
        raise InputError(f"predictions are read from .npz or .csv, not from '{path}'.")
    arrays = _read_csv(path, task) if path.suffix == ".csv" else _read_npz(path)
    probs = {length: _checked(name, length, array, task) for length, array in arrays.items()}
    sizes = {array.shape[1] for array in probs.values()}
    if len(sizes) > 1:
        raise InputError(f"'{path}' has {' and '.join(map(str, sorted(sizes)))} sequences; give all lengths as many.")
    results = [
        cell.summarise(name, cell.score(probs[cell.length]))
        for cell in cells(task, list(probs), sizes.pop(), PUBLIC_SEED, GOLD, progress)
    ]
    if folder is None:
        return results, None
    row = RowIdentity(name=name, options={}, label=name, kind=PREDICTIONS, distribution=None, version=None)
    command = _score_command(path.name, task.name, name, reference)
    return results, _write(folder, row, results, probs, {}, command, None, "unknown", reference)


def _row(identity: Identity) -> RowIdentity:
    entry = identity.entry
    kind: Kind
    if entry.name in TOLD:
        kind = UPPER_BOUND
    elif "baseline" in entry.options and entry.name in BUILT_IN:
        kind = BASELINE
    else:
        kind = PREDICTOR if entry.name in BUILT_IN and entry.name != "run" else CONTRIBUTED
    return RowIdentity(
        name=entry.name,
        options=identity.options,
        label=identity.label,
        kind=kind,
        distribution=entry.distribution,
        version=entry.version,
    )


def _write(
    folder: str | Path,
    row: RowIdentity,
    results: Sequence[Result],
    probs: ByLength,
    left_out: dict[int, str],
    command: str,
    card: dict[str, Any] | None,
    device: str,
    reference: str | None,
) -> Path:
    results = sorted(results, key=lambda r: r.length)
    task = load_task(results[0].task)
    place = make_folder(Path(folder) / "records" / task.name)
    stem = file_stem(row.label)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"T{r.length}": probs[r.length] for r in results}
    np.savez_compressed(buffer, **arrays)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    predictions = place / f"{stem}-{digest[:8]}.npz"
    record = Record(
        schema_version=SCHEMA_VERSION,
        task=task.name,
        task_hash=task.task_hash,
        data_hash=public_sequences(task.name).data_hash,
        gold=GOLD,
        n_sequences=results[0].n_sequences,
        predictor=row,
        cells=tuple(_cell_record(r) for r in results),
        left_out=left_out,
        predictions=Predictions(file=predictions.name, sha256=digest),
        command=command,
        card=json_ready(card),
        reference=reference,
        host=_host({r.length: r.seconds for r in results if r.seconds is not None}, device),
    )
    write_whole(predictions, lambda temporary: temporary.write_bytes(content))
    path = place / f"{stem}.json"
    write_text(path, record.to_json() + "\n")
    for old in place.glob("*.npz"):
        if re.fullmatch(re.escape(stem) + r"-[0-9a-f]{8}\.npz", old.name) and old != predictions:
            old.unlink()
    return path


def _cell_record(result: Result) -> CellRecord:
    """Of the scores that everybody has: nobody else could check those of other packages."""
    scores = {name: result.scores[name] for name in SCORES}
    return CellRecord(
        length=result.length,
        scores={k: None if v is None else ScoreRecord(**vars(v)) for k, v in scores.items()},
        gold_error=result.gold_error,
        runs=result.runs,
    )


def file_stem(label: str) -> str:
    """A file name for any label, and for no other: the label itself where that is plain.

    Elsewhere it ends in a hash: ``+`` stands for a colon, and some disks take ``mine`` and ``MINE`` for one file.
    """
    if re.fullmatch(r"[a-z0-9_=,:-][a-z0-9_=,.:-]{0,79}", label):
        return label.replace(":", "+")
    readable = re.sub(r"^\.", "%2E", quote(label, safe="=,")).replace("%3A", "+")  # what begins with a dot is skipped
    return f"{readable[:80]}~{hashlib.sha256(label.encode()).hexdigest()[:12]}"


def _host(seconds: dict[int, float], device: str) -> Host:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    ours = git("ls-files", "--error-unmatch", Path(__file__).name) is not None  # not some repository around a venv
    changes = git("status", "--porcelain", "--untracked-files=no", ":/", ":!/leaderboard") if ours else None
    return Host(
        seconds=seconds,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device,
        platform=f"{platform.system()} {platform.machine()}",
        processors=n_cores(),
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
        commit=git("rev-parse", "HEAD") if ours else None,
        dirty=None if changes is None else changes != "",
    )


# ------------------------------------------------------------------------------------------------ reading records


def record_paths(folder: str | Path) -> list[Path]:
    """The records of a leaderboard; files that are still being written, or were left so, are none."""
    paths = (Path(folder) / "records").glob("*/*.json")
    return sorted(path for path in paths if not path.name.startswith("."))


def read_record(path: str | Path) -> tuple[Record, ByLength]:
    """A record and its probabilities.

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
    task = _task_of(record, path)
    _check_identity(record, path)
    file = path.parent / record.predictions.file
    if not _is_own_file(file):
        raise InputError(f"record '{path}': its predictions '{file.name}' are not a file beside it.")
    if file.stat().st_size > LARGEST:
        raise InputError(f"record '{path}': its predictions '{file.name}' are larger than {LARGEST} bytes.")
    if digest_of(file) != record.predictions.sha256:
        raise InputError(f"record '{path}': its predictions '{file.name}' are not those that it names (other SHA-256).")
    arrays = _read_npz(file)
    if sorted(arrays) != sorted(lengths):
        has = ", ".join(map(str, sorted(arrays)))
        raise InputError(f"record '{path}' has the lengths {', '.join(map(str, lengths))}, its predictions {has}.")
    probs = {length: _checked(record.predictor.label, length, array, task) for length, array in arrays.items()}
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


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, what: str, validate: Callable[[str], Model]) -> Model:
    """What a file holds, by ``validate``, which is pydantic's; ``what`` is what messages call it.

    Raises:
        InputError: it is no ordinary file, too large, no plain JSON, or not of that form.
    """
    shown = f"{what} '{path}'"
    if path.is_symlink():
        raise InputError(f"{shown} is a link; {what}s are files of their own.")
    if not path.is_file():
        raise InputError(f"{shown} is not an ordinary file.")
    try:
        if path.stat().st_size > LARGEST_RECORD:
            raise InputError(f"{shown} is larger than {LARGEST_RECORD} bytes.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}.") from None
    try:
        json.loads(text, object_pairs_hook=_each_once)  # pydantic would take the last of several
        return validate(text)
    except _KeyTwice as error:
        raise InputError(f"{shown}: the key '{error}' stands twice in one place of it.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{shown} is not JSON: {error}.") from None
    except RecursionError:
        raise InputError(f"{shown} is nested too deeply.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"{shown}: {where[:80]}: {first['msg'][:200]}{more}.") from None
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{shown} cannot be read: {str(error)[:200]}.") from None


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


class _KeyTwice(Exception):
    pass


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise _KeyTwice(name[:80])
        seen.add(name)


def _is_own_file(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink()
    except OSError:  # a name that cannot be
        return False


def _check_identity(record: Record, path: Path) -> None:
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
    if record.command != _command(row, record.task, lengths, record.n_sequences, record.reference):
        raise InputError(f"record '{path}': command: it is not the one that makes this record.")
    if row.name in predictor_entries() and row.name != "run":
        if row.label != row.name and not row.label.startswith(f"{row.name}:"):
            raise InputError(f"record '{path}': predictor.label: '{row.label}' is not one of '{row.name}'.")
        try:
            ours = row.name in BUILT_IN
            defaults = None if ours else _defaults(row.label, record.task)
            expected = _row(row_identity(row.label, defaults))
            if ours and expected.label != row.name:  # options: whether they are possible
                build_predictor(row.label, load_task(record.task))
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
    return record.command == _score_command(file, record.task, record.predictor.name, record.reference)


@functools.cache
def _defaults(label: str, task: str) -> dict[str, Any]:
    """Of the options of a predictor of another distribution, as it says in a process of its own."""
    isolated = Isolated(label, load_task(task))
    try:
        return isolated.defaults
    finally:
        isolated.close()


def _is_label(row: RowIdentity) -> bool:
    """Whether the label is the name with some of the options, as a row that is not installed here would have it."""
    if row.name == "run":
        return row.label == f"run:{row.options.get('path')}" and set(row.options) == {"path"}
    if is_path(row.name):
        return row.label == row.name and not row.options
    written = {f"{k}={v}" for k, v in row.options.items()}
    rest = row.label.removeprefix(row.name)
    items = rest[1:].split(",") if rest.startswith(":") else []
    return row.label == row.name + (":" if items else "") + ",".join(sorted(items)) and set(items) <= written


def _task_of(record: Record, path: Path) -> Task:
    """The task of a record, if it and its sequences are the ones known here."""
    try:
        public = _public(record.task, record.task_hash)
    except InputError as error:
        raise InputError(f"record '{path}': {error}") from None
    if public != record.data_hash:
        raise InputError(f"record '{path}': data_hash: its sequences are not the public ones of '{record.task}'.")
    return load_task(record.task)


def _public(name: str, task_hash: str) -> str:
    """The hash of a task's public sequences."""
    if name not in task_names():
        raise InputError(f"task '{name}' has no public sequences; these have: {', '.join(task_names())}.")
    if load_task(name).task_hash != task_hash:
        raise InputError(f"task_hash: this is another task than the built-in '{name}'.")
    return public_sequences(name).data_hash


def _read_npz(path: Path) -> dict[int, np.ndarray]:
    """Arrays named ``T<length>``, by length."""
    if not path.is_file():
        raise InputError(f"'{path}' is not an ordinary file.")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # whatever zip files can hold
        raise InputError(f"'{path}' is not a file of arrays (.npz): {reason_of(error)[:200]}") from None
    if not members:
        raise InputError(f"'{path}' holds no arrays; give one called T<length> for each length.")
    for member in members:  # before any of them is unpacked
        if not re.fullmatch(r"T[1-9][0-9]{0,6}\.npy", member.filename):
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
    return {int(name[1:]): array for name, array in named.items()}


def _read_csv(path: Path, task: Task) -> dict[int, np.ndarray]:
    wanted = ["length", "sequence", *(f"p{b}" for b in range(task.n_states))]
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"'{path}' cannot be read as CSV: {error}.") from None
    if list(frame.columns) != wanted:
        raise InputError(f"'{path}' must have the columns {','.join(wanted)}, not {','.join(map(str, frame.columns))}.")
    try:
        frame = frame.astype({"length": np.int64, "sequence": np.int64} | dict.fromkeys(wanted[2:], np.float64))
    except ValueError as error:
        raise InputError(f"'{path}': {error}.") from None
    arrays = {}
    for length, rows in frame.groupby("length"):
        if sorted(rows["sequence"]) != list(range(len(rows))):
            raise InputError(f"'{path}': at length {length} the sequences must be 0, 1, .., each once.")
        arrays[int(length)] = rows.sort_values("sequence")[wanted[2:]].to_numpy()
    return arrays


def _checked(name: str, length: int, array: np.ndarray, task: Task) -> Float[np.ndarray, "R N q"]:
    """As probabilities of the public sequences; rows are divided by their sum."""
    where = f"the predictions of '{name}' for T = {length}"
    public = public_sequences(task.name).tokens
    task.check_length(length)
    if length >= public.shape[1]:
        raise InputError(f"the public sequences of '{task.name}' go up to T = {public.shape[1] - 1}, not {length}.")
    array = array[None] if array.ndim == 2 else array
    if array.ndim == 3 and array.shape[0] > MOST_RUNS:
        raise InputError(f"{where} are of {array.shape[0]} training seeds; a record has at most {MOST_RUNS}.")
    if array.ndim != 3 or array.shape[2] != task.n_states or not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"{where} must be floats of shape (N, {task.n_states}) or (R, N, {task.n_states}), "
            f"not {array.dtype} of shape {array.shape}."
        )
    if not array.shape[0] or not 1 <= array.shape[1] <= len(public):
        raise InputError(f"{where} are for {array.shape[1]} sequences; there are {len(public)}.")
    try:
        return np.stack([check_output(name, run, run.shape) for run in array])
    except RuntimeError as error:
        raise InputError(f"T = {length}: {error}") from None


# ---------------------------------------------------------------------------------------------------------- verify


@dataclass(frozen=True)
class Rerun:
    """A published score and that of the same predictor on fresh sequences, at one length.

    ``p`` is that of the z-test, corrected for the number of tests (Holm); None where there are no standard errors.
    """

    length: int
    score: str
    published: float
    fresh: float
    z: float | None
    p: float | None

    @property
    def compatible(self) -> bool:
        """Whether chance may be all there is between them."""
        return self.published == self.fresh if self.p is None else self.p >= LEVEL

    def __str__(self) -> str:
        p = "" if self.p is None else f" (p: {p_text(self.p)})"
        both = f"{self.published:.4g} published, {self.fresh:.4g} on fresh sequences"
        return f"T = {self.length}: {title(self.score)} {both}{p}."

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return json_ready(asdict(self) | {"compatible": self.compatible})


class CannotRerun(InputError):
    """A record of something that nobody can run again, which is no fault of the record."""


def is_told(record: Record) -> bool:
    """Whether its predictions were made by knowing λ."""
    return record.predictor.kind == UPPER_BOUND


def check_runnable(record: Record, files: bool) -> None:
    """Raise :class:`CannotRerun` for what is not to be run here; ``files``: what is a path may be."""
    label = record.predictor.label
    if is_told(record):
        raise CannotRerun(f"'{label}' is told θ and has no excess KL to repeat.")
    if record.predictor.kind == PREDICTIONS:
        raise CannotRerun(f"'{label}' was predicted elsewhere and cannot be run here.")
    if is_path(record.predictor.name) and not files:
        raise CannotRerun(f"'{label}' is a file or folder of somebody else's machine; --run-files runs what is there.")


def runs_isolated(record: Record) -> bool:
    """Whether its predictor, which is not ours, runs in a process of its own."""
    return record.predictor.kind == CONTRIBUTED


def score_record(record: Record, probs: ByLength, of_task: Sequence[Cell]) -> dict[int, Scores]:
    """Scores of its probabilities, by length."""
    return {cell.length: cell.score(probs[cell.length], is_told(record)) for cell in of_task}


def differences(record: Record, scores: Mapping[int, Scores], of_task: Sequence[Cell]) -> Iterator[str]:
    """What a record says and its probabilities do not, a sentence each; ``scores`` as :func:`score_record` has them.

    Numbers agree within 1e-9 relative or, for excess KL, within the gold's error. The gold's error itself is an
    estimate of the size of rounding, and another machine's may differ: it agrees within a factor of 100.
    """
    by_length = {cell.length: cell for cell in of_task}
    for said in record.cells:
        cell = by_length[said.length]
        scored = cell.summarise(record.predictor.label, scores[said.length])
        for name, a, b in _pairs(said, scored):
            slack = RESOLUTION
            if "excess" in name or name == "runs":
                slack = max(slack, scored.gold_error or 0.0)
            if name == "gold_error" and a and b and math.isfinite(a) and math.isfinite(b):
                agree = 1 / GOLD_ERROR_FACTOR <= a / b <= GOLD_ERROR_FACTOR
            else:
                agree = _agree(a, b, slack)
            if not agree:
                yield f"T = {said.length}: {name} is {_shown(a)} in the record, {_shown(b)} by its probabilities."


def _pairs(said: CellRecord, scored: Result) -> Iterator[tuple[str, Any, Any]]:
    """What a record says of a cell and what its probabilities give, by the names of ``mdbench evaluate --json``."""
    computed = scored.to_dict()
    for name, score in said.scores.items():
        for part, suffix in (("mean", ""), ("se", "_se"), ("interval", "_ci")):
            if score is None or part in score.model_fields_set:
                yield f"{name}{suffix}", getattr(score, part, None), computed[f"{name}{suffix}"]
    for name in ("gold_error", "runs"):
        yield name, getattr(said, name), computed[name]


def verify(path: str | Path, progress: Progress = no_progress, in_place: bool = False) -> list[str]:
    """Score a record's probabilities again, with the gold computed here; the differences, none if it holds.

    Raises:
        InputError: as :func:`read_record`; or, where it is to be ``in_place``, as :func:`check_place`.
    """
    record, probs = read_record(path)
    if in_place:
        check_place(record, Path(path))
    of_task = cells_of(record, progress)
    return list(differences(record, score_record(record, probs, of_task), of_task))


def cells_of(record: Record, progress: Progress) -> list[Cell]:
    """The cells that a record is scored in."""
    return public_cells(record.task, tuple(cell.length for cell in record.cells), record.n_sequences, progress)


@functools.lru_cache(maxsize=16)
def public_cells(task: str, lengths: tuple[int, ...], n_sequences: int, progress: Progress) -> list[Cell]:
    """The first so many public sequences of a built-in task at these lengths, with their gold.

    It is computed here and not taken from the cache folder, which whatever runs on this machine can write.
    """
    return list(cells(load_task(task), lengths, n_sequences, PUBLIC_SEED, GOLD, progress, Store(())))


def rerun(
    path: str | Path,
    seed: int,
    device: str = "cpu",
    limits: Limits | None = None,
    progress: Progress = no_progress,
    n_sequences: int = RERUN_SEQUENCES,
    files: bool = False,
) -> list[Rerun]:
    """Run a record's predictor on fresh sequences: a predictor that memorised the public ones is caught.

    Held against the scores that the record's probabilities give, not against what it says. What is not built in runs in
    a process of its own, within limits; what is a path runs only where ``files`` asks for it.

    Raises:
        InputError: as :func:`read_record`; or the predictor is not here.
        CannotRerun: it was told θ, or predicted elsewhere.
        PredictorError: it fails on fresh sequences.
    """
    limits = limits or Limits()
    record, probs = read_record(path)
    label = record.predictor.label
    if seed == PUBLIC_SEED:
        raise InputError(f"seed {seed} gives the public sequences; give another for fresh ones.")
    check_runnable(record, files)
    of_task = cells_of(record, progress)
    scores = score_record(record, probs, of_task)
    for fault in differences(record, scores, of_task):
        raise InputError(f"it does not hold: {fault}")
    found = evaluate(
        label,
        task=record.task,
        lengths=[cell.length for cell in record.cells],
        n_sequences=n_sequences,
        seed=seed,
        device=device,
        references=(),
        scores=SCORES,  # others are code of other packages, which would run here
        isolate=limits if runs_isolated(record) else None,
        cache="none",
        progress=progress,
    )
    if found.failed or found.skipped:
        raise PredictorError((found.failed or found.skipped)[0].reason)
    tests = []
    for result in found.results:
        fresh = found.per_sequence[found.per_sequence["length"] == result.length]
        said, gold_error = scores[result.length], (scores[result.length].gold_error or 0.0) + (result.gold_error or 0.0)
        published = said.frame()
        for name in TESTED:
            z = _z(mean_interval(published[name].to_numpy()), mean_interval(fresh[name].to_numpy()), gold_error)
            tests.append((result.length, name, float(published[name].mean()), float(fresh[name].mean()), z))
    corrected = iter(holm([float(2 * stats.norm.sf(abs(z))) for *_, z in tests if z is not None]))
    return [Rerun(*test, p=None if test[-1] is None else next(corrected)) for test in tests]


def _z(said: MeanInterval, fresh: MeanInterval, gold_error: float) -> float | None:
    """Of the difference between two independent means; None where one has no standard error."""
    if said.se is None or fresh.se is None:
        return None
    difference, se = fresh.mean - said.mean, math.hypot(said.se, fresh.se)
    if abs(difference) <= gold_error:
        return 0.0
    return difference / se if se > 0 else math.copysign(math.inf, difference)


def _agree(a: Any, b: Any, slack: float) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_agree(x, y, slack) for x, y in zip(a, b, strict=True))
    if not (math.isfinite(a) and math.isfinite(b)):  # nothing infinite equals a number, or another infinity
        return a == b
    return abs(a - b) <= max(TOLERANCE * max(abs(a), abs(b)), slack)


def _shown(value: Any) -> str:
    return "nothing" if value is None else " .. ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
