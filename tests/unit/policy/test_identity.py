"""SPIFFE IDs and trust domains."""

from __future__ import annotations

import pytest

from labkit.errors import InputError
from labkit.policy import SpiffeID, parse_spiffe_id, spiffe_id, trust_domain_san_prefixes


def test_an_identity_is_written_and_read_back() -> None:
    text = spiffe_id("cluster.local", "foo", "httpbin")
    assert text == "spiffe://cluster.local/ns/foo/sa/httpbin"
    assert parse_spiffe_id(text) == SpiffeID("cluster.local", "foo", "httpbin")
    assert parse_spiffe_id(text).principal == "cluster.local/ns/foo/sa/httpbin"


def test_an_at_sign_in_a_trust_domain_becomes_a_dot() -> None:
    assert spiffe_id("me@example.com", "foo", "bar") == "spiffe://me.example.com/ns/foo/sa/bar"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cluster.local/ns/foo/sa/bar",
        "https://cluster.local/ns/foo/sa/bar",
        "spiffe://cluster.local/ns/foo",
        "spiffe://cluster.local/ns//sa/bar",
        "spiffe://cluster.local/ns/foo/sa/bar/more",
        "spiffe://CLUSTER.local/ns/foo/sa/bar",
        "spiffe:///ns/foo/sa/bar",
        "spiffe://cluster.local/ns/foo/sa/bar\n",
    ],
)
def test_what_is_not_a_workloads_identity_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_spiffe_id(text)


@pytest.mark.parametrize(("namespace", "account"), [("", "bar"), ("foo", ""), ("foo/x", "bar"), ("foo", "b/ar")])
def test_parts_that_would_change_the_path_are_refused(namespace: str, account: str) -> None:
    with pytest.raises(InputError):
        spiffe_id("cluster.local", namespace, account)


def test_a_prefix_ends_where_the_trust_domain_ends() -> None:
    (prefix,) = trust_domain_san_prefixes("cluster.local")
    assert "spiffe://cluster.local/ns/foo/sa/x".startswith(prefix)
    assert not "spiffe://cluster.local.evil.example/ns/foo/sa/x".startswith(prefix)
