"""Connections that a proxy did not take, which none of Istio's metrics counts, from all who know of them.

What STRICT refuses is no request: no filter chain takes the connection, so nothing that counts requests is reached.
Four know of it, each in part, and of the same connection:

- listener statistics: the server's proxy counts what no chain took (`no_filter_chain_match`) and handshakes that
  failed (`ssl.*`), but not from whom. Istio keeps these only where `proxyStatsMatcher` asks for them
  (https://istio.io/latest/docs/ops/configuration/telemetry/envoy-stats/).
- access log: a line with the flag NR and `filter_chain_not_found`, with the address of the client; where logs are on,
  and as far back as they are kept.
- client's proxy: a client with a sidecar sees an answer of its own proxy, 503 with the flag UC, UF or URX.
- probe: what this lab itself tried.

The functions that judge are pure; `look` asks.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import POD
from labkit.errors import LabError
from labkit.observe import metrics
from labkit.observe.exposition import Sample
from labkit.observe.objects import PROXY, is_gateway, name_of, namespace_of, workload_name
from labkit.outcomes import Observation

STATISTICS, LOG, CLIENT, PROBE = "listener statistics", "access log", "client's proxy", "probe"

PATTERN = r"^listener\..*\.(no_filter_chain_match|ssl\.(connection_error|fail_verify_(error|no_cert|san)))$"
MEANINGS = {
    "no_filter_chain_match": "no filter chain took it: plaintext where mTLS is required",
    "ssl_connection_error": "TLS that broke off",
    "ssl_fail_verify_no_cert": "TLS without a client certificate",
    "ssl_fail_verify_error": "a client certificate of an authority that is not trusted",
    "ssl_fail_verify_san": "a client certificate with another name than required",
}
AT_GATEWAYS = "no filter chain took it: plaintext where TLS is required, or a name that no server has"
CUT_FLAGS = {"UC": "the server's side cut the connection", "UF": "no connection came about", "URX": "retries exhausted"}

_PREFIX = "envoy_listener_"
_INBOUND_PORT = 15006
_OWN_PORTS = frozenset({15000, 15001, 15004, 15020, 15021, 15053, 15090})
LINES = 2000
"""So many lines of each proxy's log are read."""

# Istio's default format ends in: <local address> <remote address> <server name> <route>
_REFUSED_LINE = re.compile(
    r"^\[(?P<time>[^\]]+)\] .* NR filter_chain_not_found .* (?P<local>\S+) (?P<remote>\S+) \S+ \S+$"
)


@dataclass(frozen=True)
class Refusal:
    """Connections that were not taken: at which server, from whom as far as it is known, who says so, how many."""

    server: str
    client: str
    why: str
    count: int
    told_by: str
    last_seen: str = ""


@dataclass(frozen=True)
class Refusals:
    """All of them; `silent` names the proxies that do not count or did not answer, with the reason."""

    found: tuple[Refusal, ...]
    silent: Mapping[str, str] = field(default_factory=dict)

    def since(self, earlier: Refusals) -> Refusals:
        """What was added since. A count that is smaller than before began anew: a proxy was restarted."""
        before = {(one.server, one.client, one.why, one.told_by): one.count for one in earlier.found}
        added = []
        for one in self.found:
            was = before.get((one.server, one.client, one.why, one.told_by), 0)
            count = one.count - was if one.count >= was else one.count
            if count:
                added.append(replace(one, count=count))
        return Refusals(tuple(added), self.silent)


def look(cluster: Cluster, namespaces: Iterable[str] = (), tried: Iterable[Observation] = ()) -> Refusals:
    """Ask all proxies, read their logs, and add what this lab tried itself. Raises MeshError without any proxy."""
    chosen = tuple(namespaces)
    pods = metrics.proxied_pods(cluster, chosen)
    counted = metrics.scrape(cluster, chosen, pattern=PATTERN, used=False)
    seen = metrics.scrape(cluster, chosen, pattern="istio_requests_total")
    names = addresses(cluster.objects(POD))
    workloads = {f"{namespace_of(pod)}/{name_of(pod)}": f"{namespace_of(pod)}/{workload_name(pod)}" for pod in pods}
    gateways = {f"{namespace_of(pod)}/{name_of(pod)}" for pod in pods if is_gateway(pod)}
    found = [
        *by_statistics(counted.samples, workloads, gateways),
        *by_logs(read_logs(cluster, pods), workloads, names, gateways),
        *by_clients(seen.samples),
        *by_probes(tried),
    ]
    return Refusals(tuple(found), {**counted.failed, **_not_kept(counted)})


def _not_kept(counted: metrics.Scrape) -> dict[str, str]:
    telling = {sample.pod for sample in counted.samples if sample.name == f"{_PREFIX}no_filter_chain_match"}
    why = "it keeps no statistics of its listeners (proxyStatsMatcher would make it)"
    return dict.fromkeys(sorted(counted.times.keys() - telling), why)


def read_logs(cluster: Cluster, pods: list[Obj]) -> list[tuple[str, str]]:
    """(pod, the last lines of its proxy's log); a log that cannot be read is empty."""

    def read(pod: Obj) -> tuple[str, str]:
        try:
            text = cluster.logs(name_of(pod), namespace_of(pod), container=PROXY, tail=LINES)
        except LabError:
            text = ""
        return f"{namespace_of(pod)}/{name_of(pod)}", text

    with ThreadPoolExecutor(metrics.AT_ONCE) as pool:
        return list(pool.map(read, pods))


def addresses(pods: Iterable[Obj]) -> dict[str, str]:
    """Who has an address: pods by their own, nodes by theirs."""
    names: dict[str, str] = {}
    for pod in pods:
        status = pod.get("status") or {}
        if host := status.get("hostIP"):
            names.setdefault(str(host), f"node {host}")
    for pod in pods:
        status = pod.get("status") or {}
        if (address := status.get("podIP")) and address != status.get("hostIP"):
            names[str(address)] = f"{namespace_of(pod)}/{workload_name(pod)}"
    return names


# -- what each of them says; pure


def by_statistics(
    samples: Iterable[Sample], workloads: Mapping[str, str], gateways: Collection[str] = ()
) -> list[Refusal]:
    """What listeners counted, added up over the pods of a workload; `gateways` are the pods that are some."""
    counts: Counter[tuple[str, str]] = Counter()
    for sample in samples:
        name = sample.name.removeprefix(_PREFIX)
        gateway = sample.pod in gateways
        if name in MEANINGS and sample.value and _takes_from_outside(sample.labels, gateway=gateway):
            counts[workloads.get(sample.pod, sample.pod), _why(name, gateway=gateway)] += int(sample.value)
    return [Refusal(server, "", why, count, STATISTICS) for (server, why), count in sorted(counts.items())]


def _why(name: str, *, gateway: bool) -> str:
    return AT_GATEWAYS if gateway and name == "no_filter_chain_match" else MEANINGS[name]


def _takes_from_outside(labels: Mapping[str, str], *, gateway: bool) -> bool:
    """Whether a listener is where others arrive: 15006 of a sidecar, any port of a gateway but the proxy's own."""
    port = labels.get("envoy_listener_address", "").rpartition("_")[2]
    if not port.isdigit():
        return False
    return int(port) == _INBOUND_PORT or (gateway and int(port) not in _OWN_PORTS)


def by_logs(
    logs: Iterable[tuple[str, str]],
    workloads: Mapping[str, str],
    names: Mapping[str, str],
    gateways: Collection[str] = (),
) -> list[Refusal]:
    """The refused connections of access logs, by server and client."""
    counts: Counter[tuple[str, str, str]] = Counter()
    last: dict[tuple[str, str, str], str] = {}
    for pod, text in logs:
        why = _why("no_filter_chain_match", gateway=pod in gateways)
        for time, remote in refused_lines(text):
            address = remote.rpartition(":")[0].strip("[]")
            key = workloads.get(pod, pod), names.get(address, address), why
            counts[key] += 1
            last[key] = max(time, last.get(key, ""))
    return [Refusal(*key, count, LOG, last[key]) for key, count in sorted(counts.items())]


def refused_lines(text: str) -> Iterator[tuple[str, str]]:
    """(time, the client's address and port) of each refused connection in a log, in Istio's text format or its JSON."""
    for line in text.splitlines():
        if "filter_chain_not_found" not in line:
            continue
        if match := _REFUSED_LINE.match(line):
            yield match["time"], match["remote"]
        elif line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            yield str(entry.get("start_time") or ""), str(entry.get("downstream_remote_address") or "")


def by_clients(samples: Iterable[Sample]) -> list[Refusal]:
    """The requests that clients' proxies could not deliver."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for sample in samples:
        labels = sample.labels
        cut = [flag for flag in labels.get("response_flags", "").split(",") if flag in CUT_FLAGS]
        if labels.get("reporter") == "source" and cut and sample.value:
            server, client = (
                f"{labels.get(f'{side}_workload_namespace')}/{labels.get(f'{side}_workload')}"
                for side in ("destination", "source")
            )
            why = f"{labels.get('response_code')} {','.join(cut)}: {CUT_FLAGS[cut[0]]}"
            counts[server, client, why] += int(sample.value)
    return [Refusal(server, client, why, count, CLIENT) for (server, client, why), count in sorted(counts.items())]


def by_probes(tried: Iterable[Observation]) -> list[Refusal]:
    """What this lab tried, and was refused."""
    counts = Counter(
        (one.probe.server, one.probe.client, one.seen) for one in tried if one.probe is not None and one.refused
    )
    return [Refusal(server, client, why, count, PROBE) for (server, client, why), count in sorted(counts.items())]
