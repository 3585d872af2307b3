"""A lesson in a real browser: opened, run to its end, and its knobs turned by mouse and by kubectl."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.lab import Lab
from tests.browser.knobs import press, wait_for, wait_for_knob
from tests.browser.page import ROOT, Notebook, jupyter, opened

LESSON = "04_enforce_strict.ipynb"
STRICT = "manifests/lessons/04/peer-authentication.yaml"
FRONTEND, BACKEND, OUTSIDE = "azureopenai/chatfrontend", "azureopenai/chatbackend", "default/curl-outside"


@pytest.fixture(scope="module")
def lesson(desk: Path) -> Iterator[Notebook]:
    """The lesson with all of its cells run."""
    shutil.copy(ROOT / "notebooks" / LESSON, desk)
    shutil.copytree(ROOT / "manifests", desk / "manifests")
    with jupyter(desk) as address, opened(address, LESSON) as notebook:
        notebook.run_all(limit=240)
        yield notebook


@pytest.fixture(scope="module")
def console(lesson: Notebook) -> Notebook:
    """The same lesson at its knobs. Its last cell has put everything back, so its world is made once more."""
    lesson.show("04-console")
    lesson.page.wait_for_selector(".lkw-stage svg", timeout=20_000)
    wait_for(lesson, "() => document.querySelectorAll('.lkw-stage [data-edge]').length === 0", limit=40)
    lesson.run("04-open", limit=120)
    lesson.show("04-console")
    lesson.wait_for_word(OUTSIDE, BACKEND, "plaintext", limit=40)
    lesson.wait_for_word(FRONTEND, BACKEND, "mTLS", limit=40)
    return lesson


def kubectl(*arguments: str) -> None:
    """What a learner types into a terminal."""
    program = shutil.which("kubectl")
    assert program, "this test is about kubectl"
    command = [program, "--kubeconfig", str(lifecycle.status("embedded").kubeconfig), *arguments]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=30)


def glyph(console: Notebook, client: str) -> str:
    """What is painted before the word of an edge: a padlock, or a cross."""
    return str(console.edge(client, BACKEND).locator(".lkm-glyph").inner_html())


def wait_for_answer(console: Notebook, client: str, word: str, answer: str) -> None:
    """Until an edge shows a state and what was seen of it: a request may still have met the rules of before."""
    script = """([start, word, answer]) => { const edge = [...document.querySelectorAll('.lkw-stage [data-edge]')]
        .find((one) => one.dataset.edge.startsWith(start));
        return edge.querySelector('.lkm-word').textContent === word
          && edge.querySelector('.lkm-second').textContent === answer; }"""
    wait_for(console, script, [f"{client}|{BACKEND}|", word, answer])


def test_it_runs_to_its_end_with_a_picture_and_without_an_error(lesson: Notebook) -> None:
    lesson.show("04-before-map")
    picture = lesson.page.locator("figure svg.lkm").first
    picture.wait_for(timeout=10_000)
    picture.scroll_into_view_if_needed()
    lesson.page.wait_for_timeout(500)
    lesson.shot("lesson-04")
    assert "Encryption map" in (picture.get_attribute("aria-label") or "")
    assert lesson.page.locator(".jp-OutputArea-output[data-mime-type*='error']").count() == 0
    assert lesson.problems == []


def test_kubectl_moves_the_knob_and_the_map_of_the_lesson(console: Notebook) -> None:
    kubectl("apply", "-f", STRICT)
    console.wait_for_word(OUTSIDE, BACKEND, "refused")
    wait_for_knob(console, "azureopenai", "STRICT")
    console.shot("lesson-04-kubectl-strict")
    kubectl(*_patch_of_the_lesson())
    console.wait_for_word(OUTSIDE, BACKEND, "plaintext")
    wait_for_knob(console, "azureopenai", "PERMISSIVE")


def _patch_of_the_lesson() -> list[str]:
    """The line that the lesson shows below the knobs."""
    cell = next(c for c in nbformat.read(ROOT / "notebooks" / LESSON, 4).cells if c.id == "04-knob-observed")
    line = re.search(r"kubectl (patch .*?)\n```", cell.source, re.DOTALL)
    assert line
    return line[1].replace("\\\n", " ").replace("'", "").split()


def test_strict_is_clicked_and_permissive_again(console: Notebook) -> None:
    kubectl("apply", "-f", STRICT)
    press(console, "azureopenai", "PERMISSIVE")
    wait_for_answer(console, OUTSIDE, "plaintext", "HTTP 200")
    before, inside = glyph(console, OUTSIDE), glyph(console, FRONTEND)
    assert before != inside
    console.shot("lesson-04-permissive")

    press(console, "azureopenai", "STRICT")
    wait_for_answer(console, OUTSIDE, "refused", "reset, curl exit 56")
    assert glyph(console, OUTSIDE) not in (before, inside)
    assert console.edge(OUTSIDE, BACKEND).locator(".lkm-stop").is_visible()
    assert glyph(console, FRONTEND) == inside
    # The policy of the lesson is the one that was changed.
    wait_for(console, "() => document.querySelector('.labkit-controls').textContent.includes('name: azureopenai-mtls')")
    console.shot("lesson-04-strict")

    press(console, "azureopenai", "PERMISSIVE")
    wait_for_answer(console, OUTSIDE, "plaintext", "HTTP 200")
    assert glyph(console, OUTSIDE) == before


def test_a_sidecar_that_is_ended_is_seen(console: Notebook) -> None:
    detail = f'.lkw-stage [data-node="{BACKEND}"] .lkm-detail'
    status = lifecycle.status("embedded")
    with Lab(Cluster("embedded", kubeconfig=status.kubeconfig, is_embedded=True)) as lab:
        pod = lab.cluster.objects("Pod", "azureopenai", labels={"app": "chatbackend"})[0]["metadata"]["name"]
        quit_now = ["pilot-agent", "request", "POST", "quitquitquit"]
        lab.cluster.execute(pod, "azureopenai", quit_now, container="istio-proxy")
    wait_for(console, "(name) => document.querySelector(name).textContent.includes('not ready')", detail)
    console.shot("lesson-04-sidecar-gone")
    wait_for(console, "(name) => !document.querySelector(name).textContent.includes('not ready')", detail, limit=40)


@pytest.mark.parametrize("name", ["Dark", "Light"])
def test_both_themes_show_it(console: Notebook, name: str) -> None:
    console.menu("Settings", "Theme", f"JupyterLab {name}")
    light = str(name == "Light").lower()
    wait_for(console, "(light) => document.body.dataset.jpThemeLight === light", light)
    press(console, "azureopenai", "STRICT")
    console.wait_for_word(OUTSIDE, BACKEND, "refused")
    console.page.wait_for_timeout(600)  # colours fade into each other
    console.shot(f"lesson-04-{name.lower()}")
    console.page.set_viewport_size({"width": 1280, "height": 720})
    console.page.wait_for_timeout(400)
    console.shot(f"lesson-04-{name.lower()}-1280x720")
    stage = console.page.locator(".lkw-stage svg").first.bounding_box()
    console.page.set_viewport_size({"width": 1920, "height": 1080})
    assert stage is not None and stage["x"] + stage["width"] <= 1280


def test_the_browser_has_heard_no_error(console: Notebook) -> None:
    assert console.problems == []
