"""The state that a lesson starts from, made for real on an empty or a used cluster, and the way back.

Only objects that labkit made are removed; on a cluster that exists for lessons alone (`Cluster.disposable`), also
whatever else stands in the lesson's way. Everything else stops with an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from labkit.cluster import MANAGED_BY_LABEL, MANAGER, Cluster, Obj
from labkit.cluster.cluster import Change
from labkit.cluster.kinds import CRD, DEPLOYMENT, NAMESPACE, PEER_AUTHENTICATION, POD, Kind
from labkit.errors import InputError, LabError
from labkit.observe.mesh import MeshStatus, mesh_status
from labkit.observe.objects import annotations_of, is_injected, labels_of, name_of, namespace_of, workload_name
from labkit.observe.waiting import wait_until_ready

APP = "azureopenai"
OUTSIDE = "curl-outside"
CHAT_MANIFESTS = "manifests/apps/chat"
OUTSIDE_MANIFEST = "manifests/apps/curl-outside/curl-outside.yaml"


@dataclass(frozen=True)
class World:
    """What a lesson starts from: a mesh or none, the chat application or none. No policies in any of them."""

    mesh: bool
    application: bool


WORLDS = {
    "00": World(mesh=False, application=False),
    "01": World(mesh=False, application=False),
    "02": World(mesh=True, application=False),
    "03": World(mesh=True, application=True),
    "04": World(mesh=True, application=True),
}


def find_world(lesson: str) -> World:
    """The world of a lesson. Raises InputError, which lists the lessons."""
    world = WORLDS.get(str(lesson)[:2])
    if world is None:
        raise InputError(f"There is no lesson {lesson!r}.", next_step=f"Lessons: {', '.join(WORLDS)}.", lesson=lesson)
    return world


class Builder(Protocol):
    """What making a world needs of a lab: the verbs that keep a journal."""

    cluster: Cluster

    def put_mesh(self, namespace: str, revision: str) -> None: ...
    def remove_mesh(self, status: MeshStatus) -> None: ...
    def put(self, source: object) -> list[Change]: ...
    def put_labels(self, namespace: str, labels: dict[str, str]) -> Change: ...
    def remove_policy(self, name: str, namespace: str) -> Change: ...
    def lose(self, what: str) -> None: ...


def make_world(lab: Builder, world: World, mesh_namespace: str, revision: str) -> list[str]:
    """Bring the cluster to `world` and say what was changed; nothing when it is there already."""
    said: list[str] = []
    said += _remove_policies(lab)
    if not world.application:
        said += _remove_application(lab)
    said += _mesh(lab, world, mesh_namespace, revision)
    if world.application:
        said += _changed(lab.put(OUTSIDE_MANIFEST))
        said += _application(lab)
    return said


def _mesh(lab: Builder, world: World, mesh_namespace: str, revision: str) -> list[str]:
    status = mesh_status(lab.cluster)
    there = status.installed or status.knows_peer_authentication
    wanted = (mesh_namespace, revision)
    if world.mesh and status.ready and (status.namespace, status.revision) == wanted:
        return []
    said = []
    if there and not (world.mesh and not status.installed):
        if not (lab.cluster.disposable or status.ours):
            if world.mesh:
                return [f"uses the mesh that is here: {status.namespace}, revision {status.revision}"]
            raise InputError(
                f"This lesson starts without a mesh, and there is one in {status.namespace}.",
                meaning="labkit did not install it, so it does not remove it.",
                next_step="Run this lesson on another cluster, or on the embedded one: labkit.open('embedded').",
            )
        # Its pods would keep sidecars with the configuration and the certificates of a mesh that is gone.
        said += _remove_application(lab)
        lab.remove_mesh(status)
        for crd in lab.cluster.objects(CRD) if not status.installed else ():  # a mesh that was removed by halves
            if name_of(crd).endswith(".istio.io"):
                lab.cluster.delete(CRD, name_of(crd))
        said.append(f"removed the mesh in {status.namespace or 'pieces'}")
    if world.mesh:
        lab.put_mesh(mesh_namespace, revision)
        said.append(f"installed the mesh in {mesh_namespace}, revision {revision}")
    return said


def _application(lab: Builder) -> list[str]:
    cluster = lab.cluster
    label = mesh_status(cluster).injection_label
    said = []
    namespace = cluster.find(NAMESPACE, APP)
    if namespace is not None and namespace["metadata"].get("deletionTimestamp"):
        cluster.wait_until_gone([Change("deleted", NAMESPACE, APP, before=namespace)])
        namespace = None
    if namespace is None:
        said += _changed(lab.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": APP}}))
    if lab.put_labels(APP, label).action != "unchanged":
        said.append(f"labelled namespace {APP} {next(iter(label))}={next(iter(label.values()))}")
    said += [line for line in _changed(lab.put(CHAT_MANIFESTS)) if f"namespace/{APP}" not in line]
    wait_until_ready(cluster, APP)
    wait_until_ready(cluster, f"default/{OUTSIDE}")
    revision = label["istio.io/rev"]
    stale = {workload_name(pod) for pod in cluster.objects(POD, APP) if not _belongs(pod, revision)}
    for name in sorted(stale):
        restart(cluster, name, APP)
        said.append(f"restarted {APP}/{name}, whose pods had no sidecar of this mesh")
    if stale:
        wait_until_ready(cluster, APP)
    return said


def restart(cluster: Cluster, deployment: str, namespace: str) -> Change:
    """What `kubectl rollout restart` does: an annotation of the pod template, so that new pods are made."""
    from datetime import UTC, datetime

    stamp = {"kubectl.kubernetes.io/restartedAt": datetime.now(UTC).isoformat(timespec="microseconds")}
    patch = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    return cluster.patch(DEPLOYMENT, deployment, patch, namespace)


def _belongs(pod: Obj, revision: str) -> bool:
    return is_injected(pod) and annotations_of(pod).get("istio.io/rev", revision) == revision


def _remove_policies(lab: Builder) -> list[str]:
    cluster, said = lab.cluster, []
    for policy in cluster.objects(PEER_AUTHENTICATION):
        where = namespace_of(policy)
        concerned = where in (APP, "default") or where == mesh_status(cluster).namespace
        if concerned:
            _may_remove(cluster, policy, "peerauthentication")
            lab.remove_policy(name_of(policy), where)
            said.append(f"removed peerauthentication {where}/{name_of(policy)}")
    return said


def _remove_application(lab: Builder) -> list[str]:
    # It is not put back: it is the lessons' own, and each lesson that needs it makes it anew.
    cluster = lab.cluster
    said, gone = [], []
    for kind, name, namespace in ((NAMESPACE, APP, None), (DEPLOYMENT, OUTSIDE, "default")):
        found = cluster.find(kind, name, namespace)
        if found is not None:
            _may_remove(cluster, found, kind.resource)
            gone.append(cluster.delete(kind, name, namespace))
            lab.lose(f"{kind.resource} {name}")
            said.append(f"removed {kind.resource} {name}")
    wait_until_gone(cluster, gone)
    return said


def _may_remove(cluster: Cluster, obj: Obj, resource: str) -> None:
    if cluster.disposable or labels_of(obj).get(MANAGED_BY_LABEL) == MANAGER:
        return
    where = f" -n {namespace_of(obj)}" if namespace_of(obj) else ""
    raise InputError(
        f"The {resource} {name_of(obj)!r} stands in this lesson's way.",
        meaning="labkit did not make it, so it does not remove it.",
        next_step=f"If you can do without it: 'kubectl delete {resource} {name_of(obj)}{where}'.",
    )


def wait_until_gone(cluster: Cluster, changes: Iterable[Change]) -> None:
    """Wait for deleted namespaces with all they held, and for the pods of deleted Deployments."""
    changes = list(changes)
    cluster.wait_until_gone(changes)
    for change in changes:
        if change.kind == DEPLOYMENT and change.before and change.action == "deleted":
            selector = change.before["spec"]["selector"].get("matchLabels") or {}
            cluster.wait_until(
                POD,
                lambda pods: ", ".join(name_of(pod) for pod in pods),
                what=f"the pods of {change.name} to be gone",
                namespace=change.namespace,
                labels=selector,
            )


def _changed(changes: Iterable[Change]) -> list[str]:
    return [f"{c.action} {c.kind.resource}/{c.name}" for c in changes if c.action != "unchanged"]


# -- the way back -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Undo:
    """One step back, in the past tense. `owner` is the namespace that takes the object along when it goes itself."""

    what: str
    run: Callable[[], object]  # a Change is waited for
    owner: str | None = None


class Journal:
    """What was changed since the lab was opened, so that it can be put back, newest first."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._steps: list[Undo] = []
        self._made: set[str] = set()  # namespaces

    def record(self, changes: Iterable[Change]) -> None:
        """Remember changes that were made through the cluster."""
        for change in changes:
            if change.action == "created":
                if change.kind == NAMESPACE:
                    self._made.add(change.name)
                self.add(
                    Undo(f"removed {change.kind.resource}/{change.name}", self._deletion(change), change.namespace)
                )
            elif change.action in ("configured", "deleted") and change.before is not None:
                self.add(
                    Undo(f"restored {change.kind.resource}/{change.name}", self._restoring(change), change.namespace)
                )

    def record_labels(self, change: Change, labels: Iterable[str]) -> None:
        """Remember the labels of a namespace as they were."""
        if change.action == "configured" and change.before is not None:
            old = labels_of(change.before)
            before = {key: old.get(key) for key in labels}

            def restore() -> Change | None:
                if self._cluster.find(NAMESPACE, change.name) is None:
                    return None
                return self._cluster.label(NAMESPACE, change.name, before)

            self.add(Undo(f"restored the labels of namespace {change.name}", restore, change.name))

    def add(self, step: Undo) -> None:
        """Remember one step back."""
        self._steps.append(step)

    def undo(self) -> tuple[list[str], list[str]]:
        """Go all the way back. Returns what was put back, and what could not be."""
        undone, failed, gone = [], [], []
        while self._steps:
            step = self._steps.pop()
            if step.owner in self._made:
                continue  # goes with its namespace
            try:
                change = step.run()
            except LabError as error:
                failed.append(f"{step.what}: {error.what}")
                continue
            if not isinstance(change, Change):
                undone.append(step.what)
            elif change.action != "absent":
                undone.append(step.what)
                gone.append(change)
        wait_until_gone(self._cluster, gone)
        self._made.clear()
        return undone, failed

    def _deletion(self, change: Change) -> Callable[[], Change]:
        def delete() -> Change:
            absent = Change("absent", change.kind, change.name, change.namespace)
            if not self._serves(change.kind):
                return absent
            found = self._cluster.find(change.kind, change.name, change.namespace)
            if found is None or labels_of(found).get(MANAGED_BY_LABEL) != MANAGER:
                return absent  # somebody made another one since
            return self._cluster.delete(change.kind, change.name, change.namespace)

        return delete

    def _restoring(self, change: Change) -> Callable[[], Change | None]:
        def restore() -> Change | None:
            home_is_gone = change.namespace and self._cluster.find(NAMESPACE, change.namespace) is None
            if change.before is None or home_is_gone or not self._serves(change.kind):
                return Change("absent", change.kind, change.name, change.namespace)
            self._cluster.restore(change.before, change.kind)
            return None

        return restore

    def _serves(self, kind: Kind) -> bool:
        # A kind of the mesh is gone when the mesh is.
        return self._cluster.serves(kind)
