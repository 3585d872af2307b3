"""Counts its visitors, and serves the count as a metric on a port of its own, as many programs do.

$PORT (8080) has the page, $METRICS_PORT (9102) has /metrics, in plain HTTP: whoever scrapes it from outside the mesh
meets the sidecar on that port, too.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from typing import ClassVar

from labkit.apps.sentences import healthz
from labkit.apps.webapp import WebHandler, WebServer, serve

METRICS_PORT = 9102


class Visits(WebHandler):
    """GET / -> "You are visitor 17."."""

    application = "visits"
    numbers: ClassVar[Iterator[int]] = itertools.count(1)
    seen: ClassVar[int] = 0

    def visit(self) -> tuple[str, bytes]:
        Visits.seen = next(self.numbers)
        return "text/plain; charset=utf-8", f"You are visitor {Visits.seen}.\n".encode()

    routes = {("GET", "/"): visit, ("GET", "/healthz"): healthz}  # noqa: RUF012


class Metrics(WebHandler):
    """GET /metrics -> the count, in the text format of Prometheus."""

    application = "visits"

    def metrics(self) -> tuple[str, bytes]:
        text = "# HELP visits_total Visitors since the program started.\n# TYPE visits_total counter\n"
        return "text/plain; version=0.0.4; charset=utf-8", f"{text}visits_total {Visits.seen}\n".encode()

    routes = {("GET", "/metrics"): metrics, ("GET", "/healthz"): healthz}  # noqa: RUF012


def serve_metrics() -> None:
    """The second port, beside the first."""
    address = (os.environ.get("HOST", "0.0.0.0"), int(os.environ.get("METRICS_PORT", METRICS_PORT)))
    server = WebServer(address, Metrics)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 3600}, daemon=True).start()


if __name__ == "__main__":
    serve_metrics()
    serve(Visits, default_port=8080)
