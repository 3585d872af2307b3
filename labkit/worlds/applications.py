"""The applications of a world: deployed as their manifests say, with or without sidecars, and nothing beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from labkit.cluster import MANAGED_BY_LABEL, MANAGER, Cluster, Obj
from labkit.cluster.cluster import Change
from labkit.cluster.kinds import CONFIGMAP, DEPLOYMENT, NAMESPACE, POD, SECRET, SERVICE, SERVICEACCOUNT, Kind
from labkit.cluster.manifests import Document, load_documents
from labkit.course import APPLICATIONS, Application, World, lessons
from labkit.drills import drills
from labkit.observe.mesh import MeshStatus
from labkit.observe.objects import annotations_of, is_injected, is_terminating, labels_of, name_of, workload_name
from labkit.observe.waiting import wait_until_ready

_NATURAL = {"kube-root-ca.crt", "istio-ca-root-cert", "default"}
"""What Kubernetes and Istio put into each namespace by themselves."""
_IN_A_NAMESPACE = (DEPLOYMENT, SERVICE, CONFIGMAP, SECRET, SERVICEACCOUNT)
_BESIDE = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True)
class Placed:
    """An application with the documents of its manifests."""

    name: str
    application: Application
    documents: tuple[Document, ...]

    @property
    def namespace(self) -> str:
        return self.application.namespace

    @property
    def deployments(self) -> list[Document]:
        return [document for document in self.documents if document.kind == "Deployment"]


class Putter(Protocol):
    """What deploying needs of a lab."""

    cluster: Cluster

    def put(self, source: Any) -> list[Change]: ...
    def put_labels(self, namespace: str, labels: dict[str, str | None]) -> Change: ...


def placed(world: World) -> tuple[Placed, ...]:
    """The applications of a world, with their documents."""
    found = [(name, APPLICATIONS[name]) for name in world.applications]
    return tuple(Placed(name, app, tuple(load_documents(app.manifests))) for name, app in found)


def deploy(lab: Putter, app: Placed, label: dict[str, str]) -> list[str]:
    """Apply an application's manifests into its namespace, labelled as it wants it. Does not wait."""
    cluster, namespace, said = lab.cluster, app.namespace, []
    there = cluster.find(NAMESPACE, namespace)
    if there is not None and there["metadata"].get("deletionTimestamp"):
        cluster.wait_until_gone([Change("deleted", NAMESPACE, namespace, before=there)])
        there = None
    if there is None:
        said += changed(lab.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
    if app.application.inject is not None:
        wanted: dict[str, str | None] = {"istio-injection": None, "istio.io/rev": None}
        wanted |= label if app.application.inject else {}
        if lab.put_labels(namespace, wanted).action != "unchanged":
            pairs = ", ".join(f"{key}={value}" for key, value in wanted.items() if value) or "without injection"
            said.append(f"labelled namespace {namespace} {pairs}")
    said += _remove_altered(cluster, app)
    applied = changed(lab.put(app.application.manifests))
    return said + [line for line in applied if line != f"configured namespace/{namespace}"]


def _remove_altered(cluster: Cluster, app: Placed) -> list[str]:
    """Deployments whose pods were given other labels or containers by hand: an apply would leave those there."""
    gone, said = [], []
    for document in app.deployments:
        found = cluster.find(DEPLOYMENT, document.name, app.namespace)
        if found is not None and _shape(found["spec"]) != _shape(document.obj["spec"]):
            gone.append(cluster.delete(DEPLOYMENT, document.name, app.namespace))
            said.append(f"made deployment {document.name} anew, whose pods were not as the manifest says")
    cluster.wait_until_gone(gone)
    return said


def _shape(spec: Obj) -> tuple[Any, ...]:
    template = spec["template"]
    labels = dict(template["metadata"].get("labels") or {})
    labels.pop(MANAGED_BY_LABEL, None)
    notes = template["metadata"].get("annotations") or {}
    istio = {key: value for key, value in notes.items() if "istio.io" in key}
    containers = [
        (c["name"], c["image"], c.get("args"), c.get("command"), _variables(c)) for c in template["spec"]["containers"]
    ]
    return labels, istio, containers, spec.get("replicas", 1)


def _variables(container: Obj) -> list[tuple[str, Any]]:
    return [(one["name"], one.get("value")) for one in container.get("env") or []]


def wait_until_deployed(cluster: Cluster, app: Placed, revision: str) -> list[str]:
    """Wait for the pods, and restart those that are not as a new pod would be."""
    for document in app.deployments:
        wait_until_ready(cluster, f"{app.namespace}/{document.name}")
    ours = {document.name for document in app.deployments}
    injected = bool(app.application.inject) and not app.application.plain and bool(revision)
    pods = [pod for pod in cluster.objects(POD, app.namespace) if not is_terminating(pod)]
    stale = {
        workload_name(pod)
        for pod in pods
        if workload_name(pod) in ours and not _belongs(pod, revision if injected else "")
    }
    said = []
    for name in sorted(stale):
        restart(cluster, name, app.namespace)
        kind = "no sidecar of this mesh" if injected else "a sidecar"
        said.append(f"restarted {app.namespace}/{name}, whose pods had {kind}")
    for name in sorted(stale):
        wait_until_ready(cluster, f"{app.namespace}/{name}")
    return said


def restart(cluster: Cluster, deployment: str, namespace: str) -> Change:
    """What `kubectl rollout restart` does: an annotation of the pod template, so that new pods are made."""
    stamp = {"kubectl.kubernetes.io/restartedAt": datetime.now(UTC).isoformat(timespec="microseconds")}
    patch = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    return cluster.patch(DEPLOYMENT, deployment, patch, namespace)


def _belongs(pod: Obj, revision: str) -> bool:
    if not revision:
        return not is_injected(pod)
    return is_injected(pod) and annotations_of(pod).get("istio.io/rev", revision) == revision


def leftovers(cluster: Cluster, app: Placed, wanted: Iterable[Placed]) -> list[tuple[Kind, Obj]]:
    """What stands in an application's namespace and belongs to no application of this world."""
    expected = {(d.kind, d.name) for other in wanted if other.namespace == app.namespace for d in other.documents}
    if app.namespace == "default":
        return []  # see `namespaces_in_the_way`
    found = [
        (kind, obj)
        for kind in _IN_A_NAMESPACE
        for obj in cluster.objects(kind, app.namespace)
        if (kind.kind, name_of(obj)) not in expected and name_of(obj) not in _NATURAL
    ]
    found += [(POD, pod) for pod in cluster.objects(POD, app.namespace) if _stands_alone(pod)]
    return [(kind, obj) for kind, obj in found if cluster.disposable or _is_ours(obj)]


def namespaces_of_lessons() -> set[str]:
    """Where lessons and drills work: the namespaces of applications, those that lessons make, and `default`."""
    worlds = [lesson.world for lesson in lessons().values()] + [drill.world for drill in drills().values()]
    return {app.namespace for app in APPLICATIONS.values()} | {name for world in worlds for name in world.makes}


def namespaces_in_the_way(cluster: Cluster, wanted: Sequence[Placed], status: MeshStatus) -> list[tuple[Kind, Obj]]:
    """Namespaces that lessons made and this world does not have, and what lessons left in `default`."""
    keep = {app.namespace for app in wanted} | {*_BESIDE, status.namespace}
    known = namespaces_of_lessons() - {"default"}
    found = [(NAMESPACE, one) for one in cluster.objects(NAMESPACE) if name_of(one) in known - keep]
    expected = {(d.kind, d.name) for app in wanted if app.namespace == "default" for d in app.documents}
    own = {d.name for name in ("curl-outside", "load") for d in load_documents(APPLICATIONS[name].manifests)}
    for kind in _IN_A_NAMESPACE:
        for obj in cluster.objects(kind, "default"):
            if name_of(obj) in _NATURAL or (kind.kind, name_of(obj)) in expected:
                continue
            if _is_ours(obj) or name_of(obj) in own:
                found.append((kind, obj))
    return found


def _is_ours(obj: Obj) -> bool:
    return labels_of(obj).get(MANAGED_BY_LABEL) == MANAGER


def _stands_alone(pod: Obj) -> bool:
    return not pod["metadata"].get("ownerReferences") and not is_terminating(pod)


def changed(changes: Iterable[Change]) -> list[str]:
    """A line for each object that was not right already."""
    return [f"{c.action} {c.kind.resource}/{c.name}" for c in changes if c.action != "unchanged"]
