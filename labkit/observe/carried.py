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
    ways = {Outcome.MTLS if principal.startswith(_PRINCIPAL) else Outcome.PLAINTEXT for _, principal, _ in grown}
    if not ways:
        return None
    return ways.pop() if len(ways) == 1 else Outcome.UNKNOWN


def _sent(samples: Iterable[Sample]) -> Counter[tuple[str, str, str]]:
    """(host, principal of the server, status) -> requests that the proxy sent."""
    found: Counter[tuple[str, str, str]] = Counter()
    for one in samples:
        if one.name == REQUESTS and one.labels.get("reporter") == "source":
            names = ("destination_service", "destination_principal", "response_code")
            host, principal, code = (one.labels.get(name, "") for name in names)
            found[host, principal, code] += int(one.value)
    return found
