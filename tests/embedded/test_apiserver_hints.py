"""What the embedded API server says where it differs from a real one, and does not say where it does not."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from labkit.embedded.apiclient import PODS, SERVICES, ApiClient, ApiError
from labkit.embedded.apiserver import ApiServer
from labkit.embedded.blocks import claim_block
from labkit.embedded.paths import ClusterPaths

Object = dict[str, Any]


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    paths = ClusterPaths(f"api-{uuid.uuid4().hex[:6]}").make()
    server = ApiServer(paths=paths, block=claim_block(paths))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[ApiClient]:
    async with ApiClient(server.paths.kubeconfig) as api:
        yield api


async def ask(server: ApiServer, method: str, path: str, body: Any = None, **headers: str) -> Any:
    """One request by a client in a thread of its own: (status, headers, text)."""
    import ssl
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    context = ssl.create_default_context(cafile=str(server.paths.pki_dir / "ca.crt"))
    token = (server.paths.pki_dir / "admin-token").read_text().strip()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body).encode()
    request = Request(
        f"https://{server.address}:{server.port}{path}",
        data,
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **named},
        method=method,
    )

    def send() -> tuple[int, Any, str]:
        try:
            with urlopen(request, context=context) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except HTTPError as error:
            return error.code, error.headers, error.read().decode()

    return await asyncio.to_thread(send)


def template() -> Object:
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "pause"}]}}


SELECTOR = {"matchLabels": {"app": "x"}}
STATEFULSET = {"metadata": {"name": "x"}, "spec": {"selector": SELECTOR, "serviceName": "x", "template": template()}}
DEPLOYMENT = {"metadata": {"name": "x"}, "spec": {"selector": SELECTOR, "template": template()}}


async def test_a_kind_that_nobody_acts_on_is_stored_with_a_warning(server: ApiServer) -> None:
    status, headers, _ = await ask(server, "POST", "/apis/apps/v1/namespaces/default/statefulsets", STATEFULSET)
    assert status == 201
    assert "use a Deployment" in headers["Warning"]


async def test_a_kind_that_works_has_no_warning(server: ApiServer) -> None:
    status, headers, _ = await ask(server, "POST", "/apis/apps/v1/namespaces/default/deployments", DEPLOYMENT)
    assert (status, headers["Warning"]) == (201, None)


def debugger(**spec: Any) -> Object:
    volumes = [{"name": "host-root", "hostPath": {"path": "/"}}]
    containers = [{"name": "debugger", "image": "busybox"}]
    return {"metadata": {"name": "node-debugger"}, "spec": {"volumes": volumes, "containers": containers, **spec}}


async def test_the_pod_of_kubectl_debug_node_is_told_what_the_node_is(server: ApiServer) -> None:
    path = "/api/v1/namespaces/default/pods"
    status, headers, _ = await ask(server, "POST", path, debugger(hostPID=True, hostNetwork=True))
    assert status == 201 and "this machine" in headers["Warning"] and "tcpdump" in headers["Warning"]
    ordinary = debugger()
    ordinary["metadata"]["name"] = "mounts-a-directory"
    status, headers, _ = await ask(server, "POST", path, ordinary)
    assert (status, headers["Warning"]) == (201, None), "a pod that only mounts a directory is an ordinary one"


async def test_impersonation_makes_the_request_somebody_elses(server: ApiServer) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    _, _, text = await ask(server, "POST", path, {}, Impersonate_User="jane")
    assert json.loads(text)["status"]["userInfo"]["username"] == "jane"
    _, _, text = await ask(server, "POST", path, {})
    assert json.loads(text)["status"]["userInfo"]["username"] == "kubernetes-admin"
    status, _, _ = await ask(server, "POST", path, {}, Impersonate_Group="jane")
    assert status == 400


async def test_the_verbose_health_check_lists_what_was_looked_at(server: ApiServer) -> None:
    _, _, text = await ask(server, "GET", "/readyz?verbose")
    assert "[+]storage ok" in text
    assert text.endswith("readyz check passed\n")
    assert (await ask(server, "GET", "/readyz"))[2] == "ok"


async def test_the_service_of_the_api_server_comes_back(api: ApiClient) -> None:
    before = await api.get(SERVICES, "kubernetes", "default")
    await api.delete(SERVICES, "kubernetes", "default")
    async with asyncio.timeout(5):
        while True:
            try:
                after = await api.get(SERVICES, "kubernetes", "default")
                break
            except ApiError:
                await asyncio.sleep(0.01)
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


async def test_a_namespace_that_was_chosen_in_the_kubeconfig_outlives_a_restart(server: ApiServer) -> None:
    kubeconfig = server.paths.kubeconfig
    config = json.loads(kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = "shop"
    kubeconfig.write_text(json.dumps(config))
    await server.stop()
    await server.start()
    assert json.loads(kubeconfig.read_text())["contexts"][0]["context"]["namespace"] == "shop"
    kubeconfig.write_text("no kubeconfig at all: [")
    await server.stop()
    await server.start()
    assert "namespace" not in json.loads(kubeconfig.read_text())["contexts"][0]["context"]


async def test_a_failed_test_in_a_json_patch_is_said_in_kubernetes_words(api: ApiClient) -> None:
    await api.create(PODS, {"metadata": {"name": "p", "namespace": "default"}, "spec": template()["spec"]})
    patch = [{"op": "test", "path": "/metadata/name", "value": "q"}]
    with pytest.raises(ApiError, match="testing value /metadata/name failed") as caught:
        await api.patch(PODS, "p", patch, namespace="default", content_type="application/json-patch+json")
    assert caught.value.status == 422
