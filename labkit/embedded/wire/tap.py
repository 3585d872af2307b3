"""Who looks at which pod's wire, and the hops that this needs: one for each port that somebody looks at.

A program `tcpdump` in a pod asks on a unix socket of the node. It says who it is and which packets it wants, and gets
them as they cross, until it goes away:

    -> {"row": 3, "filter": "tcp port 5000", "interfaces": ["eth0"]}
    <- {"ports": [5000], "closed": [], "unseen": 0}           or {"error": "..."}
    <- segments, each a line of JSON and its bytes
    <- {"lost": 0}                                            once the asking side has been shut

A hop sees new connections alone. So for those that are there already the clients' proxies are asked to open new ones
(`renew`), as they do anyway when the endpoints of a service change: no request is lost by it. They are asked again at
the end, so that nothing passes the hop for longer than somebody looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from labkit.embedded.addresses import declared_port, inside_ip, outside_ip
from labkit.embedded.wire import socket_path, steering
from labkit.embedded.wire.expression import Matches, parse
from labkit.embedded.wire.hop import Hop
from labkit.embedded.wire.segments import Address, Segment
from labkit.errors import LabError

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.1
"""Seconds between looks at the machine's sockets while somebody captures: a server may be started anew."""

LOOK_SELDOM = 1.0
"""The same when nobody captures any more, and connections still pass a hop."""

RENEWAL = 2.5
"""Seconds in which clients open new connections; a change of endpoints reaches all proxies in a tenth of it."""

BEHIND = 16 * 2**20
"""Bytes that may wait for a program that does not keep up; beyond, packets are lost to it, as with real captures."""

Sees = Callable[[str], str]
"""The interface on which a pod sees what crosses to an address, or nothing: its own, or (in a pod with the node's
network) those of all pods.
"""

View = Callable[[int], Sees | None]
"""What the pod in a row sees; None when there is none."""

Renew = Callable[[str], Awaitable[None]]
"""Let those who call an address of a pod open new connections."""

OUTSIDE, INSIDE = "eth0", "lo"


def interface_of(address: str, pod: str) -> str:
    """Where what crosses to an address is seen in the pod: at its door, or between its proxy and its application."""
    if address == pod:
        return OUTSIDE
    return INSIDE if address == inside_ip(pod) else ""


class Capture:
    """One program that looks at one pod."""

    def __init__(
        self, sees: Sees, matches: Matches, writer: asyncio.StreamWriter, interfaces: Collection[str] = (OUTSIDE,)
    ) -> None:
        self.sees = sees
        self.interfaces = interfaces
        self.lost = 0
        self._matches = matches
        self._writer = writer
        self.listening = False

    def wants(self, hop: Hop) -> bool:
        """Whether anything that goes to this port, or comes from it, could be wanted."""
        return self.sees(hop.address[0]) in self.interfaces and (
            self._matches(None, hop.shown) is not False or self._matches(hop.shown, None) is not False
        )

    def take(self, segment: Segment) -> None:
        """Hand a segment on, if it is wanted."""
        if not self.listening or not self._matches(segment.source, segment.target):
            return
        if self._writer.transport.get_write_buffer_size() > BEHIND:
            self.lost += 1
            return
        self._writer.write(segment.encode())

    def say(self, **words: object) -> None:
        """A line of JSON."""
        self._writer.write(json.dumps(words).encode() + b"\n")


class Tap:
    """The node's side. `start` listens for programs; hops come and go with them."""

    def __init__(self, run_dir: Path, view: View, renew: Renew) -> None:
        self._path = socket_path(run_dir)
        self._view, self._renew = view, renew
        self._hops: dict[Address, Hop] = {}
        self._closed: dict[Address, str] = {}
        self._captures: list[Capture] = []
        self._server: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen for programs."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """End all captures, and what passes the hops."""
        if self._server:
            self._server.close()
            self._path.unlink(missing_ok=True)
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await asyncio.gather(*(hop.close() for hop in self._hops.values()))
        self._hops.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                await self._capture(reader, writer)
        finally:
            writer.close()

    async def _capture(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = json.loads(await reader.readline())
            sees = self._view(int(asked["row"]))
            if sees is None:
                raise ValueError("this pod is none of the node's")
            capture = Capture(sees, parse(str(asked["filter"])), writer, tuple(asked["interfaces"]))
        except (LabError, ValueError, KeyError, TypeError) as error:
            writer.write(json.dumps({"error": error.what if isinstance(error, LabError) else str(error)}).encode())
            return
        self._captures.append(capture)
        try:
            await self._begin(capture)
            await writer.drain()
            await reader.read()  # until the program goes away, or has seen enough
            capture.say(lost=capture.lost)
        finally:
            self._captures.remove(capture)
            await self._end(capture)

    async def _begin(self, capture: Capture) -> None:
        try:
            self._look()
        except LabError as error:
            capture.say(error=" ".join(error.lines()))
            return
        if not (self._looking and not self._looking.done()):
            self._looking = asyncio.create_task(self._look_again(), name="tap")
        if unseen := self._unseen(capture):
            await asyncio.gather(*(self._renew(address) for address in set(unseen)))
            until = time.monotonic() + RENEWAL
            while self._unseen(capture) and time.monotonic() < until:  # noqa: ASYNC110 - the kernel tells nobody of its sockets
                await asyncio.sleep(LOOK_AGAIN / 5)
        capture.listening = True
        mine = [hop for hop in self._hops.values() if capture.wants(hop)]
        capture.say(
            ports=sorted(hop.shown[1] for hop in mine if hop.steering),
            closed=sorted(hop.shown[1] for hop in mine if hop.address in self._closed),
            unseen=len(self._unseen(capture)),
        )

    async def _end(self, capture: Capture) -> None:
        """Without hops that nobody needs any more; connections that pass one are renewed."""
        with contextlib.suppress(LabError):
            self._look()
        passing = {hop.address[0] for hop in self._hops.values() if capture.wants(hop) and not hop.steering}
        await asyncio.gather(*(self._renew(address) for address in passing))

    async def _look_again(self) -> None:
        while self._captures or self._hops:
            await asyncio.sleep(LOOK_AGAIN if self._captures else LOOK_SELDOM)
            try:
                self._look()
            except LabError as error:
                log.warning("%s", error.what)

    def _look(self) -> None:
        """Bring the hops to what is wanted and to who listens now. Raises MachineError when this kernel cannot."""
        sockets = steering.read_sockets()
        for address in sockets.listening:
            if address in self._hops or not any(capture.sees(address[0]) for capture in self._captures):
                continue
            # What is inside has the pod's address too, in life; only here it needs one of its own.
            hop = Hop(address, (outside_ip(address[0]), declared_port(address[1])))
            if any(capture.wants(hop) for capture in self._captures):
                self._hops[address] = hop
        for address, hop in list(self._hops.items()):
            hop.listeners = [capture.take for capture in self._captures if capture.wants(hop)]
            if hop.listeners:
                self._steer(hop, sockets.listening.get(address, frozenset()))
                continue
            hop.retire()
            if hop.idle:
                del self._hops[address]

    def _steer(self, hop: Hop, group: frozenset[int]) -> None:
        try:
            hop.steer(group)
            self._closed.pop(hop.address, None)
        except OSError as error:  # a program of its own kind, that does not share its port
            if hop.address not in self._closed:
                log.info("what crosses to %s:%d cannot be seen: %s", *hop.address, error)
            self._closed[hop.address] = str(error)

    def _unseen(self, capture: Capture) -> list[str]:
        """The servers' addresses of connections that were there before, and are still; one for each."""
        hops = {hop.address: hop.own_ends() for hop in self._hops.values() if capture.wants(hop)}
        connections = steering.read_sockets().connections
        return [here[0] for here, there in connections if here in hops and there not in hops[here]]
