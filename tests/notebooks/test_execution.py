"""Every lesson is executed on the embedded cluster: unsolved it ends in "not yet", solved in success.

The cluster is shared by all runs, and each run must leave it as it found it; a test compares before and after.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from labkit import runner
from labkit.cluster.opening import embedded_lifecycle, open_cluster
from tests.notebooks.leaks import leaks_below
from tests.notebooks.lessons import LESSONS, SOLUTIONS, code_cells, lesson, notebook_id, read, solved_copy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CLUSTER = "lessons"
CANARY = "a-key-that-nobody-may-see"

every_lesson = pytest.mark.parametrize("path", LESSONS, ids=notebook_id)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The name of a cluster that starts empty and is gone afterwards."""
    embedded_lifecycle().down(CLUSTER, purge=True)
    embedded_lifecycle().up(CLUSTER)
    yield f"embedded:{CLUSTER}"
    embedded_lifecycle().down(CLUSTER, purge=True)


Run = Callable[[Any, str], runner.LessonRun]


@pytest.fixture(scope="module")
def empty(cluster: str) -> set[str]:
    """What there is before the first lesson."""
    return world(cluster)


@pytest.fixture
def run(cluster: str, empty: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Execute a notebook and return what happened; it must find and leave the cluster in the same state, and tell no
    secret: neither in the executed notebook nor in its page.
    """
    monkeypatch.setenv("AZURE_API_KEY", CANARY)
    secrets = [CANARY, *credentials_of(cluster)]

    def execute(notebook: Any, name: str) -> runner.LessonRun:
        source = tmp_path / name
        nbformat.write(notebook, source)
        before = world(cluster)
        result = runner.run_lessons([source], tmp_path / "out", cluster=cluster, progress=False)[0]
        assert world(cluster) == before, "the lesson left something behind, or took something away"
        assert leaks_below(tmp_path / "out", secrets) == {}
        return result

    yield execute
    if world(cluster) != empty:  # a lesson that broke off shall not fail those after it
        embedded_lifecycle().down(CLUSTER, purge=True)
        embedded_lifecycle().up(CLUSTER)


def credentials_of(cluster: str) -> list[str]:
    """The tokens and keys with which one speaks to the cluster."""
    user = yaml.safe_load(embedded_lifecycle().up(cluster.partition(":")[2]).read_text())["users"][0]["user"]
    found = [str(value) for name, value in user.items() if name in ("token", "password", "client-key-data")]
    assert found, "the search has something to look for"
    return found


def world(cluster: str) -> set[str]:
    """What a lesson may create, by kind and name."""
    api = open_cluster(cluster, narrate=lambda _: None)
    kinds = ("namespaces", "deployments", "services", "pods", "customresourcedefinitions")
    kinds += ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
    return {f"{kind}/{o['metadata'].get('namespace', '')}/{_stem(o)}" for kind in kinds for o in api.objects(kind)}


def _stem(obj: Any) -> str:
    # A pod's random suffix may differ.
    return re.sub(r"-[a-z0-9]{8,10}-[a-z0-9]{5}$", "", obj["metadata"]["name"])


def pending(result: runner.LessonRun) -> set[str]:
    return {check.name for check in result.checks if check.pending}


def outputs_of(result: runner.LessonRun) -> str:
    """All text that the executed notebook shows."""
    notebook = nbformat.read(result.executed, as_version=4)
    texts = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(texts)


@every_lesson
def test_an_unsolved_lesson_runs_to_its_end_and_says_not_yet(path: Path, run: Run):
    result = run(read(path), path.name)
    assert result.failure == ""
    assert result.failed_checks == []
    assert pending(result) == {c.metadata.labkit.exercise for c in code_cells(read(path), "exercise")}
    assert "not yet" in outputs_of(result).lower()


@every_lesson
def test_a_solved_lesson_ends_in_success_with_the_names_of_the_aks_add_on(path: Path, run: Run):
    notebook = solved_copy(path)
    parameters = code_cells(notebook, "parameters")[0]
    for upstream, add_on in (("istio-system", "aks-istio-system"), ("default", "asm-1-24")):
        parameters.source = parameters.source.replace(f'= "{upstream}"', f'= "{add_on}"')
    result = run(notebook, path.name)
    assert result.failure == ""
    assert result.failed_checks == []
    assert pending(result) == set()
    if "revision" in parameters.source:
        assert "asm-1-24" in outputs_of(result)
        assert "aks-istio-system" in outputs_of(result)


# One of them: `make run` executes all, and the lessons above are solved with their cells.
@pytest.mark.parametrize("path", [one for one in SOLUTIONS if one.name.startswith("04")], ids=notebook_id)
def test_solutions_run_by_themselves(path: Path, run: Run):
    result = run(read(path), path.name)
    assert result.ok, result.failure or result.failed_checks
    assert pending(result) == set()


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        ("00", "containers = 2"),
        ("01", "PERMISSIVE"),
        ("02", "default"),
        ("03", '"true"'),
        ("04", "STRICT"),
    ],
)
def test_a_wrong_answer_fails_its_check_without_a_traceback(number: str, wrong: str, run: Run):
    notebook = read(lesson(number))
    (cell,) = code_cells(notebook, "exercise")
    cell.source = cell.source.replace("containers = ...", wrong).replace("...", wrong)
    result = run(notebook, lesson(number).name)
    assert result.failure == ""
    assert [check.name for check in result.failed_checks] == [cell.metadata.labkit.exercise]


STRICT = '{"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", '
STRICT += '"metadata": {"name": "default", "namespace": "azureopenai"}, "spec": {"mtls": {"mode": "STRICT"}}}'


@pytest.mark.parametrize(
    ("number", "cell_id", "instead", "failing"),
    [
        pytest.param(
            "02",
            "02-label-apply",
            "None",
            {"02-namespace-labelled", "02-injected-pods", "02-inside-the-pod", "02-mesh-request"},
            id="nobody_labels_the_namespace",
        ),
        pytest.param(
            "02",
            "02-restart-backend",
            "None",
            {"02-injected-pods", "02-inside-the-pod", "02-mesh-request"},
            id="nobody_restarts_the_backend",
        ),
        pytest.param(
            "03",
            "03-effective",
            f"lab.apply({STRICT})",
            {"03-permissive", "03-plaintext-accepted"},
            id="strict_too_early",
        ),
    ],
)
def test_checks_fail_when_their_effect_is_absent(number: str, cell_id: str, instead: str, failing: set[str], run: Run):
    notebook = read(lesson(number))
    next(cell for cell in notebook.cells if cell.id == cell_id).source = instead
    result = run(notebook, lesson(number).name)
    assert result.failure == ""
    assert {check.name for check in result.failed_checks} == failing


class TestStrict:
    def test_the_executed_lesson_shows_200_before_and_exit_code_56_after(self, run: Run):
        result = run(read(lesson("04")), "04_enforce_strict.ipynb")
        notebook = nbformat.read(result.executed, as_version=4)
        assert result.ok
        shown = {cell.id: str(cell.get("outputs")) for cell in notebook.cells}
        assert "200" in shown["04-before-probe"]
        assert "curl: (56) Recv failure: Connection reset by peer" in shown["04-after-words"]
        assert "exit code 56" in shown["04-after-words"]
        assert "200" in shown["04-insider-probe"]

    def test_with_permissive_in_its_place_the_checks_fail(self, run: Run):
        notebook = read(lesson("04"))
        cell = next(c for c in notebook.cells if c.id == "04-apply-strict")
        assert cell.source.count("mode: STRICT") == 1
        cell.source = cell.source.replace("mode: STRICT", "mode: PERMISSIVE")
        result = run(notebook, "04_enforce_strict.ipynb")
        assert not result.ok
        failed = {check.name for check in result.failed_checks}
        assert {"04-strict-declared", "04-plaintext-refused"} <= failed
        assert "04-mesh-client-accepted" not in failed

    def test_without_the_policy_the_checks_fail(self, run: Run):
        notebook = read(lesson("04"))
        cell = next(c for c in notebook.cells if c.id == "04-apply-strict")
        cell.source = "None"
        assert "04-plaintext-refused" in {c.name for c in run(notebook, "04_enforce_strict.ipynb").failed_checks}
