"""Istio's verdicts on PeerAuthentication manifests.

Webhook rows: pkg/config/validation/validation_test.go, TestValidatePeerAuthentication.
Schema rows: pkg/config/validation/testdata/crds/peerauth-*.yaml.
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy import validate_peer_authentication, validate_schema

NO_PORTS = "port level mTLS, if defined, must have at least one element"
NO_SELECTOR = "mesh/namespace peer authentication cannot have port level mTLS"
RANGE = "port must be in range 1..65535"

HTTPBIN = {"matchLabels": {"app": "httpbin"}}

# id, name, spec, errors, warnings
WEBHOOK = [
    ("empty spec with default name", "default", {}, (), ()),
    ("empty spec with non default name", "somename", {}, (), ()),
    (
        "selector without labels",
        "default",
        {"selector": {}},
        (),
        ("workload selector specified without labels",),
    ),
    ("default name with non empty selector", "default", {"selector": HTTPBIN}, (), ()),
    ("empty port level mtls", "foo", {"selector": HTTPBIN, "portLevelMtls": {}}, (NO_PORTS,), ()),
    ("empty selector with port level mtls", "foo", {"portLevelMtls": {"8080": {"mode": "UNSET"}}}, (NO_SELECTOR,), ()),
    ("port 0", "foo", {"portLevelMtls": {"0": {"mode": "UNSET"}}}, (RANGE, NO_SELECTOR), ()),
    ("unset mode", "foo", {"mtls": {"mode": "UNSET"}}, (), ()),
    ("port level", "foo", {"selector": HTTPBIN, "portLevelMtls": {"8080": {"mode": "UNSET"}}}, (), ()),
]


@pytest.mark.parametrize(("name", "spec", "errors", "warnings"), [pytest.param(*r[1:], id=r[0]) for r in WEBHOOK])
def test_webhook_says_what_istiod_says(
    name: str, spec: dict[str, Any], errors: tuple[str, ...], warnings: tuple[str, ...]
) -> None:
    validation = validate_peer_authentication({"metadata": {"namespace": "foo", "name": name}, "spec": spec})
    assert (validation.errors, validation.warnings, validation.valid) == (errors, warnings, not errors)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param({"": "v"}, 'empty key is not supported in selector: "=v"', id="empty key"),
        pytest.param({"a*": "v"}, 'wildcard is not supported in selector: "a*=v"', id="wildcard in key"),
        pytest.param({"a": "v*"}, 'wildcard is not supported in selector: "a=v*"', id="wildcard in value"),
    ],
)
def test_webhook_refuses_selectors_it_cannot_match(labels: dict[str, str], message: str) -> None:
    spec = {"selector": {"matchLabels": labels}}
    assert validate_peer_authentication({"spec": spec}).errors == (message,)


def test_a_selector_in_the_root_namespace_is_accepted() -> None:
    manifest = {"metadata": {"namespace": "istio-system", "name": "x"}, "spec": {"selector": HTTPBIN}}
    assert validate_peer_authentication(manifest).errors == ()


SCHEMA = [
    ("valid full", {"selector": HTTPBIN, "mtls": {"mode": "STRICT"}, "portLevelMtls": {"80": {"mode": "DISABLE"}}}, ""),
    ("valid empty selector", {"selector": {}}, ""),
    ("bad mode", {"mtls": {"mode": "BAD"}}, "Unsupported value"),
    (
        "bad port key",
        {"selector": HTTPBIN, "portLevelMtls": {"http": {"mode": "STRICT"}}},
        "type conversion error from",
    ),
    ("ports without selector", {"portLevelMtls": {"80": {"mode": "STRICT"}}}, "portLevelMtls requires selector"),
    ("empty ports", {"selector": HTTPBIN, "portLevelMtls": {}}, "should have at least 1 properties"),
    ("port 0", {"selector": HTTPBIN, "portLevelMtls": {"0": {"mode": "STRICT"}}}, "port must be between 1-65535"),
    (
        "port 42949672",
        {"selector": HTTPBIN, "portLevelMtls": {"42949672": {"mode": "STRICT"}}},
        "port must be between 1-65535",
    ),
]


@pytest.mark.parametrize(("spec", "message"), [pytest.param(*row[1:], id=row[0]) for row in SCHEMA])
def test_schema_says_what_the_api_server_says(spec: dict[str, Any], message: str) -> None:
    errors = validate_schema({"spec": spec})
    assert bool(errors) == bool(message)
    assert all(message in error for error in errors)


def test_a_bad_mode_lists_the_supported_ones_in_kubernetes_words() -> None:
    expected = (
        'spec.mtls.mode: Unsupported value: "strict": supported values: "UNSET", "DISABLE", "PERMISSIVE", "STRICT"'
    )
    assert validate_schema({"spec": {"mtls": {"mode": "strict"}}}) == (expected,)
    assert validate_peer_authentication({"spec": {"mtls": {"mode": "strict"}}}).errors == (expected,)
