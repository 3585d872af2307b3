"""The dashboards of the mesh: `lab.dashboards.mesh()` and its like."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from labkit.cluster import Cluster
from labkit.cluster.kinds import SERVICE_ENTRY
from labkit.errors import InputError, MeshError
from labkit.observe import metrics
from labkit.observe.metrics import Scrape
from labkit.observe.objects import find_workload, name_of, namespace_of
from labkit.observe.prometheus import find_prometheus
from labkit.observe.references import find_service

if TYPE_CHECKING:
    from labkit.views.plots import DashboardView


_PASSED_ON = ("PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster", "unknown")
"""What stands for a service in metrics where there is none: https://istio.io/latest/docs/reference/config/metrics/."""


class Dashboards:
    """What Istio's five Grafana dashboards answer, as pictures.

    .mesh()  .service("shop/store")  .workload("shop/store")  .control_plane()  .wasm()

    Answered by the cluster's Prometheus over the last `minutes`, if there is one; else by our own readings of all
    proxies, one a second for `seconds`. `by="proxies"` or `by="prometheus"` (or "namespace/service:port") says which.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def mesh(self, *, by: str = "", minutes: float = 10, seconds: float = 10) -> DashboardView:
        """Requests, how they were protected, failures, durations, TCP: of all workloads."""
        return self._ask("mesh", (), by, minutes, seconds)

    def service(self, name: str, *, by: str = "", minutes: float = 10, seconds: float = 10) -> DashboardView:
        """One Service, `namespace/name`."""
        return self._ask("service", (name,), by, minutes, seconds)

    def workload(self, name: str, *, by: str = "", minutes: float = 10, seconds: float = 10) -> DashboardView:
        """One workload, `namespace/name`: what comes in, what it sends."""
        return self._ask("workload", (name,), by, minutes, seconds)

    def control_plane(self, *, by: str = "", minutes: float = 10, seconds: float = 10) -> DashboardView:
        """istiod: what it sends, how long until proxies run it, webhooks, certificates, memory."""
        return self._ask("control-plane", (), by, minutes, seconds)

    def wasm(self, *, by: str = "", minutes: float = 10, seconds: float = 10) -> DashboardView:
        """Wasm extensions: virtual machines, where modules come from."""
        return self._ask("wasm", (), by, minutes, seconds)

    def _ask(self, kind: str, about: tuple[str, ...], by: str, minutes: float, seconds: float) -> DashboardView:
        from labkit.views.asking import by_prometheus, by_readings
        from labkit.views.dashboards import DASHBOARDS, PATTERNS

        missing: InputError | None = None
        try:
            about = tuple(self._full_name(kind, one) for one in about)
        except InputError as error:
            missing = error
        if missing and (by == "proxies" or not all("/" in one for one in about)):
            raise missing
        dashboard = DASHBOARDS[kind](*about)
        if by != "proxies":
            try:
                server = find_prometheus(self._cluster, "" if by == "prometheus" else by)
                found = by_prometheus(dashboard, server, minutes, server.window())
                if missing and not any(len(frame) for frame in found.frames.values()):
                    raise missing  # of what is gone Prometheus may still tell
                return found
            except MeshError:
                if by:
                    raise
        if missing:
            raise missing
        pattern = PATTERNS[kind]

        def read() -> Scrape:
            return metrics.scrape(self._cluster, pattern=pattern) if pattern else metrics.scrape_istiod(self._cluster)

        return by_readings(dashboard, _readings(read, seconds), time.time() - time.monotonic())

    def _full_name(self, kind: str, name: str) -> str:
        """`namespace/name` of a workload, a Service or a host of a ServiceEntry; raises InputError for none of them."""
        if kind == "workload":
            return str(find_workload(self._cluster, name))
        try:
            service = find_service(self._cluster, name)
        except InputError:
            host = name.partition("/")[2]
            entries = self._cluster.objects(SERVICE_ENTRY) if host else ()
            if host in _PASSED_ON or any(host in ((one.get("spec") or {}).get("hosts") or ()) for one in entries):
                return name
            raise
        return f"{namespace_of(service)}/{name_of(service)}"


def _readings(read: Callable[[], Scrape], seconds: float) -> list[Scrape]:
    """One reading a second, and one at the beginning."""
    if not 1 <= seconds <= 600:
        raise InputError(f"{seconds!r} is no time to watch for.", next_step="Give seconds between 1 and 600.")
    begin, readings = time.monotonic(), [read()]
    for number in range(1, round(seconds) + 1):
        time.sleep(max(begin + number - time.monotonic(), 0))  # the time is what is asked for
        readings.append(read())
    return readings
