"""What the controls show: every setting as it is in the cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from labkit.cluster import Obj
from labkit.live.sender import Sender
from labkit.live.targets import targets_of
from labkit.observe.objects import PROXY, Snapshot, is_injected, labels_of, name_of, namespace_of, workload_name
from labkit.policy.knobs import Place, Setting, client_tls_of, setting_at, subsets_of
from labkit.views.model import make_map


@dataclass(frozen=True)
class WorkloadSetting:
    """A workload's mode, its ports' modes, and its sidecar."""

    place: Place
    mode: Setting
    ports: tuple[tuple[int, Setting], ...]
    injected: bool


@dataclass(frozen=True)
class TrafficSetting:
    """A call that can be sent, and how it is sent now: not at all when `rps` is 0."""

    client: str
    base: str  # http://service.namespace:port
    path: str
    rps: float = 0.0
    concurrency: int = 1
    problem: str = ""


@dataclass(frozen=True)
class Settings:
    """Everything that the controls show."""

    mesh: Setting | None
    namespaces: tuple[tuple[str, Setting, bool], ...]  # name, mode, whether new pods are injected
    workloads: tuple[WorkloadSetting, ...]
    clients: tuple[tuple[str, str, str], ...]  # service, subset, mode
    traffic: tuple[TrafficSetting, ...]
    problem: str = ""


def read_settings(snapshot: Snapshot, senders: Iterable[Sender], problem: str = "") -> Settings:
    """The settings of the snapshot's shown namespaces."""
    policies, root = snapshot.peer_authentications, snapshot.root_namespace
    shown = [name for name in snapshot.shown if name != root]
    there = {name_of(one): one for one in snapshot.namespaces}
    inhabited = {namespace_of(pod) for pod in snapshot.pods}
    namespaces = tuple(
        (name, setting_at(policies, Place(name), root), _injects(labels_of(there[name])))
        for name in shown
        if name in there and name in inhabited
    )
    return Settings(
        mesh=setting_at(policies, Place(), root) if snapshot.mesh_installed else None,
        namespaces=namespaces,
        workloads=tuple(_workloads(snapshot, shown)),
        clients=tuple(_clients(snapshot, shown)),
        traffic=tuple(_traffic(snapshot, list(senders))),
        problem=problem,
    )


def _injects(labels: dict[str, str]) -> bool:
    if labels.get("istio-injection"):
        return labels["istio-injection"] == "enabled"
    return bool(labels.get("istio.io/rev"))


def _workloads(snapshot: Snapshot, shown: list[str]) -> Iterable[WorkloadSetting]:
    found: dict[str, Obj] = {}
    for pod in snapshot.pods:
        if namespace_of(pod) in shown:
            found.setdefault(f"{namespace_of(pod)}/{workload_name(pod)}", pod)
    for name in sorted(found):
        pod = found[name]
        namespace, _, workload = name.partition("/")
        labels = labels_of(pod)
        numbers = {
            int(port["containerPort"])
            for container in pod["spec"]["containers"]
            if container["name"] != PROXY
            for port in container.get("ports") or []
        }
        policies, root = snapshot.peer_authentications, snapshot.root_namespace
        place = Place(namespace, workload, labels)
        ports = ((n, setting_at(policies, Place(namespace, workload, labels, n), root)) for n in sorted(numbers))
        yield WorkloadSetting(place, setting_at(policies, place, root), tuple(ports), is_injected(pod))


def _clients(snapshot: Snapshot, shown: list[str]) -> Iterable[tuple[str, str, str]]:
    rules = snapshot.destination_rules
    for service in sorted(snapshot.services, key=lambda one: (namespace_of(one), name_of(one))):
        name = f"{namespace_of(service)}/{name_of(service)}"
        if namespace_of(service) in shown and service["spec"].get("selector"):
            yield name, "", client_tls_of(rules, name)
            for subset in subsets_of(rules, name):
                yield name, subset, client_tls_of(rules, name, subset)


def _traffic(snapshot: Snapshot, senders: list[Sender]) -> Iterable[TrafficSetting]:
    found: dict[tuple[str, str], TrafficSetting] = {}
    for call, path in targets_of(make_map(snapshot), snapshot):
        namespace, _, name = call.service.partition("/")
        base = f"http://{name}.{namespace}:{call.port}"
        found[call.client, base] = TrafficSetting(call.client, base, path)
    for one in senders:
        orders, parts = one.orders, urlsplit(one.orders.url)
        base = f"{parts.scheme}://{parts.netloc}"
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        found[orders.client, base] = TrafficSetting(
            orders.client, base, path or "/", orders.rps, orders.concurrency, one.problem
        )
    return [found[key] for key in sorted(found)]
