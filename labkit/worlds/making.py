"""Making a world: one order of steps for all of them, and a sentence for each change.

Only objects that labkit made are removed; on a cluster that exists for lessons alone (`Cluster.disposable`), also
whatever else stands in the lesson's way. Everything else stops with an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from labkit.cluster import MANAGED_BY_LABEL, MANAGER, Cluster, Obj
from labkit.cluster.cluster import Change
from labkit.cluster.kinds import CRD, DEPLOYMENT, SECRET, Kind
from labkit.course import World, find_lesson
from labkit.errors import InputError
from labkit.installers.embedded import has_other_settings
from labkit.observe.mesh import MeshStatus, mesh_status
from labkit.observe.objects import labels_of, name_of, namespace_of
from labkit.worlds.applications import (
    Placed,
    deploy,
    leftovers,
    namespaces_in_the_way,
    namespaces_of_lessons,
    placed,
    restart,
    wait_until_deployed,
)
from labkit.worlds.journal import wait_until_gone

GATEWAY = "istio-ingressgateway"
MINTED_LABEL = "labkit.dev/minted"
"""On Secrets with certificates that a lab minted: they stand beside the mesh, where no namespace's end takes them."""


def find_world(lesson: str) -> World:
    """The world of a lesson. Raises InputError, which lists the lessons."""
    return find_lesson(lesson).world


class Builder(Protocol):
    """What making a world needs of a lab: the verbs that keep a journal."""

    cluster: Cluster

    def put_mesh(self, namespace: str, revision: str) -> None: ...
    def remove_mesh(self, status: MeshStatus) -> None: ...
    def configure_mesh(self) -> object: ...
    def put_gateway(self) -> None: ...
    def remove_gateway(self, namespace: str) -> None: ...
    def put(self, source: Any) -> list[Change]: ...
    def put_labels(self, namespace: str, labels: dict[str, str | None]) -> Change: ...
    def remove_policy(self, kind: Kind, name: str, namespace: str) -> Change: ...
    def settle(self, changes: Iterable[Change]) -> None: ...
    def lose(self, what: str) -> None: ...


def make_world(lab: Builder, world: World, mesh_namespace: str, revision: str) -> list[str]:
    """Bring the cluster to `world` and say what was changed; nothing when it is there already."""
    wanted = placed(world)
    said, removed = _remove_policies(lab)
    said += _remove(lab, [(SECRET, one) for one in lab.cluster.objects(SECRET, labels={MINTED_LABEL: "true"})])
    said += _remove(lab, namespaces_in_the_way(lab.cluster, wanted, mesh_status(lab.cluster)))
    said += _mesh(lab, world, mesh_namespace, revision)
    said += _gateway(lab, world)
    label = mesh_status(lab.cluster).injection_label
    for app in wanted:
        said += deploy(lab, app, label)
    said += _remove(lab, [found for app in wanted for found in leftovers(lab.cluster, app, wanted)])
    for app in wanted:
        said += wait_until_deployed(lab.cluster, app, label.get("istio.io/rev", ""))
    lab.settle(removed)
    return said


def _mesh(lab: Builder, world: World, mesh_namespace: str, revision: str) -> list[str]:
    status = mesh_status(lab.cluster)
    there = status.installed or status.knows_peer_authentication
    wanted = (mesh_namespace, revision)
    if world.mesh and status.ready and (status.namespace, status.revision) == wanted:
        return _settings(lab, status)
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
        said += _remove(lab, namespaces_in_the_way(lab.cluster, (), status))
        said += _remove_gateway(lab, status)
        lab.remove_mesh(status)
        for crd in lab.cluster.objects(CRD) if not status.installed else ():  # a mesh that was removed by halves
            if name_of(crd).endswith(".istio.io"):
                lab.cluster.delete(CRD, name_of(crd))
        said.append(f"removed the mesh in {status.namespace or 'pieces'}")
    if world.mesh:
        lab.put_mesh(mesh_namespace, revision)
        said.append(f"installed the mesh in {mesh_namespace}, revision {revision}")
    return said


def _settings(lab: Builder, status: MeshStatus) -> list[str]:
    """A mesh of labkit's own has its defaults when a lesson starts."""
    if not (lab.cluster.is_embedded and has_other_settings(lab.cluster, status.namespace, status.revision)):
        return []
    lab.configure_mesh()
    return ["gave the mesh its default settings"]


def _gateway(lab: Builder, world: World) -> list[str]:
    status = mesh_status(lab.cluster)
    if not world.mesh:
        return []
    if not world.gateway:
        return _remove_gateway(lab, status)
    if _find_gateways(lab.cluster):
        return []
    if not lab.cluster.is_embedded:
        raise InputError(
            "This lesson needs an ingress gateway, and there is no Deployment with the label istio=ingressgateway.",
            meaning="labkit installs a gateway on the embedded cluster only.",
            next_step="Install one: helm install istio-ingressgateway istio/gateway -n istio-system.",
        )
    lab.put_gateway()
    return [f"installed an ingress gateway in {status.namespace}"]


def _find_gateways(cluster: Cluster) -> list[Obj]:
    return cluster.objects(DEPLOYMENT, labels={"istio": "ingressgateway"})


def _remove_gateway(lab: Builder, status: MeshStatus) -> list[str]:
    found = [one for one in _find_gateways(lab.cluster) if namespace_of(one) == status.namespace]
    if not found or not (lab.cluster.disposable or status.ours):
        return []
    lab.remove_gateway(status.namespace)
    return [f"removed the ingress gateway in {status.namespace}"]


def _remove_policies(lab: Builder) -> tuple[list[str], list[Change]]:
    """Remove what Istio's kinds say in the lessons' namespaces, and mesh-wide."""
    cluster, said, removed = lab.cluster, [], []
    status = mesh_status(cluster)
    concerned = {*namespaces_of_lessons(), status.namespace}
    for kind in _kinds_of_istio(cluster):
        for policy in cluster.objects(kind):
            where = namespace_of(policy)
            if where in concerned:
                may_remove(cluster, policy, kind.resource)
                removed.append(lab.remove_policy(kind, name_of(policy), where))
                said.append(f"removed {kind.resource} {where}/{name_of(policy)}")
    return said, removed


def _kinds_of_istio(cluster: Cluster) -> list[Kind]:
    found = []
    for crd in cluster.objects(CRD):
        spec = crd["spec"]
        if name_of(crd).endswith(".istio.io") and spec.get("scope") == "Namespaced":
            version = next(v["name"] for v in spec["versions"] if v.get("storage"))
            found.append(Kind(f"{spec['group']}/{version}", spec["names"]["kind"], spec["names"]["plural"]))
    return found


def _remove(lab: Builder, found: Iterable[tuple[Kind, Obj]]) -> list[str]:
    # It is not put back: it is the lessons' own, and each lesson that needs it makes it anew.
    cluster, said, gone = lab.cluster, [], []
    for kind, obj in found:
        may_remove(cluster, obj, kind.resource)
        gone.append(cluster.delete(kind, name_of(obj), namespace_of(obj) or None))
        what = f"{kind.resource} {name_of(obj)}"
        lab.lose(what)
        said.append(f"removed {what}")
    wait_until_gone(cluster, gone)
    return said


def may_remove(cluster: Cluster, obj: Obj, resource: str) -> None:
    """Raises InputError when the object is somebody else's, on a cluster that is not the lessons' own."""
    if cluster.disposable or labels_of(obj).get(MANAGED_BY_LABEL) == MANAGER:
        return
    where = f" -n {namespace_of(obj)}" if namespace_of(obj) else ""
    raise InputError(
        f"The {resource} {name_of(obj)!r} stands in this lesson's way.",
        meaning="labkit did not make it, so it does not remove it.",
        next_step=f"If you can do without it: 'kubectl delete {resource} {name_of(obj)}{where}'.",
    )


__all__ = ["Builder", "Placed", "find_world", "make_world", "may_remove", "restart"]
