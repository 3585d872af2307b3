"""What the proxies observed: metrics in frames, rates, who talks in plaintext."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labkit.cluster import Cluster
from labkit.cluster.kinds import NAMESPACE
from labkit.errors import InputError
from labkit.observe import metrics, refusals
from labkit.outcomes import Observation

if TYPE_CHECKING:
    from labkit.views.metrics import Metrics
    from labkit.views.refusals import RefusalsView


class Observed:
    """What Lab can tell of the traffic that the proxies counted.

    lab.metrics(*namespaces)                 what all proxies counted since they were started: .requests .connections
                                             .by("connection_security_policy") .success() .latency() .plaintext()
    lab.rates(seconds=5)                     the same within the next seconds, with rates; or: after - before
    lab.refusals(*namespaces)                connections that proxies did not take, and who says so: .frame .count()
    """

    cluster: Cluster
    tried: list[Observation]

    def metrics(self, *namespaces: str) -> Metrics:
        """What the proxies of some namespaces, or all, counted since they were started."""
        from labkit.views.metrics import Metrics

        for name in namespaces:
            self.cluster.get(NAMESPACE, name)
        return Metrics.of(metrics.scrape(self.cluster, namespaces))

    def rates(self, *namespaces: str, seconds: float = 5.0) -> Metrics:
        """What they count within the next seconds."""
        if not 0 < seconds <= 600:
            raise InputError(
                f"{seconds!r} is no time to watch for.",
                next_step="Give seconds between 0 and 600: lab.rates(seconds=5).",
            )
        before = self.metrics(*namespaces)
        time.sleep(seconds)  # the time is what is asked for
        return self.metrics(*namespaces) - before

    def refusals(self, *namespaces: str) -> RefusalsView:
        """Connections that proxies did not take: from their statistics, access logs, clients, and our own probes."""
        from labkit.views.refusals import RefusalsView

        for name in namespaces:
            self.cluster.get(NAMESPACE, name)
        return RefusalsView(refusals.look(self.cluster, namespaces, self.tried))
