"""What the keeper of a board writes beside the records, by their SHA-256: one file of marks, one of times."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field

from mdbench.board.files import Strict, digest_of, read_json, record_paths
from mdbench.board.record import LONGEST_LABEL, Record
from mdbench.board.verification import CannotRerun, check_runnable
from mdbench.core.errors import InputError
from mdbench.core.files import write_text

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

KeptEntry = TypeVar("KeptEntry", bound="Kept")

Natural = Annotated[int, Field(ge=0, lt=2**63)]


class Kept(Strict):
    """What is kept of one record; ``task`` and ``label`` are for people who read the file."""

    model_config = ConfigDict(strict=True)

    task: Annotated[str, Field(max_length=LONGEST_LABEL)]
    label: Annotated[str, Field(max_length=LONGEST_LABEL)]

    def check(self, record: Record) -> None:
        """Raise :class:`InputError` unless it can be of this record, which has its SHA-256."""
        if (self.task, self.label) != (record.task, record.predictor.label):
            raise self._wrong(record, "it names another one")
        try:
            check_runnable(record, files=True)
        except CannotRerun as error:
            raise self._wrong(record, str(error).rstrip(".")) from None

    def _wrong(self, record: Record, why: str) -> InputError:
        of = f"'{record.predictor.label}' on {record.task}"
        return InputError(f"what is kept beside the records of the record of {of} is not of that: {why}.")


def read_kept(path: Path, validate: Callable[[str], dict[str, KeptEntry]]) -> dict[str, KeptEntry]:
    """What is kept in such a file, by pydantic's ``validate``; nothing where there is none.

    Raises:
        InputError: it is damaged.
    """
    if not path.exists() and not path.is_symlink():
        return {}
    return read_json(path, "file", validate)


def write_kept(folder: str | Path, name: str, entries: Mapping[str, Kept]) -> None:
    """An entry a line, ordered for people; those of records that are gone are dropped."""
    there = {digest_of(path) for path in record_paths(folder) if path.is_file()}
    kept = sorted((e.task, e.label, digest, e) for digest, e in entries.items() if digest in there)
    lines = [
        f'"{digest}": {json.dumps(e.model_dump(mode="json"), ensure_ascii=False, allow_nan=False)}'
        for *_, digest, e in kept
    ]
    write_text(Path(folder) / name, "{\n" + ",\n".join(lines) + "\n}\n")
