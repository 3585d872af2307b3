"""Calls as the proxies counted them and as probes met them, in the words of the declared view. Pure.

Only the client's proxy knows its own name for sure, and by the certificate that it saw (`destination_principal`)
whether it spoke mTLS. Of callers without a certificate only the server's proxy tells, and cannot name them.
https://istio.io/latest/docs/reference/config/metrics/
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from labkit.observe.exposition import Labels, Sample
from labkit.observe.metrics import OPENED, REQUESTS, UPTIME
from labkit.outcomes import Observation, Outcome
from labkit.policy.declared.disagreeing import Seen
from labkit.policy.declared.traffic import UNKNOWN, Traffic

_PASSED_ON = frozenset({"PassthroughCluster", "InboundPassthroughCluster", "BlackHoleCluster"})
# https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage#config-access-log-format-response-flags
_NOT_SERVED = frozenset({"UF", "UC", "UH", "UT", "URX", "LR", "UR"})

Counted = Mapping[tuple[str, str, Outcome, bool], tuple[float, float]]
"""(client, server, outcome, past its Service) -> (requests per minute, seconds of looking)."""


def seen_calls(samples: Iterable[Sample], seconds: float | None = None) -> list[Seen]:
    """What the proxies counted within `seconds`, or since they were started."""
    return [
        Seen(client, server, outcome, per_minute, "metrics", looked, past)
        for (client, server, outcome, past), (per_minute, looked) in _counted(samples, seconds).items()
    ]


def traffic_of(samples: Iterable[Sample], seconds: float | None = None) -> Traffic:
    """The same as requests and connections per minute by edge, however they were carried; refused ones are none."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for (client, server, outcome, _), (per_minute, _) in _counted(samples, seconds).items():
        if outcome is not Outcome.REFUSED:
            found[client, server] += per_minute
    return dict(found)


def probed_calls(observations: Iterable[Observation]) -> list[Seen]:
    """What probes met; of several of one call the last one counts."""
    last: dict[tuple[str, str], Seen] = {}
    for one in observations:
        if one.probe is not None and one.outcome is not Outcome.UNKNOWN:
            edge = (one.probe.client, f"{one.probe.server}:{one.probe.port}")
            last[edge] = Seen(*edge, one.outcome, by="a probe", seconds=0.0, past_service="/" not in one.probe.server)
    return list(last.values())


def _counted(samples: Iterable[Sample], seconds: float | None) -> Counted:
    lines = list(samples)
    running = {one.pod: one.value for one in lines if one.name == UPTIME}
    counts: dict[tuple[str, str, Outcome, bool], float] = defaultdict(float)
    looked: dict[tuple[str, str, Outcome, bool], float] = {}
    for one in lines:
        if one.name not in (REQUESTS, OPENED) or not one.value:
            continue
        key = _call(one.labels)
        time = seconds or running.get(one.pod) or 0.0
        if key is not None and time:
            counts[key] += one.value * 60 / time
            looked[key] = max(looked.get(key, 0.0), time)
    return {key: (count, looked[key]) for key, count in counts.items()}


def _call(labels: Labels) -> tuple[str, str, Outcome, bool] | None:
    """Whose call a series counts, to whom, and how it was carried; None where another proxy tells better."""
    by_client = labels.get("reporter") == "source"
    client = _workload(labels, "source")
    service, past = _server(labels)
    if not service or by_client == (client == UNKNOWN):
        return None
    if labels.get("response_flags", "-") in _NOT_SERVED or labels.get("response_code") == "0":
        return client, service, Outcome.REFUSED, past
    if by_client:
        carried = Outcome.MTLS if labels.get("destination_principal", "").startswith("spiffe://") else Outcome.PLAINTEXT
        return client, service, carried, past
    plain = labels.get("connection_security_policy") == "none"
    return (UNKNOWN, service, Outcome.PLAINTEXT, past) if plain else None


def _workload(labels: Labels, side: str) -> str:
    name, namespace = labels.get(f"{side}_workload", ""), labels.get(f"{side}_workload_namespace", "")
    known = name not in ("", UNKNOWN) and namespace not in ("", UNKNOWN)
    return f"{namespace}/{name}" if known else UNKNOWN


def _server(labels: Labels) -> tuple[str, bool]:
    """The Service, or past it the workload; empty where neither is told."""
    name, namespace = labels.get("destination_service_name", ""), labels.get("destination_service_namespace", "")
    if name and name != UNKNOWN and name not in _PASSED_ON and namespace not in ("", UNKNOWN):
        return f"{namespace}/{name}", False
    workload = _workload(labels, "destination")
    return ("", True) if workload == UNKNOWN else (workload, True)
