"""Probes: the curl line, what its output says, and how it was carried."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labkit.cluster import ExecResult
from labkit.errors import InputError
from labkit.observe.traffic import (
    address_of,
    asks_for_tls,
    curl_command,
    observation_of,
    outcome_of,
    parse_answer,
    shown_command,
)
from labkit.outcomes import Observation, Outcome, Probe

SENT = Probe("default/curl-outside", "azureopenai/chatbackend-service", 5000)
ANSWER = 'HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: application/json\r\n\r\n{"model": "m"}'


def seen(stdout: str = "", stderr: str = "", exit_code: int = 0, *, injected: bool = False) -> Observation:
    return observation_of(ExecResult(("curl",), stdout, stderr, exit_code, 0.01), SENT, injected=injected)


def test_the_line_shows_curls_flags() -> None:
    assert curl_command("http://x:80/")[:3] == ["curl", "-sS", "-i"]
    assert curl_command("http://x:80/")[-1] == "http://x:80/"


def test_data_that_is_not_text_is_sent_as_json() -> None:
    command = curl_command("http://x/", data={"message": "hi"})
    assert command[command.index("-d") + 1] == '{"message": "hi"}'
    assert "Content-Type: application/json" in command


def test_a_content_type_of_the_callers_own_stays() -> None:
    command = curl_command("http://x/", data="{}", headers={"content-type": "text/plain"})
    assert "content-type: text/plain" in command
    assert "Content-Type: application/json" not in command


@pytest.mark.parametrize(
    ("value", "shown"),
    [("Bearer secret", '"Authorization: Bearer $TOKEN"'), ("secret", '"Authorization: $TOKEN"')],
)
def test_a_token_is_sent_and_not_shown(value: str, shown: str) -> None:
    command = curl_command("http://x/", headers={"Authorization": value, "x-word": "a b"})
    assert f"Authorization: {value}" in command
    line = shown_command(command)
    assert shown in line and "secret" not in line
    assert "'x-word: a b'" in line, "other headers are shown"


def test_a_method_is_named_only_when_curl_would_not_take_it_anyway() -> None:
    assert "-X" not in curl_command("http://x/", data="a", method="POST")
    assert "DELETE" in curl_command("http://x/", method="delete")


@pytest.mark.parametrize("url", ["", "chatbackend-service:5000", "ftp://x/", "http://", "http://x:port/", 7])
def test_what_curl_cannot_call_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="not a URL"):
        curl_command(url)


def test_ports_follow_the_scheme() -> None:
    assert address_of("http://x/") == ("x", 80)
    assert address_of("https://x/") == ("x", 443)
    assert address_of("http://x.y:5000/chat") == ("x.y", 5000)


def test_an_answer_is_read_into_status_headers_and_body() -> None:
    assert parse_answer(ANSWER) == (
        200, {"server": "x", "content-type": "application/json"}, '{"model": "m"}')  # fmt: skip


def test_interim_answers_are_skipped() -> None:
    assert parse_answer("HTTP/1.1 100 Continue\r\n\r\n" + ANSWER)[0] == 200


def test_a_body_with_blank_lines_stays_whole() -> None:
    assert parse_answer("HTTP/1.1 200 OK\r\nA: b\r\n\r\none\n\ntwo")[2] == "one\n\ntwo"


def test_an_answer_without_headers_is_read() -> None:
    assert parse_answer("HTTP/1.1 204 No Content\r\n\r\n") == (204, {}, "")


def test_output_that_is_no_http_is_all_body() -> None:
    assert parse_answer("hello") == (None, {}, "hello")


def test_an_answer_to_a_client_without_a_sidecar_was_plaintext() -> None:
    observation = seen(ANSWER)
    assert observation.outcome is Outcome.PLAINTEXT
    assert observation.json() == {"model": "m"}


def test_an_answer_to_a_client_with_a_sidecar_does_not_tell() -> None:
    assert seen(ANSWER, injected=True).outcome is Outcome.UNKNOWN


def test_a_reset_is_refused_and_no_exception() -> None:
    observation = seen(stderr="curl: (56) Recv failure: Connection reset by peer\n", exit_code=56)
    assert observation.outcome is Outcome.REFUSED
    assert (observation.http_status, observation.exit_code) == (None, 56)
    assert observation.error.endswith("Connection reset by peer")


def test_a_503_from_the_clients_own_proxy_is_refused() -> None:
    text = "HTTP/1.1 503 Service Unavailable\r\n\r\nupstream connect error or disconnect/reset before headers"
    assert seen(text, injected=True).outcome is Outcome.REFUSED


def test_a_name_that_does_not_resolve_is_not_a_refusal_by_the_server() -> None:
    assert seen(stderr="curl: (6) Could not resolve host", exit_code=6).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("handshakes", "connections", "failed", "requests", "outcome"),
    [
        pytest.param(2, 2, 0, 9, Outcome.MTLS, id="all connections with a handshake"),
        pytest.param(1, 2, 1, 9, Outcome.MTLS, id="a connection that failed does not count"),
        pytest.param(0, 2, 0, 9, Outcome.PLAINTEXT, id="none with a handshake"),
        pytest.param(1, 2, 0, 9, Outcome.UNKNOWN, id="some of each"),
        pytest.param(0, 0, 0, 0, Outcome.UNKNOWN, id="nothing went through this proxy"),
    ],
)
def test_counters_tell_how_a_client_spoke(
    handshakes: int, connections: int, failed: int, requests: int, outcome: Outcome
) -> None:
    prefix = "cluster.outbound|5000||chatbackend-service.azureopenai.svc.cluster.local"
    counters = {
        f"{prefix}.ssl.handshake": handshakes,
        f"{prefix}.upstream_cx_total": connections,
        f"{prefix}.upstream_cx_connect_fail": failed,
        f"{prefix}.upstream_rq_total": requests,
    }
    assert outcome_of(counters) is outcome


def test_a_proxy_that_keeps_no_counters_does_not_tell() -> None:
    assert outcome_of({}) is Outcome.UNKNOWN


def counted(connections: int, handshakes: int, requests: int) -> dict[str, int]:
    cluster = "cluster.outbound|5000||chatbackend-service.azureopenai.svc.cluster.local"
    return {
        f"{cluster}.upstream_cx_total": connections,
        f"{cluster}.ssl.handshake": handshakes,
        f"{cluster}.upstream_rq_total": requests,
    }


@pytest.mark.parametrize(
    ("earlier", "now", "outcome"),
    [
        pytest.param(counted(3, 0, 9), counted(4, 1, 10), Outcome.MTLS, id="a handshake after a time of plaintext"),
        pytest.param(counted(3, 3, 9), counted(4, 3, 10), Outcome.PLAINTEXT, id="plaintext after a time of mTLS"),
        pytest.param(counted(3, 1, 9), counted(5, 2, 11), Outcome.UNKNOWN, id="one of each since then"),
        pytest.param(counted(3, 1, 9), counted(3, 1, 10), Outcome.REFUSED, id="no new connection: as it was told then"),
        pytest.param(counted(9, 0, 9), counted(1, 1, 1), Outcome.MTLS, id="a restarted proxy counts from zero"),
    ],
)
def test_only_what_was_added_tells_how_a_request_was_carried(
    earlier: dict[str, int], now: dict[str, int], outcome: Outcome
) -> None:
    assert outcome_of(now, (earlier, Outcome.REFUSED)) is outcome


def test_without_an_earlier_reading_a_mixed_past_does_not_tell() -> None:
    assert outcome_of(counted(4, 1, 10)) is Outcome.UNKNOWN


OWN = "HTTP/1.1 {}\r\nserver: envoy\r\n\r\n{}"
FROM_BEHIND = "HTTP/1.1 {}\r\nserver: envoy\r\nx-envoy-upstream-service-time: 3\r\n\r\n{}"


@pytest.mark.parametrize(
    ("answer", "injected", "outcome"),
    [
        pytest.param(OWN.format("502 Bad Gateway", ""), True, Outcome.REFUSED, id="REGISTRY_ONLY, led nowhere"),
        pytest.param(OWN.format("503 x", "no healthy upstream"), True, Outcome.REFUSED, id="nobody behind the name"),
        pytest.param(FROM_BEHIND.format("502 Bad Gateway", ""), True, Outcome.UNKNOWN, id="a server's own 502"),
        pytest.param(FROM_BEHIND.format("503 x", "no healthy upstream"), True, Outcome.UNKNOWN, id="a proxy behind"),
        pytest.param(OWN.format("502 Bad Gateway", "sorry"), True, Outcome.UNKNOWN, id="with words"),
        pytest.param(OWN.format("502 Bad Gateway", ""), False, Outcome.PLAINTEXT, id="a client without a proxy"),
    ],
)
def test_what_the_clients_own_proxy_answers_never_left(answer: str, injected: bool, outcome: Outcome) -> None:
    assert seen(answer, injected=injected).outcome is outcome


@pytest.mark.parametrize(
    ("cluster", "asks"),
    [
        ({"transport_socket": {"name": "tls"}}, True),
        ({"transport_socket_matches": [{"name": "tlsMode-istio", "transport_socket": {"name": "tls"}}]}, False),
        ({}, False),
    ],
    ids=["a DestinationRule's TLS", "auto mTLS, endpoint by endpoint", "plaintext"],
)
def test_a_cluster_speaks_tls_of_its_own_only_by_its_own_socket(cluster: dict[str, Any], asks: bool) -> None:
    assert (
        asks_for_tls(json.dumps({"configs": [{"cluster": {"name": "outbound|80||ledger.example", **cluster}}]})) is asks
    )
    assert not asks_for_tls("no answer")
