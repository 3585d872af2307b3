"""Which rule counts for a host, and how its parts are merged: rows that Istio's own tests print."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy.destination_rule import destination_rule, full_name, parse_destination_rule
from labkit.policy.workload import Workload

# pilot/pkg/model/config_test.go TestMostSpecificHostMatch: hosts of rules, the host looked for, the rule that counts
HOST_ROWS: list[tuple[list[str], str, str]] = [
    ([], "*", ""),
    (["*.foo.com", "*.com"], "bar.foo.com", "*.foo.com"),
    (["*.foo.com", "*.com"], "foo.com", "*.com"),
    (["foo.com", "*.com"], "*.foo.com", "*.com"),
    (["*.foo.com", "foo.com"], "foo.com", "foo.com"),
    (["*.foo.com", "foo.com"], "*.foo.com", "*.foo.com"),
    (["bar.com", "foo.com"], "*.com", ""),
    (["bar.com", "*.foo.com"], "*foo.com", ""),
    (["foo.com", "*.foo.com"], "*foo.com", ""),
    (["*.bar.com", "foo.bar.com"], "foo.bar.com", "foo.bar.com"),
    (["*.foo.bar.com", "bar.foo.bar.com"], "bar.foo.bar.com", "bar.foo.bar.com"),
    (["*.foo.bar.baz.com", "*.bar.baz.com", "*.baz.com", "*.com"], "a.foo.bar.baz.com", "*.foo.bar.baz.com"),
    (["*.foo.bar.baz.com", "*.bar.baz.com", "*.baz.com", "*.com"], "*.a.foo.bar.baz.com", "*.foo.bar.baz.com"),
]


@pytest.mark.parametrize(("hosts", "looked_for", "expected"), HOST_ROWS)
@pytest.mark.parametrize("turn", [1, -1], ids=["as listed", "reversed"])
def test_the_most_specific_host_counts(turn: int, hosts: list[str], looked_for: str, expected: str) -> None:
    rules = [
        parse_destination_rule({"metadata": {"name": host, "namespace": "x"}, "spec": {"host": host}})
        for host in hosts[::turn]
    ]
    found = destination_rule(rules, Workload("client"), "x", looked_for, "istio-system")
    assert (found.host if found else "") == expected


# pilot/pkg/model/config_test.go TestResolveShortnameToFQDN, the rows with a namespace and the domain cluster.local
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("*", "*"),
        ("foo", "foo.default.svc.cluster.local"),
        ("foo.bar", "foo.bar"),
        ("42.185.131.210", "42.185.131.210"),
        ("2a00:4000::614", "2a00:4000::614"),
    ],
)
def test_short_names(written: str, expected: str) -> None:
    assert full_name(written, "default") == expected


def retries(number: int) -> dict[str, Any]:
    return {"connectionPool": {"http": {"maxRetries": number}}}


def balancer(simple: str) -> dict[str, Any]:
    return {"loadBalancer": {"simple": simple}}


def errors(number: int) -> dict[str, Any]:
    return {"outlierDetection": {"consecutiveErrors": number}}


def tls(mode: str) -> dict[str, Any]:
    return {"tls": {"mode": mode}}


def on_8080(policy: dict[str, Any]) -> dict[str, Any]:
    return {"portLevelSettings": [{"port": {"number": 8080}, **policy}]}


# pilot/pkg/networking/util/util_test.go TestMergeSubsetTrafficPolicy: the rule's policy, the subset's, the port -> both
MERGE_ROWS: list[tuple[str, Any, Any, int, dict[str, Any]]] = [
    ("all nil policies", None, None, 80, {}),
    ("no subset policy", retries(10), None, 80, retries(10)),
    ("no parent policy", None, retries(10), 80, retries(10)),
    ("other fields", tls("ISTIO_MUTUAL"), retries(10), 80, {**tls("ISTIO_MUTUAL"), **retries(10)}),
    ("subset first", {**tls("ISTIO_MUTUAL"), **retries(10)}, tls("SIMPLE"), 80, {**tls("SIMPLE"), **retries(10)}),
    (
        "a port inherits nothing",
        None,
        {**balancer("ROUND_ROBIN"), **retries(10), **on_8080(balancer("LEAST_REQUEST"))},
        8080,
        balancer("LEAST_REQUEST"),
    ),
    (
        "the subset's port before the rule's",
        {**balancer("ROUND_ROBIN"), **errors(20), **on_8080(errors(15))},
        {**balancer("ROUND_ROBIN"), **retries(10), **on_8080(errors(13))},
        8080,
        errors(13),
    ),
    (
        "another port",
        {**balancer("ROUND_ROBIN"), **errors(20), **on_8080(errors(15))},
        {**balancer("ROUND_ROBIN"), **retries(10), **on_8080(errors(13))},
        9090,
        {**balancer("ROUND_ROBIN"), **retries(10), **errors(20)},
    ),
]


@pytest.mark.parametrize(("rule", "subset", "port", "expected"), [pytest.param(*r[1:], id=r[0]) for r in MERGE_ROWS])
def test_subsets_are_merged_with_their_rule(rule: Any, subset: Any, port: int, expected: dict[str, Any]) -> None:
    one = {"name": "v1", **({} if subset is None else {"trafficPolicy": subset})}
    spec = {"host": "a.b", "subsets": [one], **({} if rule is None else {"trafficPolicy": rule})}
    parsed = parse_destination_rule({"metadata": {"name": "x", "namespace": "x"}, "spec": spec})
    wanted = parse_destination_rule(
        {"metadata": {"name": "x", "namespace": "x"}, "spec": {"host": "a.b", "trafficPolicy": expected}}
    )
    assert parsed.traffic_policy(port, "v1") == wanted.policy
