"""Garbage collection: an object whose owners are all gone goes, too.

1. Background deletion (the default): the owner is gone at once, what it owned follows.
2. Foreground: the owner keeps the finalizer `foregroundDeletion` until what it owned (and blocks it) is gone.
3. Orphan: the owner keeps the finalizer `orphan` until nothing refers to it any more.
4. An owner reference names a kind, a name and a uid. An object of that name with another uid is not the owner.
5. An object with one owner left stays; the references to the others are dropped.
https://kubernetes.io/docs/concepts/architecture/garbage-collection/

Real Kubernetes follows every kind there is. Here a kind is followed when another controller does so anyway, or once
there is evidence that it takes part: an object that names an owner of that kind, or an object of that kind that names
an owner, or one that waits for this collector. For such evidence all other kinds are listed at the start, after
deletions and every half minute (as often as Kubernetes looks which kinds there are). Forty watches that never say
anything would cost a third of the memory of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from labkit.embedded.apiclient import CRDS, ApiError, Object, Resource, key_of, namespace_of
from labkit.embedded.controllers.caches import Caches
from labkit.embedded.controllers.discovery import Kind, discover
from labkit.embedded.controllers.queue import ReconcileQueue

log = logging.getLogger(__name__)

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
# Events live an hour and own nothing; leases are written again and again.
IGNORED = {"events", "leases"}
# Deletions come in groups: a Deployment, its ReplicaSets, their pods.
SWEEP_DELAY = 1.0
SWEEP_SECONDS = 30.0


@dataclass(frozen=True)
class Reference:
    """Where an object is found: what the queue's keys stand for."""

    resource: Resource
    key: str

    def __str__(self) -> str:
        return f"{self.resource.api_version} {self.resource.plural} {self.key}"


def finalizers_of(obj: Object) -> list[str]:
    """metadata.finalizers."""
    return obj["metadata"].get("finalizers") or []


def split_owners(obj: Object, gone: set[str]) -> tuple[list[Object], list[Object]]:
    """The owner references that are left, and those whose uid is in `gone`."""
    owners = obj["metadata"].get("ownerReferences") or []
    return [o for o in owners if o["uid"] not in gone], [o for o in owners if o["uid"] in gone]


class GarbageCollector:
    """Deletes what has lost its owners."""

    def __init__(self, caches: Caches) -> None:
        self._api = caches.api
        self._caches = caches
        self._kinds: dict[tuple[str, str], Resource] = {}  # (apiVersion's group, kind)
        self._followed: set[Resource] = set()
        self._objects: dict[str, Object] = {}  # uid -> object
        self._places: dict[str, Reference] = {}  # uid -> where
        self._dependents: dict[str, set[str]] = {}  # owner's uid -> uids
        self._task: asyncio.Task[None] | None = None
        self._sweep_due = asyncio.Event()
        self.queue = ReconcileQueue("garbage", self._reconcile)
        caches.informer(CRDS).on_change(lambda *_: self._sweep_due.set())
        for resource in caches.known():  # the other controllers follow these already
            self._follow(resource)

    def start(self) -> None:
        """Begin to collect."""
        self.queue.start()
        self._sweep_due.set()
        self._task = asyncio.create_task(self._sweep_forever(), name="garbage sweep")

    async def close(self) -> None:
        """Stop."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.queue.close()

    async def _sweep_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._sweep_due.wait()
            await asyncio.sleep(SWEEP_DELAY)  # what else is deleted meanwhile is covered by the same sweep
            self._sweep_due.clear()
            try:
                await self._sweep()
            except Exception as error:  # the API server may be restarting
                log.debug("garbage collection: the sweep failed: %r", error)
                self._sweep_due.set()

    async def _sweep(self) -> None:
        """Learn which kinds exist, and follow those that turn out to own or to be owned."""
        kinds = [kind for kind in await discover(self._api) if _collectable(kind)]
        self._kinds = {(_group(k.resource.api_version), k.kind): k.resource for k in kinds}
        for uid in list(self._objects):
            if owners := self._owners(uid):
                self._follow_owners(owners)
                if any(owner["uid"] not in self._objects for owner in owners):
                    self.queue.add(uid)
        for kind in kinds:
            if kind.resource not in self._followed:
                items = (await self._api.list(kind.resource))["items"]
                if any(item["metadata"].get("ownerReferences") or _waits(item) for item in items):
                    self._follow(kind.resource)

    def _follow_owners(self, owners: list[Object]) -> None:
        for owner in owners:
            resource = self._kinds.get((_group(owner["apiVersion"]), owner["kind"]))
            if resource and resource not in self._followed:
                self._follow(resource)

    def _follow(self, resource: Resource) -> None:
        self._followed.add(resource)
        informer = self._caches.informer(resource)

        def changed(kind: str, obj: Object) -> None:
            self._changed(kind, obj, Reference(resource, key_of(obj)))

        informer.on_change(changed)
        for obj in informer.objects.values():
            changed("ADDED", obj)

    def _changed(self, kind: str, obj: Object, place: Reference) -> None:
        uid = obj["metadata"]["uid"]
        self._forget_owners(uid)
        if kind == "DELETED":
            self._objects.pop(uid, None)
            self._places.pop(uid, None)
            for dependent in self._dependents.get(uid, ()):
                self.queue.add(dependent)
            self._sweep_due.set()  # a kind that is not followed may have depended on it
            return
        self._objects[uid], self._places[uid] = obj, place
        owners = self._owners(uid)
        self._follow_owners(owners)
        for owner in owners:
            self._dependents.setdefault(owner["uid"], set()).add(uid)
        # An owner that we do not know may be gone, or its event is on its way. Asking the API tells.
        if _waits(obj) or any(owner["uid"] not in self._objects for owner in owners):
            self.queue.add(uid)

    def _owners(self, uid: str) -> list[Object]:
        return self._objects[uid]["metadata"].get("ownerReferences") or []

    def _forget_owners(self, uid: str) -> None:
        if uid not in self._objects:
            return
        for owner in self._owners(uid):
            siblings = self._dependents.get(owner["uid"], set())
            siblings.discard(uid)
            if not siblings:
                self._dependents.pop(owner["uid"], None)
            leaving = self._objects.get(owner["uid"])
            if leaving and FOREGROUND in finalizers_of(leaving):
                self.queue.add(owner["uid"])  # perhaps this was the last one that it waited for

    async def _reconcile(self, uid: str) -> None:
        obj = self._objects.get(uid)
        if obj is None:
            return
        if "deletionTimestamp" in obj["metadata"]:
            if ORPHAN in finalizers_of(obj):
                await self._orphan(uid)
            elif FOREGROUND in finalizers_of(obj):
                await self._foreground(uid)
            return
        owners = self._owners(uid)
        absent = await asyncio.gather(*(self._is_gone(owner, namespace_of(obj)) for owner in owners))
        gone = {owner["uid"] for owner, is_gone in zip(owners, absent, strict=True) if is_gone}
        left, lost = split_owners(obj, gone)
        if lost and not left:
            await self._delete(uid)
        elif lost:  # rule 5
            await self._patch(uid, {"ownerReferences": left})

    async def _is_gone(self, owner: Object, namespace: str | None) -> bool:
        known = self._objects.get(owner["uid"])
        if known:
            return False
        resource = self._kinds.get((_group(owner["apiVersion"]), owner["kind"])) or self._followed_kind(owner)
        if resource is None:
            return False  # a kind that nobody serves: we cannot know
        if resource.namespaced and namespace is None:
            return False  # Kubernetes, too, leaves a cluster-wide object with such a reference alone
        try:
            found = await self._api.get(resource, owner["name"], namespace if resource.namespaced else None)
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        return bool(found["metadata"]["uid"] != owner["uid"])  # rule 4

    def _followed_kind(self, owner: Object) -> Resource | None:
        # Before the first discovery the kinds that the other controllers follow are known by their plural.
        plural = owner["kind"].lower() + "s"
        return next((r for r in self._followed if (r.api_version, r.plural) == (owner["apiVersion"], plural)), None)

    async def _orphan(self, uid: str) -> None:
        for dependent in list(self._dependents.get(uid, ())):
            left, _ = split_owners(self._objects[dependent], {uid})
            await self._patch(dependent, {"ownerReferences": left})
        await self._drop_finalizer(uid, ORPHAN)

    async def _foreground(self, uid: str) -> None:
        waiting = False
        for dependent in list(self._dependents.get(uid, ())):
            obj = self._objects.get(dependent)
            if obj is None:
                continue
            waiting |= any(o["uid"] == uid and o.get("blockOwnerDeletion") for o in self._owners(dependent))
            if "deletionTimestamp" not in obj["metadata"]:
                await self._delete(dependent, "Foreground")
        if not waiting:
            await self._drop_finalizer(uid, FOREGROUND)

    async def _drop_finalizer(self, uid: str, finalizer: str) -> None:
        obj = self._objects.get(uid)
        if obj is not None:  # it may have gone while its dependents were being deleted
            await self._patch(uid, {"finalizers": [f for f in finalizers_of(obj) if f != finalizer]})

    async def _patch(self, uid: str, meta: Object) -> None:
        obj, place = self._objects.get(uid), self._places.get(uid)
        if obj is None or place is None:
            return
        body = {"metadata": {**meta, "resourceVersion": obj["metadata"]["resourceVersion"], "uid": uid}}
        try:
            await self._api.patch(place.resource, obj["metadata"]["name"], body, namespace=namespace_of(obj))
        except ApiError as error:
            if error.status != 404:
                raise

    async def _delete(self, uid: str, policy: str = "Background") -> None:
        obj, place = self._objects[uid], self._places[uid]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": policy,
            "preconditions": {"uid": uid},
        }
        try:
            await self._api.delete(place.resource, obj["metadata"]["name"], namespace_of(obj), options)
        except ApiError as error:
            if error.status != 409:  # another object has its name by now
                raise


def _waits(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"] and bool({FOREGROUND, ORPHAN} & set(finalizers_of(obj)))


def _collectable(kind: Kind) -> bool:
    return {"list", "watch", "delete"} <= kind.verbs and kind.resource.plural not in IGNORED


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]
