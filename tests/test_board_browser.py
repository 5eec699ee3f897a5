"""The board's page as a person meets it, in a real browser."""

import os
import re
import shutil

import pytest

from mdbench.board_page import render_html
from tests.test_board import NASTY, built, folder  # noqa: F401 (fixtures)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("there is no Chromium (Debian's package chromium)", allow_module_level=True)


pytestmark = pytest.mark.xdist_group("board")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "CI has to test the page: install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(built, tmp_path_factory):  # noqa: F811
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
