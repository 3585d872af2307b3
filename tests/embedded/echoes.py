"""Applications of tests: servers that say what they were asked, and by whom."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class EchoHTTP(BaseHTTPRequestHandler):
    """Answers with the request's headers and path, and where it came from."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(1)  # a request that takes its time, so that something can happen meanwhile
        headers = {name.lower(): value for name, value in self.headers.items()}
        told = {"path": self.path, "headers": headers, "from": self.client_address[0]}
        body = json.dumps({**told, "port": self.connection.getsockname()[1]}).encode()
        self.send_response(404 if self.path == "/broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # bytes that were no HTTP
            super().handle()


class QuietServer(ThreadingHTTPServer):
    """One that does not print the handshakes that clients break off."""

    def handle_error(self, *_: object) -> None:
        pass


def in_thread(server: ThreadingHTTPServer) -> None:
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()


@contextlib.contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[int]:
    """A server in a thread, while the block lasts; its port."""
    in_thread(server)
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class EchoTCP(threading.Thread):
    """Sends back what it gets, after a greeting of its own name."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server((address, port))
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self.answer(connection)

    def answer(self, connection: socket.socket) -> None:
        while data := connection.recv(65536):
            connection.sendall(b"echo:" + data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
