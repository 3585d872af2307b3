"""Frames of metrics: edges, who told it, shares, success, latency, plaintext."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.observe.exposition import Sample
from labkit.observe.metrics import CLOSED, OPENED, REQUESTS, SENT, Scrape
from labkit.views.metrics import Metrics, is_failure, service_of, workload_of

STORE = {"destination_workload": "store", "destination_workload_namespace": "shop"}
WEB = {"source_workload": "web", "source_workload_namespace": "shop"}
SERVICE = {"destination_service_name": "store", "destination_service_namespace": "shop"}
NOBODY = {"source_workload": "unknown", "source_workload_namespace": "unknown"}


def sample(value: float, name: str = REQUESTS, *, pod: str = "shop/store-1", edge: str = "", **labels: str) -> Sample:
    known = {**STORE, **SERVICE, "request_protocol": "http", "response_code": "200", "response_flags": "-", **labels}
    return Sample(name, known, value, edge, pod, repr(sorted(known.items())))


def server(value: float, source: dict[str, str], policy: str, **more: Any) -> Sample:
    return sample(value, **source, reporter="destination", connection_security_policy=policy, **more)


def client(value: float, **more: Any) -> Sample:
    return sample(value, **WEB, reporter="source", connection_security_policy="unknown", pod="shop/web-1", **more)


def metrics(*samples: Sample) -> Metrics:
    return Metrics.of(Scrape(samples, {one.pod: 1.0 for one in samples}))


@pytest.fixture
def mesh() -> Metrics:
    return metrics(
        server(30, WEB, "mutual_tls"),
        server(10, WEB, "mutual_tls", pod="shop/store-2"),
        server(8, NOBODY, "none"),
        server(2, NOBODY, "none", response_code="503", response_flags="UF"),
        client(40),
        client(5, response_code="503", response_flags="UC"),
    )


def test_one_line_for_each_edge_and_ending(mesh: Metrics) -> None:
    frame = mesh.requests
    assert list(frame["requests"]) == [40, 40, 5, 8, 2]
    assert set(frame["source"]) == {"shop/web", "unknown"} and set(frame["destination"]) == {"shop/store"}
    assert "per_second" not in frame
    assert mesh.samples.shape[0] == 6


def test_how_requests_were_protected_is_the_servers_word(mesh: Metrics) -> None:
    frame = mesh.by("connection_security_policy")
    assert dict(zip(frame["connection_security_policy"], frame["requests"], strict=True)) == {
        "mutual_tls": 40,
        "none": 10,
    }
    assert list(frame["share"]) == [0.8, 0.2]
    assert list(mesh.by("connection_security_policy", reporter="source")["connection_security_policy"]) == ["unknown"]
    with pytest.raises(InputError, match="no column 'colour'"):
        mesh.by("colour")


def test_success_is_asked_of_the_clients_and_of_servers_for_callers_without_a_proxy(mesh: Metrics) -> None:
    frame = mesh.success().set_index("source")
    assert frame.loc["shop/web"].to_dict() == {
        "destination": "shop/store",
        "told_by": "source",
        "requests": 45,
        "failed": 5,
        "success_rate": 0.8889,
    }
    assert frame.loc["unknown", "failed"] == 2 and frame.loc["unknown", "told_by"] == "destination"


def test_plaintext_is_listed_most_first_with_its_share(mesh: Metrics) -> None:
    frame = mesh.plaintext()
    assert frame.to_dict("records") == [
        {
            "source": "unknown",
            "destination": "shop/store",
            "service": "shop/store",
            "what": "requests",
            "count": 10,
            "share_of_server": 0.2,
        }
    ]
    assert not len(metrics(server(3, WEB, "mutual_tls"), client(3)).plaintext())


def test_tcp_connections_count_as_plaintext_too() -> None:
    tcp = {"source": NOBODY, "policy": "none", "request_protocol": "tcp"}
    found = metrics(server(4, name=OPENED, **tcp), server(3, name=CLOSED, **tcp), server(900, name=SENT, **tcp))
    assert found.connections.iloc[0].to_dict() | {} == {
        "source": "unknown",
        "destination": "shop/store",
        "service": "shop/store",
        "reporter": "destination",
        "connection_security_policy": "none",
        "response_flags": "-",
        "opened": 4,
        "closed": 3,
        "sent_bytes": 900,
        "received_bytes": 0,
    }
    assert found.plaintext()[["what", "count"]].values.tolist() == [["connections", 4]]
    assert not len(found.requests)


def test_top_is_a_limit() -> None:
    many = [server(n, {**NOBODY, "destination_service_name": f"s{n}"}, "none") for n in range(1, 6)]
    assert list(metrics(*many).plaintext(2)["count"]) == [5, 4]


def test_latency_adds_the_buckets_of_all_pods() -> None:
    name = "istio_request_duration_milliseconds_bucket"
    lines = [
        server(count, WEB, "mutual_tls", name=name, edge=edge, pod=pod)
        for pod in ("shop/store-1", "shop/store-2")
        for edge, count in (("1", 0), ("5", 5), ("10", 10), ("+Inf", 10))
    ]
    assert metrics(*lines).latency(0.5, 0.9).to_dict("records") == [
        {"source": "shop/web", "destination": "shop/store", "p50_ms": 5.0, "p90_ms": 9.0, "requests": 20}
    ]
    assert metrics(*lines).latency(0.5, by=["service"])["service"].tolist() == ["shop/store"]
    assert not len(metrics(*lines).latency(reporter="source"))


def test_durations_are_read_when_they_are_asked_for() -> None:
    name = "istio_request_duration_milliseconds_bucket"
    lines = tuple(server(n, WEB, "mutual_tls", name=name, edge=edge) for edge, n in (("1", 2), ("+Inf", 2)))
    asked: list[int] = []

    def durations() -> Scrape:
        asked.append(1)
        return Scrape(lines, {"shop/store-1": 2.0})

    scrape = Scrape((server(2, WEB, "mutual_tls"),), {"shop/store-1": 1.0})
    found = Metrics.of(scrape, durations)
    assert len(found.requests) == 1 and not asked
    assert found.latency(0.5)["p50_ms"].tolist() == [0.5] and asked
    with pytest.raises(InputError, match="durations=True"):
        (found - found).latency()


def test_the_difference_of_two_readings_has_rates() -> None:
    earlier = Metrics.of(Scrape((server(10, WEB, "mutual_tls"),), {"shop/store-1": 100.0}))
    later = Metrics.of(Scrape((server(30, WEB, "mutual_tls"),), {"shop/store-1": 110.0}))
    between = later - earlier
    assert between.requests[["requests", "per_second"]].values.tolist() == [[20, 2.0]]
    assert between.by()["per_second"].tolist() == [2.0]
    assert "1 proxy, within 10.0 s" in str(between)
    with pytest.raises(TypeError):
        between - earlier  # a difference is no reading


def test_it_says_when_nothing_was_counted_and_who_did_not_answer() -> None:
    silent = Metrics.of(Scrape((), {"shop/web-1": 1.0}, {"shop/old-1": "no route"}))
    assert "Nothing was counted" in str(silent) and "shop/old-1 is missing: no route" in str(silent)
    assert "shop/old-1" in silent._repr_html_()
    assert "Nothing" not in str(metrics(server(1, WEB, "mutual_tls")))


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (WEB, "shop/web"),
        (NOBODY, "unknown"),
        ({"source_workload": "unknown", "source_workload_namespace": "shop"}, "shop/unknown"),
        ({}, "unknown"),
    ],
)
def test_a_source_is_named_as_far_as_it_is_known(labels: dict[str, str], name: str) -> None:
    assert workload_of(labels, "source") == name


def test_a_service_without_a_namespace_is_a_cluster_of_the_proxy() -> None:
    assert service_of(SERVICE) == "shop/store"
    passed = {"destination_service_name": "PassthroughCluster", "destination_service_namespace": "unknown"}
    assert service_of(passed) == "PassthroughCluster"


@pytest.mark.parametrize(
    ("code", "flags", "failed"),
    [("200", "-", False), ("404", "-", False), ("503", "UF", True), ("0", "DC", True), ("500", "-", True)],
)
def test_what_counts_as_a_failure(code: str, flags: str, failed: bool) -> None:
    assert is_failure(code, flags) is failed
