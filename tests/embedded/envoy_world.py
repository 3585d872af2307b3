"""A small mesh without a cluster: real Envoys, real certificates, real applications; istiod's own pusher in between.

Pods are rows of one block of loopback addresses. Sidecars are started as in a pod, by `pilot-agent proxy sidecar`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509

from labkit.embedded.addresses import captured_ip, inside_ip, listen_port, node_ip, pod_ip
from labkit.embedded.blocks import API_PORT, claim_block
from labkit.embedded.controlplane import agent
from labkit.embedded.controlplane.authority import Certificates
from labkit.embedded.controlplane.delivery import Delivery, Document
from labkit.embedded.controlplane.pushing import Pusher
from labkit.embedded.controlplane.rejections import words_of
from labkit.embedded.controlplane.state import State
from labkit.embedded.controlplane.translation.model import MeshConfig
from labkit.embedded.controlplane.xds import SECRETS, Subscription, XdsServer
from labkit.embedded.envoy import admin_get
from labkit.embedded.paths import ClusterPaths, labkit_home
from labkit.pki import CertificateAuthority, Leaf
from tests.embedded.echoes import EchoHTTP, EchoTCP, QuietServer, in_thread

Object = dict[str, Any]

ISTIO_HTTP = "istio-http/1.1"
ISTIO_TCP = "istio-peer-exchange"


@dataclass
class Sidecar:
    """A running proxy."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    log: Path

    def admin(self, path: str) -> str:
        return admin_get(agent.admin_socket(self.environment), path)[1]

    def config(self, kind: str) -> list[Object]:
        """The dynamic resources of a kind from Envoy's own dump: `listeners` or `clusters`."""
        dump = json.loads(self.admin(f"config_dump?resource=dynamic_{kind}"))
        entries = dump.get("configs", [])
        if kind == "listeners":
            return [entry["active_state"]["listener"] for entry in entries if "active_state" in entry]
        return [entry["cluster"] for entry in entries]

    def listener(self, name: str = "virtualInbound") -> Object:
        return next(each for each in self.config("listeners") if each["name"] == name)

    def cluster(self, port: int, host: str, subset: str = "") -> Object:
        """The cluster for a port of a service, by the service's full name."""
        name = f"outbound|{port}|{subset}|{host}"
        return next(each for each in self.config("active_clusters") if each["name"] == name)

    def counters(self, pattern: str) -> dict[str, int]:
        lines = self.admin(f"stats?filter={pattern}").splitlines()
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines) if value.isdigit()}

    def printed(self) -> str:
        return self.log.read_text()


def written(
    kind: str, spec: Object, *, name: str = "test", namespace: str = "foo", day: int = 1, **annotations: str
) -> Object:
    """An object of Istio's, as it is when somebody applied it on a day of January."""
    metadata: Object = {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-0{day}T00:00:00Z"}
    if annotations:
        metadata["annotations"] = annotations
    return {"kind": kind, "metadata": metadata, "spec": spec}


class Mesh:
    """Pods, services and policies; `push()` brings them to the proxies. Its processes end with its block."""

    def __init__(self, name: str, *, certificate_ttl: timedelta = timedelta(hours=24)) -> None:
        self._paths = paths = ClusterPaths(name).make()
        (paths.state_dir / "block").unlink(missing_ok=True)
        self.block = claim_block(paths)
        # What other clusters look at to see whether a block is taken.
        self._claim = socket.create_server((node_ip(self.block), API_PORT))
        self.directory = Path(tempfile.mkdtemp(prefix="lk"))
        self.authority = CertificateAuthority.self_signed()
        self.state = State(MeshConfig())
        self.delivery = Delivery(self.directory / "hostfs")
        self.delivery.root.mkdir()
        self.certificates = Certificates(self.authority, self.delivery, certificate_ttl)
        self.ahead = timedelta()  # of the real time, for whoever renews certificates
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.rejections: list[tuple[str, str, tuple[Any, ...]]] = []
        self.xds = XdsServer(self.delivery, self._rejected)
        self.socket = self.directory / "p" / "xds.sock"
        self.socket.parent.mkdir(mode=0o700)
        self.run(self.xds.start(self.socket))
        self.pusher = Pusher(
            self.state,
            self.delivery,
            self.certificates,
            clock=lambda: datetime.now(UTC) + self.ahead,
            settled=self.xds.settled,
        )
        self.sidecars: dict[str, Sidecar] = {}
        self._pods: dict[str, Object] = {}
        self._closing: list[Callable[[], None]] = []
        self._columns = iter(range(10, 250))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- objects

    def pod(
        self,
        name: str,
        *,
        namespace: str = "foo",
        sidecar: bool = True,
        ports: tuple[int, ...] = (),
        labels: dict[str, str] | None = None,
        account: str = "",
        probers: Object | None = None,
        env: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        wait: bool = True,
        known: bool = True,
        gateway: bool = False,
    ) -> Object:
        """Add a pod; with a sidecar, start its proxy. One that is not `known` has not been seen by istiod yet."""
        containers: list[Object] = [{"name": "app", "ports": [{"containerPort": port} for port in ports]}]
        labels = {"app": name, **(labels or {})}
        if sidecar:
            if not gateway:  # Istio's templates label sidecars alone: nobody speaks mTLS to a gateway's own ports
                labels.setdefault("security.istio.io/tlsMode", "istio")
            variables = {**(env or {}), **({"ISTIO_KUBE_APP_PROBERS": json.dumps(probers)} if probers else {})}
            listed = [{"name": key, "value": value} for key, value in variables.items()]
            proxy: Object = {"name": "istio-proxy", "env": listed}
            containers = [{**proxy, "args": ["proxy", "router"]}] if gateway else [*containers, proxy]
        row = len(self._pods) + 1
        pod = {
            "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations or {}},
            "spec": {"serviceAccountName": account or name, "containers": containers},
            "status": {"podIP": pod_ip(self.block, row), "phase": "Running"},
        }
        self._pods[name] = pod
        if known:
            self.state.on_pod("ADDED", pod)
        if sidecar:
            self.push()
            self._start_proxy(name, namespace)
        if sidecar and wait:
            self.wait_ready(name)
        return pod

    def server(
        self,
        name: str,
        *,
        http: tuple[int, ...] = (),
        tcp: tuple[int, ...] = (),
        sidecar: bool = True,
        labels: dict[str, str] | None = None,
    ) -> None:
        """Add a pod, an application on each of its ports, and a service of its name with ports named by protocol."""
        self.pod(name, ports=http + tcp, sidecar=sidecar, labels=labels)
        ports = [(port, "http", self.http_app) for port in http] + [(port, "tcp", self.tcp_app) for port in tcp]
        self.service(name, *({"port": port, "name": protocol} for port, protocol, _ in ports))
        for port, _, app in ports:
            app(name, port, sidecar=sidecar)

    def service(self, name: str, *ports: Object, namespace: str = "foo", app: str = "") -> Object:
        """Add a service before all pods labelled `app`, which count as ready."""
        service = {
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "clusterIP": pod_ip(self.block, 0).removesuffix("1") + str(next(self._columns)),
                "selector": {"app": app or name},
                "ports": list(ports),
            },
        }
        self.state.on_service("ADDED", service)
        chosen = [pod for pod in self._pods.values() if pod["metadata"]["labels"]["app"] == (app or name)]
        self._endpoints(name, namespace, ports, chosen)
        return service

    def reendpoint(self, service: str, port: int, *pods: str, port_name: str = "tcp", namespace: str = "foo") -> None:
        """Put other pods behind a port of a service, and push."""
        chosen = [self._pods[pod] for pod in pods]
        self._endpoints(service, namespace, ({"name": port_name, "port": port},), chosen)
        self.push()

    def _endpoints(self, service: str, namespace: str, ports: Sequence[Object], pods: list[Object]) -> None:
        endpoints = [
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": namespace},
            }
            for pod in pods
        ]
        labels = {"kubernetes.io/service-name": service}
        endpoint_slice = {
            "metadata": {"name": f"{service}-1", "namespace": namespace, "labels": labels},
            "ports": [{"name": p.get("name", ""), "port": p.get("targetPort", p["port"])} for p in ports],
            "endpoints": endpoints,
        }
        self.state.on_slice("MODIFIED", endpoint_slice)

    @staticmethod
    def in_background(work: Callable[[], Any]) -> Callable[[], Any]:
        """Start work in a thread; call the result to wait for what it returns."""
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(work()))
        thread.start()

        def result() -> Any:
            thread.join()
            return results[0]

        return result

    def policy(
        self,
        mode: str,
        *,
        namespace: str = "foo",
        name: str = "default",
        app: str = "",
        ports: dict[int, str] | None = None,
    ) -> None:
        """Set a PeerAuthentication and push it."""
        spec: Object = {"mtls": {"mode": mode}}
        if app:
            spec["selector"] = {"matchLabels": {"app": app}}
        if ports:
            spec["portLevelMtls"] = {str(port): {"mode": each} for port, each in ports.items()}
        metadata = {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"}
        self.state.on_policy("ADDED", {"metadata": metadata, "spec": spec})
        self.push()

    def no_policy(self, name: str = "default", namespace: str = "foo") -> None:
        self.state.on_policy("DELETED", {"metadata": {"name": name, "namespace": namespace}})
        self.push()

    def apply(self, kind: str, spec: Object, **metadata: Any) -> None:
        """Apply an object of Istio's, see `written`, and push it."""
        self.state.on_config(kind, "ADDED", written(kind, spec, **metadata))
        self.push()

    def remove(self, *kinds: str) -> None:
        """Take away all objects of these kinds, and push."""
        for kind in kinds:
            for one in self.state.configs(kind):
                meta = getattr(one, "meta", one)
                self.state.on_config(kind, "DELETED", {"metadata": {"name": meta.name, "namespace": meta.namespace}})
        self.push()

    def secret(self, name: str, namespace: str = "foo", *, event: str = "ADDED", **data: bytes) -> None:
        """Set a Secret and push it; in the names of its files `_` stands for a dot."""
        encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
        self.state.on_secret(event, {"metadata": {"name": name, "namespace": namespace}, "data": encoded})
        self.push()

    def push(self) -> None:
        self.run(self.pusher.push(self.state.take_dirt()))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do work where istiod lives, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _rejected(self, subscription: Subscription, document: Document) -> None:
        if subscription.kind == SECRETS and not words_of(self.sidecars[subscription.proxy[1]].printed(), SECRETS):
            subscription.forgive(document)  # another subscription to the same secret began, see `Rejections`
            return
        self.rejections.append((subscription.proxy[1], subscription.kind, document.because))

    def istiod_leaves(self) -> None:
        """From now on nobody answers the proxies."""
        self.run(self.xds.stop())
        self.socket.unlink()

    def istiod_returns(self) -> None:
        """Another istiod, which knows what the first one wrote to disk and nothing else."""
        self.delivery = Delivery(self.delivery.root)
        self.certificates = Certificates(self.authority, self.delivery, self.certificates.ttl)
        self.xds = XdsServer(self.delivery, self._rejected)
        self.pusher = Pusher(self.state, self.delivery, self.certificates, settled=self.xds.settled)
        self.run(self.xds.start(self.socket))
        self.state.dirt.sidecars = set(self.state.sidecars)
        self.push()

    # -- addresses

    def ip(self, pod: str) -> str:
        return str(self._pods[pod]["status"]["podIP"])

    def cluster_ip(self, service: str, namespace: str = "foo") -> str:
        return self.state.snapshot().services[namespace, service].cluster_ip

    def seen_from(self, pod: str, service: str, namespace: str = "foo") -> str:
        """The address at which a pod with a sidecar meets a service."""
        return captured_ip(self.ip(pod), self.cluster_ip(service, namespace))

    def app_ip(self, pod: str, *, sidecar: bool = True) -> str:
        """Where the application of a pod listens: inside, when the pod is redirected."""
        return inside_ip(self.ip(pod)) if sidecar else self.ip(pod)

    # -- processes

    def http_app(self, pod: str, port: int, *, sidecar: bool = True) -> None:
        """An HTTP application of a pod."""
        self._serve(ThreadingHTTPServer((self.app_ip(pod, sidecar=sidecar), listen_port(port)), EchoHTTP))

    def https_app(self, pod: str, port: int, leaf: Leaf, *, sidecar: bool = True) -> None:
        """An application of a pod that speaks TLS of its own, and HTTP in it."""
        context = _shown(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), leaf)
        server = QuietServer((self.app_ip(pod, sidecar=sidecar), listen_port(port)), EchoHTTP)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self._serve(server)

    def _serve(self, server: ThreadingHTTPServer) -> None:
        in_thread(server)
        self._closing += [server.server_close, server.shutdown]

    def tcp_app(self, pod: str, port: int, *, sidecar: bool = True, answers: type[EchoTCP] = EchoTCP) -> None:
        """A TCP application of a pod."""
        self._closing.append(answers(self.app_ip(pod, sidecar=sidecar), listen_port(port)).close)

    def _start_proxy(self, name: str, namespace: str) -> None:
        home = self.directory / name
        run = self.socket.parent / name
        for path in (home / "root", run):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {
            "POD_ROOT": str(home / "root"),
            "POD_RUN": str(run),
            "POD_NAME": name,
            "POD_NAMESPACE": namespace,
            "INSTANCE_IP": self.ip(name),
        }
        log = home / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-S", "-E", agent.__file__, "proxy", "sidecar", "--proxyLogLevel=warning"],
                env={**environment, "LABKIT_HOME": str(labkit_home())},
                stdout=out,
                stderr=out,
            )
        self.sidecars[name] = Sidecar(process, environment, log)

    def restart_proxy(self, name: str, namespace: str = "foo") -> None:
        """Start the proxy of a pod again."""
        self._start_proxy(name, namespace)
        self.wait_ready(name)

    def wait_ready(self, name: str) -> None:
        try:
            wait_for(f"the proxy of {name}", lambda: http_status(self.ip(name), 15021, "/healthz/ready") == 200)
        except AssertionError as error:
            raise AssertionError(f"{error}; its log:\n{self.sidecars[name].printed()}") from error

    def settled(self, pod: str, is_so: Callable[[Object], bool]) -> None:
        """Wait until the pod's Envoy itself says that `virtualInbound` is so."""
        wait_for("the proxy to take the listener", lambda: is_so(self.sidecars[pod].listener()))

    def close(self) -> None:
        died = {name: s.printed()[-3000:] for name, s in self.sidecars.items() if s.process.poll() is not None}
        for sidecar in self.sidecars.values():
            sidecar.process.terminate()
        for sidecar in self.sidecars.values():
            sidecar.process.wait(10)
        for close in reversed(self._closing):
            close()
        self._claim.close()
        self.run(self.xds.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for directory in (self.directory, self._paths.run_dir, self._paths.state_dir):
            shutil.rmtree(directory, ignore_errors=True)
        assert not died, f"proxies ended before the test did: {died}"

    # -- clients

    def leaf(self, account: str = "sleep", namespace: str = "foo", **options: Any) -> Leaf:
        return self.authority.issue(spiffe_id=f"spiffe://cluster.local/ns/{namespace}/sa/{account}", **options)


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until the condition holds, or fail naming what was awaited."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def http_status(address: str, port: int, path: str) -> int:
    """The status of a GET; 0 when nobody answers."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


@dataclass(frozen=True)
class Curled:
    """What curl said."""

    exit_code: int
    status: int
    body: str
    error: str

    @property
    def json(self) -> Object:
        return dict(json.loads(self.body))

    @property
    def caller(self) -> str:
        """The SPIFFE ID that the application was told, from X-Forwarded-Client-Cert."""
        header = self.json["headers"].get("x-forwarded-client-cert", "")
        return next((part[4:] for part in header.split(";") if part.startswith("URI=")), "")


def curl(address: str, port: int, path: str = "/", *options: str) -> Curled:
    """Ask with curl; port as written in a manifest."""
    url = f"http://{address}:{listen_port(port)}{path}"
    done = subprocess.run(
        ["curl", "-q", "-sS", "--max-time", "5", "-w", "\n%{http_code}", *options, url], capture_output=True, text=True
    )
    body, _, status = done.stdout.rpartition("\n")
    return Curled(done.returncode, int(status or 0), body, done.stderr.strip())


def talk(
    address: str,
    port: int,
    sent: bytes,
    *,
    leaf: Leaf | None = None,
    alpn: tuple[str, ...] = (),
    tls: bool = True,
    sni: str | None = None,
    until: bytes = b"",
) -> tuple[bytes, x509.Certificate | None]:
    """Send bytes in plaintext or over TLS; what came back, and the certificate that the server presented. With `until`
    these bytes end what is waited for; without, whatever comes first.

    b"" stands for a connection that was refused in whatever way: reset, closed, or an alert.
    """
    try:
        with socket.create_connection((address, listen_port(port)), timeout=5) as plain:
            if not tls:
                plain.sendall(sent)
                return plain.recv(65536), None
            with _context(leaf, alpn).wrap_socket(plain, server_hostname=sni) as connection:
                der = connection.getpeercert(binary_form=True)
                certificate = x509.load_der_x509_certificate(der) if der else None
                connection.sendall(sent)
                # In TLS 1.3 a server refuses a client's certificate after the client's handshake is done.
                answer = connection.recv(65536)
                while until not in answer and (more := connection.recv(65536)):
                    answer += more
                return answer, certificate
    except OSError:
        return b"", None


def _context(leaf: Leaf | None, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return _shown(context, leaf) if leaf else context


def _shown(context: ssl.SSLContext, leaf: Leaf) -> ssl.SSLContext:
    """The context, with a certificate to show."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(leaf.chain_pem + leaf.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context
