"""What README and docs/ say: every command and code block runs, or the reason why not stands in `RULES`; links lead.

scripts/documented.py says what the blocks are, and runs those that take minutes; their output is stored.
"""

import ast
import functools
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

import mdbench
from mdbench.cli import app

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import documented  # noqa: E402  # of scripts/
import tables  # noqa: E402
from documented import (  # noqa: E402  # noqa: E402
    MINUTE,
    NOT_RUN,
    PAGES,
    RULES,
    SECONDS,
    blocks_of,
    commands_of,
    steps_of,
    tokens_of,
    where,
)

MADE = {"leaderboard/index.html", "tour.md"}  # pages of the site that are made when it is built

ALL = [(path, block) for path in PAGES for block in blocks_of(path)]
COMMANDS = [(path, block.line, command) for path, block in ALL for command in commands_of(block)]
OURS = [(path, line, command) for path, line, command in COMMANDS if command.startswith("mdbench ")]


def command_of(application, words):
    """The command that these words name, and the words after its name."""
    while words and words[0] in getattr(application, "commands", {}):
        application, words = application.commands[words[0]], words[1:]
    return application, words


def numbers_of(text):
    """The numbers in the rows of a table as `mdbench evaluate` prints it, seconds aside."""
    rows = [line.split("│")[1:-2] for line in text.splitlines() if line.startswith("│")]
    return [float(number) for row in rows for cell in row for number in re.findall(r"(?<![\w.])\d[\d.e-]*", cell)]


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
        done, shown, names, steps = 0, "", {"__name__": "__main__"}, [*steps_of(path)]
        for block in blocks_of(path):
            if shown and (said := numbers_of(block.text)):
                assert said == pytest.approx(numbers_of(shown), rel=0.01, nan_ok=True), where(path, block.line)
            shown = ""
            for step in (step for step in steps if step.block == block):
                if step.kind == "file":
                    documented.write_file(step.text, block)
                elif step.when != (MINUTE if slow else SECONDS):
                    continue
                elif step.kind == "python":
                    exec(compile(block.text, where(path, block.line), "exec"), names)
                    done += 1
                else:
                    found = run(*shlex.split(step.text)[1:])
                    assert found.code == 0, f"{where(path, block.line)}: {step.text}\n{found.err}"
                    done, shown = done + 1, found.out
        return done

    return follow


def test_commands_of_seconds_run(reader):
    assert sum(reader(path, slow=False) for path in PAGES) > 2


RUNNABLE = [path for path in PAGES if any(step.when == MINUTE for step in steps_of(path))]


@pytest.mark.slow
@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_what_a_page_says_runs(path, reader):
    reader(path, slow=True)


def test_what_takes_minutes_was_run_as_it_stands_and_ended_well():
    """After such a command or block has changed: python scripts/documented.py."""
    assert [str(path.relative_to(ROOT)) for path in documented.missing()] == []
    assert {*documented.stored()} <= {str(path.relative_to(ROOT)) for path in PAGES}
    of_runs = [run for runs in documented.stored().values() for run in runs]
    assert [run["text"] for run in of_runs if re.search(r"site-packages|/(home|root|tmp|Users)/", run["output"])] == []
    revisions = {run["revision"] for run in of_runs}
    assert not [revision for revision in revisions if not re.fullmatch(r"[0-9a-f]{7,}", revision)]


def test_what_a_page_shows_of_output_was_printed():
    """A block of the language text below a command: its stored output; `reader` compares what the tests run."""
    for path in PAGES:
        blocks, runs = [*blocks_of(path)], documented.stored().get(str(path.relative_to(ROOT)), [])
        printed = [" ".join(run["output"].split()) for run in runs]
        compared = {
            block for step in steps_of(path) if step.when == MINUTE for block in blocks[blocks.index(step.block) :][1:2]
        }
        for block in blocks:
            if block.language == "text" and block not in compared and path.name != "design.md":
                assert any(" ".join(block.text.split()) in output for output in printed), where(path, block.line)


def test_every_reason_not_to_run_is_needed():
    """A rule that fits nothing any more goes."""
    steps = [step for path in PAGES for step in steps_of(path)]
    assert {*RULES.values(), *NOT_RUN.values()} <= {step.when for step in steps}
    assert all(any(part in step.text for step in steps) for part in documented.IN_MINUTES)


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

PLACES = [(path, place) for path in PAGES for place in tables.PLACE.finditer(path.read_text(encoding="utf-8"))]


def test_places_for_tables_are_closed_and_filled():
    for path in PAGES:
        comments = re.findall(r"^<!-- (.+) -->$", path.read_text(encoding="utf-8"), re.MULTILINE)
        closed = [word for where_, place in PLACES if where_ == path for word in (place["name"], "end")]
        assert comments == closed, path.name
        assert not re.search(r"\S\n<!-- (?!end)", path.read_text(encoding="utf-8")), (
            f"{path.name}: no line above a place"
        )
    assert all(place["text"].startswith("| ") or place["name"] == "bench" for _, place in PLACES)


@pytest.mark.parametrize("name", tables.TABLES)
def test_tables_of_committed_scores_are_those_of_the_records(name):
    """After a record has changed: python scripts/tables.py."""
    (found,) = [place["text"] for _, place in PLACES if place["name"] == name]
    assert found == tables.TABLES[name]() + "\n"


def test_tables_that_take_long_are_those_that_a_script_has_made():
    """Nobody changes them by hand: docs/results/tables.json has what stands there."""
    others = {place["name"]: place["text"] for _, place in PLACES if place["name"] not in {*tables.TABLES, "bench"}}
    assert others == {name: text + "\n" for name, text in tables.stored_tables().items()}


def test_each_place_for_a_table_has_one_script_that_fills_it():
    """By its name, which may be an f-string."""
    names = [place["name"] for _, place in PLACES if place["name"] != "bench"]  # tests/test_benchmarks.py
    assert len(set(names)) == len(names)
    filled = {name: set() for name in names}
    for path in (*(ROOT / "scripts").glob("*.py"), *(ROOT / "tests" / "benchmarks").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.stem != "tables" and "from tables import" not in text:
            continue
        for said in re.findall(r'(?:^    |\b(?:Table|put|put_found)\(|\{)f?"([^"]+)"', text, re.M):
            pattern = ".+".join(re.escape(part) for part in re.split(r"\{[^}]*\}", said))
            for name in names:
                if re.fullmatch(pattern, name):
                    filled[name].add(path.name)
    assert {name: scripts for name, scripts in filled.items() if len(scripts) != 1} == {}


WRITTEN_WHOLE = {"docs/claims.md"}  # by a command, from docs/claims.json: tests/claims
HISTORY = {"docs/corrections.md"}  # what was once said
# Numbers that may be measured: with a point, an exponent or a percent sign, or before a unit.
MEASURED = re.compile(
    r"(?:(?<![\w.^/])-)?(?<![\w.^/])"
    r"(?:\d+(?:\.\d+)?e-?\d+|\d+\.\d+(?!\.?\d)|\d+(?=%)"
    r"|\d[\d,]*(?=(?: times| ?[mµ]?s| seconds| minutes| hours| [GM]i?B|x|-fold)\b))"
    r"(?!\w)%?"
)
NUMBER = re.compile(r"(?:(?<![\w.^/])-)?(?<![\w.^/])\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
CONSTANT = re.compile(
    r"1e-?\d+|0\.0*1|95%|5%|1\.000|3\.11|0\.0376|35"
)  # tolerances, levels, names, the paper's, a budget
NAMED = re.compile(r"(?:tests|scripts|mdbench|baselines|tasks)/[\w/.-]+\.(?:py|toml)")  # files of code and settings


class Section(NamedTuple):
    """Of the second level: its anchors, what people wrote, and what commands wrote."""

    anchors: set[str]
    prose: list
    made: str


@functools.cache
def sections_of(path):
    text = path.read_text(encoding="utf-8")
    output = {run["text"]: run["output"] for run in documented.stored().get(str(path.relative_to(ROOT)), [])}
    places = {
        text.count("\n", 0, p.start()): (text.count("\n", 0, p.end()), p["text"]) for p in tables.PLACE.finditer(text)
    }
    sections, end = [Section(set(), [], "")], -1  # end: of the place that we are in
    for before, token in itertools.pairwise(tokens_of(path)):
        section = sections[-1]
        if before.type == "heading_open":
            if before.tag == "h2":
                section = Section(set(), [], "")
                sections.append(section)
            section.anchors.add(slugify("".join(child.content for child in token.children), "-"))
        elif token.map and token.map[0] in places and token.map[0] > end:
            end, table = places[token.map[0]]
            sections[-1] = section._replace(made=section.made + table)
        elif token.type == "fence":
            block = documented.Block("", token.content, 0)
            printed = (output.get(step, "") for step in (token.content, *commands_of(block)))
            sections[-1] = section._replace(made="\n".join([section.made, token.content, *printed]))
        elif token.type == "inline" and token.map[0] > end:
            section.prose.append(token)
    if str(path.relative_to(ROOT)) in WRITTEN_WHOLE:
        return [s._replace(made=s.made + " ".join(token.content for token in s.prose)) for s in sections]
    return sections


def known_to(section, path):
    """Numbers that commands wrote into it or into sections that it links to, or that stand in code that it names."""
    texts = [section.made]
    files = {ROOT / name for token in section.prose for name in NAMED.findall(token.content)}
    for child in (child for token in section.prose for child in token.children):
        target, _, anchor = (child.attrGet("href") or "" if child.type == "link_open" else "").partition("#")
        file = (path.parent / unquote(target)).resolve() if target else path
        if file.suffix in {".py", ".toml"}:
            files.add(file)
        elif file in PAGES and anchor:
            texts += [other.made for other in sections_of(file) if anchor in other.anchors]
    texts += [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    return {float(number.replace(",", "")) for text in texts for number in NUMBER.findall(text) if number[-1] != ","}


def is_among(number, values):
    """Whether it is one of them, as it is rounded, or as a share in percent."""
    digits = max(len(re.sub(r"e.*|[.,%-]", "", number).lstrip("0")), 1)
    value = float(number.replace(",", "").removesuffix("%"))
    scales = (1, 100) if number.endswith("%") else (1,)
    return any(value == float(f"{scale * known:.{digits}g}") for known in values for scale in scales)


@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if str(path.relative_to(ROOT)) not in WRITTEN_WHOLE | HISTORY],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_measured_numbers_of_a_page_are_those_of_its_tables(path):
    """Or in what a command printed, in a section that is linked to, or in a file of code that is named.

    It finds what was mistyped or has changed since; a wrong number of one digit can be among the others by chance.
    """
    wrong = []
    for section in sections_of(path):
        known = known_to(section, path)
        for token in section.prose:
            text = "".join(child.content or " " for child in token.children if child.type in ("text", "softbreak"))
            text = re.sub(r"arXiv \d+\.\d+", "", text)
            wrong += [
                f"{where(path, token.map[0] + 1)}: {number}"
                for number in MEASURED.findall(text)
                if not CONSTANT.fullmatch(number) and not is_among(number, known)
            ]
    assert not wrong
