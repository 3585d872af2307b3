"""A pod in words, and who is injected: facts read out of objects."""

from __future__ import annotations

from labkit.cluster import Obj
from labkit.observe.objects import (
    Snapshot,
    annotations_of,
    is_injected,
    labels_of,
    name_of,
    namespace_of,
    pod_status,
    ready_text,
)
from labkit.policy import injection_decision
from labkit.views.results import PodDescription


def describe(pod: Obj) -> PodDescription:
    """What `kubectl describe pod` tells that matters here."""
    status = pod.get("status", {})
    states = {
        s["name"]: s for s in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
    }
    facts = (
        ("status", pod_status(pod)),
        ("ready", ready_text(pod)),
        ("address", str(status.get("podIP", ""))),
        ("service account", str(pod["spec"].get("serviceAccountName", "default"))),
        ("node", str(pod["spec"].get("nodeName", ""))),
    )
    return PodDescription(
        namespace_of(pod),
        name_of(pod),
        labels_of(pod),
        annotations_of(pod),
        tuple(_container(c, states) for c in pod["spec"]["containers"]),
        tuple(_container(c, states) for c in pod["spec"].get("initContainers") or []),
        facts,
    )


def _container(container: Obj, states: dict[str, Obj]) -> dict[str, str]:
    state = states.get(container["name"], {})
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "state": _state(state.get("state") or {}),
        "restarts": str(state.get("restartCount", 0)),
        "ports": ", ".join(str(port["containerPort"]) for port in container.get("ports") or []),
    }


def _state(state: Obj) -> str:
    if "running" in state:
        return "running"
    if ended := state.get("terminated"):
        return f"{ended.get('reason', 'ended').lower()}, exit code {ended.get('exitCode')}"
    return str((state.get("waiting") or {}).get("reason", "waiting"))


def sidecar_rows(snapshot: Snapshot, revision: str) -> list[tuple[str, str, str, str, str]]:
    """(namespace, pod, sidecar, revision, what a new pod of this kind would get and why)."""
    labels = {name_of(namespace): labels_of(namespace) for namespace in snapshot.namespaces}
    rows = []
    for pod in snapshot.pods:
        where = namespace_of(pod)
        if where not in snapshot.shown or labels_of(pod).get("app") == "istiod":
            continue
        own = {key: value for key, value in labels_of(pod).items() if key != "security.istio.io/tlsMode"}
        decision = injection_decision(labels.get(where, {}), own, annotations_of(pod), revision, namespace=where)
        new = (
            "no mesh is installed"
            if not snapshot.mesh_installed
            else (f"{'with a sidecar' if decision.inject else 'without'}: {decision.reason}")
        )
        injected = is_injected(pod)
        rev = annotations_of(pod).get("istio.io/rev", "") if injected else ""
        rows.append((where, name_of(pod), "yes" if injected else "no", rev or "-", new))
    return sorted(rows)
