r"""The tables of docs/ that need no more than what is committed.

`python scripts/tables.py` writes them into their pages. A table stands in its page between ``<!-- NAME -->`` and
``<!-- end -->``. Scores are those of the public sequences, as the records of the board have them; of contexts longer
than the board's as docs/results/long.json has them, which

    mdbench evaluate --predictor md1 --predictor md2 --predictor md5 --predictor constructed_l4 \
        --predictor constructed_l5 --predictor constructed_l7 --predictor trained_l3 --predictor trained_l5 \
        --predictor standard_l3 --predictor standard_l5 --task mtd-q5-m3 --lengths 192,256 --n-sequences 2048 \
        --no-references --json > docs/results/long.json

writes in minutes.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import functools
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mdbench
from mdbench.board.reading import read_record
from mdbench.core.files import write_text
from mdbench.predictors.catalogue import SHIPPED_WEIGHTS
from mdbench.predictors.training_config import CARD
from mdbench.tasks import load_suite

ROOT = Path(__file__).parents[1]
TASKS = ("mtd-q3-m2", "mtd-q5-m3", "mtd-q10-m4")
FOUND = ROOT / "docs" / "results" / "tables.json"  # tables that take long to make
COMMANDS = ROOT / "docs" / "results" / "commands.json"  # what scripts/documented.py has run
TIMES = {f"times of {page}": page for page in ("docs/commands.md", "docs/performance.md")}  # place: whose commands
SUITES = ("selective", "markov", "hmm", "tree", "diversity")  # whose boards the pages of worlds show
SMALL, LENGTHS, LONG = "mtd-q5-m3", (16, 32, 64, 128), (192, 256)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# A place holds no comment: one that nobody closed does not run on to the end of the next.
PLACE = re.compile(r"^<!-- (?P<name>.+) -->\n(?P<text>(?:(?!<!-- ).*\n)*)<!-- end -->$", re.MULTILINE)


def filled(page: str, name: str, text: str) -> str:
    """A page with this in its place of that name, if it has one."""
    return PLACE.sub(lambda m: f"<!-- {name} -->\n{text}\n<!-- end -->" if m["name"] == name else m[0], page)


def put(name: str, text: str) -> None:
    """Write a table into the place of docs/ that has its name; show it."""
    print(f"{name}\n{text}\n", flush=True)
    pages = [path for path in (ROOT / "docs").rglob("*.md") if f"<!-- {name} -->\n" in path.read_text(encoding="utf-8")]
    if not pages:
        print(f"No page of docs/ has a place <!-- {name} -->, so this is shown alone.", flush=True)
    for path in pages:
        write_text(path, filled(path.read_text(encoding="utf-8"), name, text))


def put_found(name: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """The same of a table that takes long to make, with the day and the revision."""
    text = f"{table(headings, rows)}\n\n*Made on {datetime.date.today()}, revision {revision()}.*"
    put(name, text)
    write_text(FOUND, json_text(stored_tables() | {name: text}))


def stored_tables() -> dict[str, str]:
    """What stands in their places of tables that take long to make, by name."""
    return json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}


def stored() -> dict[str, list[dict[str, Any]]]:
    """What scripts/documented.py has run, by page."""
    return json.loads(COMMANDS.read_text(encoding="utf-8")) if COMMANDS.exists() else {}


def json_text(content: object) -> str:
    """As it is stored."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def revision() -> str:
    """Of mdbench, and whether it has changed since."""
    git = functools.partial(subprocess.run, cwd=ROOT, capture_output=True, text=True)
    found = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip() or "unknown"
    changed = git(["git", "diff", "--quiet", "HEAD", "--", "mdbench", "tasks", "baselines"]).returncode
    return found + ("-dirty" if changed else "")


class Table:
    """One whose rows take long: each is shown when it is there."""

    def __init__(self, name: str, headings: Sequence[str]) -> None:
        self.name, self.headings, self.rows = name, headings, []  # type: str, Sequence[str], list[Sequence[str]]

    def add(self, *cells: str) -> None:
        """A row more."""
        self.rows.append(cells)
        print(" | ".join(cells), flush=True)

    def put(self) -> None:
        """Write it into its page."""
        put_found(self.name, self.headings, self.rows)


def short(value: float, digits: int = 3) -> str:
    """In so many digits, without zeros in the exponent: 1.63e-4."""
    return re.sub(r"e([+-])0", r"e\1", f"{value:.{digits - 1}e}")


def make(description: str | None, parts: Mapping[str, Callable[[], object]]) -> None:
    """Make the parts that the command line names, all if none."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(parts)}; all if none")
    names = parser.parse_args().names
    for name in names:
        if name not in parts:
            parser.error(f"'{name}' is none of {', '.join(parts)}")
    for name in names or parts:
        parts[name]()


@functools.cache
def scores(task: str, predictor: str) -> dict[int, tuple[float, list[float]]]:
    """By length: excess KL in the mean, and of each training seed."""
    path = ROOT / "leaderboard" / "records" / task / f"{predictor}.json"
    record, _ = read_record(path)
    found = {cell.length: (cell.excess_kl or 0.0, list(cell.runs or ())) for cell in record.cells}
    return found | (long()[predictor] if task == SMALL and predictor in long() else {})


@functools.cache
def long() -> dict[str, dict[int, tuple[float, list[float]]]]:
    """The same of contexts longer than the board's."""
    found: dict[str, dict[int, tuple[float, list[float]]]] = {}
    for result in json.loads((ROOT / "docs" / "results" / "long.json").read_text(encoding="utf-8"))["results"]:
        found.setdefault(result["predictor"], {})[result["length"]] = result["excess_kl"], result["runs"] or []
    return found


def excess(task: str, predictor: str, length: int) -> float:
    """In the mean over training seeds."""
    return scores(task, predictor)[length][0]


def card(name: str, length: int, seed: int = 0) -> dict[str, Any]:
    """Of a shipped run of the small task."""
    path = SHIPPED_WEIGHTS / name / SMALL / f"T{length}" / f"seed{seed}" / CARD
    return json.loads(path.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------ trained networks


def core() -> str:
    """All core tasks."""
    names = ("md1", "trained_l3", "trained_l5", "standard_l3", "standard_l5", "md5")
    headings = ["", *(f"{task.removeprefix('mtd-')}, T = {' / '.join(map(str, LENGTHS))}" for task in TASKS)]
    rows = ([f"`{n}`", *(" / ".join(short(excess(t, n, k), 2) for k in LENGTHS) for t in TASKS)] for n in names)
    return table(headings, rows)


def depth() -> str:
    """More layers, at T = 32."""
    names = [f"trained_l{k}" for k in range(2, 7)]
    others = ["md1", "md2", "md5", "uniform"]
    of = {name: scores(SMALL, name)[32] for name in names + others}
    rows = [["mean", *(short(of[name][0]) for name in names + others)]]
    for seed in range(3):
        rows.append([f"seed {seed}", *(short(of[name][1][seed]) for name in names), *("" for _ in others)])
    return table(["layers", *(name[-1] for name in names), *(f"`{name}`" for name in others)], rows)


def five_layers() -> str:
    """Against two steps, over the length of the context."""
    rows = []
    for length in (*LENGTHS, *LONG):
        mean, seeds = scores(SMALL, "trained_l5")[length]
        three, two = excess(SMALL, "trained_l3", length), excess(SMALL, "md2", length)
        each = ", ".join(map(short, seeds))
        rows.append([str(length), short(mean), each, short(three), short(two), f"{mean / two:.2f}"])
    return table(["T", "`trained_l5`", "its seeds 0, 1, 2", "`trained_l3`", "`md2`", "`trained_l5` to `md2`"], rows)


def long_networks() -> str:
    """Of longer contexts."""
    names = ("trained_l3", "trained_l5", "standard_l3", "standard_l5")
    seeds = (
        [f"{short(scores(SMALL, n)[k][0])} ({', '.join(map(short, scores(SMALL, n)[k][1]))})" for n in names]
        for k in LONG
    )
    rows = ([str(k), *cells, short(excess(SMALL, "md1", k))] for k, cells in zip(LONG, seeds, strict=True))
    return table(["T", *(f"`{n}` (its seeds)" for n in names), "`md1`"], rows)


def targets_at_32() -> str:
    """The same at another length."""
    names = ("conditional_l3", "trained_l3")
    of = {name: scores(SMALL, name)[32] for name in names}
    rows = [[f"`{n}`", short(of[n][0]), ", ".join(map(short, of[n][1]))] for n in names]
    return table(["", "excess KL", "its seeds"], [*rows, ["`md1`", short(excess(SMALL, "md1", 32)), ""]])


def targets() -> str:
    """What training on another target costs, and comes to, at T = 16."""
    step, rows = excess(SMALL, "md1", 16), []
    for name in ("paper_l3", "conditional_l3", "trained_l3", "cross_entropy_l3"):
        made, mean = card(name, 16), excess(SMALL, name, 16)
        config, together = made["config"], made["seeds_side_by_side"]
        what = f"{config['target']}, {config['loss'].replace('_', ' ').replace('cross entropy', 'cross-entropy')}"
        cores = re.search(r"(\d+) cores?", made["device"])
        assert cores is not None, "seeds 0 were trained on processors"
        seconds = f"{made['wall_seconds'] * int(cores[1]):,.0f}" + (f" for {together} seeds" if together > 1 else "")
        rows.append([f"`{name}`", what, f"{config['steps']:,}", seconds, short(mean), f"{mean / step:.2f}"])
    headings = ["", "target, loss", "steps", "seconds of a core, seed 0", "excess KL", f"to `md1` ({short(step)})"]
    return table(headings, rows)


# --------------------------------------------------------------------------------------------------- constructions


def constructions() -> str:
    """In all core tasks."""
    names = ("md1", "md2", "md5", "constructed_l4", "constructed_l5", "constructed_l7")
    headings = ["task", "T", "md1 = three layers", "md2", "md5", "four layers", "five layers", "seven layers"]
    rows = ([t, str(k), *(short(excess(t, n, k)) for n in names)] for t in TASKS for k in LENGTHS)
    return table(headings, rows)


def long_constructions() -> str:
    """Of longer contexts."""
    names = ("constructed_l4", "constructed_l5", "constructed_l7", "md5")
    rows = ([str(k), *(short(excess(SMALL, n, k), 2) for n in names)] for k in LONG)
    return table(["T", "four", "five", "seven", "`md5`"], rows)


def three_layers() -> str:
    """Our own against the paper's."""
    names = ("constructed_l3_adaptive", "md1", "trained_l3")
    rows = ([str(k), *(short(excess(SMALL, n, k)) for n in names)] for k in (16, 32))
    return table(["T", *(f"`{n}`" for n in names)], rows)


def against_steps() -> str:
    """Excess KL of steps of tuned sizes over that of constructions, the least and the largest of all cells."""
    rows = []
    of_each = (
        ("constructed_l4", "md1"),
        ("constructed_l5", "md2"),
        ("constructed_l5", "md5"),
        ("constructed_l7", "md5"),
    )
    for name, steps in of_each:
        factors = {(task, k): excess(task, steps, k) / excess(task, name, k) for task in TASKS for k in LENGTHS}
        cells = min(factors, key=factors.__getitem__), max(factors, key=factors.__getitem__)
        ends = (f"{float(short(factors[task, k])):g} ({task.removeprefix('mtd-')}, T = {k})" for task, k in cells)
        rows.append([f"`{name}`", f"`{steps}`", *ends])
    return table(["construction", "steps", "excess KL of the steps over its own, at least", "at most"], rows)


# ---------------------------------------------------------------------------------------------------- others


def times(page: str) -> str:
    """How long the commands of a page took that are not a matter of seconds."""
    runs = stored().get(page, [])
    rows = (
        [
            f"`{run['text']}`",
            f"{run['seconds']:,}",
            "" if run["gib"] is None else str(run["gib"]),
            f"{run['date']}, {run['revision']}",
        ]
        for run in runs
    )
    return table(["command", "seconds", "GiB", "run on, revision"], rows)


def on_a_gpu() -> str:
    """Shipped runs that a GPU trained from their first step to their last, by preset."""
    rows: dict[tuple[str, str], list[float]] = {}
    for path in SHIPPED_WEIGHTS.rglob(CARD):
        made = json.loads(path.read_text(encoding="utf-8"))
        if made["device"].startswith("NVIDIA") and "then" not in made["device"]:
            config = made["config"]
            rows.setdefault((config["model"], config["target"]), []).append(made["wall_seconds"])
    cells = (
        [model, target, str(len(s)), f"{min(s):.0f} .. {max(s):.0f}"] for (model, target), s in sorted(rows.items())
    )
    return table(["model", "target", "runs", "seconds of a run"], cells)


def classes() -> str:
    """Which rows of the board compute the same function at T = 32."""
    found = mdbench.agree(task=SMALL, length=32, leaderboard=ROOT / "leaderboard")
    return table(
        ["class", "rows"], [[str(k), ", ".join(f"`{row}`" for row in rows)] for k, rows in enumerate(found.classes, 1)]
    )


def weight_space() -> str:
    """Excess KL on the line between two seeds, by the claim's numbers."""
    with (ROOT / "docs" / "claims" / "weight_space.csv").open(encoding="utf-8") as file:
        points = [
            (row["seeds"], row["basis"], float(row["share"]), float(row["excess_kl"])) for row in csv.DictReader(file)
        ]
    rows = []
    for pair in dict.fromkeys(seeds for seeds, *_ in points):
        ends = [
            value for seeds, basis, share, value in points if seeds == pair and basis == "turned" and share in (0, 1)
        ]
        highest = (
            max(v for seeds, b, _, v in points if (seeds, b) == (pair, basis)) for basis in ("as they are", "turned")
        )
        rows.append([pair, short(max(ends)), *map(short, highest)])
    return table(["seeds", "the worse end", "highest, as they are", "highest, the second turned"], rows)


def seeds_apart() -> str:
    """How far the training seeds of three layers are from each other."""
    names = [f"trained_l3:seed={seed}" for seed in range(3)]
    found = mdbench.agree(names, task=SMALL, length=32, leaderboard=ROOT / "leaderboard").matrix
    rows = ([f"`{name}`", *(short(value, 2) if value else "" for value in found[k])] for k, name in enumerate(names))
    return table(["KL from, to", *(f"`{name}`" for name in names)], rows)


def a_row() -> str:
    """The row that a reader of the start page makes, among its neighbours on the board."""
    path = ROOT / "leaderboard" / "board.csv"
    headings, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines())
    said = next(run["output"] for run in stored()["docs/index.md"] if run["text"].startswith("grep "))
    (own,) = csv.reader(said.splitlines())
    ranked = [dict(zip(headings, line, strict=True)) for line in (*lines, own) if line[0]]
    ranked.sort(key=lambda row: float(row["score"]))
    k = next(k for k, row in enumerate(ranked) if row["predictor"] == own[1])
    rows = []
    for place, row in enumerate(ranked[k - 2 : k + 3], k - 1):
        score, low, high = (f"{float(row[column]):.3g}" for column in ("score", "interval_low", "interval_high"))
        rows.append([str(place), f"`{row['predictor']}`", score, f"{low} .. {high}"])
    return table(["#", "predictor", "score", "95% interval"], rows)


def board(suite: str) -> str:
    """What the board of a suite says: predictors, scores and mean excess KL by task."""
    text = (ROOT / "leaderboard" / f"{suite}.md").read_text(encoding="utf-8")
    ranking = next(part for part in text.split("\n\n") if part.startswith("| "))
    lines = [line.strip("|").split(" | ") for line in ranking.splitlines() if line.startswith("| ")]
    headings, *rows = [[cell.strip() for cell in line] for line in lines]
    columns = [headings.index(name) for name in ("predictor", "score", *load_suite(suite).tasks)]
    labels = columns[0]
    cells = [[re.sub(r"\\(?=_)|</?code>", "", row[k]) if k == labels else row[k] for k in columns] for row in rows]
    return table([headings[k] for k in columns], [[f"`{row[0]}`", *row[1:]] for row in cells])


FROM_RUNS: dict[str, Callable[[], str]] = {
    "a row": a_row,
    **{name: functools.partial(times, page) for name, page in TIMES.items()},
}
TABLES: dict[str, Callable[[], str]] = {
    **FROM_RUNS,
    **{f"board {suite}": functools.partial(board, suite) for suite in SUITES},
    "trained on a GPU": on_a_gpu,
    "classes": classes,
    "seeds apart": seeds_apart,
    "weight space": weight_space,
    "constructions against steps": against_steps,
    "core tasks": core,
    "depth": depth,
    "five layers": five_layers,
    "targets": targets,
    "targets at 32": targets_at_32,
    "long networks": long_networks,
    "constructions": constructions,
    "long constructions": long_constructions,
    "three layers": three_layers,
}


def write(name: str) -> None:
    """One of them, into its page."""
    put(name, TABLES[name]())


if __name__ == "__main__":
    make(__doc__, {name: functools.partial(write, name) for name in TABLES})
