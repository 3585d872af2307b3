"""Servers' metrics as sightings, and curl's answers as outcomes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from labkit.cluster import Cluster
from labkit.errors import InputError, MeshError
from labkit.live.counting import counted_so_far, sightings
from labkit.live.ledger import Sighting
from labkit.live.sender import Answer, Orders, outcome_of
from labkit.observe import metrics
from labkit.observe.exposition import Sample
from labkit.outcomes import Outcome
from labkit.views.map import Counts


def counted(value: float = 5, **labels: str) -> Sample:
    known = {
        "reporter": "destination",
        "source_workload": "client",
        "source_workload_namespace": "foo",
        "destination_workload": "server",
        "destination_workload_namespace": "bar",
        "response_code": "200",
        "connection_security_policy": "mutual_tls",
    }
    return Sample("istio_requests_total", {**known, **labels}, value)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, Sighting("foo/client", "bar/server", Outcome.MTLS, 5)),
        ({"connection_security_policy": "none"}, Sighting("foo/client", "bar/server", Outcome.PLAINTEXT, 5)),
        ({"response_code": "503"}, Sighting("foo/client", "bar/server", Outcome.MTLS, 5, failed=5)),
        ({"response_code": "403"}, Sighting("foo/client", "bar/server", Outcome.REFUSED, 5)),
        (
            {"source_workload": "unknown", "connection_security_policy": "none"},
            Sighting("unknown", "bar/server", Outcome.PLAINTEXT, 5),
        ),
    ],
)
def test_a_servers_counter_is_a_sighting(labels: dict[str, str], expected: Sighting) -> None:
    assert sightings([counted(**labels)]) == [expected]


def test_what_a_client_reports_says_nothing_about_how_it_was_carried() -> None:
    assert sightings([counted(reporter="source", connection_security_policy="unknown")]) == []
    assert sightings([counted(0)]) == []


def test_of_a_host_outside_the_clients_counter_is_the_only_one() -> None:
    labels = {"reporter": "source", "destination_workload": "unknown", "destination_workload_namespace": "unknown"}
    sample = counted(**labels, destination_service="api.example", connection_security_policy="unknown")
    assert sightings([sample], {"api.example"}) == [Sighting("foo/client", "api.example", Outcome.UNKNOWN, 5)]
    assert sightings([sample], {"other.example"}) == []


@pytest.mark.parametrize(
    ("answer", "injected", "expected"),
    [
        (Answer(200, 0, 1), False, Outcome.PLAINTEXT),
        (Answer(200, 0, 1), True, Outcome.UNKNOWN),
        (Answer(0, 56, 1), False, Outcome.REFUSED),
        (Answer(0, 52, 1), True, Outcome.REFUSED),
        (Answer(503, 0, 1), True, Outcome.REFUSED),
        (Answer(503, 0, 1), False, Outcome.PLAINTEXT),
        (Answer(0, 28, 1), False, Outcome.UNKNOWN),
    ],
)
def test_a_client_tells_what_it_can(answer: Answer, injected: bool, expected: Outcome) -> None:
    assert outcome_of(answer, injected=injected) is expected


@pytest.mark.parametrize(
    ("rps", "concurrency", "rate", "number"),
    [
        (10.0, 1, "10/s", 200),
        (10.0, 5, "2/s", 40),
        (0.5, 1, "30/m", 10),
        (1.0, 1, "60/m", 20),
        (100.0, 2, "50/s", 1000),
    ],
)
def test_the_rate_is_shared_among_those_who_send_at_once(rps: float, concurrency: int, rate: str, number: int) -> None:
    command = Orders("foo/client", "http://server:80/x", rps, concurrency).command()
    assert command[command.index("--rate") + 1] == rate
    assert command[-1] == f"http://server:80/x#[1-{number}]"


@pytest.mark.parametrize("wrong", [{"rps": 0.0}, {"rps": 1000.0}, {"concurrency": 0}, {"url": "server"}])
def test_what_cannot_be_sent_is_refused_first(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Orders(**{"client": "foo/client", "url": "http://server/", **wrong}).check()
    Orders("foo/client", "http://server/").check()


def test_what_was_counted_so_far_is_summed_edge_by_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown: dict[str, Any] = {"source_workload": "unknown", "connection_security_policy": "none"}
    samples = (counted(), counted(2, response_code="500"), *(counted(number, **unknown) for number in (3.0, 4.0)))
    monkeypatch.setattr(metrics, "scrape", lambda *_, **__: metrics.Scrape(samples, {}))
    found = counted_so_far(cast(Cluster, None), ["bar"])
    assert found == {
        ("foo/client", "bar/server"): Counts(mtls=7, failed=2),
        ("unknown", "bar/server"): Counts(plaintext=7),
    }
    assert found["unknown", "bar/server"].words == "7 plaintext"
    assert found["foo/client", "bar/server"].short == "7 in all · 71 % ok"


def test_without_proxies_nothing_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> metrics.Scrape:
        raise MeshError("No pod has a proxy.")

    monkeypatch.setattr(metrics, "scrape", nobody)
    assert counted_so_far(cast(Cluster, None)) == {}
