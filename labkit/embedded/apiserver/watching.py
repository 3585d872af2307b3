"""A watch: the changes of a collection, as a stream of JSON lines.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
Each event is serialised once, whoever watches; a watcher with a selector sees objects enter and leave its view.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from labkit.embedded.apiserver.failures import StatusError
from labkit.embedded.apiserver.resources import Kind
from labkit.embedded.apiserver.storage import Change, Record, Storage

Object = dict[str, Any]

BOOKMARK_SECONDS = 60.0  # as in Kubernetes: often enough that a quiet watcher's version stays within the history
BACKLOG = 20_000  # events; a client that reads slower than this is cut off and lists anew
BACKLOG_BYTES = 32_000_000


@dataclass(frozen=True)
class View:
    """Which objects a watcher or a list shows, and how."""

    kind: Kind
    namespace: str
    matches: Callable[[Record], bool]
    render: Callable[[Record], bytes]


def event_line(event: str, body: bytes) -> bytes:
    """One line of the stream."""
    return b'{"type":"%s","object":%s}\n' % (event.encode(), body)


def error_line(failure: StatusError) -> bytes:
    """The line that tells a watcher why its stream ends."""
    return event_line("ERROR", json.dumps(failure.as_status()).encode())


class Watch:
    """One client's stream. Construct, then iterate `lines()`; 410 is raised by the constructor."""

    def __init__(self, storage: Storage, view: View, version: int | None, *, initial: bool, bookmarks: bool) -> None:
        """`version` None starts with the objects that are there; `initial` also marks the end of those."""
        self.storage = storage
        self.view = view
        self.initial = initial
        self.bookmarks = bookmarks
        self._ready = asyncio.Event()
        self._ended = False
        self._started = False  # what is there at the start may be more than a backlog
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self.on_overrun: Callable[[], object] = lambda: None
        """Called once when the client reads too slowly; its writer may be stuck then and must be ended from outside."""
        if version is None:
            self._start_with_all()
        else:
            for change in storage.since(view.kind.resource, version):
                self._on_change(change)
        self._stop_listening = storage.listen(view.kind.resource, self._on_change)
        self._started = True

    def _start_with_all(self) -> None:
        for record in self.storage.records(self.view.kind.resource, self.view.namespace):
            if self.view.matches(record):
                self._push("ADDED", record)
        if self.initial:
            self._lines.append(self._bookmark({"k8s.io/initial-events-end": "true"}))
            self._ready.set()

    def _on_change(self, change: Change) -> None:
        some = change.after or change.before
        assert some is not None
        if self.view.namespace and some.namespace != self.view.namespace:
            return
        was = change.before is not None and self.view.matches(change.before)
        now_is = change.after is not None and self.view.matches(change.after)
        if now_is and change.after is not None:
            self._push("MODIFIED" if was else "ADDED", change.after)
        elif was and change.before is not None:
            # What left the view is shown as it was, with the version at which it left.
            self._push("DELETED", change.last or _renumbered(change.before, change.version))

    def _push(self, event: str, record: Record) -> None:
        if self._ended:
            return
        line = event_line(event, self.view.render(record))
        self._lines.append(line)
        self._waiting_bytes += len(line)
        self._ready.set()
        if self._started and (len(self._lines) > BACKLOG or self._waiting_bytes > BACKLOG_BYTES):
            self._lines.clear()
            self.close()
            self.on_overrun()

    def _bookmark(self, annotations: dict[str, str] | None = None) -> bytes:
        metadata: Object = {"resourceVersion": str(self.storage.version)}
        if annotations:
            metadata["annotations"] = annotations
        kind = self.view.kind
        return event_line(
            "BOOKMARK",
            json.dumps({"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}).encode(),
        )

    async def lines(self, seconds: float) -> AsyncIterator[bytes]:
        """Blocks of lines as they come, for at most `seconds`."""
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0 and not self._ended:
                with contextlib.suppress(TimeoutError):
                    # Not wait_for: on Python 3.11 it can lose a cancellation that comes together with the answer.
                    async with asyncio.timeout(min(left, BOOKMARK_SECONDS)):
                        await self._ready.wait()
                if self._lines:
                    block = b"".join(self._lines)
                    self._lines.clear()
                    self._waiting_bytes = 0
                    self._ready.clear()
                    yield block
                elif self.bookmarks and not self._ended:
                    yield self._bookmark()
        finally:
            self._stop_listening()

    def close(self) -> None:
        """End the stream, properly for its reader: what waits is still sent."""
        self._ended = True
        self._ready.set()
        self._stop_listening()


def _renumbered(record: Record, version: int) -> Record:
    from labkit.embedded.apiserver.storage import make_record

    return make_record(record.resource, record.load(), version)
