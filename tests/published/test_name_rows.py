"""Which names match: pkg/config/host/name_test.go of istio/istio, TestNameMatches and TestNameSubsetOf.

`host_matches(pattern, name)` is Istio's SubsetOf; Matches asks both ways, as a Gateway's hosts and a VirtualService's
are put together.
"""

from __future__ import annotations

import pytest

from labkit.policy.destination_rule import host_matches
from labkit.policy.gateway import bound_hosts, parse_gateway
from labkit.policy.virtual_service import parse_virtual_service
from labkit.policy.workload import Workload

MATCHES = [
    ("empty", "", "", True),
    ("first empty", "", "foo.com", False),
    ("second empty", "foo.com", "", False),
    ("non-wildcard domain", "foo.com", "foo.com", True),
    ("non-wildcard domain", "bar.com", "foo.com", False),
    ("non-wildcard domain - order doesn't matter", "foo.com", "bar.com", False),
    ("domain does not match subdomain", "bar.foo.com", "foo.com", False),
    ("domain does not match subdomain - order doesn't matter", "foo.com", "bar.foo.com", False),
    ("wildcard matches subdomains", "*.com", "foo.com", True),
    ("wildcard matches subdomains", "foo.com", "*.com", True),
    ("wildcard matches subdomains", "*.foo.com", "bar.foo.com", True),
    ("wildcard matches anything", "*", "foo.com", True),
    ("wildcard matches anything", "*", "*.com", True),
    ("wildcard matches anything", "*", "com", True),
    ("wildcard matches anything", "*", "*", True),
    ("wildcard matches anything", "*", "", True),
    ("wildcarded domain matches wildcarded subdomain", "*.com", "*.foo.com", True),
    ("wildcarded sub-domain does not match domain", "foo.com", "*.foo.com", False),
    ("wildcarded sub-domain does not match domain - order doesn't matter", "*.foo.com", "foo.com", False),
    ("long wildcard does not match short host", "*.foo.bar.baz", "baz", False),
    ("long wildcard does not match short host - order doesn't matter", "baz", "*.foo.bar.baz", False),
    ("long wildcard matches short wildcard", "*.foo.bar.baz", "*.baz", True),
    ("long name matches short wildcard", "foo.bar.baz", "*.baz", True),
]

SUBSET_OF = [
    ("empty", "", "", True),
    ("first empty", "", "foo.com", False),
    ("second empty", "foo.com", "", False),
    ("non-wildcard domain", "foo.com", "foo.com", True),
    ("non-wildcard domain", "bar.com", "foo.com", False),
    ("non-wildcard domain - order doesn't matter", "foo.com", "bar.com", False),
    ("domain does not match subdomain", "bar.foo.com", "foo.com", False),
    ("domain does not match subdomain - order doesn't matter", "foo.com", "bar.foo.com", False),
    ("wildcard matches subdomains", "foo.com", "*.com", True),
    ("wildcard matches subdomains", "bar.com", "*.com", True),
    ("wildcard matches subdomains", "bar.foo.com", "*.foo.com", True),
    ("wildcard matches anything", "foo.com", "*", True),
    ("wildcard matches anything", "*.com", "*", True),
    ("wildcard matches anything", "com", "*", True),
    ("wildcard matches anything", "*", "*", True),
    ("wildcard matches anything", "", "*", True),
    ("wildcarded domain matches wildcarded subdomain", "*.foo.com", "*.com", True),
    ("wildcarded sub-domain does not match domain", "*.foo.com", "foo.com", False),
    ("long wildcard does not match short host", "*.foo.bar.baz", "baz", False),
    ("long name matches short wildcard", "foo.bar.baz", "*.baz", True),
]


def ids(rows: list[tuple[str, str, str, bool]]) -> list[object]:
    return [pytest.param(*row[1:], id=f"{row[0]}: {row[1]} {row[2]}") for row in rows]


@pytest.mark.parametrize(("one", "other", "expected"), ids(SUBSET_OF))
def test_subset_of(one: str, other: str, expected: bool) -> None:
    assert host_matches(other, one) is expected


@pytest.mark.parametrize(("one", "other", "expected"), ids(MATCHES))
def test_matches(one: str, other: str, expected: bool) -> None:
    assert (host_matches(one, other) or host_matches(other, one)) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"), [row for row in ids(MATCHES) if all({".", "*"} & set(one) for one in row.values[:2])]
)  # type: ignore[attr-defined]
def test_what_a_gateway_and_a_virtual_service_have_in_common(one: str, other: str, expected: bool) -> None:
    server = {"hosts": [one], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}
    gateway = parse_gateway({"metadata": {"name": "a", "namespace": "b"}, "spec": {"servers": [server]}})
    spec = {"hosts": [other], "gateways": ["a"], "http": [{}]}
    service = parse_virtual_service({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
    found = [host for host, _ in bound_hosts(gateway, gateway.servers[0], [service], Workload("b", "gateway"))]
    narrower = other if host_matches(one, other) else one
    assert found == ([narrower] if expected else [])
