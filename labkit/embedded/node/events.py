"""Events about pods: what `kubectl describe pod` shows at its end.

They are written by one task in the background, a moment later than they happen, because a pod's start must not wait
for its own story. An event that repeats raises the count of the one that exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from labkit.embedded.apiclient import EVENTS, ApiClient, ApiError
from labkit.embedded.node.status import timestamp

log = logging.getLogger(__name__)

DELAY = 0.5
"""Seconds that an event may wait: the four pods of a lesson are ready in less, and then the API server has time."""

REMEMBERED = 500
"""So many series are counted on; an older one starts anew."""


@dataclass
class _Series:
    name: str
    count: int


class EventRecorder:
    """Takes events at once and writes them in order."""

    def __init__(self, api: ApiClient, *, component: str, host: str, delay: float = DELAY) -> None:
        self._api = api
        self._source = {"component": component, "host": host}
        self._delay = delay
        self._waiting: deque[dict[str, Any]] = deque()
        self._series: dict[tuple[str, ...], _Series] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._number = 0

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="node-events")

    async def stop(self) -> None:
        """Stop writing; what waits is lost."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def emit(
        self,
        pod: Mapping[str, Any],
        kind: str,
        reason: str,
        message: str,
        *,
        container: str = "",
        section: str = "containers",
    ) -> None:
        """Record one event of type `kind` (Normal or Warning) about a pod or one of its containers."""
        metadata = pod["metadata"]
        involved = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        if container:
            involved["fieldPath"] = f"spec.{section}{{{container}}}"
        now = datetime.now(UTC)
        self._number += 1
        self._waiting.append(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": f"{metadata['name']}.{int(now.timestamp() * 1e6):x}{self._number % 4096:03x}",
                    "namespace": metadata["namespace"],
                },
                "involvedObject": involved,
                "type": kind,
                "reason": reason,
                "message": message,
                "source": self._source,
                "reportingComponent": self._source["component"],
                "reportingInstance": self._source["host"],
                "firstTimestamp": timestamp(now),
                "lastTimestamp": timestamp(now),
                "count": 1,
            }
        )
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._delay)
            self._wake.clear()
            while self._waiting:
                event = self._waiting.popleft()
                try:
                    await self._write(event)
                except (ApiError, aiohttp.ClientError, OSError) as error:
                    # The namespace may be gone, the API server may be stopping: an event is not worth a retry.
                    log.debug("event %s not written: %r", event["reason"], error)

    async def _write(self, event: dict[str, Any]) -> None:
        involved = event["involvedObject"]
        key = (involved["uid"], involved.get("fieldPath", ""), event["type"], event["reason"], event["message"])
        series = self._series.get(key)
        namespace = event["metadata"]["namespace"]
        if series:
            series.count += 1
            patch = {"count": series.count, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._api.patch(EVENTS, series.name, patch, namespace=namespace)
                return
            except ApiError as error:
                if error.status != 404:
                    raise
        await self._api.create(EVENTS, event, namespace)
        self._series[key] = _Series(event["metadata"]["name"], 1)
        while len(self._series) > REMEMBERED:
            self._series.pop(next(iter(self._series)))
