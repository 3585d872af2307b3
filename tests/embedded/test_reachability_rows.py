"""The table of Istio's own integration test of reachability, with real traffic, on every kind of port that it calls.

The table is in tests/published/reachability.py: for each case who is let in, and whether the server meets mTLS.

Beside the traffic, Envoy's own dump and the certificate that the server presents are read, by code of this file.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from labkit.embedded.addresses import listen_port
from labkit.pki import CertificateAuthority
from tests.embedded.echoes import EchoTCP
from tests.embedded.envoy_world import Mesh, curl, talk, wait_for
from tests.embedded.test_destination_rule_choices import relay
from tests.published.reachability import (
    A_B,
    A_NAKED,
    CALLS,
    CASES,
    HTTP,
    HTTPS,
    MIGRATION_CASES,
    NAKED_B,
    PASSTHROUGH,
    ROOT,
    TCP,
    WITH,
    WITHOUT,
    Call,
    Condition,
    always,
    global_peer_authentication,
    global_rule,
    never,
    obj,
    of_each_workload,
    rule_of_each_service,
)

Object = dict[str, Any]

DOOR = 8080

# An ingress gateway calls as a sidecar does; Istio's test has none.
FROM_GATEWAY = (Call("gateway", "b"), Call("gateway", "naked"))


def door() -> list[Object]:
    """Two hosts at the gateway, each leading to one of the applications."""
    server = {"port": {"number": DOOR, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    found = [obj("Gateway", "door", {"selector": {"istio": "ingressgateway"}, "servers": [server]}, ROOT)]
    for app in ("b", "naked"):
        host = f"{app}.foo.svc.cluster.local"
        route = [{"destination": {"host": host, "port": {"number": HTTP}}}]
        spec = {"hosts": [f"{app}.example.com"], "gateways": [f"{ROOT}/door"], "http": [{"route": route}]}
        found.append(obj("VirtualService", f"through-the-door-to-{app}", spec))
    return found


# The mesh


class EchoWebSocket(EchoTCP):
    """Answers with what it was told of the caller; who asks for an upgrade gets it, and the bytes back."""

    def answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := connection.recv(65536)):
                return
            head += more
            if not head[:1].isalpha():  # no HTTP, such as TLS of a mesh that this server is no part of
                return
        caller = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"x-forwarded-client")), b"")
        said = b"X-Met: " + caller.partition(b":")[2].strip() + b"\r\n"
        if b"upgrade: websocket" not in head.lower():
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n" + said + b"\r\n")
            return
        upgraded = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        connection.sendall(upgraded + said + b"\r\n")
        connection.sendall(b"echo:" + connection.recv(65536))


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """`a` and `b` have a sidecar, `naked` has none; of `migration` one version has, the other has not yet."""
    authority = CertificateAuthority.self_signed()
    ports = {"http": HTTP, "https": HTTPS, "tcp": TCP}
    pods = [("a", True, {}), ("b", True, {}), ("naked", False, {})]
    pods += [(name, name == "vistio", {"app": "migration", "version": name}) for name in ("vistio", "vlegacy")]
    with Mesh("rows") as mesh, contextlib.ExitStack() as node:
        for name, sidecar, labels in pods:
            mesh.pod(name, ports=tuple(ports.values()), sidecar=sidecar, labels=labels, account=labels.get("app", name))
            mesh.https_app(name, HTTPS, authority.issue(dns_names=(name,), ttl=timedelta(hours=1)), sidecar=sidecar)
            mesh.tcp_app(name, TCP, sidecar=sidecar)
            mesh.tcp_app(name, HTTP, sidecar=sidecar, answers=EchoWebSocket)
        for name in ("a", "b", "naked", "migration"):
            mesh.service(name, *({"port": number, "name": kind} for kind, number in ports.items()))
        mesh.pod("gateway", namespace=ROOT, gateway=True, labels={"istio": "ingressgateway"}, account="gateway")
        for one in door():
            mesh.state.on_config(one["kind"], "ADDED", one)
        mesh.push()
        for name, port in itertools.product(("b", "naked"), ports.values()):
            node.enter_context(relay(mesh.cluster_ip(name), listen_port(port), (mesh.ip(name), listen_port(port))))
        yield mesh


@pytest.fixture
def applied(mesh: Mesh) -> Iterator[Callable[[list[Object]], None]]:
    """Apply manifests; they are gone after the test."""
    there: list[Object] = []

    def apply(objects: list[Object]) -> None:
        there.extend(objects)
        for one in objects:
            mesh.state.on_config(one["kind"], "ADDED", one)
        mesh.push()

    yield apply
    for one in there:
        mesh.state.on_config(one["kind"], "DELETED", one)
    mesh.push()


def where(mesh: Mesh, call: Call) -> str:
    """A sidecar's client meets a Service at an address of its own, a naked one meets a pod."""
    if call.source == "naked":
        return mesh.ip(call.target)
    return mesh.seen_from(call.source, call.target)


# What is met: "" when refused, "mTLS" or "plaintext", and "let in" where the application cannot tell


def by_http(mesh: Mesh, call: Call) -> str:
    if call.source == "gateway":
        answer = curl(mesh.ip("gateway"), DOOR, call.path, "-D", "-", "-H", f"Host: {call.target}.example.com")
    else:
        answer = curl(where(mesh, call), HTTP, call.path, "-D", "-")
    if answer.status != 200:
        return ""
    return "mTLS" if "URI=spiffe://" in answer.body else "plaintext"


def by_websocket(mesh: Mesh, call: Call) -> str:
    asked = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    try:
        with socket.create_connection((where(mesh, call), listen_port(HTTP)), timeout=5) as connection:
            connection.sendall(b"GET " + call.path.encode() + b" HTTP/1.1\r\n" + asked + b"\r\n")
            head = b""
            while b"\r\n\r\n" not in head:
                if not (more := connection.recv(65536)):
                    return ""
                head += more
            if not head.startswith(b"HTTP/1.1 101"):
                return ""
            connection.sendall(b"ping")
            back = head.partition(b"\r\n\r\n")[2]
            while b"ping" not in back:
                if not (more := connection.recv(65536)):
                    return ""
                back += more
    except OSError:
        return ""
    return "mTLS" if b"URI=spiffe://" in head else "plaintext"


def by_https(mesh: Mesh, call: Call) -> str:
    request = b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
    answer, certificate = talk(where(mesh, call), HTTPS, request, sni=call.target)
    # The application's own certificate: a sidecar does not open this TLS.
    own = certificate is not None and certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return "let in" if answer.startswith(b"HTTP/1.1 200") and own and "URI" not in str(own) else ""


def by_tcp(mesh: Mesh, call: Call) -> str:
    # Five bytes at least: the TLS inspector of a PERMISSIVE server waits for a whole TLS header.
    return "let in" if talk(where(mesh, call), TCP, b"ping pong", tls=False)[0] == b"echo:ping pong" else ""


PORT_KINDS = {"http": by_http, "websocket": by_websocket, "https": by_https, "tcp": by_tcp}


def hold_to(mesh: Mesh, calls: tuple[Call, ...], kinds: tuple[str, ...], let_in: Condition, mtls: Condition) -> None:
    for call, kind in itertools.product(calls, kinds):
        told = kind in ("http", "websocket")
        wanted = "" if not let_in(call) else "let in" if not told else "mTLS" if mtls(call) else "plaintext"
        meets = PORT_KINDS[kind]
        wait_for(f"{call} ({kind}) to be {wanted or 'refused'}", lambda c=call, m=meets, w=wanted: m(mesh, c) == w)  # type: ignore[misc]


# The second reading


def sent_by(mesh: Mesh, port: int, target: str) -> set[str]:
    """What `a` sends to a Service's port, from Envoy's own dump: for each kind of endpoint mTLS or plaintext."""
    name = f"outbound|{port}||{target}.foo.svc.cluster.local"
    dump = json.loads(mesh.sidecars["a"].admin("config_dump?resource=dynamic_active_clusters"))
    cluster = next(one["cluster"] for one in dump["configs"] if one["cluster"]["name"] == name)
    sockets = [one["transport_socket"] for one in cluster.get("transport_socket_matches", ())]
    sockets += [cluster["transport_socket"]] if "transport_socket" in cluster else []
    tls = [one for one in sockets if one["typed_config"]["@type"].endswith("tls.v3.UpstreamTlsContext")]
    for one in tls:
        assert "default" in str(one["typed_config"]["common_tls_context"]), "the mesh's own certificate"
    return {"mTLS" if one in tls else "plaintext" for one in sockets} or {"plaintext"}


def taken_by(mesh: Mesh, port: int) -> set[str]:
    """What the proxy of `b` takes on a port, from the filter chains in its own dump."""
    chains = mesh.sidecars["b"].listener()["filter_chains"]
    mine = [one for one in chains if one.get("filter_chain_match", {}).get("destination_port") == listen_port(port)]
    return {"mTLS" if "transport_socket" in one else "plaintext" for one in mine}


def presents(mesh: Mesh) -> str:
    """Who the server of mTLS is, by the certificate that it shows."""
    _, certificate = talk(mesh.ip("b"), TCP, b"ping pong", leaf=mesh.leaf("a"), alpn=("istio-peer-exchange",))
    if certificate is None:
        return ""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)[0]


def expected_of_server(name: str) -> set[str]:
    if "disable" in name or "override" in name:
        return {"plaintext"}
    return {"mTLS"} if "strict" in name else {"mTLS", "plaintext"}


def expected_of_client(objects: list[Object]) -> set[str]:
    modes = {
        (one["spec"].get("trafficPolicy", {}).get("tls") or {}).get("mode")
        for one in objects
        if one["kind"] == "DestinationRule"
    }
    if "ISTIO_MUTUAL" in modes or PASSTHROUGH in objects:  # which chooses no endpoint; all of `b` have a sidecar
        return {"mTLS"}
    if "DISABLE" in modes or any(one["spec"].get("mtls") == {"mode": "DISABLE"} for one in objects):
        return {"plaintext"}
    return {"mTLS", "plaintext"}


@pytest.mark.parametrize(("name", "objects", "let_in", "mtls"), CASES, ids=[case[0] for case in CASES])
def test_who_reaches_whom_is_as_istio_says(
    mesh: Mesh,
    applied: Callable[[list[Object]], None],
    name: str,
    objects: list[Object],
    let_in: Condition,
    mtls: Condition,
) -> None:
    applied(objects)
    hold_to(mesh, CALLS, tuple(PORT_KINDS), let_in, mtls)
    hold_to(mesh, FROM_GATEWAY, ("http",), let_in, mtls)
    assert sent_by(mesh, TCP, "b") == expected_of_client(objects)
    server = expected_of_server(name)
    assert taken_by(mesh, TCP) == server
    assert presents(mesh) == ("spiffe://cluster.local/ns/foo/sa/b" if "mTLS" in server else "")


@pytest.mark.parametrize(
    ("name", "objects", "let_in", "mtls"), MIGRATION_CASES, ids=[case[0] for case in MIGRATION_CASES]
)
def test_a_workload_is_migrated_one_version_at_a_time(
    mesh: Mesh,
    applied: Callable[[list[Object]], None],
    name: str,
    objects: list[Object],
    let_in: Condition,
    mtls: Condition,
) -> None:
    applied(objects)
    hold_to(mesh, (WITH, WITHOUT), ("http", "websocket"), let_in, mtls)


def test_the_header_that_tells_who_called_has_the_form_of_istios_task_page(mesh: Mesh) -> None:
    """https://istio.io/latest/docs/tasks/security/authentication/authn-policy/#auto-mutual-tls"""
    answer = curl(where(mesh, A_B), HTTP, "/", "-D", "-")
    told = next(line for line in answer.body.splitlines() if line.lower().startswith("x-met:"))
    form = r'By=(\S+?);Hash=[0-9a-f]{64};Subject="";URI=(\S+)'
    found = re.fullmatch(form, told.partition(":")[2].strip())
    assert found, told
    assert found.groups() == ("spiffe://cluster.local/ns/foo/sa/b", "spiffe://cluster.local/ns/foo/sa/a")
    naked = curl(where(mesh, NAKED_B), HTTP, "/", "-D", "-", "-H", f"x-forwarded-client-cert: {told}")
    assert "URI=" not in naked.body, "what a caller claims of itself is not passed on"


def test_one_port_without_mtls_is_closed_to_clients_whom_a_rule_makes_send_it(
    mesh: Mesh, applied: Callable[[list[Object]], None]
) -> None:
    """The case "beta-per-port-mtls" of earlier versions of the test."""
    disabled = {str(HTTP): {"mode": "DISABLE"}}
    (policy,) = (one for one in of_each_workload("STRICT", disabled) if one["metadata"]["name"] == "b")
    (rule,) = (one for one in rule_of_each_service("ISTIO_MUTUAL") if one["metadata"]["name"] == "b")
    applied([policy, rule])
    hold_to(mesh, (A_B,), ("http", "websocket"), never, never)
    hold_to(mesh, (A_B,), ("https", "tcp"), always, always)
    hold_to(mesh, (NAKED_B,), ("http", "websocket"), always, never)
    hold_to(mesh, (NAKED_B,), ("https", "tcp"), never, never)
    assert (taken_by(mesh, HTTP), taken_by(mesh, TCP)) == ({"plaintext"}, {"mTLS"})


def test_without_auto_mtls_a_strict_server_is_closed_until_a_rule_demands_mtls(
    mesh: Mesh, applied: Callable[[list[Object]], None]
) -> None:
    """meshConfig.enableAutoMtls: false."""
    before = mesh.state.mesh
    try:
        mesh.state.on_mesh(replace(before, auto_mtls=False))
        applied([global_peer_authentication("PERMISSIVE")])
        hold_to(mesh, (A_B, A_NAKED), tuple(PORT_KINDS), always, never)
        assert sent_by(mesh, TCP, "b") == {"plaintext"}
        applied([global_peer_authentication("STRICT")])
        hold_to(mesh, (A_B,), tuple(PORT_KINDS), never, never)
        applied([global_rule("ISTIO_MUTUAL")])
        hold_to(mesh, (A_B,), tuple(PORT_KINDS), always, always)
        hold_to(mesh, (A_NAKED,), tuple(PORT_KINDS), never, never)
    finally:
        mesh.state.on_mesh(before)
        mesh.push()


def test_envoy_rejected_nothing_of_all_this(mesh: Mesh) -> None:
    assert mesh.rejections == []
