"""VirtualServices as Envoy's routes, for sidecars and gateways alike. Pure.

pilot/pkg/networking/core/route/route.go of istio/istio. What the objects mean is said in `policy.virtual_service`.

1. Routes keep their order; behind one that catches everything none is written.
2. A destination that does not exist is answered 503, response flag NC (see `destinations`).
3. Where a VirtualService routes a host and nothing matches, the answer is 404.

Simplified: delegates, corsPolicy and gRPC faults are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.embedded.controlplane.translation.destinations import destination_cluster, shared
from labkit.embedded.controlplane.translation.filters import typed
from labkit.embedded.controlplane.translation.inbound import BLACK_HOLE
from labkit.embedded.controlplane.translation.jwt import text_claim
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import TYPE, Config
from labkit.policy.claims import routing_claim
from labkit.policy.durations import as_protobuf
from labkit.policy.virtual_service import (
    MESH,
    HttpMatch,
    HttpRoute,
    StringMatch,
    VirtualService,
    WeightedDestination,
)

RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled"

# pilot/pkg/networking/core/route/retry/retry.go DefaultPolicy
RETRIES: Config = {
    "retry_on": RETRY_ON,
    "num_retries": 2,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        }
    ],
    "host_selection_retry_max_attempts": "5",
}

FAULT = "envoy.filters.http.fault"
_FAULT_MESSAGE = "envoy.extensions.filters.http.fault.v3.HTTPFault"
_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def make_http_routes(
    snapshot: Snapshot,
    proxy: Sidecar,
    virtual_services: Iterable[VirtualService],
    *,
    port: int,
    gateway: str = MESH,
) -> list[Config]:
    """The routes of VirtualServices for one port of a host: a list of envoy.config.route.v3.Route.

    `port` is the Service's port (or the gateway server's), `gateway` is `mesh` for a sidecar, else `namespace/name`.
    """
    routes: list[Config] = []
    for one in virtual_services:
        for route, match in _reachable(one, proxy, port, gateway):
            routes.append({**_route(snapshot, route, match, port), "metadata": _made_by(one)})
            if match.catches_all:
                return routes
    return routes


def has_fault(routes: Iterable[Config]) -> bool:
    """Whether a route needs the filter `fault` before the router."""
    return any(FAULT in route.get("typed_per_filter_config", {}) for route in routes)


def fault_filter() -> Config:
    """The filter that faults of routes act through."""
    return typed(FAULT, _FAULT_MESSAGE)


def _reachable(
    virtual_service: VirtualService, proxy: Sidecar, port: int, gateway: str
) -> Iterator[tuple[HttpRoute, HttpMatch]]:
    for route in virtual_service.http:
        for match in route.matches:
            if match.source.includes(proxy.workload, gateway, port):
                yield route, match


def _made_by(one: VirtualService) -> Config:
    """Tools such as `istioctl x describe` read from here which VirtualService made the route."""
    path = f"/apis/networking.istio.io/v1/namespaces/{one.meta.namespace}/virtual-service/{one.meta.name}"
    return {"filter_metadata": {"istio": {"config": path}}}


def _route(snapshot: Snapshot, route: HttpRoute, match: HttpMatch, port: int) -> Config:
    result: Config = {"match": _match(match)}
    if route.name:
        result["name"] = route.name
    if route.redirect is not None:
        result["redirect"] = _redirect(route.redirect, match)
    elif route.direct_response is not None:
        result["direct_response"] = _direct_response(route.direct_response)
    else:
        result["route"] = _action(snapshot, route, match, port)
    _headers(result, route.headers)
    if route.fault:
        fault = {"@type": f"{TYPE}{_FAULT_MESSAGE}", **_fault(route.fault)}
        result["typed_per_filter_config"] = {FAULT: fault}
    return result


# Matches


def _match(match: HttpMatch) -> Config:
    result: Config = {}
    uri = match.uri
    if uri is None or uri.kind == "present":
        result["prefix"] = "/"
    elif uri.kind == "regex":
        result["safe_regex"] = {"regex": uri.value}
    else:
        result[{"exact": "path", "prefix": "prefix"}[uri.kind]] = uri.value
    if match.ignore_uri_case:
        result["case_sensitive"] = False
    _add_headers(result, match.headers)
    _add_headers(result, match.without_headers, unless=True)
    if match.query:
        result["query_parameters"] = [_query(name, value) for name, value in match.query.items()]
    return result


def _add_headers(result: Config, headers: Mapping[str, StringMatch], *, unless: bool = False) -> None:
    """Headers that are asked for; some names mean what the caller's token says."""
    for name, value in headers.items():
        if path := routing_claim(name):
            kind, opposite, match = "dynamic_metadata", "invert", _claim(path, value)
        else:
            kind, opposite, match = "headers", "invert_match", _header(name, value)
        result.setdefault(kind, []).append({**match, opposite: True} if unless else match)


def _claim(path: tuple[str, ...], value: StringMatch) -> Config:
    return text_claim(path, {"safe_regex": {"regex": ".*"}} if value.kind == "present" else _string(value))


def _header(name: str, value: StringMatch) -> Config:
    if value.kind == "present":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": _string(value)}


def _query(name: str, value: StringMatch) -> Config:
    if value.kind == "present":
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": _string(value)}


def _string(value: StringMatch) -> Config:
    if value.kind == "regex":
        return {"safe_regex": {"regex": value.value}}
    return {value.kind: value.value}


# Actions


def _action(snapshot: Snapshot, route: HttpRoute, match: HttpMatch, port: int) -> Config:
    action: Config = {
        **_clusters(snapshot, route.destinations, port),
        "timeout": as_protobuf(route.timeout, "timeout") if route.timeout else "0s",
    }
    retries = _retries(route.retries)
    if retries:
        action["retry_policy"] = retries
    if route.rewrite:
        _rewrite(action, route.rewrite, match)
    if route.mirrors:
        action["request_mirror_policies"] = [
            {
                "cluster": destination_cluster(snapshot, destination, port),
                "runtime_fraction": {"default_value": _percent(share)},
            }
            for destination, share in route.mirrors
        ]
    host = _header_of((route.headers.get("request") or {}).get("set") or {}, "host")
    if host:
        action["host_rewrite_literal"] = host
    return action


def _clusters(snapshot: Snapshot, destinations: tuple[WeightedDestination, ...], port: int) -> Config:
    if not destinations:
        return {"cluster": BLACK_HOLE}
    if len(destinations) == 1 and not destinations[0].headers:
        return {"cluster": destination_cluster(snapshot, destinations[0].destination, port)}
    clusters = []
    for one, weight in shared(destinations):
        entry: Config = {"name": destination_cluster(snapshot, one.destination, port), "weight": weight}
        _headers(entry, one.headers)
        clusters.append(entry)
    return {"weighted_clusters": {"clusters": clusters}}


def _retries(written: Mapping[str, Any] | None) -> Config | None:
    if written is None:
        return RETRIES
    wanted = written.get("attempts")
    attempts = 2 if wanted is None else int(wanted)
    if attempts <= 0:
        return None
    conditions = [one.strip() for one in str(written.get("retryOn") or RETRY_ON).split(",") if one.strip()]
    codes = [int(one) for one in conditions if one.isdigit()]
    named = [one for one in conditions if not one.isdigit()]
    result: Config = {**RETRIES, "num_retries": attempts}
    result["retry_on"] = ",".join([*named, *(["retriable-status-codes"] if codes else [])])
    if codes:
        result["retriable_status_codes"] = codes
    if written.get("perTryTimeout"):
        result["per_try_timeout"] = as_protobuf(written["perTryTimeout"], "perTryTimeout")
    if written.get("backoff"):
        result["retry_back_off"] = {"base_interval": as_protobuf(written["backoff"], "backoff")}
    return result


def _rewrite(action: Config, written: Mapping[str, Any], match: HttpMatch) -> None:
    if written.get("authority"):
        action["host_rewrite_literal"] = str(written["authority"])
    if expression := written.get("uriRegexRewrite"):
        action["regex_rewrite"] = {
            "pattern": {"regex": str(expression.get("match") or "")},
            "substitution": str(expression.get("rewrite") or ""),
        }
    elif written.get("uri"):
        if match.uri is not None and match.uri.kind == "regex":
            action["regex_rewrite"] = {"pattern": {"regex": ".*"}, "substitution": str(written["uri"])}
        else:
            action["prefix_rewrite"] = str(written["uri"])


def _redirect(written: Mapping[str, Any], match: HttpMatch) -> Config:
    code = int(written.get("redirectCode") or 301)
    result: Config = {"response_code": _CODES.get(code, "MOVED_PERMANENTLY")}
    if written.get("uri"):
        result["path_redirect"] = str(written["uri"])
    if written.get("authority"):
        result["host_redirect"] = str(written["authority"])
    if written.get("scheme"):
        result["scheme_redirect"] = str(written["scheme"])
    if written.get("port"):
        result["port_redirect"] = int(written["port"])
    return result


def _direct_response(written: Mapping[str, Any]) -> Config:
    result: Config = {"status": int(written.get("status") or 200)}
    body = written.get("body") or {}
    if "string" in body:
        result["body"] = {"inline_string": str(body["string"])}
    elif "bytes" in body:
        result["body"] = {"inline_bytes": str(body["bytes"])}
    return result


def _fault(written: Mapping[str, Any]) -> Config:
    result: Config = {}
    if delay := written.get("delay"):
        share = (delay.get("percentage") or {}).get("value", delay.get("percent"))
        # Without a share an Istio fault hits nobody (0 %).
        result["delay"] = {
            "fixed_delay": as_protobuf(str(delay.get("fixedDelay") or "0s"), "fixedDelay"),
            "percentage": _percent(float(share or 0)),
        }
    if abort := written.get("abort"):
        share = (abort.get("percentage") or {}).get("value")
        result["abort"] = {
            "http_status": int(abort.get("httpStatus") or 503),
            "percentage": _percent(100.0 if share is None and "percentage" not in abort else float(share or 0)),
        }
    return result


def _percent(share: float) -> Config:
    return {"numerator": round(share * 10_000), "denominator": "MILLION"}


# Headers


def _headers(target: Config, written: Mapping[str, Any]) -> None:
    for side in ("request", "response"):
        operation = written.get(side) or {}
        added = [
            _addition(name, value, "OVERWRITE_IF_EXISTS_OR_ADD")
            for name, value in (operation.get("set") or {}).items()
            if side == "response" or name.lower() not in ("host", ":authority")
        ]
        added += [
            _addition(name, value, "APPEND_IF_EXISTS_OR_ADD") for name, value in (operation.get("add") or {}).items()
        ]
        if added:
            target[f"{side}_headers_to_add"] = added
        if operation.get("remove"):
            target[f"{side}_headers_to_remove"] = list(operation["remove"])


def _addition(name: str, value: str, action: str) -> Config:
    return {"header": {"key": name, "value": str(value)}, "append_action": action}


def _header_of(headers: Mapping[str, Any], name: str) -> str:
    return next((str(value) for key, value in headers.items() if key.lower() in (name, ":authority")), "")
