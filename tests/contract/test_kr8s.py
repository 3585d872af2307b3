"""kr8s, the synchronous and the asynchronous one: what its users do with it, and what it says when that fails."""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.request
import uuid
from typing import Any

import kr8s
import kr8s.asyncio
import kr8s.asyncio.objects as aio
import pytest
from kr8s.objects import ConfigMap, Deployment, Pod, Service, new_class

from tests.contract.world import Api, configmap, crd, deployment, pod, wait_until

# kr8s leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

# A server that answers GET / with a page, out of an image that the embedded catalogue and every registry have.
WEB = {"image": "python:3.12-alpine", "command": ["python3", "-m", "http.server", "8080"]}


@pytest.fixture
def client(api: Api, namespace: str) -> Any:
    """A kr8s client whose namespace is the test's."""
    return kr8s.api(kubeconfig=str(api.kubeconfig), namespace=namespace)


def web_pod(name: str, **labels: str) -> dict[str, Any]:
    body = pod(name, **labels)
    body["spec"]["containers"][0] |= WEB | {"ports": [{"containerPort": 8080}]}
    body["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    return body


def free_port() -> int:
    """A port that nobody holds: kr8s itself guesses one and may hit another test's."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def running(client: Any, body: dict[str, Any]) -> Pod:
    created = Pod(body, api=client)
    created.create()
    created.wait("condition=Ready", timeout=60)
    return created


def available(client: Any, name: str) -> Deployment:
    """The Deployment when it is available, looked at and not waited for by kr8s (see the test that waits)."""

    def look() -> Any:
        found = Deployment.get(name, api=client)
        return found if found.raw.get("status", {}).get("availableReplicas") else None

    return wait_until(look)


# Objects.


def test_objects_are_created_read_and_refreshed(client: Any, namespace: str) -> None:
    created = ConfigMap(configmap("a", x="1"), api=client)
    created.create()
    assert created.exists()
    assert created.namespace == namespace
    read = ConfigMap.get("a", api=client)
    assert read.data.x == "1"
    assert read.metadata.uid == created.metadata.uid
    created.patch({"data": {"x": "2"}})
    read.refresh()
    assert read.data.x == "2"


def test_creating_twice_is_a_conflict(client: Any) -> None:
    ConfigMap(configmap("a"), api=client).create()
    with pytest.raises(kr8s.ServerError, match='configmaps "a" already exists') as caught:
        ConfigMap(configmap("a"), api=client).create()
    assert caught.value.response.status_code == 409
    assert caught.value.status["reason"] == "AlreadyExists"


def test_a_missing_object_is_not_found(client: Any) -> None:
    missing = ConfigMap(configmap("missing"), api=client)
    assert not missing.exists()
    for act in (missing.refresh, missing.delete, lambda: missing.patch({"data": {}})):
        with pytest.raises(kr8s.NotFoundError):
            act()


def test_an_invalid_object_is_refused_with_its_field(client: Any) -> None:
    body = deployment("web", 0)
    body["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    with pytest.raises(kr8s.ServerError, match="selector") as caught:
        Deployment(body, api=client).create()
    assert caught.value.response.status_code == 422
    assert caught.value.status["reason"] == "Invalid"
    assert [cause["field"] for cause in caught.value.status["details"]["causes"]] == ["spec.template.metadata.labels"]


def test_lists_follow_label_and_field_selectors(client: Any) -> None:
    for name, tier in (("a", "front"), ("b", "back"), ("c", "back")):
        body = configmap(name)
        body["metadata"]["labels"] = {"tier": tier}
        ConfigMap(body, api=client).create()
    back = client.get("configmaps", label_selector={"tier": "back"})
    assert sorted(found.name for found in back) == ["b", "c"]
    assert [found.name for found in client.get("cm", label_selector="tier in (front)")] == ["a"]
    assert [found.name for found in client.get("configmaps", field_selector={"metadata.name": "c"})] == ["c"]
    assert not list(client.get("configmaps", label_selector="tier=none"))


def test_an_unsupported_field_selector_is_refused(client: Any) -> None:
    with pytest.raises(kr8s.ServerError, match="field label not supported") as caught:
        list(client.get("configmaps", field_selector="spec.nothing=1"))
    assert caught.value.response.status_code == 400


def test_merge_and_json_patches(client: Any) -> None:
    created = ConfigMap(configmap("a", x="1", y="1"), api=client)
    created.create()
    created.patch({"data": {"x": None, "z": "3"}})
    assert dict(created.data) == {"y": "1", "z": "3"}
    created.patch([{"op": "replace", "path": "/data/y", "value": "2"}], type="json")
    assert created.data.y == "2"
    with pytest.raises(kr8s.ServerError) as caught:
        created.patch([{"op": "test", "path": "/data/y", "value": "no"}], type="json")
    assert caught.value.response.status_code == 422


def test_labels_and_annotations_come_and_go(client: Any) -> None:
    created = ConfigMap(configmap("a"), api=client)
    created.create()
    created.label(tier="front", team="a")
    created.annotate(note="hello")
    created.refresh()
    assert dict(created.labels) == {"tier": "front", "team": "a"}
    assert dict(created.annotations) == {"note": "hello"}
    created.remove_label("tier")
    created.refresh()
    assert dict(created.labels) == {"team": "a"}


def test_a_custom_kind_is_an_object_like_others(api: Api, client: Any) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    api.post(path, crd(group)).expect(201)
    try:
        wait_until(lambda: api.get(f"/apis/{group}/v1").status == 200)
        widget_class = new_class(kind="Widget", version=f"{group}/v1", namespaced=True, plural="widgets")
        widget = widget_class({"metadata": {"name": "a"}, "spec": {"n": 1}}, api=client)
        widget.create()
        widget.patch({"spec": {"n": 2}})
        assert widget_class.get("a", api=client).spec.n == 2
        widget.delete()
        widget.wait("delete", timeout=10)
    finally:
        api.delete(f"{path}/widgets.{group}")


def test_discovery_and_the_version_are_read(client: Any) -> None:
    assert int(client.version()["minor"].rstrip("+")) >= 20
    kinds = {(resource["kind"], resource["version"]) for resource in client.api_resources()}
    assert {("Pod", "v1"), ("Deployment", "apps/v1"), ("Job", "batch/v1")} <= kinds
    assert client.lookup_kind("deploy")[:2] == ("deployment.apps/v1", "deployments")


# Watches.


def test_a_watch_sees_additions_changes_and_deletions(client: Any) -> None:
    created = ConfigMap(configmap("a", x="1"), api=client)
    created.create()
    since = created.metadata.resourceVersion
    created.patch({"data": {"x": "2"}})
    created.delete()
    seen = []
    for kind, changed in client.watch("configmaps", field_selector="metadata.name=a", since=since):
        seen.append((kind, changed.data.x))
        if kind == "DELETED":
            break
    assert seen == [("MODIFIED", "2"), ("DELETED", "2")]


def test_a_watch_from_now_delivers_what_happens_later(client: Any) -> None:
    created = ConfigMap(configmap("a", x="1"), api=client)
    created.create()
    later = threading.Timer(0.3, lambda: created.patch({"data": {"x": "2"}}))
    later.start()
    for _, changed in client.watch("configmaps", field_selector="metadata.name=a"):
        if changed.data.x == "2":
            break
    later.join()


# Workloads.


def test_a_deployment_is_waited_for_as_soon_as_it_is_created(client: Any) -> None:
    created = Deployment(deployment("web", 1), api=client)
    created.create()
    created.wait("condition=Available", timeout=60)
    assert created.ready()


def test_a_deployment_scales_up_and_down(client: Any) -> None:
    Deployment(deployment("web", 1), api=client).create()
    created = available(client, "web")
    created.scale(2)
    wait_until(lambda: len(created.pods()) == 2 and all(found.ready() for found in created.pods()))
    created.scale(0)
    wait_until(lambda: not created.pods())
    assert created.replicas == 0


def test_scaling_what_does_not_exist_is_not_found(client: Any) -> None:
    with pytest.raises(kr8s.NotFoundError):
        Deployment(deployment("missing"), api=client).scale(1)


def test_exec_returns_both_streams_and_the_exit_code(client: Any) -> None:
    created = running(client, pod("a"))
    done = created.exec(["sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 0)
    assert created.exec(["sh", "-c", "exit 7"], check=False).returncode == 7
    with pytest.RaisesGroup(kr8s.ExecError, allow_unwrapped=True, flatten_subgroups=True):
        created.exec(["sh", "-c", "exit 7"])


def test_exec_streams_much_output(client: Any) -> None:
    created = running(client, pod("a"))
    done = created.exec(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"])
    assert done.stdout.count(b"\n") == 20000
    assert done.stdout.endswith(b"line 19999\n")


def test_exec_in_an_unknown_container_or_pod_is_refused(client: Any) -> None:
    created = running(client, pod("a"))
    with pytest.raises(Exception) as wrong:
        created.exec(["true"], container="nope")
    assert getattr(wrong.value, "response", None) is not None, wrong.value
    assert wrong.value.response.status_code == 400  # type: ignore[attr-defined]
    missing = Pod(pod("missing"), api=client)
    with pytest.raises(kr8s.NotFoundError):
        missing.exec(["true"])


def test_logs_whole_tailed_and_of_a_wrong_container(client: Any) -> None:
    created = running(client, pod("a", "sh", "-c", "echo one; echo two; sleep 600"))
    wait_until(lambda: list(created.logs()) == ["one", "two"])
    assert list(created.logs(tail_lines=1)) == ["two"]
    assert list(created.logs(container="main", limit_bytes=3)) == ["one"]
    with pytest.raises(kr8s.ServerError, match="container nope is not valid for pod a") as caught:
        list(created.logs(container="nope"))
    assert caught.value.response.status_code == 400


def test_logs_are_followed_until_the_container_ends(client: Any) -> None:
    body = pod("a", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    body["spec"]["restartPolicy"] = "Never"
    created = Pod(body, api=client)
    created.create()
    created.wait(["condition=Ready", "jsonpath='{.status.phase}'=Succeeded"], mode="any", timeout=60)
    assert list(created.logs(follow=True, timeout=30)) == ["1", "2", "3"]


def test_the_proxy_of_a_service_reaches_its_pods(client: Any) -> None:
    running(client, web_pod("web", app="web"))
    spec = {"selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": 8080}]}
    service = Service({"metadata": {"name": "web"}, "spec": spec}, api=client)
    service.create()
    wait_until(lambda: service.ready())
    answer = wait_until(lambda: _ok(service))
    assert b"Directory listing" in answer.content


def _ok(service: Service) -> Any:
    # Endpoints follow the pods a moment later, on every cluster.
    try:
        return service.proxy_http_get("/")
    except kr8s.ServerError as error:
        assert error.response.status_code == 503, error
        return None


def test_a_port_is_forwarded(client: Any) -> None:
    created = running(client, web_pod("web"))
    with created.portforward(8080, local_port=free_port()) as port:
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                assert b"Directory listing" in answer.read()


def test_a_forwarded_port_where_nobody_listens_closes_the_connection(client: Any) -> None:
    created = running(client, web_pod("web"))
    with created.portforward(8081, local_port=free_port()) as port:  # noqa: SIM117 - one line would be too long
        with socket.create_connection(("127.0.0.1", port), 20) as end:
            end.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert end.recv(100) == b""


def test_deletion_ends_a_pod_and_can_be_waited_for(client: Any) -> None:
    created = running(client, pod("a"))
    created.delete()
    created.wait("delete", timeout=30)
    assert not created.exists()


def test_deleting_a_deployment_in_the_foreground_takes_its_pods_along(client: Any) -> None:
    Deployment(deployment("web", 1), api=client).create()
    created = available(client, "web")
    created.delete(propagation_policy="Foreground")
    created.wait("delete", timeout=60)
    assert not list(client.get("pods", label_selector="app=web"))


# The asynchronous half.


async def test_async_objects_patches_and_failures(api: Api, namespace: str) -> None:
    client = await kr8s.asyncio.api(kubeconfig=str(api.kubeconfig), namespace=namespace)
    created = await aio.ConfigMap(configmap("a", x="1"), api=client)
    await created.create()
    await created.patch({"data": {"x": "2"}})
    await created.label(tier="front")
    assert [found.data.x async for found in client.get("configmaps", label_selector="tier=front")] == ["2"]
    with pytest.raises(kr8s.ServerError, match="already exists"):
        await (await aio.ConfigMap(configmap("a"), api=client)).create()
    await created.delete()
    await created.wait("delete", timeout=10)
    with pytest.raises(kr8s.NotFoundError):
        await created.refresh()


async def test_async_watch_and_change_at_the_same_time(api: Api, namespace: str) -> None:
    client = await kr8s.asyncio.api(kubeconfig=str(api.kubeconfig), namespace=namespace)
    created = await aio.ConfigMap(configmap("a", x="0"), api=client)
    await created.create()

    async def watch() -> list[str]:
        seen = []
        async for _, changed in client.watch("configmaps", field_selector="metadata.name=a"):
            seen.append(changed.data.x)
            if seen[-1] == "5":
                return seen
        raise AssertionError("the watch ended")

    watching = asyncio.create_task(watch())
    for number in range(1, 6):
        await created.patch({"data": {"x": str(number)}})
        await asyncio.sleep(0.05)
    seen = await asyncio.wait_for(watching, 10)
    assert seen == sorted(seen)
    assert len(seen) >= 2


def _replicas_available(api: Api, namespace: str, name: str) -> int:
    status = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}").json.get("status", {})
    return int(status.get("availableReplicas", 0))


async def test_async_exec_logs_scale_and_port_forward(api: Api, namespace: str) -> None:
    client = await kr8s.asyncio.api(kubeconfig=str(api.kubeconfig), namespace=namespace)
    body = deployment("web", 1)
    body["spec"]["template"]["spec"] = web_pod("web")["spec"]
    created = await aio.Deployment(body, api=client)
    await created.create()
    await asyncio.to_thread(wait_until, lambda: _replicas_available(api, namespace, "web"))
    await created.refresh()
    (found,) = await created.pods()
    done = await found.exec(["sh", "-c", "echo hi; exit 3"], check=False)
    assert (done.stdout, done.returncode) == (b"hi\n", 3)
    assert isinstance([line async for line in found.logs()], list)
    await created.scale(2)
    async with found.portforward(8080, local_port=free_port()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b"200 OK" in await asyncio.wait_for(reader.readline(), 20)
        writer.close()


async def test_async_many_requests_at_once(api: Api, namespace: str) -> None:
    client = await kr8s.asyncio.api(kubeconfig=str(api.kubeconfig), namespace=namespace)
    made = [await aio.ConfigMap(configmap(f"m{n}", n=str(n)), api=client) for n in range(40)]
    await asyncio.gather(*(one.create() for one in made))
    names = {found.name async for found in client.get("configmaps")}
    assert {f"m{n}" for n in range(40)} <= names
