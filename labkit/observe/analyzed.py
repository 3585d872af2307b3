"""What there is to analyze: the objects of a cluster, of files, or of a cluster with the files applied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import CONFIGMAP, DEPLOYMENT, NAMESPACE, POD, SECRET, SERVICE, SERVICEACCOUNT, Kind
from labkit.errors import ClusterError
from labkit.observe.declared_mesh import served_kind
from labkit.observe.objects import find_istiod, labels_of, matches, name_of, namespace_of
from labkit.policy.analysis.injection import INJECTOR
from labkit.policy.analysis.schema import wrong_form

_KUBERNETES = (
    *(NAMESPACE, POD, SERVICE, SERVICEACCOUNT, DEPLOYMENT, Kind("apps/v1", "ReplicaSet", "replicasets")),
    *(Kind("apps/v1", "StatefulSet", "statefulsets"), Kind("apps/v1", "DaemonSet", "daemonsets")),
    Kind("batch/v1", "Job", "jobs"),
)
_ISTIO = {
    "security.istio.io": ("PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication"),
    "networking.istio.io": (
        *("DestinationRule", "VirtualService", "Sidecar", "Gateway", "ServiceEntry", "WorkloadEntry"),
        *("WorkloadGroup", "EnvoyFilter", "ProxyConfig"),
    ),
    "telemetry.istio.io": ("Telemetry",),
    "extensions.istio.io": ("WasmPlugin",),
}


def read_objects(cluster: Cluster, also: Iterable[Obj] = ()) -> tuple[list[Obj], bool]:
    """The objects of a cluster, and whether the Secrets that Gateways name are among them.

    `also` takes the place of objects of the same name, as if it were applied. Only the Secrets that Gateways name are
    asked for, each by its name; who may not read them learns nothing about them.
    """
    found: list[Obj] = [one for kind in _KUBERNETES for one in cluster.objects(kind)]
    for group, kinds in _ISTIO.items():
        for name in kinds:
            kind = served_kind(cluster, group, name)
            found += cluster.objects(kind) if kind else []
    found += _injectors(cluster)
    together = merged(found, also)
    try:
        return merged(_named_secrets(cluster, together), together), True
    except ClusterError:
        return together, False


def _injectors(cluster: Cluster) -> list[Obj]:
    """The ConfigMaps that say what is injected. Where istiod runs, and nowhere else: there may be very many."""
    istiod = find_istiod(cluster)
    if istiod is None:
        return []
    try:
        found = cluster.objects(CONFIGMAP, namespace_of(istiod))
    except ClusterError:  # who may not read them learns nothing about images
        return []
    return [{**one, "kind": "ConfigMap"} for one in found if name_of(one).startswith(INJECTOR)]


def merged(objects: Iterable[Obj], also: Iterable[Obj]) -> list[Obj]:
    """Objects, with others in the place of those with the same kind and name."""
    known = {_key(one): one for one in objects}
    return list((known | {_key(one): one for one in also}).values())


def _key(obj: Obj) -> tuple[str, str, str]:
    metadata: dict[str, Any] = obj.get("metadata") or {}
    namespace = "" if obj.get("kind") == "Namespace" else str(metadata.get("namespace") or "default")
    return str(obj.get("kind")), namespace, str(metadata.get("name"))


def _named_secrets(cluster: Cluster, objects: list[Obj]) -> list[Obj]:
    wanted: set[tuple[str, str]] = set()
    pods = [one for one in objects if one["kind"] == "Pod"]
    for gateway in (one for one in objects if one["kind"] == "Gateway"):
        spec = gateway.get("spec") or {}
        if wrong_form(gateway):
            continue  # said by the analysis itself
        servers = spec.get("servers")
        names = {str((one.get("tls") or {}).get("credentialName") or "") for one in servers or ()} - {""}
        homes = {namespace_of(pod) for pod in pods if matches(spec.get("selector") or {}, labels_of(pod))}
        wanted |= {(home, name) for home in homes for name in names}
    found = (cluster.find(SECRET, name, home) for home, name in sorted(wanted))
    return [{**one, "kind": "Secret"} for one in found if one]
