"""Events: what `kubectl describe` shows below an object. The same one again raises its count."""

from __future__ import annotations

import asyncio
import logging
import time

from labkit.embedded.apiclient import EVENTS, ApiClient, ApiError, Object
from labkit.embedded.controllers.objects import now, timestamp

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024  # the API refuses longer ones
REMEMBERED = 512

Identity = tuple[str, str, str, str]


class EventRecorder:
    """Writes events in the background: a controller never waits for them, and never fails because of them."""

    def __init__(self, api: ApiClient, component: str) -> None:
        self._api = api
        self._component = component
        self._seen: dict[Identity, Object] = {}
        self._queue: asyncio.Queue[tuple[Object, str, str, str]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def normal(self, obj: Object, reason: str, message: str) -> None:
        """Something went as it should."""
        self._record(obj, "Normal", reason, message)

    def warning(self, obj: Object, reason: str, message: str) -> None:
        """Something needs a reader's attention."""
        self._record(obj, "Warning", reason, message)

    async def close(self) -> None:
        """Drop what was not written yet."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _record(self, obj: Object, kind: str, reason: str, message: str) -> None:
        self._queue.put_nowait((obj, kind, reason, message[:MESSAGE_LIMIT]))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name=f"events of {self._component}")

    async def _drain(self) -> None:
        while not self._queue.empty():
            obj, kind, reason, message = self._queue.get_nowait()
            try:
                await self._write(obj, kind, reason, message)
            except ApiError as error:  # its namespace may be going away
                log.debug("event %s not written: %s", reason, error.what)
            except Exception:
                log.exception("event %s not written", reason)

    async def _write(self, obj: Object, kind: str, reason: str, message: str) -> None:
        identity = (obj["metadata"]["uid"], kind, reason, message)
        if known := self._seen.get(identity):
            change = {"count": known["count"] + 1, "lastTimestamp": timestamp(now())}
            try:
                meta = known["metadata"]
                self._seen[identity] = await self._api.patch(EVENTS, meta["name"], change, namespace=meta["namespace"])
                return
            except ApiError as error:
                if error.status != 404:
                    raise
        event = make_event(obj, kind, reason, message, component=self._component)
        while len(self._seen) >= REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[identity] = await self._api.create(EVENTS, event)


def make_event(obj: Object, kind: str, reason: str, message: str, *, component: str) -> Object:
    """A core/v1 Event about `obj`."""
    meta, moment = obj["metadata"], timestamp(now())
    namespace = meta.get("namespace") or "default"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        # As client-go names them: sorted by name, events of one second are in their order.
        "metadata": {"name": f"{meta['name']}.{time.time_ns():x}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "name": meta["name"],
            "namespace": meta.get("namespace"),
            "uid": meta["uid"],
            "resourceVersion": meta.get("resourceVersion"),
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
    }
