"""Boards of several suites in one folder: each has its rows, leads to the others, and is the same bytes twice."""

import json
import re

import pytest

from mdbench.board import board
from mdbench.core.errors import InputError


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    place = tmp_path_factory.mktemp("boards")
    options = ("--n-sequences", 60, "--no-references", "--record", "--leaderboard", place)
    names = [part for name in ("uniform", "bayes", "ctw") for part in ("--predictor", name)]
    for suite in ("tree", "hmm"):
        assert run("evaluate", "--suite", suite, *names, *options).code == 0
    return place


def test_each_board_has_its_own_rows_and_leads_to_the_others(run, folder, capsys):
    capsys.readouterr()
    assert run("leaderboard", "build", "--leaderboard", folder, "--suite", "all", "--json").code == 0
    boards = json.loads(capsys.readouterr().out)
    assert [b["suite"] for b in boards] == ["hmm-v1", "tree-v1"] == [f"{b}-v1" for b in board.suites_in(folder)]
    assert [{row["label"] for row in b["rows"]} for b in boards] == [{"uniform", "bayes", "ctw"}] * 2
    for b in boards:
        score = {row["label"]: row["tables"]["suite"] for row in b["rows"]}
        assert score["uniform"]["score"] == 1
        assert score["bayes"]["position"] == 1
    ctw = {row["label"]: row["tables"]["suite"]["score"] for row in boards[1]["rows"]}["ctw"]
    assert ctw < 1e-6  # Bayes of trees, below gold's error
    for name, other in (("hmm", "tree"), ("tree", "hmm")):
        page = (folder / f"{name}.html").read_text()
        assert re.findall(r'<a href="(\w+)\.html">\1</a>', page) == [other]
        assert f'<b aria-current="page">{name}</b>' in page
        markdown = (folder / f"{name}.md").read_text()
        assert f"[{other}]({other}.md)" in markdown
        assert f"[{name}.csv]({name}.csv)" in markdown
        assert max(map(len, markdown.split("\n| ")[0].splitlines())) <= 120
    assert not (folder / "index.html").exists()


def test_the_same_bytes_twice(run, folder):
    def build(*more):
        return run("leaderboard", "build", "--leaderboard", folder, "--suite", "all", *more).code

    if not (folder / "hmm.md").exists():
        assert build() == 0
    first = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert build() == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == first
    (folder / "hmm.md").write_text("stale")
    assert build("--check") == 1


def test_no_number_of_a_page_has_more_digits_than_all_processors_share(run, folder):
    # Else `--check` fails on another one, as `.ci/run` shows with NPY_DISABLE_CPU_FEATURES.
    assert run("leaderboard", "build", "--leaderboard", folder, "--suite", "all").code == 0
    for name in ("hmm", "tree"):
        page = (folder / f"{name}.html").read_text()
        assert set(re.findall(r'data-sort="([^"]*)">at gold', page)) == {"0"}  # no ratio of rounding errors
        data = re.search(r'<script id="data" type="application/json">(.*?)</script>', page)
        numbers = []
        json.loads(data[1], parse_float=numbers.append)
        assert len(numbers) > 50
        assert [n for n in numbers if float(n) != float(f"{float(n):.6g}")] == []


def test_a_board_without_records_says_which_have_some(folder):
    with pytest.raises(
        InputError, match=r"no records to rank of core-v1 .*; it has some of other suites \(hmm, tree\)"
    ):
        board.build(folder)
    with pytest.raises(InputError, match="did you mean 'tree'"):
        board.build(folder, "trees")
