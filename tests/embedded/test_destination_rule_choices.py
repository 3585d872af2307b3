"""DestinationRules that say which endpoint is chosen, and which certificates a client takes from a Secret."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.embedded.addresses import listen_port
from labkit.pki import CertificateAuthority
from tests.embedded.envoy_world import Mesh, curl, talk, wait_for
from tests.embedded.routes_world import (
    HOST,
    HTTP,
    TCP,
    Object,
    becomes,
    call,
    clean_up,
    route,
    routed_mesh,
    to,
    version,
    versions,
)

TLS_PORT = 8443


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with routed_mesh("choices") as mesh:
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    clean_up(mesh)


def rule(mesh: Mesh, policy: Object, *, host: str = "reviews", **spec: Any) -> None:
    mesh.apply("DestinationRule", {"host": host, "trafficPolicy": policy, **spec})


def hashed(**settings: Any) -> Object:
    return {"loadBalancer": {"consistentHash": settings}}


def cluster(mesh: Mesh, subset: str = "", port: int = HTTP) -> Object:
    return mesh.sidecars["sleep"].cluster(port, HOST, subset)


def header(value: int) -> tuple[str, tuple[str, ...]]:
    return "/", ("-H", f"x-user: user-{value}")


def parameter(value: int) -> tuple[str, tuple[str, ...]]:
    return f"/?user={value}", ()


def source(value: int) -> tuple[str, tuple[str, ...]]:
    return "/", ("--interface", f"127.77.0.{value + 1}")


def cookie(value: int) -> tuple[str, tuple[str, ...]]:
    return "/", ("-b", f"user=u{value}")


WAYS = [
    (hashed(httpHeaderName="x-user"), header),
    (hashed(httpQueryParameterName="user"), parameter),
    (hashed(useSourceIp=True), source),
    (hashed(httpCookie={"name": "user", "ttl": "0s"}), cookie),
    (hashed(httpHeaderName="x-user", maglev={"tableSize": 251}), header),
    (hashed(httpHeaderName="x-user", ringHash={"minimumRingSize": 64}), header),
]


def of_each(mesh: Mesh, say: Any, users: int = 10, times: int = 2) -> list[set[str]]:
    """For each of some users, the servers that they met."""
    return [{version(call(mesh, say(user)[0], *say(user)[1])) for _ in range(times)} for user in range(users)]


def sticks(seen: list[set[str]]) -> bool:
    """Whether everybody keeps to one server, and not all to the same."""
    return all(len(one) == 1 for one in seen) and len(set.union(*seen)) == 2


@pytest.mark.parametrize(("policy", "say"), WAYS, ids=[str(way[0]) for way in WAYS])
def test_the_same_user_meets_the_same_server(mesh: Mesh, policy: Object, say: Any) -> None:
    assert not sticks(of_each(mesh, say)), "without a rule they do not"
    rule(mesh, policy)
    wait_for("the ring", lambda: cluster(mesh)["lb_policy"] in ("RING_HASH", "MAGLEV"))
    wait_for("the hash", lambda: sticks(of_each(mesh, say)))
    assert all(len(one) == 1 for one in of_each(mesh, say, users=3, times=6))


def test_the_hash_counts_on_routes_too_and_a_subset_has_its_own(mesh: Mesh) -> None:
    own = {"name": "all", "trafficPolicy": hashed(httpHeaderName="x-other")}
    rule(mesh, hashed(httpHeaderName="x-user"), subsets=[own])
    route(mesh, {"route": [to()]})
    wait_for("the hash", lambda: sticks(of_each(mesh, header)))
    route(mesh, {"route": [to("all")]})
    wait_for("the subset's", lambda: not sticks(of_each(mesh, header)))
    wait_for("another header", lambda: sticks(of_each(mesh, lambda user: ("/", ("-H", f"x-other: {user}")))))


def test_a_cookie_is_handed_out_to_who_has_none(mesh: Mesh) -> None:
    rule(mesh, hashed(httpCookie={"name": "user", "ttl": "60s", "path": "/"}))
    wait_for("the cookie", lambda: "set-cookie: user=" in call(mesh, "/", "-i").body.lower())
    answer = call(mesh, "/", "-i").body.lower()
    assert "max-age=60" in answer
    assert "path=/" in answer
    assert "set-cookie" not in call(mesh, "/", "-i", "-b", "user=known").body.lower()


def test_retries_of_a_hashed_request_stay_with_its_server(mesh: Mesh) -> None:
    def predicate() -> bool:
        dump = mesh.sidecars["sleep"].admin("config_dump?resource=dynamic_listeners")
        first = dump.index(f'"{HOST}:{HTTP}"')
        return "previous_hosts" in dump[first : dump.index("http_filters", first)]

    wait_for("the usual retries", predicate)
    rule(mesh, hashed(httpHeaderName="x-user"))
    wait_for("those of a hash", lambda: not predicate())


def test_connections_from_one_source_meet_one_server(mesh: Mesh) -> None:
    address = mesh.seen_from("sleep", "reviews")

    def connections() -> dict[str, int]:
        return {
            one: sum(mesh.sidecars[f"reviews-{one}"].counters(rf"inbound\|{TCP}.*upstream_cx_total$").values())
            for one in ("v1", "v2")
        }

    def met(count: int = 12) -> set[str]:
        before = connections()
        for _ in range(count):
            assert talk(address, TCP, b"ping", tls=False)[0] == b"echo:ping"
        wait_for("the count", lambda: sum(connections().values()) - sum(before.values()) == count)
        return {one for one, number in connections().items() if number > before[one]}

    assert met() == {"v1", "v2"}
    rule(mesh, hashed(useSourceIp=True))
    wait_for("the ring", lambda: cluster(mesh, port=TCP)["lb_policy"] == "RING_HASH")
    becomes(mesh, "one server", lambda: len(met()) == 1)


@contextlib.contextmanager
def relay(address: str, port: int, target: tuple[str, int]) -> Iterator[Counter[str]]:
    """What the node's proxy does for ClusterIPs: hand bytes on. Yields how often it was asked."""
    seen: Counter[str] = Counter()
    listener = socket.create_server((address, port))

    def pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):  # whichever side ends first ends both
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                seen["connections"] += 1
                server = socket.create_connection(target)
                for pair in ((caller, server), (server, caller)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize("routed", [False, True])
def test_passthrough_calls_what_the_application_called(mesh: Mesh, routed: bool) -> None:
    with relay(mesh.cluster_ip("reviews"), listen_port(HTTP), (mesh.ip("reviews-v1"), listen_port(HTTP))) as asked:
        assert versions(mesh, 20).keys() == {"v1", "v2"}
        assert not asked, "the proxy chooses among the endpoints itself"
        if routed:
            rule(mesh, {}, subsets=[{"name": "all", "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}])
            route(mesh, {"route": [to("all")]})
        else:
            rule(mesh, {"loadBalancer": {"simple": "PASSTHROUGH"}})
        becomes(mesh, "what the ClusterIP leads to", lambda: versions(mesh, 12).keys() == {"v1"})
        assert asked
        assert "URI=spiffe" in call(mesh).body, "by mTLS: every endpoint has a sidecar"


# Certificates from Secrets


@pytest.fixture(scope="module")
def outside(mesh: Mesh) -> CertificateAuthority:
    """A server without a sidecar that speaks TLS of its own."""
    authority = CertificateAuthority.self_signed("the server's CA")
    mesh.pod("outside", ports=(TLS_PORT,), sidecar=False)
    mesh.service("outside", {"port": TLS_PORT, "name": "http"})
    mesh.https_app("outside", TLS_PORT, authority.issue(dns_names=["outside.foo.svc.cluster.local"]), sidecar=False)
    mesh.push()
    return authority


def status(mesh: Mesh, client: str = "sleep") -> int:
    return curl(mesh.seen_from(client, "outside"), TLS_PORT, "/", "-H", "Host: outside.foo.svc.cluster.local").status


def test_a_sidecar_takes_the_authority_from_a_secret_if_the_rule_selects_it(
    mesh: Mesh, outside: CertificateAuthority
) -> None:
    # A connection that is there is not looked at again, so each request gets its own.
    own = {
        "tls": {"mode": "SIMPLE", "credentialName": "client-credential"},
        "connectionPool": {"http": {"maxRequestsPerConnection": 1}},
    }
    selected = {"workloadSelector": {"matchLabels": {"app": "sleep"}}}
    mesh.secret("client-credential", ca_crt=outside.root_pem)
    rule(mesh, own, host="outside", **selected)
    wait_for("TLS", lambda: status(mesh) == 200)
    mesh.secret("client-credential", ca_crt=CertificateAuthority.self_signed("a stranger").root_pem)
    wait_for("the other authority", lambda: status(mesh) == 503)
    mesh.secret("client-credential", ca_crt=outside.root_pem)
    wait_for("TLS again", lambda: status(mesh) == 200)
    rule(mesh, own, host="outside")
    wait_for("plaintext, which the server does not speak", lambda: status(mesh) in (502, 503))
    served = [one for one in mesh.delivery.root.rglob("credential-client-credential*") if "reviews" in str(one)]
    assert not served, "nobody else is given the Secret"


def test_without_its_secret_a_client_cannot_verify_the_server(mesh: Mesh, outside: CertificateAuthority) -> None:
    settings = {"mode": "SIMPLE", "credentialName": "nobody-made-it"}
    selected = {"workloadSelector": {"matchLabels": {"app": "sleep"}}}
    rule(mesh, {"tls": settings}, host="outside", **selected)
    wait_for("the refusal", lambda: status(mesh) == 503)
    rule(mesh, {"tls": {**settings, "insecureSkipVerify": True}}, host="outside", **selected)
    wait_for("trust in anybody", lambda: status(mesh) == 200)
