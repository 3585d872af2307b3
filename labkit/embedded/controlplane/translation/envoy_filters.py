"""Applies EnvoyFilters to a proxy's finished configuration. Pure.

The rules are those of pilot/pkg/networking/core/envoyfilter of istio/istio:

1. A patch looks only at parts of its context: SIDECAR_INBOUND, SIDECAR_OUTBOUND, GATEWAY or ANY.
2. MERGE follows protobuf: a value replaces a value, a list is appended to, messages are merged field by field. A
   `typed_config` of another type replaces the one that is there.
3. INSERT_BEFORE and INSERT_AFTER stand beside the filter that is matched; without one, at the front and at the end.
4. What Envoy refuses it refuses whole: it keeps the last good configuration, and says why.

Ports are those that a learner writes; on the wire those below 1024 are moved (see `labkit.embedded.addresses`).
Simplified: patches are applied one after the other as they are listed, where Istio goes part by part.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from typing import Any

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation.filters import HCM
from labkit.embedded.envoy_messages import Config
from labkit.policy.envoy_filter import ANY, ConfigPatch, EnvoyFilter

SUPPORTED = frozenset(
    {
        *("LISTENER", "LISTENER_FILTER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"),
        *("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE", "CLUSTER"),
    }
)
"""What `applyTo` may name here. Not BOOTSTRAP, which a running proxy has read already, nor EXTENSION_CONFIG."""

SIDECAR_INBOUND, SIDECAR_OUTBOUND, GATEWAY = "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"

Parts = MutableSequence[Config]
Matches = Callable[[Config], bool]


def apply_envoy_filters(
    listeners: Iterable[Config], clusters: Iterable[Config], filters: Iterable[EnvoyFilter], *, gateway: bool = False
) -> tuple[tuple[Config, ...], tuple[Config, ...]]:
    """The listeners and Envoy clusters after all patches; those handed in are not changed."""
    patched = _Patching(copy.deepcopy(list(listeners)), copy.deepcopy(list(clusters)), gateway)
    for envoy_filter in filters:
        for patch in envoy_filter.patches:
            patched.apply(patch)
    return tuple(patched.listeners), tuple(patched.clusters)


class _Patching:
    """The configuration while it is being changed."""

    def __init__(self, listeners: list[Config], clusters: list[Config], gateway: bool) -> None:
        self.listeners, self.clusters = listeners, clusters
        self.gateway = gateway

    def apply(self, patch: ConfigPatch) -> None:
        value = to_snake_case(copy.deepcopy(dict(patch.value)))
        for parts, matches in self._places(patch):
            _change(parts, patch.operation, value, matches)

    def _places(self, patch: ConfigPatch) -> Iterator[tuple[Parts, Matches]]:
        """The lists that a patch changes, each with what it looks for in them."""
        if patch.apply_to == "CLUSTER":
            # ADD puts one cluster into the proxy, whatever its context was asked for.
            yield self.clusters, lambda cluster: self._is_cluster(patch, cluster)
        elif patch.apply_to == "LISTENER":
            yield self.listeners, lambda listener: self._is_listener(patch, listener)
        elif patch.apply_to in SUPPORTED:
            for listener in self.listeners:
                if self._is_listener(patch, listener):
                    yield from _inside(patch, listener)

    def _in_context(self, patch: ConfigPatch, context: str) -> bool:
        return patch.context in (ANY, context)

    def _is_listener(self, patch: ConfigPatch, listener: Config) -> bool:
        direction = listener.get("traffic_direction")
        if not direction:  # the proxy's own ports are nobody's to change
            return False
        outbound = GATEWAY if self.gateway else SIDECAR_OUTBOUND
        if not self._in_context(patch, SIDECAR_INBOUND if direction == "INBOUND" else outbound):
            return False
        wanted = patch.match.get("listener") or {}
        if wanted.get("name") and wanted["name"] != listener.get("name"):
            return False
        port = wanted.get("portNumber")
        # `virtualInbound` serves all ports: there the number chooses filter chains instead.
        return not port or direction == "INBOUND" or int(port) == _port(listener)

    def _is_cluster(self, patch: ConfigPatch, cluster: Config) -> bool:
        name = str(cluster.get("name") or "")
        inbound = name.startswith("inbound|") or name == "InboundPassthroughCluster"
        if name.startswith("probe|"):
            return False
        outbound = GATEWAY if self.gateway else SIDECAR_OUTBOUND
        if not self._in_context(patch, SIDECAR_INBOUND if inbound else outbound):
            return False
        wanted = patch.match.get("cluster") or {}
        if wanted.get("name"):
            return bool(wanted["name"] == name)
        _, port, subset, host = [*name.split("|"), "", "", ""][:4] if "|" in name else ("", "", "", "")
        found = {"portNumber": port, "subset": subset, "service": host}
        return all(str(wanted[key]) == found[key] for key in found if wanted.get(key))


def _inside(patch: ConfigPatch, listener: Config) -> Iterator[tuple[Parts, Matches]]:
    wanted = patch.match.get("listener") or {}
    if patch.apply_to == "LISTENER_FILTER":
        name = wanted.get("listenerFilter")
        yield listener.setdefault("listener_filters", []), lambda one: not name or one.get("name") == name
        return
    if patch.apply_to == "FILTER_CHAIN":
        yield listener.setdefault("filter_chains", []), lambda chain: _is_chain(wanted, listener, chain)
        return
    for chain in listener.get("filter_chains") or ():
        if _is_chain(wanted, listener, chain):
            yield from _in_chain(patch, listener, chain)


def _in_chain(patch: ConfigPatch, listener: Config, chain: Config) -> Iterator[tuple[Parts, Matches]]:
    wanted = ((patch.match.get("listener") or {}).get("filterChain") or {}).get("filter") or {}
    name = wanted.get("name")
    if patch.apply_to == "NETWORK_FILTER":
        yield chain.setdefault("filters", []), lambda one: not name or one.get("name") == name
        return
    for network_filter in chain.get("filters") or ():
        if network_filter.get("name") != HCM or (name and name != HCM):
            continue
        manager = network_filter["typed_config"]
        if patch.apply_to == "HTTP_FILTER":
            sub = (wanted.get("subFilter") or {}).get("name")
            yield manager.setdefault("http_filters", []), lambda one, sub=sub: not sub or one.get("name") == sub  # type: ignore[misc]
        elif "route_config" in manager:
            yield from _in_routes(patch, listener, manager)


def _in_routes(patch: ConfigPatch, listener: Config, manager: Config) -> Iterator[tuple[Parts, Matches]]:
    wanted = patch.match.get("routeConfiguration") or {}
    routes = manager["route_config"]
    if wanted.get("name") and wanted["name"] != routes.get("name"):
        return
    if wanted.get("portNumber") and int(wanted["portNumber"]) != _port(listener):
        return
    if patch.apply_to == "ROUTE_CONFIGURATION":
        holder = [routes]
        yield holder, lambda _: True
        manager["route_config"] = holder[0] if holder else {}
        return
    host = wanted.get("vhost") or {}
    hosts = routes.setdefault("virtual_hosts", [])
    if patch.apply_to == "VIRTUAL_HOST":
        yield hosts, lambda one: _is_host(host, one)
        return
    for one in hosts:
        if _is_host(host, one):
            yield one.setdefault("routes", []), lambda route: _is_route(host.get("route") or {}, route)


def _is_host(wanted: Mapping[str, Any], host: Config) -> bool:
    domain = wanted.get("domainName")
    return (not wanted.get("name") or host.get("name") == wanted["name"]) and (
        not domain or domain in (host.get("domains") or ())
    )


def _is_route(wanted: Mapping[str, Any], route: Config) -> bool:
    if wanted.get("name") and wanted["name"] != route.get("name"):
        return False
    actions = {"ROUTE": "route", "REDIRECT": "redirect", "DIRECT_RESPONSE": "direct_response"}
    action = actions.get(wanted.get("action") or "")
    return not action or action in route


def _is_chain(wanted: Mapping[str, Any], listener: Config, chain: Config) -> bool:
    match = chain.get("filter_chain_match") or {}
    port, inbound = wanted.get("portNumber"), listener.get("traffic_direction") == "INBOUND"
    if port and inbound and addresses.declared_port(int(match.get("destination_port") or 0)) != int(port):
        return False
    asked = wanted.get("filterChain") or {}
    if asked.get("destinationPort") and addresses.declared_port(int(match.get("destination_port") or 0)) != int(
        asked["destinationPort"]
    ):
        return False
    protocols = asked.get("applicationProtocols")
    return (
        (not asked.get("name") or asked["name"] == chain.get("name"))
        and (not asked.get("sni") or asked["sni"] in (match.get("server_names") or ()))
        and (not asked.get("transportProtocol") or asked["transportProtocol"] == match.get("transport_protocol"))
        and (not protocols or str(protocols).split(",") == (match.get("application_protocols") or []))
        and (
            not (asked.get("filter") or {}).get("name")
            or any(one.get("name") == asked["filter"]["name"] for one in chain.get("filters") or ())
        )
    )


def _port(listener: Config) -> int:
    return addresses.declared_port(int(listener["address"]["socket_address"]["port_value"]))


def _change(parts: Parts, operation: str, value: Config, matches: Matches) -> None:
    """Do one operation on a list."""
    found = [index for index, one in enumerate(parts) if matches(one)]
    if operation == "ADD":
        parts.append(copy.deepcopy(value))
    elif operation == "INSERT_FIRST":
        parts.insert(0, copy.deepcopy(value))
    elif operation == "INSERT_BEFORE" and found:
        parts.insert(found[0], copy.deepcopy(value))
    elif operation == "INSERT_AFTER" and found:
        # Without a filter to stand beside, every part is found: then it goes to the end.
        parts.insert(found[-1] + 1, copy.deepcopy(value))
    elif operation == "REMOVE":
        for index in reversed(found):
            del parts[index]
    elif operation == "REPLACE":
        for index in found:
            parts[index] = copy.deepcopy(value)
    elif operation == "MERGE":
        for index in found:
            parts[index] = merge(parts[index], value)


def merge(into: Config, value: Mapping[str, Any]) -> Config:
    """Merge as protobuf does; `into` is changed and handed back."""
    if "@type" in value and "@type" in into and value["@type"] != into["@type"]:
        return copy.deepcopy(dict(value))
    for key, new in value.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(new, Mapping):
            into[key] = merge(old, new)
        elif isinstance(old, list) and isinstance(new, list):
            into[key] = [*old, *copy.deepcopy(new)]
        else:
            into[key] = copy.deepcopy(new)
    return into


# Below these the keys are somebody's own words, not fields of Envoy's messages.
_FREE_KEYS = frozenset(
    {
        *("filter_metadata", "typed_filter_metadata", "typed_per_filter_config", "typed_extension_protocol_options"),
        *("key_values", "runtime_values"),
    }
)


def to_snake_case(value: Any) -> Any:
    """Field names as Envoy's JSON has them. Both `connectTimeout` and `connect_timeout` are right in an EnvoyFilter;
    a merge must know that they are one field.
    """
    if isinstance(value, list):
        return [to_snake_case(one) for one in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("@type", "")).endswith(("TypedStruct", "google.protobuf.Struct", "StringValue")):
        return value
    result = {}
    for key, inner in value.items():
        name = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), str(key))
        if name in _FREE_KEYS and isinstance(inner, dict):
            free = name == "filter_metadata"
            result[name] = {own: one if free else to_snake_case(one) for own, one in inner.items()}
        else:
            result[name] = to_snake_case(inner)
    return result
