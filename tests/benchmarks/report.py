"""A run of the benchmarks: where it was, what it is to the stored one, and how it is shown."""

from __future__ import annotations

import platform
import re
import subprocess
import textwrap
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from measuring import Row
from pydantic import TypeAdapter, ValidationError
from scipy import stats
from tables import filled

from mdbench.core.device import n_cores
from mdbench.core.errors import InputError, shown
from mdbench.core.files import json_ready, write_text
from mdbench.core.statistics import holm
from mdbench.core.wording import p_text

ROOT = Path(__file__).parents[2]
STORED = Path(__file__).with_name("bench.json")
PAGE = ROOT / "docs" / "performance.md"

LIBRARIES = ("numpy", "scipy", "jax", "jaxlib", "numpyro", "numba", "torch")

LEVEL = 0.05  # at which something has changed, all rows of a run together (Holm)
# A change below a tenth (of an exponent: 0.1) is noise whatever the test says: rounds of one run share a process, its
# memory and the machine's mood, so that two runs differ by more than rounds do.
LEAST_CHANGE = 0.1
BUSY = 0.1  # share of the cores that others may take


@dataclass(frozen=True)
class Machine:
    """What speed depends on; no name of a host."""

    processor: str
    cores: int
    memory_gib: int
    system: str

    @property
    def kind(self) -> tuple[str, int]:
        """What must be the same for figures to be compared."""
        return self.processor, self.cores

    def __str__(self) -> str:
        return f"{self.processor}, {self.cores} cores, {self.memory_gib} GiB, {self.system}"


@dataclass(frozen=True)
class Run:
    """What one call measured.

    Attributes:
        date: in UTC.
        revision: of git.
        machine: where.
        versions: of Python and of the libraries that compute.
        busy: share of the cores that others took just before.
        seconds: that it took.
        rows: by benchmark.
    """

    date: str
    revision: str
    machine: Machine
    versions: dict[str, str]
    busy: float
    seconds: float
    rows: dict[str, list[Row]]

    @property
    def by_figure(self) -> dict[str, Row]:
        """All rows by what they measure."""
        return {row.figure: row for rows in self.rows.values() for row in rows}


@dataclass(frozen=True)
class Change:
    """A row against the stored one of the same figure.

    Attributes:
        before: its value.
        p: of the Mann-Whitney test on the rounds of both, corrected for the number of rows (Holm).
        changed: by at least ``LEAST_CHANGE``, and p is below ``LEVEL``.
    """

    before: float
    p: float
    changed: bool

    @property
    def verdict(self) -> str:
        """In a word."""
        return "changed" if self.changed else "noise"


def this_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        _processor(),
        n_cores(),
        round(psutil.virtual_memory().total / 2**30),
        f"{platform.system()} {platform.machine()}",
    )


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return platform.processor() or "unknown processor"
    found = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", text.partition("\n\n")[0], re.MULTILINE))
    if "model name" not in found:
        return platform.machine()
    return f"{found['model name']} (family {found.get('cpu family')}, model {found.get('model')})"


def share_taken() -> float:
    """The share of the cores that others take, over a second in which this process waits."""
    return psutil.cpu_percent(interval=1.0) / 100


def run_of(rows: dict[str, list[Row]], busy: float, seconds: float) -> Run:
    """The rows with where, when and of what they are."""
    git = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    return Run(
        datetime.now(UTC).isoformat(timespec="seconds"),
        done.stdout.strip() if done.returncode == 0 else "unknown",
        this_machine(),
        {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        round(busy, 3),
        round(seconds, 1),
        rows,
    )


def read_run(path: Path) -> Run:
    """The run that is stored there.

    Raises:
        InputError: it is no run.
    """
    try:
        return TypeAdapter(Run).validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole"
        raise InputError(
            f"{shown(path)} is no stored run of the benchmarks ({where}: {error.errors()[0]['msg']}); restore it with "
            "git, or give --write to replace it."
        ) from None


def to_json(run: Run) -> str:
    """As it is stored."""
    return TypeAdapter(Run).dump_json(run, indent=1).decode() + "\n"


def changes(before: Run, now: Run) -> dict[str, Change]:
    """What became of each figure that both have.

    Raises:
        InputError: they are of different machines.
    """
    if before.machine.kind != now.machine.kind:
        raise InputError(
            f"the stored run is of another machine ({before.machine}) than this one ({now.machine}), so nothing is "
            "compared; --write stores this one in its place."
        )
    pairs = {name: (before.by_figure[name], row) for name, row in now.by_figure.items() if name in before.by_figure}
    p_values = [stats.mannwhitneyu(old.repeats, new.repeats).pvalue for old, new in pairs.values()]
    return {
        name: Change(old.value, p, p < LEVEL and _distance(old, new) >= LEAST_CHANGE)
        for (name, (old, new)), p in zip(pairs.items(), holm(p_values), strict=True)
    }


def _distance(old: Row, new: Row) -> float:
    """Of exponents the difference, of ratios and factors that of the larger from the smaller, as a share of it."""
    if new.unit == "exponent":
        return abs(new.value - old.value)
    return max(new.value, old.value) / min(new.value, old.value) - 1


def table(run: Run, against: dict[str, Change] | None = None) -> str:
    """As Markdown: what stands on the page, and beside it what has changed."""
    headings = ["figure", "value", "95% interval", "goal"]
    rows = [
        [row.figure, number(row), f"{_short(row.low)} .. {_short(row.high)}", goal(row)]
        for rows in run.rows.values()
        for row in rows
    ]
    if against is not None:
        headings += ["stored", "p", "against it"]
        for cells, figure in zip(rows, run.by_figure, strict=True):
            change = against.get(figure)
            cells += [_short(change.before), p_text(change.p), change.verdict] if change else ["", "", "new"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows))


def number(row: Row) -> str:
    """The value, as what it is."""
    return {"ratio": "{}", "exponent": "power {}", "factor": "× {}"}[row.unit].format(_short(row.value))


def goal(row: Row) -> str:
    """The goal and whether it is met: by the whole interval, by none of it, or by a part (open)."""
    if row.at_least is not None:
        text, met = f"at least {_short(row.at_least)}", (row.low >= row.at_least, row.high >= row.at_least)
    elif row.at_most is not None:
        text, met = f"at most {_short(row.at_most)}", (row.high <= row.at_most, row.low <= row.at_most)
    else:
        return ""
    return f"{text}: {'met' if met[0] else 'open' if met[1] else 'missed'}"


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def about(run: Run) -> str:
    """A sentence on where and when."""
    versions = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    where = f"{run.date[:10]}, revision {run.revision}, {run.seconds:.0f} s; {run.machine}; {versions}."
    if run.busy <= BUSY:
        return where
    return f"{where} {busy_sentence(run.busy)}"


def busy_sentence(busy: float) -> str:
    """What a run is worth that was not alone."""
    return f"Others took {busy:.0%} of the cores just before, so these are not the figures of an idle machine."


def on_page(page: str, run: Run) -> str:
    """The page with the table of that run in its place."""
    shown_there = f"{table(run)}\n\n{textwrap.fill(about(run), 120, break_on_hyphens=False)}"
    return filled(page, "bench", shown_there)


def write_page(run: Run) -> None:
    """Put the table of that run on the page."""
    write_text(PAGE, on_page(PAGE.read_text(encoding="utf-8"), run))


def as_json(run: Run, against: dict[str, Change] | None) -> dict[str, Any]:
    """What --json prints: the run, and what has changed."""
    found = None if against is None else {figure: asdict(change) for figure, change in against.items()}
    return json_ready(asdict(run) | {"against_stored": found})
