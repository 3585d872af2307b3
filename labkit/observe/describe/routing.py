"""What a proxy's dump says of a Service: the DestinationRule, the VirtualService and the RBAC policies. Pure.

Names come from the proxy, not from the objects: what it runs is what counts, and a stale one is found out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from labkit.cluster import Obj
from labkit.observe.describe.words import Writer
from labkit.observe.dumps.clusters import split_name
from labkit.observe.dumps.dump import Config, Dump, made_by, name_of_path
from labkit.observe.objects import name_of, namespace_of
from labkit.policy.destination_rule import CLUSTER_DOMAIN, full_name
from labkit.policy.workload import labels_match

Labels = Sequence[Mapping[str, str]]

_RBAC = "envoy.filters.http.rbac"


def host_of(service: Obj) -> str:
    """The full name of a Service."""
    return f"{name_of(service)}.{namespace_of(service)}.svc.{CLUSTER_DOMAIN}"


# -- reading the dump


def destination_rule_name(dump: Dump, host: str, port: int) -> tuple[str, str]:
    """(namespace, name) of the rule behind the outbound cluster of a host's port, empty without one."""
    for cluster in dump.clusters():
        found, number, _, direction = split_name(str(cluster.get("name", "")))
        if (direction, number, found) == ("outbound", str(port), host) and (path := made_by(cluster)):
            return name_of_path(path)
    return "", ""


def virtual_service_name(dump: Dump, host: str, port: int) -> tuple[str, str]:
    """(namespace, name) of the VirtualService behind the routes to a host's port, empty without one."""
    for config in dump.routes():
        for virtual_host in config.get("virtual_hosts") or ():
            for route in virtual_host.get("routes") or ():
                if made_by(route) and _leads_to(config, virtual_host, route, host, port):
                    return name_of_path(made_by(route))
    return "", ""


def _leads_to(config: Config, virtual_host: Config, route: Config, host: str, port: int) -> bool:
    # A sidecar's virtual host has the Service's name; at a gateway only the route's destination tells.
    named = (config.get("name"), virtual_host.get("name"))
    if f"{host}:{port}" in named or (config.get("name") == str(port) and host in (virtual_host.get("domains") or ())):
        return True
    action = route.get("route") or {}
    weighted = (action.get("weighted_clusters") or {}).get("clusters") or ()
    clusters = [action.get("cluster"), *(one.get("name") for one in weighted)]
    parts = (split_name(str(one or "")) for one in clusters)
    return any((direction, number, found) == ("outbound", str(port), host) for found, number, _, direction in parts)


def rbac_policies(dump: Dump) -> list[str]:
    """The policies of the first inbound HTTP chain, as the filter calls them: `ns[shop]-policy[x]-rule[0]`."""
    for listener in dump.listeners():
        if listener.get("traffic_direction") != "INBOUND":
            continue
        for chain in listener.get("filter_chains") or ():
            for network_filter in chain.get("filters") or ():
                manager = network_filter.get("typed_config") or {}
                names = [name for one in manager.get("http_filters") or () for name in _policies_of(one)]
                if names:
                    return names
    return []


def _policies_of(http_filter: Config) -> list[str]:
    if http_filter.get("name") != _RBAC:
        return []
    rules = (http_filter.get("typed_config") or {}).get("rules") or {}
    return list(rules.get("policies") or {})


# -- writing


def subsets_of(rule: Obj | None, pods: Labels) -> tuple[list[str], list[str]]:
    """The subsets of a rule that some pod is in, and the others."""
    matching: list[str] = []
    others: list[str] = []
    for subset in ((rule or {}).get("spec") or {}).get("subsets") or ():
        fits = any(labels_match(subset.get("labels") or {}, labels) for labels in pods)
        (matching if fits else others).append(str(subset.get("name")))
    return matching, others


def write_destination_rule(writer: Writer, rule: Obj, pods: Labels, indent: int) -> None:
    """The rule, which of its subsets the pods are in, and what it says of TLS."""
    spec = rule.get("spec") or {}
    writer.say(f'DestinationRule: {writer.name(rule)} for "{spec.get("host", "")}"', indent)
    matching, others = subsets_of(rule, pods)
    if others and not matching:
        writer.warn(f"WARNING POD DOES NOT MATCH ANY SUBSETS.  (Non matching subsets {','.join(others)})", indent + 3)
    if matching or others:
        writer.say(f"Matching subsets: {','.join(matching)}", indent + 3)
    if others:
        writer.say(f"(Non-matching subsets {','.join(others)})", indent + 6)
    policy = spec.get("trafficPolicy")
    if policy is None:
        writer.say("No Traffic Policy", indent + 3)
        return
    if policy.get("tls"):
        writer.say(f"Traffic Policy TLS Mode: {policy['tls'].get('mode') or 'DISABLE'}", indent + 3)
    if said := _short(policy):
        writer.say(said, indent + 3)
    if policy.get("portLevelSettings"):
        writer.say("Port Level Settings:", indent + 3)
    for one in policy.get("portLevelSettings") or ():
        writer.say(f"{(one.get('port') or {}).get('number', 0)}:", 4)
        if one.get("tls"):
            writer.say(f"TLS Mode: {one['tls'].get('mode') or 'DISABLE'}", indent + 6)
        if said := _short(one):
            writer.say(said, indent + 6)


def _short(policy: Mapping[str, Any]) -> str:
    named = (
        ("loadBalancer", "load balancer"),
        ("connectionPool", "connection pool"),
        ("outlierDetection", "outlier detection"),
    )
    said = "/".join(text for field, text in named if policy.get(field) is not None)
    return f"Policies: {said}" if said else ""


def write_virtual_service(
    writer: Writer, virtual_service: Obj, service: Obj, rule: Obj | None, pods: Labels, indent: int
) -> None:
    """The VirtualService, and which of its routes reach the pods."""
    writer.say(f"VirtualService: {writer.name(virtual_service)}", indent)
    spec = virtual_service.get("spec") or {}
    reaching: list[list[str]] = []
    notes: list[str] = []
    for route in spec.get("http") or ():
        reaches, facts = _http_facts(writer, route, virtual_service, service, rule, pods)
        if reaches:
            reaching.append(facts)
        else:
            notes += facts
    for route in spec.get("tcp") or ():
        if any(_is_for(one, virtual_service, service) for one in route.get("route") or ()):
            reaching.append([_l4_match(one) for one in route.get("match") or ()])
    _write_routes(writer, spec, reaching, notes, indent)


def _write_routes(
    writer: Writer, spec: Mapping[str, Any], reaching: list[list[str]], notes: list[str], indent: int
) -> None:
    counts = {kind: len(spec.get(kind) or ()) for kind in ("http", "tls", "tcp")}
    facts = [fact for found in reaching for fact in found]
    for fact in facts:
        writer.say(fact, indent + 3)
    if not reaching:
        for kind in ("http", "tcp"):
            if counts[kind]:
                checked = f"(checked {counts[kind]} {kind.upper()} routes)"
                writer.warn(f"WARNING: No destinations match pod subsets {checked}", indent + 3)
        for note in notes:
            writer.say(note, indent + 6)
        return
    if missing := sum(counts.values()) - len(reaching):
        writer.say(f"{missing} additional destination(s) that will not reach this pod", indent + 3)
        for note in () if facts else notes:
            writer.say(note, indent + 6)
    elif not facts:
        for kind in ("http", "tcp"):
            if counts[kind]:
                writer.say(f"{counts[kind]} {kind.upper()} route(s)", indent + 3)


def _is_for(weighted: Mapping[str, Any], virtual_service: Obj, service: Obj) -> bool:
    host = str((weighted.get("destination") or {}).get("host") or "")
    return full_name(host, namespace_of(virtual_service)) == host_of(service)


def _http_facts(
    writer: Writer, route: Mapping[str, Any], virtual_service: Obj, service: Obj, rule: Obj | None, pods: Labels
) -> tuple[bool, list[str]]:
    """Whether a route reaches the pods, and what is to be said of it."""
    matching, others = subsets_of(rule, pods)
    facts: list[str] = []
    notes: list[str] = []
    reaches = False
    for one in route.get("route") or ():
        destination, weight = one.get("destination") or {}, int(one.get("weight") or 0)
        host, subset = str(destination.get("host") or ""), str(destination.get("subset") or "")
        if not _is_for(one, virtual_service, service):
            invalid = f"Route to {host} with invalid config"
            facts.append(invalid if subset else f'Route to host "{host}" with weight {weight}%')
        elif subset in others:
            notes.append(f"Route to non-matching subset {subset} for ({_matches(route)})")
        elif subset and rule is None:
            notes.append(f"Warning: Route to subset {subset} but NO DESTINATION RULE defining subsets!")
        elif subset and subset not in matching:
            notes.append(f"Warning: Route to UNKNOWN subset {subset}; check DestinationRule {writer.name(rule or {})}")
        else:
            reaches = True
            if weight:
                where = f'"{host}" subset "{subset}"' if subset else f'"{host}"'
                facts.append(f"Route to host {where} with weight {weight}%")
    conditions = [*_fault(route), *(_match(one) for one in route.get("match") or ())]
    if reaches and conditions:
        facts.append(", ".join(conditions))
    return reaches, facts if reaches else facts + notes


def _fault(route: Mapping[str, Any]) -> Iterator[str]:
    if fault := route.get("fault"):
        parts = [f"{kind}:{{{' '.join(f'{k}:{v}' for k, v in fault[kind].items())}}}" for kind in fault]
        yield f"Fault injection {' '.join(parts)}"


def _matches(route: Mapping[str, Any]) -> str:
    return ", ".join(_match(one) for one in route.get("match") or ()) or "everything"


def _match(match: Mapping[str, Any]) -> str:
    said = "Match: "
    if match.get("uri"):
        said += _string(match["uri"]) + (" uncased" if match.get("ignoreUriCase") else "")
    if headers := match.get("headers"):
        said += " when headers are " + "; ".join(f"{name}={_string(value)}" for name, value in headers.items())
    return said.strip()


def _string(written: Mapping[str, Any]) -> str:
    if "exact" in written:
        return str(written["exact"])
    if "prefix" in written:
        return f"{written['prefix']}*"
    return f'regex:"{written["regex"]}"' if "regex" in written else ""


def _l4_match(match: Mapping[str, Any]) -> str:
    return " ".join(f"{name}:{value}" for name, value in match.items())
