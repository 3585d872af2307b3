"""Verdicts on single edges: both sides, and what the caller sees."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.outcomes import RequestKind, Scope
from labkit.policy import Protocol, Workload, predict
from tests.published.objects import peer_authentication

TLS = {"security.istio.io/tlsMode": "istio"}
WEB = {"app": "web"}
SERVER = Workload("foo", "web", {**WEB, **TLS}, injected=True)
NAKED_SERVER = Workload("foo", "old", WEB)
FOOLED_SERVER = Workload("foo", "fooled", {**WEB, **TLS}, injected=False)
CLIENT = Workload("bar", "curl", TLS, injected=True)
NAKED = Workload("default", "curl-outside")

STRICT = [peer_authentication("foo", "default", "STRICT")]
DISABLE = [peer_authentication("foo", "default", "DISABLE")]
HOLE = [*DISABLE, peer_authentication("foo", "web", "STRICT", labels=WEB)]
PORT_OPEN = [peer_authentication("foo", "web", "STRICT", labels=WEB, ports={80: "DISABLE"})]
PORT_PERMISSIVE = [peer_authentication("foo", "web", "STRICT", labels=WEB, ports={80: "PERMISSIVE"})]

OK, RESET, PROXY_503, NOT_TOLD = (200, 0), (None, 56), (503, 0), (None, None)
BYTES = (None, 0)

HTTP_ROWS = [
    ("sidecars, no policy", CLIENT, SERVER, [], "mTLS", OK),
    ("sidecars, STRICT", CLIENT, SERVER, STRICT, "mTLS", OK),
    ("sidecars, DISABLE", CLIENT, SERVER, DISABLE, "plaintext", OK),
    ("naked client, no policy", NAKED, SERVER, [], "plaintext", OK),
    ("naked client, STRICT", NAKED, SERVER, STRICT, "refused", RESET),
    ("naked client, DISABLE", NAKED, SERVER, DISABLE, "plaintext", OK),
    ("naked client, the port is open", NAKED, SERVER, PORT_OPEN, "plaintext", OK),
    ("sidecar client, the port is DISABLE", CLIENT, SERVER, PORT_OPEN, "plaintext", OK),
    ("sidecar client, the port is PERMISSIVE", CLIENT, SERVER, PORT_PERMISSIVE, "mTLS", OK),
    ("nobody has a sidecar", NAKED, NAKED_SERVER, [], "plaintext", OK),
    ("STRICT without a sidecar is not enforced", NAKED, NAKED_SERVER, STRICT, "plaintext", OK),
    ("sidecar client, naked server", CLIENT, NAKED_SERVER, STRICT, "plaintext", OK),
    ("sidecar client, a label that lies", CLIENT, FOOLED_SERVER, [], "refused", PROXY_503),
    ("the reverse hole: DISABLE namespace, STRICT workload", CLIENT, SERVER, HOLE, "refused", PROXY_503),
    ("naked client at the reverse hole", NAKED, SERVER, HOLE, "refused", RESET),
]


@pytest.mark.parametrize("protocol", ["http", "undeclared"])
@pytest.mark.parametrize(
    ("client", "server", "policies", "outcome", "seen"), [pytest.param(*row[1:], id=row[0]) for row in HTTP_ROWS]
)
def test_http(
    client: Workload,
    server: Workload,
    policies: list[dict[str, Any]],
    outcome: str,
    seen: tuple[int | None, int | None],
    protocol: str,
) -> None:
    verdict = predict(client, server, 80, policies, protocol=Protocol(protocol))
    assert (verdict.outcome, (verdict.http_status, verdict.exit_code)) == (outcome, seen)
    assert verdict.client_sends and verdict.server_accepts
    assert all(reason.endswith(".") for reason in verdict.reasons) and len(verdict.reasons) == 2


OTHER_ROWS = [
    ("tcp, sidecars", CLIENT, "tcp", "tcp", STRICT, "mTLS", BYTES),
    ("tcp, naked client, STRICT", NAKED, "tcp", "tcp", STRICT, "refused", RESET),
    ("tcp, naked client, PERMISSIVE", NAKED, "tcp", "tcp", [], "plaintext", BYTES),
    ("HTTP on a tcp port through the reverse hole", CLIENT, "http", "tcp", HOLE, "refused", RESET),
    ("bytes on an undeclared port", NAKED, "tcp", "undeclared", [], "plaintext", BYTES),
    ("bytes on an http port, naked client", NAKED, "tcp", "http", [], "refused", RESET),
    ("bytes on an http port, sidecar client", CLIENT, "tcp", "http", [], "refused", NOT_TOLD),
    ("own TLS on a tcp port, PERMISSIVE", NAKED, "tls", "tcp", [], "tls", BYTES),
    ("own TLS on an https port, PERMISSIVE", NAKED, "tls", "https", [], "tls", BYTES),
    ("own TLS on an undeclared port, PERMISSIVE", NAKED, "tls", "undeclared", [], "tls", BYTES),
    ("own TLS on a tcp port, DISABLE", NAKED, "tls", "tcp", DISABLE, "tls", BYTES),
    ("own TLS on a tcp port, STRICT", NAKED, "tls", "tcp", STRICT, "refused", NOT_TOLD),
    ("own TLS on an http port, STRICT", NAKED, "tls", "http", STRICT, "refused", NOT_TOLD),
    ("own TLS on an http port, PERMISSIVE", NAKED, "tls", "http", [], "refused", NOT_TOLD),
    ("own TLS on an http port, DISABLE", NAKED, "tls", "http", DISABLE, "refused", NOT_TOLD),
    ("own TLS inside mTLS", CLIENT, "tls", "https", STRICT, "mTLS", BYTES),
    ("own TLS on an http port of the client's sidecar", CLIENT, "tls", "http", [], "refused", NOT_TOLD),
]


@pytest.mark.parametrize(
    ("client", "request_kind", "protocol", "policies", "outcome", "seen"),
    [pytest.param(*row[1:], id=row[0]) for row in OTHER_ROWS],
)
def test_other_requests(
    client: Workload,
    request_kind: str,
    protocol: str,
    policies: list[dict[str, Any]],
    outcome: str,
    seen: tuple[int | None, int | None],
) -> None:
    verdict = predict(client, SERVER, 80, policies, protocol=Protocol(protocol), request=RequestKind(request_kind))
    assert (verdict.outcome, (verdict.http_status, verdict.exit_code)) == (outcome, seen)


@pytest.mark.parametrize("port", [15020, 15021, 15090])
def test_ports_that_are_not_captured_stay_open_under_strict(port: int) -> None:
    assert predict(NAKED, SERVER, port, STRICT).outcome == "plaintext"
    assert predict(NAKED, SERVER, 15006, STRICT).outcome == "refused"


def test_a_call_to_a_pods_address_is_plaintext_even_between_sidecars() -> None:
    assert predict(CLIENT, SERVER, 80, by_service=False).outcome == "plaintext"
    assert predict(CLIENT, SERVER, 80, STRICT, by_service=False).outcome == "refused"


def test_without_auto_mtls_sidecars_speak_plaintext() -> None:
    assert predict(CLIENT, SERVER, 80, enable_auto_mtls=False).outcome == "plaintext"
    assert predict(CLIENT, SERVER, 80, STRICT, enable_auto_mtls=False).http_status == 503


def test_the_verdict_names_the_policy_that_decides() -> None:
    verdict = predict(NAKED, SERVER, 80, STRICT)
    assert (verdict.decided_by.namespace, verdict.decided_by.name) == ("foo", "default")
    assert verdict.decided_by.scope is Scope.NAMESPACE
    assert "foo/default" in verdict.reason
    assert "default/curl-outside has no sidecar" in verdict.reason
    assert predict(NAKED, SERVER, 80).decided_by.is_default


def test_the_reset_and_the_proxys_answer_are_in_the_words_of_curl_and_envoy() -> None:
    assert predict(NAKED, SERVER, 80, STRICT).error == "Recv failure: Connection reset by peer"
    assert "reset reason: connection termination" in predict(CLIENT, SERVER, 80, HOLE).error
