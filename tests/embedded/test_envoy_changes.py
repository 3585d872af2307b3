"""What happens to traffic while configuration, certificates and processes change."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest

from tests.embedded.envoy_world import Mesh, curl, http_status, talk, wait_for

HTTP, AUTO = 8001, 8000
GET = b"GET / HTTP/1.1\r\nHost: httpbin\r\n\r\n"


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """A server and a client."""
    with Mesh("changes") as mesh:
        mesh.pod("httpbin", ports=(AUTO, HTTP))
        mesh.pod("sleep")
        mesh.service("httpbin", {"port": AUTO, "name": "any"}, {"port": HTTP, "name": "http"})
        for port in (AUTO, HTTP):
            mesh.http_app("httpbin", port)
        mesh.push()
        wait_for("the service", lambda: curl(address_of(mesh), AUTO).status == 200)
        yield mesh


def address_of(mesh: Mesh) -> str:
    return mesh.seen_from("sleep", "httpbin")


def kept(address: str, port: int) -> HTTPConnection:
    """A connection that has served one request and stays open.

    A listener that the world's own set-up replaced a moment ago says "Connection: close" while it
    drains; such an answer belongs to the change before, so another connection is opened.
    """
    connection = HTTPConnection(address, port, timeout=5)

    def answered_and_open() -> bool:
        connection.request("GET", "/")
        connection.getresponse().read()
        return connection.sock is not None

    wait_for("a connection that is kept open", answered_and_open)
    return connection


class Load:
    """Requests in a loop until told to stop; remembers those that were not answered 200."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.answered = 0
        self.failed: list[Any] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            connection = HTTPConnection(self.address, self.port, timeout=5)
            try:
                for _ in range(5):
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    body = response.read()
                    if response.status != 200:
                        self.failed.append((response.status, body[:120]))
                    self.answered += 1
                    time.sleep(0.002)
            except (OSError, HTTPException) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()


@pytest.mark.parametrize("port", [AUTO, HTTP])
def test_no_mtls_request_fails_while_permissive_and_strict_alternate(mesh: Mesh, port: int) -> None:
    with Load(address_of(mesh), port) as load:
        for mode in ("STRICT", "PERMISSIVE") * 15:
            mesh.policy(mode)
            time.sleep(0.02)
    assert load.answered > 20
    assert not load.failed


@pytest.mark.parametrize("port", [AUTO, HTTP])
def test_no_request_fails_while_clients_and_server_turn_to_plaintext_and_back_together(mesh: Mesh, port: int) -> None:
    with Load(address_of(mesh), port) as load:
        for mode in ("DISABLE", "PERMISSIVE") * 5:
            mesh.policy(mode)
            time.sleep(0.05)
    assert load.answered > 20
    assert not load.failed


def test_the_flip_is_felt_by_plaintext_clients(mesh: Mesh) -> None:
    mesh.policy("STRICT")
    wait_for("the refusal", lambda: curl(mesh.ip("httpbin"), HTTP).exit_code == 56)
    mesh.no_policy()
    wait_for("PERMISSIVE", lambda: curl(mesh.ip("httpbin"), HTTP).status == 200)


def test_certificates_are_rotated_without_a_failed_request(mesh: Mesh) -> None:
    def presented() -> int:
        _, certificate = talk(mesh.ip("httpbin"), HTTP, GET, leaf=mesh.leaf(), alpn=("istio-http/1.1",))
        assert certificate
        return certificate.serial_number

    with Load(address_of(mesh), HTTP) as load:
        for _ in range(5):
            before = presented()
            mesh.ahead += timedelta(hours=13)
            mesh.pusher.renew()
            wait_for("the new certificate", lambda before=before: presented() != before)
    assert load.answered
    assert not load.failed


def test_a_new_service_and_a_new_port_disturb_nobody(mesh: Mesh) -> None:
    with Load(address_of(mesh), HTTP) as load:
        for number in range(5):
            mesh.service(f"more-{number}", {"port": 9000 + number, "targetPort": HTTP}, app="httpbin")
            mesh.push()
            time.sleep(0.05)
    assert not load.failed
    more = mesh.seen_from("sleep", "more-4")
    wait_for("the new service", lambda: curl(more, 9004).status == 200)


def test_the_proxy_goes_on_without_a_control_plane_and_through_its_own_restart(mesh: Mesh) -> None:
    """Files outlive who wrote them: a proxy that starts again finds its last configuration."""
    mesh.policy("STRICT")
    wait_for("STRICT", lambda: curl(mesh.ip("httpbin"), HTTP).exit_code == 56)
    sidecar = mesh.sidecars.pop("httpbin")
    sidecar.process.kill()
    sidecar.process.wait()
    mesh.restart_proxy("httpbin")
    assert curl(mesh.ip("httpbin"), HTTP).exit_code == 56
    wait_for("mTLS", lambda: curl(address_of(mesh), HTTP).status == 200)


def test_a_proxy_that_starts_before_it_was_configured_waits_and_then_gets_ready(mesh: Mesh) -> None:
    pod = mesh.pod("late", wait=False, known=False)
    wait_for("envoy", lambda: http_status(mesh.ip("late"), 15090, "/stats/prometheus") == 200)
    assert http_status(mesh.ip("late"), 15021, "/healthz/ready") == 0
    mesh.state.on_pod("ADDED", pod)
    mesh.push()
    mesh.wait_ready("late")


def test_an_update_that_envoy_refuses_leaves_the_old_one_in_force_and_is_counted(mesh: Mesh) -> None:
    path = mesh.delivery.directory(("foo", "httpbin")) / "lds.json"
    good = json.loads(path.read_text())
    bad = {**good, "resources": [{**good["resources"][0], "filter_chains": [{"filters": [{"name": "no.such"}]}]}]}
    mesh.delivery.write(path, bad)
    sidecar = mesh.sidecars["httpbin"]
    wait_for(
        "the rejection",
        lambda: sidecar.counters("lds.update_rejected").get("listener_manager.lds.update_rejected", 0) > 0,
    )
    assert curl(address_of(mesh), HTTP).status == 200
    wait_for("the log", lambda: "no.such" in sidecar.printed())


PROBERS = {
    "/app-health/app/readyz": {
        "httpGet": {"path": "/there?x=1", "port": HTTP, "httpHeaders": [{"name": "X-Probe", "value": "yes"}]}
    },
    "/app-health/app/livez": {"httpGet": {"path": "/broken", "port": HTTP}},
    "/app-health/db/livez": {"tcpSocket": {"port": 5432}},
}


def test_probes_reach_the_application_under_strict(mesh: Mesh) -> None:
    """A probe of a path that is broken, and of a port where nobody listens, fail; the twin of each succeeds."""
    mesh.pod("probed", ports=(HTTP, 5432), probers=PROBERS)
    mesh.http_app("probed", HTTP)
    mesh.policy("STRICT")
    ip = mesh.ip("probed")
    wait_for("STRICT", lambda: curl(ip, HTTP).exit_code == 56)
    ready = curl(ip, 15020, "/app-health/app/readyz")
    assert (ready.status, ready.json["path"], ready.json["headers"]["x-probe"]) == (200, "/there?x=1", "yes")
    assert http_status(ip, 15020, "/app-health/app/livez") == 404
    assert http_status(ip, 15020, "/app-health/db/livez") == 503
    mesh.tcp_app("probed", 5432)
    wait_for("the port to be seen", lambda: http_status(ip, 15020, "/app-health/db/livez") == 200)


def test_an_open_tcp_connection_and_a_slow_request_survive_a_change_of_endpoints(mesh: Mesh) -> None:
    """The Envoy cluster is replaced; what goes through the old one is not cut."""
    tcp = 8002
    mesh.tcp_app("httpbin", tcp)
    mesh.service("stream", {"port": tcp, "name": "tcp"}, app="httpbin")
    mesh.push()
    stream = mesh.seen_from("sleep", "stream")
    wait_for("the service", lambda: talk(stream, tcp, b"hello", tls=False)[0] == b"echo:hello")
    slow = Mesh.in_background(lambda: curl(address_of(mesh), HTTP, "/slow"))
    with socket.create_connection((stream, tcp), timeout=5) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"echo:before"
        seen = mesh.sidecars["sleep"].counters("cds.update_success")
        mesh.pod("second", labels={"app": "httpbin"}, sidecar=False)
        mesh.reendpoint("stream", tcp, "httpbin", "second")
        mesh.reendpoint("httpbin", HTTP, "httpbin", "second", port_name="http")
        wait_for("the new cluster", lambda: mesh.sidecars["sleep"].counters("cds.update_success") != seen)
        connection.sendall(b"after")
        assert connection.recv(100) == b"echo:after"
    assert slow().status == 200


def test_an_excluded_port_takes_plaintext_under_strict_and_its_neighbour_does_not(mesh: Mesh) -> None:
    excluded = {"traffic.sidecar.istio.io/excludeInboundPorts": str(AUTO)}
    mesh.pod("partly", ports=(AUTO, HTTP), annotations=excluded)
    for port in (AUTO, HTTP):
        mesh.http_app("partly", port)
    mesh.policy("STRICT")
    wait_for("STRICT", lambda: curl(mesh.ip("partly"), HTTP).exit_code == 56)
    assert curl(mesh.ip("partly"), AUTO).status == 200


def test_a_connection_from_before_strict_ends_with_the_drain_time(mesh: Mesh) -> None:
    """A keep-alive connection may be served a little longer, and then it is over."""
    connection = kept(mesh.ip("httpbin"), HTTP)
    mesh.policy("STRICT")
    wait_for("STRICT", lambda: curl(mesh.ip("httpbin"), HTTP).exit_code == 56)
    assert connection.sock.recv(1) == b"", "closed by the proxy, while the client waited"
    connection.close()
