"""Facts of single objects: readiness, sidecars, names."""

from __future__ import annotations

import pytest

from labkit.errors import MeshError
from labkit.observe.objects import (
    Snapshot,
    WorkloadRef,
    app_container,
    is_gateway,
    is_injected,
    pod_status,
    ready_text,
    workload_name,
)
from tests.unit.observe.builders import pod, service


def native(sidecar: str = "istio-proxy") -> dict[str, object]:
    built = pod()
    built["spec"]["initContainers"] = [{"name": sidecar, "restartPolicy": "Always"}]
    built["status"]["initContainerStatuses"] = [{"name": sidecar, "ready": True, "started": True}]
    return built


def test_ready_counts_containers() -> None:
    assert ready_text(pod()) == "1/1"
    assert ready_text(pod(injected=True)) == "2/2"
    assert ready_text(pod(injected=True, ready=False)) == "0/2"


def test_ready_counts_a_native_sidecar_but_no_other_init_container() -> None:
    assert ready_text(native()) == "2/2"


def test_a_sidecar_is_seen_in_both_forms() -> None:
    assert is_injected(pod(injected=True))
    assert is_injected(native())
    assert not is_injected(pod())
    assert not is_injected(native("other"))


def test_a_gateway_is_a_proxy_without_an_application() -> None:
    alone = pod(injected=True)
    alone["spec"]["containers"] = [one for one in alone["spec"]["containers"] if one["name"] == "istio-proxy"]
    assert is_gateway(alone)
    assert not is_gateway(pod(injected=True))
    assert not is_gateway(pod())


def test_the_application_is_the_container_that_kubectl_takes() -> None:
    assert app_container(pod(injected=True)) == "app"
    annotated = pod(injected=True)
    annotated["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "istio-proxy"}
    assert app_container(annotated) == "istio-proxy"


def test_a_workload_is_named_after_its_deployment() -> None:
    assert workload_name(pod(owner="chatbackend-abc")) == "chatbackend"
    alone = pod()
    del alone["metadata"]["ownerReferences"]
    assert workload_name(alone) == "chatbackend-abc-1"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param({}, "Running", id="running"),
        pytest.param({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ErrImagePull"}}}]},
                     "ErrImagePull", id="waiting for an image"),
        pytest.param({"initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}, "Init:0/1", id="in init"),
        pytest.param({"initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
                     "Init:CrashLoopBackOff", id="init fails"),
    ],
)  # fmt: skip
def test_status_is_kubectls_word(change: dict[str, object], status: str) -> None:
    built = pod()
    built["status"].update(change)
    assert pod_status(built) == status


def test_a_pod_that_is_being_deleted_is_terminating() -> None:
    built = pod()
    built["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_status(built) == "Terminating"


def test_the_ready_pod_is_one_that_is_ready() -> None:
    reference = WorkloadRef("azureopenai", "chatbackend", "Deployment", (pod("a-1", ready=False), pod("a-2")))
    assert reference.ready_pod()["metadata"]["name"] == "a-2"


def test_no_ready_pod_is_an_error_that_says_what_was_seen() -> None:
    reference = WorkloadRef("azureopenai", "chatbackend", "Deployment", (pod("a-1", ready=False),))
    with pytest.raises(MeshError) as caught:
        reference.ready_pod()
    assert "a-1 is Running" in caught.value.meaning


def test_a_service_selects_pods_of_its_own_namespace() -> None:
    snapshot = Snapshot(pods=(pod(), pod("x-1", "other", labels={"app": "chatbackend"})), services=(service(),))
    assert [p["metadata"]["name"] for p in snapshot.pods_of_service(service())] == ["chatbackend-abc-1"]


def test_a_service_without_a_selector_selects_nobody() -> None:
    bare = service()
    bare["spec"]["selector"] = {}
    assert Snapshot(pods=(pod(),)).pods_of_service(bare) == []
