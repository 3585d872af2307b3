"""Prometheus beside istiod, from `manifests/addons/prometheus.yaml`: the same on every cluster."""

from __future__ import annotations

from labkit.cluster import Cluster, Obj
from labkit.cluster.cluster import WAIT_SECONDS, Change
from labkit.cluster.kinds import POD
from labkit.cluster.manifests import find_path
from labkit.errors import MachineError, MeshError
from labkit.policy.peer_authentication import ROOT_NAMESPACE

MANIFEST = "manifests/addons/prometheus.yaml"
LABELS = {"app.kubernetes.io/name": "prometheus"}
_NOT_FOUND = 127
_TRIES = 3
"""So often a container may end before it counts as hopeless: a volume or a name may come a moment later."""


def prometheus_manifest(namespace: str = ROOT_NAMESPACE) -> str:
    """The add-on's manifest, for a mesh whose istiod is in this namespace."""
    return find_path(MANIFEST).read_text(encoding="utf-8").replace(ROOT_NAMESPACE, namespace)


def install_prometheus(
    cluster: Cluster, *, namespace: str = ROOT_NAMESPACE, limit: float = WAIT_SECONDS
) -> list[Change]:
    """Apply the add-on and wait until Prometheus answers.

    Raises MachineError when the embedded cluster's machine has no program `prometheus`; nothing is left behind then.
    """
    changes = cluster.apply(prometheus_manifest(namespace))
    try:
        cluster.wait_until(POD, missing, what="Prometheus to be ready", namespace=namespace, labels=LABELS, limit=limit)
    except (MachineError, MeshError):
        uninstall_prometheus(cluster, namespace=namespace)
        raise
    return changes


def uninstall_prometheus(cluster: Cluster, *, namespace: str = ROOT_NAMESPACE) -> list[Change]:
    """Remove it, and all that it has seen."""
    return cluster.delete_documents(prometheus_manifest(namespace))


def missing(pods: list[Obj]) -> str:
    """What keeps Prometheus from being ready. Raises an error with its own words when it has given up."""
    living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    for pod in living:
        for state in (pod.get("status") or {}).get("containerStatuses") or []:
            if state.get("ready"):
                return ""
            _judge(state)
    return "its pod is not ready" if living else "it has no pod"


def _judge(state: Obj) -> None:
    ended = (state.get("state") or {}).get("terminated") or (state.get("lastState") or {}).get("terminated") or {}
    words = str(ended.get("message") or "").strip()
    if ended.get("exitCode") == _NOT_FOUND:
        what, _, rest = words.partition("\n")
        lines = dict(line.strip().partition(":")[::2] for line in rest.splitlines() if ":" in line)
        raise MachineError(
            what or "The container of Prometheus has no program to run.",
            meaning=lines.get("What it means", "").strip(),
            next_step="Install it (Debian and Ubuntu: apt-get install prometheus), or do without: lab.metrics() reads "
            "the proxies themselves and answers the same questions about now.",
        )
    if int(state.get("restartCount") or 0) >= _TRIES and ended:
        raise MeshError(
            f"Prometheus ended with exit code {ended.get('exitCode')}, {_TRIES} times.",
            meaning=words[-500:],
            next_step="Look at its log: kubectl logs -n istio-system deploy/prometheus.",
        )
