"""Gateways: whom they select, how they merge, and which VirtualServices they let in."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.policy.gateway import bound_hosts, gateways_for, parse_gateway, servers_by_port
from labkit.policy.virtual_service import parse_virtual_service
from labkit.policy.workload import Workload


def gateway(*servers: dict[str, Any], name: str = "front", selector: dict[str, str] | None = None, day: int = 1) -> Any:
    metadata = {"name": name, "namespace": "shop", "creationTimestamp": f"2026-01-0{day}T00:00:00Z"}
    spec = {"selector": {"istio": "ingressgateway"} if selector is None else selector, "servers": list(servers)}
    return parse_gateway({"metadata": metadata, "spec": spec})


def server(*hosts: str, number: int = 80, protocol: str = "HTTP", **more: Any) -> dict[str, Any]:
    return {"port": {"number": number, "name": "x", "protocol": protocol}, "hosts": list(hosts), **more}


def routing(*hosts: str, gateways: tuple[str, ...] = ("front",), namespace: str = "shop", **spec: Any) -> Any:
    metadata = {"name": "vs", "namespace": namespace}
    return parse_virtual_service(
        {"metadata": metadata, "spec": {"hosts": list(hosts), "gateways": list(gateways), **spec}}
    )


POD = Workload(namespace="istio-system", name="gw", labels={"istio": "ingressgateway"})


@pytest.mark.parametrize(
    ("selector", "chosen"), [({"istio": "ingressgateway"}, True), ({}, True), ({"istio": "other"}, False)]
)
def test_labels_alone_choose_the_pod_across_namespaces(selector: dict[str, str], chosen: bool) -> None:
    assert bool(gateways_for([gateway(selector=selector)], POD)) is chosen


def test_the_oldest_gateway_decides_what_a_port_speaks() -> None:
    old = gateway(server("*"), name="old")
    young = gateway(server("a.com", protocol="HTTPS", tls={"mode": "SIMPLE"}), server("b.com"), name="young", day=2)
    merged = servers_by_port(gateways_for([young, old], POD))
    assert [(one.name, s.protocol) for one, s in merged[80]] == [("shop/old", "HTTP"), ("shop/young", "HTTP")]


@pytest.mark.parametrize(
    ("entry", "hosts", "namespace", "served"),
    [
        ("*", ["a.com"], "shop", ["a.com"]),
        ("*.com", ["a.com", "b.org"], "shop", ["a.com"]),
        ("a.com", ["*"], "shop", ["a.com"]),
        ("shop/*", ["a.com"], "shop", ["a.com"]),
        ("shop/*", ["a.com"], "other", []),
        ("./*", ["a.com"], "shop", ["a.com"]),
        ("./*", ["a.com"], "other", []),
        ("a.com", ["b.com"], "shop", []),
    ],
)
def test_which_hosts_are_served(entry: str, hosts: list[str], namespace: str, served: list[str]) -> None:
    front = gateway(server(entry))
    one = routing(*hosts, gateways=("shop/front",), namespace=namespace)
    assert [host for host, _ in bound_hosts(front, front.servers[0], [one], POD)] == served


def test_a_virtual_service_that_does_not_name_the_gateway_or_hides_from_it_counts_for_nothing() -> None:
    front = gateway(server("*"))
    strangers = [routing("a.com", gateways=("mesh",)), routing("a.com", exportTo=["."])]
    assert not list(bound_hosts(front, front.servers[0], strangers, POD))


def test_a_tls_block_on_http_is_a_redirect_and_an_empty_one_on_https_passes_through() -> None:
    plain, secure = gateway(
        server("*", tls={"httpsRedirect": True}), server("*", number=443, protocol="HTTPS", tls={})
    ).servers
    assert (plain.https_redirect, plain.tls_mode) == (True, "")
    assert (secure.https_redirect, secure.tls_mode) == (False, "PASSTHROUGH")


def test_a_server_without_a_port_number_is_refused() -> None:
    with pytest.raises(InputError, match="no port number"):
        gateway({"port": {"protocol": "HTTP"}, "hosts": ["*"]})
