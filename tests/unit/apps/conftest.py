"""Real processes and real HTTP: each application is started as the node starts it, on a port of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

APPS = Path(__file__).parents[3] / "labkit" / "apps"


class App:
    """A running application; `log()` is what it printed so far."""

    def __init__(self, program: str, log_path: Path, env: dict[str, str], *args: str) -> None:
        self.port = free_port()
        self._log_path = log_path
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AZURE_")}
        settings = clean | {"HOST": "127.0.0.1", "PORT": str(self.port)} | env
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, APPS / program, *args], env=settings, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/chat"

    def log(self) -> str:
        return self._log_path.read_text()

    def wait_until_listening(self) -> App:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            threading.Event().wait(0.005)
        raise AssertionError(f"not listening: {self.log()}")

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, Any]:
        """(status, content type, body; parsed when it is JSON)."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            raw, kind = response.read(), response.getheader("Content-Type", "")
            return response.status, kind, json.loads(raw) if kind == "application/json" and raw else raw.decode()
        finally:
            connection.close()

    def headers(self, path: str, **headers: str) -> Any:
        """The headers of the answer to a GET."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().headers
        finally:
            connection.close()

    def chat(self, message: str) -> tuple[int, Any]:
        status, _, answer = self.request("POST", "/chat", json.dumps({"message": message}).encode())
        return status, answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def start_app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    started: list[App] = []

    def start(program: str, *args: str, **env: str) -> App:
        app = App(program, tmp_path / f"{len(started)}-{program}.log", env, *args)
        started.append(app)
        return app.wait_until_listening()

    yield start
    for app in started:
        app.process.kill()
        app.process.wait()


class ModelEndpoint:
    """An OpenAI-compatible endpoint that records what it is asked and answers as the test says."""

    def __init__(self, status: int, answer: bytes, headers: dict[str, str]) -> None:
        self.requests: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.requests.append({"path": self.path, "headers": dict(self.headers), "body": json.loads(body)})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def model_endpoint() -> Iterator[Callable[..., ModelEndpoint]]:
    endpoints: list[ModelEndpoint] = []

    def start(status: int = 200, answer: object = None, **headers: str) -> ModelEndpoint:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        endpoints.append(ModelEndpoint(status, body, headers))
        return endpoints[-1]

    yield start
    for endpoint in endpoints:
        endpoint.close()
