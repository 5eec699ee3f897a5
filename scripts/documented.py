"""The commands and code of README and docs/: what they are, when they are run, and what came of the long ones.

Fenced blocks of a page are taken in order, in a folder of its own: a block whose first line is a comment with the name
of a file is that file; Python is executed; lines for the shell are commands. `RULES` says when a command is run, or why
it is not. tests/test_docs.py runs those of seconds and of a minute. Of all others

    python scripts/documented.py [--all] [PAGE ..]

does what a page says, as a reader would, and stores day, revision, seconds and output in docs/results/commands.json;
the test asks that each of them is there, as it stands in its page, and ended well. Without a name it follows the pages
that have something new; with --all these and all others.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tables import COMMANDS, FROM_RUNS, ROOT, json_text, put, revision, stored

import mdbench
from mdbench.core.compilation import KEPT
from mdbench.core.files import write_text

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_OUTPUT = 4000  # characters that are kept of what a command says, its last ones

SECONDS = "takes seconds"  # so `make test` runs it
MINUTE = "takes a minute at most"  # so the slow tests run it
STORED = "takes longer, or changes an environment"  # so its output is stored

# When a command is run, or why not: the first that fits it says it.
RULES = {
    r"^(make|\.) ": "CI does this",
    r"^dask |tcp://": "needs machines",
    r"^pip install '": "the environment has all of mdbench's extras",
    r"^python scripts/train_weights.py": "hours; tests/training holds its recipes to the cards",
    r"--device cuda": "needs a GPU",
    r"\bRECORD\b": "stands for any record; the line above it names one",
    r"^mdbench (new-predictor|list|show|sample|reproduce --list|[a-z-]+ --help)\b": SECONDS,
    r"^mdbench reproduce\b": ".ci/run runs it",
    r"nuts|laplace|my_|mine|mine/|run:|gpt\.py|two_dice|--record|--cluster|--n-sequences (2048|1000+)\b": STORED,
    r"^mdbench (evaluate|compare)\b|examples/nights.csv": MINUTE,
    r"": STORED,
}
NOT_RUN = {  # Python
    "dask_jobqueue": "needs a SLURM cluster",
    "Baseline[Coin]": "an excerpt of tests/outside/outside_eg/counts.py",
    'torch.load("mine.pt"': "needs a file of the reader",
}
IN_MINUTES = ("post.nc", "train(")  # Python whose output is stored
COMMAND = re.compile(r"(mdbench|make|pip|python|dask|grep|cp|\.) ")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line on which it begins."""

    language: str
    text: str
    line: int


class Step(NamedTuple):
    """One thing that a page has its reader do.

    Attributes:
        kind: ``file``, ``python`` or ``command``.
        text: the file's name, the code, or the command.
        when: it is run, or why it is not; None of a file.
        block: where it stands.
        before: hash of all files and Python above it on the page.
    """

    kind: str
    text: str
    when: str | None
    block: Block
    before: str


def tokens_of(path: Path) -> list[Token]:
    """A page as Markdown."""
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def blocks_of(path: Path) -> Iterator[Block]:
    """Its fenced blocks."""
    for token in tokens_of(path):
        if token.type == "fence" and token.map:
            yield Block(token.info.split(" ")[0], token.content, token.map[0] + 1)


def commands_of(block: Block) -> list[str]:
    """Of a block that has no language: its lines for the shell, continued ones joined, comments left out.

    What is printed stands in blocks of the language ``text``.
    """
    if block.language:
        return []
    joined = block.text.replace("\\\n", " ")
    lines = (re.sub(r"\s+", " ", re.sub(r"(^|\s+)#.*", "", line)).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def when(command: str) -> str:
    """`SECONDS`, `MINUTE`, `STORED`, or the reason why it is not run."""
    return next(said for pattern, said in RULES.items() if re.search(pattern, command))


def steps_of(path: Path) -> Iterator[Step]:
    """What a reader does who follows a page.

    Raises:
        ValueError: something in a block is neither run nor said to be none to run.
    """
    before = hashlib.sha256()
    for block in blocks_of(path):
        file = re.match(r"# (?P<name>[\w./]+\.(py|toml|csv))\b", block.text)
        not_run = next((why for part, why in NOT_RUN.items() if part in block.text), None)
        if file:
            yield Step("file", file["name"], None, block, "")
        elif block.language == "python":
            minutes = any(part in block.text for part in IN_MINUTES)
            yield Step("python", block.text, not_run or (STORED if minutes else MINUTE), block, before.hexdigest()[:12])
            if not not_run and block.text[0] in " #":
                raise ValueError(
                    f"{where(path, block.line)}: is it a file, or an excerpt? Its first line does not say."
                )
        elif block.language not in ("", "text", "toml", "json"):
            raise ValueError(f"{where(path, block.line)}: '{block.language}' is none of python, text, toml, json.")
        for command in commands_of(block):
            if not COMMAND.match(command):
                raise ValueError(f"{where(path, block.line)}: '{command}' is no command; is the block one of text?")
            yield Step("command", command, when(command), block, before.hexdigest()[:12])
        if file or block.language == "python":
            before.update(block.text.encode())


def where(path: Path, line: int) -> str:
    """Of a block."""
    return f"{path.relative_to(ROOT)}:{line}"


def write_file(name: str, block: Block) -> None:
    """What a block says that it is."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(block.text, encoding="utf-8")


def missing() -> list[Path]:
    """Pages whose stored runs are others than they ask for, or ended badly."""
    runs = stored()
    return [
        path
        for path in PAGES
        if [(step.text, step.before) for step in steps_of(path) if step.when == STORED]
        != [(run["text"], run["before"]) for run in runs.get(str(path.relative_to(ROOT)), []) if run["code"] == 0]
    ]


def environment(folder: Path) -> dict[str, str]:
    """Of a reader: what is installed here, and in an environment above it what the page installs."""
    venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python*/site-packages")
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    base = Path(sys.executable).parent
    (folder / "bin" / "mdbench").write_text(
        f"#!{folder}/bin/python\nfrom mdbench.cli import main\nif __name__ == '__main__':\n    main()\n"
    )
    (folder / "bin" / "mdbench").chmod(0o755)
    # Without PIP_QUIET pip prints where everything lies on this machine.
    return os.environ | {"PATH": f"{folder}/bin:{base}:{os.environ['PATH']}", "COLUMNS": "160", "PIP_QUIET": "1"}


def supply() -> None:
    """What stands for the reader's own: a matrix, sequences, a task, predictions."""
    matrix = [[0.75, 0.25], [0.35, 0.65]]
    np.savetxt("pi.csv", matrix, delimiter=",")
    drawn = mdbench.sample(mdbench.MTD("own", np.array(matrix), 2), 1000, 3, seed=1)
    for name in ("s.csv", "seq.csv"):
        np.savetxt(name, drawn.contexts, fmt="%d", delimiter=",")
    Path("my_task.toml").write_text(f"order = 2\nlengths = [16, 32]\ntransition = {matrix}\n")
    for name in ("p.npz", "P.npz"):
        np.savez(name, **{f"T{length}": np.full((2048, 5), 0.2) for length in (16, 32, 64, 128)})
    for name in ("examples", "scripts", "tests"):
        Path(name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "leaderboard", "leaderboard")


class Ran(NamedTuple):
    """What came of a command: peak memory is that of its largest process, None if it is not above our own."""

    code: int
    seconds: float
    gib: float | None
    output: str
    said: str  # on stderr


def run(command: str, names: dict[str, str]) -> Ran:
    """In a shell with these variables."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.monotonic()
        process = subprocess.Popen(["bash", "-c", command], env=names, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        out.seek(0), err.seek(0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
        # A process begins as a copy of the one that starts it, and its peak with that.
        above = used.ru_maxrss > 1.05 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Ran(code, seconds, round(used.ru_maxrss / 2**20, 2) if above else None, out.read(), err.read())


def follow(path: Path, names: dict[str, str]) -> list[dict[str, object]]:
    """Do all that a page says, in a folder of its own, which is where we are; what is to be stored."""
    found = []
    for step in steps_of(path):
        if step.kind == "file":
            write_file(step.text, step.block)
            continue
        if step.when not in (SECONDS, MINUTE, STORED):
            continue
        if step.kind == "python":
            Path("block.py").write_text(step.text)
        command = "python block.py" if step.kind == "python" else step.text
        print(f"{where(path, step.block.line)}  {command}", end="  ", flush=True)
        ran = run(command, names)
        print(f"{ran.seconds:.0f} s, {ran.gib} GiB, code {ran.code}", flush=True)
        if ran.code:
            print(textwrap.indent(ran.said[-2000:], "    "), flush=True)
        if step.when == STORED:
            output = ran.output.replace(os.getcwd(), "FOLDER")[-MOST_OUTPUT:]
            measured = {"code": ran.code, "seconds": round(ran.seconds), "gib": ran.gib}
            made = {"date": str(datetime.date.today()), "revision": revision()}
            found.append({"text": step.text, "before": step.before, **measured, **made, "output": output})
    return found


def main() -> None:
    """Follow pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="all with something new, if none")
    parser.add_argument("--all", action="store_true", help="all pages")
    asked = parser.parse_args()
    pages = [page.resolve() for page in asked.pages] or (PAGES if asked.all else missing())
    for path in pages:
        with tempfile.TemporaryDirectory() as scratch:
            names = environment(Path(scratch) / "env") | {"MDBENCH_CACHE": f"{scratch}/cache"}
            names.pop(KEPT, None)  # set when mdbench was imported here: the reader's is in that cache
            folder = Path(scratch) / path.stem
            folder.mkdir()
            os.chdir(folder)
            supply()
            found = follow(path, names)
            os.chdir(ROOT)
        runs = stored() | {str(path.relative_to(ROOT)): found}
        kept = {str(page.relative_to(ROOT)) for page in PAGES}
        write_text(COMMANDS, json_text({page: runs[page] for page in runs if page in kept and runs[page]}))
    for name, make in FROM_RUNS.items():
        put(name, make())


if __name__ == "__main__":
    main()
