"""The network of a pod without a network namespace: which row of addresses it has, and the files that name services.

For each pod, `net/hosts.json` (read by `podpython/sitecustomize.py`) and `net/.curlrc` (read by curl through
CURL_HOME) say where a service name, a ClusterIP or localhost leads to from inside this pod. They are rendered here
from the Services (pure) and written when they changed. Who is redirected: `Redirect`, left by istio-init.

Two views exist of one pod: that of its programs, and that of the sidecar, whose user istio-init exempts from
redirection (`-u 1337`), so that `curl` in the container istio-proxy goes out past the proxy, as in Istio.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labkit.embedded.addresses import (
    FIRST_POD,
    LAST_POD,
    block_of,
    captured_ip,
    cluster_ip,
    host_columns,
    inside_ip,
    listen_port,
    node_ip,
)
from labkit.errors import InputError
from labkit.policy.configs import exported
from labkit.policy.service_entry import ServiceEntry, parse_service_entry
from labkit.policy.sidecar_scope import REGISTRY_ONLY

Object = Mapping[str, Any]

PROXY_PORTS = (15000, 15001, 15006, 15020, 15021, 15090)
"""Where the sidecar itself listens, https://istio.io/latest/docs/ops/deployment/application-requirements/"""

ADMIN_PORT = 15000
"""Envoy's admin interface: for the pod itself alone, so it is inside of the pod."""

OUTBOUND_PORT = 15001
"""Where the sidecar takes what the pod sends out, and nobody else listens for."""

CLUSTER_DOMAIN = "cluster.local"

COMMON_PORTS = (80, 443)
"""Low ports at which a pod is called by address even if its containers do not declare them."""


@dataclass(frozen=True)
class Redirect:
    """What istio-init asked for (`net/redirect.json`); its presence means that the pod's traffic is redirected."""

    inbound_port: int
    outbound_port: int
    uid: int = 1337

    @classmethod
    def read(cls, net_dir: Path) -> Redirect | None:
        """None when the pod is not redirected."""
        try:
            data = json.loads((net_dir / "redirect.json").read_text())
            return cls(int(data["inbound_port"]), int(data["outbound_port"]), int(data.get("uid", 1337)))
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class PodView:
    """Who looks: a pod's programs, or (`redirected` False in a redirected pod) its sidecar's user."""

    namespace: str
    name: str
    pod_ip: str
    own_ip: str  # where the pod's applications listen: what localhost means
    redirected: bool
    sidecar: bool  # the pod has a proxy of its own, listening on PROXY_PORTS
    registry_only: bool = False  # what the mesh does not know goes to the proxy too, which refuses it
    gateway: bool = False  # the pod is a proxy, and nothing else

    @property
    def administered(self) -> bool:
        return self.sidecar or self.gateway

    @property
    def blocked(self) -> bool:
        return self.registry_only and self.redirected


def view_of(
    namespace: str,
    name: str,
    pod_ip: str,
    redirect: Redirect | None,
    *,
    exempt: bool = False,
    registry_only: bool = False,
    gateway: bool = False,
) -> PodView:
    """The view of a pod's programs, or of the user that istio-init exempts."""
    own = inside_ip(pod_ip) if redirect else pod_ip
    redirected = redirect is not None
    return PodView(namespace, name, pod_ip, own, redirected and not exempt, redirected, registry_only, gateway)


def is_registry_only(mesh_config: str) -> bool:
    """Whether this text, the mesh's settings in ConfigMap `istio`, lets pods reach only what the mesh knows.

    iptables would send everything to the proxy in any case, and the proxy decides. Here a name must be led somewhere
    before the proxy is met, so the node has to know.
    """
    try:
        values = yaml.safe_load(mesh_config) or {}
        return (values.get("outboundTrafficPolicy") or {}).get("mode") == REGISTRY_ONLY
    except (yaml.YAMLError, AttributeError):
        return False


def service_names(service_namespace: str, service: str, pod_namespace: str) -> list[str]:
    """The names under which a pod of `pod_namespace` finds a service, shortest first.

    https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
    """
    full = f"{service}.{service_namespace}"
    names = [full, f"{full}.svc", f"{full}.svc.{CLUSTER_DOMAIN}"]
    return [service, *names] if service_namespace == pod_namespace else names


def names_for(services: Iterable[Object], pod_namespace: str) -> dict[str, str]:
    """Every service name a pod can use -> the ClusterIP. A headless service has none and is left out."""
    names = {}
    for service in services:
        address = (service.get("spec") or {}).get("clusterIP")
        if address and address != "None":
            metadata = service["metadata"]
            for name in service_names(metadata["namespace"], metadata["name"], pod_namespace):
                names[name] = address
    return names


@dataclass(frozen=True)
class OutsideHost:
    """A host that only redirected pods know, by its name and perhaps by addresses: what a ServiceEntry says of it."""

    names: tuple[str, ...]
    column: int
    ports: tuple[int, ...]

    def column_ip(self, block: int) -> str:
        """Its place in row 0, where nobody listens: it only says the column."""
        return cluster_ip(block, self.column)


def outside_hosts(entries: Iterable[Object], pod_namespace: str) -> list[OutsideHost]:
    """The hosts of ServiceEntries that a pod of this namespace may know. An entry that cannot be read counts for none,
    as in the control plane.
    """
    read = sorted(_read_entries(entries), key=lambda one: one.meta.age_order)
    columns = host_columns(host for entry in read for host in entry.hosts if not host.startswith("*"))
    return [
        OutsideHost(
            # An address of its own can mean a host only where there is just one.
            (host, *(entry.single_addresses if len(entry.hosts) == 1 else ())),
            columns[host],
            tuple(port.number for port in entry.ports),
        )
        for entry in read
        if exported(entry.export_to, entry.meta.namespace, pod_namespace)
        for host in entry.hosts
        if host in columns
    ]


def _read_entries(entries: Iterable[Object]) -> Iterable[ServiceEntry]:
    for obj in entries:
        try:
            yield parse_service_entry(obj)
        except InputError:
            continue


def render_hosts(view: PodView, services: Iterable[Object], api_port: int, outside: Iterable[OutsideHost] = ()) -> str:
    """The content of hosts.json."""
    block = block_of(view.pod_ip)
    known = {name: one.column_ip(block) for one in outside if view.redirected for name in one.names}
    return json.dumps(
        {
            "pod_ip": view.pod_ip,
            "inside_ip": inside_ip(view.pod_ip),
            "own": view.own_ip,
            # The exempt user's localhost still is the inside of the pod, but nothing that it sends is captured.
            "redirected": view.redirected,
            "blocked": view.blocked,
            "names": {**known, **names_for(services, view.namespace)},
            "api_port": api_port,
            "proxy_ports": [port for port in PROXY_PORTS if port != ADMIN_PORT] if view.sidecar else [],
            "admin": inside_ip(view.pod_ip) if view.administered else "",
        },
        indent=1,
    )


def low_ports(pod: Object) -> list[int]:
    """The ports of a pod that are moved up on the wire: what it declares, and the common ones."""
    declared = {p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or []}
    return sorted(port for port in {*declared, *COMMON_PORTS} if port != listen_port(port))


def render_curlrc(
    view: PodView,
    services: Iterable[Object],
    pods: Iterable[tuple[str, list[int]]],
    api_port: int,
    outside: Iterable[OutsideHost] = (),
) -> str:
    """The content of .curlrc: one `connect-to` per name and port; the first line that matches counts.

    `pods` are the addresses of all pods with their low ports.

    No `interface` line: it would let a server see the pod's address as the source, but curl could then reach
    nothing outside of this machine.
    """
    lines = ["# Written by the node: how curl finds services from this pod. See connect-to in 'man curl'."]
    for host in ("localhost", "127.0.0.1"):
        if view.administered:
            lines.append(_connect_to(host, ADMIN_PORT, inside_ip(view.pod_ip), ADMIN_PORT))
        if view.sidecar:
            lines += [_connect_to(host, port, view.pod_ip, port) for port in PROXY_PORTS if port != ADMIN_PORT]
        lines += [_connect_to(host, port, view.own_ip, listen_port(port)) for port in COMMON_PORTS]
        lines.append(_connect_to(host, None, view.own_ip, None))
    api = node_ip(block_of(view.pod_ip))
    for service in services:
        lines += _service_lines(view, service, api, api_port)
    for one in outside if view.redirected else ():
        target = captured_ip(view.pod_ip, one.column_ip(block_of(view.pod_ip)))
        for name in one.names:
            lines += [_connect_to(name, port, target, listen_port(port)) for port in one.ports]
            lines.append(_connect_to(name, None, target, None))
    for address, ports in pods:
        lines += [_connect_to(address, port, address, listen_port(port)) for port in ports if not view.blocked]
    if view.blocked:  # everything else
        lines.append(_connect_to("", None, view.pod_ip, OUTBOUND_PORT))
    return "\n".join(lines) + "\n"


def _service_lines(view: PodView, service: Object, api: str, api_port: int) -> list[str]:
    spec, metadata = service.get("spec") or {}, service["metadata"]
    address = spec.get("clusterIP")
    if not address or address == "None":
        return []
    target = captured_ip(view.pod_ip, address) if view.redirected and address != api else address
    lines = []
    for name in [*service_names(metadata["namespace"], metadata["name"], view.namespace), address]:
        for port in spec.get("ports") or []:
            on_wire = api_port if address == api and port["port"] == 443 else listen_port(port["port"])
            if on_wire != port["port"] or target != address:
                lines.append(_connect_to(name, port["port"], target, on_wire))
        if name != target:
            lines.append(_connect_to(name, None, target, None))
    return lines


def _connect_to(host: str, port: int | None, address: str, on_wire: int | None) -> str:
    return f'connect-to = "{host}:{port or ""}:{address}:{on_wire or ""}"'


def write_text(path: Path, text: str) -> bool:
    """Replace a file by one rename if its content differs; True when it was written."""
    try:
        if path.read_text() == text:
            return False
    except OSError:
        pass
    aside = path.with_name(f".{path.name}.new{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)
    return True


class RowAllocator:
    """Gives each pod a row of the address plan. The rows of records found at start are taken at once.

    A freed row is used again only after all others: whoever still holds the address of a pod that ended should
    meet a refusal, not another pod.
    """

    def __init__(self) -> None:
        self._owners: dict[int, str] = {}
        self._last = FIRST_POD - 1

    def take(self, uid: str, row: int | None = None) -> int | None:
        """A row for the pod; None when all are taken. `row` asks for one that was recorded."""
        if row is not None and self._owners.setdefault(row, uid) == uid:
            self._last = max(self._last, row)
            return row
        count = LAST_POD - FIRST_POD + 1
        for step in range(count):
            candidate = FIRST_POD + (self._last - FIRST_POD + 1 + step) % count
            if candidate not in self._owners:
                self._owners[candidate] = uid
                self._last = candidate
                return candidate
        return None

    def free(self, uid: str) -> None:
        """Give the pod's row back."""
        self._owners = {row: owner for row, owner in self._owners.items() if owner != uid}
