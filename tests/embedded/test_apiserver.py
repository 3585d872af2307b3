"""The embedded API server's own promises: who gets in, what survives, what it tells whoever starts it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import ssl
import stat
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from labkit.embedded import lifecycle
from labkit.embedded.apiclient import CONFIGMAPS, NAMESPACES, SERVICES, ApiClient, ApiError
from labkit.embedded.apiserver import ApiServer, storage
from labkit.embedded.blocks import claim_block
from labkit.embedded.paths import ClusterPaths
from labkit.errors import MachineError


@pytest.fixture
def paths() -> ClusterPaths:
    return ClusterPaths(f"api-{uuid.uuid4().hex[:6]}").make()


@pytest.fixture
async def server(paths: ClusterPaths) -> AsyncIterator[ApiServer]:
    server = ApiServer(paths=paths, block=claim_block(paths))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def api(server: ApiServer) -> AsyncIterator[ApiClient]:
    async with ApiClient(server.paths.kubeconfig) as api:
        yield api


def _configmap(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


async def _raw(server: ApiServer, path: str, headers: dict[str, str]) -> int:
    context = ssl.create_default_context(cafile=server.paths.pki_dir / "ca.crt")
    url = f"https://{server.address}:{server.port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context, headers=headers) as response:
        return response.status


# Who gets in.


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}])
async def test_nobody_gets_in_without_the_token(server: ApiServer, headers: dict[str, str]) -> None:
    assert await _raw(server, "/api/v1/namespaces", headers) == 401


async def test_health_is_told_to_everybody(server: ApiServer) -> None:
    assert await _raw(server, "/readyz", {}) == 200


async def test_a_certificate_of_another_ca_is_not_ours(server: ApiServer) -> None:
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        async with aiohttp.ClientSession() as session:
            await session.get(f"https://{server.address}:{server.port}/readyz")


async def test_keys_are_for_their_owner_alone(server: ApiServer) -> None:
    for path in (server.paths.kubeconfig, *server.paths.pki_dir.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(server.paths.state_dir.stat().st_mode) == 0o700


async def test_only_its_own_loopback_address_listens(server: ApiServer) -> None:
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


# What is there from the start, and after.


async def test_a_new_cluster_has_its_namespaces_and_the_service_kubernetes(server: ApiServer, api: ApiClient) -> None:
    names = {item["metadata"]["name"] for item in (await api.list(NAMESPACES))["items"]}
    assert names == {"default", "kube-system", "kube-public", "kube-node-lease"}
    service = await api.get(SERVICES, "kubernetes", "default")
    assert service["spec"]["clusterIP"] == server.address


async def test_a_restart_keeps_objects_token_and_versions(server: ApiServer, api: ApiClient) -> None:
    made = await api.create(CONFIGMAPS, _configmap("kept", x="1"))
    before = server.paths.kubeconfig.read_text()
    await server.stop()
    again = ApiServer(paths=server.paths, block=server.block)
    await again.start()
    try:
        assert server.paths.kubeconfig.read_text() == before
        async with ApiClient(server.paths.kubeconfig) as fresh:
            assert await fresh.get(CONFIGMAPS, "kept", "default") == made
            later = await fresh.create(CONFIGMAPS, _configmap("later"))
            assert int(later["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    finally:
        await again.stop()


async def test_what_was_acknowledged_survives_kill_9(paths: ClusterPaths) -> None:
    block = claim_block(paths)
    command = [sys.executable, "-m", "labkit.embedded.apiserver", "--name", paths.name, "--block", str(block)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    await asyncio.to_thread(process.stdout.readline)
    acknowledged = []
    try:
        async with ApiClient(paths.kubeconfig) as api:
            for i in range(50):
                await api.create(CONFIGMAPS, _configmap(f"n{i}", x=str(i)))
                acknowledged.append(f"n{i}")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    server = ApiServer(paths=paths, block=block)
    await server.start()
    try:
        async with ApiClient(paths.kubeconfig) as api:
            found = {item["metadata"]["name"] for item in (await api.list(CONFIGMAPS, "default"))["items"]}
        assert set(acknowledged) <= found
    finally:
        await server.stop()


async def test_a_supervisor_killed_in_the_midst_of_writes_loses_none(paths: ClusterPaths) -> None:
    """Every acknowledged write holds afterwards; what was not acknowledged is there as a whole, or not at all."""
    kubeconfig = lifecycle.up(paths.name)
    wanted: dict[str, str | None] = {}
    doubtful: dict[str, set[str | None]] = {}

    async def write(api: ApiClient, writer: int) -> None:
        for i in itertools.count():
            name = f"w{writer}-{i % 7}"
            before, after = wanted.get(name), None if i % 5 == 4 else f"{i}" + "x" * 5000
            doubtful[name] = {before, after}
            body = _configmap(name, first=after or "", second=after or "")
            if after is None:
                await api.delete(CONFIGMAPS, name, "default")
            elif before is None:
                await api.create(CONFIGMAPS, body)
            else:
                await api.replace(CONFIGMAPS, body)
            wanted[name] = after
            del doubtful[name]

    try:
        async with ApiClient(kubeconfig) as api:
            writers = [asyncio.create_task(write(api, i)) for i in range(6)]
            await asyncio.sleep(0.7)
            pid = lifecycle.status(paths.name).pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            ends = await asyncio.gather(*writers, return_exceptions=True)
        assert all(isinstance(end, aiohttp.ClientError | OSError) for end in ends), ends
        assert len(wanted) > 20
        async with ApiClient(lifecycle.up(paths.name)) as api:
            items = (await api.list(CONFIGMAPS, "default"))["items"]
        found = {item["metadata"]["name"]: item["data"] for item in items if item["metadata"]["name"].startswith("w")}
        for name in wanted.keys() | doubtful.keys():
            value = found[name]["first"] if name in found else None
            assert value in doubtful.get(name, {wanted.get(name)}), name
        assert all(data["first"] == data["second"] for data in found.values())
    finally:
        lifecycle.down(paths.name, purge=True)


async def test_a_taken_port_is_the_machines_matter(server: ApiServer, paths: ClusterPaths) -> None:
    second = ApiServer(paths=ClusterPaths(f"{paths.name}-2"), block=server.block)
    with pytest.raises(MachineError) as caught:
        await second.start()
    assert caught.value.details["port"] == server.port
    assert "choose another name" in caught.value.next_step


# Watches at their limits.


async def test_a_watch_from_too_far_back_is_told_410(
    server: ApiServer, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "HISTORY_EVENTS", 5)
    version = (await api.list(CONFIGMAPS))["metadata"]["resourceVersion"]
    for i in range(10):
        await api.create(CONFIGMAPS, _configmap(f"n{i}"))
    with pytest.raises(ApiError) as caught:
        async for _ in api.watch(CONFIGMAPS, version):
            pass
    assert caught.value.status == 410


async def test_a_watch_from_the_future_is_told_410(api: ApiClient) -> None:
    with pytest.raises(ApiError) as caught:
        async for _ in api.watch(CONFIGMAPS, "999999999"):
            pass
    assert caught.value.status == 410


async def test_a_stop_ends_watches_properly(server: ApiServer, api: ApiClient) -> None:
    version = (await api.list(CONFIGMAPS))["metadata"]["resourceVersion"]

    async def follow() -> list[str]:
        return [kind async for kind, _ in api.watch(CONFIGMAPS, version)]

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    await server.stop()
    assert await asyncio.wait_for(task, 5) == []


# Use.


async def test_components_do_not_count_as_users(server: ApiServer) -> None:
    before = server.last_used
    async with ApiClient(server.paths.kubeconfig, name="node") as component:
        await component.list(CONFIGMAPS)
    assert server.last_used == before
    token = (server.paths.pki_dir / "admin-token").read_text()
    assert await _raw(server, "/api/v1/pods", {"Authorization": f"Bearer {token}"}) == 200
    assert server.last_used > before


# Nothing that a client sends may look like our fault.


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}, "spec": None}),
        ("POST", "/api/v1/namespaces/default/pods", {"metadata": {"name": "p"}, "spec": {"containers": [None]}}),
        ("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "s"}, "spec": {"ports": [{}]}}),
        ("POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "s"}}),
        ("POST", "/apis/apps/v1/namespaces/default/deployments", {"metadata": {"name": "d"}}),
        ("POST", "/apis/apps/v1/namespaces/default/deployments", {"metadata": {"name": "d"}, "spec": {"selector": {}}}),
        ("POST", "/apis/batch/v1/namespaces/default/jobs", {"metadata": {"name": "j"}, "spec": {}}),
        ("POST", "/apis/batch/v1/namespaces/default/cronjobs", {"metadata": {"name": "j"}}),
        ("POST", "/api/v1/namespaces/default/bindings", {"metadata": 1}),
        ("POST", "/api/v1/namespaces/default/pods/p/binding", {"target": 1}),
        ("POST", "/api/v1/namespaces/default/pods/p/eviction", []),
        ("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {"metadata": {"name": "x"}, "spec": {}}),
        ("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {"metadata": {"name": "x"}}),
        ("POST", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", {"webhooks": [{}]}),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": {}}),
        ("PUT", "/api/v1/namespaces/default/finalize", {"spec": 1}),
        ("PUT", "/api/v1/namespaces/default/services/kubernetes", {"metadata": None}),
        ("PUT", "/api/v1/namespaces/default/services/kubernetes", {"metadata": {"name": "kubernetes"}, "spec": {}}),
        ("DELETE", "/api/v1/namespaces/default/services/kubernetes", {"preconditions": {"uid": "x"}}),
        ("DELETE", "/api/v1/namespaces/default/pods/p", {"gracePeriodSeconds": "x"}),
        ("GET", "/api/v1/namespaces/default/pods/p:x:y:z/proxy/", None),
        ("GET", "/api/v1/namespaces/default/pods?limit=x", None),
        ("GET", "/api/v1/namespaces/default/pods?watch=1&timeoutSeconds=x", None),
        ("GET", "/api/v1/nodes/x/proxy/", None),
        ("GET", "/openapi/v3/apis/x/y", None),
        ("GET", "/apis//v1/x", None),
        ("GET", "/api/v1/namespaces//pods", None),
        ("PATCH", "/api/v1/namespaces/default", {}),
    ],
)
async def test_odd_requests_are_the_clients_fault(api: ApiClient, method: str, path: str, body: Any) -> None:
    try:
        await api.request(method, path, body=body)
    except ApiError as error:
        assert 400 <= error.status < 500 or error.status == 503, (error.status, error.what)
