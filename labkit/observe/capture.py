"""What crosses to a workload's ports: tcpdump in an ephemeral container of each of its pods, through the API server.

This is what `kubectl debug POD --image=nicolaka/netshoot` and `tcpdump -w -` do by hand, on every cluster in the same
way: https://kubernetes.io/docs/tasks/debug/debug-application/debug-running-pod/#ephemeral-container. The program
listens on `eth0`, that is between the pods. On `lo` (`inside`) of a pod with a sidecar it sees what the proxy hands to
its application, and that is plaintext always: mTLS ends at the proxy.

On the embedded cluster `tcpdump` is a program of its own. The bytes in its packets are those that crossed; the headers
of TCP and IP around them are rebuilt, because nobody without privileges is shown those of the kernel. So a packet is a
piece of the stream and not one of the kernel's, and bare acknowledgements are missing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import NODE, POD, SERVICE
from labkit.cluster.streaming import Stream
from labkit.errors import ClusterError, InputError, LabError, WaitTimeoutError
from labkit.observe.objects import (
    PROXY,
    find_workload,
    is_finished,
    is_injected,
    is_terminating,
    labels_of,
    matches,
    name_of,
    namespace_of,
    workload_name,
)
from labkit.observe.packets import Address, CaptureFile, Packet, read_file, tcp_packets, tell_apart
from labkit.policy.workload import workload_from_pod

IMAGE_VARIABLE = "LABKIT_CAPTURE_IMAGE"
IMAGE = "nicolaka/netshoot:v0.13"
"""An image with sh and tcpdump; IMAGE_VARIABLE names another one, for clusters with a registry of their own."""

OUTSIDE, INSIDE = "eth0", "lo"
PROXY_INSIDE = "127.0.0.6"
"""Where a sidecar calls its application from: pilot/pkg/networking/core, InboundPassthroughBindIpv4."""

CONTAINER = "labkit-wire"
LIFETIME = 3600
"""Seconds for which an added container waits for the next capture: none can ever be taken out of a pod again."""

LIMIT = 600.0
"""Seconds after which a capture ends that nobody has ended."""

MOST_PACKETS = 20_000
"""A capture ends by itself once it has so many: it is for a look, and is kept in memory."""

PULL_SECONDS = 90.0
START_SECONDS = 20.0
PROXY_PORTS = (15000, 15001, 15006, 15020, 15021, 15090)

_ENOUGH = b"enough\n"

# A line of input is the word that it is enough; the end of input says that nobody is there any more.
_SCRIPT = """exec 3<&0
timeout "$0" tcpdump -i "$1" -n -s 0 -c "$3" -U --immediate-mode -w - "$2" 3<&- </dev/null & look=$!
{ read -r word <&3; kill "$look"; } >/dev/null 2>&1 & listen=$!
wait "$look"; code=$?
kill "$listen" 2>/dev/null
exit $code"""

_QUIET, _QUIET_LIMIT = 0.1, 1.0
"""Before the end: nothing has come for so long, so what was sent is in. At most so long."""


@dataclass(frozen=True)
class Target:
    """A pod, and the ports of it that are looked at."""

    pod: str
    namespace: str
    workload: str
    address: str
    ports: tuple[int, ...]
    interface: str = OUTSIDE

    @property
    def expression(self) -> str:
        ports = " or ".join(f"port {port}" for port in self.ports)
        return f"tcp and host {self.address} and ({ports})"


def find_targets(cluster: Cluster, server: str, port: int | None = None, *, inside: bool = False) -> list[Target]:
    """The running pods of a workload with the ports to look at. Raises InputError when there is nothing to look at."""
    found = find_workload(cluster, server)
    pods = [pod for pod in found.pods if not is_terminating(pod) and not is_finished(pod) and _address(pod)]
    if not pods:
        raise InputError(f"{found} has no running pod.", next_step="Look at lab.pods().", workload=str(found))
    if inside and not all(is_injected(pod) for pod in pods):
        raise InputError(
            f"{found} has no sidecar, so there is nothing between a proxy and the application.",
            next_step="Leave inside=True out: what crosses to the pod is what the application gets.",
            workload=str(found),
        )
    services, interface = cluster.objects(SERVICE, found.namespace), INSIDE if inside else OUTSIDE
    return [
        Target(name_of(pod), found.namespace, str(found), _address(pod), ports, interface)
        for pod in pods
        for ports in [_ports(str(found), pod, services, port)]
    ]


def _address(pod: Obj) -> str:
    return str((pod.get("status") or {}).get("podIP") or "")


def _ports(workload: str, pod: Obj, services: Iterable[Obj], wanted: int | None) -> tuple[int, ...]:
    declared = {one.number: one.name for one in workload_from_pod(pod).ports if one.protocol == "TCP"}
    named = {name: number for number, name in declared.items() if name}
    known, leads = set(declared), {}
    for service in services:
        selector = (service.get("spec") or {}).get("selector") or {}
        if not selector or not matches(selector, labels_of(pod)):
            continue
        for port in service["spec"].get("ports") or ():
            target = port.get("targetPort") or port["port"]
            number = target if isinstance(target, int) else named.get(str(target))
            if number and port.get("protocol", "TCP") == "TCP":
                known.add(number)
                leads[int(port["port"])] = number
    if wanted is None and known:
        return tuple(sorted(known))
    if wanted in known or (wanted in PROXY_PORTS and is_injected(pod)):
        return (int(wanted or 0),)
    listed = ", ".join(map(str, sorted(known)))
    if wanted is None:
        raise InputError(
            f"{workload} serves no port that is known: its containers declare none, and no Service leads to it.",
            next_step="Capture at the side that is called: a client's connections arrive there.",
            workload=workload,
        )
    hint = f" Its Service's port {wanted} leads to {leads[wanted]}." if wanted in leads else ""
    raise InputError(
        f"{workload} has no port {wanted}.{hint}",
        meaning=f"It serves {listed or 'none that is declared'}.",
        next_step="Leave the port out to see all of them.",
        workload=workload,
    )


def names_by_address(cluster: Cluster) -> dict[str, str]:
    """Who is behind an address: workloads, and the node, from which kube-proxy and kubelets may call."""
    names = {}
    for node in cluster.objects(NODE):
        for one in (node.get("status") or {}).get("addresses") or ():
            names[str(one.get("address"))] = f"node {name_of(node)}"
    for pod in cluster.objects(POD):
        if _address(pod) and not is_finished(pod) and not (pod.get("spec") or {}).get("hostNetwork"):
            names[_address(pod)] = f"{namespace_of(pod)}/{workload_name(pod)}"
    return {**names, PROXY_INSIDE: PROXY}


# The container


def debugger(cluster: Cluster, target: Target, image: str, needed: float) -> str:
    """The name of a running container in the pod that has tcpdump, made if there is none. Raises ClusterError."""
    pod = cluster.get(POD, target.pod, target.namespace)
    listed = (pod.get("spec") or {}).get("ephemeralContainers") or ()
    for one in listed:
        if one["name"].startswith(CONTAINER) and one.get("image") == image and _remaining(pod, one["name"]) > needed:
            return str(one["name"])
    name = f"{CONTAINER}-{1 + len(listed)}"
    container = {
        "name": name,
        "image": image,
        "command": ["sleep", str(LIFETIME)],
        "securityContext": {
            "runAsUser": 0,
            "runAsNonRoot": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]},
        },
    }
    cluster.add_ephemeral_container(target.pod, target.namespace, container)
    _await_running(cluster, target, name, image)
    return name


def _state(pod: Obj, name: str) -> Obj:
    statuses = (pod.get("status") or {}).get("ephemeralContainerStatuses") or ()
    return next((one.get("state") or {} for one in statuses if one["name"] == name), {})


def _remaining(pod: Obj, name: str) -> float:
    started = (_state(pod, name).get("running") or {}).get("startedAt")
    if not started:
        return 0.0
    return LIFETIME - (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()


def _await_running(cluster: Cluster, target: Target, name: str, image: str) -> None:
    until = time.monotonic() + PULL_SECONDS
    pause, last = 0.02, "nothing yet"
    while time.monotonic() < until:
        state = _state(cluster.get(POD, target.pod, target.namespace), name)
        if "running" in state:
            return
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        last = str(waiting.get("reason") or ended.get("reason") or last)
        if ended or last in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerError"):
            words = str(waiting.get("message") or ended.get("message") or "")
            raise ClusterError(
                f"The container for the capture does not start in pod {target.pod}: {last}.",
                meaning=next(iter(words.splitlines()), ""),
                next_step=f"Name an image with sh and tcpdump that the cluster can pull: export {IMAGE_VARIABLE}=...",
                image=image,
            )
        time.sleep(pause)
        pause = min(2 * pause, 0.5)
    raise WaitTimeoutError(
        f"The capture's container did not start in pod {target.pod} within {PULL_SECONDS:g} s; last seen: {last}.",
        next_step=f"Look at it: kubectl describe pod {target.pod} -n {target.namespace}.",
    )


# The capture


@dataclass
class _Tcpdump:
    target: Target
    stream: Stream
    limit: float
    told: bool = False
    """Whether it was told that it is enough."""
    expired: bool = False

    def __post_init__(self) -> None:
        self._timer = threading.Timer(self.limit, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        self.expired = not self.stream.ended.is_set()
        self.stream.write(_ENOUGH)

    @classmethod
    def start(cls, cluster: Cluster, target: Target, image: str, limit: float) -> _Tcpdump:
        container = debugger(cluster, target, image, limit + 60)
        command = [
            "sh",
            "-c",
            _SCRIPT,
            str(round(limit + START_SECONDS)),
            target.interface,
            target.expression,
            str(MOST_PACKETS),
        ]
        stream = cluster.stream(target.pod, target.namespace, command, container=container)
        if not stream.wait_for("listening on", START_SECONDS):
            words = " ".join(stream.stderr.split()) or stream.failure or "it said nothing"
            stream.close()
            raise ClusterError(
                f"tcpdump does not run in pod {target.pod}: {words}",
                next_step="A capture needs an image with tcpdump, and the capability NET_RAW for its container.",
                pod=target.pod,
            )
        return cls(target, stream, limit)

    def stop(self) -> None:
        self._timer.cancel()
        self.told = not self.expired and not self.stream.ended.is_set()
        self.stream.wait_until_quiet(_QUIET, _QUIET_LIMIT)
        self.stream.write(_ENOUGH)
        self.stream.ended.wait(START_SECONDS)
        self.stream.close()

    @property
    def notes(self) -> list[str]:
        """What it said beside the usual."""
        notes = [line.removeprefix("tcpdump: ") for line in self.stream.stderr.splitlines() if not _is_usual(line)]
        if self.told or not self.stream.ended.is_set():
            return notes
        if self.expired:
            return [*notes, f"it ended by itself after {self.limit:g} s"]
        if f"{MOST_PACKETS} packets captured" in self.stream.stderr:
            return [*notes, f"it ended by itself after {MOST_PACKETS} packets"]
        return [*notes, f"it broke off, as pod {self.target.pod} or its container did: {self.stream.failure}"]


_USUAL = (
    *("listening on", "packets captured", "packet captured", "received by filter", "0 packets dropped"),
    *("verbose output", "dropped privs"),
)


def _is_usual(line: str) -> bool:
    return not line.strip() or any(words in line for words in _USUAL)


@dataclass
class Session:
    """A capture of all pods of a workload, running or over."""

    server: str
    targets: tuple[Target, ...]
    names: dict[str, str] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0
    _running: list[_Tcpdump] = field(default_factory=list)
    _refresh: Callable[[], dict[str, str]] | None = None

    @property
    def inside(self) -> bool:
        return any(one.interface == INSIDE for one in self.targets)

    @property
    def running(self) -> bool:
        return not self.ended and any(not one.stream.ended.is_set() for one in self._running)

    @property
    def seconds(self) -> float:
        return (self.ended or time.time()) - self.started

    def wait(self, seconds: float) -> None:
        """Let it run for so long, or until it has ended by itself."""
        until = time.monotonic() + seconds
        for one in self._running:
            one.stream.ended.wait(max(0.0, until - time.monotonic()))

    def stop(self) -> None:
        """End it; what was seen stays. Nothing when it is over."""
        if self.ended:
            return
        for one in self._running:
            one.stop()
        self.ended = time.time()
        if self._refresh:
            with contextlib.suppress(LabError):  # the names from the beginning must do then
                self.names = {**self._refresh(), **self.names}

    @property
    def notes(self) -> list[str]:
        """What there is to say about it: connections that could not be seen, a pod that went away."""
        return [note for one in self._running for note in one.notes]

    def file(self) -> CaptureFile:
        """All packets so far, in the order of their times."""
        files = [read_file(one.stream.stdout) for one in self._running]
        records = sorted(((record for file in files for record in file.records)), key=lambda record: record[0])
        return CaptureFile(files[0].linktype if files else 101, tuple(records))

    def packets(self) -> list[Packet]:
        """All packets so far, told apart."""
        return tell_apart(tcp_packets(self.file()))

    def is_server(self, end: Address) -> bool:
        """Whether this end of a connection is the one that is looked at."""
        return any(end[0] == one.address and end[1] in one.ports for one in self.targets)


def start(
    cluster: Cluster,
    server: str,
    *,
    port: int | None = None,
    inside: bool = False,
    image: str = "",
    limit: float = LIMIT,
) -> Session:
    """Begin to look at a workload's ports; returns once what crosses is seen. Raises LabError when it cannot be."""
    if not 0 < limit <= LIFETIME / 2:
        raise InputError(
            f"A capture cannot run for {limit:g} s.", next_step=f"Name between 1 and {LIFETIME // 2} seconds."
        )
    targets = find_targets(cluster, server, port, inside=inside)
    chosen = image or os.environ.get(IMAGE_VARIABLE) or IMAGE
    session = Session(targets[0].workload, tuple(targets), names_by_address(cluster))
    session._refresh = lambda: names_by_address(cluster)
    try:
        session._running += _start_all(cluster, targets, chosen, limit)
    except BaseException:
        session.stop()
        raise
    session.started = time.time()
    return session


def _start_all(cluster: Cluster, targets: Sequence[Target], image: str, limit: float) -> list[_Tcpdump]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=8) as pool:
        futures: list[Any] = [pool.submit(_Tcpdump.start, cluster, target, image, limit) for target in targets]
    failed = next((future.exception() for future in futures if future.exception()), None)
    started = [future.result() for future in futures if not future.exception()]
    if failed:
        for one in started:
            one.stop()
        raise failed
    return started
