"""Has every sidecar taken a policy over? Read from the filter chains that the proxies run, not from the policies.

A control plane needs a moment (Istio waits 100 ms for more changes first), and a request in that moment meets the
old rules. A lesson that probes right after it applied would now and then see the state before.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import POD
from labkit.errors import LabError
from labkit.observe.objects import PROXY, is_gateway, is_injected, is_ready, name_of, namespace_of

SETTLE_SECONDS = 10.0  # Istio's own longest wait for more changes, PILOT_DEBOUNCE_MAX
BLACKHOLE_PORT = 15006

_INBOUND = "config_dump?resource=dynamic_listeners&name_regex=^virtualInbound$"

Expected = Callable[[Obj, int | None], str]
"""The mode that a pod's port should have; None asks for ports that no filter chain names."""


def running_modes(dump: Mapping[str, Any]) -> dict[int | None, str]:
    """The mode of each port as the proxy runs it; None stands for all other ports.

    A terminating TLS chain alone is STRICT, a plaintext chain alone is DISABLE, both are PERMISSIVE.
    """
    accepts: dict[int | None, set[str]] = {}
    for chain in _chains(dump):
        match = chain.get("filter_chain_match") or {}
        port = match.get("destination_port")
        kinds = accepts.setdefault(port, set())
        if "transport_socket" in chain:
            kinds.add("mTLS")
        elif match.get("transport_protocol") != "tls":
            kinds.add("plaintext")
    accepts.pop(BLACKHOLE_PORT, None)
    modes = {frozenset({"mTLS"}): "STRICT", frozenset({"plaintext"}): "DISABLE"}
    return {port: modes.get(frozenset(kinds), "PERMISSIVE") for port, kinds in accepts.items()}


def _chains(dump: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for config in dump.get("configs") or []:
        listeners = config.get("dynamic_listeners") or [config]
        for item in listeners:
            state = item.get("active_state") or {}
            yield from (state.get("listener") or {}).get("filter_chains") or []


def wait_until_settled(
    cluster: Cluster, pods: Iterable[Obj], expected: Expected, *, limit: float = SETTLE_SECONDS
) -> list[str]:
    """Wait until every injected pod runs the modes that are expected. Returns what is still different, for words.

    A gateway has no application behind it, so no mode concerns it.
    """
    left = [pod for pod in pods if is_injected(pod) and not is_gateway(pod) and is_ready(pod)]
    until = time.monotonic() + limit
    pause = 0.005
    while left:
        left = [pod for pod in left if _differs(cluster, pod, expected)]
        if not left or time.monotonic() > until:
            break
        time.sleep(pause)  # the proxy has no watch for its own configuration
        pause = min(2 * pause, 0.25)
    return [f"{namespace_of(pod)}/{name_of(pod)} still runs its former configuration" for pod in left]


def wait_until_drained(cluster: Cluster, pods: Iterable[Obj], *, limit: float = SETTLE_SECONDS) -> None:
    """Wait until no connection is left that follows the rules of before.

    A proxy lets such a connection finish (the drain time), and a client's proxy may send one more request on it.
    """
    left = [pod for pod in pods if is_injected(pod) and is_ready(pod)]
    until, pause = time.monotonic() + limit, 0.01
    while left and time.monotonic() < until:
        left = [pod for pod in left if _drains(cluster, pod)]
        time.sleep(pause if left else 0)  # the proxy has no watch for its own statistics
        pause = min(2 * pause, 0.25)


def _drains(cluster: Cluster, pod: Obj) -> bool:
    answer = _ask(cluster, pod, "stats?filter=listener_manager.total_.*_draining") or ""
    counts = [line.rpartition(": ")[2] for line in answer.splitlines()]
    return any(count.isdigit() and int(count) > 0 for count in counts)


def _differs(cluster: Cluster, pod: Obj, expected: Expected) -> bool:
    answer = _ask(cluster, pod, _INBOUND)
    if answer is None:
        return False
    try:
        modes = running_modes(json.loads(answer))
    except ValueError:
        return True
    return not modes or any(mode != expected(pod, port) for port, mode in modes.items())


def _ask(cluster: Cluster, pod: Obj, path: str) -> str | None:
    """What the pod's proxy answers; None when the pod is on its way out, so that nobody calls it any more."""
    command = ["pilot-agent", "request", "GET", path]
    try:
        return cluster.execute(name_of(pod), namespace_of(pod), command, container=PROXY).stdout
    except LabError:
        now = cluster.find(POD, name_of(pod), namespace_of(pod))
        if now is None or "deletionTimestamp" in now["metadata"] or not is_ready(now):
            return None
        raise


def wait_until_held(
    cluster: Cluster, name: str, namespace: str, certificate: bytes, *, limit: float = SETTLE_SECONDS
) -> None:
    """Wait until the gateways of a namespace that ask for a Secret hold this certificate of it.

    Who does not ask is not waited for: a gateway asks for what its Gateways name.
    """
    left = [pod for pod in cluster.objects(POD, namespace) if is_gateway(pod) and is_ready(pod)]
    until, pause = time.monotonic() + limit, 0.01
    while left and time.monotonic() < until:
        left = [pod for pod in left if _lacks(cluster, pod, name, certificate)]
        time.sleep(pause if left else 0)  # the proxy has no watch for its own secrets
        pause = min(2 * pause, 0.25)


def _lacks(cluster: Cluster, pod: Obj, name: str, certificate: bytes) -> bool:
    dump = _ask(cluster, pod, "config_dump")
    if dump is None or name not in dump:
        return False
    # In real Istio as bytes, else as a string of JSON.
    forms = (base64.b64encode(certificate).decode(), json.dumps(certificate.decode())[1:-1])
    return not any(form in dump for form in forms)
