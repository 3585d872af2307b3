"""The Python client in its four forms, typed, dynamic, watch and stream, and `utils`: all that people do with it.

`test_clients.py` holds the first steps; here is the rest, and what each form says when it fails.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream
from kubernetes.stream.ws_client import ERROR_CHANNEL

from tests.contract.world import (
    STRATEGIC_PATCH,
    Api,
    configmap,
    crd,
    deployment,
    pod,
    wait_until,
)

# The websocket client of this package leaves its sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture
def core(api: Api) -> client.CoreV1Api:
    return client.CoreV1Api(api.client)


@pytest.fixture
def apps(api: Api) -> client.AppsV1Api:
    return client.AppsV1Api(api.client)


@pytest.fixture
def anything(api: Api) -> dynamic.DynamicClient:
    return dynamic.DynamicClient(api.client)


def reason_of(caught: pytest.ExceptionInfo[ApiException]) -> tuple[int, str]:
    return caught.value.status, json.loads(caught.value.body)["reason"]


def running(core: client.CoreV1Api, namespace: str, body: dict[str, Any]) -> str:
    name = str(body["metadata"]["name"])
    core.create_namespaced_pod(namespace, body)
    wait_until(lambda: _is_ready(core.read_namespaced_pod(name, namespace)))
    return name


def _is_ready(found: client.V1Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in found.status.conditions or [])


def echo_pod(name: str) -> dict[str, Any]:
    """A pod that answers each connection on port 8080 with what it was sent."""
    program = (
        "import socketserver as s\n"
        "class Echo(s.BaseRequestHandler):\n"
        "    def handle(self):\n"
        "        while block := self.request.recv(65536): self.request.sendall(block)\n"
        "class Server(s.ThreadingMixIn, s.TCPServer): daemon_threads = allow_reuse_address = True\n"
        "Server(('', 8080), Echo).serve_forever()\n"
    )
    body = pod(name, "python3", "-c", program)
    body["spec"]["containers"][0] |= {
        "image": "python:3.12-alpine",
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    return body


# Typed.


def test_models_are_written_and_read_back(core: client.CoreV1Api, namespace: str) -> None:
    """Objects of the client's own classes, not dicts: empty fields are sent as they serialize."""
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="a-", labels={"x": "y"}), data={"k": "v"})
    created = core.create_namespaced_config_map(namespace, body)
    assert created.metadata.name.startswith("a-")
    created.data["k"] = "w"
    replaced = core.replace_namespaced_config_map(created.metadata.name, namespace, created)
    assert replaced.metadata.resource_version != created.metadata.resource_version
    with pytest.raises(ApiException) as caught:
        core.replace_namespaced_config_map(created.metadata.name, namespace, created)
    assert reason_of(caught) == (409, "Conflict")


def test_a_service_and_a_job_of_models(api: Api, core: client.CoreV1Api, namespace: str) -> None:
    ports = [client.V1ServicePort(name="http", port=80, target_port="web")]
    spec = client.V1ServiceSpec(selector={"app": "web"}, ports=ports)
    made = core.create_namespaced_service(
        namespace, client.V1Service(metadata=client.V1ObjectMeta(name="web"), spec=spec)
    )
    assert made.spec.type == "ClusterIP"
    assert made.spec.ports[0].target_port == "web"
    container = client.V1Container(name="main", image="busybox", command=["true"])
    template = client.V1PodTemplateSpec(spec=client.V1PodSpec(restart_policy="Never", containers=[container]))
    batch = client.BatchV1Api(api.client)
    body = client.V1Job(metadata=client.V1ObjectMeta(name="j"), spec=client.V1JobSpec(template=template))
    batch.create_namespaced_job(namespace, body)
    wait_until(lambda: batch.read_namespaced_job_status("j", namespace).status.succeeded == 1)


def test_a_new_object_has_a_status_to_ask(api: Api, namespace: str) -> None:
    """In the API's types `status` is a struct: it is there from the start, and clients look into it unasked."""
    posted = {
        f"/apis/apps/v1/namespaces/{namespace}/deployments": deployment("web", 0),
        f"/api/v1/namespaces/{namespace}/services": {
            "metadata": {"name": "web"},
            "spec": {"ports": [{"port": 80}]},
        },
        f"/apis/batch/v1/namespaces/{namespace}/jobs": {
            "metadata": {"name": "j"},
            "spec": {"template": {"spec": pod("j", "true")["spec"] | {"restartPolicy": "Never"}}},
        },
    }
    lacking = [path for path, body in posted.items() if "status" not in api.post(path, body).expect(201)]
    assert not lacking


def test_creating_twice_and_reading_nothing(core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, configmap("a"))
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_config_map(namespace, configmap("a"))
    assert reason_of(caught) == (409, "AlreadyExists")
    for act in (core.read_namespaced_config_map, core.delete_namespaced_config_map):
        with pytest.raises(ApiException) as caught:
            act("missing", namespace)
        assert reason_of(caught) == (404, "NotFound")
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_config_map("no-such-namespace", configmap("a"))
    assert reason_of(caught) == (404, "NotFound")


def test_an_invalid_object_names_its_fields(core: client.CoreV1Api, namespace: str) -> None:
    body = pod("a")
    body["spec"]["containers"][0]["name"] = "Not A Name"
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_pod(namespace, body)
    assert reason_of(caught) == (422, "Invalid")
    causes = json.loads(caught.value.body)["details"]["causes"]
    assert [cause["field"] for cause in causes] == ["spec.containers[0].name"]


def test_lists_follow_selectors_and_pages(core: client.CoreV1Api, namespace: str) -> None:
    for number in range(5):
        body = configmap(f"m{number}")
        body["metadata"]["labels"] = {"parity": "odd" if number % 2 else "even"}
        core.create_namespaced_config_map(namespace, body)

    def names(**query: Any) -> list[str]:
        return [found.metadata.name for found in core.list_namespaced_config_map(namespace, **query).items]

    assert names(label_selector="parity=odd") == ["m1", "m3"]
    assert names(label_selector="parity!=odd,parity") == ["m0", "m2", "m4"]
    assert names(field_selector="metadata.name=m4") == ["m4"]
    first = core.list_namespaced_config_map(namespace, label_selector="parity", limit=2)
    seen, token = [found.metadata.name for found in first.items], first.metadata._continue
    while token:
        page = core.list_namespaced_config_map(namespace, label_selector="parity", limit=2, _continue=token)
        seen, token = seen + [found.metadata.name for found in page.items], page.metadata._continue
    assert seen == ["m0", "m1", "m2", "m3", "m4"]
    with pytest.raises(ApiException) as caught:
        names(label_selector="==")
    assert reason_of(caught) == (400, "BadRequest")


def test_the_typed_patch_is_strategic_for_a_dict_and_json_for_a_list(apps: client.AppsV1Api, namespace: str) -> None:
    """The client chooses the first content type that fits what it is given."""
    apps.create_namespaced_deployment(namespace, deployment("web", 0))
    container = {"name": "side", "image": "busybox"}
    merged = apps.patch_namespaced_deployment(
        "web", namespace, {"spec": {"template": {"spec": {"containers": [container]}}}}, _content_type=STRATEGIC_PATCH
    )
    assert {found.name for found in merged.spec.template.spec.containers} == {"main", "side"}
    patched = apps.patch_namespaced_deployment(
        "web", namespace, [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]
    )
    assert patched.metadata.labels == {"a": "b"}
    with pytest.raises(ApiException) as caught:
        apps.patch_namespaced_deployment("web", namespace, [{"op": "remove", "path": "/metadata/nothing"}])
    assert caught.value.status == 422


def test_scale_is_read_and_written(apps: client.AppsV1Api, core: client.CoreV1Api, namespace: str) -> None:
    apps.create_namespaced_deployment(namespace, deployment("web", 1))
    assert apps.read_namespaced_deployment_scale("web", namespace).spec.replicas == 1
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 2}})
    wait_until(lambda: apps.read_namespaced_deployment_status("web", namespace).status.ready_replicas == 2)
    scale = apps.read_namespaced_deployment_scale("web", namespace)
    assert scale.status.selector == "app=web"
    scale.spec.replicas = 0
    apps.replace_namespaced_deployment_scale("web", namespace, scale)
    wait_until(lambda: not core.list_namespaced_pod(namespace, label_selector="app=web").items)
    with pytest.raises(ApiException) as caught:
        apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": -1}})
    assert caught.value.status == 422


def test_dry_run_changes_nothing(core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, configmap("a"), dry_run="All")
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_config_map("a", namespace)
    assert caught.value.status == 404


def test_an_eviction_deletes_the_pod(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, pod("a"))
    body = client.V1Eviction(metadata=client.V1ObjectMeta(name="a", namespace=namespace))
    core.create_namespaced_pod_eviction("a", namespace, body)
    wait_until(lambda: not core.list_namespaced_pod(namespace).items)


def test_a_deletion_is_watched_until_it_is_done(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, pod("a"))
    deleted = core.delete_namespaced_pod("a", namespace, grace_period_seconds=1)
    assert deleted.metadata.deletion_timestamp or deleted.status
    only = {"field_selector": "metadata.name=a", "timeout_seconds": 20}
    kinds = []
    watcher = watch.Watch()
    for event in watcher.stream(core.list_namespaced_pod, namespace, **only):
        kinds.append(event["type"])
        if event["type"] == "DELETED":
            watcher.stop()
    assert not core.list_namespaced_pod(namespace).items


def test_a_collection_is_deleted_by_its_selector(core: client.CoreV1Api, namespace: str) -> None:
    for name, keep in (("a", "no"), ("b", "no"), ("c", "yes")):
        body = configmap(name)
        body["metadata"]["labels"] = {"keep": keep}
        core.create_namespaced_config_map(namespace, body)
    core.delete_collection_namespaced_config_map(namespace, label_selector="keep=no")
    left = core.list_namespaced_config_map(namespace, label_selector="keep").items
    assert [found.metadata.name for found in left] == ["c"]


def test_custom_objects_of_the_untyped_api(api: Api, namespace: str) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    definitions = client.ApiextensionsV1Api(api.client)
    definitions.create_custom_resource_definition(crd(group, {"type": "object", "properties": {"n": INTEGER}}))
    try:
        wait_until(lambda: api.get(f"/apis/{group}/v1").status == 200)
        custom = client.CustomObjectsApi(api.client)
        at = (group, "v1", namespace, "widgets")
        body = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"n": 1}}
        custom.create_namespaced_custom_object(*at, body)
        assert custom.patch_namespaced_custom_object(*at, "a", {"spec": {"n": 2}})["spec"] == {"n": 2}
        assert len(custom.list_namespaced_custom_object(*at)["items"]) == 1
        with pytest.raises(ApiException) as caught:
            custom.patch_namespaced_custom_object(*at, "a", {"spec": {"n": "two"}})
        assert reason_of(caught) == (422, "Invalid")
        custom.delete_namespaced_custom_object(*at, "a")
        with pytest.raises(ApiException) as caught:
            custom.get_namespaced_custom_object(*at, "a")
        assert reason_of(caught) == (404, "NotFound")
    finally:
        definitions.delete_custom_resource_definition(f"widgets.{group}")


INTEGER = {"type": "integer"}


def test_the_version_and_the_groups_are_read(api: Api) -> None:
    assert client.VersionApi(api.client).get_code().git_version.startswith("v1.")
    groups = {group.name for group in client.ApisApi(api.client).get_api_versions().groups}
    assert {"apps", "batch"} <= groups
    resources = {found.name for found in client.CoreV1Api(api.client).get_api_resources().resources}
    assert {"pods", "pods/log", "pods/exec", "services"} <= resources


# Dynamic.


def test_the_dynamic_client_patches_in_every_way_it_knows(anything: Any, namespace: str) -> None:
    deployments = anything.resources.get(api_version="apps/v1", kind="Deployment")
    deployments.create(body=deployment("web", 0), namespace=namespace)
    ways: dict[str, Any] = {
        "application/strategic-merge-patch+json": {"metadata": {"labels": {"a": "1"}}},
        "application/merge-patch+json": {"metadata": {"labels": {"b": "2"}}},
        "application/json-patch+json": [{"op": "add", "path": "/metadata/labels/c", "value": "3"}],
    }
    for kind, body in ways.items():
        deployments.patch(name="web", namespace=namespace, body=body, content_type=kind)
    found = deployments.get(name="web", namespace=namespace)
    assert found.metadata.labels.to_dict() == {"a": "1", "b": "2", "c": "3"}
    other = [{"op": "test", "path": "/metadata/name", "value": "other"}]
    with pytest.raises(dynamic.exceptions.UnprocessibleEntityError):
        deployments.patch(name="web", namespace=namespace, body=other, content_type="application/json-patch+json")


def test_the_dynamic_client_lists_replaces_deletes_and_fails(anything: Any, namespace: str) -> None:
    maps = anything.resources.get(api_version="v1", kind="ConfigMap")
    body = configmap("a", x="1")
    body["metadata"]["labels"] = {"l": "1"}
    made = maps.create(body=body, namespace=namespace)
    assert [found.metadata.name for found in maps.get(namespace=namespace, label_selector="l=1").items] == ["a"]
    maps.replace(body=made.to_dict() | {"data": {"x": "2"}}, namespace=namespace)
    with pytest.raises(dynamic.exceptions.ConflictError):
        maps.replace(body=made.to_dict() | {"data": {"x": "3"}}, namespace=namespace)
    with pytest.raises(dynamic.exceptions.ConflictError):
        maps.create(body=body, namespace=namespace)
    maps.delete(name="a", namespace=namespace)
    with pytest.raises(dynamic.exceptions.NotFoundError):
        maps.get(name="a", namespace=namespace)
    with pytest.raises(dynamic.exceptions.UnprocessibleEntityError):
        maps.create(body=configmap("Not A Name"), namespace=namespace)
    with pytest.raises(dynamic.exceptions.ResourceNotFoundError):
        anything.resources.get(api_version="v1", kind="Unicorn")


def test_the_dynamic_client_writes_subresources(anything: Any, namespace: str) -> None:
    deployments = anything.resources.get(api_version="apps/v1", kind="Deployment")
    deployments.create(body=deployment("web", 0), namespace=namespace)
    deployments.scale.patch(
        name="web", namespace=namespace, body={"spec": {"replicas": 1}}, content_type="application/merge-patch+json"
    )
    wait_until(lambda: deployments.get(name="web", namespace=namespace).status.readyReplicas == 1)
    assert deployments.scale.get(name="web", namespace=namespace).status.replicas == 1


def test_the_dynamic_client_watches(anything: Any, namespace: str) -> None:
    maps = anything.resources.get(api_version="v1", kind="ConfigMap")
    since = maps.get(namespace=namespace).metadata.resourceVersion
    maps.create(body=configmap("a"), namespace=namespace)
    maps.delete(name="a", namespace=namespace)
    seen = []
    for event in maps.watch(namespace=namespace, name="a", resource_version=since, timeout=5):
        seen.append(event["type"])
        if len(seen) == 2:
            break
    assert seen == ["ADDED", "DELETED"]


# Watch.


def test_a_watch_goes_on_where_the_last_one_ended(core: client.CoreV1Api, namespace: str) -> None:
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    watcher, seen = watch.Watch(), []
    for round_ in ("a", "b"):
        core.create_namespaced_config_map(namespace, configmap(round_))
        only = {"resource_version": version, "timeout_seconds": 5}
        for event in watcher.stream(core.list_namespaced_config_map, namespace, **only):
            seen.append(event["object"].metadata.name)
            version = event["object"].metadata.resource_version
            if seen[-1] == round_:
                watcher.stop()
    assert [name for name in seen if name in ("a", "b")] == ["a", "b"]


def test_a_watch_from_a_version_that_is_no_version_is_refused(core: client.CoreV1Api, namespace: str) -> None:
    with pytest.raises(ApiException) as caught:
        next(watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version="nonsense"))
    assert caught.value.status == 400


def test_followed_logs_are_a_watch_too(core: client.CoreV1Api, namespace: str) -> None:
    body = pod("a", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    body["spec"]["restartPolicy"] = "Never"
    core.create_namespaced_pod(namespace, body)
    wait_until(lambda: core.read_namespaced_pod("a", namespace).status.phase in ("Running", "Succeeded"))
    assert list(watch.Watch().stream(core.read_namespaced_pod_log, "a", namespace)) == ["1", "2", "3"]


# Logs.


def test_logs_whole_tailed_stamped_and_of_a_wrong_container(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, pod("a", "sh", "-c", "echo one; echo two; sleep 600"))
    wait_until(lambda: core.read_namespaced_pod_log("a", namespace) == "one\ntwo\n")
    assert core.read_namespaced_pod_log("a", namespace, tail_lines=1) == "two\n"
    assert core.read_namespaced_pod_log("a", namespace, limit_bytes=2) == "on"
    stamped = core.read_namespaced_pod_log("a", namespace, timestamps=True, tail_lines=1)
    assert stamped.split(" ", 1)[1] == "two\n"
    assert stamped.split("T")[0].count("-") == 2
    for query in ({"container": "nope"}, {"previous": True}):
        with pytest.raises(ApiException) as caught:
            core.read_namespaced_pod_log("a", namespace, **query)
        assert reason_of(caught) == (400, "BadRequest")


@pytest.mark.parametrize("query", [{"tail_lines": -1}, {"limit_bytes": 0}, {"since_seconds": 0}])
def test_impossible_log_options_are_invalid(core: client.CoreV1Api, namespace: str, query: dict[str, int]) -> None:
    running(core, namespace, pod("a"))
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_pod_log("a", namespace, **query)
    assert reason_of(caught) == (422, "Invalid")


# Streams.


def execute(core: client.CoreV1Api, namespace: str, *command: str, **options: Any) -> Any:
    wanted = {"stdin": False, "stdout": True, "stderr": True, "tty": False, **options}
    return stream(core.connect_get_namespaced_pod_exec, "a", namespace, command=list(command), **wanted)


def test_exec_returns_what_was_printed(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, pod("a"))
    assert execute(core, namespace, "sh", "-c", "echo out; echo err >&2; exit 3").split() in (
        ["out", "err"],
        ["err", "out"],
    )


def test_exec_keeps_the_streams_apart_and_tells_the_exit_code(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, pod("a"))
    for code in (0, 3):
        done = execute(core, namespace, "sh", "-c", f"echo out; echo err >&2; exit {code}", _preload_content=False)
        done.run_forever(timeout=20)
        assert done.read_stdout() == "out\n"
        assert done.read_stderr() == "err\n"
        assert done.returncode == code
    error = execute(core, namespace, "sh", "-c", "exit 3", _preload_content=False)
    error.run_forever(timeout=20)
    status = yaml.safe_load(error.read_channel(ERROR_CHANNEL))
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


def test_exec_takes_input(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, pod("a"))
    shell = execute(core, namespace, "sh", stdin=True, _preload_content=False)
    shell.write_stdin("echo first\n")
    assert shell.readline_stdout(timeout=10) == "first"
    shell.write_stdin("exit 4\n")
    shell.run_forever(timeout=20)
    assert shell.returncode == 4


def test_exec_in_a_terminal(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, pod("a"))
    shell = execute(core, namespace, "sh", "-c", "stty size; tty", stdin=True, tty=True, _preload_content=False)
    shell.run_forever(timeout=20)
    printed = shell.read_stdout()
    assert "/dev/pts/" in printed
    assert shell.returncode == 0


@pytest.mark.parametrize(
    ("name", "container", "status"), [("a", "nope", 400), ("missing", "main", 404)], ids=["container", "pod"]
)
def test_exec_in_what_does_not_exist(
    core: client.CoreV1Api, namespace: str, name: str, container: str, status: int
) -> None:
    running(core, namespace, pod("a"))
    with pytest.raises(ApiException) as caught:
        stream(
            core.connect_get_namespaced_pod_exec, name, namespace, command=["true"], container=container, stdout=True
        )
    # The client reports a refused handshake as status 0 with the answer's code in its reason.
    assert str(status) in str(caught.value.reason)


def test_a_port_is_forwarded_both_ways(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, echo_pod("a"))
    forward = portforward(core.connect_get_namespaced_pod_portforward, "a", namespace, ports="8080")
    end = forward.socket(8080)
    end.settimeout(20)
    sent = bytes(range(256)) * 2000
    writer = threading.Thread(target=end.sendall, args=(sent,))
    writer.start()
    received = b""
    while len(received) < len(sent):
        received += end.recv(65536)
    writer.join()
    assert received == sent
    assert forward.error(8080) is None
    end.close()


def test_a_forwarded_port_where_nobody_listens_says_so(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, echo_pod("a"))
    forward = portforward(core.connect_get_namespaced_pod_portforward, "a", namespace, ports="8081")
    end = forward.socket(8081)
    end.settimeout(20)
    assert end.recv(10) == b""
    assert "8081" in str(forward.error(8081))


def test_two_ports_in_one_forward(core: client.CoreV1Api, namespace: str) -> None:
    running(core, namespace, echo_pod("a"))
    forward = portforward(core.connect_get_namespaced_pod_portforward, "a", namespace, ports="8080,8081")
    end = forward.socket(8080)
    end.settimeout(20)
    end.sendall(b"hello")
    assert end.recv(5, socket.MSG_WAITALL) == b"hello"
    wait_until(lambda: forward.error(8081), 20)


def test_forwarding_from_a_missing_pod_is_refused(core: client.CoreV1Api, namespace: str) -> None:
    with pytest.raises(ApiException) as caught:
        portforward(core.connect_get_namespaced_pod_portforward, "missing", namespace, ports="80")
    assert "404" in str(caught.value.reason)


# utils.


def test_utils_creates_many_documents_and_names_the_failures(api: Api, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    documents = [configmap("a"), deployment("web", 0), configmap("b")]
    path.write_text(yaml.safe_dump_all(documents))
    utils.create_from_yaml(api.client, str(path), namespace=namespace)
    core = client.CoreV1Api(api.client)
    assert {"a", "b"} <= {found.metadata.name for found in core.list_namespaced_config_map(namespace).items}
    with pytest.raises(utils.FailToCreateError) as caught:
        utils.create_from_yaml(api.client, str(path), namespace=namespace)
    assert [failure.status for failure in caught.value.api_exceptions] == [409, 409, 409]


def test_utils_creates_from_a_list_object_and_a_directory(api: Api, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [configmap("a"), configmap("b")]})
    )
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(configmap("c")))
    utils.create_from_directory(api.client, str(tmp_path), namespace=namespace)
    found = client.CoreV1Api(api.client).list_namespaced_config_map(namespace).items
    assert {"a", "b", "c"} <= {one.metadata.name for one in found}


def test_utils_applies_and_applies_again(api: Api, namespace: str, tmp_path: Path) -> None:
    if not hasattr(utils, "create_from_dict"):
        pytest.skip("this version of the client has no create_from_dict")
    utils.create_from_dict(api.client, configmap("a", x="1"), namespace=namespace)
    utils.create_from_dict(api.client, configmap("a", x="2"), namespace=namespace, apply=True, force_conflicts=True)
    assert client.CoreV1Api(api.client).read_namespaced_config_map("a", namespace).data == {"x": "2"}


def test_an_anonymous_client_is_refused(api: Api, namespace: str) -> None:
    config = client.Configuration()
    config.host = api.server
    config.ssl_ca_cert = api.client.configuration.ssl_ca_cert
    with client.ApiClient(config) as nobody, pytest.raises(ApiException) as caught:
        client.CoreV1Api(nobody).list_namespaced_pod(namespace)
    assert caught.value.status in (401, 403)


def test_a_watch_delivers_within_the_second(core: client.CoreV1Api, namespace: str) -> None:
    version = core.list_namespaced_config_map(namespace).metadata.resource_version
    timer = threading.Timer(0.5, lambda: core.create_namespaced_config_map(namespace, configmap("late")))
    timer.start()
    watcher = watch.Watch()
    started = time.monotonic()
    only = {"field_selector": "metadata.name=late", "resource_version": version, "timeout_seconds": 10}
    for _ in watcher.stream(core.list_namespaced_config_map, namespace, **only):
        watcher.stop()
    assert time.monotonic() - started < 5
    timer.join()
