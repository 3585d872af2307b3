"""The Python client as people use it: typed, dynamic, watch, `utils`. And kubectl, when there is one."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException

from tests.contract.world import Api, configmap, crd, deployment, wait_until
from tests.programs import program


def test_the_typed_client_creates_reads_patches_deletes(api: Api, namespace: str) -> None:
    apps = client.AppsV1Api(api.client)
    created = apps.create_namespaced_deployment(namespace, deployment("web", 0))
    assert created.spec.strategy.type == "RollingUpdate"
    assert created.metadata.creation_timestamp.tzinfo is not None
    patched = apps.patch_namespaced_deployment("web", namespace, {"metadata": {"labels": {"a": "b"}}})
    assert patched.metadata.labels == {"a": "b"}
    assert [d.metadata.name for d in apps.list_namespaced_deployment(namespace).items] == ["web"]
    apps.delete_namespaced_deployment("web", namespace)
    with pytest.raises(ApiException) as caught:
        apps.read_namespaced_deployment("web", namespace)
    assert caught.value.status == 404
    assert json.loads(caught.value.body)["reason"] == "NotFound"


def test_the_dynamic_client_finds_and_applies(api: Api, namespace: str) -> None:
    maps = dynamic.DynamicClient(api.client).resources.get(api_version="v1", kind="ConfigMap")
    applied = maps.server_side_apply(configmap("a", x="1"), namespace=namespace, field_manager="test")
    assert applied.data.x == "1"
    assert maps.get(name="a", namespace=namespace).metadata.namespace == namespace
    with pytest.raises(dynamic.exceptions.ConflictError):
        maps.server_side_apply(configmap("a", x="2"), namespace=namespace, field_manager="other")


def test_the_dynamic_client_serves_custom_kinds(api: Api, namespace: str) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    api.post(path, crd(group)).expect(201)
    try:
        wait_until(lambda: api.get(f"/apis/{group}/v1").status == 200)
        widgets = dynamic.DynamicClient(api.client).resources.get(api_version=f"{group}/v1", kind="Widget")
        body = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"n": 1}}
        assert widgets.create(body=body, namespace=namespace).spec.n == 1
    finally:
        api.delete(f"{path}/widgets.{group}")


def test_the_watch_of_the_python_client_sees_changes(api: Api, namespace: str) -> None:
    core = client.CoreV1Api(api.client)
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, configmap("a"))
    core.delete_namespaced_config_map("a", namespace)
    seen, watcher = [], watch.Watch()
    only = {"field_selector": "metadata.name=a", "resource_version": version, "timeout_seconds": 5}
    for event in watcher.stream(core.list_namespaced_config_map, namespace, **only):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 2:
            watcher.stop()
    assert seen == [("ADDED", "a"), ("DELETED", "a")]


def test_utils_creates_from_a_file(api: Api, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps(configmap("a", x="1")))
    utils.create_from_yaml(api.client, str(path), namespace=namespace)
    assert client.CoreV1Api(api.client).read_namespaced_config_map("a", namespace).data == {"x": "1"}


# kubectl.


@pytest.fixture
def kubectl(api: Api, namespace: str, tmp_path: Path) -> Any:
    """Run kubectl in the test's namespace; `fails=True` returns what it said on standard error."""
    found = program("kubectl", "it was not tried as a client")

    def run(*arguments: str, stdin: Any = None, fails: bool = False) -> str:
        text = stdin if isinstance(stdin, str) or stdin is None else json.dumps(stdin)
        done = subprocess.run(
            [found, "-n", namespace, "--cache-dir", str(tmp_path / "cache"), *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"KUBECONFIG": str(api.kubeconfig)},
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    return run


def test_kubectl_apply_creates_then_configures_then_finds_unchanged(kubectl: Any) -> None:
    assert kubectl("apply", "-f", "-", stdin=configmap("a", x="1")).strip() == "configmap/a created"
    assert kubectl("apply", "-f", "-", stdin=configmap("a", x="2")).strip() == "configmap/a configured"
    assert kubectl("apply", "-f", "-", stdin=configmap("a", x="2")).strip() == "configmap/a unchanged"


def test_kubectl_apply_refuses_an_unknown_field(kubectl: Any) -> None:
    said = kubectl("apply", "-f", "-", stdin=configmap("a") | {"dataa": {}}, fails=True)
    assert 'unknown field "dataa"' in said


def test_kubectl_apply_of_an_unknown_kind_says_no_matches(kubectl: Any) -> None:
    body = {"apiVersion": "nobody.example.com/v1", "kind": "Unicorn", "metadata": {"name": "a"}}
    said = kubectl("apply", "-f", "-", stdin=body, fails=True)
    assert 'no matches for kind "Unicorn" in version "nobody.example.com/v1"' in said


def test_kubectl_create_writes_what_it_builds_itself(kubectl: Any) -> None:
    """These bodies are protobuf since kubectl 1.32."""
    kubectl("create", "configmap", "c", "--from-literal=x=y")
    kubectl("create", "secret", "generic", "s", "--from-literal=x=y")
    kubectl("create", "deployment", "web", "--image=busybox", "--replicas=0", "--port=80")
    kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
    kubectl("create", "serviceaccount", "robot")
    assert kubectl("get", "configmap", "c", "-o", "jsonpath={.data.x}") == "y"
    assert kubectl("get", "deployment", "web", "-o", "jsonpath={.spec.replicas}") == "0"
    assert kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"
    said = kubectl("create", "configmap", "c", fails=True)
    assert 'configmaps "c" already exists' in said


def test_kubectl_server_side_apply_reports_conflicts(kubectl: Any) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=deployment("web", 0))
    kubectl("scale", "deployment", "web", "--replicas=1")
    said = kubectl("apply", "--server-side", "-f", "-", stdin=deployment("web", 0), fails=True)
    assert "Apply failed with 1 conflict" in said
    assert ".spec.replicas" in said
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=deployment("web", 0))


def test_kubectl_edits_labels_annotations_images(kubectl: Any) -> None:
    kubectl("apply", "-f", "-", stdin=deployment("web", 0))
    kubectl("label", "deployment", "web", "a=b")
    kubectl("annotate", "deployment", "web", "note=hello")
    kubectl("set", "image", "deployment/web", "main=curlimages/curl:8.11.0")
    shown = json.loads(kubectl("get", "deployment", "web", "-o", "json"))
    assert shown["metadata"]["labels"]["a"] == "b"
    assert shown["metadata"]["annotations"]["note"] == "hello"
    assert shown["spec"]["template"]["spec"]["containers"][0]["image"] == "curlimages/curl:8.11.0"
    assert "--overwrite is false" in kubectl("label", "deployment", "web", "a=c", fails=True)


def test_kubectl_explains_waits_describes_deletes(kubectl: Any) -> None:
    assert "containers\t<[]Container>" in kubectl("explain", "pod.spec")
    kubectl("apply", "-f", "-", stdin=deployment("web", 1))
    kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=50s")
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment/web", "--timeout=50s")
    assert "Events:" in kubectl("describe", "pod", "-l", "app=web")
    kubectl("delete", "deployment", "web", "--wait")
    assert "not found" in kubectl("get", "deployment", "web", fails=True)


def test_kubectl_diff_shows_a_change_and_makes_none(kubectl: Any) -> None:
    kubectl("apply", "-f", "-", stdin=configmap("a", x="1"))
    kubectl("diff", "-f", "-", stdin=configmap("a", x="1"))
    kubectl("diff", "-f", "-", stdin=configmap("a", x="2"), fails=True)
    assert kubectl("get", "configmap", "a", "-o", "jsonpath={.data.x}") == "1"


def test_kubectl_exec_and_logs(kubectl: Any) -> None:
    body = deployment("web")
    body["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", "echo started; sleep 600"]
    kubectl("apply", "-f", "-", stdin=body)
    kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=50s")
    assert kubectl("exec", "deploy/web", "--", "echo", "hi") == "hi\n"
    assert kubectl("exec", "-i", "deploy/web", "--", "cat", stdin="typed") == "typed"
    assert "exit code 7" in kubectl("exec", "deploy/web", "--", "sh", "-c", "exit 7", fails=True)
    assert kubectl("logs", "deploy/web") == "started\n"
