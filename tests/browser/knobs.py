"""The knobs on a page, as a person finds them: by the page's name, the place's name, the mode's name."""

from __future__ import annotations

import re
from typing import Any

from tests.browser.page import Notebook


def tab(notebook: Notebook, name: str) -> None:
    """Open one of the controls' pages."""
    notebook.page.locator(".labkit-controls .lm-TabBar-tab", has_text=name).click()


def button(notebook: Notebook, place: str, mode: str) -> Any:
    """The button of a mode in the row of a place."""
    title = notebook.page.locator("b", has_text=re.compile(f"^{place}$"))
    return notebook.page.locator(".labkit-controls .widget-vbox", has=title).last.locator("button", has_text=mode)


def press(notebook: Notebook, place: str, mode: str) -> None:
    """Set the mode of a place by the mouse."""
    tab(notebook, "mTLS mode")
    button(notebook, place, mode).click()


def is_pressed(notebook: Notebook, place: str, mode: str) -> bool:
    """Whether the knob of a place shows this mode."""
    return "mod-active" in (button(notebook, place, mode).get_attribute("class") or "")


def wait_for(notebook: Notebook, script: str, argument: Any = None, limit: float = 20) -> None:
    """Wait until a script says yes on the page."""
    notebook.page.wait_for_function(script, arg=argument, timeout=1000 * limit)


def wait_for_knob(notebook: Notebook, place: str, mode: str) -> None:
    """Wait until the knob of a place shows a mode: at once, or when a change of its own has ended."""
    tab(notebook, "mTLS mode")
    script = """([place, mode]) => [...document.querySelectorAll('.labkit-controls .widget-vbox')]
        .filter((row) => row.querySelector('b')?.textContent === place).at(-1)
        ?.querySelector('button.mod-active')?.textContent.trim() === mode"""
    wait_for(notebook, script, [place, mode])
    assert is_pressed(notebook, place, mode)
