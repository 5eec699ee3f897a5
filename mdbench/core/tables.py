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
COMMENT = " "  # stands for a line of one: blank, but not empty
_NO_COMMENT = r"(?:N/A|NV|NA|NULL!|VALUE!|REF!|NUM!|NAME\?|DIV/0!)"
NUMBER = re.compile(r"[+-]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)
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
    text = _without_brackets(_as_program_writes(text))
    numbered = [(k, _without_comment(line)) for k, line in enumerate(text.split("\n"), start=1)]
    while numbered and not numbered[-1][1].strip():
        numbered.pop()
    lines = [line for _, line in numbered if line.strip()]
    if not lines:
        raise InputError(f"{source} is empty.")
    beginning = next((line.strip() for line in lines if not line.lstrip().startswith(";")), "")
    if re.match(r">(?!=)", beginning) and not all(line.lstrip().startswith(">") for line in lines):
        return _fasta([(k, line) for k, line in numbered if line.strip()], source)
    told = re.fullmatch(r"sep=(.)", lines[0].strip())  # as Excel says it
    separator = _separator(lines)
    if told:
        numbered = [(k, line) for k, line in numbered if line.strip() != lines[0].strip()]
        separator = next((name for name, s in SEPARATORS.items() if s == told[1]), separator)
    if separator is None:  # in a column alone an empty line is an empty cell
        started = next(k for k, (_, line) in enumerate(numbered) if line.strip())
        numbered = [pair for pair in numbered[started:] if pair[1] != COMMENT]
        return Table(source, [[_unquoted(line)] for _, line in numbered], [k for k, _ in numbered], None)
    numbered = [(k, line) for k, line in numbered if line.strip()]
    lines = [line for _, line in numbered]
    delimiter = SEPARATORS[separator]
    reader = csv.reader((line.strip(" ") for line in lines), delimiter=delimiter, skipinitialspace=True)
    rows, at = [], []
    limit = csv.field_size_limit(LARGEST)  # of the process, whose others may want theirs
    try:
        for row in reader:
            rows.append([cell.strip() for cell in row])
            at.append(numbered[reader.line_num - 1][0])
    except csv.Error as error:
        line = numbered[min(reader.line_num, len(numbered)) - 1][0]
        raise InputError(f"{source}, line {line}: it is no row of a table: {error}.") from None
    finally:
        csv.field_size_limit(limit)
    return Table(source, rows, at, separator)


def _read_text(path: str | Path, source: str) -> str:
    if str(path) == "-" and sys.stdin is None:
        raise InputError("standard input is closed; name a file.")
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
    return re.sub(r"\r*\n|\r", "\n", text)


def _without_comment(line: str) -> str:
    """A line of a comment alone becomes ``COMMENT``; Excel's #N/A is none."""
    if re.match(rf"\s*#(?!{_NO_COMMENT})", line):
        return COMMENT
    quotes, at = line.count('"'), 0
    for sign in re.finditer(rf"\s#(?!{_NO_COMMENT})", line):
        quotes, at = quotes - line.count('"', at, sign.start()), sign.start()
        if quotes % 2 == 0:  # as many open as close after it
            return line[:at]
    return line


def _separator(lines: list[str]) -> str | None:
    """What stands between cells, outside quotes; None where a line is one cell."""
    bare = [re.sub(r'"[^"]*"', '""', line.strip()) for line in lines]
    if all(re.fullmatch(r"[+-]?\d+,\d+( +[+-]?\d+,\d+)+", line) for line in bare):
        return "blanks"  # between decimal commas
    return next((name for name, s in SEPARATORS.items() if any(s in line for line in bare)), None)


def _unquoted(line: str) -> str:
    cell = line.strip()
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _as_program_writes(text: str) -> str:
    """R's vectors and c(..), numpy's array(..), Matlab's [.. ; ..], {{..}, {..}}, Markdown's tables, without that."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    whole = " ".join(lines)
    if lines and all(re.match(r"\[\d+\] |Levels:", line) for line in lines) and lines[0].startswith("[1]"):
        return " ".join(re.sub(r"^\[\d+\] ", "", line) for line in lines if not line.startswith("Levels:"))
    if lines and all(len(line) > 1 and line[0] == line[-1] == "|" for line in lines):
        rows = [line for line in lines if re.search(r"[^\s|:+-]", line)]  # and no rule
        return "\n".join("\t".join(cell.strip() for cell in line[1:-1].split("|")) for line in rows)
    if wrapped := re.fullmatch(r"(?:np\.|numpy\.)?(?:array|matrix)\((.*?)(?:, *dtype=[\w.]+)?,?\)", whole):
        return wrapped[1]
    if re.fullmatch(r"\{\s*\{[^:\"]*\}\s*\}", whole):
        return whole.translate(str.maketrans("{}", "[]"))
    if (matlab := re.fullmatch(r"\[([^\[\]]*;[^\[\]]*)\];?", whole)) and not re.search(r"\d,\d", matlab[1]):
        return "\n".join(row.strip() for row in matlab[1].split(";"))
    if lines and all(re.fullmatch(r"c?\([^()]*\)", line) for line in lines):
        return "\n".join(line[line.index("(") + 1 : -1] for line in lines)
    return text


def _without_brackets(text: str) -> str:
    """Rows in brackets, as JSON and numpy write them, one a line; R's row names [1,] become numbers."""
    if text.lstrip()[:1] != "[":
        return text
    if re.search(r"\[\d+,\]", text):
        text = re.sub(r"\[,?(\d+),?\]", r"\1", text)
    rows = re.findall(r"\[([^\[\]]*)\]", text)
    if re.sub(r"\[[^\[\]]*\]|[\s,\[\]]", "", text):
        return text
    return "\n".join(" ".join(re.sub(r"'([^']*)'", r'"\1"', row).split()) for row in rows)


def _fasta(numbered: list[tuple[int, str]], source: str) -> Table:
    names: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for k, line in numbered:
        if line.lstrip().startswith(";"):
            continue  # a comment
        if line.lstrip().startswith(">"):
            names.append(line.strip()[1:].strip() or str(len(names) + 1))
            rows.append([])
            lines.append(k)
        else:
            rows[-1] += _letters(line)
    return Table(source, rows, lines, None, names)


def _letters(line: str) -> list[str]:
    """Without blanks, and without the position numbers that stand beside letters."""
    digits = not any(map(str.isalpha, line))
    if digits and len(words := line.split()) > 1 and any(len(word) > 1 for word in words):
        return words  # 10 1 2 0: numbers
    return [letter for letter in line if not letter.isspace() and (digits or not letter.isdigit())]


def number_in(cell: str, decimal_comma: bool) -> float | None:
    """A number, a percentage or a fraction; None if it is neither."""
    text = cell.replace(",", ".") if decimal_comma and cell.count(",") == 1 and "." not in cell else cell
    if NUMBER.fullmatch(text):
        return float(text)
    if text.endswith("%") and NUMBER.fullmatch(part := text[:-1].strip()):
        return float(part) / 100
    above, _, below = map(str.strip, text.partition("/"))
    if NUMBER.fullmatch(above) and NUMBER.fullmatch(below) and float(below):
        return float(above) / float(below)
    return None
