"""The servers' metrics as sightings: who talked to whom since the last reading, and whether it was mTLS.

What servers report counts: a client's proxy does not know how its connection was carried, and says "unknown"
(https://istio.io/latest/docs/reference/config/metrics/, connection_security_policy). Of hosts outside, which report
nothing, it is the only one who counts.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from labkit.cluster import Cluster
from labkit.errors import MeshError
from labkit.live.ledger import Edge, Sighting
from labkit.observe import metrics
from labkit.observe.exposition import Sample
from labkit.observe.objects import Snapshot
from labkit.observe.rates import increase
from labkit.outcomes import Outcome
from labkit.views.externals import external_hosts
from labkit.views.map import NO_COUNTS, Counts
from labkit.views.model import UNKNOWN_CLIENT

PATTERN = r"istio_requests_total|^server\.uptime$"
KNOWN_SECONDS = 10.0

_CARRIED = {"mutual_tls": Outcome.MTLS, "none": Outcome.PLAINTEXT}
_COLUMNS = {
    Outcome.MTLS: "mtls",
    Outcome.PLAINTEXT: "plaintext",
    Outcome.REFUSED: "refused",
    Outcome.UNKNOWN: "unknown",
}


class Metering:
    """Two readings of all pages, again and again."""

    def __init__(self) -> None:
        self.since = 0.0
        """When the reading before the newest was taken."""
        self._last: metrics.Scrape | None = None
        self._last_at = 0.0
        self._known: dict[Edge, float] = {}

    def read(self, cluster: Cluster, snapshot: Snapshot) -> list[Sighting]:
        """Ask all proxies, and say what was added since they were last asked."""
        try:
            now = metrics.scrape(cluster, snapshot.shown, pattern=PATTERN)
        except MeshError:
            return []
        before, self._last = self._last, now
        self.since, self._last_at = self._last_at, time.time()
        if before is None:
            return []
        found = sightings(increase(before, now).samples, external_hosts(snapshot))
        for sighting in found:
            self._known[sighting.client, sighting.server] = time.monotonic()
        return found

    def knows(self, edge: Edge) -> bool:
        """Whether metrics have counted this edge lately."""
        return time.monotonic() - self._known.get(edge, -KNOWN_SECONDS) < KNOWN_SECONDS


def sightings(samples: Iterable[Sample], hosts: Collection[str] = ()) -> list[Sighting]:
    """What servers' counters say, edge by edge, and clients' counters of hosts outside. Pure."""
    totals: dict[tuple[str, str, Outcome], list[int]] = {}
    for sample in samples:
        labels, number = sample.labels, round(sample.value)
        host = labels.get("destination_service", "") if labels.get("reporter") == "source" else ""
        if sample.name != metrics.REQUESTS or number <= 0:
            continue
        if labels.get("reporter") != "destination" and host not in hosts:
            continue
        client, server = _workload(labels, "source"), host or _workload(labels, "destination")
        code = labels.get("response_code", "")
        outcome = _CARRIED.get(labels.get("connection_security_policy", ""), Outcome.UNKNOWN)
        if code == "403":
            outcome = Outcome.REFUSED  # let in by nobody: the answer of an AuthorizationPolicy
        row = totals.setdefault((client, server, outcome), [0, 0])
        row[0] += number
        row[1] += number if code[:1] in ("4", "5") and outcome is not Outcome.REFUSED else 0
    return [Sighting(*key, number, failed) for key, (number, failed) in totals.items()]


def counted_so_far(cluster: Cluster, namespaces: Sequence[str] = (), hosts: Collection[str] = ()) -> dict[Edge, Counts]:
    """What the servers of some namespaces, or of all, have counted since they were started, edge by edge; of `hosts`
    outside, what their clients have.
    """
    try:
        samples = metrics.scrape(cluster, namespaces, pattern=PATTERN).samples
    except MeshError:  # nobody has a proxy, so nobody counts
        return {}
    counts: dict[Edge, Counts] = {}
    for one in sightings(samples, hosts):
        edge = (one.client, one.server)
        before = counts.get(edge, NO_COUNTS)
        column = _COLUMNS[one.outcome]
        more = {column: getattr(before, column) + one.number, "failed": before.failed + one.failed}
        counts[edge] = replace(before, **more)
    return counts


def _workload(labels: Mapping[str, str], side: str) -> str:
    name, namespace = labels.get(f"{side}_workload", ""), labels.get(f"{side}_workload_namespace", "")
    return UNKNOWN_CLIENT if name in ("", "unknown") else f"{namespace}/{name}"
