"""The checks of lesson 09: what was counted, and what a scraper without a sidecar gets."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from labkit.checks.evidence import CALLER, LOOKS, OUTSIDE, RETURNED
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.observe import metrics
from labkit.observe.declared import mode_of
from labkit.observe.exposition import Sample
from labkit.observe.objects import take_snapshot
from labkit.observe.traffic import probe
from labkit.outcomes import Observation

PAGE, METRICS = "http://visits.visits:8080/", "http://visits.visits:9102/metrics"
MERGED = "http://visits-merged.visits:15020/stats/prometheus"
NEW_SERVICE_SECONDS = 2.0
"""So long a new Service may take until its name leads somewhere."""


def _counted(cluster: Cluster) -> tuple[Any, ...]:
    return (metrics.scrape(cluster, ("visits",)).samples,)


def _scraper(cluster: Cluster) -> tuple[Any, ...]:
    return tuple(probe(cluster, OUTSIDE, url) for url in (METRICS, PAGE))


def _scraper_and_caller(cluster: Cluster) -> tuple[Any, ...]:
    return *_scraper(cluster), probe(cluster, CALLER, PAGE)


def _merged(cluster: Cluster) -> tuple[Any, ...]:
    seen, until = probe(cluster, OUTSIDE, MERGED), time.monotonic() + NEW_SERVICE_SECONDS
    while seen.http_status is None and time.monotonic() < until:
        seen = probe(cluster, OUTSIDE, MERGED)
    return seen, mode_of(take_snapshot(cluster), "visits")


def _labelled(cluster: Cluster) -> tuple[Any, ...]:
    probe(cluster, CALLER, PAGE)
    return _counted(cluster)


def counted(samples: Iterable[Sample]) -> Judgement:
    """The server's sidecar counted requests of a known caller by mTLS, and of a stranger in plaintext."""
    found = {
        (str(one.labels.get("source_workload")), str(one.labels.get("connection_security_policy")))
        for one in samples
        if one.name == metrics.REQUESTS and one.labels.get("reporter") == "destination" and one.value
    }
    observed = "; ".join(f"{source}: {policy}" for source, policy in sorted(found)) or "nothing was counted"
    hint = "Send a few requests of each first: lab.loop('callers/curl', url), lab.loop('default/curl-outside', url)."
    good = {("curl", "mutual_tls"), ("unknown", "none")} <= found
    return Judgement(good, "curl: mutual_tls; unknown: none", observed, hint)


def scraped(page: Observation, _: Observation) -> Judgement:
    """A stranger reads the application's metrics."""
    good = page.http_status == 200 and "visits" in page.body
    hint = "Is a policy left? lab.reset('09') starts again."
    return Judgement(good, "200 and metrics for curl-outside", page.seen, hint)


def scraper_stopped(page: Observation, _: Observation, caller: Observation) -> Judgement:
    """STRICT: the scraper is reset, the mesh client goes on."""
    good = page.exit_code == 56 and caller.http_status == 200
    observed = f"curl-outside: {page.seen}; callers/curl: {caller.seen}"
    hint = "Apply manifests/lessons/09/strict.yaml."
    return Judgement(good, "curl-outside: reset; callers/curl: 200", observed, hint)


def merged(page: Observation, mode: str) -> Judgement:
    """Under STRICT the sidecar's page has the application's metrics and its own."""
    found = [name for name in ("visits_total", "istio_requests_total") if name in page.body]
    good = mode == "STRICT" and page.http_status == 200 and len(found) == 2
    observed = f"mode {mode}; {page.seen}; {', '.join(found) or 'neither'}"
    hint = "Apply manifests/lessons/09/merged-page.yaml while the namespace is STRICT."
    return Judgement(good, "mode STRICT, 200, visits_total and istio_requests_total on one page", observed, hint)


def scraper_back(page: Observation, door: Observation, caller: Observation) -> Judgement:
    """The metrics' port is open again, the page's is not."""
    good = page.http_status == 200 and door.exit_code == 56 and caller.http_status == 200
    observed = f"9102: {page.seen}; 8080: {door.seen}; callers/curl: {caller.seen}"
    hint = "portLevelMtls takes the container's port, 9102, and needs a selector. STRICT stays for the rest."
    return Judgement(good, "curl-outside: 200 on 9102, reset on 8080; callers/curl: 200", observed, hint)


def one_more_label(_attempt: Any, samples: Iterable[Sample]) -> Judgement:
    """The server counts by the host that was asked for."""
    hosts = {
        one.labels["request_host"]
        for one in samples
        if one.name == metrics.REQUESTS and one.labels.get("reporter") == "destination" and "request_host" in one.labels
    }
    observed = f"request_host: {', '.join(sorted(hosts))}" if hosts else "no label request_host"
    hint = "The value is an expression: request.host is the host of the request, without quotation marks."
    return Judgement("visits.visits:8080" in hosts, "the label request_host with visits.visits:8080", observed, hint)


CHECKS = (
    Check("09-counted", LOOKS, counted, _counted),
    Check("09-scraped", LOOKS, scraped, _scraper),
    Check("09-scraper-stopped", LOOKS, scraper_stopped, _scraper_and_caller),
    Check("09-merged", LOOKS, merged, _merged),
    Check("09-scraper-back", LOOKS, scraper_back, _scraper_and_caller),
    Check("09-one-more-label", RETURNED, one_more_label, _labelled, exercise=True),
)
