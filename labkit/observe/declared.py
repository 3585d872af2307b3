"""What the policies of a snapshot declare: the effective mode of namespaces and workloads, and who decided it.

The rules are `labkit.policy`'s; this file only hands it the objects that were read.
"""

from __future__ import annotations

from labkit.cluster import Obj
from labkit.observe.objects import Snapshot, is_injected, workload_name
from labkit.policy import EffectiveMTLS, Workload, compose_peer_authentication, workload_from_pod

EFFECTIVE_COLUMNS = ("WORKLOAD", "SIDECAR", "MODE", "PORTS", "DECIDED BY")


def pod_effective(snapshot: Snapshot, pod: Obj) -> EffectiveMTLS:
    """What a pod's sidecar is told to accept."""
    return compose_peer_authentication(snapshot.peer_authentications, workload_from_pod(pod), snapshot.root_namespace)


def declared_mode(snapshot: Snapshot, pod: Obj, port: int | None) -> str:
    """The mode of one port of a pod; None asks for all ports that no policy names."""
    effective = pod_effective(snapshot, pod)
    return str((effective.mode if port is None else effective.mode_for_port(port)).value)


def namespace_effective(snapshot: Snapshot, namespace: str) -> EffectiveMTLS:
    """What holds for a workload of the namespace that no selector matches."""
    policies, root = snapshot.peer_authentications, snapshot.root_namespace
    return compose_peer_authentication(policies, Workload(namespace=namespace), root)


def mode_of(snapshot: Snapshot, namespace: str) -> str:
    """The mode of a namespace as plain text."""
    return str(namespace_effective(snapshot, namespace).mode.value)


def effective_rows(snapshot: Snapshot, namespace: str) -> list[tuple[str, str, str, str, str]]:
    """(workload, sidecar, mode, ports, decided by) for every workload of a namespace."""
    rows: dict[str, tuple[str, str, str, str, str]] = {}
    for pod in snapshot.pods_in(namespace):
        name = workload_name(pod)
        if name in rows:
            continue
        if not is_injected(pod):
            rows[name] = (name, "no", "-", "-", "nobody: without a sidecar no policy is enforced")
            continue
        effective = pod_effective(snapshot, pod)
        ports = ", ".join(f"{port}: {mode}" for port, mode in sorted(effective.per_port.items()))
        rows[name] = (name, "yes", str(effective.mode), ports or "-", str(effective.decided_by))
    return [rows[name] for name in sorted(rows)]
