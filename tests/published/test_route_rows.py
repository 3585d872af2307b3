"""What becomes of a VirtualService's routes: rows of Istio's own tests.

pilot/pkg/networking/core/route/retry/retry_test.go TestRetry and route_internal_test.go (TestTranslateCORSPolicy,
TestMirrorPercent, TestSourceMatchHTTP, TestTranslateMetadataMatch, TestIsCatchAllRoute) of istio/istio. What Istio
leaves out of a message is what Envoy has by default; here it may be absent or written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.controlplane.translation.model import read_sidecar
from labkit.embedded.controlplane.translation.proxy import make_proxy_config
from tests.unit.controlplane.objects import make_pod, make_service, make_state

Object = dict[str, Any]

SERVER = {"destination": {"host": "server"}}
MIRRORED = {"destination": {"host": "mirror"}}


def routes(*entries: Object, namespace: str = "foo", labels: dict[str, str] | None = None) -> list[Object]:
    """The routes that a client gets for the Service `server` from a VirtualService with these entries."""
    client = make_pod("client", namespace, row=7, labels=labels)
    pods = (make_pod("server"), make_pod("mirror", row=6), client)
    services = (make_service("server"), make_service("mirror", column=21))
    state = make_state(*pods, services=services)
    metadata = {"name": "a", "namespace": "foo", "creationTimestamp": "2026-01-01T00:00:00Z"}
    written = [{"route": [SERVER], **one} for one in entries]
    spec = {"hosts": ["server"], "http": written}
    state.on_config("VirtualService", "ADDED", {"metadata": metadata, "spec": spec})
    sidecar = read_sidecar(client)
    assert sidecar
    config = make_proxy_config(state.snapshot(), sidecar, Path("/xds"))
    for listener in config.listeners:
        if "|server." in json.dumps(listener):
            return next(hosts[0]["routes"] for hosts in _hosts(listener))
    raise AssertionError("no listener for the server")


def _hosts(part: Any) -> Iterator[list[Object]]:
    if isinstance(part, dict):
        if part.get("virtual_hosts"):
            yield part["virtual_hosts"]
        for one in part.values():
            yield from _hosts(one)
    elif isinstance(part, list):
        for one in part:
            yield from _hosts(one)


def action(entry: Object) -> Object:
    return routes(entry)[0]["route"]  # type: ignore[no-any-return]


# Retries

# name, retries, what is expected: attempts, conditions, status codes
RETRY_ROWS: list[tuple[str, Object, int, str, list[int]]] = [
    ("conditions", {"attempts": 2, "retryOn": "some,fake,conditions"}, 2, "some,fake,conditions", []),
    ("with empty parts", {"attempts": 2, "retryOn": "some,fake,conditions,,,"}, 2, "some,fake,conditions", []),
    (
        "with retriable status codes",
        {"attempts": 2, "retryOn": "gateway-error,retriable-status-codes,503"},
        2,
        "gateway-error,retriable-status-codes",
        [503],
    ),
    ("reset before request", {"attempts": 2, "retryOn": "reset-before-request"}, 2, "reset-before-request", []),
    ("with whitespace", {"attempts": 2, "retryOn": " some,\t,fake ,\tconditions, ,"}, 2, "some,fake,conditions", []),
    (
        "containing status codes",
        {"attempts": 2, "retryOn": "some,fake,5xx,404,conditions,503"},
        2,
        "some,fake,5xx,conditions,retriable-status-codes",
        [404, 503],
    ),
    (
        "invalid status codes are added to the conditions",
        {"attempts": 2, "retryOn": "some,fake,conditions,1000"},
        2,
        "some,fake,conditions,1000",
        [],
    ),
]


@pytest.mark.parametrize(
    ("retries", "attempts", "conditions", "codes"), [pytest.param(*row[1:], id=row[0]) for row in RETRY_ROWS]
)
def test_retries(retries: Object, attempts: int, conditions: str, codes: list[int]) -> None:
    policy = action({"retries": retries})["retry_policy"]
    assert policy["num_retries"] == attempts
    assert policy["retry_on"] == conditions
    assert policy.get("retriable_status_codes", []) == codes
    assert [one["name"] for one in policy["retry_host_predicate"]] == ["envoy.retry_host_predicates.previous_hosts"]


def test_retries_by_default_without_and_with_all_fields() -> None:
    by_default = action({})["retry_policy"]
    assert by_default == action({"retries": {"attempts": 2}})["retry_policy"]
    assert by_default["num_retries"] == 2
    assert "per_try_timeout" not in by_default
    assert "retry_policy" not in action({"retries": {"attempts": 0}})
    whole = action({"retries": {"attempts": 2, "perTryTimeout": "3s", "backoff": "2s"}})["retry_policy"]
    assert (whole["per_try_timeout"], whole["retry_back_off"]["base_interval"]) == ("3s", "2s")
    assert whole["retry_on"] == by_default["retry_on"]


@pytest.mark.parametrize(("ignored", "predicates"), [(None, 1), (True, 1), (False, 0)])
def test_retries_and_previous_hosts(ignored: bool | None, predicates: int) -> None:
    retries = {"attempts": 2, **({"retryIgnorePreviousHosts": ignored} if ignored is not None else {})}
    assert len(action({"retries": retries})["retry_policy"]["retry_host_predicate"]) == predicates


# Mirrors

# name, route, the share in percent; None: nothing is mirrored
MIRROR_ROWS: list[tuple[str, Object, float | None]] = [
    ("zero mirror percent", {"mirror": MIRRORED["destination"], "mirrorPercent": 0}, None),
    ("mirror with no value given", {"mirror": MIRRORED["destination"]}, 100),
    ("mirror with actual percent", {"mirror": MIRRORED["destination"], "mirrorPercent": 50}, 50),
    ("zero mirror percentage", {"mirror": MIRRORED["destination"], "mirrorPercentage": {"value": 0.0}}, None),
    ("mirrorpercentage", {"mirror": MIRRORED["destination"], "mirrorPercentage": {"value": 50.0}}, 50),
    (
        "mirrorpercentage takes precedence when both are given",
        {"mirror": MIRRORED["destination"], "mirrorPercent": 40, "mirrorPercentage": {"value": 50.0}},
        50,
    ),
    ("mirrors with no value given", {"mirrors": [MIRRORED]}, 100),
    ("mirrors with zero percentage", {"mirrors": [MIRRORED | {"percentage": {"value": 0.0}}]}, None),
    ("mirrors with actual percent", {"mirrors": [MIRRORED | {"percentage": {"value": 50.0}}]}, 50),
]
OF = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}


@pytest.mark.parametrize(("entry", "share"), [pytest.param(*row[1:], id=row[0]) for row in MIRROR_ROWS])
def test_mirror_percent(entry: Object, share: float | None) -> None:
    mirrors = action(entry).get("request_mirror_policies", [])
    found = [one.get("runtime_fraction", {}).get("default_value", {"numerator": 100}) for one in mirrors]
    assert [100 * one["numerator"] / OF[one.get("denominator", "HUNDRED")] for one in found] == (
        [] if share is None else [share]
    )


# Sources


@pytest.mark.parametrize(
    ("match", "namespace", "expected"),
    [
        pytest.param({"sourceNamespace": "foo"}, "foo", True, id="source namespace match"),
        pytest.param({"sourceNamespace": "foo"}, "bar", False, id="source namespace not match"),
        pytest.param({}, "bar", True, id="source namespace any"),
    ],
)
def test_source_match(match: Object, namespace: str, expected: bool) -> None:
    first = routes({"match": [{"uri": {"prefix": "/only"}, **match}]}, {}, namespace=namespace)[0]
    assert ("/only" in json.dumps(first["match"])) is expected


# Claims

# name of a header, and the path of the claim that it means; None: it is a header
CLAIM_ROWS: list[tuple[str, list[str] | None]] = [
    ("@request.auth.claims-abc", None),
    ("x-some-other-header", None),
    ("@request.auth.claims.key1", ["key1"]),
    ("@request.auth.claims.key1.KEY2", ["key1", "KEY2"]),
    ("@request.auth.claims.key1-key2", ["key1-key2"]),
    ("@request.auth.claims[key1", None),
    ("@request.auth.claims]key1", None),
    ("@request.auth.claimskey1", None),
    ("@request.auth.claims.[key1]", ["[key1]"]),
    ("@request.auth.claims[key1]", ["key1"]),
    ("@request.auth.claims[key1][key2]", ["key1", "key2"]),
    ("@request.auth.claims[test-issuer-2@istio.io]", ["test-issuer-2@istio.io"]),
    ("@request.auth.claims[test-issuer-2@istio.io][key1]", ["test-issuer-2@istio.io", "key1"]),
]


@pytest.mark.parametrize(("name", "path"), CLAIM_ROWS)
def test_metadata_match(name: str, path: list[str] | None) -> None:
    match = routes({"match": [{"headers": {name: {"exact": "exact"}}}]})[0]["match"]
    claims = match.get("dynamic_metadata") or []
    if path is None:
        assert claims == []
        return
    (claim,) = claims
    assert [one["key"] for one in claim["path"]][-len(path) :] == path
    assert "exact" in json.dumps(claim["value"])
    assert not match.get("headers")


# CORS


@pytest.mark.parametrize(("unmatched", "forwarded"), [(None, True), ("IGNORE", False), ("FORWARD", True)])
def test_cors_policy(unmatched: str | None, forwarded: bool) -> None:
    origins = [{"exact": "exact"}, {"prefix": "prefix"}, {"regex": "regex"}]
    written = {"allowOrigins": origins, **({"unmatchedPreflights": unmatched} if unmatched else {})}
    found = routes({"corsPolicy": written})[0]["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert found["allow_origin_string_match"] == [
        {"exact": "exact"},
        {"prefix": "prefix"},
        {"safe_regex": {"regex": "regex"}},
    ]
    assert found["forward_not_matching_preflights"] is forwarded
    assert found["filter_enabled"]["default_value"] == {"numerator": 100, "denominator": "HUNDRED"}


# A route that catches all is put behind the others of the same host.


@pytest.mark.parametrize(
    ("match", "catches_all"),
    [
        pytest.param({"uri": {"prefix": "/"}}, True, id="catch all prefix"),
        pytest.param({"uri": {"regex": ".*"}}, True, id="catch all regex"),
        pytest.param({}, True, id="catch all with empty match"),
        pytest.param(
            {"uri": {"prefix": "/"}, "headers": {"authentication": {"exact": "test"}}}, False, id="prefix with headers"
        ),
        pytest.param(
            {"uri": {"regex": ".*"}, "headers": {"authentication": {"regex": ".*"}}}, False, id="regex with headers"
        ),
        pytest.param(
            {"uri": {"regex": ".*"}, "queryParams": {"authentication": {"exact": "x"}}}, False, id="regex with params"
        ),
    ],
)
def test_catch_all_route(match: Object, catches_all: bool) -> None:
    """What comes after a route that catches all, in one VirtualService, is never asked: Istio does not send it."""
    found = routes({"match": [match] if match else [], "name": "first"}, {"name": "second"})
    assert ("second" not in [one.get("name") for one in found]) is catches_all
