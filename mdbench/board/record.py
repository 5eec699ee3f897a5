"""Records: what a predictor scored on the public sequences of a task, with all that is needed to judge and repeat it.

A record is ``<folder>/records/<task>/<row>.json`` and, beside it, the probabilities that were scored
(``<row>-<hash>.npz``, (R, N, q) for each length T as ``T<length>``, R training seeds), so that anyone can score them
again without running the predictor. The probabilities are written first and under the name of their content, so the
JSON, which is moved into place, always names a whole file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from mdbench.board.files import Strict
from mdbench.board.names import LONGEST_NAME, check_reference
from mdbench.core.errors import InputError
from mdbench.core.files import json_ready
from mdbench.evaluation.isolation import Isolation
from mdbench.predictors.catalogue import BUILT_IN, TOLD, Identity
from mdbench.predictors.predictor import MOST_RUNS
from mdbench.tasks import Recorded, Task, load_task, task_names
from mdbench.tasks.sequences import Sequences, public_of
from mdbench.tasks.task import LONGEST

SCHEMA_VERSION: Literal[2] = 2

GOLD: Literal["exact"] = "exact"

RECORDED = ("kl", "excess_kl", "cross_entropy", "nll")  # scores of a record, which everybody can check
LONGEST_LABEL = 600

LONGEST_REASON = 2000  # for a length that is left out

MOST_OPTIONS = 50

LARGEST_CARD = 2**16  # characters

MOST_LENGTHS = 16

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
    """Scores at one length, by name; meaning as in `mdbench evaluate --json`."""

    length: int
    scores: Annotated[dict[ShortText, ScoreRecord | None], Field(max_length=100)]
    gold_error: Number | None
    runs: Annotated[tuple[Number, ...], Field(max_length=MOST_RUNS)] | None

    def mean(self, score: str) -> float | None:
        """Of a score; None where it is not defined, or not in the record."""
        score_of = self.scores.get(score)
        return None if score_of is None else score_of.mean

    @property
    def excess_kl(self) -> float | None:
        """What rows are ranked by, where there is a gold."""
        return self.mean("excess_kl")


class Predictions(Strict):
    """The file of probabilities beside the record, and its SHA-256."""

    file: str = Field(pattern=r"^[^/\\\x00]+\.npz$", max_length=255)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Host(Strict):
    """Times and facts of the machine: all that may differ when a run is repeated.

    ``seconds`` are the wall time of one run of all predictions, by length. ``isolation`` says whether the predictor had
    a sandbox (by bubblewrap) or a process of its own alone; it is not there for what ran in mdbench's own process.
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
    isolation: Isolation | None = None


class Record(Strict):
    """One predictor on the public sequences of one task.

    ``task_hash`` and ``data_hash`` say which task and which sequences; ``n_sequences`` are the first so many of them.
    Of recorded sequences there is no ``gold``, and ``n_sequences`` are all test tokens.
    ``left_out`` gives for the lengths that the predictor cannot serve the reason. ``card`` is what the predictor says
    of itself (a trained one: of its training), and ``reference`` what its author says to read: a paper, a DOI.

    Version 1, which is read for ever, had four scores as fields of a cell (:func:`_of_version_1`).
    """

    schema_version: Literal[1, 2]
    task: ShortText
    task_hash: ShortText
    data_hash: ShortText
    gold: Literal["exact"] | None
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
    def _has_all_scores(self) -> Record:
        for cell in self.cells:
            if set(cell.scores) != set(RECORDED):
                raise ValueError(f"at T = {cell.length} the scores must be {', '.join(RECORDED)}")
            whole = all(s.model_fields_set == set(ScoreRecord.model_fields) for s in cell.scores.values() if s)
            if self.schema_version == 2 and not whole:
                raise ValueError(f"at T = {cell.length} each score has mean, se and interval")
        return self

    def to_json(self) -> str:
        """As it is written: the same but for ``host`` whenever the run is repeated on the same machine."""
        # Records of before had no such fields.
        without: Any = {"reference": self.reference is None, "host": {"isolation": self.host.isolation is None}}
        content = json_ready(self.model_dump(mode="json", exclude=without))
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def json_schema() -> str:
    """The published JSON schema of a record."""
    return json.dumps(Record.model_json_schema(mode="serialization"), indent=1)


def command_of(row: RowIdentity, task: str, lengths: Sequence[int], n_sequences: int, reference: str | None) -> str:
    """What repeats a record."""
    arguments = ["--predictor", row.label, "--task", task_text(task), "--lengths", ",".join(map(str, sorted(lengths)))]
    arguments += ["--n-sequences", str(n_sequences), "--record"]
    return shlex.join(["mdbench", "evaluate", *arguments, *_given(reference)])


def score_command(file: str, task: str, name: str, reference: str | None) -> str:
    """What scored the predictions in a file of that name."""
    arguments = ["--predictions", file, "--task", task_text(task), "--name", name, "--record"]
    return shlex.join(["mdbench", "score", *arguments, *_given(reference)])


def task_text(name: str) -> str:
    """What names a task in a command: a built-in name, or the file in the folder that `mdbench task from-data` made."""
    return name if name in task_names() else f"{name}/task.toml"


def _given(reference: str | None) -> list[str]:
    return [] if reference is None else ["--reference", reference]


def row_of(identity: Identity) -> RowIdentity:
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


def file_stem(label: str) -> str:
    """A file name for any label, and for no other: the label itself where that is plain.

    Elsewhere it ends in a hash: ``+`` stands for a colon, and some disks take ``mine`` and ``MINE`` for one file.
    """
    if re.fullmatch(r"[a-z0-9_=,:-][a-z0-9_=,.:-]{0,79}", label):
        return label.replace(":", "+")
    readable = re.sub(r"^\.", "%2E", quote(label, safe="=,")).replace("%3A", "+")  # what begins with a dot is skipped
    return f"{readable[:80]}~{hashlib.sha256(label.encode()).hexdigest()[:12]}"


def known_task(name: str, task_hash: str, own: Task | None = None) -> Task:
    """The task of a record: the built-in one, or a person's ``own`` of recorded sequences, if it has that name.

    Raises:
        InputError: there is none, or it is another one.
    """
    if name in task_names():
        task = load_task(name)
        which = f"the built-in '{name}'"
    elif isinstance(own, Recorded):
        if own.name != name:
            raise InputError(f"task: the record is of '{name}', and the task file that was given is of '{own.name}'.")
        task, which = own, "the one that was given: the sequences or the fit differ"
    else:
        raise InputError(
            f"'{name}' is no built-in task, so it has no public sequences. A record of recorded sequences of your own "
            "is verified with its task file: mdbench verify RECORD --task FOLDER/task.toml. Boards rank built-in ones: "
            f"{', '.join(task_names())}."
        )
    if task.task_hash != task_hash:
        raise InputError(f"task_hash: this is another task than {which}.")
    return task


def data_of(task: Task) -> Sequences:
    """The sequences that a record of a task is on."""
    sequences = public_of(task)
    assert sequences is not None, "a known task has them"
    return sequences
