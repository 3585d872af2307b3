"""A reconcile queue: keys in, one call of `reconcile(key)` at a time for each key, retried with back-off.

The same contract as client-go's workqueue, without its worker threads: a key that has work has a task, so an idle
queue costs nothing. It knows nothing of Kubernetes but the error that says "somebody else was faster".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from labkit.embedded.apiclient import ApiError

log = logging.getLogger(__name__)

Reconcile = Callable[[str], Awaitable[float | None]]
"""Brings the object `key` nearer to what it should be; may return the seconds after which to look again."""

CONFLICT = 409

# client-go starts at 5 ms and doubles up to 1000 s. In a lesson nobody waits for minutes: who mends the cause of a
# failure sees the retry within 10 s.
FIRST_DELAY, LAST_DELAY = 0.005, 10.0


def retry_delay(failures: int, *, first: float = FIRST_DELAY, last: float = LAST_DELAY) -> float:
    """Seconds to wait after the `failures`-th failure in a row (from 1)."""
    return float(min(first * 2 ** min(failures - 1, 60), last))


def namespace_is_ending(error: ApiError) -> bool:
    """Was a creation refused because its namespace is being deleted?"""
    return error.status == 403 and error.what.endswith("because it is being terminated")


class ReconcileQueue:
    """Calls `reconcile` for every key that was added, at most `concurrency` keys at a time.

    Nothing is reconciled before `start`: a controller that has seen the ReplicaSets but not yet the pods would make
    all pods a second time.
    """

    def __init__(self, name: str, reconcile: Reconcile, *, concurrency: int = 16) -> None:
        self.name = name
        self._reconcile = reconcile
        self._slots = asyncio.Semaphore(concurrency)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._held: set[str] | None = set()  # keys added before the start
        self._closed = False

    def start(self) -> None:
        """Reconcile what was added so far, and everything from now on."""
        held, self._held = self._held or set(), None
        for key in sorted(held):
            self.add(key)

    def add(self, key: str) -> None:
        """Reconcile `key` now; if it is being reconciled just now, once more afterwards."""
        if self._closed:
            return
        if self._held is not None:
            self._held.add(key)
            return
        if key in self._running:
            self._again.add(key)
            return
        task = asyncio.create_task(self._work(key), name=f"{self.name} {key}")
        self._running[key] = task

    def add_after(self, key: str, seconds: float) -> None:
        """Reconcile `key` in some seconds; of several such wishes the earliest counts."""
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer and timer.when() <= loop.time() + seconds:
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._fire, key)

    async def close(self) -> None:
        """Accept nothing more, and cancel what is under way."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work(self, key: str) -> None:
        delay: float | None = None
        try:
            while True:
                self._again.discard(key)
                async with self._slots:
                    delay = await self._attempt(key)
                if key not in self._again:
                    break
        finally:
            del self._running[key]
        if delay is not None:
            self.add_after(key, delay)

    async def _attempt(self, key: str) -> float | None:
        try:
            delay = await self._reconcile(key)
        except ApiError as error:
            if namespace_is_ending(error):
                return None  # nothing can be made there any more, and what was there is being deleted
            if error.status == CONFLICT:  # our copy was old; the newer one is on its way
                log.debug("%s %s: %s", self.name, key, error.what)
            else:
                log.warning("%s %s: %s", self.name, key, error.what)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            log.debug("%s %s: the API server does not answer: %r", self.name, key, error)
        except Exception:  # a defect met with one object must not stop the others
            log.exception("%s %s failed", self.name, key)
        else:
            self._failures.pop(key, None)
            return delay
        self._failures[key] = self._failures.get(key, 0) + 1
        return retry_delay(self._failures[key])
