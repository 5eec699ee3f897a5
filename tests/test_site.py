"""The site, built as `make docs` does (examples/tour.py runs then), and opened from its folder without a network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mdbench
from mdbench.cli import app

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium")
PAGES = ["index.html", "guides/predictor.html", "commands.html", "api.html", "tour.html", "claims.html"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Its folder. Warnings are errors: links that lead nowhere, pages that no list names, names without a docstring."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_public_name_and_every_command_has_a_place(site):
    api, commands = ((site / name).read_text(encoding="utf-8") for name in ("api.html", "commands.html"))
    assert all(f'id="mdbench.{name}"' in api for name in mdbench.__all__)
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert len(names) > 15
    assert all(f'id="mdbench-{name.replace("_", "-")}"' in commands for name in names)


def test_the_tour_ends_with_a_row_on_a_board(site):
    text = (site / "tour.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<img[^>]*src="tour_files/', text)) == 2
    board = text[text.rindex("<table") :]
    assert all(f"<td>{name}</td>" in board for name in ("tour/mine.py:Credit:steps=10", "md1", "contributed"))


def test_what_the_board_and_the_claims_link_to_is_there(site):
    for name in (
        "leaderboard/index.html",
        "leaderboard/validation.html",
        "claims/predictions.csv",
        "worlds/atoms.html",
    ):
        assert (site / name).is_file()
    assert "leaderboard/index.html" in (site / "leaderboard.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium (Debian's package chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def look(browser, site):
    """Open a page: ``look("api.html", 360, "dark")``; whatever goes wrong in it fails the test."""
    faults, contexts = [], []

    def look(name, width=1280, scheme="light"):
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        )
        page = contexts[-1].new_page()
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        local = ("file:", "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(local) else faults.append(request.url))
        page.goto((site / name).as_uri())
        page.wait_for_selector("h1")
        return page

    yield look
    for context in contexts:
        context.close()
    assert faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_it_fits_a_phone_and_can_be_read_in_the_dark(look, name, width, scheme):
    page = look(name, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paper, ink = (
        sum(map(int, re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{what}"))[:3]))
        for what in ("backgroundColor", "color")
    )
    assert (paper < ink) == (scheme == "dark")


def test_search_answers_from_a_folder(look):
    page = look("index.html")
    page.fill("input.md-search__input", "excess KL")
    page.wait_for_selector(".md-search-result__item", state="attached")
    assert page.locator(".md-search-result__link").first.get_attribute("href")


def test_light_and_dark_can_be_chosen(look):
    page = look("index.html")
    before = page.evaluate("document.body.dataset.mdColorScheme")
    page.locator("label[for^=__palette]:visible").click()
    assert {before, page.evaluate("document.body.dataset.mdColorScheme")} == {"default", "slate"}
