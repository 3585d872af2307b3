"""What it means to delete an object: how long it is left, and what becomes of what it owns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from labkit.embedded.apiserver.resources import PODS, Kind
from labkit.embedded.apiserver.storage import Record, Storage

Object = dict[str, Any]

FOREGROUND = "foregroundDeletion"


@dataclass
class DeleteOptions:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/delete-options/"""

    dry_run: bool = False
    grace: int | None = None
    propagation: str = ""
    """Background, Foreground, Orphan; empty leaves it to the finalizers that are there."""
    uid: str = ""
    version: str = ""


def grace_of(kind: Kind, obj: Object, options: DeleteOptions) -> int:
    """Seconds a deleted object is left for its processes to end: pods that run have some, all else has none."""
    if kind.resource != PODS:
        return 0
    spec = obj.get("spec") or {}
    if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    grace = options.grace if options.grace is not None else spec.get("terminationGracePeriodSeconds", 30)
    return max(0, int(grace))


def moment_after(seconds: int) -> str:
    """A time from now, as metadata has it."""
    try:
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return "9999-12-31T23:59:59Z"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def set_foreground(storage: Storage, record: Record, metadata: Object, options: DeleteOptions) -> None:
    """Let the object wait for what it owns, or no longer; the garbage collector takes the finalizer off.

    An object that owns nothing has nothing to wait for, and is spared the detour.
    """
    finalizers = metadata.get("finalizers") or []
    if options.propagation == "Foreground" and FOREGROUND not in finalizers:
        if any(True for _ in dependents_of(storage, record)):
            metadata["finalizers"] = [*finalizers, FOREGROUND]
    elif options.propagation in ("Background", "Orphan") and FOREGROUND in finalizers:
        metadata["finalizers"] = [name for name in finalizers if name != FOREGROUND]
        if not metadata["finalizers"]:
            del metadata["finalizers"]


def dependents_of(storage: Storage, owner: Record) -> Iterator[tuple[str, Object]]:
    """The objects that name `owner` as an owner of theirs, each after its resource."""
    uid = owner.uid.encode()
    for resource in storage.resources():
        for record in storage.records(resource, owner.namespace):
            if uid in record.body:
                obj = record.load()
                if any(o.get("uid") == owner.uid for o in obj["metadata"].get("ownerReferences") or []):
                    yield resource, obj


def orphan_dependents(storage: Storage, owner: Record) -> None:
    """Let what an object owns stay when it goes."""
    # A real cluster's garbage collector does this behind a finalizer; here it is done before the owner goes.
    for resource, obj in list(dependents_of(storage, owner)):
        kept = [reference for reference in obj["metadata"]["ownerReferences"] if reference.get("uid") != owner.uid]
        obj["metadata"]["ownerReferences"] = kept
        if not kept:
            del obj["metadata"]["ownerReferences"]
        storage.put(resource, obj)
