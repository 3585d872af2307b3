"""Istio's kinds on the embedded API server: every served version, what is accepted, and what is refused and why."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from labkit.embedded.apiclient import CRDS, ApiClient, ApiError, Resource
from labkit.embedded.apiserver import ApiServer
from labkit.embedded.blocks import claim_block
from labkit.embedded.paths import ClusterPaths
from labkit.installers.embedded import Installation

Object = dict[str, Any]

DEFINITIONS = Installation().crds()
SPECS: dict[str, Object] = {
    "PeerAuthentication": {"mtls": {"mode": "STRICT"}},
    "RequestAuthentication": {"jwtRules": [{"issuer": "https://issuer", "jwks": "{}"}]},
    "AuthorizationPolicy": {
        "action": "DENY",
        "rules": [{"from": [{"source": {"notPrincipals": ["*"]}}], "to": [{"operation": {"ports": ["80"]}}]}],
    },
    "DestinationRule": {
        "host": "reviews",
        "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "portLevelSettings": [{"port": {"number": 80}}]},
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}],
    },
    "VirtualService": {
        "hosts": ["reviews"],
        "http": [
            {"match": [{"uri": {"prefix": "/v1"}}], "route": [{"destination": {"host": "reviews"}, "weight": 100}]}
        ],
    },
    "Gateway": {
        "selector": {"istio": "ingressgateway"},
        "servers": [
            {
                "port": {"number": 443, "name": "https", "protocol": "HTTPS"},
                "hosts": ["*"],
                "tls": {"mode": "MUTUAL", "credentialName": "certs"},
            }
        ],
    },
    "ServiceEntry": {
        "hosts": ["api.example.com"],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
        "endpoints": [{"address": "192.0.2.1"}],
    },
    "WorkloadEntry": {"address": "192.0.2.1", "serviceAccount": "vm", "labels": {"app": "vm"}},
    "WorkloadGroup": {"template": {"serviceAccount": "vm", "ports": {"http": 80}}},
    "Sidecar": {"egress": [{"hosts": ["./*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
    "EnvoyFilter": {
        "configPatches": [
            {
                "applyTo": "CLUSTER",
                "match": {"context": "ANY"},
                "patch": {"operation": "MERGE", "value": {"any": {"thing": 1}}},
            }
        ]
    },
    "ProxyConfig": {"concurrency": 0, "environmentVariables": {"A": "b"}},
    "Telemetry": {"accessLogging": [{"providers": [{"name": "envoy"}], "filter": {"expression": "true"}}]},
    "WasmPlugin": {"url": "file:///m.wasm", "phase": "AUTHN", "pluginConfig": {"free": ["form"]}},
}
SERVED = [
    (definition["spec"]["names"]["kind"], definition["spec"]["group"], version["name"], definition["spec"]["names"])
    for definition in DEFINITIONS
    for version in definition["spec"]["versions"]
]


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[ApiClient]:
    """An API server with all the kinds."""
    paths = ClusterPaths(f"kinds-{uuid.uuid4().hex[:6]}").make()
    server = ApiServer(paths=paths, block=claim_block(paths))
    await server.start()
    async with ApiClient(server.paths.kubeconfig) as api:
        for definition in DEFINITIONS:
            await api.create(CRDS, definition)
        yield api
    await server.stop()


def resource(group: str, version: str, names: Object) -> Resource:
    return Resource(f"{group}/{version}", names["plural"])


def make(kind: str, group: str, version: str, spec: Object) -> Object:
    name = f"{kind.lower()}-{version}-{uuid.uuid4().hex[:6]}"
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": metadata, "spec": spec}


def test_every_kind_of_the_labs_is_there() -> None:
    assert {kind for kind, *_ in SERVED} == SPECS.keys()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("kind", "group", "version", "names"), SERVED, ids=[f"{k}-{v}" for k, _, v, _ in SERVED])
async def test_an_object_is_kept_whole_in_every_version(
    api: ApiClient, kind: str, group: str, version: str, names: Object
) -> None:
    obj = make(kind, group, version, SPECS[kind])
    await api.create(resource(group, version, names), obj)
    for other in (one[2] for one in SERVED if one[0] == kind):
        stored = await api.get(resource(group, other, names), obj["metadata"]["name"], "default")
        assert stored["spec"] == SPECS[kind]
        assert stored["apiVersion"] == f"{group}/{other}"


WRONG = [
    ("PeerAuthentication", {"mtls": {"mode": "STRIKT"}}, 'Unsupported value: "STRIKT"'),
    ("DestinationRule", {"trafficPolicy": {}}, "spec.host: Required value"),
    ("DestinationRule", {"host": "a", "trafficPolicy": {"tls": {"mode": "mutual"}}}, "spec.trafficPolicy.tls.mode"),
    ("DestinationRule", {"host": "a", "subsets": [{"labels": {}}]}, "spec.subsets[0].name: Required value"),
    ("VirtualService", {"http": [{"route": [{"weight": 1}]}]}, "spec.http[0].route[0].destination: Required value"),
    ("VirtualService", {"http": [{"timeout": 5}]}, "spec.http[0].timeout"),
    ("Gateway", {"servers": [{"hosts": ["*"]}]}, "spec.servers[0].port: Required value"),
    (
        "Gateway",
        {"servers": [{"hosts": ["*"], "port": {"number": 1, "name": "a", "protocol": "TLS"}, "tls": {"mode": "x"}}]},
        "tls.mode",
    ),
    (
        "ServiceEntry",
        {"hosts": ["a"], "ports": [{"number": 80, "name": "a"}, {"number": 81, "name": "a"}]},
        "spec.ports[1]: Duplicate value",
    ),
    ("ServiceEntry", {"resolution": "STATIC"}, "spec.hosts: Required value"),
    ("ServiceEntry", {"hosts": ["a"], "location": "OUTSIDE"}, "spec.location"),
    ("AuthorizationPolicy", {"action": "PERMIT"}, "spec.action"),
    ("AuthorizationPolicy", {"rules": [{"when": [{"values": ["x"]}]}]}, "spec.rules[0].when[0].key: Required value"),
    ("RequestAuthentication", {"jwtRules": [{"issuer": ""}]}, "spec.jwtRules[0].issuer"),
    (
        "VirtualService",
        {"http": [{"match": [{"uri": {"exact": "/", "prefix": "/"}}]}]},
        "must validate one and only one schema (oneOf)",
    ),
    ("Sidecar", {"ingress": [{"port": {"number": 80}, "tls": {"mode": "STRICT"}}]}, "spec.ingress[0].tls.mode"),
    ("Sidecar", {"egress": [{}]}, "spec.egress[0].hosts: Required value"),
    ("EnvoyFilter", {"configPatches": [{"applyTo": "HTTP"}]}, "spec.configPatches[0].applyTo"),
    ("ProxyConfig", {"concurrency": -1}, "spec.concurrency"),
    ("Telemetry", {"metrics": [{"overrides": [{"match": {"metric": "COUNT"}}]}]}, "metric"),
    ("WasmPlugin", {"phase": "AUTHN"}, "spec.url: Required value"),
    ("WorkloadGroup", {"metadata": {}}, "spec.template: Required value"),
    ("WorkloadEntry", {"address": 5}, "spec.address"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("kind", "spec", "words"), WRONG, ids=[f"{k}: {w}" for k, _, w in WRONG])
async def test_what_the_schema_forbids_is_refused_with_the_field(
    api: ApiClient, kind: str, spec: Object, words: str
) -> None:
    _, group, version, names = next(one for one in SERVED if one[0] == kind)
    with pytest.raises(ApiError) as caught:
        await api.create(resource(group, version, names), make(kind, group, version, spec))
    assert caught.value.status == 422
    assert words in caught.value.what


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_no_longer_applied_leaves_no_empty_block_behind(api: ApiClient) -> None:
    """An empty `tls` would mean DISABLE, and an absent one means auto mTLS."""
    rules = Resource("networking.istio.io/v1", "destinationrules")
    name = f"rule-{uuid.uuid4().hex[:6]}"
    base = {"apiVersion": rules.api_version, "kind": "DestinationRule", "metadata": {"name": name}}
    policy = {"tls": {"mode": "DISABLE"}, "loadBalancer": {"simple": "RANDOM"}}
    for spec, expected in (
        ({"host": "a", "trafficPolicy": policy}, policy),
        (
            {"host": "a", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}},
            {"loadBalancer": {"simple": "RANDOM"}},
        ),
        ({"host": "a"}, None),
    ):
        stored = await api.apply(
            rules, {**base, "metadata": {"name": name, "namespace": "default"}, "spec": spec}, manager="x"
        )
        assert stored["spec"].get("trafficPolicy") == expected
