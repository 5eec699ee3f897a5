"""The board: what is refused, the same bytes twice, and its page as a person meets it, in a real browser."""

import html
import json
import os
import re
import shutil

import numpy as np
import pytest

from mdbench import board
from mdbench.board import SUITE
from mdbench.board_page import render_html, render_markdown
from mdbench.errors import InputError
from mdbench.records import score_predictions
from mdbench.tasks import load_task, public_sequences
from tests.test_records import run

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
def folder(tmp_path_factory):
    """Records on the suite core of a few sequences, with names that would do harm if they could."""
    place = tmp_path_factory.mktemp("board")
    names = [p for name in ("md1", "md2", "bayes", "exact", "uniform", "oracle") for p in ("--predictor", name)]
    options = ("--n-sequences", 60, "--no-references", "--record", "--leaderboard", place)
    assert run("evaluate", *names, *options) == 0
    assert run("evaluate", "--predictor", "trained_l3", "--lengths", "16,32", *options) == 0
    tokens = public_sequences(TASK).tokens
    for k, name in enumerate(NASTY):
        probs = load_task(TASK).transition[tokens[: 30 + k, 15]]
        np.savez(place / "p.npz", T16=probs)
        score_predictions(place / "p.npz", load_task(TASK), name, place)
    return place


@pytest.fixture
def copy(folder, tmp_path):
    """One that a test may spoil."""
    shutil.copytree(folder, tmp_path / "board")
    return tmp_path / "board"


@pytest.fixture(scope="session")
def built(folder):
    return board.build(folder)


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
    assert f" | {', '.join(both)} | " in next(line for line in markdown.splitlines() if "| trained" in line)
    assert next(line for line in markdown.splitlines() if "| oracle" in line).endswith(" | – | – | – | 60 *few* |")
    assert " at T = 16 | – | – | " in next(line for line in markdown.splitlines() if "| " + "n" * 300 in line)
    assert "<br>".join(both) in render_html(built, "x")


def spoil(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


FAULTS = {
    "unknown field": (lambda p: spoil(p, lambda c: c.update(more=1)), "more"),
    "missing npz": (lambda p: next(p.parent.glob("md2-*.npz")).unlink(), "not a file beside it"),
    "NaN": (lambda p: spoil(p, lambda c: c["cells"][0].update(kl=float("nan"))), "NaN"),
    "leaves the folder": (lambda p: spoil(p, lambda c: c["predictions"].update(file="../md1.npz")), "predictions.file"),
    "another score": (lambda p: spoil(p, lambda c: c["cells"][2].update(excess_kl=1e-9)), "does not hold: T = 64"),
    "another task": (lambda p: spoil(p, lambda c: c.update(task_hash="0" * 64)), "task_hash"),
    "other sequences": (lambda p: spoil(p, lambda c: c.update(data_hash="0" * 64)), "data_hash"),
    "not JSON": (lambda p: p.write_text("{"), "is not JSON"),
    "a second of one row": (lambda p: shutil.copy(p, p.with_name("twin.json")), "keep one"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoilt_record_is_refused_and_the_rest_is_built(copy, built, fault):
    spoiling, said = FAULTS[fault]
    spoiling(copy / "records" / "mtd-q5-m3" / "md2.json")
    found = board.build(copy)
    assert found.refused
    assert all(said in r.reason and "\n" not in r.reason for r in found.refused)
    assert {r.path.split("/")[1] for r in found.refused} == {"mtd-q5-m3"}
    assert {r.label for r in found.rows} == {r.label for r in built.rows}
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


def test_an_empty_folder_is_one_sentence(tmp_path, capsys):
    with pytest.raises(InputError, match="no records to rank"):
        board.build(tmp_path)
    assert run("leaderboard", "build", "--leaderboard", tmp_path / "nowhere") == 2
    assert run("leaderboard", "build", "--leaderboard", tmp_path, "--suite", "cores") == 2
    assert "did you mean" in capsys.readouterr().err


def test_building_twice_gives_the_same_bytes_and_check_sees_what_is_stale(copy, capsys):
    files = ["index.html", "README.md", "record.schema.json"]
    assert run("leaderboard", "build", "--leaderboard", copy) == 0
    first = [(copy / name).read_bytes() for name in files]
    assert run("leaderboard", "build", "--leaderboard", copy) == 0
    assert [(copy / name).read_bytes() for name in files] == first
    assert run("leaderboard", "build", "--leaderboard", copy, "--check") == 0
    (copy / "records" / TASK / "md2.json").unlink()
    capsys.readouterr()
    assert run("leaderboard", "build", "--leaderboard", copy, "--check", "--json") == 1
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


def test_without_javascript_the_table_is_there(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert "md2" in page.inner_text("#board")
    context.close()
