"""Ephemeral containers: added to a running pod through their own subresource, as `kubectl debug POD` does it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CoreV1Api
from kubernetes.stream import stream

from tests.contract.world import IMAGE, Api, pod, wait_until
from tests.programs import program

STRATEGIC = "application/strategic-merge-patch+json"


def debugger(name: str, *command: str, **more: Any) -> dict[str, Any]:
    container = {"name": name, "image": IMAGE, "command": list(command or ("sleep", "60")), **more}
    return {"spec": {"ephemeralContainers": [container]}}


def state_of(api: Api, path: str, name: str) -> dict[str, Any]:
    status = api.get(path).json.get("status", {})
    found = [one for one in status.get("ephemeralContainerStatuses") or [] if one["name"] == name]
    return found[0]["state"] if found else {}


@pytest.fixture
def running(api: Api, namespace: str) -> str:
    """The path of a pod that runs."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    api.post(path, pod("p", "sleep", "60")).expect(201)
    wait_until(lambda: api.get(f"{path}/p").json["status"]["phase"] == "Running")
    return f"{path}/p"


def test_a_debugger_is_added_runs_and_can_be_entered(api: Api, running: str, namespace: str) -> None:
    before = api.get(running).json
    answer = api.patch(f"{running}/ephemeralcontainers", debugger("look"), STRATEGIC).expect(200)
    assert [one["name"] for one in answer["spec"]["ephemeralContainers"]] == ["look"]
    assert answer["spec"]["containers"] == before["spec"]["containers"]
    wait_until(lambda: "running" in state_of(api, running, "look"))
    shown = stream(
        CoreV1Api(api.client).connect_get_namespaced_pod_exec,
        "p",
        namespace,
        container="look",
        command=["echo", "here"],
        stdout=True,
    )
    assert shown.strip() == "here"
    after = api.get(running).json["status"]
    assert after["ephemeralContainerStatuses"][0]["ready"] is False
    assert [c["ready"] for c in after["containerStatuses"]] == [True]  # nobody waits for it
    assert after["phase"] == "Running"


def test_its_output_is_in_its_log_and_it_is_not_started_again(api: Api, running: str) -> None:
    api.patch(f"{running}/ephemeralcontainers", debugger("once", "echo", "seen"), STRATEGIC).expect(200)
    wait_until(lambda: "terminated" in state_of(api, running, "once"))
    assert api.get(f"{running}/log", container="once").raw.decode().strip() == "seen"
    status = api.get(running).json["status"]
    assert (status["ephemeralContainerStatuses"][0]["restartCount"], status["phase"]) == (0, "Running")


def test_a_second_one_stands_beside_the_first(api: Api, running: str) -> None:
    for name in ("one", "two"):
        api.patch(f"{running}/ephemeralcontainers", debugger(name), STRATEGIC).expect(200)
    wait_until(lambda: "running" in state_of(api, running, "one") and "running" in state_of(api, running, "two"))


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        pytest.param(debugger("look", ports=[{"containerPort": 80}]), "cannot be set for an Eph", id="ports"),
        pytest.param(debugger("look", targetContainerName="nobody"), 'Not found: "nobody"', id="target"),
        pytest.param({"spec": {"ephemeralContainers": [{"name": "look"}]}}, "image: Required", id="no image"),
        pytest.param({"spec": {"ephemeralContainers": [{"name": "p", "image": "x"}]}}, "", id="name of a container"),
    ],
)
def test_what_makes_no_sense_is_refused(api: Api, running: str, patch: dict[str, Any], words: str) -> None:
    first = api.get(running).json["spec"]["containers"][0]["name"]
    for one in patch["spec"]["ephemeralContainers"]:
        one["name"] = first if one["name"] == "p" else one["name"]
    answer = api.patch(f"{running}/ephemeralcontainers", patch, STRATEGIC)
    assert answer.status == 422 and words in answer.message
    assert "ephemeralContainers" not in api.get(running).json["spec"]


def test_one_that_is_there_is_neither_changed_nor_removed(api: Api, running: str) -> None:
    api.patch(f"{running}/ephemeralcontainers", debugger("look"), STRATEGIC).expect(200)
    changed = api.patch(f"{running}/ephemeralcontainers", debugger("look", "sleep", "61"), STRATEGIC)
    assert changed.status == 422 and 'containers "look" may not be changed' in changed.message
    whole = api.get(running).json
    del whole["spec"]["ephemeralContainers"]
    removed = api.put(f"{running}/ephemeralcontainers", whole)
    assert removed.status == 422 and 'containers "look" may not be removed' in removed.message


def test_nothing_else_of_the_pod_changes_through_it_and_it_through_nothing_else(
    api: Api, running: str, namespace: str
) -> None:
    whole = api.get(running).json
    whole["metadata"]["labels"] = {"a": "b"}
    whole["spec"]["ephemeralContainers"] = debugger("look")["spec"]["ephemeralContainers"]
    answer = api.put(f"{running}/ephemeralcontainers", whole).expect(200)
    assert "a" not in (answer["metadata"].get("labels") or {})
    assert api.patch(running, debugger("other"), STRATEGIC).status == 422
    born = pod("born", "sleep", "60")
    born["spec"] |= debugger("look")["spec"]
    answer = api.post(f"/api/v1/namespaces/{namespace}/pods", born)
    assert answer.status == 422 and "cannot be set on create" in answer.message


def test_kubectl_debug_enters_a_running_pod(kubeconfig: Path, api: Api, running: str, namespace: str) -> None:
    kubectl = program("kubectl", "kubectl debug was not tried")
    line = [kubectl, "--kubeconfig", str(kubeconfig), "-n", namespace]
    line += ["debug", "p", f"--image={IMAGE}", "-c", "dbg", "--attach", "--", "echo", "hello from a debugger"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=True)
    wait_until(lambda: "terminated" in state_of(api, running, "dbg"))
    assert "hello from a debugger" in done.stdout + api.get(f"{running}/log", container="dbg").raw.decode()
