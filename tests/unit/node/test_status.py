from __future__ import annotations

from typing import Any

import pytest

from labkit.embedded.node.records import ContainerRecord, PodRecord
from labkit.embedded.node.status import conditions, phase, pod_status, qos_class, waiting

RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def ended(code: int) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "x"}}


def pod(*, init: tuple[str, ...] = (), main: tuple[str, ...] = ("main",), policy: str = "Always", **more: Any) -> Any:
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "initContainers": [{"name": name, "image": "i"} for name in init],
            "containers": [{"name": name, "image": "i"} for name in main],
            "restartPolicy": policy,
            **more,
        },
        "status": {},
    }


def record(**states: dict[str, Any]) -> PodRecord:
    containers = {
        name: ContainerRecord(state=state, attempt=1, ready="running" in state, started="running" in state)
        for name, state in states.items()
    }
    return PodRecord("u", "n", "p", 1, containers)


@pytest.mark.parametrize(
    ("a_pod", "a_record", "wanted"),
    [
        pytest.param(pod(), record(), "Pending", id="nothing-started"),
        pytest.param(pod(), record(main=waiting("ErrImagePull")), "Pending", id="cannot-start"),
        pytest.param(pod(), record(main=RUNNING), "Running", id="running"),
        pytest.param(pod(), record(main=ended(1)), "Running", id="always-means-running-between-restarts"),
        pytest.param(pod(policy="Never"), record(main=ended(0)), "Succeeded", id="never-and-success"),
        pytest.param(pod(policy="Never"), record(main=ended(1)), "Failed", id="never-and-failure"),
        pytest.param(pod(policy="OnFailure"), record(main=ended(0)), "Succeeded", id="on-failure-and-success"),
        pytest.param(pod(policy="OnFailure"), record(main=ended(1)), "Running", id="on-failure-and-failure"),
        pytest.param(
            pod(policy="Never", main=("a", "b")), record(a=ended(0), b=RUNNING), "Running", id="one-still-runs"
        ),
        pytest.param(pod(init=("i",)), record(i=RUNNING), "Pending", id="still-initializing"),
        pytest.param(pod(init=("i",), policy="Never"), record(i=ended(1)), "Failed", id="init-failed-for-good"),
        pytest.param(pod(init=("i",)), record(i=ended(1)), "Pending", id="init-failed-and-is-tried-again"),
        pytest.param(pod(init=("i",)), record(i=ended(0), main=RUNNING), "Running", id="initialized"),
    ],
)
def test_phase(a_pod: Any, a_record: PodRecord, wanted: str):
    assert phase(a_pod, a_record) == wanted


def condition(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(c for c in found if c["type"] == kind)


def test_a_pod_is_ready_when_all_containers_are():
    found = conditions(pod(main=("a", "b")), record(a=RUNNING, b=RUNNING), "now", "Running")
    assert [condition(found, k)["status"] for k in ("Initialized", "ContainersReady", "Ready")] == ["True"] * 3


def test_a_pod_is_not_ready_while_one_container_is_not_and_it_is_named():
    found = conditions(pod(main=("a", "b")), record(a=RUNNING, b=waiting("x")), "now", "Running")
    assert condition(found, "Ready")["message"] == "containers with unready status: [b]"
    assert condition(found, "Ready")["reason"] == "ContainersNotReady"


def test_a_transition_is_dated_when_it_happens_and_not_again():
    a_pod = pod()
    a_pod["status"]["conditions"] = conditions(a_pod, record(), "early", "Pending")
    later = conditions(a_pod, record(main=RUNNING), "late", "Running")
    assert condition(later, "Initialized")["lastTransitionTime"] == "early"
    assert condition(later, "Ready")["lastTransitionTime"] == "late"


def test_conditions_of_others_are_kept_and_gate_readiness():
    a_pod = pod(readinessGates=[{"conditionType": "example.com/ok"}])
    a_pod["status"]["conditions"] = [{"type": "example.com/ok", "status": "False"}]
    found = conditions(a_pod, record(main=RUNNING), "now", "Running")
    assert condition(found, "example.com/ok")["status"] == "False"
    assert condition(found, "Ready")["status"] == "False" and condition(found, "ContainersReady")["status"] == "True"


def test_before_the_start_containers_wait_for_a_reason():
    def reason(a_pod: Any) -> str:
        status = pod_status(a_pod, record(), pod_ip="1", host_ip="2", started="s")
        return str(status["containerStatuses"][0]["state"]["waiting"]["reason"])

    assert reason(pod()) == "ContainerCreating"
    assert reason(pod(init=("i",))) == "PodInitializing"


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}, "Burstable"),
    ],
)
def test_qos_class(resources: Any, wanted: str):
    a_pod = pod()
    a_pod["spec"]["containers"][0]["resources"] = resources
    assert qos_class(a_pod) == wanted
