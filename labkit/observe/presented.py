"""What a workload or a gateway presents right now, on every cluster: the way to its port, and a handshake there.

A pod on this machine is called directly. A gateway elsewhere through a port-forward: nothing redirects connections
there. A sidecar elsewhere by `openssl s_client` in its own container, because a port-forward leads past it, to the
application (https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/ reads certificates so, too).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.cluster.forwarding import forward
from labkit.cluster.kinds import CONFIGMAP, SERVICE
from labkit.errors import ClusterError, InputError, WaitTimeoutError
from labkit.observe.describe.words import GATEWAY
from labkit.observe.handshake import ISTIO_ALPN, WEB_ALPN, Handshake, connect, shake_hands
from labkit.observe.objects import (
    PROXY,
    is_gateway,
    is_injected,
    labels_of,
    matches,
    name_of,
    namespace_of,
    sidecars_first,
)
from labkit.pki import CertificateFacts, describe_chain
from labkit.pki.chains import is_signed_by
from labkit.policy import workload_from_pod
from labkit.policy.calls import target_port

ROOT_CONFIGMAP, ROOT_KEY = "istio-ca-root-cert", "root-cert.pem"

PRIVILEGED, SHIFT = 1024, 20000
"""On a node of loopback addresses no process opens a port below 1024; such a port stands 20000 higher."""


@dataclass(frozen=True)
class Presented:
    """What was presented at a port, and how it was read."""

    pod: str
    port: int
    address: str
    server_name: str
    handshake: Handshake
    way: str
    chain: tuple[CertificateFacts, ...] = ()
    signed_by_mesh: bool | None = None
    """Whether the mesh's root signed it; None where the root is not known."""
    command: str = ""

    @property
    def certificate(self) -> CertificateFacts | None:
        """The leaf; None when nothing was presented."""
        return self.chain[0] if self.chain else None


def read_presented(cluster: Cluster, pod: Obj, port: int = 0, server_name: str = "") -> Presented:
    """What a pod presents at one of its ports, or at a port of its Services. 0 is its first."""
    gateway = is_gateway(pod)
    number = _pod_port(cluster, pod, port, gateway)
    server_name = server_name or (_first_host(cluster, pod, number) if gateway else "")
    alpn = WEB_ALPN if gateway else ISTIO_ALPN
    address = str(pod.get("status", {}).get("podIP") or "")
    if not address:
        raise InputError(f"{_known_as(pod)} has no address yet.", next_step="Wait until it runs: lab.pods().")
    handshake, way = _read(cluster, pod, address, number, server_name, alpn)
    chain = tuple(describe_chain(one)[0] for one in handshake.chain)
    root = mesh_root(cluster, namespace_of(pod))
    signed = is_signed_by(handshake.certificates, root) if chain and root else None
    command = _command(pod, address, number, server_name, alpn)
    return Presented(_known_as(pod), number, address, server_name, handshake, way, chain, signed, command)


def mesh_root(cluster: Cluster, namespace: str) -> bytes:
    """The root that the mesh's workloads trust, from the ConfigMap that istiod keeps in each namespace; or nothing."""
    found = cluster.find(CONFIGMAP, ROOT_CONFIGMAP, namespace)
    return str(((found or {}).get("data") or {}).get(ROOT_KEY) or "").encode()


def _read(
    cluster: Cluster, pod: Obj, address: str, port: int, server_name: str, alpn: tuple[str, ...]
) -> tuple[Handshake, str]:
    if ipaddress.ip_address(address).is_loopback:
        called = port + SHIFT if port < PRIVILEGED else port
        try:
            connection: Any = connect(address, called)
        except OSError as error:
            failure = f"nobody listens on port {port} ({(error.strerror or str(error)).lower()})"
            return Handshake(failure=failure), "called directly"
        return shake_hands(connection, server_name=server_name, alpn=alpn), "called directly"
    if is_gateway(pod) or not is_injected(pod):
        try:
            with forward(cluster.transport, name_of(pod), namespace_of(pod), port) as connection:
                return shake_hands(connection, server_name=server_name, alpn=alpn), "through a port-forward"
        except ClusterError as error:
            return Handshake(failure=error.what), "through a port-forward"
    return _by_openssl(cluster, pod, address, port, server_name, alpn), f"by openssl in container {PROXY}"


def _by_openssl(
    cluster: Cluster, pod: Obj, address: str, port: int, server_name: str, alpn: tuple[str, ...]
) -> Handshake:
    """The proxy's own container calls the pod's address: its user's connections to itself meet the inbound listener."""
    command = s_client(address, port, server_name, alpn)
    try:
        result = cluster.execute(name_of(pod), namespace_of(pod), command, container=PROXY, limit=15.0)
    except WaitTimeoutError:
        return Handshake(failure="nobody answered the handshake within 15 s")
    if result.exit_code == 127:
        return Handshake(failure=f"container {PROXY} holds no openssl; 'labkit proxy-config secrets' shows what it has")
    return read_s_client(result.stdout + result.stderr)


def s_client(address: str, port: int, server_name: str, alpn: tuple[str, ...]) -> list[str]:
    """The arguments of openssl's client."""
    named = ["-servername", server_name] if server_name else ["-noservername"]
    return ["openssl", "s_client", "-connect", f"{address}:{port}", "-showcerts", *named, "-alpn", ",".join(alpn)]


_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


# What s_client prints of a CertificateRequest. The server's refusal of a client without one comes too late to be relied
# on: s_client may have ended by then.
_OF_A_REQUEST = ("Acceptable client certificate CA names", "Client Certificate Types", "Requested Signature Algorithms")


def read_s_client(text: str) -> Handshake:
    """What `openssl s_client -showcerts` printed."""
    chain = tuple(block.encode() + b"\n" for block in _BLOCK.findall(text.partition("\nServer certificate")[0]))
    if not chain:
        words = ("wrong version number", "unexpected eof", "packet length too long", "http request")
        plain = any(one in text for one in words)
        refused = "nobody listens there" if "Connection refused" in text else ""
        return Handshake(failure=refused or ("it does not answer in TLS" if plain else "no certificate was presented"))
    new = re.search(r"^New, (\S+), Cipher is (\S+)", text, re.MULTILINE)
    alpn = re.search(r"^ALPN protocol: (\S+)", text, re.MULTILINE)
    asked = any(words in text for words in _OF_A_REQUEST)
    return Handshake(chain, new[1] if new else "", new[2] if new else "", alpn[1] if alpn else "", asked)


# -- which port, which name


def _pod_port(cluster: Cluster, pod: Obj, port: int, gateway: bool) -> int:
    workload = workload_from_pod(pod)
    declared = [one["containerPort"] for container in sidecars_first(pod) for one in container.get("ports") or ()]
    if port and port in declared:
        return port
    selecting = [
        service
        for service in cluster.objects(SERVICE, namespace_of(pod))
        if (selector := service["spec"].get("selector")) and matches(selector, labels_of(pod))
    ]
    for service in selecting:
        for one in service["spec"].get("ports") or ():
            if one["port"] == port and (target := target_port(one, workload)):
                return target
    if port:
        return port
    if gateway:
        secure = [one for service in selecting for one in service["spec"].get("ports") or () if one["port"] == 443]
        if secure and (target := target_port(secure[0], workload)):
            return target
    own = [one.number for one in workload.ports if one.protocol == "TCP"]
    if own:
        return own[0]
    raise InputError(f"{_known_as(pod)} declares no port.", next_step="Say which: lab.certificate(workload, 8080).")


def _first_host(cluster: Cluster, pod: Obj, port: int) -> str:
    """A name that the gateway serves over TLS: without one it presents nothing."""
    for gateway in cluster.objects(GATEWAY):
        spec = gateway.get("spec") or {}
        if not matches(spec.get("selector") or {}, labels_of(pod)):
            continue
        for server in spec.get("servers") or ():
            for host in server.get("hosts") or () if server.get("tls") else ():
                name = str(host).rpartition("/")[2]
                if "*" not in name:
                    return name
                if name.startswith("*."):
                    return f"www{name[1:]}"
    return ""


def _command(pod: Obj, address: str, port: int, server_name: str, alpn: tuple[str, ...]) -> str:
    client = " ".join(s_client(address, port, server_name, alpn))
    inside = f"kubectl exec {name_of(pod)} -n {namespace_of(pod)} -c {PROXY} -- " if is_injected(pod) else ""
    return f"{inside}{client} </dev/null"


def _known_as(pod: Obj) -> str:
    return f"{namespace_of(pod)}/{name_of(pod)}"


__all__ = ["Presented", "mesh_root", "read_presented", "read_s_client", "s_client"]
