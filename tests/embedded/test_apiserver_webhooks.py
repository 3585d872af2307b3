"""Admission webhooks over real TLS: what they change, refuse and warn of, and what their absence means."""

from __future__ import annotations

import base64
import json
import ssl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from labkit.embedded.addresses import pod_ip
from labkit.embedded.apiclient import CONFIGMAPS, ENDPOINTSLICES, NAMESPACES, SERVICES, ApiClient, ApiError, Resource
from labkit.embedded.apiserver import ApiServer
from labkit.embedded.blocks import claim_block
from labkit.embedded.paths import ClusterPaths
from labkit.pki import CertificateAuthority

GROUP = "admissionregistration.k8s.io/v1"
MUTATING = Resource(GROUP, "mutatingwebhookconfigurations", namespaced=False)
VALIDATING = Resource(GROUP, "validatingwebhookconfigurations", namespaced=False)


class Hook:
    """A webhook that answers as the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.response: dict[str, Any] = {"allowed": True}

    async def __call__(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.asked.append(review["request"])
        answer = {"uid": review["request"]["uid"], **self.response}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})

    def patch(self, *operations: dict[str, Any]) -> None:
        patch = base64.b64encode(json.dumps(operations).encode()).decode()
        self.response = {"allowed": True, "patchType": "JSONPatch", "patch": patch}


class World:
    """The API server, the webhook behind Service `hook`, and the authority that signed its certificate."""

    def __init__(self, server: ApiServer, api: ApiClient, hook: Hook, authority: CertificateAuthority) -> None:
        self.server, self.api, self.hook, self.authority = server, api, hook, authority

    async def register(self, resource: Resource = MUTATING, **changes: Any) -> None:
        service = {"namespace": "default", "name": "hook", "path": "/ask", "port": 443}
        webhook = {
            "name": "hook.example.com",
            "clientConfig": {"service": service, "caBundle": base64.b64encode(self.authority.root_pem).decode()},
            "rules": [
                {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}
            ],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **changes,
        }
        kind = "MutatingWebhookConfiguration" if resource is MUTATING else "ValidatingWebhookConfiguration"
        body = {"apiVersion": GROUP, "kind": kind, "metadata": {"name": "hook"}, "webhooks": [webhook]}
        await self.api.create(resource, body)

    async def create(self, **labels: str) -> dict[str, Any]:
        metadata = {"generateName": "a-", "namespace": "default", "labels": labels}
        return await self.api.create(CONFIGMAPS, {"metadata": metadata})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    paths = ClusterPaths(f"hook-{uuid.uuid4().hex[:6]}").make()
    server = ApiServer(paths=paths, block=claim_block(paths))
    await server.start()
    authority = CertificateAuthority.self_signed("hooks")
    leaf = authority.issue(dns_names=["hook.default.svc"])
    (tmp_path / "cert.pem").write_bytes(leaf.chain_pem)
    (tmp_path / "key.pem").write_bytes(leaf.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    hook = Hook()
    app = web.Application()
    app.router.add_post("/ask", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    address = pod_ip(server.block, 200)
    await web.TCPSite(runner, address, 15017, ssl_context=context).start()
    async with ApiClient(paths.kubeconfig) as api:
        ports = [{"name": "https", "port": 443, "targetPort": 15017}]
        await api.create(SERVICES, {"metadata": {"name": "hook", "namespace": "default"}, "spec": {"ports": ports}})
        labels = {"kubernetes.io/service-name": "hook"}
        endpoints = [{"addresses": [address], "conditions": {"ready": True}}]
        slice_ = {"metadata": {"name": "hook-1", "namespace": "default", "labels": labels}, "addressType": "IPv4"}
        slice_ |= {"endpoints": endpoints, "ports": [{"name": "https", "port": 15017}]}
        await api.create(ENDPOINTSLICES, slice_)
        yield World(server, api, hook, authority)
    await runner.cleanup()
    await server.stop()


async def test_a_mutating_webhook_changes_what_is_stored(world: World) -> None:
    world.hook.patch({"op": "add", "path": "/data", "value": {"injected": "yes"}})
    await world.register()
    made = await world.create()
    assert (await world.api.get(CONFIGMAPS, made["metadata"]["name"], "default"))["data"] == {"injected": "yes"}
    (asked,) = world.hook.asked
    assert (asked["operation"], asked["namespace"]) == ("CREATE", "default")
    assert asked["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert asked["oldObject"] is None


async def test_what_it_makes_is_validated_all_the_same(world: World) -> None:
    world.hook.patch({"op": "add", "path": "/data", "value": {"bad/key": "x"}})
    await world.register()
    with pytest.raises(ApiError) as caught:
        await world.create()
    assert caught.value.status == 422


async def test_a_patch_that_does_not_fit_is_the_webhooks_fault(world: World) -> None:
    world.hook.patch({"op": "remove", "path": "/nothing"})
    await world.register()
    with pytest.raises(ApiError) as caught:
        await world.create()
    assert 'failed calling webhook "hook.example.com"' in caught.value.what


@pytest.mark.parametrize("resource", [MUTATING, VALIDATING], ids=["mutating", "validating"])
async def test_a_webhook_refuses_in_its_own_words(world: World, resource: Resource) -> None:
    world.hook.response = {"allowed": False, "status": {"message": "not today", "code": 403}}
    await world.register(resource)
    with pytest.raises(ApiError) as caught:
        await world.create()
    assert caught.value.status == 403
    assert caught.value.what == 'admission webhook "hook.example.com" denied the request: not today'
    assert (await world.api.list(CONFIGMAPS, "default"))["items"] == []


async def test_warnings_reach_the_client(world: World) -> None:
    world.hook.response = {"allowed": True, "warnings": ["mind the gap"]}
    await world.register(VALIDATING)
    token = (world.server.paths.pki_dir / "admin-token").read_text()
    context = ssl.create_default_context(cafile=world.server.paths.pki_dir / "ca.crt")
    url = f"https://{world.server.address}:{world.server.port}/api/v1/namespaces/default/configmaps"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.post(url, json={"metadata": {"name": "a"}}, ssl=context) as response,
    ):
        assert response.headers["Warning"] == '299 - "mind the gap"'


@pytest.mark.parametrize(
    "changes",
    [
        {"namespaceSelector": {"matchLabels": {"inject": "yes"}}},
        {"objectSelector": {"matchLabels": {"inject": "yes"}}},
        {"rules": [{"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
        {"rules": [{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*"]}]},
    ],
    ids=["namespace", "object", "operation", "group"],
)
async def test_a_webhook_is_not_asked_about_what_it_did_not_name(world: World, changes: dict[str, Any]) -> None:
    await world.register(**changes)
    await world.create()
    assert world.hook.asked == []


async def test_selectors_that_match_do_ask(world: World) -> None:
    await world.api.patch(NAMESPACES, "default", {"metadata": {"labels": {"inject": "yes"}}})
    wanted = {"matchLabels": {"inject": "yes"}}
    await world.register(namespaceSelector=wanted, objectSelector=wanted)
    await world.create(inject="yes")
    assert len(world.hook.asked) == 1


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"name": "nobody"}, 'service "nobody" not found'),
        ({"port": 444}, "no service port 444 found"),
        ({"path": "/other"}, "status code 404"),
    ],
)
async def test_a_webhook_that_does_not_answer_fails_the_write_unless_ignored(
    world: World, broken: dict[str, Any], words: str
) -> None:
    service = {"namespace": "default", "name": "hook", "path": "/ask", "port": 443, **broken}
    config = {"service": service, "caBundle": base64.b64encode(world.authority.root_pem).decode()}
    await world.register(clientConfig=config)
    with pytest.raises(ApiError) as caught:
        await world.create()
    assert words in caught.value.what
    await world.api.delete(MUTATING, "hook")
    await world.register(clientConfig=config, failurePolicy="Ignore")
    await world.create()


async def test_a_certificate_of_another_authority_is_not_trusted(world: World) -> None:
    other = CertificateAuthority.self_signed("others")
    bundle = base64.b64encode(other.root_pem).decode()
    await world.register(
        clientConfig={"service": {"namespace": "default", "name": "hook", "path": "/ask"}, "caBundle": bundle}
    )
    with pytest.raises(ApiError) as caught:
        await world.create()
    assert "failed to verify certificate" in caught.value.what
    assert world.hook.asked == []
