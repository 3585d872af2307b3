"""What all proxies counted, read from their pages of metrics through the API server, many at a time.

https://istio.io/latest/docs/reference/config/metrics/

Each proxy shows its page on port 15090, which is plaintext under every mode. It is asked for by the subresource
`pods/proxy`; who may not do that, but may exec, gets the same page from `pilot-agent request`. Envoy leaves out of the
page what does not match `filter`, so that it is a few kilobytes and not half a megabyte.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import quote

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import POD
from labkit.errors import LabError, MeshError
from labkit.observe.exposition import Sample, read_page
from labkit.observe.objects import (
    PROXY,
    find_istiod,
    is_finished,
    is_injected,
    is_terminating,
    name_of,
    namespace_of,
)

STATS_PORT = 15090
STATS_PATH = "/stats/prometheus"

REQUESTS = "istio_requests_total"
DURATION = "istio_request_duration_milliseconds"
OPENED, CLOSED = "istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"
SENT, RECEIVED = "istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total"
UPTIME = "envoy_server_uptime"

TRAFFIC = r"istio_(requests_total|tcp_)|^server\.uptime$"
"""Names of Envoy's statistics (not of the page) that tell who talked to whom, and when the proxy was started."""

DURATIONS = "istio_request_duration_milliseconds"
"""How long it took: twenty times as many lines, so only where they are asked for."""

AT_ONCE = 8
"""Pages that are asked for at the same time: the `kubernetes` package keeps so many connections (and two more)."""


@dataclass(frozen=True)
class Scrape:
    """What the proxies said at one time. `failed` names those that did not answer, with the reason."""

    samples: tuple[Sample, ...]
    times: Mapping[str, float]
    """When each proxy (`namespace/pod`) was asked, on the monotonic clock."""
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def pods(self) -> list[str]:
        return sorted(self.times)


def proxied_pods(cluster: Cluster, namespaces: Sequence[str] = ()) -> list[Obj]:
    """The pods that have a proxy, gateways among them; of some namespaces, or of all."""
    found = [pod for name in namespaces for pod in cluster.objects(POD, name)] if namespaces else cluster.objects(POD)
    return [pod for pod in found if is_injected(pod) and not is_terminating(pod) and not is_finished(pod)]


def scrape(cluster: Cluster, namespaces: Sequence[str] = (), *, pattern: str = TRAFFIC, used: bool = True) -> Scrape:
    """Ask all proxies for the statistics that match; `used`: without those that were never touched.

    Raises MeshError when there is no proxy at all. One that does not answer is in `failed`.
    """
    pods = proxied_pods(cluster, namespaces)
    if not pods:
        where = f" in {' or '.join(namespaces)}" if namespaces else ""
        raise MeshError(
            f"No pod{where} has a proxy, so nobody counts.",
            meaning="Istio's metrics are the proxies' own: what passes no proxy is in none of them.",
            next_step="Look at lab.sidecars(), and inject a workload first.",
        )
    path = f"{STATS_PATH}?{'usedonly&' if used else ''}filter={quote(pattern, safe='')}"
    with ThreadPoolExecutor(min(AT_ONCE, len(pods)), thread_name_prefix="scrape") as pool:
        return _gathered(pool.map(lambda pod: _page(cluster, pod, path), pods))


def counted_by(cluster: Cluster, pod: Obj, pattern: str = TRAFFIC) -> tuple[Sample, ...] | None:
    """What one pod's proxy counted, of the statistics that match; None when it does not answer."""
    page = _page(cluster, pod, f"{STATS_PATH}?usedonly&filter={quote(pattern, safe='')}")
    return None if page.error else page.samples


MONITORING_PORT = 15014


def scrape_istiod(cluster: Cluster) -> Scrape:
    """What the control plane counts of itself. Raises MeshError when there is none."""
    istiod = find_istiod(cluster)
    if istiod is None:
        raise MeshError("No mesh is installed on this cluster.", next_step="Install one: lab.install_mesh().")
    name, now = f"{namespace_of(istiod)}/{name_of(istiod)}", time.monotonic()
    path = f"/api/v1/namespaces/{namespace_of(istiod)}/services/{name_of(istiod)}:{MONITORING_PORT}/proxy/metrics"
    text = cluster.transport.text(path, action="Reading the metrics of istiod")
    return Scrape(tuple(read_page(text, name)), {name: now})


@dataclass(frozen=True)
class _Page:
    pod: str
    time: float
    samples: tuple[Sample, ...] = ()
    error: str = ""


def _gathered(pages: Iterable[_Page]) -> Scrape:
    pages = list(pages)
    return Scrape(
        tuple(sample for page in pages for sample in page.samples),
        {page.pod: page.time for page in pages if not page.error},
        {page.pod: page.error for page in pages if page.error},
    )


def _page(cluster: Cluster, pod: Obj, path: str) -> _Page:
    known_as, now = f"{namespace_of(pod)}/{name_of(pod)}", time.monotonic()
    try:
        text = cluster.proxy_get(name_of(pod), namespace_of(pod), STATS_PORT, path)
    except LabError as refused:
        try:
            text = _by_exec(cluster, pod, path)
        except LabError:
            return _Page(known_as, now, error=refused.what)
    return _Page(known_as, now, tuple(mended(one) for one in read_page(text, known_as)))


def _by_exec(cluster: Cluster, pod: Obj, path: str) -> str:
    command = ["pilot-agent", "request", "GET", path.lstrip("/")]
    result = cluster.execute(name_of(pod), namespace_of(pod), command, container=PROXY)
    if not result.ok:
        raise MeshError(f"pilot-agent said {result.stderr.strip() or result.stdout.strip()!r}.")
    return result.stdout


def mended(sample: Sample) -> Sample:
    """A sample under Istio's name, where the page has Envoy's prefix before it. Pure."""
    if not sample.name.startswith("envoy_istio_"):
        return sample
    name = sample.name.removeprefix("envoy_")
    return Sample(name, sample.labels, sample.value, sample.edge, sample.pod, sample.series)
