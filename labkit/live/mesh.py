"""One mesh, followed: what is declared by watching it, what is observed by probes, by traffic and by metrics.

All of it is kept by one thread with its own event loop. Tasks on a notebook kernel's loop would stand still while a
cell runs, and lose their updates. What blocks (a probe, a page of metrics) runs in a small pool beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.cluster.kinds import NAMESPACE, POD, Kind
from labkit.errors import LabError
from labkit.live.changes import describe_change, is_policy
from labkit.live.counting import Metering
from labkit.live.facts import facts_of
from labkit.live.ledger import Ledger, Sighting
from labkit.live.sender import Answer, Orders, Sender, outcome_of
from labkit.live.targets import disagrees
from labkit.observe import traffic
from labkit.observe.objects import Snapshot, is_ready
from labkit.observe.watching import Watching
from labkit.outcomes import Observation, Outcome, seen_as
from labkit.views.edge_panel import EdgeFacts, Request
from labkit.views.map import Counts, MapEdge
from labkit.views.model import Call

PROBE_SECONDS = 15.0  # an edge without traffic is tried so often
RETRY_SECONDS = 0.12  # a probe that met the old rules is tried again so soon
MOST_RETRIES = 8
PAINT_SECONDS = 0.15  # frames keep at least this distance
GATHER_SECONDS = 0.01  # what arrives together is painted together

Listener = Callable[[], None]
Targets = Callable[[], Iterable[tuple[Call, str]]]
"""The calls that a picture shows, each with the path to ask for."""


class LiveMesh:
    """Follows one cluster while anybody listens. Every public method may be called from any thread."""

    def __init__(self, connect: Callable[[], Cluster]) -> None:
        """`connect` opens a connection of our own, also to a cluster that was restarted."""
        self.ledger = Ledger()
        self.problem = ""
        self.changed_at = 0.0
        self.senders: dict[tuple[str, str], Sender] = {}
        self.servers: dict[tuple[str, int], str] = {}
        """The workload behind each Service and port that a picture shows."""
        self.requests: dict[tuple[str, str], deque[Request]] = {}
        """The last answers of each edge, newest first."""
        self._connect = connect
        self._lock = threading.RLock()
        self._listeners: dict[int, tuple[Listener, Targets]] = {}
        self._numbers = iter(range(1, 1 << 62))
        self._seen: dict[Call, Observation] = {}
        self._readings: traffic.Readings = {}
        self._metering = Metering()
        self._run: _Run | None = None
        self._sending: Cluster | None = None

    # -- who listens ---------------------------------------------------------------------------------------------

    def subscribe(self, listener: Listener, targets: Targets) -> Callable[[], None]:
        """Call `listener` in the mesh's own thread whenever there is something new; returns how to end it."""
        with self._lock:
            number = next(self._numbers)
            self._listeners[number] = (listener, targets)
            if self._run is None:
                self._run = _Run(self)
            self._run.wake()

        def leave() -> None:
            with self._lock:
                self._listeners.pop(number, None)
                if not self._listeners and self._run:
                    self._run.stop()
                    self._run = None

        return leave

    @property
    def running(self) -> bool:
        return self._run is not None

    def close(self) -> None:
        """End everything: traffic, watches, the thread."""
        self.stop_traffic()
        with self._lock:
            self._listeners.clear()
            if self._run:
                self._run.stop()
                self._run = None

    # -- what is known ---------------------------------------------------------------------------------------------

    def snapshot(self, namespaces: Iterable[str] = ()) -> Snapshot | None:
        """The objects as they are now; None before the first listing is complete."""
        run = self._run
        if run is None or not run.watching.wait_until_listed(0):
            return None
        return run.watching.snapshot(tuple(namespaces))

    def seen(self) -> list[Observation]:
        """The newest probe of each call since the last change."""
        with self._lock:
            return list(self._seen.values())

    def counted(self, now: float | None = None) -> dict[tuple[str, str], Counts]:
        """What was counted in the last half minute, and not before the last change."""
        return self.ledger.counted(now or time.time(), since=self.changed_at)

    def probe_soon(self) -> None:
        """Try every edge that is shown, now."""
        with self._lock:
            if self._run:
                self._run.probe_soon()

    # -- traffic ---------------------------------------------------------------------------------------------------

    def start_traffic(self, orders: Orders) -> Sender:
        """Send steadily; the same client and URL again changes its rate."""
        orders.check()
        self.stop_traffic(orders.client, orders.url)
        sender = Sender(self._connection_to_send, orders, self._answered)
        with self._lock:
            self.senders[orders.client, orders.url] = sender
        return sender

    def stop_traffic(self, client: str | None = None, url: str | None = None) -> int:
        """Stop sending: of one client, to what begins with a URL, or all. Returns how many were stopped."""
        with self._lock:
            chosen = [key for key in self.senders if client in (None, key[0]) and key[1].startswith(url or "")]
            stopped = [self.senders.pop(key) for key in chosen]
        for sender in stopped:
            sender.stop()
        return len(stopped)

    def _connection_to_send(self) -> Cluster:
        with self._lock:
            if self._sending is None or any(sender.problem for sender in self.senders.values()):
                self._sending = self._connect()
            return self._sending

    def _answered(self, orders: Orders, answer: Answer, injected: bool) -> None:
        host = traffic.service_of(orders.url, orders.client.partition("/")[0])
        server = self.server_of("/".join(host), traffic.port_of(orders.url))
        edge = (orders.client, server)
        self._keep(edge, seen_as(answer.status, answer.exit_code), answer.number)
        outcome = outcome_of(answer, injected=injected)
        if answer.status == 403:
            outcome = Outcome.REFUSED  # let in by nobody: the answer of an AuthorizationPolicy
        if outcome is Outcome.UNKNOWN:
            if self._metering.knows(edge):
                return  # the server's metrics count it, and know how it was carried
            outcome = self._carried(edge)
        failed = answer.number if answer.status >= 400 and outcome is not Outcome.REFUSED else 0
        self.ledger.add(Sighting(*edge, outcome, answer.number, failed), time.time())

    def server_of(self, service: str, port: int) -> str:
        """The workload behind a Service, as far as one name can tell."""
        return self.servers.get((service, port), service)

    def disagrees(self, call: Call) -> bool:
        """Whether the newest probe of a call saw something else than the policies say."""
        snapshot, seen = self.snapshot(), self._seen.get(call)
        return snapshot is not None and seen is not None and disagrees(snapshot, call, seen)

    def _keep(self, edge: tuple[str, str], text: str, number: int = 1) -> None:
        with self._lock:
            kept = self.requests.setdefault(edge, deque(maxlen=8))
            if kept and kept[0].text == text:
                kept[0] = Request(time.time(), text, kept[0].number + number)
            else:
                kept.appendleft(Request(time.time(), text, number))

    def facts(self, edge: MapEdge) -> EdgeFacts:
        """Ask both proxies of an edge: certificates, TLS, flags. Takes a tenth of a second."""
        with self._lock:
            requests = tuple(self.requests.get((edge.client, edge.server), ()))
        run = self._run
        return facts_of(run.watching.cluster if run else self._connection_to_send(), edge, requests)

    def later(self, act: Callable[[], None]) -> None:
        """Do something that takes a moment, beside the thread that follows."""
        run = self._run
        if run:
            run.later(act)
        else:
            act()

    def _carried(self, edge: tuple[str, str]) -> Outcome:
        with self._lock:
            for call, seen in self._seen.items():
                if call.client == edge[0] and self.server_of(call.service, call.port) == edge[1]:
                    return seen.outcome
        return Outcome.UNKNOWN

    # -- what the running part calls -----------------------------------------------------------------------------

    def _targets(self) -> dict[Call, str]:
        with self._lock:
            listeners = list(self._listeners.values())
        found: dict[Call, str] = {}
        for _, targets in listeners:
            found.update(targets())
        return found

    def _tell(self) -> None:
        with self._lock:
            listeners = list(self._listeners.values())
        for listener, _ in listeners:
            listener()

    def _forget(self) -> None:
        with self._lock:
            self.changed_at = time.time()
            self._seen.clear()

    def _take_probe(self, call: Call, seen: Observation, started: float) -> bool:
        """Keep a probe, unless something was changed while it was on its way."""
        with self._lock:
            if started < self.changed_at:
                return False
            self._seen[call] = seen
        server = self.server_of(call.service, call.port)
        self._keep((call.client, server), seen.seen)
        outcome = Outcome.REFUSED if seen.refused else seen.outcome
        self.ledger.add(Sighting(call.client, server, outcome, probe=True), time.time())
        return True


class _Run:
    """The thread, its loop and its pool, from the first listener to the last."""

    def __init__(self, mesh: LiveMesh) -> None:
        self._mesh = mesh
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="labkit asks")
        self._stopped = False
        self._painting = False
        self._painted = 0.0
        self._took = 0.0
        self._probing: asyncio.Task[None] | None = None
        self._ledger_version = -1
        self._idle = False
        self.watching = Watching(mesh._connect, self._watched, self._lost)
        self._thread = threading.Thread(target=self._main, name="labkit follows the mesh", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for what is on its way."""
        self._stopped = True
        self.watching.stop()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._loop.stop)

    def wake(self) -> None:
        """Paint soon."""
        self._call(self._paint_soon)

    def probe_soon(self) -> None:
        self._call(self._probe_again)

    def later(self, act: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):
            self._pool.submit(act)

    def _call(self, act: Callable[..., Any], *arguments: Any) -> None:
        if not self._stopped:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(act, *arguments)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self.watching.start()
        self._loop.create_task(self._beat())
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            with contextlib.suppress(Exception):
                self._loop.run_until_complete(asyncio.sleep(0))
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._loop.close()

    # -- what the watches say, in their threads ------------------------------------------------------------------

    def _watched(self, kind: Kind, before: Obj | None, after: Obj | None) -> None:
        self._call(self._note, kind, before, after)

    def _lost(self, why: str) -> None:
        if why != self._mesh.problem:
            self._mesh.problem = why
            self.wake()

    # -- in the loop ---------------------------------------------------------------------------------------------

    def _note(self, kind: Kind, before: Obj | None, after: Obj | None) -> None:
        if self.watching.wait_until_listed(0):
            if is_policy(kind) or kind in (NAMESPACE, POD):
                text = describe_change(kind, before, after)
                if text:
                    self._mesh.ledger.mark(text, time.time())
            if _decides(kind, before or {}, after or {}):
                self._mesh._forget()
                self._probe_again()
        self._paint_soon()

    def _paint_soon(self) -> None:
        if not self._painting:
            self._painting = True
            # A large mesh takes longer to paint, and is painted less often: never more than a fifth of the time.
            pause = max(PAINT_SECONDS, 4 * self._took)
            wait = max(GATHER_SECONDS, self._painted + pause - time.monotonic())
            self._loop.call_later(wait, self._paint)

    def _paint(self) -> None:
        self._painting = False
        started = time.monotonic()
        self._ledger_version = self._mesh.ledger.version
        self._mesh._tell()
        self._painted = time.monotonic()
        self._took = self._painted - started

    async def _beat(self) -> None:
        """Once a second: metrics, the sliding window of counts, edges that nobody tries."""
        while not self.watching.wait_until_listed(0) and not self._stopped:  # noqa: ASYNC110 - another thread's event
            await asyncio.sleep(0.05)
        self._mesh._tell()  # the first picture says which edges there are to try
        self._probe_again()
        turn = 0
        while not self._stopped:
            await asyncio.sleep(1.0)
            turn += 1
            if self._mesh.problem:
                continue
            busy = bool(self._mesh.senders) or not self._idle
            if busy or turn % 5 == 0:
                await self._meter()
            if turn % int(PROBE_SECONDS) == 0:
                self._probe_again()
            counting = bool(self._mesh.counted())
            if counting or not self._idle or self._mesh.ledger.version != self._ledger_version:
                self._idle = not counting
                self._paint_soon()

    async def _meter(self) -> None:
        snapshot = self._mesh.snapshot()
        if snapshot is None or not snapshot.mesh_installed:
            return
        mesh = self._mesh
        with contextlib.suppress(LabError):
            cluster = self.watching.cluster
            changed_at = mesh.changed_at
            found = await self._loop.run_in_executor(self._pool, mesh._metering.read, cluster, snapshot)
            for sighting in found:
                # What was counted while something changed tells nothing about the time after it.
                mixed = mesh.changed_at != changed_at or mesh._metering.since < changed_at
                mesh.ledger.add(sighting if not mixed else _for_the_timeline(sighting), time.time())
            if found:
                self._idle = False

    def _probe_again(self) -> None:
        if self._probing and not self._probing.done():
            self._probing.cancel()
        self._probing = self._loop.create_task(self._probe_all())

    async def _probe_all(self) -> None:
        for attempt in range(MOST_RETRIES):
            if attempt:
                await asyncio.sleep(RETRY_SECONDS)
            targets = self._mesh._targets()
            results = await asyncio.gather(*(self._probe(call, path) for call, path in targets.items()))
            if all(results) or self._stopped:
                return

    async def _probe(self, call: Call, path: str) -> bool:
        """Try one call. False when it is worth another try, because it met the rules of before."""
        namespace, _, name = call.service.partition("/")
        url = f"http://{name}.{namespace}:{call.port}{path}"
        started = time.time()
        mesh = self._mesh
        try:
            cluster = self.watching.cluster
            ask = lambda: traffic.probe(cluster, call.client, url, limit=8.0, readings=mesh._readings)  # noqa: E731
            seen = await self._loop.run_in_executor(self._pool, ask)
        except LabError:
            return True  # the client is not ready; its next change probes again
        if not mesh._take_probe(call, seen, started):
            return False
        self._paint_soon()
        return not mesh.disagrees(call)


def _decides(kind: Kind, before: Obj, after: Obj) -> bool:
    """Whether what was seen before a change may not be true after it."""
    if is_policy(kind):
        return before.get("spec") != after.get("spec")
    return kind == POD and is_ready(before) != is_ready(after)


def _for_the_timeline(sighting: Sighting) -> Sighting:
    return Sighting(sighting.client, sighting.server, sighting.outcome, sighting.number, sighting.failed, probe=True)
