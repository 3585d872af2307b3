"""What a cluster would not take of some manifests: kinds that it does not serve, namespaces that are not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit.cluster import Cluster
from labkit.cluster.kinds import CRD, NAMESPACE, PEER_AUTHENTICATION
from labkit.errors import did_you_mean
from labkit.observe.objects import name_of
from labkit.policy.declared.mesh import key_of

_NO_MESH = "Istio's kinds come with the mesh, and none is installed: lab.install_mesh()."


def would_refuse(
    cluster: Cluster, objects: Sequence[Mapping[str, Any]], meant: Callable[[Mapping[str, Any]], str] = lambda _: ""
) -> list[str]:
    """Why the API server would refuse each of the objects. `meant` guesses the kind of what has an unknown one.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/: an object's namespace must exist.
    """
    made = {one["metadata"]["name"] for one in objects if one.get("kind") == NAMESPACE.kind}
    defined = {(one.get("spec") or {}).get("names", {}).get("kind") for one in objects if one.get("kind") == CRD.kind}
    there = {name_of(one) for one in cluster.objects(NAMESPACE)} | made
    found: list[str] = []
    for obj in objects:
        version, kind = str(obj.get("apiVersion")), str(obj.get("kind"))
        served = cluster.discovery.find(version, kind)
        _, namespace, name = key_of(obj)
        if served is None and kind not in defined:
            why = "" if cluster.serves(PEER_AUTHENTICATION) or "istio.io" not in version else _NO_MESH
            said = f"{kind} {name}: this cluster does not know the kind {kind} ({version})."
            found.append(" ".join(filter(None, (said, why or meant(obj)))))
        elif served is not None and served.namespaced and namespace not in there:
            near = did_you_mean(namespace, sorted(there))
            found.append(f"{kind} {namespace}/{name}: the namespace {namespace!r} does not exist. {near}".rstrip())
    return found
