"""A lesson in a real browser: opened, run, looked at."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.browser.page import ROOT, jupyter, opened

LESSON = "04_enforce_strict.ipynb"


def test_a_lesson_runs_to_its_end_with_a_picture_and_without_an_error(desk: Path) -> None:
    shutil.copy(ROOT / "notebooks" / LESSON, desk)
    with jupyter(desk) as address, opened(address, LESSON) as notebook:
        notebook.run_all(limit=240)
        notebook.page.mouse.move(900, 600)
        picture = notebook.page.locator("figure svg.lkm").first
        for _ in range(30):  # what is out of sight is not on the page
            if picture.count() and picture.is_visible():
                break
            notebook.page.mouse.wheel(0, -700)
            notebook.page.wait_for_timeout(200)
        picture.scroll_into_view_if_needed()
        notebook.page.wait_for_timeout(500)
        notebook.shot("lesson-04")
        assert "Encryption map" in (picture.get_attribute("aria-label") or "")
        assert notebook.page.locator(".jp-OutputArea-output[data-mime-type*='error']").count() == 0
        assert notebook.problems == []
