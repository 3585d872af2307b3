"""What the proxies observed: metrics in frames, rates, who talks in plaintext."""

from __future__ import annotations

import time
from dataclasses import astuple
from typing import TYPE_CHECKING

from labkit.cluster import Cluster
from labkit.cluster.kinds import NAMESPACE
from labkit.errors import InputError, MeshError
from labkit.lab.dashboards import Dashboards
from labkit.observe import callers, mesh, metrics, refusals
from labkit.observe.metrics import Scrape
from labkit.observe.prometheus import find_prometheus
from labkit.outcomes import Observation
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.views.results import Done

if TYPE_CHECKING:
    from labkit.views.metrics import Metrics
    from labkit.views.prometheus import Prometheus
    from labkit.views.refusals import RefusalsView
    from labkit.views.tables import Table


class Observed:
    """What Lab can tell of the traffic that the proxies counted.

    lab.metrics(*namespaces)                 what all proxies counted since they were started: .requests .connections
                                             .by("connection_security_policy") .success() .latency() .plaintext()
    lab.rates(seconds=5)                     the same within the next seconds, with rates; or: after - before
    lab.refusals(*namespaces)                connections that proxies did not take, and who says so: .frame .count()
    lab.plaintext_callers(*namespaces)       who called in plaintext, named by the addresses in access logs
    lab.install_prometheus()                 a Prometheus beside istiod (lab.uninstall_prometheus() removes it)
    lab.prometheus()                         the cluster's Prometheus: .query(promql) .range(promql, minutes=10)
                                             .targets(); lab.prometheus("monitoring/prometheus:9090") names one
    lab.dashboards.mesh()                    pictures: .mesh() .service("shop/store") .workload("shop/store")
                                             .control_plane() .wasm(); by Prometheus, or by readings of our own
    """

    cluster: Cluster
    tried: list[Observation]

    @property
    def dashboards(self) -> Dashboards:
        """What Istio's Grafana dashboards answer, as pictures: `.mesh()`, `.service("shop/store")` ..."""
        return Dashboards(self.cluster)

    def metrics(self, *namespaces: str, durations: bool = False) -> Metrics:
        """What the proxies of some namespaces, or all, counted since they were started.

        `durations`: read with it how long requests took, so that two readings can be compared in that, too.
        """
        from labkit.views.metrics import Metrics

        for name in namespaces:
            self.cluster.get(NAMESPACE, name)

        def read(pattern: str) -> Scrape:
            return metrics.scrape(self.cluster, namespaces, pattern=pattern)

        if durations:
            return Metrics.of(read(f"{metrics.TRAFFIC}|{metrics.DURATIONS}"))
        return Metrics.of(read(metrics.TRAFFIC), lambda: read(metrics.DURATIONS))

    def rates(self, *namespaces: str, seconds: float = 5.0) -> Metrics:
        """What they count within the next seconds."""
        if not 0 < seconds <= 600:
            raise InputError(
                f"{seconds!r} is no time to watch for.",
                next_step="Give seconds between 0 and 600: lab.rates(seconds=5).",
            )
        before = self.metrics(*namespaces, durations=True)
        time.sleep(seconds)  # the time is what is asked for
        return self.metrics(*namespaces, durations=True) - before

    def refusals(self, *namespaces: str) -> RefusalsView:
        """Connections that proxies did not take: from their statistics, access logs, clients, and our own probes."""
        from labkit.views.refusals import RefusalsView

        for name in namespaces:
            self.cluster.get(NAMESPACE, name)
        return RefusalsView(refusals.look(self.cluster, namespaces, self.tried))

    def plaintext_callers(self, *namespaces: str) -> Table:
        """Who called in plaintext, by the addresses in the access logs of the servers' proxies, most requests first.

        Metrics call them `unknown`; nothing is seen where access logs are off.
        """
        from labkit.views.tables import make_table

        for name in namespaces:
            self.cluster.get(NAMESPACE, name)
        columns = ("client", "server", "port", "requests", "last_seen")
        return make_table(columns, [astuple(one) for one in callers.look(self.cluster, namespaces)])

    def prometheus(self, where: str = "") -> Prometheus:
        """The Prometheus of this cluster, found or named (`namespace/service:port`)."""
        from labkit.views.prometheus import Prometheus

        return Prometheus(find_prometheus(self.cluster, where))

    def install_prometheus(self) -> Done:
        """Start a Prometheus beside istiod, with the jobs of Istio's add-on, and wait until it is ready."""
        from labkit.installers.prometheus import MANIFEST, install_prometheus

        started, namespace = time.monotonic(), self._mesh_namespace()
        if self.cluster.find(NAMESPACE, namespace) is None:
            raise MeshError(
                "No mesh is installed on this cluster.",
                meaning="Prometheus is put beside istiod, and scrapes what the proxies count.",
                next_step="Install one: lab.install_mesh().",
            )
        lines = tuple(map(str, install_prometheus(self.cluster, namespace=namespace)))
        line = f"kubectl apply -f {MANIFEST}"
        return Done(f"Installed Prometheus in {namespace}", lines, (line,), (), time.monotonic() - started)

    def uninstall_prometheus(self) -> Done:
        """Remove it, and what it has stored."""
        from labkit.installers.prometheus import MANIFEST, uninstall_prometheus

        started, namespace = time.monotonic(), self._mesh_namespace()
        lines = tuple(map(str, uninstall_prometheus(self.cluster, namespace=namespace)))
        line = f"kubectl delete -f {MANIFEST}"
        return Done(f"Removed Prometheus from {namespace}", lines, (line,), (), time.monotonic() - started)

    def _mesh_namespace(self) -> str:
        return mesh.mesh_status(self.cluster).namespace or ROOT_NAMESPACE
