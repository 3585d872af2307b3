"""Which DestinationRule a client follows, and what it then says."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.policy.destination_rule import (
    ClientTLSMode,
    DestinationRule,
    destination_rule,
    full_name,
    host_matches,
    parse_destination_rule,
)
from labkit.policy.durations import as_protobuf, seconds
from labkit.policy.workload import Workload

ROOT = "istio-system"
HOST = "reviews.shop.svc.cluster.local"


def rule(name: str, namespace: str, host: str, *, day: int = 1, **spec: Any) -> DestinationRule:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-{day:02}T00:00:00Z"}
    return parse_destination_rule({"metadata": metadata, "spec": {"host": host, **spec}})


def tls(mode: str) -> dict[str, Any]:
    return {"trafficPolicy": {"tls": {"mode": mode}}}


def chosen(*rules: DestinationRule, client: str = "front", labels: dict[str, str] | None = None) -> str | None:
    found = destination_rule(rules, Workload(client, labels=labels or {}), "shop", HOST, ROOT)
    return found.meta.name if found else None


@pytest.mark.parametrize(
    ("host", "namespace", "expected"),
    [
        ("reviews", "shop", HOST),
        ("reviews.shop", "x", "reviews.shop"),  # a dot: meant as it is written
        ("*.local", "shop", "*.local"),
        ("api.example.com", "shop", "api.example.com"),
    ],
)
def test_short_names_are_of_the_rules_own_namespace(host: str, namespace: str, expected: str) -> None:
    assert full_name(host, namespace) == expected


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("*", True), ("*.local", True), ("*.shop.svc.cluster.local", True), (HOST, True), ("*.com", False), ("x", False)],
)
def test_patterns_match_by_their_end(pattern: str, matches: bool) -> None:
    assert host_matches(pattern, HOST) is matches


def test_the_clients_namespace_comes_before_the_services_and_that_before_the_root() -> None:
    own, there, root = rule("own", "front", HOST), rule("there", "shop", "reviews"), rule("root", ROOT, "*.local")
    assert chosen(own, there, root) == "own"
    assert chosen(there, root) == "there"
    assert chosen(root) == "root"
    assert chosen(rule("elsewhere", "other", HOST)) is None


def test_a_client_in_the_root_namespace_follows_private_rules_there_first() -> None:
    public, private = rule("public", ROOT, "*.local"), rule("private", ROOT, "*.local", day=2, exportTo=["."])
    there = rule("there", "shop", "reviews")
    assert chosen(public, there, client=ROOT) == "there"
    assert chosen(private, there, client=ROOT) == "private"
    assert chosen(public, client=ROOT) == "public"


def test_the_most_specific_host_hides_the_others_even_where_it_says_nothing() -> None:
    wide = rule("wide", "shop", "*.local", **tls("DISABLE"))
    specific = rule("specific", "shop", "reviews", day=2)
    found = destination_rule([wide, specific], Workload("front"), "shop", HOST, ROOT)
    assert found and found.meta.name == "specific"
    assert found.traffic_policy(80).tls is None
    assert chosen(wide, rule("longer", "shop", "*.shop.svc.cluster.local")) == "longer"


def test_a_specific_rule_that_is_not_exported_hides_the_wide_one_beside_it() -> None:
    wide, hidden = rule("wide", "shop", "*.local"), rule("hidden", "shop", "reviews", exportTo=["."])
    assert chosen(wide, hidden) is None
    assert chosen(wide, hidden, rule("root", ROOT, "*")) == "root"
    assert chosen(wide, hidden, client="shop") == "hidden"
    assert chosen(rule("listed", "shop", "reviews", exportTo=["front"])) == "listed"


def test_rules_of_one_host_are_merged_oldest_first() -> None:
    v1 = {"subsets": [{"name": "v1", "labels": {"version": "1"}}]}
    both = {"subsets": [{"name": "v1", "labels": {"version": "other"}}, {"name": "v2", "labels": {"version": "2"}}]}
    younger = rule("younger", "shop", "reviews", day=2, **both, **tls("DISABLE"))
    found = destination_rule([younger, rule("older", "shop", "reviews", **v1)], Workload("front"), "shop", HOST, ROOT)
    assert found
    assert [(one.name, dict(one.labels)) for one in found.subsets] == [
        ("v1", {"version": "1"}),
        ("v2", {"version": "2"}),
    ]
    assert found.names == ("older", "younger")
    policy = found.traffic_policy(80).tls
    assert policy and policy.mode is ClientTLSMode.DISABLE, "the oldest that has a traffic policy"


def test_rules_that_are_exported_elsewhere_are_not_merged() -> None:
    older = rule("older", "shop", "reviews")
    younger = rule("younger", "shop", "reviews", day=2, exportTo=["*", "x"], **tls("DISABLE"))
    found = destination_rule([younger, older], Workload("front"), "shop", HOST, ROOT)
    assert found and found.names == ("older",)


def test_a_rule_with_a_selector_is_for_those_clients_of_its_own_namespace() -> None:
    selector = {"workloadSelector": {"matchLabels": {"app": "cart"}}}
    special = rule("special", "front", HOST, day=2, **selector, **tls("DISABLE"))
    general = rule("general", "front", HOST)
    assert chosen(special, general, labels={"app": "cart"}) == "special"
    assert chosen(special, general, labels={"app": "other"}) == "general"
    assert chosen(rule("theirs", "shop", "reviews", **selector), labels={"app": "cart"}) is None


@pytest.mark.parametrize("written", [{}, {"sni": "x"}])
def test_an_empty_tls_block_means_disable(written: dict[str, Any]) -> None:
    settings = rule("a", "shop", "reviews", trafficPolicy={"tls": written}).traffic_policy(80).tls
    assert settings and settings.mode is ClientTLSMode.DISABLE


PORTS = {
    "trafficPolicy": {
        "tls": {"mode": "ISTIO_MUTUAL"},
        "portLevelSettings": [
            {"port": {"number": 81}, "connectionPool": {"tcp": {"maxConnections": 1}}},
            {"port": {"number": 82}, "tls": {"mode": "DISABLE"}},
        ],
    },
    "subsets": [
        {"name": "plain", "trafficPolicy": {"tls": {"mode": "DISABLE"}}},
        {"name": "pool", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 2}}}},
        {
            "name": "port",
            "trafficPolicy": {"tls": {"mode": "DISABLE"}, "portLevelSettings": [{"port": {"number": 80}}]},
        },
    ],
}


@pytest.mark.parametrize(
    ("port", "subset", "expected", "of_endpoint"),
    [
        (80, "", "ISTIO_MUTUAL", "ISTIO_MUTUAL"),
        (81, "", None, "ISTIO_MUTUAL"),  # the entry replaces all: back to auto mTLS, and endpoints disagree
        (82, "", "DISABLE", "DISABLE"),
        (80, "plain", "DISABLE", "DISABLE"),
        (80, "pool", "ISTIO_MUTUAL", "ISTIO_MUTUAL"),
        (82, "pool", "DISABLE", "DISABLE"),
        (80, "port", None, "DISABLE"),
        (80, "unknown", "ISTIO_MUTUAL", "ISTIO_MUTUAL"),
    ],
)
def test_ports_replace_and_subsets_override(port: int, subset: str, expected: str | None, of_endpoint: str) -> None:
    found = rule("a", "shop", "reviews", **PORTS)
    settings, endpoint = found.traffic_policy(port, subset).tls, found.endpoint_tls(port, subset)
    assert (settings.mode if settings else None) == expected
    assert endpoint and endpoint.mode == of_endpoint


@pytest.mark.parametrize(("text", "expected"), [("1h30m", 5400.0), ("500ms", 0.5), ("2s", 2.0)])
def test_durations_are_read_as_go_writes_them(text: str, expected: float) -> None:
    assert seconds(text) == expected
    assert as_protobuf(text) == f"{expected:g}s"


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "1d"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="no duration"):
        seconds(text)


def test_a_tls_mode_that_does_not_exist_is_said() -> None:
    with pytest.raises(InputError, match="STRICT"):
        rule("wrong", "shop", "*", **tls("STRICT"))
