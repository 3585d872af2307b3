"""Says what it was asked: method, path, headers and body, and who asked, on any path."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from labkit.apps.sentences import healthz
from labkit.apps.webapp import WebHandler, serve


class EchoServer(WebHandler):
    """Every method on every path -> the request as text."""

    application = "echoserver"

    def echo(self) -> tuple[str, bytes]:
        body = self._read_body() if self.headers.get("Content-Length") else b""
        lines = [
            f"Hostname: {os.environ.get('HOSTNAME', 'unknown')}",
            "",
            "Request:",
            f"    client address: {self.client_address[0]}",
            f"    method: {self.command}",
            f"    path: {self.path}",
            "",
            "Headers:",
            *(f"    {name.lower()}: {value}" for name, value in sorted(self.headers.items())),
            "",
            "Body:",
            f"    {body.decode('utf-8', 'replace') or '(none)'}",
            "",
        ]
        return "text/plain; charset=utf-8", "\n".join(lines).encode()

    def _route(self) -> Callable[[Any], tuple[str, bytes]]:
        return healthz if self.path == "/healthz" else EchoServer.echo


if __name__ == "__main__":
    serve(EchoServer, default_port=8080)
