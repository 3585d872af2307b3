"""labkit's own seam against a cluster: what `labkit.cluster` promises, on whatever stands behind the kubeconfig."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.cluster import MANAGED_BY_LABEL, Cluster, Obj
from labkit.cluster.kinds import CONFIGMAP, DEPLOYMENT, NAMESPACE, POD, Kind
from labkit.errors import InputError, MeshError, WaitTimeoutError
from labkit.observe.waiting import wait_until_ready

WIDGETS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.contract.labkit.dev"},
    "spec": {
        "group": "contract.labkit.dev",
        "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


@pytest.fixture(scope="module")
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    cluster = Cluster("contract", kubeconfig=kubeconfig)
    yield cluster
    cluster.close()


def settings(namespace: str, name: str = "settings", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data or {"a": "1"},
    }


def sleeper(namespace: str, name: str = "sleeper") -> dict[str, Any]:
    labels = {"app": name}
    container = {"name": "main", "image": "docker.io/curlimages/curl:8.10.1", "command": ["sleep", "infinity"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def test_what_is_applied_is_created_then_unchanged_then_configured(cluster: Cluster, namespace: str) -> None:
    actions = [cluster.apply(settings(namespace, a=value))[0].action for value in ("1", "1", "2")]
    assert actions == ["created", "unchanged", "configured"]


def test_what_is_applied_carries_the_label(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace))
    assert cluster.get(CONFIGMAP, "settings", namespace)["metadata"]["labels"][MANAGED_BY_LABEL] == "labkit"


def test_a_field_that_left_the_manifest_leaves_the_object(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace, a="1", b="2"))
    cluster.apply(settings(namespace, a="1"))
    assert cluster.get(CONFIGMAP, "settings", namespace)["data"] == {"a": "1"}


def test_one_bad_document_keeps_all_from_being_applied(cluster: Cluster, namespace: str) -> None:
    bad = sleeper(namespace)
    bad["spec"]["replicas"] = "many"
    with pytest.raises(InputError):
        cluster.apply([settings(namespace), bad])
    assert cluster.find(CONFIGMAP, "settings", namespace) is None


def test_an_unknown_kind_keeps_all_from_being_applied(cluster: Cluster, namespace: str) -> None:
    unknown = {**settings(namespace, "other"), "kind": "ConfigMop"}
    with pytest.raises(InputError, match="ConfigMop"):
        cluster.apply([settings(namespace), unknown])
    assert cluster.find(CONFIGMAP, "settings", namespace) is None


def test_a_namespace_that_does_not_exist_gets_the_command_that_makes_it(cluster: Cluster) -> None:
    with pytest.raises(InputError) as caught:
        cluster.apply(settings("nowhere-at-all"))
    assert "kubectl create namespace nowhere-at-all" in caught.value.next_step


def test_a_set_may_bring_its_own_namespace(cluster: Cluster, namespace: str) -> None:
    own = f"{namespace}-own"
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own}}
    try:
        assert [c.action for c in cluster.apply([document, settings(own)])] == ["created", "created"]
    finally:
        cluster.wait_until_gone([cluster.delete(NAMESPACE, own)])
    assert cluster.find(NAMESPACE, own) is None


def test_a_kind_is_known_once_its_definition_is_there_and_unknown_again_without_it(
    cluster: Cluster, namespace: str
) -> None:
    widget = {"apiVersion": "contract.labkit.dev/v1", "kind": "Widget",
              "metadata": {"name": "w", "namespace": namespace}}  # fmt: skip
    with pytest.raises(InputError, match="Widget"):
        cluster.apply(widget)
    try:
        assert [c.action for c in cluster.apply([WIDGETS, widget])] == ["created", "created"]
        assert cluster.kind("widget").plural == "widgets"
    finally:
        definition = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", False)
        cluster.wait_until_gone([cluster.delete(definition, "widgets.contract.labkit.dev")])
    with pytest.raises(InputError, match="Widget"):
        cluster.apply(widget)


def test_istios_kinds_ask_for_the_mesh(cluster: Cluster, namespace: str) -> None:
    if cluster.serves(Kind("security.istio.io/v1", "PeerAuthentication", "peerauthentications")):
        pytest.skip("this cluster has a mesh")
    with pytest.raises(MeshError) as caught:
        cluster.kind("peerauthentication")
    assert "install" in caught.value.next_step


def test_deleting_what_is_not_there_is_no_error(cluster: Cluster, namespace: str) -> None:
    assert cluster.delete(CONFIGMAP, "nothing", namespace).action == "absent"


def test_getting_what_is_not_there_says_how_to_look(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(InputError) as caught:
        cluster.get(CONFIGMAP, "nothing", namespace)
    assert f"kubectl get configmap -n {namespace}" in caught.value.next_step


def test_a_label_is_set_and_removed(cluster: Cluster, namespace: str) -> None:
    cluster.label(NAMESPACE, namespace, {"a": "1"})
    assert cluster.get(NAMESPACE, namespace)["metadata"]["labels"]["a"] == "1"
    cluster.label(NAMESPACE, namespace, {"a": None})
    assert "a" not in cluster.get(NAMESPACE, namespace)["metadata"]["labels"]


def test_an_object_is_restored_after_a_change_and_after_deletion(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace, a="1"))
    before = cluster.get(CONFIGMAP, "settings", namespace)
    cluster.apply(settings(namespace, a="2"))
    cluster.restore(before, CONFIGMAP)
    assert cluster.get(CONFIGMAP, "settings", namespace)["data"] == {"a": "1"}
    cluster.delete(CONFIGMAP, "settings", namespace)
    cluster.restore(before, CONFIGMAP)
    assert cluster.get(CONFIGMAP, "settings", namespace)["data"] == {"a": "1"}


def test_an_object_is_restored_while_somebody_else_writes_it(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace, a="1"))
    before = cluster.get(CONFIGMAP, "settings", namespace)
    writing = threading.Event()

    def write() -> None:
        number = 0
        while not writing.wait(0.005):  # as a controller does, which writes an object's status
            number += 1
            cluster.label(CONFIGMAP, "settings", {"written": str(number)}, namespace)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            cluster.restore(before, CONFIGMAP)
    finally:
        writing.set()
        writer.join()


def test_what_the_api_server_does_not_take_is_not_tried_again(cluster: Cluster, namespace: str) -> None:
    cluster.apply(settings(namespace, a="1"))
    bent = {**cluster.get(CONFIGMAP, "settings", namespace), "data": {"a": 1}}
    with pytest.raises(InputError, match="Restoring configmap settings"):
        cluster.restore(bent, CONFIGMAP)


def test_waiting_ends_when_the_object_comes(cluster: Cluster, namespace: str) -> None:
    later = threading.Timer(0.2, lambda: cluster.apply(settings(namespace)))
    later.start()

    def missing(items: list[Obj]) -> str:
        return "" if any(item["metadata"]["name"] == "settings" for item in items) else "no settings"

    found = cluster.wait_until(CONFIGMAP, missing, what="settings", namespace=namespace, limit=10)
    later.join()
    assert "settings" in [item["metadata"]["name"] for item in found]


def test_waiting_in_vain_names_what_was_awaited_and_what_was_seen(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(WaitTimeoutError) as caught:
        cluster.wait_until(POD, lambda items: f"{len(items)} pods", what="a pod", namespace=namespace, limit=0.3)
    assert "a pod" in caught.value.what
    assert "0 pods" in caught.value.meaning


def test_a_program_runs_in_a_container_and_its_failure_is_a_result(cluster: Cluster, namespace: str) -> None:
    cluster.apply(sleeper(namespace))
    pod = wait_until_ready(cluster, f"{namespace}/sleeper", limit=60)[0]["metadata"]["name"]
    done = cluster.execute(pod, namespace, ["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.stdout, done.stderr, done.exit_code) == ("out\n", "err\n", 3)
    assert cluster.execute(pod, namespace, ["sh", "-c", "printf 'ä%.0s' $(seq 20000)"]).stdout == "ä" * 20000
    with pytest.raises(InputError):
        cluster.execute(pod, namespace, ["true"], container="nosuch")
    with pytest.raises(InputError):
        cluster.execute("nosuch", namespace, ["true"])
    assert cluster.execute(pod, namespace, ["/no/such/program"]).exit_code in (126, 127)
    with pytest.raises(WaitTimeoutError, match="did not end"):
        cluster.execute(pod, namespace, ["sleep", "5"], limit=0.3)
    assert cluster.get(DEPLOYMENT, "sleeper", namespace)["status"]["readyReplicas"] == 1
