"""From Services and EndpointSlices to the node proxy's Envoy configuration. Pure: dictionaries in, dictionaries out.

The node proxy stands where kube-proxy stands in a real node. The rules are kube-proxy's, as
https://kubernetes.io/docs/reference/networking/virtual-ips/ describes them:

1. A Service is served on its ClusterIP, one listener for each TCP port. Headless and ExternalName Services have none,
   and `default/kubernetes` needs none, because the API server listens on that address itself.
2. Traffic goes to the ready endpoints; if none is ready, to those that are terminating and still serving.
3. Without any endpoint a connection is refused. So such a port has no listener at all.
4. `sessionAffinity: ClientIP` keeps a client's address with one endpoint.

Simplified:
- kube-proxy rewrites addresses in the kernel, so a server sees the client's address. Here it sees the node's: Envoy
  can keep the client's only with IP_TRANSPARENT, which takes a privilege.
- A ready endpoint on whose port nobody listens looks like a close or a reset (curl exit code 52 or 56, whichever of
  request and close is faster), where kube-proxy's client is refused (7): Envoy has accepted the connection by then.
- kube-proxy's iptables mode chooses an endpoint at random; this proxy goes round robin, as the IPVS mode does.
- UDP and SCTP ports are not served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from labkit.embedded import addresses, envoy_messages
from labkit.embedded.envoy_messages import Config

Object = dict[str, Any]
Address = tuple[str, int]
"""An IPv4 address and a port on the wire."""

SERVICE_LABEL = "kubernetes.io/service-name"

# A pod here is a process on the same machine: it accepts within a millisecond, or it hangs.
CONNECT_TIMEOUT = "5s"


@dataclass(frozen=True)
class ServicePort:
    """One port of a Service with where it listens and what stands behind it."""

    name: str
    address: Address
    endpoints: tuple[Address, ...]
    sticky: bool


@dataclass(frozen=True)
class ProxyConfig:
    """What Envoy reads: one listener and one Envoy cluster per Service port."""

    listeners: list[Config] = field(default_factory=list)
    clusters: list[Config] = field(default_factory=list)
    conflicts: tuple[str, ...] = ()
    """Ports that were left out, because another one has the same address on the wire."""


def is_served(service: Object, block: int) -> bool:
    """Rule 1: does the node proxy listen for this Service?"""
    spec, meta = service.get("spec", {}), service["metadata"]
    if spec.get("type") == "ExternalName" or (meta.get("namespace"), meta["name"]) == ("default", "kubernetes"):
        return False
    return _in_block(spec.get("clusterIP") or "", block)


def endpoints_of(port_name: str, slices: Iterable[Object], block: int) -> list[Address]:
    """Rule 2: where traffic for the Service port named `port_name` goes, in the order of addresses."""
    ready: set[Address] = set()
    leaving: set[Address] = set()
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType", "IPv4") != "IPv4":
            continue
        numbers = [p["port"] for p in endpoint_slice.get("ports") or [] if (p.get("name") or "") == port_name]
        for endpoint in endpoint_slice.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            address = endpoint["addresses"][0]  # further ones have no defined meaning in the API
            targets = {(address, _wire_port(address, number, block)) for number in numbers}
            if conditions.get("ready") is not False:  # absent means ready
                ready |= targets
            elif conditions.get("terminating") and conditions.get("serving"):
                leaving |= targets
    return sorted(ready or leaving)


def service_ports(services: Iterable[Object], slices: Iterable[Object], block: int) -> Iterator[ServicePort]:
    """Every TCP port of every served Service, in the order of their names."""
    by_service: dict[tuple[str, str], list[Object]] = {}
    for endpoint_slice in slices:
        meta = endpoint_slice["metadata"]
        owner = (meta.get("labels") or {}).get(SERVICE_LABEL, "")
        by_service.setdefault((meta["namespace"], owner), []).append(endpoint_slice)

    for service in sorted(services, key=lambda s: (s["metadata"]["namespace"], s["metadata"]["name"])):
        if not is_served(service, block):
            continue
        namespace, name, spec = service["metadata"]["namespace"], service["metadata"]["name"], service["spec"]
        own = by_service.get((namespace, name), [])
        for port in spec.get("ports") or []:
            if port.get("protocol", "TCP") != "TCP":
                continue
            yield ServicePort(
                name=f"{namespace}/{name}:{port['port']}",
                address=(spec["clusterIP"], addresses.listen_port(port["port"])),
                endpoints=tuple(endpoints_of(port.get("name", ""), own, block)),
                sticky=spec.get("sessionAffinity") == "ClientIP",
            )


def translate(services: Iterable[Object], slices: Iterable[Object], *, block: int) -> ProxyConfig:
    """The whole configuration."""
    config, taken, conflicts = ProxyConfig(), set[Address](), []
    for port in service_ports(services, slices, block):
        if port.address in taken:
            conflicts.append(port.name)
            continue
        taken.add(port.address)
        config.clusters.append(_cluster(port, addresses.node_ip(block)))
        if port.endpoints:  # rule 3
            config.listeners.append(_listener(port))
    return ProxyConfig(config.listeners, config.clusters, tuple(conflicts))


def _wire_port(address: str, port: int, block: int) -> int:
    # An EndpointSlice written by hand may name a server outside the cluster, which has its real port.
    return addresses.listen_port(port) if _in_block(address, block) else int(port)


def _in_block(address: str, block: int) -> bool:
    try:
        return IPv4Address(address).packed[:2] == bytes([127, block])
    except AddressValueError:  # "None", "", or IPv6
        return False


def _listener(port: ServicePort) -> Config:
    # A reset by the server must reach the client as a reset, as through kube-proxy: curl then says exit code 56 and not
    # 52. No setting makes it so: plain tcp_proxy over raw sockets does it on its own. A test holds Envoy to that.
    tcp_proxy: Config = {
        "@type": envoy_messages.TYPE + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": port.name,
        "cluster": port.name,
        "idle_timeout": "0s",  # kube-proxy never closes an idle connection; Envoy would after an hour
    }
    if port.sticky:
        tcp_proxy["hash_policy"] = [{"source_ip": {}}]
    return {
        "name": port.name,
        "address": envoy_messages.socket_address(*port.address),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": tcp_proxy}]}],
    }


def _cluster(port: ServicePort, source: str) -> Config:
    # The endpoints stand in the Envoy cluster itself. A file of endpoints for each would cost an inotify instance
    # each, of which Linux gives a user 128 (fs.inotify.max_user_instances); connections outlive the replacement.
    endpoints = [envoy_messages.lb_endpoint(*address) for address in port.endpoints]
    return {
        "name": port.name,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "lb_policy": "MAGLEV" if port.sticky else "ROUND_ROBIN",
        "upstream_bind_config": {"source_address": {"address": source, "port_value": 0}},
        "load_assignment": {"cluster_name": port.name, "endpoints": [{"lb_endpoints": endpoints}] if endpoints else []},
    }
