from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.addresses import FIRST_HOST, LAST_HOST, LAST_POD, host_columns
from labkit.embedded.node.network import (
    Redirect,
    RowAllocator,
    is_registry_only,
    low_ports,
    names_for,
    outside_hosts,
    render_curlrc,
    render_hosts,
    service_names,
    view_of,
    write_text,
)

REDIRECT = Redirect(inbound_port=15006, outbound_port=15001)


def service(name: str, address: str, *ports: int, namespace: str = "shop") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": [{"port": port} for port in ports]},
    }


SERVICES = [
    service("web", "127.64.0.10", 80),
    service("db", "127.64.0.11", 5432, namespace="data"),
    service("headless", "None", 80),
    service("kubernetes", "127.64.0.1", 443, namespace="default"),
]

PLAIN = view_of("shop", "cart", "127.64.7.1", None)
CAPTURED = view_of("shop", "cart", "127.64.7.1", REDIRECT)
EXEMPT = view_of("shop", "cart", "127.64.7.1", REDIRECT, exempt=True)


def curl_lines(view: Any, pods: list[tuple[str, list[int]]] | None = None) -> list[str]:
    text = render_curlrc(view, SERVICES, pods or [], 6443)
    return [line.removeprefix('connect-to = "').removesuffix('"') for line in text.splitlines()[1:]]


def first(lines: list[str], host: str, port: int) -> str:
    """What curl does with a URL: the first line for this host and port, or for this host and any port."""
    return next(line for line in lines if line.startswith((f"{host}:{port}:", f"{host}::")))


def test_a_short_name_is_for_the_own_namespace_alone():
    assert service_names("shop", "web", "shop")[0] == "web"
    assert "db" not in service_names("data", "db", "shop")
    assert service_names("data", "db", "shop")[-1] == "db.data.svc.cluster.local"


def test_names_lead_to_cluster_ips_and_headless_services_have_none():
    names = names_for(SERVICES, "shop")
    assert names["web"] == names["web.shop.svc"] == "127.64.0.10"
    assert "headless" not in names and "db" not in names and names["db.data"] == "127.64.0.11"


def test_curl_of_a_plain_pod_goes_to_the_cluster_ip():
    lines = curl_lines(PLAIN)
    assert first(lines, "web", 80) == "web:80:127.64.0.10:20080"
    assert first(lines, "127.64.0.10", 80) == "127.64.0.10:80:127.64.0.10:20080"
    assert first(lines, "db.data", 5432) == "db.data::127.64.0.11:"
    assert first(lines, "localhost", 8080) == "localhost::127.64.7.1:"
    assert first(lines, "localhost", 80) == "localhost:80:127.64.7.1:20080"


def test_curl_of_a_redirected_pod_goes_to_its_own_proxy():
    lines = curl_lines(CAPTURED)
    assert first(lines, "web.shop", 80) == "web.shop:80:127.64.7.10:20080"
    assert first(lines, "127.64.0.11", 5432) == "127.64.0.11:5432:127.64.7.11:5432"
    assert first(lines, "localhost", 8080) == "localhost::127.64.7.2:"
    assert first(lines, "localhost", 15021) == "localhost:15021:127.64.7.1:15021"


def test_curl_of_the_exempt_user_goes_past_the_proxy():
    lines = curl_lines(EXEMPT)
    assert first(lines, "web", 80) == "web:80:127.64.0.10:20080"
    assert first(lines, "localhost", 8080) == "localhost::127.64.7.2:"


@pytest.mark.parametrize("view", [PLAIN, CAPTURED, EXEMPT], ids=["plain", "captured", "exempt"])
def test_the_api_is_never_redirected(view: Any):
    assert first(curl_lines(view), "kubernetes.default.svc", 443) == "kubernetes.default.svc:443:127.64.0.1:6443"


def test_low_ports_of_pods_are_moved_up():
    lines = curl_lines(PLAIN, [("127.64.9.1", [80, 443])])
    assert first(lines, "127.64.9.1", 80) == "127.64.9.1:80:127.64.9.1:20080"
    pod = {"spec": {"containers": [{"ports": [{"containerPort": 81}, {"containerPort": 8080}]}, {}]}}
    assert low_ports(pod) == [80, 81, 443]


def test_hosts_say_who_is_redirected():
    captured, exempt = (json.loads(render_hosts(v, SERVICES, 6443)) for v in (CAPTURED, EXEMPT))
    assert (captured["redirected"], captured["own"], captured["inside_ip"]) == (True, "127.64.7.2", "127.64.7.2")
    assert (exempt["redirected"], exempt["own"]) == (False, "127.64.7.2")
    plain = json.loads(render_hosts(PLAIN, SERVICES, 6443))
    assert (plain["redirected"], plain["own"], plain["proxy_ports"]) == (False, "127.64.7.1", [])


@pytest.mark.parametrize(
    ("view", "admin"),
    [
        (PLAIN, ""),
        (CAPTURED, "127.64.7.2"),
        (EXEMPT, "127.64.7.2"),
        (view_of("shop", "door", "127.64.7.1", None, gateway=True), "127.64.7.2"),
    ],
    ids=["plain", "captured", "exempt", "gateway"],
)
def test_the_admin_port_of_a_proxy_is_inside_of_its_pod(view: Any, admin: str) -> None:
    assert json.loads(render_hosts(view, SERVICES, 6443))["admin"] == admin
    line = f'connect-to = "localhost:15000:{admin}:15000"'
    assert (line in render_curlrc(view, SERVICES, [], 6443)) is bool(admin)


def test_redirection_is_what_istio_init_wrote(tmp_path: Path):
    assert Redirect.read(tmp_path) is None
    (tmp_path / "redirect.json").write_text('{"inbound_port": 15006, "outbound_port": 15001, "uid": 1338}')
    assert Redirect.read(tmp_path) == Redirect(15006, 15001, 1338)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"inbound_port": "x", "outbound_port": 1}'])
def test_what_istio_init_did_not_write_redirects_nothing(tmp_path: Path, text: str):
    (tmp_path / "redirect.json").write_text(text)
    assert Redirect.read(tmp_path) is None


def test_a_row_is_kept_and_a_freed_one_is_used_last():
    rows = RowAllocator()
    assert [rows.take("a"), rows.take("b"), rows.take("a", 1)] == [1, 2, 1]
    rows.free("a")
    assert rows.take("c") == 3


def test_a_recorded_row_that_is_taken_is_replaced():
    rows = RowAllocator()
    assert rows.take("a", 5) == 5
    assert rows.take("b", 5) == 6


def test_all_rows_can_be_taken_and_no_more():
    rows = RowAllocator()
    taken = [rows.take(f"pod-{number}") for number in range(LAST_POD)]
    assert sorted(row for row in taken if row) == list(range(1, LAST_POD + 1))
    assert rows.take("one-more") is None
    rows.free("pod-9")
    assert rows.take("one-more") == 10


def test_a_file_is_written_only_when_it_changes(tmp_path: Path):
    file = tmp_path / "f"
    assert write_text(file, "a") and not write_text(file, "a") and write_text(file, "b")
    assert list(tmp_path.iterdir()) == [file] and file.read_text() == "b"


def entry(name: str, *hosts: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"hosts": [*hosts], "ports": ports, **spec}}


def test_a_redirected_pod_finds_hosts_of_service_entries_at_its_own_proxy():
    (host,) = outside_hosts([entry("api", "api.example.com", addresses=["192.0.2.7", "192.0.2.0/24"])], "shop")
    assert host.names == ("api.example.com", "192.0.2.7") and host.column >= FIRST_HOST
    captured = render_curlrc(CAPTURED, SERVICES, [], 6443, [host])
    assert f"api.example.com:80:127.64.7.{host.column}:20080" in captured
    assert f"192.0.2.7:80:127.64.7.{host.column}:20080" in captured
    names = json.loads(render_hosts(CAPTURED, SERVICES, 6443, [host]))["names"]
    assert names["api.example.com"] == names["192.0.2.7"] == f"127.64.0.{host.column}"


@pytest.mark.parametrize("view", [PLAIN, EXEMPT], ids=["plain", "exempt"])
def test_nobody_else_knows_them(view: Any):
    hosts = outside_hosts([entry("api", "api.example.com")], "shop")
    assert "api.example.com" not in render_curlrc(view, SERVICES, [], 6443, hosts)
    assert "api.example.com" not in json.loads(render_hosts(view, SERVICES, 6443, hosts))["names"]


def test_hosts_that_are_not_exported_unreadable_or_patterns_have_no_name_here():
    entries = [
        entry("private", "a.example.com", namespace="data", exportTo=["."]),
        entry("broken", "b.example.com", resolution="GUESS"),
        entry("pattern", "*.example.com"),
    ]
    assert outside_hosts(entries, "shop") == []
    assert [one.names for one in outside_hosts(entries, "data")] == [("a.example.com",)]


def test_a_host_keeps_its_column_when_others_come_and_no_two_share_one():
    hosts = [f"host{number}.example.com" for number in range(60)]
    alone, many = host_columns(hosts[:1]), host_columns(hosts)
    assert many[hosts[0]] == alone[hosts[0]]
    assert len(set(many.values())) == len(many) == LAST_HOST - FIRST_HOST + 1
    assert set(many.values()) <= set(range(FIRST_HOST, LAST_HOST + 1))


def test_under_registry_only_what_is_left_goes_to_the_proxy():
    view = view_of("shop", "cart", "127.64.7.1", REDIRECT, registry_only=True)
    pods = [("127.64.9.1", [80, 443])]
    assert curl_lines(view, pods)[-1] == "::127.64.7.1:15001"
    assert not any(line.startswith("127.64.9.1:") for line in curl_lines(view, pods))
    assert first(curl_lines(view, pods), "web.shop", 80) == "web.shop:80:127.64.7.10:20080"
    assert json.loads(render_hosts(view, SERVICES, 6443))["blocked"] is True


@pytest.mark.parametrize("redirect", [None, REDIRECT])
def test_nobody_else_is_blocked(redirect: Redirect | None):
    exempt = redirect is not None
    view = view_of("shop", "cart", "127.64.7.1", redirect, exempt=exempt, registry_only=True)
    assert not any(line.startswith("::") for line in curl_lines(view) + curl_lines(CAPTURED))
    assert json.loads(render_hosts(view, SERVICES, 6443))["blocked"] is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("outboundTrafficPolicy: {mode: REGISTRY_ONLY}", True),
        ("outboundTrafficPolicy: {mode: ALLOW_ANY}", False),
        ("", False),
        ("outboundTrafficPolicy: REGISTRY_ONLY", False),
        ("a: [", False),
    ],
)
def test_the_meshs_settings_say_it(text: str, expected: bool):
    assert is_registry_only(text) is expected
