"""Which services and endpoints follow from ServiceEntries and WorkloadEntries."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.embedded.addresses import wire_port
from labkit.embedded.controlplane.translation.model import Service, ServicePort
from labkit.embedded.controlplane.translation.outside import with_outside
from labkit.policy.protocols import Protocol
from labkit.policy.service_entry import parse_service_entry, parse_workload_entry
from labkit.policy.workload import Workload

HOST = "api.example.com"
PORT = {"number": 80, "name": "http", "protocol": "HTTP"}
WEB = Service("shop", "web", "127.64.0.10", (ServicePort(80, "http", Protocol.HTTP, 8080),), {"app": "web"})


def entry(name: str = "api", *, namespace: str = "shop", day: int = 1, **spec: Any) -> Any:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-{day:02}T00:00:00Z"}
    return parse_service_entry({"metadata": metadata, "spec": {"hosts": [HOST], "ports": [PORT], **spec}})


def machine(address: str, *, namespace: str = "shop", **spec: Any) -> Any:
    metadata = {"name": address, "namespace": namespace}
    return parse_workload_entry({"metadata": metadata, "spec": {"address": address, "labels": {"app": "web"}, **spec}})


def reached(*entries: Any, machines: tuple[Any, ...] = (), pods: tuple[Workload, ...] = ()) -> list[tuple[str, int]]:
    """Addresses and ports behind port 80 of the host."""
    _, endpoints = with_outside({WEB.key: WEB}, {}, entries, machines, pods)
    return [(one.address, one.port) for one in endpoints["shop", HOST]["http"]]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"resolution": "STATIC", "endpoints": [{"address": "192.0.2.1"}]}, [("192.0.2.1", 80)]),
        (
            {"resolution": "STATIC", "endpoints": [{"address": "192.0.2.1", "ports": {"http": 8080}}]},
            [("192.0.2.1", 8080)],
        ),
        (
            {"resolution": "STATIC", "endpoints": [{"address": "192.0.2.1"}], "ports": [{**PORT, "targetPort": 81}]},
            [("192.0.2.1", 81)],
        ),
        ({"resolution": "STATIC"}, []),
        ({"resolution": "DNS"}, [(HOST, 80)]),
        ({"resolution": "DNS", "endpoints": [{"address": "eu.example.com"}]}, [("eu.example.com", 80)]),
        # A name of the cluster leads where its Service is.
        ({"resolution": "DNS", "endpoints": [{"address": "web.shop.svc.cluster.local"}]}, [("127.64.0.10", 80)]),
        ({"addresses": ["192.0.2.9", "192.0.2.0/24"]}, [("192.0.2.9", 80)]),
        ({}, [(HOST, 80)]),
    ],
)
def test_who_answers(spec: dict[str, Any], expected: list[tuple[str, int]]) -> None:
    assert reached(entry(**spec)) == expected


def test_a_selector_chooses_machines_and_pods_of_its_own_namespace() -> None:
    selector = {"workloadSelector": {"labels": {"app": "web"}}, "resolution": "STATIC"}
    pods = (
        Workload("shop", "web-1", {"app": "web"}, address="127.64.1.1"),
        Workload("shop", "other", {"app": "other"}, address="127.64.2.1"),
        Workload("bank", "web-2", {"app": "web"}, address="127.64.3.1"),
        Workload("shop", "web-3", {"app": "web"}),  # it has no address yet
    )
    machines = (machine("192.0.2.1"), machine("192.0.2.2", namespace="bank"))
    assert reached(entry(**selector), machines=machines, pods=pods) == [("192.0.2.1", 80), ("127.64.1.1", 80)]


def test_a_machine_stands_behind_a_service_of_kubernetes() -> None:
    _, endpoints = with_outside({WEB.key: WEB}, {}, [], [machine("192.0.2.1"), machine("192.0.2.2", labels={})], [])
    assert [(one.address, one.port) for one in endpoints["shop", "web"]["http"]] == [("192.0.2.1", 8080)]


def test_entries_of_one_host_are_one_service_with_one_address() -> None:
    tls = {"number": 443, "name": "tls", "protocol": "TLS"}
    both = [entry("new", day=2, ports=[tls, PORT], resolution="DNS"), entry("old", resolution="STATIC")]
    services, endpoints = with_outside({}, {}, [*both, entry("else", namespace="bank")], [], [])
    assert {port.number for port in services["shop", HOST].ports} == {80, 443}
    assert endpoints["shop", HOST]["http"] == ()  # the older entry's port
    assert services["shop", HOST].cluster_ip == services["bank", HOST].cluster_ip


def test_a_pattern_has_no_address() -> None:
    services, endpoints = with_outside({}, {}, [entry(hosts=["*.example.com"], resolution="DNS")], [], [])
    assert services["shop", "*.example.com"].cluster_ip == "" and endpoints["shop", "*.example.com"]["http"] == ()


@pytest.mark.parametrize(
    ("address", "expected"), [("127.64.1.1", 20080), ("127.0.0.1", 80), ("192.0.2.1", 80), ("example.com", 80)]
)
def test_low_ports_are_moved_in_clusters_alone(address: str, expected: int) -> None:
    assert wire_port(address, 80) == expected
