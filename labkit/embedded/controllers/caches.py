"""One Informer per resource for all controllers, and the memory of writes that the informers have not seen yet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from labkit.embedded.apiclient import ApiClient, Informer, Object, Resource, key_of, namespace_of

log = logging.getLogger(__name__)


class Caches:
    """The controllers' copies of the cluster's objects, shared: asking twice for a resource gives the same one."""

    def __init__(self, api: ApiClient) -> None:
        self.api = api
        self._informers: dict[Resource, Informer] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._running = False

    def informer(self, resource: Resource) -> Informer:
        """The informer of `resource`; it runs once `start` was called."""
        if resource not in self._informers:
            informer = self._informers[resource] = Informer(self.api, resource)
            if self._running:
                self._run(informer)
        return self._informers[resource]

    def remember(self, resource: Resource, obj: Object) -> None:
        """Keep the answer to a write of ours, so that the next reconciliation does not start from an older copy."""
        known = self.informer(resource).objects
        cached = known.get(key_of(obj))
        # Only over an older copy of the same object: what has been deleted meanwhile must not come back.
        if cached and cached["metadata"]["uid"] == obj["metadata"]["uid"] and _version(cached) < _version(obj):
            known[key_of(obj)] = obj

    def known(self) -> list[Resource]:
        """The resources that have an informer."""
        return list(self._informers)

    async def start(self) -> None:
        """Run all informers; return when each has its first list."""
        self._running = True
        for informer in self._informers.values():
            self._run(informer)
        for informer in list(self._informers.values()):
            await informer.synced.wait()

    async def stop(self) -> None:
        """Stop following the cluster."""
        self._running = False
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    def _run(self, informer: Informer) -> None:
        task = asyncio.create_task(informer.run(), name=f"informer {informer.resource.plural}")
        task.add_done_callback(_tell)
        self._tasks.append(task)


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.error("%s ended", task.get_name(), exc_info=task.exception())


def _version(obj: Object) -> int:
    # A client may not order versions by the API's older rules. But every API server that there is counts upwards,
    # and what depends on it here is only how soon a copy is fresh.
    return int(obj["metadata"]["resourceVersion"])


def in_namespace(informer: Informer, namespace: str | None) -> list[Object]:
    """The known objects of one namespace."""
    return [obj for obj in informer.objects.values() if namespace_of(obj) == namespace]


class Expectations:
    """Writes of one controller that its informer has not told it yet, so that a stale copy leads to no second write.

    client-go counts expected events. Here the objects themselves are remembered, by uid, until they are seen: exact
    even when somebody else creates or deletes at the same time.
    """

    def __init__(self, informer: Informer) -> None:
        self._informer = informer
        self._created: dict[str, dict[str, Object]] = {}  # owner -> uid -> object
        self._deleting: set[str] = set()
        self._gone: deque[str] = deque(maxlen=1024)  # an object may be deleted before our create returns
        informer.on_change(self._seen)

    def _seen(self, kind: str, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        for owner in [owner for owner, created in self._created.items() if created.pop(uid, None) and not created]:
            del self._created[owner]
        if kind == "DELETED":
            self._deleting.discard(uid)
            self._gone.append(uid)

    def created(self, owner: str, obj: Object) -> None:
        """`obj` was created for `owner`."""
        uid = obj["metadata"]["uid"]
        cached = self._informer.objects.get(key_of(obj))
        if (cached is None or cached["metadata"]["uid"] != uid) and uid not in self._gone:
            self._created.setdefault(owner, {})[uid] = obj

    def deleting(self, obj: Object) -> None:
        """The deletion of `obj` was accepted."""
        uid = obj["metadata"]["uid"]
        if uid not in self._gone:
            self._deleting.add(uid)

    def unseen(self, owner: str) -> list[Object]:
        """What was created for `owner` and is not in the informer's copy yet."""
        return list(self._created.get(owner, {}).values())

    def is_deleting(self, obj: Object) -> bool:
        """Is `obj` on its way out, as far as we know?"""
        meta = obj["metadata"]
        return "deletionTimestamp" in meta or meta["uid"] in self._deleting
