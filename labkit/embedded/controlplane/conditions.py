"""Keeps the status of Istio's objects true: what has no effect, what is wrong, what a proxy rejects.

What is to be said is decided in `labkit.policy.conditions`; here it is written to the status subresource, beside the
pushes. Nothing goes in circles: a status is written only when it differs from the one that is there, it changes no
generation, and a push looks at specs alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import aiohttp

from labkit.embedded.apiclient import ApiClient, ApiError, Handler, Informer, Object, Resource
from labkit.embedded.controlplane.rejections import ObjectKey, Rejections
from labkit.policy import conditions
from labkit.policy.support import not_acted_on

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0

Errors = Callable[[Object], tuple[str, ...]]
"""What is wrong with an object."""


class Conditions:
    """`on_object(kind, resource)` makes the handler of an Informer; `run` writes."""

    def __init__(self, api: ApiClient, rejections: Rejections, errors: Errors, revision: str) -> None:
        self.written = 0
        self._api = api
        self._rejections = rejections
        self._errors = errors
        self._revision = revision
        self._objects: dict[ObjectKey, tuple[Resource, Object]] = {}
        self._refused: dict[ObjectKey, Object] = {}
        self._todo: set[ObjectKey] = set()
        self._something = asyncio.Event()
        rejections.watchers.append(self.look)

    def on_object(self, kind: str, resource: Resource) -> Handler:
        """A handler for the objects of a kind."""

        def handle(event: str, obj: Object) -> None:
            key = (kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
            if event == "DELETED":
                self._objects.pop(key, None)
                self._refused.pop(key, None)
                return
            if key not in self._objects and (left := self._standing(obj)):
                self._rejections.inherit(key, left)
            self._objects[key] = resource, obj
            self.look([key])

        return handle

    def follow(self, informers: Iterable[Informer], resources: Mapping[str, Resource]) -> list[Informer]:
        """Listen to the informers of these kinds; those that are missing are made, and all are given back."""
        found = list(informers)
        for kind, resource in resources.items():
            mine = next((one for one in found if one.resource == resource), None)
            if mine is None:
                mine = Informer(self._api, resource)
                found.append(mine)
            mine.on_change(self.on_object(kind, resource))
        return found

    def look(self, keys: Iterable[ObjectKey]) -> None:
        """Something changed that may be said in the status of these objects."""
        self._todo |= self._objects.keys() & set(keys)
        if self._todo:
            self._something.set()

    async def run(self) -> None:
        """Write what is to be written, until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._todo:
                await asyncio.sleep(0)  # pushes come first
                key = self._todo.pop()
                try:
                    await self._keep(key)
                except (aiohttp.ClientError, ApiError, ConnectionError, TimeoutError) as error:
                    log.info("the status of %s %s/%s is not written yet: %r", *key, error)
                    self.look([key])
                    await asyncio.sleep(RETRY_SECONDS)

    async def _keep(self, key: ObjectKey) -> None:
        if key not in self._objects:
            return
        resource, obj = self._objects[key]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = conditions.status_for(obj, self._found(key, obj), revision=self._revision, now=now)
        if status is None or status == self._refused.get(key):
            return
        try:
            after = await self._write(resource, obj, status)
        except ApiError as error:
            if error.status >= 500:
                raise
            # 404: it has gone. 409: somebody was faster; the event of that leads here again.
            log.info("the status of %s %s/%s is not written: %s", *key, error.what)
            return
        self.written += 1
        if (after.get("status") or {}) != status:
            log.warning("the status of %s %s/%s is not kept as it was written", *key)
            self._refused[key] = status

    def _found(self, key: ObjectKey, obj: Object) -> list[conditions.Condition]:
        typed = {"kind": key[0], **obj}
        return [
            *conditions.unsupported(not_acted_on(typed)),
            *conditions.wrong(self._errors(typed)),
            *conditions.rejected(self._rejections.messages(key), self._revision),
        ]

    async def _write(self, resource: Resource, obj: Object, status: Object) -> Object:
        gone = (obj.get("status") or {}).keys() - status.keys()
        patch = {
            "metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]},
            "status": {**status, **dict.fromkeys(gone)} if status else None,
        }
        metadata = obj["metadata"]
        return await self._api.patch(
            resource, metadata["name"], patch, namespace=metadata["namespace"], subresource="status"
        )

    def _standing(self, obj: Object) -> str:
        found = conditions.standing(obj, conditions.reconciled_type(self._revision))
        return str(found.get("message") or "") if found else ""
