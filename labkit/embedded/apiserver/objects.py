"""What the API server itself writes into objects: names, ids, timestamps, generation, ownership of sections. Pure.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md
"""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import Any

from labkit.embedded.apiserver import ephemeral
from labkit.embedded.apiserver.resources import Kind

Object = dict[str, Any]

# No vowels and no look-alikes, so that no word comes out (apiserver/pkg/storage/names/generate.go).
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_GENERATED = 63 - 5

# Kinds that count the versions of their desired state in metadata.generation.
_COUNTED = frozenset(
    {
        "apps/deployments",
        "apps/replicasets",
        "apps/statefulsets",
        "apps/daemonsets",
        "/replicationcontrollers",
        "batch/jobs",
        "batch/cronjobs",
        "networking.k8s.io/ingresses",
        "networking.k8s.io/ingressclasses",
        "networking.k8s.io/networkpolicies",
        "policy/poddisruptionbudgets",
        "discovery.k8s.io/endpointslices",
        "apiextensions.k8s.io/customresourcedefinitions",
        "admissionregistration.k8s.io/mutatingwebhookconfigurations",
        "admissionregistration.k8s.io/validatingwebhookconfigurations",
    }
)
_SYSTEM_METADATA = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


def now() -> str:
    """The time as metadata has it: whole seconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated_name(base: str) -> str:
    """`base` and five random characters."""
    suffix = "".join(random.choices(_SUFFIX_LETTERS, k=5))  # noqa: S311 - a name is no secret
    return base[:_LONGEST_GENERATED] + suffix


def _counted(kind: Kind) -> bool:
    return kind.custom or kind.resource in _COUNTED


def prepare_create(kind: Kind, obj: Object, namespace: str) -> None:
    """Set what the server owns in a new object; what a client wrote there is dropped."""
    metadata = obj["metadata"]
    for key in (*_SYSTEM_METADATA, "resourceVersion", "generation"):
        metadata.pop(key, None)
    if kind.namespaced:
        metadata["namespace"] = namespace
    else:
        metadata.pop("namespace", None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now()
    if _counted(kind):
        metadata["generation"] = 1
    if kind.has_status and kind.resource not in ("/nodes", "/namespaces"):
        # A kubelet registers its Node with a status; every other status is written through its subresource.
        obj.pop("status", None)
        if not kind.custom:
            obj["status"] = {}  # Go writes it, empty or not, and clients look into it
    drop_empty(metadata)


def prepare_update(kind: Kind, old: Object, new: Object, subresource: str) -> Object:
    """The object to store when a client sent `new` in place of `old`, to the object itself or to a subresource."""
    if subresource == "status":
        status, entries = new.get("status"), new["metadata"].get("managedFields")
        new = {key: value for key, value in old.items() if key != "status"}
        if entries:
            new["metadata"] = {**old["metadata"], "managedFields": entries}
        return new | {"status": status} if status is not None else new
    if subresource == ephemeral.SUBRESOURCE:
        new = ephemeral.with_new_ones(old, new)
    metadata = new["metadata"]
    for key in (*_SYSTEM_METADATA, "generation", "name", "namespace", "generateName"):
        metadata.pop(key, None)
        if key in old["metadata"]:
            metadata[key] = old["metadata"][key]
    if kind.has_status:
        new.pop("status", None)
        if "status" in old:
            new["status"] = old["status"]
    if not metadata.get("managedFields") and "managedFields" in old["metadata"]:
        metadata["managedFields"] = old["metadata"]["managedFields"]
    drop_empty(metadata)
    if _counted(kind) and desired_state(kind, old) != desired_state(kind, new):
        metadata["generation"] = old["metadata"].get("generation", 0) + 1
    return new


def desired_state(kind: Kind, obj: Object) -> Object:
    """What `generation` counts: all but metadata, and but the status where that has its own subresource."""
    ignored = {"metadata", "apiVersion", "kind"} | ({"status"} if kind.has_status or not kind.custom else set())
    return {key: value for key, value in obj.items() if key not in ignored}


def drop_empty(metadata: Object) -> None:
    """Empty maps and lists in metadata are as good as absent."""
    for key in ("labels", "annotations", "finalizers", "ownerReferences", "managedFields"):
        if key in metadata and not metadata[key]:
            del metadata[key]


def same_but_version(old: Object, new: Object) -> bool:
    """Whether writing `new` would change nothing; then nothing is written and no event is sent."""

    def stripped(obj: Object) -> Object:
        metadata = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
        return {**obj, "metadata": metadata}

    return stripped(old) == stripped(new)
