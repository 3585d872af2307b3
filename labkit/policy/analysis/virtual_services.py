"""VirtualServices: hosts, gateways and subsets that they name, conflicts, regular expressions, token claims.

pkg/config/analysis/analyzers/virtualservice of istio/istio.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.policy.analysis.mesh import (
    EVERYWHERE,
    MESH_GATEWAY,
    Host,
    Mesh,
    Object,
    full_name_of,
    hosts_meet,
    scopes_of,
)
from labkit.policy.analysis.messages import Message, found, go_list
from labkit.policy.claims import routing_claim
from labkit.policy.configs import namespace_of
from labkit.policy.destination_rule import full_name, host_matches
from labkit.policy.validation.common import regex_error
from labkit.policy.workload import labels_match


@dataclass(frozen=True)
class Destination:
    """One destination of a VirtualService, and where it is written."""

    host: str
    subset: str
    port: int
    path: str
    mirror: bool = False


def destinations(spec: Mapping[str, Any]) -> Iterator[Destination]:
    """The destinations of all routes, mirrors included."""
    for kind in ("http", "tcp", "tls"):
        for index, route in enumerate(spec.get(kind) or ()):
            for number, one in enumerate(route.get("route") or ()):
                path = f"spec.{kind}[{index}].route[{number}].destination"
                yield _destination(one.get("destination") or {}, path)
            if route.get("mirror"):
                yield _destination(route["mirror"], f"spec.{kind}[{index}].mirror", mirror=True)
            for number, one in enumerate(route.get("mirrors") or ()):
                path = f"spec.{kind}[{index}].mirrors[{number}].destination"
                yield _destination(one.get("destination") or {}, path, mirror=True)


def _destination(written: Mapping[str, Any], path: str, *, mirror: bool = False) -> Destination:
    port = int((written.get("port") or {}).get("number") or 0)
    return Destination(str(written.get("host") or ""), str(written.get("subset") or ""), port, path, mirror)


def gateways_of(virtual_service: Object) -> list[tuple[int, str, str, str]]:
    """(index, as written, namespace, name) of the gateways that are named, the mesh left out."""
    named = []
    for index, one in enumerate((virtual_service.get("spec") or {}).get("gateways") or ()):
        namespace, _, name = str(one).rpartition("/")
        if one != MESH_GATEWAY:
            named.append((index, str(one), namespace or namespace_of(virtual_service), name))
    return named


# analyzers/virtualservice/destinationhosts.go
def destination_hosts(mesh: Mesh) -> Iterator[Message]:
    """IST0101: a host, or a port of it, that nobody has. IST0112: a host with several ports, and none is named."""
    for one in mesh.every("VirtualService"):
        spec = one.get("spec") or {}
        for destination in destinations(spec):
            host = mesh.host(destination.host, namespace_of(one), spec.get("exportTo") or ())
            what = "mirror host" if destination.mirror else "host"
            if host is None:
                yield found("IST0101", one, what, destination.host, path=f"{destination.path}.host")
            else:
                yield from _port(one, destination, host)


def _port(one: Object, destination: Destination, host: Host) -> Iterator[Message]:
    if not destination.port:
        if len(host.ports) > 1:
            path = f"{destination.path}.host"
            yield found("IST0112", one, destination.host, go_list(host.ports), path=path)
    elif destination.port not in host.ports:
        named = f"{destination.host}:{destination.port}"
        yield found("IST0101", one, "host:port", named, path=f"{destination.path}.port.number")


# analyzers/virtualservice/destinationrules.go
def destination_subsets(mesh: Mesh) -> Iterator[Message]:
    """IST0101: a subset that no DestinationRule for the host has."""
    known = {
        (full_name(str(spec.get("host") or ""), namespace_of(rule)), str(subset.get("name")))
        for rule in mesh.every("DestinationRule")
        for spec in [rule.get("spec") or {}]
        for subset in spec.get("subsets") or ()
    }
    for one in mesh.every("VirtualService"):
        for destination in destinations(one.get("spec") or {}):
            name = (full_name(destination.host, namespace_of(one)), destination.subset)
            if destination.subset and name not in known:
                what = "mirror+subset in destinationrule" if destination.mirror else "host+subset in destinationrule"
                named = f"{destination.host}+{destination.subset}"
                yield found("IST0101", one, what, named, path=f"{destination.path}.subset")


# analyzers/virtualservice/gateways.go
def gateways(mesh: Mesh) -> Iterator[Message]:
    """IST0101: a Gateway that is not there. IST0132: none of the hosts is let in by the Gateway."""
    for one in mesh.every("VirtualService"):
        for index, written, namespace, name in gateways_of(one):
            path = f"spec.gateways[{index}]"
            gateway = mesh.find("Gateway", namespace, name)
            if gateway is None:
                yield found("IST0101", one, "gateway", written, path=path)
            hosts = [str(host) for host in (one.get("spec") or {}).get("hosts") or ()]
            if not any(host_matches(let_in, host) for let_in in _let_in(gateway, one) for host in hosts):
                where = f"{namespace}/{name}"
                yield found("IST0132", one, go_list(hosts), full_name_of(one), where, path=path)


def _let_in(gateway: Object | None, virtual_service: Object) -> Iterator[str]:
    """The hosts that a Gateway lets in from the VirtualService's namespace."""
    for server in ((gateway or {}).get("spec") or {}).get("servers") or ():
        for host in server.get("hosts") or ():
            namespace, slash, name = str(host).rpartition("/")
            namespace = namespace_of(gateway or {}) if namespace == "." else namespace
            if not slash or namespace in ("*", namespace_of(virtual_service)):
                yield name


# analyzers/virtualservice/conflictingmeshgatewayhosts.go
def conflicting_hosts(mesh: Mesh) -> Iterator[Message]:
    """IST0109: several VirtualServices route one host for sidecars, which do not merge them."""
    by_host: dict[tuple[str, str], list[Object]] = defaultdict(list)
    for one in mesh.every("VirtualService"):
        spec, namespace = one.get("spec") or {}, namespace_of(one)
        named = spec.get("gateways") or ()
        if named and MESH_GATEWAY not in named:
            continue
        for scope in scopes_of(spec.get("exportTo"), namespace):
            for host in spec.get("hosts") or ():
                by_host[(scope, full_name(str(host), namespace))].append(one)
    reported: set[str] = set()
    for (scope, host), owners in by_host.items():
        several = list(owners)
        if scope != EVERYWHERE:
            for (other, pattern), others in by_host.items():
                if other == EVERYWHERE and hosts_meet(host, pattern):
                    several += others
        if len(several) < 2:
            continue
        names = ",".join(full_name_of(one) for one in several)
        for one in several:
            if full_name_of(one) not in reported:
                reported.add(full_name_of(one))
                yield found("IST0109", one, names, f"{scope}/{host}", path="spec.hosts")


# analyzers/virtualservice/destinationhosts.go analyzeSubset
def ingress_subsets(mesh: Mesh) -> Iterator[Message]:
    """IST0140: routes of another VirtualService to subsets do not count for what a gateway routes to the bare host."""
    with_subset = [
        (one, destination.host)
        for one in mesh.every("VirtualService")
        for destination in destinations({"http": (one.get("spec") or {}).get("http")})
        if destination.subset and not destination.mirror
        if destination.host in ((one.get("spec") or {}).get("hosts") or ())
    ]
    for one in mesh.every("VirtualService"):
        spec = one.get("spec") or {}
        if not spec.get("gateways"):
            continue
        for destination in destinations({"http": spec.get("http")}):
            if destination.subset or destination.mirror:
                continue
            for other, host in with_subset:
                if host == destination.host:
                    path = f"{destination.path}.host"
                    yield found("IST0140", one, full_name_of(other), full_name_of(one), path=path)


# analyzers/virtualservice/regexes.go
def regular_expressions(mesh: Mesh) -> Iterator[Message]:
    """IST0122: an expression that Envoy cannot read."""
    for one in mesh.every("VirtualService"):
        for where, match, path in _string_matches((one.get("spec") or {}).get("http") or ()):
            pattern = str((match or {}).get("regex") or "")
            if pattern and (wrong := regex_error(pattern)):
                yield found("IST0122", one, where, pattern, wrong, path=f"{path}.regex")


def _string_matches(routes: Any) -> Iterator[tuple[str, Mapping[str, Any] | None, str]]:
    for index, route in enumerate(routes):
        for number, match in enumerate(route.get("match") or ()):
            at = f"spec.http[{index}].match[{number}]"
            for name in ("uri", "scheme", "method", "authority"):
                yield name, match.get(name), f"{at}.{name}"
            for name in ("headers", "queryParams"):
                for key, value in (match.get(name) or {}).items():
                    yield name, value, f"{at}.{name}.{key}"
        for number, origin in enumerate((route.get("corsPolicy") or {}).get("allowOrigins") or ()):
            yield "corsPolicy.allowOrigins", origin, f"spec.http[{index}].corsPolicy.allowOrigins[{number}]"


# analyzers/virtualservice/jwtclaimroute.go
def claim_routes(mesh: Mesh) -> Iterator[Message]:
    """IST0149: routes by claims of a token where nobody reads tokens: no RequestAuthentication is for the gateway."""
    for one in mesh.every("VirtualService"):
        key = next(_claims(one), "")
        if not key:
            continue
        for _, _, namespace, name in gateways_of(one):
            gateway = mesh.find("Gateway", namespace, name)
            selector = ((gateway or {}).get("spec") or {}).get("selector") or {}
            for pod in mesh.selected(selector) if gateway else ():
                if not any(_reads_tokens(mesh, policy, pod.namespace, pod.labels) for policy in _token_rules(mesh)):
                    yield found("IST0149", one, key, f"{namespace}/{name}", pod.name)


def _token_rules(mesh: Mesh) -> list[Object]:
    return mesh.every("RequestAuthentication")


def _reads_tokens(mesh: Mesh, policy: Object, namespace: str, labels: Mapping[str, str]) -> bool:
    selector = ((policy.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return namespace_of(policy) in (mesh.root, namespace) and labels_match(selector, labels)


def _claims(virtual_service: Object) -> Iterator[str]:
    for route in (virtual_service.get("spec") or {}).get("http") or ():
        for match in route.get("match") or ():
            for name in (*(match.get("headers") or ()), *(match.get("withoutHeaders") or ())):
                if routing_claim(name):
                    yield name
