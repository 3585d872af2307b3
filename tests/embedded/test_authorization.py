"""AuthorizationPolicies with real traffic: Envoy's answer is compared with the decision of `labkit.policy`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labkit.policy.authorization import Request, authorize, parse_authorization_policy
from labkit.policy.workload import workload_from_pod
from tests.embedded.envoy_world import Curled, Mesh, curl, talk, wait_for, written

Object = dict[str, Any]
HTTP, TCP = 8001, 8002
SLEEP = "cluster.local/ns/foo/sa/sleep"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A server for HTTP and TCP, and a client of the mesh; curl itself is a client without a sidecar."""
    with Mesh("authz") as mesh:
        mesh.server("httpbin", http=(HTTP,), tcp=(TCP,))
        mesh.pod("sleep")
        mesh.push()
        wait_for("the service", lambda: from_the_mesh(mesh).status == 200)
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.remove("AuthorizationPolicy")


def policy(spec: Object, name: str = "test", namespace: str = "foo", **annotations: str) -> Object:
    return written("AuthorizationPolicy", spec, name=name, namespace=namespace, **annotations)


def apply(mesh: Mesh, *policies: Object) -> None:
    """Apply, and wait until the server's proxy has the filters of all."""
    for obj in policies:
        mesh.state.on_config("AuthorizationPolicy", "ADDED", obj)
    mesh.push()
    names = [f"policy[{obj['metadata']['name']}]" for obj in policies if obj["spec"].get("action") != "CUSTOM"]
    mesh.settled("httpbin", lambda listener: all(name in json.dumps(listener) for name in names))


def from_the_mesh(mesh: Mesh, path: str = "/", *options: str) -> Curled:
    return curl(mesh.seen_from("sleep", "httpbin"), HTTP, path, *options)


def from_outside(mesh: Mesh, path: str = "/", *options: str) -> Curled:
    return curl(mesh.ip("httpbin"), HTTP, path, *options)


def rule(*, source: Object | None = None, operation: Object | None = None, when: list[Object] | None = None) -> Object:
    written: Object = {}
    if source is not None:
        written["from"] = [{"source": source}]
    if operation is not None:
        written["to"] = [{"operation": operation}]
    if when is not None:
        written["when"] = when
    return written


def allow(**parts: Any) -> Object:
    return {"rules": [rule(**parts)]}


def deny(**parts: Any) -> Object:
    return {"action": "DENY", "rules": [rule(**parts)]}


HEADER = {"key": "request.headers[x-token]", "values": ["admin*"]}
ROWS = [
    # what is written, then whether a client of the mesh and a naked one are let in
    ({}, False, False),
    ({"rules": [{}]}, True, True),
    (allow(source={"principals": [SLEEP]}), True, False),
    (allow(source={"principals": ["cluster.local/ns/foo/*"]}), True, False),
    (allow(source={"principals": ["*/sa/sleep"]}), True, False),
    (allow(source={"principals": ["*"]}), True, False),
    (allow(source={"principals": ["cluster.local/ns/foo/sa/other"]}), False, False),
    (allow(source={"namespaces": ["foo"]}), True, False),
    (allow(source={"namespaces": ["f*"]}), True, False),
    (allow(source={"namespaces": ["bar"]}), False, False),
    (allow(source={"notNamespaces": ["bar"]}), True, True),
    (allow(source={"serviceAccounts": ["sleep"]}), True, False),
    (allow(source={"serviceAccounts": ["bar/sleep"]}), False, False),
    (allow(source={"trustDomains": ["cluster.local"]}), True, False),
    (deny(source={"principals": [SLEEP]}), False, True),
    (deny(source={"namespaces": ["bar"]}), True, True),
    (deny(source={"notPrincipals": ["*"]}), True, False),
    (deny(source={"notNamespaces": ["foo"]}), True, False),
    (allow(operation={"methods": ["GET"]}), True, True),
    (allow(operation={"methods": ["POST"]}), False, False),
    (allow(operation={"notMethods": ["GET"]}), False, False),
    (allow(operation={"paths": ["/"]}), True, True),
    (allow(operation={"paths": ["/admin*"]}), False, False),
    (deny(operation={"paths": ["*"]}), False, False),
    (allow(operation={"paths": ["/{*}"]}), False, False),
    (allow(operation={"paths": ["/{**}"]}), True, True),
    (allow(operation={"ports": [str(HTTP)]}), True, True),
    (allow(operation={"ports": ["1"]}), False, False),
    (allow(operation={"hosts": ["SHOP.example"]}), True, True),
    (allow(operation={"hosts": ["*.example"]}), True, True),
    (deny(operation={"hosts": ["Shop.*"]}), False, False),
    (allow(operation={"hosts": ["other"]}), False, False),
    (allow(when=[HEADER]), True, True),
    (deny(when=[{**HEADER, "values": [], "notValues": ["admin1"]}]), True, True),
    (allow(when=[{"key": "source.namespace", "values": ["foo"]}]), True, False),
    (allow(source={"principals": ["*"]}, operation={"methods": ["POST"]}), False, False),
    (allow(source={"requestPrincipals": ["*"]}), False, False),
    (deny(source={"ipBlocks": ["127.0.0.0/8"]}), False, False),
    (deny(source={"ipBlocks": ["192.0.2.0/24"]}), True, True),
    ({"selector": {"matchLabels": {"app": "other"}}}, True, True),
    ({"action": "DENY", "rules": [{}], "targetRefs": [{"kind": "Gateway", "name": "a"}]}, True, True),
    ({"action": "AUDIT", "rules": [{}]}, True, True),
    ({"action": "CUSTOM", "provider": {"name": "none"}, "rules": [{}]}, False, False),
]


@pytest.mark.parametrize(("spec", "mesh_client", "naked"), ROWS, ids=[json.dumps(row[0]) for row in ROWS])
def test_envoy_decides_as_the_table_and_the_pure_rules_do(
    mesh: Mesh, spec: Object, mesh_client: bool, naked: bool
) -> None:
    obj = policy(spec)
    if "targetRefs" in spec or spec.get("selector", {}).get("matchLabels", {}).get("app") == "other":
        mesh.state.on_config("AuthorizationPolicy", "ADDED", obj)
        apply(mesh, policy({"action": "AUDIT", "rules": [{}]}, "marker"))
    else:
        apply(mesh, obj)
    options = ("-H", "Host: shop.example", "-H", "x-token: admin1")
    for expected, ask, principal in ((mesh_client, from_the_mesh, SLEEP), (naked, from_outside, "")):
        wait_for("Envoy's decision", lambda e=expected, a=ask: (a(mesh, "/", *options).status == 200) is e)  # type: ignore[misc]
        answer = ask(mesh, "/", *options)
        assert answer.status == (200 if expected else 403)
        assert expected or answer.body == "RBAC: access denied"
        assert decided(mesh, [obj], principal) is expected


def decided(mesh: Mesh, policies: list[Object], principal: str, **facts: Any) -> bool:
    request = Request(
        principal=principal,
        source_ip="127.0.0.1",
        host="shop.example",
        port=facts.pop("port", HTTP),
        headers={"X-Token": "admin1"},
        **facts,
    )
    server = workload_from_pod(mesh._pods["httpbin"])
    return authorize([parse_authorization_policy(one) for one in policies], server, request).allowed


TCP_ROWS = [
    (allow(source={"principals": ["*"]}), True, False),
    (allow(operation={"ports": [str(TCP)]}), True, True),
    # A rule about HTTP is dropped in ALLOW, so nothing is allowed; in DENY only the field is, so all is denied.
    (allow(operation={"methods": ["GET"], "ports": [str(TCP)]}), False, False),
    (deny(operation={"methods": ["GET"], "ports": [str(TCP)]}), False, False),
    (deny(operation={"ports": ["1"]}), True, True),
]


@pytest.mark.parametrize(("spec", "mesh_client", "naked"), TCP_ROWS, ids=[json.dumps(row[0]) for row in TCP_ROWS])
def test_bytes_that_are_no_http_are_closed_or_let_through(
    mesh: Mesh, spec: Object, mesh_client: bool, naked: bool
) -> None:
    apply(mesh, policy(spec))

    def with_certificate() -> bytes:
        return talk(mesh.ip("httpbin"), TCP, b"ping pong", leaf=mesh.leaf(), alpn=("istio",))[0]

    def without() -> bytes:
        return talk(mesh.ip("httpbin"), TCP, b"ping pong", tls=False)[0]

    asks: tuple[tuple[bool, Callable[[], bytes], str], ...] = (
        (mesh_client, with_certificate, SLEEP),
        (naked, without, ""),
    )
    for expected, ask, principal in asks:
        wait_for("Envoy's decision", lambda e=expected, a=ask: bool(a()) is e)  # type: ignore[misc]
        assert decided(mesh, [policy(spec)], principal, port=TCP, http=False) is expected


def test_a_deny_beats_an_allow_and_policies_add_up(mesh: Mesh) -> None:
    both = [policy(allow(operation={"paths": ["/a*"]}), "a"), policy(allow(operation={"paths": ["/b*"]}), "b")]
    apply(mesh, *both, policy(deny(operation={"paths": ["/a/secret"]}), "c"))
    expected = {"/a": 200, "/b": 200, "/c": 403, "/a/secret": 403}

    def seen() -> dict[str, int]:
        return {path: from_the_mesh(mesh, path).status for path in expected}

    # A connection of before follows the rules of before until it is drained.
    wait_for("the new rules on every connection", lambda: seen() == expected)
    assert seen() == expected


def test_a_selector_in_the_root_namespace_counts_everywhere(mesh: Mesh) -> None:
    apply(mesh, policy({"selector": {"matchLabels": {"app": "httpbin"}}}, namespace="istio-system"))
    wait_for("the refusal", lambda: from_the_mesh(mesh).status == 403)


def test_a_dry_run_counts_and_lets_in(mesh: Mesh) -> None:
    apply(mesh, policy({}, **{"istio.io/dry-run": "true"}))
    wait_for("an answer", lambda: from_the_mesh(mesh).status == 200)
    pattern = "istio_dry_run_allow_.*shadow_denied"
    wait_for("the count", lambda: sum(mesh.sidecars["httpbin"].counters(pattern).values()) >= 1)
