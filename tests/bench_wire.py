"""What a capture costs: latency and processor time before, while and after it runs, and how soon it begins and ends.

python -m tests.bench_wire
"""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Callable

import psutil

from labkit.cluster.opening import embedded_lifecycle
from labkit.embedded.addresses import captured_ip
from labkit.lab import Lab
from tests.embedded.proxy_words_world import small_mesh

Row = tuple[str, str, str, int]

NAME = "bench-wire"
REQUESTS = 400


def get(address: str) -> float:
    """Seconds of one request on a connection of its own."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection(address, 5000, timeout=10)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read()
    connection.close()
    return time.perf_counter() - started


def cost(supervisor: psutil.Process, address: str) -> tuple[list[float], float]:
    """Latencies, and the processor time of the cluster's own process for each request, in seconds."""
    before = sum(supervisor.cpu_times()[:2])
    seconds = [get(address) for _ in range(REQUESTS)]
    return seconds, (sum(supervisor.cpu_times()[:2]) - before) / REQUESTS


def measure() -> list[Row]:
    """Rows of `make bench`."""
    with small_mesh(NAME) as lab:
        supervisor = psutil.Process(embedded_lifecycle().status(NAME).pid)
        pods = {app: _address(lab, app) for app in ("server", "client")}
        service = lab.cluster.get("Service", "server", "shop")["spec"]["clusterIP"]
        ways = {
            "mTLS, through the client's sidecar": captured_ip(pods["client"], service),
            "plaintext, a connection each": pods["server"],
        }
        rows = []
        for name, address in ways.items():
            quiet = cost(supervisor, address)
            with lab.capture("shop/server") as wire:
                watched = cost(supervisor, address)
            after = cost(supervisor, address)
            assert len(wire.all_packets()) >= 2 * REQUESTS
            rows.append((f"capture, {name}: before / while / after", _told(quiet, watched, after), "after = before", 1))
        first, again, ends = [], [], []
        for number in range(6):
            started = time.perf_counter()
            wire = lab.capture("shop/server" if number else "legacy/old")
            (again if number else first).append(time.perf_counter() - started)
            ends.append(_timed(wire.stop))
        begins = f"{first[0] * 1000:.0f} ms with its container, then {statistics.median(again) * 1000:.0f} ms"
        rows.append(("capture begins", begins, "1 s", 6))
        rows.append(("capture ends", f"{statistics.median(ends) * 1000:.0f} ms", "1 s", 6))
    return rows


def _told(*costs: tuple[list[float], float]) -> str:
    latency = " / ".join(f"{statistics.median(seconds) * 1000:.2f}" for seconds, _ in costs)
    processor = " / ".join(f"{each * 1000:.2f}" for _, each in costs)
    return f"p50 {latency} ms, CPU of the node {processor} ms a request"


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _address(lab: Lab, app: str) -> str:
    (pod,) = lab.cluster.objects("pods", "shop", labels={"app": app})
    return str(pod["status"]["podIP"])


if __name__ == "__main__":
    for row in measure():
        print(*row, sep="  |  ")
