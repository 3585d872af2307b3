"""A real JupyterLab, and a real browser that looks at it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "browser"
TOKEN = "lesson"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

# What others write into the console and nobody can mend here.
HARMLESS = re.compile(r"favicon|Failed to load resource.*(404|favicon)|ERR_NETWORK_CHANGED|WebSocket.*closed before")


def browser_path() -> str | None:
    """The first browser on the PATH that playwright can drive."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def missing() -> str:
    """What is missing for these tests, and how to get it; empty when nothing is."""
    wanted = []
    try:
        import playwright  # noqa: F401
    except ImportError:
        wanted.append("playwright: pip install -c constraints.txt '.[browser]'")
    if browser_path() is None:
        wanted.append("a browser: apt-get install chromium")
    return "; ".join(wanted)


@contextmanager
def jupyter(directory: Path) -> Iterator[str]:
    """JupyterLab with this directory as its root; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = directory / ".settings"
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_PATH": str(ROOT / "labkit" / "jupyter"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(directory / ".workspaces"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    command += ["--LabApp.expose_app_in_browser=True"]
    command += [f"--ServerApp.root_dir={directory}", f"--IdentityProvider.token={TOKEN}"]
    command += ["--allow-root"] if os.getuid() == 0 else []
    log = (directory / "jupyter.log").open("w", encoding="utf-8")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        _wait_for_port(port, server, Path(log.name))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def _wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text(encoding="utf-8")[-2000:]
        time.sleep(0.1)  # the port is the only sign
    raise AssertionError(f"JupyterLab did not answer: {log.read_text(encoding='utf-8')[-2000:]}")


def _wait_for_kernel(address: str, name: str, limit: float = 60) -> None:
    """Until a notebook's kernel is idle: run before, JupyterLab would ask for one."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        with urllib.request.urlopen(f"{address}/api/sessions?token={TOKEN}") as answer:
            sessions = json.load(answer)
        if any(one["path"] == name and one["kernel"]["execution_state"] == "idle" for one in sessions):
            return
        time.sleep(0.1)  # the server tells it to websockets alone
    raise AssertionError(f"The kernel of {name} did not start.")


def theme(directory: Path, name: str) -> None:
    """Let JupyterLab start with a theme, "JupyterLab Dark" for example."""
    place = directory / ".settings" / "@jupyterlab" / "apputils-extension"
    place.mkdir(parents=True, exist_ok=True)
    (place / "themes.jupyterlab-settings").write_text(json.dumps({"theme": name}), encoding="utf-8")


class Notebook:
    """A notebook on a page of the browser."""

    def __init__(self, page: Any, address: str, name: str) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        page.goto(f"{address}/doc/tree/{name}?token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        _wait_for_kernel(address, name)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000)

    def _heard(self, message: Any) -> None:
        if message.type == "error" and not HARMLESS.search(message.text):
            self.problems.append(message.text)

    def menu(self, *names: str) -> None:
        """Choose from the menu bar."""
        self.page.locator(".lm-MenuBar-item", has_text=re.compile(rf"^{names[0]}$")).click()
        for name in names[1:]:
            self.page.locator(".lm-Menu-item", has_text=re.compile(rf"^{name}$")).first.click()

    def run_all(self, limit: float = 90) -> None:
        """Run every cell, and wait until all have ended. The model knows; the page holds only what is in sight."""
        self.menu("Run", "Run All Cells")
        self.page.wait_for_function(
            """() => { const cells = window.jupyterapp.shell.currentWidget.context.model.cells;
                 return [...Array(cells.length).keys()].map((place) => cells.get(place))
                   .filter((cell) => cell.type === 'code')
                   .every((cell) => cell.executionCount && cell.executionState !== 'running'); }""",
            timeout=1000 * limit,
        )

    def show(self, cell: str) -> None:
        """Bring a cell into sight, which puts it on the page."""
        self.page.evaluate(
            """(id) => { const { content } = window.jupyterapp.shell.currentWidget;
                 content.activeCellIndex = content.widgets.findIndex((one) => one.model.id === id);
                 return content.scrollToItem(content.activeCellIndex, 'start'); }""",
            cell,
        )

    def run(self, cell: str, limit: float = 60) -> None:
        """Run one cell once more, as Shift+Enter does, and wait until it has ended."""
        self.show(cell)
        state = """(id) => { const { cells } = window.jupyterapp.shell.currentWidget.context.model;
            const cell = [...Array(cells.length).keys()].map((place) => cells.get(place)).find((one) => one.id === id);
            return [cell.executionCount, cell.executionState]; }"""
        before = self.page.evaluate(state, cell)[0]
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")
        self.page.wait_for_function(
            f"([id, before]) => {{ const [count, state] = ({state})(id);"
            " return count && count !== before && state !== 'running'; }",
            arg=[cell, before],
            timeout=1000 * limit,
        )

    def edge(self, client: str, server: str) -> Any:
        """The group of an edge on the live map."""
        return self.page.locator(f'.lkw-stage [data-edge^="{client}|{server}|"]').first

    def word(self, client: str, server: str) -> str:
        """The state that an edge shows now."""
        found: str = self.page.evaluate(
            """(start) => [...document.querySelectorAll('.lkw-stage [data-edge]')]
                 .find((one) => one.dataset.edge.startsWith(start))?.querySelector('.lkm-word')?.textContent ?? ''""",
            f"{client}|{server}|",
        )
        return found

    def wait_for_word(self, client: str, server: str, word: str, limit: float = 15) -> float:
        """Wait until an edge shows a state; the seconds that took."""
        started = time.perf_counter()
        self.page.wait_for_function(
            """([start, word]) => { const edge = [...document.querySelectorAll('.lkw-stage [data-edge]')]
                 .find((one) => one.dataset.edge.startsWith(start));
                 return edge && edge.querySelector('.lkm-word')?.textContent === word; }""",
            arg=[f"{client}|{server}|", word],
            timeout=1000 * limit,
            polling=10,
        )
        return time.perf_counter() - started

    def shot(self, name: str, element: str = "") -> Path:
        """A picture for people, kept below build/."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        (self.page.locator(element).first if element else self.page).screenshot(path=str(path))
        return path


_BROWSERS_OPEN: list[Any] = []


@contextmanager
def opened(address: str, name: str, *, width: int = 1920, height: int = 1080) -> Iterator[Notebook]:
    """A notebook on a page of its own, in a browser that several may share: playwright allows one per thread."""
    from playwright.sync_api import sync_playwright

    shared = list(_BROWSERS_OPEN)
    driver = None if shared else sync_playwright().start()
    browser = shared[0] if shared else driver.chromium.launch(executable_path=browser_path(), args=FLAGS)
    _BROWSERS_OPEN.append(browser)
    context = browser.new_context(viewport={"width": width, "height": height})
    try:
        yield Notebook(context.new_page(), address, name)
    finally:
        context.close()
        _BROWSERS_OPEN.pop()
        if driver:
            browser.close()
            driver.stop()
