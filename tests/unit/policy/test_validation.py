"""Validation of what Istio's own tables do not show: wrong types, several errors at once."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy import validate_peer_authentication, validate_schema

WEB = {"matchLabels": {"app": "web"}}


@pytest.mark.parametrize(
    ("spec", "path", "expected"),
    [
        ([], "spec", "object"),
        ({"mtls": "STRICT"}, "spec.mtls", "object"),
        ({"mtls": {"mode": True}}, "spec.mtls.mode", "string"),
        ({"mtls": {"mode": ["STRICT"]}}, "spec.mtls.mode", "string"),
        ({"selector": "app=web"}, "spec.selector", "object"),
        ({"selector": {"matchLabels": ["app"]}}, "spec.selector.matchLabels", "object"),
        ({"selector": {"matchLabels": {"version": 1}}}, "spec.selector.matchLabels.version", "string"),
        ({"selector": WEB, "portLevelMtls": [80]}, "spec.portLevelMtls", "object"),
        ({"selector": WEB, "portLevelMtls": {"80": "DISABLE"}}, "spec.portLevelMtls.80", "object"),
    ],
)
def test_a_wrong_type_is_named_with_its_path(spec: Any, path: str, expected: str) -> None:
    (error,) = validate_schema({"spec": spec})
    assert error.startswith(f"{path}: Invalid value: ")
    assert f"must be of type {expected}" in error
    assert validate_peer_authentication({"spec": spec}).errors == (error,)


def test_all_errors_are_reported_at_once() -> None:
    spec = {"mtls": {"mode": "ON"}, "portLevelMtls": {"80": {"mode": "OFF"}, "http": {}}}
    assert len(validate_schema({"spec": spec})) == 4


@pytest.mark.parametrize("spec", [None, {}, {"mtls": None, "selector": None, "portLevelMtls": None}])
def test_nothing_is_valid(spec: dict[str, Any] | None) -> None:
    assert validate_schema({"spec": spec}) == ()
    assert validate_peer_authentication({"spec": spec}).valid


@pytest.mark.parametrize(("port", "valid"), [("1", True), ("65535", True), (80, True), ("65536", False), ("-1", False)])
def test_ports_run_from_1_to_65535(port: object, valid: bool) -> None:
    spec = {"selector": WEB, "portLevelMtls": {port: {"mode": "DISABLE"}}}
    assert validate_peer_authentication({"spec": spec}).valid is valid
    assert (validate_schema({"spec": spec}) == ()) is valid
