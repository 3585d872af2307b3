"""scale, status, binding, eviction, log, exec, proxy: what hangs below an object."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client import CoreV1Api
from kubernetes.stream import stream

from tests.contract.world import IMAGE, JSON_PATCH, Api, deployment, pod, wait_until


def test_scale_changes_replicas_and_nothing_else(api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    api.post(path, deployment("web", 0)).expect(201)
    scale = api.get(f"{path}/web/scale").expect(200)
    assert (scale["kind"], scale["apiVersion"], scale["spec"]["replicas"]) == ("Scale", "autoscaling/v1", 0)
    assert scale["status"]["selector"] == "app=web"
    api.patch(f"{path}/web/scale", {"spec": {"replicas": 1}}).expect(200)
    api.patch(f"{path}/web/scale", [{"op": "replace", "path": "/spec/replicas", "value": 0}], JSON_PATCH).expect(200)
    assert api.get(f"{path}/web").json["spec"]["replicas"] == 0


def test_scale_with_an_old_version_conflicts(api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    api.post(path, deployment("web", 0)).expect(201)
    scale = api.get(f"{path}/web/scale").expect(200)
    api.patch(f"{path}/web", {"metadata": {"labels": {"a": "b"}}}).expect(200)
    api.put(f"{path}/web/scale", scale | {"spec": {"replicas": 2}}).expect(409, "Conflict")


def test_what_has_no_scale_has_no_such_path(api: Api, namespace: str) -> None:
    assert api.get(f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt/scale").status == 404


def test_status_and_spec_are_written_apart(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("p")
    body["spec"]["schedulerName"] = "nobody"
    api.post(path, body).expect(201)
    reason = {"status": {"phase": "Failed", "reason": "Tried"}}
    assert api.patch(f"{path}/p", reason).expect(200)["status"]["phase"] == "Pending"
    assert api.patch(f"{path}/p/status", reason).expect(200)["status"]["reason"] == "Tried"


def test_a_pod_is_bound_once(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("p")
    body["spec"]["schedulerName"] = "nobody"
    api.post(path, body).expect(201)
    node = api.get("/api/v1/nodes").json["items"][0]["metadata"]["name"]
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}}
    api.post(f"{path}/p/binding", binding).expect(201)
    assert api.get(f"{path}/p").json["spec"]["nodeName"] == node
    api.post(f"{path}/p/binding", binding).expect(409, "Conflict")


def test_eviction_deletes_a_pod(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    api.post(path, pod("p")).expect(201)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    api.post(f"{path}/p/eviction", body).expect(201)
    wait_until(lambda: api.get(f"{path}/p").status == 404)
    api.post(f"{path}/p/eviction", body).expect(404, "NotFound")


# Streams.


@pytest.fixture
def running(api: Api, namespace: str) -> str:
    """The name of a pod with one container that said hello and sleeps."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    api.post(path, pod("p", "sh", "-c", "echo hello; echo world; sleep 600")).expect(201)
    wait_until(lambda: api.get(f"{path}/p").json["status"].get("phase") == "Running", 60)
    return "p"


@contextlib.contextmanager
def _exec(api: Api, namespace: str, name: str, *command: str, **options: Any) -> Iterator[Any]:
    core = CoreV1Api(api.client)
    opened = stream(
        core.connect_get_namespaced_pod_exec,
        name,
        namespace,
        command=list(command),
        stdout=True,
        stderr=True,
        stdin=options.pop("stdin", False),
        tty=False,
        _preload_content=False,
        **options,
    )
    wire = opened.sock.sock
    try:
        yield opened
    finally:
        opened.close()
        wire.close()  # the library forgets it when the server closes first


def test_exec_returns_output_and_exit_code(api: Api, namespace: str, running: str) -> None:
    with _exec(api, namespace, running, "sh", "-c", "echo out; echo err >&2; exit 3") as socket:
        socket.run_forever(timeout=20)
        assert socket.read_stdout(timeout=1) == "out\n"
        assert socket.read_stderr(timeout=1) == "err\n"
        assert socket.returncode == 3


def test_exec_takes_input(api: Api, namespace: str, running: str) -> None:
    with _exec(api, namespace, running, "head", "-n1", stdin=True) as socket:
        socket.write_stdin("typed\n")
        socket.run_forever(timeout=20)
        assert socket.read_stdout(timeout=1) == "typed\n"
        assert socket.returncode == 0


def test_exec_in_a_container_that_is_not_there_is_refused(api: Api, namespace: str, running: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/{running}/exec"
    refused = api.get(path, command="true", container="nobody", stdout="true")
    refused.expect(400, "BadRequest")
    assert refused.message == "container nobody is not valid for pod p"


def test_logs_and_their_tail(api: Api, namespace: str, running: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/{running}/log"
    wait_until(lambda: api.get(path).raw == b"hello\nworld\n")
    assert api.get(path, tailLines=1).raw == b"world\n"
    stamped = api.get(path, timestamps="true").raw.split()
    assert stamped[1] == b"hello"


def test_logs_of_a_container_that_is_not_there_are_refused(api: Api, namespace: str, running: str) -> None:
    refused = api.get(f"/api/v1/namespaces/{namespace}/pods/{running}/log", container="nobody")
    refused.expect(400, "BadRequest")
    assert refused.message == "container nobody is not valid for pod p"


def test_logs_of_many_containers_need_a_name(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("two")
    body["spec"]["containers"].append({"name": "second", "image": IMAGE, "command": ["sleep", "60"]})
    api.post(path, body).expect(201)
    wait_until(lambda: api.get(f"{path}/two").json["status"].get("phase") == "Running", 60)
    refused = api.get(f"{path}/two/log")
    refused.expect(400, "BadRequest")
    assert "a container name must be specified for pod two, choose one of: [main second]" in refused.message


def test_logs_of_a_pod_without_a_node_are_refused(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("p")
    body["spec"]["schedulerName"] = "nobody"
    api.post(path, body).expect(201)
    assert api.get(f"{path}/p/log").status == 400


def test_a_proxied_query_arrives_as_it_was_written(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("web")
    command = ["python", "-m", "http.server", "8080"]
    body["spec"]["containers"][0] |= {"image": "python:3.12-slim", "command": command}
    api.post(path, body).expect(201)
    query = "a=1%2B1&b=x%26y%3Dz+%25&c=%7B%22%7D"
    wait_until(lambda: api.get(f"{path}/web:8080/proxy/?{query}").status == 200, 60)
    wait_until(lambda: f'"GET /?{query} HTTP/1.1" 200' in api.get(f"{path}/web/log").raw.decode())
