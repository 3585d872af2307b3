"""Probes: a client's own `curl`, run where the client runs. What comes back is an Observation, refused or not."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from labkit.cluster import Cluster, ExecResult
from labkit.cluster.kinds import Obj
from labkit.errors import InputError, MachineError
from labkit.observe.carried import PATTERN, outcome_between
from labkit.observe.exposition import Sample
from labkit.observe.metrics import counted_by
from labkit.observe.objects import PROXY, WorkloadRef, app_container, find_workload, is_injected, name_of, namespace_of
from labkit.outcomes import Observation, Outcome, Probe, RequestKind, TLSFacts

CURL = ("curl", "-sS", "-i", "--max-time", "10")
"""As in the source lab: silent but with errors (-sS), with status line and headers (-i); a hung server is an answer."""

REFUSED_EXITS = {
    7: "connection refused",
    35: "TLS handshake failed",
    52: "empty reply",
    55: "closed before the request was sent",
    56: "connection reset",
}
"""curl's exit codes for a connection that was not served; https://curl.se/docs/manpage.html#EXIT"""


COUNTING_SECONDS = 1.0
"""A proxy counts a request when it has ended; then it has been counted within so long."""

_COUNTERS = ("handshake", "upstream_cx_total", "upstream_cx_connect_fail", "upstream_rq_total")

Reading = tuple[Mapping[str, int], Outcome]
"""Counters of a client's proxy towards one Service, and the outcome that was told from them."""

Readings = dict[tuple[str, str], Reading]
"""The latest reading per client pod (its uid) and Service: counters only grow, so the news is in the difference."""


def curl_command(
    url: str,
    *,
    data: Any = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
) -> list[str]:
    """The curl line for a request. `data` that is not text is sent as JSON."""
    address_of(url)
    sent = dict(headers or {})
    command = list(CURL)
    if method and not (method.upper() == "POST" and data is not None):
        command += ["-X", method.upper()]
    if data is not None:
        if not isinstance(data, str):
            data = json.dumps(data)
        if data.lstrip().startswith(("{", "[")) and not any(key.lower() == "content-type" for key in sent):
            sent["Content-Type"] = "application/json"
    for key, value in sent.items():
        command += ["-H", f"{key}: {value}"]
    if data is not None:
        command += ["-d", data]
    return [*command, url]


def probe(
    cluster: Cluster,
    client: str,
    url: str,
    *,
    data: Any = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
    limit: float = 20.0,
    readings: Readings | None = None,
) -> Observation:
    """Run curl in the client's pod and return what it saw. A refused connection is an observation.

    `readings` are those of earlier probes, and are kept up to date: a proxy's counters never forget, so that after a
    change of policy only what was added since the last probe tells how this one was carried. Raises InputError when
    the client does not exist or is not ready, MachineError when its container has no curl.
    """
    command = curl_command(url, data=data, headers=headers, method=method)
    reference = find_workload(cluster, client)
    pod = reference.ready_pod()
    container = app_container(pod)
    injected = is_injected(pod)
    before = counted_by(cluster, pod, PATTERN) if injected else None
    result = cluster.execute(name_of(pod), reference.namespace, command, container=container, limit=limit)
    if result.exit_code in (126, 127):
        raise MachineError(
            f"There is no curl in container {container!r} of {reference}.",
            meaning="A probe runs the client's own curl, so that it meets what the client would meet.",
            next_step=(
                "Install curl on this machine: 'labkit doctor' says how."
                if cluster.is_embedded  # there a container's programs are this machine's
                else "Probe from a client that has one, such as 'curl-outside'."
            ),
            workload=str(reference),
        )
    sent = Probe(
        str(reference),
        _server_of(url, reference.namespace),
        port_of(url),
        RequestKind.HTTP,
        _method_of(command),
        urlsplit(url).path or "/",
        command[command.index("-d") + 1] if "-d" in command else "",
    )
    seen = observation_of(result, sent, injected=injected, command=_kubectl_line(reference, container, command))
    if not seen.http_status or not injected:
        return seen
    if before is not None and seen.outcome is Outcome.UNKNOWN:
        carried = _as_counted(cluster, pod, before, sent.server, seen.http_status)
        if carried is Outcome.PLAINTEXT and _originates_tls(cluster, pod, url):
            carried = Outcome.TLS
        if carried is not None:
            return _carried(seen, carried, "the client proxy's metrics")
    return _with_counters(cluster, reference, pod, url, seen, {} if readings is None else readings)


def _as_counted(cluster: Cluster, pod: Obj, before: tuple[Sample, ...], server: str, status: int) -> Outcome | None:
    """How the proxy says that it carried the request since `before`; None when it counts none."""
    namespace, _, name = server.rpartition("/")
    service = f"{name}.{namespace}." if namespace else server
    deadline = time.monotonic() + COUNTING_SECONDS
    while True:
        after = counted_by(cluster, pod, PATTERN)
        carried = outcome_between(before, after or (), service, status)
        if carried is not None or after is None or time.monotonic() > deadline:
            return carried


def _originates_tls(cluster: Cluster, pod: Obj, url: str) -> bool:
    """Whether the proxy speaks TLS of its own to a host outside: no metric tells that from plaintext.

    For Services auto mTLS is in `transport_socket_matches`; a `transport_socket` is what a DestinationRule asked for.
    """
    host, port = address_of(url)
    if ".svc" in host or re.fullmatch(r"[\d.]+|[^.]+", host):
        return False
    named = quote(rf"^outbound\|{port}\|[^|]*\|{re.escape(host)}$")
    command = ["pilot-agent", "request", "GET", f"config_dump?resource=dynamic_active_clusters&name_regex={named}"]
    found = cluster.execute(name_of(pod), namespace_of(pod), command, container=PROXY)
    return asks_for_tls(found.stdout)


def asks_for_tls(dump: str) -> bool:
    """Whether a cluster of a dump has a transport socket of its own, beside those it chooses per endpoint. Pure."""
    try:
        configs = json.loads(dump).get("configs") or ()
    except (ValueError, AttributeError):
        return False
    return any("transport_socket" in one.get("cluster", {}) for one in configs)


def _carried(seen: Observation, outcome: Outcome, told_by: str) -> Observation:
    return replace(seen, outcome=outcome, tls=TLSFacts(source=told_by) if outcome is Outcome.MTLS else None)


def _with_counters(
    cluster: Cluster, reference: WorkloadRef, pod: Obj, url: str, seen: Observation, readings: Readings
) -> Observation:
    """Ask a proxy that counts no requests how it spoke to the server: it tells handshakes from connections."""
    namespace, service = service_of(url, reference.namespace)
    # With or without a subset between the bars.
    envoy_cluster = rf"^cluster\.outbound\|{port_of(url)}\|[^|]*\|{re.escape(f'{service}.{namespace}.svc.')}"
    pattern = quote(f"{envoy_cluster}.*({'|'.join(_COUNTERS)})$")
    command = ["pilot-agent", "request", "GET", f"stats?format=json&filter={pattern}"]
    result = cluster.execute(name_of(pod), reference.namespace, command, container=PROXY)
    try:
        counters = {item["name"]: item["value"] for item in json.loads(result.stdout)["stats"] if "value" in item}
    except (ValueError, KeyError, TypeError):
        return seen
    key = (str(pod["metadata"].get("uid", "")), envoy_cluster)
    outcome = outcome_of(counters, readings.get(key))
    readings[key] = (counters, outcome)
    if seen.outcome is not Outcome.UNKNOWN:  # refused: what was counted must not be taken for the next probe's
        return seen
    return _carried(seen, outcome, "the client proxy's counters")


def outcome_of(counters: Mapping[str, int], earlier: Reading | None = None) -> Outcome:
    """How a proxy spoke to one Service since the `earlier` reading; without one, since it started. Pure.

    Every connection with a handshake: mTLS. None: plaintext. No new connection: the request went over one of the
    earlier ones. Some, or counters that are not kept (Istio keeps few by default, proxyStatsMatcher): unknown.
    """
    total = _totals(counters)
    if earlier is not None:
        before = _totals(earlier[0])
        since = {name: value - before[name] for name, value in total.items()}
        if min(since.values()) >= 0:  # else the proxy was restarted, and counts from zero
            return _judged(since) if since["upstream_cx_total"] else earlier[1]
    return _judged(total)


def _totals(counters: Mapping[str, int]) -> dict[str, int]:
    total = dict.fromkeys(_COUNTERS, 0)
    for name, value in counters.items():
        last = name.rpartition(".")[2]
        if last in total:
            total[last] += value
    return total


def _judged(total: Mapping[str, int]) -> Outcome:
    connections = total["upstream_cx_total"] - total["upstream_cx_connect_fail"]
    if not total["upstream_rq_total"] or not connections:
        return Outcome.UNKNOWN
    if not total["handshake"]:
        return Outcome.PLAINTEXT
    return Outcome.MTLS if total["handshake"] >= connections else Outcome.UNKNOWN


def observation_of(result: ExecResult, sent: Probe, *, injected: bool, command: str = "") -> Observation:
    """What curl's output says, as an Observation. Pure.

    Whether an answered request was encrypted cannot be told from the answer when the client has a sidecar: then the
    outcome stays unknown, and the proxies' own metrics and certificates have to be asked.
    """
    status, headers, body = parse_answer(result.stdout)
    by_proxy = status == 503 and injected and "upstream connect error" in body
    # The server's sidecar answers so when an AuthorizationPolicy denies; the application never saw the request.
    # Nobody stands behind the name, or (REGISTRY_ONLY) nobody knows it: the client's own proxy answers.
    own = injected and "x-envoy-upstream-service-time" not in headers and headers.get("server") == "envoy"
    by_proxy = by_proxy or (own and ((status == 503 and "no healthy upstream" in body) or (status == 502 and not body)))
    by_proxy = by_proxy or (status == 403 and body.strip() == "RBAC: access denied")
    if result.exit_code in REFUSED_EXITS or by_proxy:
        outcome = Outcome.REFUSED
    elif status and not injected:
        outcome = Outcome.PLAINTEXT  # nothing between this client's curl and the wire could have encrypted it
    else:
        outcome = Outcome.UNKNOWN
    return Observation(
        outcome=outcome,
        http_status=status,
        exit_code=result.exit_code,
        error=result.stderr.strip(),
        body=body,
        headers=headers,
        command=command,
        duration=result.seconds,
        probe=sent,
    )


def parse_answer(text: str) -> tuple[int | None, dict[str, str], str]:
    """(status, headers with lower-case names, body) of what `curl -i` printed; interim 1xx answers are skipped."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    match = re.match(r"HTTP/[\d.]+ (\d{3})", first)
    if not match:
        return None, {}, text
    status = int(match[1])
    if 100 <= status < 200:
        return parse_answer(body)
    pairs = (line.partition(":") for line in lines if ":" in line)
    return status, {key.strip().lower(): value.strip() for key, _, value in pairs}, body


def service_of(url: str, namespace: str) -> tuple[str, str]:
    """(namespace, name) of the Service that a URL names, as resolved from within `namespace`."""
    parts = (urlsplit(url).hostname or "").split(".")
    return (parts[1] if len(parts) > 1 else namespace), parts[0]


def path_of(url: str) -> str:
    """The path of a URL, `/` if it names none."""
    return urlsplit(url).path or "/"


def _server_of(url: str, namespace: str) -> str:
    host = urlsplit(url).hostname or ""
    if re.fullmatch(r"[\d.]+|[0-9a-f:]+", host):
        return host
    return "/".join(service_of(url, namespace))


def address_of(url: str) -> tuple[str, int]:
    """(host, port) of a URL. Raises InputError when it is not one that curl can call."""
    parts = urlsplit(url if isinstance(url, str) else "")
    try:
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname, port_of(url)
    except ValueError:  # a port that is no number
        pass
    raise InputError(
        f"{url!r} is not a URL that curl can call.",
        next_step="Write it whole, such as 'http://chatbackend-service.azureopenai:5000/chat'.",
        url=url,
    )


def port_of(url: str) -> int:
    """The port of a URL, with the scheme's default."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _method_of(command: list[str]) -> str:
    if "-X" in command:
        return command[command.index("-X") + 1]
    return "POST" if "-d" in command else "GET"


def _kubectl_line(reference: WorkloadRef, container: str, command: list[str]) -> str:
    where = f"-n {reference.namespace} {reference.kubectl_name} -c {container}"
    return f"kubectl exec {where} -- {shown_command(command)}"


def shown_command(command: Iterable[str]) -> str:
    """A command line for the eye: whoever reads a token may use it, so it stands there as $TOKEN."""
    return " ".join(_shown(argument) for argument in command)


def _shown(argument: str) -> str:
    name, colon, value = argument.partition(":")
    if not colon or name.lower() != "authorization":
        return shlex.quote(argument)
    scheme, _, credentials = value.strip().partition(" ")
    return f'"{name}: {scheme} $TOKEN"' if credentials else f'"{name}: $TOKEN"'
