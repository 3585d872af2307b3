"""Who called in plaintext, told from access logs of the servers' proxies: what metrics call `unknown` has an address.

A caller without a sidecar tells nobody its name, so metrics have none. The log of the server's proxy has its address,
and an address belongs to a pod, to a node (where something in between has put its own there), or to somebody outside.
A line is of plaintext when the connection asked for no server name: what Istio's clients open always does (SNI).

https://istio.io/latest/docs/tasks/observability/logs/access-log/ ; the functions that read are pure.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from labkit.cluster import Cluster
from labkit.cluster.kinds import POD
from labkit.observe import metrics, refusals
from labkit.observe.objects import name_of, namespace_of, workload_name

# The end of Istio's default format: ... <upstream cluster> <upstream local> <local> <remote> <server name> <route>
_INBOUND_LINE = re.compile(
    r"^\[(?P<time>[^\]]+)\] .* (?P<cluster>inbound\|\d+\S*) \S+ (?P<local>\S+) (?P<remote>\S+) (?P<sni>\S+) \S+$"
)


@dataclass(frozen=True)
class Caller:
    """Somebody who called a server in plaintext, so often, at last then."""

    client: str
    server: str
    port: int
    requests: int
    last_seen: str


@dataclass(frozen=True)
class InPlaintext:
    """One line of a log."""

    time: str
    port: int
    address: str


def look(cluster: Cluster, namespaces: Iterable[str] = ()) -> list[Caller]:
    """Read the logs of all proxies, most requests first. Raises nothing for proxies that log nothing."""
    pods = metrics.proxied_pods(cluster, tuple(namespaces))
    names = refusals.addresses(cluster.objects(POD))
    workloads = {f"{namespace_of(pod)}/{name_of(pod)}": f"{namespace_of(pod)}/{workload_name(pod)}" for pod in pods}
    return by_logs(refusals.read_logs(cluster, pods), workloads, names)


def by_logs(logs: Iterable[tuple[str, str]], workloads: Mapping[str, str], names: Mapping[str, str]) -> list[Caller]:
    """The callers that logs tell of, added up over the pods of a workload. Pure."""
    counts: Counter[tuple[str, str, int]] = Counter()
    last: dict[tuple[str, str, int], str] = {}
    for pod, text in logs:
        for line in plaintext_lines(text):
            key = names.get(line.address, line.address), workloads.get(pod, pod), line.port
            counts[key] += 1
            last[key] = max(line.time, last.get(key, ""))
    found = [Caller(*key, count, last[key]) for key, count in counts.items()]
    return sorted(found, key=lambda one: (-one.requests, one.client, one.server, one.port))


def plaintext_lines(text: str) -> Iterator[InPlaintext]:
    """What came in without TLS, in Istio's text format or its JSON. Pure."""
    for line in text.splitlines():
        if "inbound|" not in line:
            continue
        if match := _INBOUND_LINE.match(line):
            found = match.groupdict()
        elif line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            fields = (
                ("time", "start_time"),
                ("cluster", "upstream_cluster"),
                ("remote", "downstream_remote_address"),
                ("sni", "requested_server_name"),
            )
            found = {name: str(entry.get(field) or "-") for name, field in fields}
        else:
            continue
        port = re.match(r"inbound\|(\d+)", found["cluster"])
        if port and found["sni"] == "-":
            yield InPlaintext(found["time"], int(port[1]), found["remote"].rpartition(":")[0].strip("[]"))
