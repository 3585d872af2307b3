"""How a client's proxy carried a request, told from what it counted for it. Pure.

A proxy that reports as the source labels each request with the principal that the server's certificate named
(`destination_principal`, https://istio.io/latest/docs/reference/config/metrics/). Without a certificate there was no
mTLS. So one reading before the request and one after it tell of this very request, whichever connection it went over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from labkit.observe.exposition import Sample
from labkit.outcomes import Outcome

REQUESTS = "istio_requests_total"
PATTERN = r"istio_requests_total"
"""Envoy's statistics that are read, as a regular expression."""

_PRINCIPAL = "spiffe://"
_NEVER_SENT = frozenset({"FI", "NC", "UF", "UH", "UO"})
"""Response flags of requests that the proxy answered itself: an injected fault, no cluster, no connection, no healthy
upstream, too many. https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage"""


def outcome_between(
    before: Iterable[Sample], after: Iterable[Sample], service: str, status: int | None = None
) -> Outcome | None:
    """How the requests between two readings were carried; UNKNOWN if some so and some so, None if none were counted.

    `service` begins the name of the host that was called, such as `chatbackend.shop.`. What the proxy sent to others
    counts only when nothing was counted for it (a pod's own address has no name).
    """
    added = _sent(after)
    added.subtract(_sent(before))
    grown = [key for key, count in added.items() if count > 0]
    grown = [key for key in grown if status is None or key[2] == str(status)] or grown
    grown = [key for key in grown if key[0].startswith(service)] or grown
    ways = {_way(principal, flags) for _, principal, _, flags in grown}
    if not ways:
        return None
    return ways.pop() if len(ways) == 1 else Outcome.UNKNOWN


def _way(principal: str, flags: str) -> Outcome:
    if principal.startswith(_PRINCIPAL):
        return Outcome.MTLS
    return Outcome.REFUSED if _NEVER_SENT & set(flags.split(",")) else Outcome.PLAINTEXT


def _sent(samples: Iterable[Sample]) -> Counter[tuple[str, str, str, str]]:
    """(host, principal of the server, status, flags) -> requests that the proxy was asked to send."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    for one in samples:
        if one.name == REQUESTS and one.labels.get("reporter") == "source":
            names = ("destination_service", "destination_principal", "response_code", "response_flags")
            host, principal, code, flags = (one.labels.get(name, "") for name in names)
            found[host, principal, code, flags] += int(one.value)
    return found
