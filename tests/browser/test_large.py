"""Maps of many workloads on a page: found, zoomed, painted in time. The mesh is a table, the browser is real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.page import Notebook, jupyter, opened

CELL = """
from dataclasses import replace
from labkit.live.ledger import Ledger
from labkit.live.view import LiveView
from labkit.views.edge_panel import EdgeFacts, Party
from labkit.widgets.live_map import LiveMap
from tests.bench_map import _policy, a_mesh

class Still:
    problem, ledger, servers = "", Ledger(), {}
    def __init__(self, snapshot): self.now, self.listener = snapshot, None
    def snapshot(self, namespaces=()): return self.now
    def seen(self): return []
    def counted(self): return {}
    def subscribe(self, listener, targets):
        self.listener = listener
        return lambda: None

def shown(workloads, edges):
    snapshot, calls = a_mesh(workloads, edges)
    mesh, views = Still(snapshot), []
    def follow(show):
        views.append(LiveView(mesh, (), show, special=False))
        views[0]._met.update({call: 9e9 for call in calls})
        return views[0]
    facts = EdgeFacts(Party("a", without="no"), Party("b", without="no"))
    made = LiveMap(follow, facts=lambda edge: facts, later=lambda act: act(), probe=lambda: None,
                   first=lambda: views[0].take(mesh.now))
    made.mesh = mesh
    return made
"""
STRICT = """
import time
many.mesh.now = replace(many.mesh.now, peer_authentications=tuple(_policy(f"team-{i}", "STRICT") for i in range(8)))
many.view.refresh()
"""


def _notebook(directory: Path, name: str, *sources: str) -> None:
    blank = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**blank, "id": f"cell-{number}", "source": source} for number, source in enumerate(sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    text = json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
    (directory / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    directory = tmp_path_factory.mktemp("large")
    with jupyter(directory) as address:
        yield address, directory


@pytest.fixture(scope="module")
def forty(pages: tuple[str, Path]) -> Iterator[Notebook]:
    address, directory = pages
    _notebook(directory, "forty.ipynb", CELL, "shown(40, 70)")
    with opened(address, "forty.ipynb") as notebook:
        notebook.run_all()
        notebook.page.wait_for_selector(".lkw-stage svg")
        yield notebook


def test_a_workload_is_found_by_its_name(forty: Notebook) -> None:
    page = forty.page
    page.locator(".lkw-stage").click(position={"x": 5, "y": 5})
    page.locator(".lkw-bar input[type=search]").fill("app-17")
    page.wait_for_function("() => document.querySelectorAll('.lkw-found').length === 1")
    assert page.locator(".lkw-found").get_attribute("data-node") == "team-1/app-17"
    dimmed = page.locator(".lkm-edge.lkw-dim").count()
    assert 0 < dimmed < 70
    forty.shot("large-40-found")
    page.locator(".lkw-bar input[type=search]").fill("")
    page.wait_for_function("() => document.querySelectorAll('.lkw-dim').length === 0")


def test_it_is_zoomed_by_button_and_key_and_fits_again(forty: Notebook) -> None:
    page = forty.page
    width = "() => document.querySelector('.lkw-stage .lkm-card').getBoundingClientRect().width"
    fitting = page.evaluate(width)
    page.locator(".lkw-bar button[aria-label=Larger]").click()
    page.locator(".lkw-bar button[aria-label=Larger]").click()
    larger = page.evaluate(width)
    page.locator(".lkw-stage").focus()
    page.keyboard.press("-")
    smaller = page.evaluate(width)
    page.locator(".lkw-bar button", has_text="Fit").click()
    assert larger > smaller > 0 and larger > fitting
    assert page.evaluate(width) == fitting


def test_five_hundred_workloads_are_drawn_and_painted_anew_in_time(pages: tuple[str, Path]) -> None:
    address, directory = pages
    _notebook(directory, "many.ipynb", CELL, "many = shown(500, 2000); many", STRICT)
    with opened(address, "many.ipynb") as notebook:
        notebook.page.evaluate("""() => { window.longest = 0; new PerformanceObserver((list) => {
            for (const one of list.getEntries()) window.longest = Math.max(window.longest, one.duration); })
            .observe({entryTypes: ['longtask']}); }""")
        notebook.run_all()
        notebook.page.wait_for_selector(".lkw-stage svg")
        notebook.page.wait_for_function(
            "() => document.querySelectorAll('.lkw-stage [data-edge].lkm-refused').length > 300", timeout=20_000
        )
        assert notebook.page.locator(".lkw-stage [data-edge]").count() == 2000
        notebook.page.locator(".lkw-stage").scroll_into_view_if_needed()
        notebook.page.wait_for_timeout(4000)  # painted on the processor here, tile by tile
        notebook.shot("large-500")
        print("longest task of the page:", notebook.page.evaluate("() => window.longest"), "ms")
        assert notebook.problems == []
