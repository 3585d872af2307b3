"""What the proxies counted, in the words of the declared view."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.observe.exposition import Sample
from labkit.observe.seen import probed_calls, seen_calls, traffic_of
from labkit.outcomes import Observation, Outcome, Probe

SPIFFE = "spiffe://cluster.local/ns/shop/sa/web"


def counted(value: float = 60, *, name: str = "istio_requests_total", **labels: str) -> Sample:
    known = {
        "reporter": "source",
        "source_workload": "client",
        "source_workload_namespace": "shop",
        "destination_workload": "web",
        "destination_workload_namespace": "shop",
        "destination_service_name": "web",
        "destination_service_namespace": "shop",
        "destination_principal": SPIFFE,
        "connection_security_policy": "unknown",
        "response_code": "200",
        "response_flags": "-",
    }
    return Sample(name, {**known, **labels}, value, pod="shop/client-1")


UNNAMED = {"reporter": "destination", "source_workload": "unknown", "source_workload_namespace": "unknown"}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, ("shop/client", "shop/web", Outcome.MTLS)),
        ({"destination_principal": "unknown"}, ("shop/client", "shop/web", Outcome.PLAINTEXT)),
        ({"response_code": "503", "response_flags": "UC"}, ("shop/client", "shop/web", Outcome.REFUSED)),
        ({"response_code": "0", "response_flags": "DC"}, ("shop/client", "shop/web", Outcome.REFUSED)),
        ({"response_code": "503"}, ("shop/client", "shop/web", Outcome.MTLS)),
        ({**UNNAMED, "connection_security_policy": "none"}, ("unknown", "shop/web", Outcome.PLAINTEXT)),
        ({"destination_service_name": "PassthroughCluster"}, ("shop/client", "shop/web", Outcome.MTLS)),
        ({"reporter": "destination", "connection_security_policy": "none"}, None),
        ({**UNNAMED, "connection_security_policy": "mutual_tls"}, None),
        ({**UNNAMED, "reporter": "source"}, None),
    ],
)
def test_a_series(labels: dict[str, str], expected: tuple[Any, ...] | None) -> None:
    found = seen_calls([counted(**labels)], 60)
    assert [(one.client, one.server, one.outcome) for one in found] == ([expected] if expected else [])
    assert all(one.per_minute == 60 for one in found)


def test_a_call_past_the_service_is_told() -> None:
    (one,) = seen_calls([counted(destination_service_name="InboundPassthroughCluster")], 60)
    assert one.past_service
    (one,) = seen_calls([counted()], 60)
    assert not one.past_service


def test_without_a_time_the_proxys_own_counts() -> None:
    running = Sample("envoy_server_uptime", {}, 120, pod="shop/client-1")
    (one,) = seen_calls([counted(), running])
    assert (one.per_minute, one.seconds) == (30, 120)
    assert seen_calls([counted()]) == [], "nobody knows for how long"


def test_traffic_adds_up_however_it_was_carried() -> None:
    plain = counted(30, destination_principal="unknown")
    refused = counted(10, response_code="503", response_flags="UF")
    tcp = counted(6, name="istio_tcp_connections_opened_total", destination_service_name="db")
    assert traffic_of([counted(), plain, refused, tcp], 60) == {
        ("shop/client", "shop/web"): 90,
        ("shop/client", "shop/db"): 6,
    }


def test_of_several_probes_the_last_one_counts() -> None:
    probe = Probe("shop/client", "shop/web", 8080)
    tried = [
        Observation(Outcome.PLAINTEXT, probe=probe),
        Observation(Outcome.REFUSED, probe=probe),
        Observation(Outcome.UNKNOWN, probe=probe),
        Observation(Outcome.PLAINTEXT),
    ]
    assert [(one.server, one.outcome, one.by) for one in probed_calls(tried)] == [
        ("shop/web:8080", Outcome.REFUSED, "a probe")
    ]
