"""The console in a real browser, with a real JupyterLab and the embedded mesh: what a person sees and turns."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.lab import Lab
from tests.browser.knobs import is_pressed, press, tab, wait_for, wait_for_knob
from tests.browser.page import Notebook, jupyter, opened

FRONTEND, BACKEND, OUTSIDE = "azureopenai/chatfrontend", "azureopenai/chatbackend", "default/curl-outside"
POLICY = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: azureopenai}
spec: {mtls: {mode: %s}}
"""

OUTSIDE_HOST = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner, namespace: azureopenai}
spec:
  hosts: [api.partner.example]
  resolution: DNS
  ports: [{number: 443, name: https, protocol: HTTPS}]
"""


@pytest.fixture(scope="module")
def console(desk: Path) -> Iterator[Notebook]:
    """The console, with every cell run."""
    with jupyter(desk) as address, opened(address, "console.ipynb") as notebook:
        notebook.run_all(limit=240)
        notebook.page.wait_for_selector(".lkw-stage svg", timeout=20_000)
        notebook.page.locator(".labkit-console").first.scroll_into_view_if_needed()
        yield notebook


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Somebody else at the same cluster."""
    with Lab(Cluster("embedded", kubeconfig=lifecycle.status("embedded").kubeconfig, is_embedded=True)) as other:
        yield other


@pytest.fixture(autouse=True)
def _permissive(console: Notebook) -> None:
    """Each test begins with the map at rest, at PERMISSIVE, at this moment, with nothing selected."""
    page = console.page
    for name in ("Back to now", "Reveal"):
        if (button := page.locator(".lkw-bar button", has_text=name)).is_visible():
            button.click()
    if page.locator(".lkw-panel").is_visible():
        page.locator(".lkw-close").click()
    if "lkm-plain" not in (console.edge(OUTSIDE, BACKEND).get_attribute("class") or ""):
        press(console, "azureopenai", "PERMISSIVE")
    console.wait_for_word(OUTSIDE, BACKEND, "plaintext")
    console.wait_for_word(FRONTEND, BACKEND, "mTLS")


def wait_until(reached: Callable[[], bool], limit: float = 15) -> None:
    until = time.monotonic() + limit
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.1)  # a file tells nobody that it is written


def test_strict_is_pressed_and_the_plaintext_client_is_refused(console: Notebook) -> None:
    glyph = console.edge(OUTSIDE, BACKEND).locator(".lkm-glyph").inner_html()
    console.shot("light-permissive")
    press(console, "azureopenai", "STRICT")
    console.wait_for_word(OUTSIDE, BACKEND, "refused")
    assert console.edge(OUTSIDE, BACKEND).locator(".lkm-glyph").inner_html() != glyph
    wait_for(console, "() => document.querySelector('.lkw-stage').textContent.includes('curl exit 56')")
    assert console.edge(OUTSIDE, BACKEND).locator(".lkm-stop").is_visible()
    console.wait_for_word(FRONTEND, BACKEND, "mTLS")
    wait_for(console, "() => document.querySelector('.labkit-controls').textContent.includes('mode: STRICT')")
    assert "kubectl apply" in (console.page.locator(".labkit-controls").first.text_content() or "")
    console.shot("light-strict")


def test_nodes_stay_where_they_are_when_a_mode_changes(console: Notebook) -> None:
    places = "() => [...document.querySelectorAll('.lkw-stage .lkm-card')].map((one) => one.getAttribute('x'))"
    before = console.page.evaluate(places)
    press(console, "azureopenai", "STRICT")
    console.wait_for_word(OUTSIDE, BACKEND, "refused")
    assert console.page.evaluate(places) == before


def test_a_policy_that_kubectl_changes_moves_the_control_and_the_map(console: Notebook, lab: Lab) -> None:
    assert not is_pressed(console, "azureopenai", "STRICT")
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "--kubeconfig", str(lab.cluster.kubeconfig), "apply", "--server-side", "-f", "-"]
        command += ["--force-conflicts"]
        subprocess.run(command, input=POLICY % "STRICT", text=True, check=True, capture_output=True)
    else:
        lab.apply(POLICY % "STRICT")
    console.wait_for_word(OUTSIDE, BACKEND, "refused")
    wait_for(
        console, "(name) => document.querySelector(name)?.textContent.includes('STRICT')", '[data-box="azureopenai"]'
    )
    wait_for_knob(console, "azureopenai", "STRICT")


def test_what_the_api_refuses_is_said_in_the_panel(console: Notebook) -> None:
    tab(console, "Client TLS")
    console.page.locator(".labkit-controls select:visible").last.select_option("MUTUAL")
    wait_for(console, "() => document.querySelector('.labkit-controls').textContent.includes('Not changed.')")
    assert "client certificate required" in (console.page.locator(".labkit-controls").first.text_content() or "")
    shown = "() => [...document.querySelectorAll('.labkit-controls select')].every((one) => one.value !== 'MUTUAL')"
    wait_for(console, shown)  # the control shows what is true


def test_a_sidecar_that_ends_is_seen(console: Notebook, lab: Lab) -> None:
    detail = f'.lkw-stage [data-node="{BACKEND}"] .lkm-detail'
    pod = lab.cluster.objects("Pod", "azureopenai", labels={"app": "chatbackend"})[0]["metadata"]["name"]
    quit_now = ["pilot-agent", "request", "POST", "quitquitquit"]
    lab.cluster.execute(pod, "azureopenai", quit_now, container="istio-proxy")
    wait_for(console, "(name) => document.querySelector(name).textContent.includes('not ready')", detail)
    console.shot("light-sidecar-gone")
    wait_for(console, "(name) => !document.querySelector(name).textContent.includes('not ready')", detail, limit=40)
    wait_for(console, "() => document.querySelector('.lkw-time').innerHTML.includes('The sidecar of azureopenai/')")


def test_a_host_outside_comes_and_goes_with_its_service_entry(console: Notebook, lab: Lab) -> None:
    node = '.lkw-stage [data-node="api.partner.example"]'
    lab.apply(OUTSIDE_HOST)
    wait_for(console, "(name) => document.querySelector(name)?.textContent.includes('external host')", node)
    box, mesh = console.page.locator(node).bounding_box(), console.page.locator(".lkw-stage [data-box=azureopenai]")
    console.shot("light-external-host")
    home = mesh.bounding_box()
    assert box and home and not (home["x"] < box["x"] < home["x"] + home["width"] and home["y"] < box["y"])
    lab.delete(OUTSIDE_HOST)
    wait_for(console, "(name) => document.querySelector(name) === null", node)


def test_the_panel_of_an_edge_shows_both_certificates(console: Notebook) -> None:
    console.edge(FRONTEND, BACKEND).locator(".lkm-pill").click()
    wait_for(console, "() => document.querySelectorAll('.lkw-panel .lkw-id').length === 2")
    text = console.page.locator(".lkw-panel").text_content() or ""
    assert text.count("spiffe://cluster.local/ns/azureopenai/sa/") == 2
    assert "TLSv1.3" in text and "Issuer" in text
    countdown = console.page.locator(".lkw-countdown").first
    before = countdown.text_content()
    wait_for(console, "(text) => document.querySelector('.lkw-countdown').textContent !== text", before)
    console.shot("light-panel")


def test_the_client_without_a_sidecar_has_no_certificate(console: Notebook) -> None:
    console.edge(OUTSIDE, BACKEND).locator(".lkm-pill").click()
    wait_for(console, "() => document.querySelectorAll('.lkw-panel .lkw-id').length === 1")
    assert "no sidecar, so no certificate" in (console.page.locator(".lkw-panel").text_content() or "")


def test_everything_can_be_done_with_keys(console: Notebook) -> None:
    console.edge(FRONTEND, BACKEND).focus()
    console.page.keyboard.press("Enter")
    wait_for(console, "() => !document.querySelector('.lkw-panel').hidden")
    console.page.keyboard.press("Escape")
    wait_for(console, "() => document.querySelector('.lkw-panel').hidden")
    label = console.edge(FRONTEND, BACKEND).get_attribute("aria-label") or ""
    assert "by mTLS" in label
    console.page.locator(".lkw-time").focus()
    console.page.keyboard.press("ArrowLeft")
    wait_for(console, "() => document.querySelector('.lkw-live').textContent === 'The past'")
    console.page.keyboard.press("End")
    wait_for(console, "() => document.querySelector('.lkw-live').textContent === 'Live'")


def test_the_past_is_shown_again(console: Notebook) -> None:
    press(console, "azureopenai", "STRICT")
    console.wait_for_word(OUTSIDE, BACKEND, "refused")
    console.page.wait_for_timeout(1500)  # one map a second is remembered
    console.page.locator(".lkw-time").focus()
    for _ in range(30):  # ten seconds each: how far back it was plaintext depends on the tests before
        console.page.keyboard.press("ArrowLeft")
        console.page.wait_for_timeout(300)
        if console.word(OUTSIDE, BACKEND) == "plaintext":
            break
    console.wait_for_word(OUTSIDE, BACKEND, "plaintext")
    assert "As it was at" in (console.page.locator(".lkw-words").text_content() or "")
    console.shot("light-past")
    console.page.locator(".lkw-bar button", has_text="Back to now").click()
    console.wait_for_word(OUTSIDE, BACKEND, "refused")


def test_edges_are_marked_first_and_then_revealed(console: Notebook) -> None:
    console.page.locator(".lkw-bar button", has_text="Predict").click()
    console.wait_for_word(FRONTEND, BACKEND, "your guess?")
    console.edge(FRONTEND, BACKEND).locator(".lkm-pill").click()
    console.wait_for_word(FRONTEND, BACKEND, "mTLS")
    for _ in range(3):
        console.edge(OUTSIDE, BACKEND).locator(".lkm-pill").click()
        console.page.wait_for_timeout(150)
    console.wait_for_word(OUTSIDE, BACKEND, "refused")  # the third choice, and wrong
    console.page.locator(".lkw-bar button", has_text="Reveal").click()
    wait_for(console, "() => document.querySelector('.lkw-mark').textContent === '1 of 2 right'")
    console.wait_for_word(OUTSIDE, BACKEND, "plaintext")


def test_traffic_is_counted_while_it_flows_and_stops(console: Notebook) -> None:
    tab(console, "Traffic")
    off = console.page.locator(".labkit-controls button:visible", has_text=re.compile("^ ?off"))
    off.first.click()
    wait_for(
        console,
        """([start]) => { const edge = [...document.querySelectorAll('.lkw-stage [data-edge]')]
             .find((one) => one.dataset.edge.startsWith(start));
             return /[/]s · 100 % ok/.test(edge.querySelector('.lkm-second').textContent); }""",
        [f"{FRONTEND}|{BACKEND}|"],
    )
    console.shot("light-traffic")
    console.page.locator(".labkit-controls button:visible", has_text=re.compile("^ ?on")).first.click()
    wait_for(console, "() => document.querySelector('.labkit-controls').textContent.includes('Stopped 1 sender')")


def test_the_table_says_the_same(console: Notebook) -> None:
    console.page.locator(".lkw-twin summary").click()
    wait_for(console, "() => document.querySelectorAll('.lkw-twin tbody tr').length >= 2")
    assert "curl-outside" in (console.page.locator(".lkw-twin").text_content() or "")
    row = console.page.locator(f'.lkw-twin [data-row^="{FRONTEND}|{BACKEND}|"]')
    row.focus()
    console.page.keyboard.press("Enter")
    wait_for(console, "() => document.querySelector('.lkw-panel .lkw-title')?.textContent.includes('chatfrontend')")
    assert row.evaluate("(one) => one === document.activeElement")  # a reader's place stays
    console.page.keyboard.press("Escape")
    wait_for(console, "() => document.querySelector('.lkw-panel').hidden")
    console.page.locator(".lkw-twin summary").click()


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 720)])
def test_it_fits_on_a_screen(console: Notebook, width: int, height: int) -> None:
    console.page.set_viewport_size({"width": width, "height": height})
    tab(console, "mTLS mode")
    console.page.evaluate("() => document.querySelector('.labkit-console').scrollIntoView({block: 'start'})")
    console.page.wait_for_timeout(400)
    boxes = {name: console.page.locator(name).first.bounding_box() for name in (".labkit-controls", ".lkw-stage svg")}
    console.shot(f"light-{width}x{height}")
    console.page.set_viewport_size({"width": 1920, "height": 1080})
    for box in boxes.values():
        assert box is not None
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert boxes[".lkw-stage svg"]["width"] >= 480
    if height >= 1080:
        time = console.page.locator(".lkw-time").bounding_box()
        assert time["y"] + time["height"] <= height


def test_the_dark_theme_has_colours_of_its_own(console: Notebook) -> None:
    colour = "() => getComputedStyle(document.querySelector('.lkw-stage .lkm-mtls')).color"
    light = console.page.evaluate(colour)
    console.menu("Settings", "Theme", "JupyterLab Dark")
    wait_for(console, "() => document.body.dataset.jpThemeLight === 'false'")
    console.page.wait_for_timeout(600)
    wait_for(console, "() => document.querySelector('.lkw-fresh') === null")  # what did not change does not flash
    dark = console.page.evaluate(colour)
    console.shot("dark-permissive")
    press(console, "azureopenai", "STRICT")
    console.wait_for_word(OUTSIDE, BACKEND, "refused")
    console.edge(OUTSIDE, BACKEND).locator(".lkm-pill").click()
    wait_for(console, "() => document.querySelectorAll('.lkw-panel .lkw-id').length === 1")
    console.shot("dark-strict")
    console.menu("Settings", "Theme", "JupyterLab Light")
    wait_for(console, "() => document.body.dataset.jpThemeLight === 'true'")
    assert (light, dark) == ("rgb(0, 114, 178)", "rgb(86, 180, 233)")


def test_the_map_survives_a_restart_of_the_cluster(console: Notebook) -> None:
    lifecycle.down("embedded")
    wait_for(console, "() => document.querySelector('.lkw-live').textContent === 'No answer'")
    console.shot("light-no-answer")
    lifecycle.up("embedded")
    wait_for(console, "() => document.querySelector('.lkw-live').textContent === 'Live'", limit=40)
    console.wait_for_word(OUTSIDE, BACKEND, "plaintext", limit=40)
    wait_for(
        console,
        "(start) => [...document.querySelectorAll('.lkw-stage [data-edge]')].find((one) => one.dataset.edge"
        ".startsWith(start)).querySelector('.lkm-second').textContent.startsWith('HTTP 200')",
        f"{OUTSIDE}|{BACKEND}|",
        limit=40,
    )


def test_nothing_of_the_widgets_is_saved_but_the_picture(console: Notebook, desk: Path) -> None:
    console.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    saved = desk / "console.ipynb"
    wait_until(lambda: "image/svg+xml" in saved.read_text(encoding="utf-8"))
    notebook = json.loads(saved.read_text(encoding="utf-8"))
    assert "widgets" not in notebook["metadata"]
    output = notebook["cells"][-1]["outputs"][0]["data"]
    assert "".join(output["image/svg+xml"]).startswith("<svg")
    assert "azureopenai/chatfrontend reaches azureopenai/chatbackend" in "".join(output["text/plain"])


def test_the_browsers_console_shows_no_error(console: Notebook) -> None:
    assert console.problems == []


def test_it_stops_when_its_output_is_cleared(console: Notebook) -> None:
    console.page.locator(".jp-CodeCell").last.locator(".jp-InputArea-editor").click()
    console.page.keyboard.press("Escape")
    console.menu("Edit", "Clear Cell Output")
    wait_for(console, "() => document.querySelector('.labkit-console') === null")
    console.page.keyboard.press("b")
    console.page.keyboard.press("Enter")
    console.page.keyboard.type("'at work' if lab.live.running else 'at rest'")
    console.page.keyboard.press("Shift+Enter")
    wait_for(
        console,
        "() => [...document.querySelectorAll('.jp-OutputArea-output')]"
        ".some((one) => /at (work|rest)/.test(one.textContent))",
    )
    assert "at rest" in (console.page.locator(".jp-OutputArea-output").last.text_content() or "")
