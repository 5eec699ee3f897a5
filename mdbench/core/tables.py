"""Text as people have it, to rows of cells: any separator, quotes, comments, encodings; FASTA."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from mdbench.core.errors import InputError, shown

LARGEST = 2**28  # bytes
SEPARATORS = {"tabs": "\t", "semicolons": ";", "commas": ",", "blanks": " "}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")


@dataclass(frozen=True)
class Table:
    """Rows of cells, without blanks and quotes around them.

    Attributes:
        source: what messages call it.
        rows: the cells of each row.
        lines: the line in which each row ends.
        separator: a name of ``SEPARATORS``; None where every row is one cell.
        names: of the records, for FASTA, whose rows are their letters.
    """

    source: str
    rows: list[list[str]]
    lines: list[int]
    separator: str | None
    names: list[str] | None = None

    def refusal(self, row: int, what: str) -> InputError:
        """An error about one row."""
        return InputError(f"{self.source}, line {self.lines[row]}: {what}")


def read_table(path: str | Path) -> Table:
    """The table in a file, or on standard input for ``-``.

    Raises:
        InputError: it cannot be read, is too large, no text, or empty.
    """
    source = "standard input" if str(path) == "-" else f"'{shown(path)[1:-1]}'"
    return parse_table(_read_text(path, source), source)


def parse_table(text: str, source: str) -> Table:
    """The table in a text; ``source`` is what messages call it."""
    bad = _UNPRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise InputError(
            f"{source}, line {line}: it has the character {bad[0]!a}, which no table has; save it as text."
        )
    numbered = [(k, _without_comment(line)) for k, line in enumerate(text.split("\n"), start=1)]
    numbered = [(k, line) for k, line in numbered if line.strip()]
    if not numbered:
        raise InputError(f"{source} is empty.")
    if numbered[0][1].lstrip().startswith(">"):
        return _fasta(numbered, source)
    lines = [line for _, line in numbered]
    separator = next((name for name, s in SEPARATORS.items() if any(s in line.strip() for line in lines)), None)
    delimiter = SEPARATORS[separator] if separator else ","
    reader = csv.reader((line.strip(" ") for line in lines), delimiter=delimiter, skipinitialspace=True)
    rows, at = [], []
    try:
        for row in reader:
            rows.append([cell.strip() for cell in row])
            at.append(numbered[reader.line_num - 1][0])
    except csv.Error as error:
        line = numbered[min(reader.line_num, len(numbered)) - 1][0]
        raise InputError(f"{source}, line {line}: it is no row of a table: {error}.") from None
    return Table(source, rows, at, separator)


def _read_text(path: str | Path, source: str) -> str:
    try:
        if str(path) == "-":
            content = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that cannot be a path"
        raise InputError(f"{source} cannot be read: {reason}.") from None
    if len(content) > LARGEST:
        raise InputError(f"{source} is larger than {LARGEST} bytes.")
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        raise InputError(f"{source} cannot be read: it is not UTF-8 text; save it as that.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _without_comment(line: str) -> str:
    return "" if line.lstrip().startswith("#") else re.split(r"\s#", line, maxsplit=1)[0]


def _fasta(numbered: list[tuple[int, str]], source: str) -> Table:
    names: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for k, line in numbered:
        if line.lstrip().startswith(">"):
            names.append(line.strip()[1:].strip() or str(len(names) + 1))
            rows.append([])
            lines.append(k)
        else:
            rows[-1] += [letter for letter in line if not letter.isspace()]
    return Table(source, rows, lines, None, names)
