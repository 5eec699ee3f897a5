"""The board: what is refused, the same bytes twice, and its page as a person meets it, in a real browser."""

import csv
import html
import io
import json
import os
import re
import shutil
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
from markdown_it import MarkdownIt

from mdbench.board import board, kept, marks, times
from mdbench.board.board import SUITE
from mdbench.board.marks import Compared, Mark
from mdbench.board.ranking import Planned
from mdbench.board.times import CellTime, Time
from mdbench.board.verification import TESTED
from mdbench.board.writing import score_predictions
from mdbench.core.errors import InputError
from mdbench.core.wording import p_text
from mdbench.pages.board import render_csv, render_html, render_markdown
from mdbench.tasks import load_suite, load_task, public_sequences

TASK = "mtd-q3-m2"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

NASTY = [
    '<script>alert("x")</script>',
    "n" * 300,
    "quo\"te's & <b>",
    "λ → 模型 🤖",
    "a|b `c` *d*",
    "</script><img src=x>",
]


@pytest.fixture(scope="session")
def folder(run, tmp_path_factory):
    """Records on the suite core of a few sequences."""
    place = tmp_path_factory.mktemp("board")
    names = [p for name in ("md1", "md2", "bayes", "exact", "uniform", "oracle") for p in ("--predictor", name)]
    options = ("--n-sequences", 60, "--no-references", "--record", "--leaderboard", place)
    assert run("evaluate", *names, *options).code == 0
    assert run("evaluate", "--predictor", "trained_l3", "--lengths", "16,32", *options).code == 0
    tokens = public_sequences(TASK).tokens
    for k, text in enumerate(NASTY):
        probs = load_task(TASK).transition[tokens[: 30 + k, 15]]
        np.savez(place / "p.npz", T16=probs)
        score_predictions(
            place / "p.npz", load_task(TASK), text if text.isalnum() and text.isascii() else f"nasty {k}", place
        )
    return place


@pytest.fixture
def copy(folder, tmp_path):
    """One that a test may spoil."""
    shutil.copytree(folder, tmp_path / "board")
    return tmp_path / "board"


@pytest.fixture(scope="session")
def built(folder):
    """With names given past all that records refuse."""
    found = board.build(folder)
    return replace(found, rows=[replace(r, label=nasty(r.label)) for r in found.rows])


def nasty(label):
    """What such a row is called in ``built``."""
    return {f"nasty {k}": text for k, text in enumerate(NASTY)}.get(label, label)


def row(built, label):
    return next(r for r in built.rows if r.label == label)


def test_the_order_of_the_suite(built):
    ranked = [r.label for r in built.rows if SUITE in r.tables]
    assert set(ranked[:2]) == {"bayes", "exact"}
    assert ranked[2:] == ["md2", "md1", "uniform"]
    assert row(built, "bayes").tables[SUITE].ranks == row(built, "exact").tables[SUITE].ranks == (1, 2)
    assert row(built, "bayes").tables[SUITE].groups == row(built, "exact").tables[SUITE].groups
    assert row(built, "md1").tables[SUITE].score == pytest.approx(1.0)
    assert not built.refused
    assert not built.notes


def test_rows_that_lack_cells_are_shown_and_not_ranked(built):
    trained = row(built, "trained_l3")
    assert trained.tables == {}
    assert trained.missing[TASK, 64] == "not in its record"
    other = row(built, "n" * 300)
    assert other.missing["mtd-q5-m3", 16] == "no record"
    assert row(built, "oracle").tables == {}
    assert (row(built, "oracle").kind, other.kind) == ("upper bound", "predictions only")


def test_rows_that_lack_cells_show_those_that_they_have(built):
    """Each with its length, and a dash where there is none or none with an excess KL."""
    excess = [cell.excess_kl for (task, _), _, cell in row(built, "trained_l3").cells() if task == TASK]
    both = [f"{value:.3g} at T = {length}" for value, length in zip(excess, (16, 32), strict=True)]
    markdown = render_markdown(built, "x")
    assert f" | {', '.join(both)} | " in next(line for line in markdown.splitlines() if "| <code>trained" in line)
    assert next(line for line in markdown.splitlines() if "| <code>oracle" in line).endswith(
        " | – | – | – | 60 *few* | not rerun | – |"
    )
    assert " at T = 16 | – | – | " in next(line for line in markdown.splitlines() if "| <code>" + "n" * 300 in line)
    assert "<br>".join(both) in render_html(built, "x")


def spoil(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


FAULTS = {
    "unknown field": (lambda p: spoil(p, lambda c: c.update(more=1)), "more"),
    "missing npz": (lambda p: next(p.parent.glob("md2-*.npz")).unlink(), "not a file beside it"),
    "NaN": (lambda p: spoil(p, lambda c: c["cells"][0]["scores"]["kl"].update(mean=float("nan"))), "NaN"),
    "leaves the folder": (lambda p: spoil(p, lambda c: c["predictions"].update(file="../md1.npz")), "predictions.file"),
    "another score": (
        lambda p: spoil(p, lambda c: c["cells"][2]["scores"]["excess_kl"].update(mean=1e-9)),
        "does not hold: T = 64",
    ),
    "another task": (lambda p: spoil(p, lambda c: c.update(task_hash="0" * 64)), "task_hash"),
    "other sequences": (lambda p: spoil(p, lambda c: c.update(data_hash="0" * 64)), "data_hash"),
    "not JSON": (lambda p: p.write_text("{"), "is not JSON"),
    "only a copy": (lambda p: p.rename(p.with_name("twin.json")), "is called 'md2.json'; a copy counts for nothing"),
}


def test_a_copy_takes_out_only_itself(copy, built):
    """Also of the row that is the unit of all scores; and a file whose name is no text is named in the page."""
    place = copy / "records" / "mtd-q5-m3"
    for name in ("aaa.json", "zzz.json"):
        shutil.copy(place / "md1.json", place / name)
    (place / "line\n# break.json").write_text("{")
    with open(os.fsencode(place) + b"/\xff.json", "w") as file:
        file.write("{")
    found = board.build(copy)
    assert len(found.refused) == 4
    assert {name: s.score for r in found.rows if r.label == "md1" for name, s in r.tables.items()} == {
        name: s.score for r in built.rows if r.label == "md1" for name, s in r.tables.items()
    }
    paths = [r.path for r in found.refused]
    assert {r"records/mtd-q5-m3/\udcff.json", r"records/mtd-q5-m3/line\n# break.json"} < set(paths)
    for text in (render_html(found, "x"), render_markdown(found, "x"), json.dumps(found.to_dict())):
        text.encode()


def test_what_an_author_says_of_training_decides_nothing(built):
    """A card may be left out or made up; of what is built in the registry knows whether it was trained."""

    def told(label, card):
        found = row(built, label)
        one_run = [cell.model_copy(update={"runs": None}) for cell in found.first.cells]
        records = {t: r.model_copy(update={"card": card, "cells": tuple(one_run)}) for t, r in found.records.items()}
        return replace(found, records=records).one_seed

    assert told("trained_l3", None)
    assert not told("md2", {"trained": True})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoilt_record_is_refused_and_the_rest_is_built(copy, built, fault):
    spoiling, said = FAULTS[fault]
    spoiling(copy / "records" / "mtd-q5-m3" / "md2.json")
    found = board.build(copy)
    assert found.refused
    assert all(said in r.reason and "\n" not in r.reason for r in found.refused)
    assert {r.path.split("/")[1] for r in found.refused} == {"mtd-q5-m3"}
    assert {nasty(r.label) for r in found.rows} == {r.label for r in built.rows}
    assert SUITE not in row(found, "md2").tables
    assert row(found, "md1").tables[SUITE].score == row(built, "md1").tables[SUITE].score
    assert str(copy) not in render_html(found, "x")


def test_a_record_in_the_folder_of_another_task_or_behind_a_link_is_refused(copy):
    place = copy / "records"
    for file in [place / TASK / "md2.json", *(place / TASK).glob("md2-*.npz")]:
        shutil.copy(file, place / "mtd-q5-m3" / file.name.replace(".json", "-other.json"))
    (place / TASK / "linked.json").symlink_to(place / "mtd-q5-m3" / "md2.json")
    reasons = {r.path: r.reason for r in board.build(copy).refused}
    assert "stands in the folder of" in reasons["records/mtd-q5-m3/md2-other.json"]
    assert "link" in reasons[f"records/{TASK}/linked.json"]


def test_without_the_unit_the_suite_is_not_ranked_and_tasks_are(copy):
    (copy / "records" / "mtd-q5-m3" / "md1.json").unlink()
    found = board.build(copy)
    assert "no whole record of md1" in found.notes[0]
    assert all(SUITE not in r.tables for r in found.rows)
    assert row(found, "md2").tables[TASK].ranks == row(board.build(copy), "md2").tables[TASK].ranks
    assert "no whole record of md1" in render_html(found, "x")


def test_an_empty_folder_is_one_sentence(run, tmp_path, capsys):
    with pytest.raises(InputError, match="no records to rank"):
        board.build(tmp_path)
    assert run("leaderboard", "build", "--leaderboard", tmp_path / "nowhere").code == 2
    assert run("leaderboard", "build", "--leaderboard", tmp_path, "--suite", "cores").code == 2
    assert "did you mean" in capsys.readouterr().err


def test_building_twice_gives_the_same_bytes_and_check_sees_what_is_stale(run, copy, capsys):
    files = ["index.html", "README.md", "board.csv", "record.schema.json"]
    assert run("leaderboard", "build", "--leaderboard", copy).code == 0
    first = [(copy / name).read_bytes() for name in files]
    assert run("leaderboard", "build", "--leaderboard", copy).code == 0
    assert [(copy / name).read_bytes() for name in files] == first
    assert run("leaderboard", "build", "--leaderboard", copy, "--check").code == 0
    (copy / "records" / TASK / "md2.json").unlink()
    capsys.readouterr()
    assert run("leaderboard", "build", "--leaderboard", copy, "--check", "--json").code == 1
    captured = capsys.readouterr()
    assert "index.html" in captured.err
    assert "README.md" in captured.err
    assert "schema" not in captured.err
    assert json.loads(captured.out)["suite"] == "core-v1"
    assert [(copy / name).read_bytes() for name in files] == first


def test_markdown_holds_any_name_in_one_row(built):
    text = render_markdown(built, "mdbench leaderboard build")
    ranking, planned = text.split("## Planned comparisons")
    table = [line for line in ranking.splitlines() if line.startswith("| ")]
    assert len(table) == 1 + len(built.rows)
    assert planned.count("\n| ") == 1 + len(built.planned)
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert "<script" not in text
    assert "<b>" not in text
    shown = html.unescape(text)  # as a reader sees it, but for Markdown's own escapes
    assert 'script>alert("x")</script>' in shown
    assert r"a|b \`c\` \*d\*" in shown


def test_the_page_needs_no_network(built):
    page = render_html(built, "x")
    before_vega = page[: page.index("<script>")]
    assert "http" not in before_vega.replace("https://vega.github.io", "").replace("http-equiv", "")
    assert "default-src 'none'" in before_vega
    assert 'src="' not in before_vega
    assert "<script>alert" not in page
    assert "<img src=x>" not in page


# --------------------------------------------------------------------------------- marks, times, references, plain text


def marked(task, label, **change):
    """A mark of a rerun that was compatible, but for what changes."""
    tests = tuple(
        Compared(length=length, score=score, p=0.25, compatible=True)
        for length in load_suite("core").lengths
        for score in TESTED
    )
    about = {"seed": 77, "n_sequences": 32, "isolated": False, "date": "2026-02-03", "compatible": True, "p": 0.25}
    return Mark(**{"task": task, "label": label, "tests": tests, "fault": None} | about | change)


def timed(task, label, ratio=2.5):
    fields = {"reference": times.REFERENCE, "mdbench": version("mdbench"), "n_sequences": 64, "date": "2026-02-03"}
    return Time(
        task=task,
        label=label,
        cells=tuple(CellTime(length=n, ratio=ratio) for n in load_suite("core").lengths),
        **fields,
    )


def states(found):
    """What each place says of a row: (README, page, CSV, JSON)."""
    table = [line.split(" | ") for line in render_markdown(found, "x").splitlines() if line.startswith("| ")]
    head = next(cells for cells in table if "rerun" in cells)
    readme = {
        re.sub("</?code>", "", cells[1]): cells[head.index("rerun")] for cells in table if len(cells) == len(head)
    }
    page = re.findall(r'<td class="left" data-sort="([^"]*)">(?:<b>)?\1(?:</b>)?</td>', render_html(found, "x"))
    sheet = {cells["predictor"]: cells["rerun"] for cells in csv.DictReader(io.StringIO(render_csv(found)))}
    return readme, page, sheet, {r["label"]: r["rerun"] for r in found.to_dict()["rows"]}


def test_marks_and_times_belong_to_the_bytes_of_the_records(copy, built):
    paths = {task: copy / "records" / task / "md2.json" for task in built.suite.tasks}
    kept.write_kept(copy, marks.FILE, {marks.digest_of(p): marked(t, "md2") for t, p in paths.items()})
    kept.write_kept(copy, times.FILE, {marks.digest_of(p): timed(t, "md2") for t, p in paths.items()})
    found = board.build(copy)
    assert {r.label: r.rerun for r in found.rows if r.rerun == "rerun"} == {"md2": "rerun"}
    assert {r.label: r.cost for r in found.rows if r.cost is not None} == {"md2": 2.5}
    paths[TASK].write_text(paths[TASK].read_text().replace('"device": "cpu"', '"device": "gpu"'))
    found = board.build(copy)
    assert (row(found, "md2").rerun, row(found, "md2").cost) == ("2 of 3 tasks rerun", None)


def test_every_place_says_what_was_rerun(built):
    tasks = built.suite.tasks
    given = {
        "md2": {task: marked(task, "md2") for task in tasks},
        "md1": {tasks[0]: marked(tasks[0], "md1")},
        "uniform": {task: marked(task, "uniform") for task in tasks[:2]}
        | {tasks[2]: marked(tasks[2], "uniform", compatible=False, fault="it <b>failed</b>", tests=(), p=None)},
    }
    rows = [replace(r, marks=given.get(r.label, {})) for r in built.rows]
    found = replace(built, rows=rows)
    expected = {"md2": "rerun", "md1": "1 of 3 tasks rerun", "uniform": "not repeated", "bayes": "not rerun"}
    expected |= {"oracle": "not rerun", "n" * 300: "predictions only"}
    readme, page, sheet, as_json = states(found)
    for label, state in expected.items():
        assert readme[label] == sheet[label] == as_json[label] == state
    assert page.count("rerun") == page.count("not repeated") == page.count("1 of 3 tasks rerun") == 1
    details = html.unescape(render_html(found, "x"))
    assert "compatible (seed 77, 32 fresh sequences a cell, smallest corrected p: 0.25, 2026-02-03" in details
    assert "not repeated (seed 77, 32 fresh sequences a cell, 2026-02-03, in mdbench's own process): it <b>" in details


def test_only_rows_that_were_timed_are_in_the_cost_chart(built):
    def charted(found):
        data = re.search(r'<script id="data" type="application/json">(.*?)</script>', render_html(found, "x"), re.S)
        return json.loads(data[1])["points"]["cost"]

    assert charted(built) == []
    times_of = {task: timed(task, "md2", 2.0 + k) for k, task in enumerate(built.suite.tasks)}
    rows = [replace(r, times=times_of if r.label == "md2" else {}) for r in built.rows]
    rows += [replace(row(built, "md1"), label="in part", times={TASK: timed(TASK, "md1")})]
    found = replace(built, rows=rows)
    assert [(p["predictor"], p["cost"]) for p in charted(found)] == [("md2", 3.0)]
    assert next(line for line in render_markdown(found, "x").splitlines() if "| <code>md2</code> |" in line).endswith(
        "| 3 |"
    )


def test_what_its_author_says_is_marked_so_and_predictions_alone_have_no_command(built):
    page = html.unescape(render_html(built, "x"))
    details = {r.label: part for r, part in zip(built.rows, page.split('<tr class="detail"')[1:], strict=True)}
    checked, said = details["md2"].split("Said by its author, and checked by nobody:")
    for what in ("from", "date", "device", "libraries", "seconds for all sequences"):
        assert f"<dt>{what}</dt>" in said
        assert f"<dt>{what}</dt>" not in checked
    assert "mdbench evaluate --predictor md2" in said
    alone = details["n" * 300]
    assert "mdbench score" not in alone
    assert "nobody can repeat it here" in alone
    assert "Its card, said by its author:" in details["trained_l3"]


URLS = [
    *("http://evil.example/x", "https://evil.example", "www.evil.example", "WWW.Evil.example/x?y=1", "@user"),
    *("me@evil.example", "ftp://evil.example", "mailto:me@evil.example", "xmpp:me@evil.example", "[x](http://a.b)"),
    *(
        "<http://a.b>",
        "![x](http://a.b/c.png)",
        "![x][y]",
        "#1",
        "a/b#1",
        "`x`",
        "***x***",
        "~~x~~",
        "a | b",
        "&lt;b&gt;",
        "$a^2$",
        "1. x",
        "+ x",
    ),
]


@pytest.mark.parametrize("label", URLS)
def test_a_label_is_plain_text_in_the_readme(built, label):
    """As GitHub has it: bare URLs, addresses and www. become links there too, if they stand together."""
    lines = render_markdown(replace(built, rows=[replace(row(built, "md2"), label=label)]), "x").splitlines()
    table = [k for k, line in enumerate(lines) if line.startswith("| ")][:1]
    text = "\n".join(lines[table[0] : table[0] + 3])
    assert not re.search(r"(?i)://|www\.|[\w.+-]@\w|(?<!\w)@\w|(mailto|xmpp):", text)
    shown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", shown)
    assert "<a" not in shown
    assert "<img" not in shown
    assert html.unescape(cells[1].replace("<!-- -->", "")) == f"<code>{label}</code>"


def test_references_are_text_and_only_a_doi_or_an_arxiv_number_is_a_link(built):
    links = {
        "doi:10.1000/182": "https://doi.org/10.1000/182",
        "10.1145/3597503": "https://doi.org/10.1145/3597503",
        "https://doi.org/10.1000/a.b(c)-d": "https://doi.org/10.1000/a.b(c)-d",
        "arXiv:2601.01234v2": "https://arxiv.org/abs/2601.01234v2",
    }
    texts = [
        *("javascript:alert(1)", "http://evil.example", "https://doi.org.evil.example/10.1000/182", "x 10.1000/182"),
        *('doi:10.1000/1"onclick="x', "doi:10.1000/<script>", "data:text/html,x", "arXiv:../../evil"),
        *("doi:10.1000/%2e", "doi:10.1000/x\n"),
    ]
    rows = []
    for reference in [*links, *texts]:
        records = {t: r.model_copy(update={"reference": reference}) for t, r in row(built, "md2").records.items()}
        rows.append(replace(row(built, "md2"), records=records))
    found = replace(built, rows=rows)
    page, readme = render_html(found, "x"), render_markdown(found, "x")
    assert re.findall(r'<dd><a href="([^"]*)"', page) == list(links.values())
    assert re.findall(r"\]\(<([^>]*)>\)", readme) == list(links.values())
    assert page[: page.index("<script>")].count("href=") == len(links) + 2  # and board.csv, validation.html
    for text in texts:
        assert f"<dt>reference</dt><dd>{html.escape(text).replace('&quot;', '&#34;')}</dd>" in page
    sheet = list(csv.DictReader(io.StringIO(render_csv(found))))
    assert [cells["reference"] for cells in sheet] == [*links, *texts]


def test_the_csv_holds_the_table_and_no_formulas(built):
    tasks = built.suite.tasks
    labels = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", 'a "b", c', "a\nb", "plain", "'=1"]
    rows = [replace(row(built, "md2"), label=label) for label in labels]
    text = render_csv(replace(built, rows=[*built.rows, *rows]))
    sheet = {cells["predictor"]: cells for cells in csv.DictReader(io.StringIO(text))}
    assert set(labels[5:]) <= set(sheet)
    assert {f"'{label}" for label in labels[:5]} <= set(sheet)
    assert not any(cells.startswith(("=", "+", "@", "-1")) for cells in sheet)
    standing, cells = row(built, "md2").tables[SUITE], sheet["md2"]
    assert float(cells["score"]) == pytest.approx(standing.score, rel=1e-7)
    assert (float(cells["interval_low"]), float(cells["interval_high"])) == pytest.approx(standing.interval, rel=1e-7)
    assert (cells["position"], cells["rank_low"], cells["rank_high"]) == tuple(map(str, (3, *standing.ranks)))
    assert [float(cells[t]) for t in tasks] == pytest.approx([row(built, "md2").tables[t].score for t in tasks])
    assert (cells["sequences"], cells["one_seed"], sheet["trained_l3"]["one_seed"]) == ("60", "no", "no")
    assert (sheet["bayes"]["score"], sheet["bayes"]["interval_low"], sheet["oracle"]["score"]) == ("0", "", "")


def test_a_p_value_is_never_zero():
    texts = Planned("a", "b", 12, 0.5, (0.4, 0.6), 0.0, "better", False).texts
    assert texts[5] == "< 0.0001"
    assert p_text(0.0123) == "0.012"


# ------------------------------------------------------------------------------------------------------------ browser


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium (Debian's package chromium)")
    assert CHROMIUM, "CI has to test the page: install chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(built, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render_html(built, "mdbench leaderboard build"), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    """The open page; whatever goes wrong in it fails the test."""
    faults = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append("a dialog: a name ran as a script"), dialog.dismiss()))
    local = ("file:", "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else faults.append(request.url))
    page.goto(address)
    page.wait_for_selector("#kl svg")
    yield page
    page.wait_for_timeout(100)
    context.close()
    assert faults == []


def names(page):
    return page.eval_on_selector_all("tr.row:not([hidden])", "rows => rows.map(row => row.dataset.name)")


def test_sorting_by_any_column_and_back(page):
    initial = names(page)
    assert initial[2:5] == ["md2", "md1", "uniform"]
    page.click("th button:text-is('predictor')")
    assert names(page) == page.evaluate("names => [...names].sort((a, b) => a.localeCompare(b))", initial)
    page.click("th button:text-is('predictor')")
    assert names(page) == page.evaluate("names => [...names].sort((a, b) => b.localeCompare(a))", initial)
    assert page.get_attribute("th:has(button:text-is('predictor'))", "aria-sort") == "descending"
    page.click("th button:text-is('mtd-q5-m3')")
    ranked = [name for name in names(page) if name in ("md2", "md1", "uniform")]
    assert ranked == ["md2", "md1", "uniform"]
    page.click("th button:text-is('#')")
    assert names(page) == initial
    details = page.eval_on_selector_all(
        "tr.row", "rows => rows.every(row => row.nextElementSibling.matches('.detail'))"
    )
    assert details


def test_filtering_by_name_and_kind(page):
    everyone = len(names(page))
    page.fill("#filter", "MD")
    assert names(page) == ["md2", "md1"]
    assert page.inner_text("#count") == f"2 of {everyone} rows"
    page.fill("#filter", "")
    page.uncheck(".kind-filter[value='predictions only']")
    assert len(names(page)) == everyone - len(NASTY)
    page.uncheck(".kind-filter[value=predictor]")
    assert set(names(page)) == {"bayes", "exact", "oracle"}
    page.wait_for_function("!document.querySelector('#cost').textContent.includes('md2')")


def test_a_row_opens_by_keyboard_to_its_provenance(page):
    button = page.locator("tr[data-name=md2] td.name button")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    text = page.inner_text("#" + button.get_attribute("aria-controls"))
    assert "mdbench evaluate --predictor md2 --task mtd-q5-m3" in text
    assert re.search(r"from\s+mdbench \d", text)
    assert text.count("mtd-q10-m4") >= 4
    page.keyboard.press("Space")
    assert not page.locator("tr[data-name=md2] + tr.detail").is_visible()


def test_charts_follow_the_ticked_rows(page):
    def drawn():
        return page.inner_text("#excess")

    assert "uniform" in drawn()
    page.uncheck("input.charted[value=uniform]")
    page.wait_for_function("!document.querySelector('#excess').textContent.includes('uniform')")
    page.check("input.charted[value=bayes]")
    page.wait_for_function("document.querySelector('#excess').textContent.includes('bayes')")
    assert "at gold" in drawn()
    for box in page.query_selector_all("input.charted:not(:checked)"):
        if box.is_enabled():
            box.check()
    assert page.locator("input.charted:checked").count() == 8
    assert page.locator("input.charted:not(:checked):enabled").count() == 0


def test_who_agrees_with_whom(page, built):
    """The heat map has a cell for each pair that is finite and not nothing, at the place that is picked."""

    def n_cells(place):
        values = built.agreements[place].matrix
        return int(((values > 0) & np.isfinite(values)).sum())

    places = list(built.agreements)
    page.wait_for_selector("#agreement svg")
    assert page.locator("#agreement svg .mark-rect.role-mark path").count() == n_cells(places[0])
    place = places[-1]
    page.select_option("#place", f"{place[0]}, T = {place[1]}")
    page.wait_for_function(
        "n => document.querySelectorAll('#agreement svg .mark-rect.role-mark path').length === n", arg=n_cells(place)
    )


def test_names_do_no_harm(page):
    assert set(NASTY) <= set(names(page))
    for k in range(len(names(page))):
        page.locator("tr.row td.name button").nth(k).click()
    for box in page.query_selector_all("input.charted:checked"):
        box.uncheck()
    assert "No row to draw" in page.inner_text("#excess")
    for name in NASTY:
        page.locator("input.charted").nth(names(page).index(name)).check()
    page.wait_for_function("document.querySelector('#excess').textContent.includes('<script>')")
    page.wait_for_function("document.querySelector('#excess').textContent.includes('模型')")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_a_phone_and_can_be_read_in_the_dark(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colour = {what: page.evaluate(f"getComputedStyle(document.body).{what}") for what in ("backgroundColor", "color")}
    assert _contrast(*colour.values()) > 7
    page.wait_for_selector("#excess svg")
    title = page.evaluate("getComputedStyle(document.querySelector('#excess svg .role-axis-title text')).fill")
    assert _contrast(title, colour["backgroundColor"]) > 7


def _contrast(a, b):
    """Of two CSS colours, by WCAG 2."""

    def luminance(colour):
        rgb = [int(n) for n in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


HOSTILE = [
    "<script>window.PWNED = 1; alert(1)</script>", "</script><script>window.PWNED = 1</script>", "<!--<script>",
    "<img src=x onerror='window.PWNED=1;alert(1)'>", "\" onmouseover=\"alert(1)", "' onfocus='alert(1)' autofocus='",
    "<svg/onload=alert(1)>", "<iframe src=javascript:alert(1)>", "javascript:alert(1)",
    "<style>body{display:none}</style>",
    "<base href=http://evil.example/>", "<meta http-equiv=refresh content=0;url=http://evil.example>",
    "<link rel=stylesheet href=http://evil.example/x.css>", "&lt;script&gt;alert(1)&lt;/script&gt;", "]]><b>&amp;</b>",
    "\u202eRTL\u202c override", "\u200bzero\u200d\ufeffwidth", "n" * 1000, "🤖" * 200, "NUL \x00 ESC \x1b[31m",
    "__proto__", "constructor", "toString", "{{7*7}} ${7*7} {% raw %} #{7*7}", "line\u2028and\u2029paragraph",
    "datum.x; window.PWNED = 1", "[datum](event.view.alert(1)) \\u003cscript>",
    "http://evil.example/x www.evil.example @user",
    "a\nb\tc\r", "e\u0301" * 60, "javas\tcript:alert(1)",
]  # fmt: skip


def test_hostile_labels_do_nothing(browser, built, tmp_path):
    """Given straight to the page, past all that records refuse: in labels, options, cards, reasons and host facts."""
    like = row(built, "md2")
    rows = []
    for k, text in enumerate(HOSTILE):
        of_row = {}
        for task, record in like.records.items():
            predictor = record.predictor.model_copy(update={"options": {text: text}, "distribution": text})
            host = record.host.model_copy(update={"device": text, "platform": text, "libraries": {text: text}})
            change = {"predictor": predictor, "host": host, "card": {text: [text]}, "reference": text, "command": text}
            of_row[task] = record.model_copy(update=change)
        fault = marked(TASK, "x", compatible=False, p=None, tests=(), fault=text[:300])
        tables = {name: replace(s, position=k + 1, score=0.5 + k) for name, s in like.tables.items()}
        times_of = {task: timed(task, "x", 1.0 + k) for task in of_row}
        more = {"missing": {(TASK, 16): text}, "marks": {TASK: fault}, "times": times_of}
        rows.append(replace(like, label=text, records=of_row, tables=tables, **more))
    refused = [board.Refused(text, text) for text in HOSTILE]
    content = render_html(replace(built, rows=rows, refused=refused, notes=HOSTILE[:3]), "x")
    (tmp_path / "index.html").write_text(content, encoding="utf-8")
    faults, requests = [], []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((tmp_path / "index.html").as_uri())
    page.wait_for_selector("#cost svg")
    page.evaluate("document.querySelectorAll('tr.row td.name button').forEach(button => button.click())")
    assert page.locator("tr.detail:not([hidden])").count() == len(HOSTILE)
    page.evaluate("document.querySelectorAll('th button').forEach(button => { button.click(); button.click() })")
    page.evaluate("[...document.querySelectorAll('input.charted')].slice(0, 8).forEach(box => box.click())")
    page.wait_for_selector("#excess svg")
    for text in HOSTILE[::8]:
        page.fill("#filter", text)
    page.fill("#filter", "")
    page.wait_for_function("document.querySelectorAll('#cost svg path').length > 30")
    assert page.evaluate("window.PWNED") is None
    counts = {name: page.locator(name).count() for name in ("script", "h1", "img", "iframe", "base", "link", "a")}
    assert counts == {"script": 3, "h1": 1, "img": 0, "iframe": 0, "base": 0, "link": 0, "a": 2}
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    context.close()
    assert faults == []
    assert len(requests) == 1


def test_without_javascript_the_table_is_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "md2" in page.inner_text("#board")
    context.close()
