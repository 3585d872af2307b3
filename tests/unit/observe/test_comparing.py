"""What istiod wants a proxy to run against what it runs; and what Istio's own istiod says of proxies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from labkit.observe.dumps import compare
from labkit.observe.dumps.comparing import plain
from labkit.observe.proxies import read_status
from labkit.views.proxy_words import ConfigComparison

Resources = Sequence[dict[str, Any]]


def dump(clusters: Resources, listeners: Resources = (), routes: Resources = ()) -> Any:
    kind = "type.googleapis.com/envoy.admin.v3"
    return {
        "configs": [
            {"@type": f"{kind}.ClustersConfigDump", "dynamic_active_clusters": [{"cluster": one} for one in clusters]},
            {
                "@type": f"{kind}.ListenersConfigDump",
                "dynamic_listeners": [{"name": one["name"], "active_state": {"listener": one}} for one in listeners],
            },
            {"@type": f"{kind}.RoutesConfigDump", "dynamic_route_configs": list(routes)},
        ]
    }


A = {"name": "a", "type": "EDS", "connect_timeout": "0.250s", "lb_policy": "LEAST_REQUEST"}


def words(istiod: Any, envoy: Any) -> str:
    return str(ConfigComparison("a-1.shop", compare(istiod, envoy)))


def test_the_same_on_both_sides_matches() -> None:
    assert words(dump([A]), dump([A])) == "Clusters Match\nListeners Match\nRoutes Match"


def test_the_words_are_istioctls_where_it_differs() -> None:
    said = words(dump([A]), dump([{**A, "lb_policy": "RANDOM"}]))
    assert said.startswith("Clusters Don't Match\n--- Istiod Clusters\n+++ Envoy Clusters\n")
    assert '-      "lb_policy": "LEAST_REQUEST",' in said
    assert '+      "lb_policy": "RANDOM",' in said
    assert said.endswith("\nListeners Match\nRoutes Match")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"connectTimeout": "0.25s"}, {"connect_timeout": "0.250s"}),
        ({"lb_policy": "ROUND_ROBIN"}, {}),
        ({"type": "STATIC", "respect_dns_ttl": False}, {}),
        ({"maxRequests": "4294967295"}, {"max_requests": 4294967295}),
        ({"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster"}, {}),
    ],
    ids=["camel case and a time", "the first of an enumeration", "what is false", "a number as text", "the type"],
)
def test_what_is_written_differently_is_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert "Clusters Match" in words(dump([{"name": "a", **one}]), dump([{"name": "a", **other}]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"connect_timeout": "0.25s"}, {"connect_timeout": "0.26s"}),
        ({"lb_policy": "RANDOM"}, {}),
        ({"respect_dns_ttl": True}, {}),
        ({"max_requests": 1}, {"max_requests": 2}),
    ],
)
def test_what_is_different_stays_different(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert "Clusters Don't Match" in words(dump([{"name": "a", **one}]), dump([{"name": "a", **other}]))


def test_the_order_is_none_of_istiods() -> None:
    b = {**A, "name": "b"}
    assert "Clusters Match" in words(dump([A, b]), dump([b, A]))


def test_names_that_are_keys_of_maps_are_left_alone() -> None:
    assert plain({"metadata": {"X-Request-Id": 1, "camelCase": 2}}) == {
        "metadata": {"X-Request-Id": 1, "camel_case": 2}
    }


def test_routes_say_when_they_were_loaded() -> None:
    route = {"route_config": {"name": "80"}, "last_updated": "2026-11-21T09:00:00.000Z"}
    said = words(dump([], routes=[{"route_config": {"name": "80"}}]), dump([], routes=[route]))
    assert said.endswith("Routes Match (RDS last loaded at 2026-11-21T09:00:00.000Z)")


def test_listeners_that_are_only_draining_do_not_count() -> None:
    envoy = dump([], [{"name": "l"}])
    envoy["configs"][1]["dynamic_listeners"].append({"name": "old", "draining_state": {"listener": {"name": "old"}}})
    assert "Listeners Match" in words(dump([], [{"name": "l"}]), envoy)


def test_private_keys_are_not_shown() -> None:
    key = {"name": "a", "tls": {"private_key": {"inline_string": "SECRET-KEY"}}}
    assert "SECRET-KEY" not in words(dump([key]), dump([]))


# istioctl/pkg/writer/pilot/status_test.go of istio/istio: what was sent and what was taken, of each type.
@pytest.mark.parametrize(
    ("sent", "acked", "status", "synced"),
    [
        ("nonce1", "nonce1", "SYNCED", True),
        ("nonce2", "nonce1", "STALE", False),
        ("nonce1", "", "STALE (Never Acknowledged)", False),
        ("", "", "NOT SENT", False),
    ],
)
def test_istios_own_istiod_is_understood(sent: str, acked: str, status: str, synced: bool) -> None:
    entry = {
        "proxy": "a-1.foo",
        "cluster_id": "Kubernetes",
        "istio_version": "1.24.1",
        "cluster_sent": sent,
        "cluster_acked": acked,
        "listener_sent": "n",
        "listener_acked": "n",
    }
    read = read_status(entry, "istiod-1")
    assert read.statuses == {"CDS": status, "LDS": "SYNCED", "EDS": "NOT SENT", "RDS": "NOT SENT", "ECDS": "NOT SENT"}
    assert read.synced is synced
