"""Watching an API server that is slow to answer, or not there."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.cluster.transport import Transport
from labkit.errors import ClusterError


def transport(directory: Path, port: int, scheme: str = "http") -> Transport:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"{scheme}://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(config))
    return Transport(path, None, known_as="c")


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for one in taken:
            one.close()


def test_a_watch_whose_time_is_over_before_it_began_has_no_events(tmp_path: Path, silent: int) -> None:
    until = time.monotonic() + 0.1
    assert list(transport(tmp_path, silent).lines("/api/v1/pods", {"watch": "1"}, until=until)) == []


def test_a_server_that_is_not_there_is_an_error_while_there_is_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClusterError, match="does not answer"):
        list(transport(tmp_path, port).lines("/api/v1/pods", {"watch": "1"}, until=time.monotonic() + 5))


def speaking(tmp_path: Path, *answers: bytes, secure: bool) -> Transport:
    """A server of its own for each test: it answers each connection with bytes and closes it."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with server:
            for one in answers:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(one)

    threading.Thread(target=answer, daemon=True).start()
    return transport(tmp_path, server.getsockname()[1], "https" if secure else "http")


def test_an_answer_that_breaks_off_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with pytest.raises(ClusterError, match="broke off its answer") as caught:
        speaking(tmp_path, half, half, secure=False).request("GET", "/version", action="Asking")
    assert "IncompleteRead" not in caught.value.what and "Try again" in caught.value.next_step
    whole = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"a": "b"}'
    assert speaking(tmp_path, whole, secure=False).request("GET", "/version", action="Asking").obj == {"a": "b"}


def test_a_server_that_speaks_no_tls_is_not_trusted(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="TLS with the cluster 'c'") as caught:
        speaking(tmp_path, b"HTTP/1.1 400 Bad Request\r\n\r\n", secure=True).request("GET", "/x", action="Asking")
    assert "Traceback" not in str(caught.value) and "fresh kubeconfig" in caught.value.next_step


def test_a_reply_is_handed_on_whatever_its_status(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 422 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhy?\n")

        threading.Thread(target=answer, daemon=True).start()
        found = transport(tmp_path, server.getsockname()[1]).reply("/x", {"query": "1+1"})
    assert found == (422, "why?\n")
