"""What README and docs/ say: every command and code block runs, or the reason why not stands here; every link leads.

Fenced blocks of a page are taken in order, in a folder of its own: a block whose first line is a comment with the name
of a file is that file; lines that begin with `mdbench` are commands; Python is executed. `RULES` says when
a command is run, or why it is not; all of them are parsed by the application itself, whatever it is that they would do.
"""

import ast
import csv
import importlib
import itertools
import posixpath
import re
import shlex
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
import typer
from markdown.extensions.toc import slugify
from markdown_it import MarkdownIt

import mdbench
from mdbench.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE = {"leaderboard/index.html", "tour.md"}  # pages of the site that are made when it is built

SECONDS = "takes seconds"  # so `make test` runs it
MINUTES = "takes a minute at most"  # so the slow tests run it

# When a command is run, or why not: the first that fits it says it.
RULES = {
    r"^(?!mdbench\b)": "not a command of mdbench: it installs, builds, or starts what this machine may lack",
    r"tcp://": "needs machines",
    r"--cluster": "tests/evaluation/test_on_a_cluster.py runs such commands",
    r"--device cuda": "needs a GPU",
    r"my_task|mine/|run:runs|paper_l|RECORD|NAME\b|\.\.\.": "stands for what the reader has made",
    r"mdbench new-predictor": SECONDS,
    r"gpt\.py": "needs a model that the reader trains in minutes",
    r"my_idea|two_dice": "needs a package that the line before it installs; .ci/run does all that",
    r"mdbench (list|show|sample|reproduce --list|[a-z-]+ --help)\b": SECONDS,
    r"mdbench reproduce\b": ".ci/run and tests/claims run it",
    r"mdbench (identify|inspect|patch|agree|check)\b": "minutes; tests/mechanism, board and evaluation run small ones",
    r"mdbench (train|tune|baseline validate|phases)\b": "minutes to days; tests/training, tests/cli run small ones",
    r"mdbench (leaderboard|verify|score)\b|--record": "needs records: .ci/run, tests/board, examples/tour.py have them",
    r"\bnuts\b|gold reference|ctw": "minutes to hours; .ci/run and tests/baselines run small ones",
    r"--n-sequences 2048": "a minute and more; records of the board hold the same scores",
    r"\b(s|seq|pi|p|x)\.(csv|npz)\b": "data of the reader; tests/posteriors and tests/series read many forms of files",
    r"": MINUTES,
}
PYTHON_NOT_RUN = {
    "dask_jobqueue": "needs a SLURM cluster",
    "Baseline[Coin]": "an excerpt of tests/outside/outside_eg/counts.py",
    "post.nc": "needs the file that a command before it writes in minutes; tests/posteriors write and read one",
    "train(": "minutes; tests/training trains",
}


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line on which it begins."""

    language: str
    text: str
    line: int


def tokens_of(path):
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def blocks_of(path):
    for token in tokens_of(path):
        if token.type == "fence":
            yield Block(token.info.split(" ")[0], token.content, token.map[0] + 1)


def commands_of(block):
    """Lines of a block for the shell, continued ones joined, comments left out."""
    if block.language not in ("", "sh", "bash", "console"):
        return
    for line in block.text.replace("\\\n", " ").splitlines():
        command = re.sub(r"\s+#.*", "", line.strip().removeprefix("$ "))
        if re.match(r"(mdbench|make|pip|python|dask|git|pytest|cd|cp|\.) ", command):
            yield command


ALL = [(path, block) for path in PAGES for block in blocks_of(path)]
COMMANDS = [(path, block.line, command) for path, block in ALL for command in commands_of(block)]
OURS = [(path, line, command) for path, line, command in COMMANDS if command.startswith("mdbench ")]


def when(command):
    """`SECONDS`, `MINUTES`, or the reason why it is not run."""
    return next(said for pattern, said in RULES.items() if re.search(pattern, command))


def command_of(application, words):
    """The command that these words name, and the words after its name."""
    while words and words[0] in getattr(application, "commands", {}):
        application, words = application.commands[words[0]], words[1:]
    return application, words


def is_run(block):
    """Whether it is Python that stands for itself: no excerpt, and nothing of `PYTHON_NOT_RUN`."""
    return block.language == "python" and block.text[0] not in " #" and not any(p in block.text for p in PYTHON_NOT_RUN)


def numbers_of(text):
    """The numbers in the rows of a table as `mdbench evaluate` prints it, seconds aside."""
    rows = [line.split("│")[1:-2] for line in text.splitlines() if line.startswith("│")]
    return [float(number) for row in rows for cell in row for number in re.findall(r"(?<![\w.])\d[\d.e-]*", cell)]


def where(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


@pytest.mark.parametrize("command", [c for *_, c in OURS], ids=[f"{where(p, k)} {c[:40]}" for p, k, c in OURS])
def test_the_application_takes_every_command(command):
    """Commands, options, arguments and their types: all but running it."""
    application = typer.main.get_command(app)
    found, rest = command_of(application, shlex.split(command)[1:])
    found.make_context(found.name, rest, parent=typer.Context(application, info_name="mdbench"))


def test_options_named_in_the_text_exist():
    """`mdbench evaluate --gold` within a sentence: the command is there, and has these options."""
    application = typer.main.get_command(app)
    wrong, n = [], 0
    for path in PAGES:
        for child in (child for token in tokens_of(path) for child in token.children or []):
            if child.type != "code_inline" or not child.content.startswith("mdbench "):
                continue
            n += 1
            found, rest = command_of(application, child.content.split()[1:])
            known = {option for parameter in found.params for option in parameter.opts + parameter.secondary_opts}
            options = {word.split("=")[0] for word in rest if word.startswith("--")}
            no_command = hasattr(found, "commands") and rest and not rest[0].startswith("-")
            if no_command or not options <= known | {"--help"}:
                wrong.append(f"{path.relative_to(ROOT)}: `{child.content}`")
    assert n > 20
    assert not wrong


# ------------------------------------------------------------------------------------------------------ blocks that run


@pytest.fixture
def reader(tmp_path, monkeypatch, run):
    """A reader's folder, with the clone's examples and board: ``reader(path, slow=True)`` does what a page says."""

    def follow(path, slow):
        (tmp_path / path.stem).mkdir()
        monkeypatch.chdir(tmp_path / path.stem)
        for name in ("examples", "leaderboard"):
            Path(name).symlink_to(ROOT / name)
        done, shown, names = 0, "", {"__name__": "__main__"}
        for block in blocks_of(path):
            file = re.match(r"# (?P<name>[\w./]+\.(py|toml|csv))\b", block.text)
            if file:
                Path(file["name"]).parent.mkdir(parents=True, exist_ok=True)
                Path(file["name"]).write_text(block.text, encoding="utf-8")
            elif slow and is_run(block):
                exec(compile(block.text, where(path, block.line), "exec"), names)
                done += 1
            elif shown and (said := numbers_of(block.text)):
                assert said == pytest.approx(numbers_of(shown), rel=0.01, nan_ok=True), where(path, block.line)
            shown = ""
            for command in commands_of(block):
                if when(command) == (MINUTES if slow else SECONDS):
                    found = run(*shlex.split(command)[1:])
                    assert found.code == 0, f"{where(path, block.line)}: {command}\n{found.err}"
                    done, shown = done + 1, found.out
        return done

    return follow


def test_commands_of_seconds_run(reader):
    assert sum(reader(path, slow=False) for path in PAGES) > 2


RUNNABLE = [
    path
    for path in PAGES
    if any(
        is_run(block) or any(when(command) == MINUTES for command in commands_of(block)) for block in blocks_of(path)
    )
]


@pytest.mark.slow
@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_what_a_page_says_runs(path, reader):
    reader(path, slow=True)


def test_every_reason_not_to_run_is_needed():
    """A rule that fits no command any more goes."""
    assert set(RULES.values()) == {when(command) for _, _, command in COMMANDS}
    python = "".join(block.text for _, block in ALL if block.language == "python")
    assert all(part in python for part in PYTHON_NOT_RUN)


PYTHON = [(path, block) for path, block in ALL if block.language == "python"]


@pytest.mark.parametrize("block", [b for _, b in PYTHON], ids=[where(path, b.line) for path, b in PYTHON])
def test_names_of_mdbench_in_code_exist(block):
    tree = ast.parse(textwrap.dedent(block.text))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mdbench":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "mdbench":
            assert node.attr in mdbench.__all__ or importlib.import_module(f"mdbench.{node.attr}")


TOML = [(path, block) for path, block in ALL if block.language == "toml"]


@pytest.mark.parametrize("block", [b for _, b in TOML], ids=[where(path, b.line) for path, b in TOML])
def test_files_of_tasks_are_tasks(block, tmp_path):
    content = tomllib.loads(block.text)
    if not {"model", "transition", "order"} & set(content):
        assert set(content) <= {"project", "tool"}
        return
    (tmp_path / "task.toml").write_text(block.text, encoding="utf-8")
    assert mdbench.load_task(tmp_path / "task.toml").n_states >= 2


def test_rows_of_the_board_that_the_start_page_shows_are_those_of_the_board():
    with (ROOT / "leaderboard" / "board.csv").open(encoding="utf-8") as file:
        board = {row["predictor"]: row for row in csv.DictReader(file)}
    shown = re.findall(
        r"^\| \d+ \| `(.+?)` \| (\S+) \| (\S+) \.\. (\S+) \|$", (ROOT / "docs/index.md").read_text(), re.M
    )
    assert len(shown) >= 3
    for name, *numbers in shown:
        row = board[name]
        assert numbers == [f"{float(row[column]):.3g}" for column in ("score", "interval_low", "interval_high")]


# ---------------------------------------------------------------------------------------------------------------- links


def anchors_of(path):
    """Those of its headings, as the site has them, and those that stand in its HTML."""
    tokens, found = tokens_of(path), []
    for heading, inline in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            text = "".join(child.content for child in inline.children)
            slug, k = slugify(text, "-"), 0
            while (name := slug if not k else f"{slug}_{k}") in found:
                k += 1
            found.append(name)
    return {*found, *re.findall(r'(?:id|name)="([^"]+)"', path.read_text(encoding="utf-8"))}


def links_of(path):
    for token in tokens_of(path):
        for child in token.children or []:
            target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
            if target and not re.match(r"[a-z]+:", target):
                yield unquote(target), token.map[0] + 1


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    broken = []
    for target, line in links_of(path):
        file, _, anchor = target.partition("#")
        to = path if not file else Path(posixpath.normpath(path.parent / file))
        made = to.is_relative_to(ROOT / "docs") and to.relative_to(ROOT / "docs").as_posix() in MADE
        if not to.exists() and not made:
            broken.append(f"{where(path, line)}: {target}")
        elif anchor and to.suffix == ".md" and not made and anchor not in anchors_of(to):
            broken.append(f"{where(path, line)}: no heading {target}")
    assert not broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_can_be_read_side_by_side(path):
    """At most 120 characters; cells of tables cannot be broken."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [f"{k}: {len(line)}" for k, line in enumerate(lines, 1) if len(line) > 120 and not line.startswith("|")]


# -------------------------------------------------------------------------------------------------------------- numbers

sys.path.insert(0, str(ROOT / "scripts"))
import tables  # noqa: E402  # of scripts/

PLACE = re.compile(r"^<!-- (?P<name>.+?) -->\n(?P<table>.*?)\n<!-- end -->$", re.DOTALL | re.MULTILINE)
PLACES = [(path, place) for path in PAGES for place in PLACE.finditer(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("name", tables.TABLES)
def test_tables_of_committed_scores_are_those_of_the_records(name):
    """After a record has changed: python scripts/tables.py."""
    (found,) = [place["table"] for _, place in PLACES if place["name"] == name]
    assert found == tables.TABLES[name]()


def test_each_place_for_a_table_has_one_script_that_fills_it():
    scripts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py")}
    names = [place["name"] for _, place in PLACES if place["name"] != "bench"]  # tests/test_benchmarks.py
    assert len(set(names)) == len(names)
    for name in names:
        words = "|".join(
            map(re.escape, (name, name.split(" ")[0] + " {"))
        )  # the latter where an f-string fills several
        filled = [
            path.name
            for path, text in scripts.items()
            if re.search(rf'(^    |\b(?:Table|put|put_found)\(f?)"({words})', text, re.M)
        ]
        assert len(filled) == 1, f"{name}: {filled}"


MEASURED = re.compile(r"(?<![\w.^/])\d(?:\.\d+)?e-?\d+|(?<![\w.^/:])\d+\.\d+(?![\w.])|\b\d+%")
CONSTANT = re.compile(r"1e-?\d+|0\.0*1|95%|5%|1\.000|3\.11|2604\.10848")  # tolerances, levels, names
SAYS_WHENCE = re.compile(r"^(mdbench|python|pytest|make|time) |throw-away|the command above|as before")
HOLDS_NUMBERS = re.compile(r"claims|leaderboard|attempts|performance|\.csv|\.json")


def sections_of(path):
    """The heading of each section, the text that is no code, and whether it says where its numbers come from."""
    heading, numbers, whence = "", set(), False
    tokens = tokens_of(path)
    in_table = 0
    for before, token in itertools.pairwise(tokens):
        in_table += (token.type == "table_open") - (token.type == "table_close")
        if token.type == "inline" and before.type == "heading_open":
            yield heading, numbers, whence
            heading, numbers, whence = token.content, set(), False
        elif token.type == "inline":
            text = "".join(c.content or " " for c in token.children if c.type in ("text", "softbreak"))
            if not in_table:
                numbers |= {number for number in MEASURED.findall(text) if not CONSTANT.fullmatch(number)}
            whence = (
                whence
                or bool(SAYS_WHENCE.search(text))
                or any(
                    (c.type == "code_inline" and SAYS_WHENCE.match(c.content))
                    or (c.type == "link_open" and HOLDS_NUMBERS.search(c.attrGet("href")))
                    for c in token.children
                )
            )
        elif token.type == "fence":
            whence = whence or any(SAYS_WHENCE.match(line.strip()) for line in token.content.splitlines())
        elif token.type == "html_block":
            whence = whence or bool(re.match(r"<!-- (?!end)", token.content))
    yield heading, numbers, whence


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_section_with_measured_numbers_says_what_measured_them(path):
    """A command, a table that a script fills, a claim, a file; or that the script was thrown away."""
    assert [(heading, numbers) for heading, numbers, whence in sections_of(path) if numbers and not whence] == []
