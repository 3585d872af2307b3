"""What a Sidecar leaves of other namespaces' routes, and what those routes make reachable beside.

pilot/pkg/model/sidecar.go selectVirtualServices, collectImportedServices
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy.sidecar_scope import SidecarScope, parse_sidecar_scope
from labkit.policy.virtual_service import VirtualService, parse_virtual_service

WEB, DB = "web.foo.svc.cluster.local", "db.bar.svc.cluster.local"


def scope(*hosts: str, port: int = 0) -> SidecarScope:
    listener: dict[str, Any] = {"hosts": list(hosts)}
    if port:
        listener["port"] = {"number": port, "protocol": "HTTP", "name": "http"}
    spec = {"egress": [listener]} if hosts else {}
    return parse_sidecar_scope({"metadata": {"name": "default", "namespace": "foo"}, "spec": spec})


def route(namespace: str, host: str = WEB, to: str = DB, **match: Any) -> VirtualService:
    entry: dict[str, Any] = {"route": [{"destination": {"host": to}}]}
    if match:
        entry["match"] = [match]
    spec = {"hosts": [host], "http": [entry]}
    return parse_virtual_service({"metadata": {"name": "route", "namespace": namespace}, "spec": spec})


@pytest.mark.parametrize(
    ("hosts", "known"),
    [
        pytest.param((), True, id="without egress all count"),
        pytest.param(("./*",), True, id="its own namespace"),
        pytest.param(("foo/*",), True, id="by the namespace's name"),
        pytest.param(("*/*",), True, id="everything"),
        pytest.param((f"*/{WEB}",), True, id="by the host"),
        pytest.param(("./*.foo.svc.cluster.local",), True, id="by a pattern for the host"),
        pytest.param(("bar/*",), False, id="another namespace alone"),
        pytest.param((f"./{DB}",), False, id="another host alone"),
        pytest.param(("~/*",), False, id="nothing"),
    ],
)
def test_a_route_counts_by_its_own_namespace_and_its_hosts(hosts: tuple[str, ...], known: bool) -> None:
    assert bool(scope(*hosts).routes_seen([route("foo")])) is known


def test_a_route_that_stands_elsewhere_does_not_count() -> None:
    assert scope("./*").routes_seen([route("bar")]) == ()


def test_where_a_known_route_leads_can_be_reached() -> None:
    assert scope("./*").destinations([route("foo")], "foo") == {DB: {0}}
    assert scope("./*").destinations([route("bar")], "foo") == {}, "a route that is not known leads nowhere"


def test_only_on_the_port_of_the_listener() -> None:
    assert scope("./*", port=8080).destinations([route("foo")], "foo") == {DB: {8080}}


def test_a_route_for_others_leads_nowhere() -> None:
    assert scope("./*").destinations([route("foo", sourceNamespace="bar")], "foo") == {}
    assert scope("./*").destinations([route("foo", sourceNamespace="foo")], "foo") == {DB: {0}}
