"""Pods that speak everything to each other: real Envoys, real applications, and what came of each call.

How a call was carried is told by the client's own Envoy (handshakes and connections of the cluster that took it) and,
where HTTP is read, by the header that the server's Envoy adds. The policies are not asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import random
import socket
import ssl
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from labkit.embedded.addresses import captured_ip, listen_port
from labkit.embedded.controlplane.translation.model import MeshConfig
from labkit.outcomes import Outcome, RequestKind
from labkit.policy.declared import DeclaredMesh, MeshSettings
from labkit.policy.declared.groups import Group
from labkit.policy.declared.registry import Target
from tests.embedded.envoy_world import Mesh

Object = dict[str, Any]

HTTP, TCP, TLS = RequestKind.HTTP, RequestKind.TCP, RequestKind.TLS

PORTS: dict[int, tuple[str, RequestKind]] = {
    8001: ("http", HTTP),
    8002: ("tcp", TCP),
    8003: ("any-web", HTTP),
    8004: ("https", TLS),
    8005: ("any-bytes", TCP),
    8006: ("tcp-web", HTTP),
    8007: ("any-tls", TLS),
    8008: ("http-tls", TLS),
    8009: ("http-excluded", HTTP),
}
"""The ports of every pod: how the Service names them, and what the application behind speaks."""

PODS = (
    ("foo", "alpha", True, "front"),
    ("foo", "beta", True, "back"),
    ("foo", "naked", False, "back"),
    ("bar", "gamma", True, "back"),
    ("bar", "bare", False, "front"),
    ("bar", "liar", False, "back"),
)
LIAR = "liar"
"""Has no sidecar, and the label of one that has."""
EXCLUDED = 8009

ServicePort = tuple[int, str, int]
"""Port, name, container port."""

MORE_SERVICES: tuple[tuple[str, str, dict[str, str], tuple[ServicePort, ...]], ...] = (
    ("foo", "far", {"app": "alpha"}, ((9001, "http", 8001), (9002, "tcp", 8002))),
    (
        "foo",
        "zz-late",
        {"app": "alpha"},
        ((8001, "tcp-late", 8001), (8006, "http-late", 8006), (8003, "http-later", 8003)),
    ),
    ("foo", "aa-early", {"app": "beta"}, ((8001, "tcp-early", 8001), (8006, "http-early", 8006))),
    ("foo", "both", {"group": "both"}, ((8001, "http", 8001), (8002, "tcp", 8002), (8003, "", 8003))),
)
"""Services beside: other ports, other words for a port that another Service has, pods with and without a sidecar."""
BYTES = b"\x00\x01 no HTTP\n"
"""What could be the beginning of an HTTP request is not passed on before its line has ended."""

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_ONE = {
    _OPTIONS: {
        "@type": f"type.googleapis.com/{_OPTIONS}",
        "common_http_protocol_options": {"max_requests_per_connection": 1},
    }
}

# Each request on a connection of its own: one that is kept would still follow the rules under which it was made.
ONE_REQUEST_EACH: Object = {
    "metadata": {"name": "one-request-each", "namespace": "istio-system"},
    "spec": {
        "configPatches": [
            {
                "applyTo": "CLUSTER",
                "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"portNumber": port}},
                "patch": {"operation": "MERGE", "value": {"typed_extension_protocol_options": _ONE}},
            }
            for port in (*PORTS, 9001)
        ]
    },
}


@dataclass(frozen=True)
class Seen:
    """What came of one call: an answer of the application or not, and how the client saw it fail."""

    answered: bool
    status: int = 0
    caller: str = ""
    """The SPIFFE ID that the application was told."""
    error: str = ""


Address = tuple[str, int]


class NodeProxy:
    """Passes connections to Services' own addresses on, byte by byte: what a node does for whom no sidecar serves."""

    def __init__(self, ways: Iterable[tuple[Address, list[Address]]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers = [self._run(self._open(*way)) for way in ways]

    def close(self) -> None:
        for server in self._servers:
            self._loop.call_soon_threadsafe(server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self, here: Address, there: list[Address]) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                to_reader, to_writer = await asyncio.open_connection(*random.choice(there))
            except OSError:
                writer.close()
                return
            await asyncio.gather(_pipe(reader, to_writer), _pipe(to_reader, writer))

        return await asyncio.start_server(serve, *here)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class RealityWorld:
    """The pods of PODS, each with all PORTS behind a Service of its name."""

    def __init__(self) -> None:
        self.mesh = mesh = Mesh("reality")
        leaf = mesh.leaf("app", "foo", dns_names=("app",))
        stale = {"security.istio.io/tlsMode": "istio"}
        self.pods: dict[str, Object] = {}
        self.services: dict[tuple[str, str], Object] = {}
        for namespace, name, injected, tier in PODS:
            self.pods[f"{namespace}/{name}"] = mesh.pod(
                name,
                namespace=namespace,
                sidecar=injected,
                ports=tuple(PORTS),
                labels={
                    "tier": tier,
                    **(stale if name == LIAR else {}),
                    **({"group": "both"} if name in ("alpha", "naked") else {}),
                },
                annotations={"traffic.sidecar.istio.io/excludeInboundPorts": str(EXCLUDED)} if name == "beta" else {},
                wait=False,
            )
        for namespace, name, injected, _ in PODS:
            if injected:
                mesh.wait_ready(name)
            for port, (_, kind) in PORTS.items():
                if kind is TLS:
                    mesh.https_app(name, port, leaf, sidecar=injected)
                elif kind is TCP:
                    mesh.tcp_app(name, port, sidecar=injected)
                else:
                    mesh.http_app(name, port, sidecar=injected)
            self._service(
                namespace, name, {"app": name}, tuple((port, said, port) for port, (said, _) in PORTS.items())
            )
        for more in MORE_SERVICES:
            self._service(*more)
        mesh.state.on_config("EnvoyFilter", "ADDED", ONE_REQUEST_EACH)
        self._node = NodeProxy(
            (
                (service["spec"]["clusterIP"], listen_port(port["port"])),
                [(mesh.ip(pod), listen_port(port["targetPort"])) for pod in self._behind(service)],
            )
            for service in self.services.values()
            for port in service["spec"]["ports"]
        )
        self._applied: list[Object] = []
        self.settle()
        self._pool = ThreadPoolExecutor(8)

    def _service(self, namespace: str, name: str, selector: dict[str, str], ports: tuple[ServicePort, ...]) -> None:
        """A Service and its endpoints."""
        listed = [{"name": said, "port": port, "targetPort": target} for port, said, target in ports]
        service = self.mesh.service(name, *listed, namespace=namespace)
        service["spec"]["selector"] = selector
        self.mesh.state.on_service("MODIFIED", service)
        self.services[namespace, name] = service
        endpoints = [
            {
                "addresses": [self.mesh.ip(pod)],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace},
            }
            for pod in self._behind(service)
        ]
        labels = {"kubernetes.io/service-name": name}
        found = [{"name": said, "port": target} for _, said, target in ports]
        metadata = {"name": f"{name}-1", "namespace": namespace, "labels": labels}
        self.mesh.state.on_slice("MODIFIED", {"metadata": metadata, "ports": found, "endpoints": endpoints})

    def _behind(self, service: Object) -> list[str]:
        """The pods that a Service selects."""
        wanted, namespace = service["spec"]["selector"].items(), service["metadata"]["namespace"]
        pods = (pod["metadata"] for pod in self.pods.values())
        return [one["name"] for one in pods if one["namespace"] == namespace and wanted <= one["labels"].items()]

    def close(self) -> None:
        self._pool.shutdown()
        self._node.close()
        self.mesh.close()

    # -- policies

    def apply(
        self, objects: list[Object], *, auto_mtls: bool = True, exports: Mapping[tuple[str, str], str] | None = None
    ) -> DeclaredMesh:
        """Put these in the place of those before, wait until all proxies run them, and say what they declare."""
        state = self.mesh.state
        for one in self._applied:
            state.on_config(one["kind"], "DELETED", one)
        for one in objects:
            state.on_config(one["kind"], "ADDED", one)
        self._applied = objects
        for key, service in self.services.items():
            said = {"networking.istio.io/exportTo": exports[key]} if exports and key in exports else {}
            self.services[key] = service = {**service, "metadata": {**service["metadata"], "annotations": said}}
            state.on_service("MODIFIED", service)
        state.on_mesh(MeshConfig(auto_mtls=auto_mtls))
        self.settle()
        assert not self.mesh.rejections, self.mesh.rejections
        known: list[Object] = [{**one, "kind": "Pod"} for one in self.pods.values()]
        known += [{**one, "kind": "Service"} for one in self.services.values()]
        return DeclaredMesh([*known, *objects], MeshSettings(auto_mtls=auto_mtls))

    def settle(self) -> None:
        mesh = self.mesh
        mesh.push()
        paths = [one.path for key in mesh.state.sidecars for one in mesh.xds.subscriptions(key)]
        assert mesh.run(mesh.xds.settled(paths, 10)), "not all proxies run the newest configuration"

    # -- traffic

    def counters(self) -> Counters:
        """Connections and handshakes of every outbound cluster, by client."""
        return {
            name: sidecar.counters("cluster.outbound.*(ssl.handshake|upstream_cx_total)$")
            for name, sidecar in self.mesh.sidecars.items()
        }

    def call_all(self, edges: list[tuple[Group, Target]]) -> list[Seen]:
        """The outcome of one call on each edge."""
        return list(self._pool.map(lambda edge: self.call(*edge), edges))

    def call(self, client: Group, target: Target) -> Seen:
        """One call, of what the application behind the port speaks."""
        kind, pod = spoken(target), self.mesh.ip(client.workload.name)
        port = target.port
        if target.by_address:
            address = target.host
        elif client.injected:
            address = captured_ip(pod, self.services[target.namespace, target.name]["spec"]["clusterIP"])
        else:  # what kube-proxy does, without the change of the source address
            group, port = random.choice(target.endpoints)
            address = self.mesh.ip(group.workload.name)
        try:
            with socket.create_connection((address, listen_port(port)), 5, source_address=(pod, 0)) as raw:
                return _speak(raw, kind, f"{target.name}.{target.namespace}")
        except (OSError, http.client.HTTPException) as error:
            return Seen(False, error=repr(error))


def _speak(raw: socket.socket, kind: RequestKind, host: str) -> Seen:
    if kind is TCP:
        raw.sendall(BYTES)
        got = raw.recv(100)
        return Seen(got == b"echo:" + BYTES, error="" if got else "closed")
    if kind is TLS:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(raw, server_hostname=host) as closed:
            return _ask(closed, host)
    return _ask(raw, host)


def _ask(raw: socket.socket, host: str) -> Seen:
    connection = http.client.HTTPConnection(host)
    connection.sock = raw
    connection.request("GET", "/", headers={"Connection": "close"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        return Seen(False, answer.status, error=body[:100].decode(errors="replace"))
    header = json.loads(body)["headers"].get("x-forwarded-client-cert", "")
    caller = next((part[4:] for part in header.split(";") if part.startswith("URI=")), "")
    return Seen(True, 200, caller)


Counters = dict[str, dict[str, int]]
"""By client, what its Envoy counted."""


def carried(before: Counters, after: Counters, client: Group, target: Target | None) -> tuple[int, int]:
    """(connections, handshakes) that a client's Envoy made since, to a port of a host, or to anybody."""
    was, becomes = (one.get(client.workload.name, {}) for one in (before, after))
    prefix = f"cluster.outbound|{target.port}||{target.host}." if target else ""
    grown = {name: value - was.get(name, 0) for name, value in becomes.items() if name.startswith(prefix)}
    connections = sum(value for name, value in grown.items() if name.endswith("upstream_cx_total"))
    return connections, sum(value for name, value in grown.items() if name.endswith("handshake"))


def seen_outcome(seen: Seen, kind: RequestKind, client: Group, connections: int, handshakes: int) -> Outcome:
    """How a call was carried, from what was seen of it."""
    if not seen.answered:
        return Outcome.REFUSED
    if client.injected and connections and handshakes:
        return Outcome.MTLS
    return Outcome.TLS if kind is TLS else Outcome.PLAINTEXT


def spoken(target: Target) -> RequestKind:
    """What the application behind a target speaks."""
    return PORTS[target.endpoints[0][1]][1]


def edges_of(mesh: DeclaredMesh) -> Iterator[tuple[Group, Target]]:
    """All pairs of pods, over all ports of all Services; and two ports of each pod by its own address."""
    for target in mesh.servers:
        for client in mesh.clients:
            if client not in [group for group, _ in target.endpoints]:
                yield client, target
    for server in mesh.clients:
        for port in (8001, 8002):
            target = mesh.registry.target(server.workload.address, port)
            for client in mesh.clients:
                if client is not server:
                    yield client, target
