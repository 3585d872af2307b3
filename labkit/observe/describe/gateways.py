"""Through which ingress gateways a Service is exposed, as the gateways' own dumps say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import DESTINATION_RULE, POD, SERVICE
from labkit.errors import LabError
from labkit.observe.describe.pods import protocol_text, tcp_ports
from labkit.observe.describe.routing import (
    destination_rule_name,
    host_of,
    virtual_service_name,
    write_virtual_service,
)
from labkit.observe.describe.words import GATEWAY, RULER, VIRTUAL_SERVICE, Exposure, Writer, full
from labkit.observe.dumps import Dump
from labkit.observe.objects import is_injected, labels_of, matches, namespace_of
from labkit.observe.proxy import ask_pod

_SHOWN_PORTS = ("http", "http2")


def write_gateways(
    writer: Writer, cluster: Cluster, services: Sequence[Obj], labels: Sequence[Mapping[str, str]]
) -> tuple[Exposure, ...]:
    """Each Gateway through which a VirtualService leads to one of the Services. istioctl looks at pods with the label
    `istio: ingressgateway` alone, and so does this.
    """
    found = [one for one in cluster.objects(POD, labels={"istio": "ingressgateway"}) if _runs(one)]
    if not found:
        writer.say("Skipping Gateway information (no ingress gateway pods)")
        return ()
    entrances = [
        entrance
        for namespace in {namespace_of(one) for one in found}
        for entrance in _entrances(cluster, namespace, found)
    ]
    if not entrances:
        writer.say("Skipping Gateway information (no ingress gateway service)")
    exposed: dict[str, Exposure] = {}
    for pod in found:
        dump = _dump(writer, cluster, pod)
        for service in services:
            for port in tcp_ports(service):
                for one in _exposures(writer, cluster, dump, service, port["port"], entrances, labels, exposed):
                    exposed[one.gateway] = one
    return tuple(exposed.values())


def _exposures(
    writer: Writer,
    cluster: Cluster,
    dump: Dump,
    service: Obj,
    port: int,
    entrances: Sequence[tuple[Obj, Sequence[Obj]]],
    labels: Sequence[Mapping[str, str]],
    said: Mapping[str, Exposure],
) -> list[Exposure]:
    host = host_of(service)
    namespace, name = virtual_service_name(dump, host, port)
    if not name:
        return []
    routes = cluster.find(VIRTUAL_SERVICE, name, namespace)
    if routes is None:
        writer.warn(f"WARNING: Proxy is stale; it references to non-existent virtual service {name}.{namespace}")
        return []
    rule_namespace, rule_name = destination_rule_name(dump, host, port)
    rule = cluster.find(DESTINATION_RULE, rule_name, rule_namespace) if rule_name else None
    found: list[Exposure] = []
    for gateway_name in (routes.get("spec") or {}).get("gateways") or ():
        where, _, short = str(gateway_name).rpartition("/")
        where = where or namespace
        if gateway_name == "mesh" or f"{where}/{short}" in said:
            continue
        gateway = cluster.find(GATEWAY, short, where)
        if gateway is None:
            writer.warn(f"WARNING: Proxy is stale; it references to non-existent gateway {where}/{short}")
            continue
        urls = [url for entrance in entrances for url in _urls(entrance, gateway)]
        if urls:
            writer.say(RULER)
            for url in urls:
                writer.say(f"Exposed on Ingress Gateway {url}")
            write_virtual_service(writer, routes, service, rule, labels, 0)
            found.append(Exposure(urls[0], f"{where}/{short}", full(routes)))
    return found


def _entrances(cluster: Cluster, namespace: str, pods: Sequence[Obj]) -> list[tuple[Obj, Sequence[Obj]]]:
    """The Services of a namespace that select gateway pods, with those."""
    here = [one for one in pods if namespace_of(one) == namespace]
    found: list[tuple[Obj, Sequence[Obj]]] = []
    for service in cluster.objects(SERVICE, namespace):
        selector = service["spec"].get("selector") or {}
        mine = [one for one in here if selector and matches(selector, labels_of(one))]
        if mine:
            found.append((service, mine))
    return found


def _urls(entrance: tuple[Obj, Sequence[Obj]], gateway: Obj) -> list[str]:
    service, pods = entrance
    selector = (gateway.get("spec") or {}).get("selector") or {}
    if not any(matches(selector, labels_of(pod)) for pod in pods):
        return []
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    address = next((one.get("ip") or one.get("hostname") for one in ingress), "")
    address = address or pods[0].get("status", {}).get("hostIP") or "unknown"
    ports = [one for one in tcp_ports(service) if one.get("name") in _SHOWN_PORTS]
    schemes = {"HTTP": "http", "HTTP2": "http"}
    return [
        f"{schemes.get(protocol_text(one), '')}://{address}{'' if one['port'] == 80 else ':' + str(one['port'])}"
        for one in ports
    ]


def _dump(writer: Writer, cluster: Cluster, pod: Obj) -> Dump:
    try:
        return Dump.of(json.loads(ask_pod(cluster, pod, "config_dump")))
    except LabError as error:
        writer.warn(f"Error: failed to execute command on ingress gateway sidecar: {error.what}")
        return Dump(())


def _runs(pod: Obj) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and is_injected(pod)
