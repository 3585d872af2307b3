"""The objects that decide about traffic, read from a cluster or taken from files, as one mesh whose edges can be asked.

The rules are those of `labkit.policy.declared`; here it only gets what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import CONFIGMAP, DEPLOYMENT, NAMESPACE, POD, SERVICE, Kind
from labkit.errors import InputError, LabError
from labkit.observe.mesh import mesh_status
from labkit.policy.declared import DeclaredMesh, MeshSettings, read_settings
from labkit.policy.declared.mesh import Key, key_of
from labkit.policy.declared.rules import KINDS
from labkit.policy.injection import DEFAULT_REVISION, REVISION
from labkit.policy.peer_authentication import ROOT_NAMESPACE

_KUBERNETES = (
    *(NAMESPACE, POD, SERVICE, DEPLOYMENT, Kind("apps/v1", "ReplicaSet", "replicasets")),
    *(Kind("apps/v1", "StatefulSet", "statefulsets"), Kind("apps/v1", "DaemonSet", "daemonsets")),
    *(Kind("batch/v1", "Job", "jobs"), Kind("batch/v1", "CronJob", "cronjobs")),
)
_ISTIO = {
    "security.istio.io": ("PeerAuthentication", "AuthorizationPolicy"),
    "networking.istio.io": (
        *("DestinationRule", "VirtualService", "Sidecar", "Gateway", "ServiceEntry", "WorkloadEntry"),
    ),
}
_VERSIONS = ("v1", "v1beta1", "v1alpha3")
"""Those of Istio's kinds, the newest first: which one is served is a matter of Istio's age."""

Place = Callable[[Key], tuple[str, int] | None]
"""Where an object stands: (path, line)."""


def read_declared_mesh(cluster: Cluster) -> DeclaredMesh:
    """Everything that decides about traffic on a cluster."""
    found: list[Obj] = [one for kind in _KUBERNETES for one in cluster.objects(kind)]
    for group, kinds in _ISTIO.items():
        for name in kinds:
            kind = served_kind(cluster, group, name)
            found += cluster.objects(kind) if kind else []
    return DeclaredMesh(filter(_readable, found), cluster_settings(cluster))


def cluster_settings(cluster: Cluster) -> MeshSettings:
    """The settings of the mesh on a cluster."""
    status = mesh_status(cluster)
    root, revision = status.namespace or ROOT_NAMESPACE, status.revision or DEFAULT_REVISION
    values = _mesh_values(cluster.find(CONFIGMAP, _config_map(revision), root) if status.installed else None)
    return read_settings(values, root_namespace=root, revision=revision, installed=status.installed)


def make_declared_mesh(
    objects: Iterable[Mapping[str, Any]], root_namespace: str = "", place: Place = lambda _: None
) -> DeclaredMesh:
    """The mesh that objects from files will make, where a control plane is installed for every revision they name.

    A ConfigMap `istio` among them says the mesh's settings, and where it stands is the root namespace. Raises
    InputError for an object that cannot be read; `place` tells where it stands.
    """
    known = list(objects)
    settings = file_settings(known, root_namespace)
    try:
        return _read(known, settings)
    except Exception as error:
        raise _culprit(known, settings, error, place) from error


def file_settings(known: Iterable[Mapping[str, Any]], root_namespace: str = "") -> MeshSettings:
    """The settings that a ConfigMap `istio` among some objects says, or Istio's own."""
    maps = [one for one in known if one.get("kind") == "ConfigMap" and _is_mesh(one)]
    own = str(((maps[0].get("metadata") or {}).get("namespace")) or "") if maps else ""
    values = _mesh_values(maps[0] if maps else None)
    root = root_namespace or own or ROOT_NAMESPACE
    base = read_settings(values, root_namespace=root)
    return replace(base, any_revision=True, root_namespace=root_namespace or base.root_namespace)


def _read(objects: Iterable[Mapping[str, Any]], settings: MeshSettings) -> DeclaredMesh:
    mesh = DeclaredMesh(objects, settings)
    assert mesh.registry.targets is not None  # made when it is first asked for
    return mesh


def _culprit(
    objects: Iterable[Mapping[str, Any]], settings: MeshSettings, error: Exception, place: Place
) -> InputError:
    """Which object cannot be read."""
    for one in objects:
        try:
            _read([one], settings)
        except Exception as own:
            key = key_of(one)
            at = place(key)
            name = f"{key[0]} {f'{key[1]}/' if key[1] else ''}{key[2]}{f' ({at[0]}:{at[1]})' if at else ''}"
            if isinstance(own, LabError):
                return InputError(f"{name}: {own.what}", meaning=own.meaning, next_step=own.next_step)
            return InputError(
                f"{name} cannot be read: {own!r}.",
                meaning="One of its fields has a form that Kubernetes would refuse.",
                next_step="'kubectl apply --dry-run=server' says which.",
            )
    return InputError(f"The objects cannot be read together: {error}.", next_step="Look for a name that is used twice.")


def _readable(obj: Mapping[str, Any]) -> bool:
    """Whether one of Istio's objects can be read. What got past the webhook all the same, istiod ignores, too."""
    parse = KINDS.get(str(obj.get("kind")))
    try:
        return parse is None or parse(obj) is not None
    except InputError:
        return False


def served_kind(cluster: Cluster, group: str, kind: str) -> Kind | None:
    """One of Istio's kinds in the newest version that the cluster serves; None if it serves none."""
    return next((found for one in _VERSIONS if (found := cluster.discovery.find(f"{group}/{one}", kind))), None)


def _config_map(revision: str) -> str:
    return "istio" if revision == DEFAULT_REVISION else f"istio-{revision}"


def _is_mesh(obj: Mapping[str, Any]) -> bool:
    metadata = obj.get("metadata") or {}
    name, revision = str(metadata.get("name")), (metadata.get("labels") or {}).get(REVISION)
    return "mesh" in (obj.get("data") or {}) and name in ("istio", _config_map(revision or DEFAULT_REVISION))


def _mesh_values(config_map: Mapping[str, Any] | None) -> Mapping[str, Any]:
    text = ((config_map or {}).get("data") or {}).get("mesh") or ""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"The mesh's settings are not valid YAML: {error}", next_step="Mend ConfigMap istio."
        ) from error
    return values if isinstance(values, Mapping) else {}
