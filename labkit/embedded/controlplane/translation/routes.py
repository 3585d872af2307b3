"""VirtualServices as Envoy's routes, for sidecars and gateways alike. Pure.

pilot/pkg/networking/core/route/route.go of istio/istio. What the objects mean is said in `policy.virtual_service`.

1. Routes keep their order; behind one that catches everything none is written.
2. A destination that does not exist is answered 503, response flag NC (see `destinations`).
3. Where a VirtualService routes a host and nothing matches, the answer is 404.
4. The authority that `rewrite` names goes before one among the route's headers, and that before a destination's.

Simplified: delegates are not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.embedded.controlplane.translation import hashing
from labkit.embedded.controlplane.translation.destinations import destination_cluster, shared
from labkit.embedded.controlplane.translation.inbound import BLACK_HOLE
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.controlplane.translation.route_matches import route_match
from labkit.embedded.controlplane.translation.route_policies import (
    authority,
    header_operations,
    per_filter,
    percent,
    retry_policy,
)
from labkit.embedded.envoy_messages import Config
from labkit.policy.durations import as_protobuf
from labkit.policy.virtual_service import MESH, HttpMatch, HttpRoute, VirtualService, WeightedDestination

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
    encrypted: bool = False,
) -> list[Config]:
    """The routes of VirtualServices for one port of a host: a list of envoy.config.route.v3.Route.

    `port` is the Service's port (or the gateway server's), `gateway` is `mesh` for a sidecar, else `namespace/name`.
    `encrypted`: the request came over TLS that the proxy opened.
    """
    routes: list[Config] = []
    for one in virtual_services:
        for route, match in _reachable(one, proxy, port, gateway):
            routes.append(
                {**_route(snapshot, proxy, route, match, port, encrypted=encrypted), "metadata": _made_by(one)}
            )
            if match.catches_all:
                return routes
    return routes


# pilot/pkg/networking/core/route/route.go SortVHostRoutes
def catch_alls_last(routes: Iterable[Config]) -> list[Config]:
    """Routes of several VirtualServices of one host: what one of them catches must not hide what another asks for."""
    return sorted(routes, key=_catches_all)


def _catches_all(route: Config) -> bool:
    match = route["match"]
    anything = match.get("prefix") == "/" or match.get("safe_regex") == {"regex": ".*"}
    return anything and not any(match.get(name) for name in ("headers", "query_parameters", "dynamic_metadata"))


def _reachable(
    virtual_service: VirtualService, proxy: Sidecar, port: int, gateway: str
) -> Iterator[tuple[HttpRoute, HttpMatch]]:
    for route in virtual_service.http:
        for match in route.matches:
            if match.source.includes_http(proxy.workload, gateway, port):
                yield route, match


def _made_by(one: VirtualService) -> Config:
    """Tools such as `istioctl x describe` read from here which VirtualService made the route."""
    path = f"/apis/networking.istio.io/v1/namespaces/{one.meta.namespace}/virtual-service/{one.meta.name}"
    return {"filter_metadata": {"istio": {"config": path}}}


def _route(
    snapshot: Snapshot, proxy: Sidecar, route: HttpRoute, match: HttpMatch, port: int, *, encrypted: bool
) -> Config:
    result: Config = {"match": route_match(match)}
    # pilot/pkg/networking/core/route/route.go translateRoute
    if name := f"{route.name}.{match.name}" if match.name else route.name:
        result["name"] = name
    if match.stat_prefix:
        result["stat_prefix"] = match.stat_prefix
    header_operations(result, route.headers)
    if route.redirect is not None:
        result["redirect"] = _redirect(route.redirect, port, encrypted=encrypted)
    elif route.direct_response is not None:
        result["direct_response"] = _direct_response(route.direct_response)
    else:
        result["route"] = _action(snapshot, proxy, route, port)
        if len(route.destinations) == 1:
            header_operations(result, route.destinations[0].headers)
    if asked := per_filter(route.fault, route.cors):
        result["typed_per_filter_config"] = asked
    return result


# Actions


def _action(snapshot: Snapshot, proxy: Sidecar, route: HttpRoute, port: int) -> Config:
    action: Config = {
        **_clusters(snapshot, route.destinations, port),
        "timeout": as_protobuf(route.timeout, "timeout") if route.timeout else "0s",
    }
    hashes = [hashing.of_destination(snapshot, proxy, one.destination) for one, _ in shared(route.destinations)]
    if policies := [policy for one in hashes for policy in hashing.hash_policies(one)]:
        action["hash_policy"] = policies
    if retries := retry_policy(route.retries, stays=len(route.destinations) == 1 and bool(hashes[0])):
        action["retry_policy"] = retries
    host = authority(route.headers)
    if route.rewrite:
        _rewrite(action, route.rewrite)
        host = str(route.rewrite.get("authority") or host)
    if not host and len(route.destinations) == 1:
        host = authority(route.destinations[0].headers)
    if host:
        action["host_rewrite_literal"] = host
    if route.mirrors:
        action["request_mirror_policies"] = [
            {
                "cluster": destination_cluster(snapshot, destination, port),
                "runtime_fraction": {"default_value": percent(share)},
            }
            for destination, share in route.mirrors
            if share > 0
        ]
    return action


def _clusters(snapshot: Snapshot, destinations: tuple[WeightedDestination, ...], port: int) -> Config:
    if not destinations:
        return {"cluster": BLACK_HOLE}
    if len(destinations) == 1:
        return {"cluster": destination_cluster(snapshot, destinations[0].destination, port)}
    clusters = []
    for one, weight in shared(destinations):
        entry: Config = {"name": destination_cluster(snapshot, one.destination, port), "weight": weight}
        header_operations(entry, one.headers)
        if host := authority(one.headers):
            entry["host_rewrite_literal"] = host
        clusters.append(entry)
    return {"weighted_clusters": {"clusters": clusters}}


def _rewrite(action: Config, written: Mapping[str, Any]) -> None:
    """A new path in the place of what the match named; of a regex match, and of an exact one, that is the whole."""
    if expression := written.get("uriRegexRewrite"):
        action["regex_rewrite"] = {
            "pattern": {"regex": str(expression.get("match") or "")},
            "substitution": str(expression.get("rewrite") or ""),
        }
    elif written.get("uri"):
        action["prefix_rewrite"] = str(written["uri"])


# pilot/pkg/networking/core/route/route.go ApplyRedirect
def _redirect(written: Mapping[str, Any], port: int, *, encrypted: bool) -> Config:
    code = int(written.get("redirectCode") or 301)
    result: Config = {"response_code": _CODES.get(code, "MOVED_PERMANENTLY")}
    if written.get("uri"):
        result["path_redirect"] = str(written["uri"])
    if written.get("authority"):
        result["host_redirect"] = str(written["authority"])
    scheme = str(written.get("scheme") or ("https" if encrypted else "http"))
    if written.get("scheme"):
        result["scheme_redirect"] = scheme
    number = port if written.get("derivePort") == "FROM_REQUEST_PORT" else int(written.get("port") or 0)
    # What the scheme means anyway is not said.
    if number and (scheme, number) not in (("http", 80), ("https", 443)):
        result["port_redirect"] = number
    return result


def _direct_response(written: Mapping[str, Any]) -> Config:
    result: Config = {"status": int(written.get("status") or 200)}
    body = written.get("body") or {}
    if "string" in body:
        result["body"] = {"inline_string": str(body["string"])}
    elif "bytes" in body:
        result["body"] = {"inline_bytes": str(body["bytes"])}
    return result
