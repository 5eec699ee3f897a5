"""The picture in README: `python scripts/picture_of_board.py` draws leaderboard/board.png from leaderboard/index.html.

It takes Chromium (Debian's package `chromium`) and the test requirements.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[1] / "leaderboard"

argparse.ArgumentParser(description=__doc__).parse_args()
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
    )
    page = browser.new_page(viewport={"width": 1380, "height": 900}, color_scheme="light")
    page.goto((FOLDER / "index.html").as_uri())
    page.wait_for_selector("#excess svg")
    page.wait_for_timeout(500)
    bottom = page.locator("#excess").bounding_box()
    page.screenshot(
        path=FOLDER / "board.png",
        full_page=True,
        clip={"x": 0, "y": 0, "width": 1380, "height": bottom["y"] + bottom["height"] + 10},
    )
    browser.close()
