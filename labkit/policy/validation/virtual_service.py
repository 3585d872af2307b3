"""What is asked of a VirtualService, and which of its rules are never reached, in Istio's words.

pkg/config/validation/validation.go ValidateVirtualService, analyzeUnreachableHTTPRules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.policy.validation.common import export_to, is_address, subnet, wildcard_domain
from labkit.policy.validation.findings import Findings, Object, Remark, block, errors_of, items, quoted
from labkit.policy.validation.headers import is_claim
from labkit.policy.validation.routes import destinations, gateway_names, http_route, source

MESH = "mesh"


def virtual_service(obj: Object) -> Findings:
    """A whole VirtualService."""
    spec = block(obj, "spec")
    hosts, gateways = [str(one) for one in items(spec, "hosts")], [str(one) for one in items(spec, "gateways")]
    at_gateway = bool(gateways) and MESH not in gateways
    if not hosts:
        yield from _delegate(spec)
    yield from gateway_names(gateways)
    if not at_gateway:
        yield from _claims(spec, gateways)
    yield from _hosts(spec, hosts, at_gateway=at_gateway)
    http, tls, tcp = items(spec, "http"), items(spec, "tls"), items(spec, "tcp")
    if not (http or tls or tcp):
        yield "http, tcp or tls must be provided in virtual service"
    for one in http:
        yield from http_route(one, delegate=not hosts)
    for one in tls:
        yield from _tls_route(one, hosts, at_gateway=MESH not in gateways)
    for one in tcp:
        yield from errors_of(_tcp_route(one))
    yield from export_to(obj)
    yield from map(Remark, (*_unreachable(http), *_overlapping(http), *_unreachable(tcp), *_unreachable(tls)))


def _delegate(spec: Object) -> Findings:
    """Without hosts it is there to be included by another one, for HTTP only."""
    if items(spec, "gateways"):
        yield "delegate virtual service must have no gateways specified"
    for name in ("tls", "tcp"):
        if items(spec, name):
            yield f"delegate virtual service must have no {name} route specified"


def _claims(spec: Object, gateways: list[str]) -> Findings:
    for route in items(spec, "http"):
        for match in items(route, "match"):
            for name in (*block(match, "headers"), *block(match, "withoutHeaders")):
                if is_claim(name):
                    yield (
                        f"JWT claim based routing (key: {name}) is only supported for gateway, found no gateways: "
                        f"[{' '.join(gateways)}]"
                    )


def _hosts(spec: Object, hosts: list[str], *, at_gateway: bool) -> Findings:
    sni = any(items(match, "sniHosts") for route in items(spec, "tls") for match in items(route, "match"))
    valid = True
    for host in hosts:
        wrong = list(wildcard_domain(host, sni=at_gateway and sni))
        if wrong and not is_address(host):
            yield from wrong
            valid = False
        elif not wrong and not at_gateway and host == "*":
            yield "wildcard host * is not allowed for virtual services bound to the mesh gateway"
            valid = False
    if valid:
        for index, host in enumerate(hosts):
            for other in hosts[index + 1 :]:
                if _overlap(host, other):
                    yield f"duplicate hosts in virtual service: {host} & {other}"


# pkg/config/host/name.go Matches, SubsetOf
def _overlap(one: str, other: str) -> bool:
    """Whether there is a name that both mean."""
    return _part_of(one, other) or _part_of(other, one)


def _part_of(one: str, whole: str) -> bool:
    """Whether all that `one` means is in `whole`."""
    if one.startswith("*") and not whole.startswith("*"):
        return False
    if whole.startswith("*"):
        return one.removeprefix("*").endswith(whole[1:])
    return one == whole


def _tls_route(route: Object, hosts: list[str], *, at_gateway: bool) -> Findings:
    matches = items(route, "match")
    if not matches:
        yield "TLS route must have at least one match condition"
    for match in matches:
        names = [str(one) for one in items(match, "sniHosts")]
        if not names:
            yield "TLS match must have at least one SNI host"
        for name in names:
            yield from _sni_host(name, hosts, at_gateway=at_gateway)
        yield from _layer_4(match)
    if not items(route, "route"):
        yield "TLS route is required"
    yield from destinations(items(route, "route"))


def _sni_host(name: str, hosts: list[str], *, at_gateway: bool) -> Findings:
    wrong = list(wildcard_domain(name, sni=at_gateway))
    if wrong and is_address(name):
        yield Remark(f"using an IP address ({quoted(name)}) goes against SNI spec and most clients do not support this")
    elif wrong:
        yield from wrong
    elif not any(_part_of(name, host) for host in hosts):
        listed = ", ".join(hosts)
        yield f"SNI host {quoted(name)} is not a compatible subset of any of the virtual service hosts: [{listed}]"


def _layer_4(match: Object) -> Findings:
    for one in items(match, "destinationSubnets"):
        yield from subnet(str(one))
    yield from source(match)


def _tcp_route(route: Object) -> Findings:
    for match in items(route, "match"):
        yield from _layer_4(match)
    if not items(route, "route"):
        yield "TCP route is required"
    yield from destinations(items(route, "route"))


# Rules that are never reached


def _named(one: Object | None, index: int) -> str:
    name = (one or {}).get("name")
    return quoted(name) if name else f"#{index}"


def _unreachable(routes: list[Object]) -> Iterator[str]:
    """Rules behind one that takes all, and matches that an earlier rule has, too."""
    seen: dict[str, int] = {}
    takes_all = False
    for index, route in enumerate(routes):
        matches = items(route, "match")
        if not matches:
            if takes_all:
                yield f"virtualService rule {_named(route, index)} not used (only the last rule can have no matches)"
            takes_all = True
            continue
        twice = 0
        for position, match in enumerate(matches):
            key = _key(match)
            if key in seen:
                twice += 1
                first = _named(routes[seen[key]], seen[key])
                yield _ineffective(_named(route, index), _named(match, position), first)
            else:
                seen[key] = index
        if twice == len(matches):
            yield f"virtualService rule {_named(route, index)} not used (all matches used by prior rules)"


def _key(match: Object | None) -> str:
    """What a match asks for; two with the same key are the same."""
    return json.dumps({k: v for k, v in (match or {}).items() if k != "name"}, sort_keys=True)


def _ineffective(rule: str, match: str, earlier: str) -> str:
    return f"virtualService rule {rule} match {match} is not used (duplicate/overlapping match in rule {earlier})"


def _overlapping(routes: list[Object]) -> Iterator[str]:
    """Matches by prefix that an earlier, shorter prefix takes."""
    found: list[tuple[str, str, str, dict[str, Any]]] = []
    seen: set[str] = set()
    for index, route in enumerate(routes):
        for position, match in enumerate(items(route, "match")):
            prefix = block(match, "uri").get("prefix")
            if prefix and _key(match) not in seen:
                seen.add(_key(match))
                found.append((prefix, _named(route, index), _named(match, position), _conditions(match)))
    for index, (prefix, rule, match, conditions) in enumerate(found):
        for longer, later, other, more in found[index + 1 :]:
            if longer != prefix and longer.startswith(prefix) and _covered(conditions, more):
                earlier = f"{match} of prefix {prefix} on {rule}"
                yield _ineffective(later, f"{other} of prefix {longer}", earlier)


def _conditions(match: Object) -> dict[str, Any]:
    def tables(name: str) -> dict[str, str]:
        return {key: _text(value) for key, value in block(match, name).items()}

    return {
        "port": match.get("port") or 0,
        "method": _text(match.get("method")) or "exact:GET",
        "authority": _text(match.get("authority")),
        **{name: tables(name) for name in ("headers", "queryParams", "withoutHeaders")},
    }


def _text(match: Mapping[str, Any] | None) -> str:
    written = match or {}
    kind = next((one for one in ("exact", "prefix") if written.get(one)), "")
    return f"{kind}:{written[kind]}" if kind else ""


def _covered(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether what else the earlier match asks for is no more than the later one does, as Istio sees it."""
    if one["port"] != other["port"]:
        return False
    if not all(one[name].startswith(other[name]) for name in ("method", "authority")):
        return False
    return all(
        one[name].keys() == other[name].keys()
        and all(value.startswith(other[name][key]) for key, value in one[name].items())
        for name in ("headers", "queryParams", "withoutHeaders")
    )
