"""One hop: takes the connections that are steered to it, opens each once more to the server, and passes everything on.

The server sees the client's address, since the hop connects from it (any loopback address may be used), but not the
client's port. Ends and resets are passed on as what they are: a client whose server resets must see a reset, or STRICT
would look different under a capture.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from labkit.embedded.wire import steering
from labkit.embedded.wire.segments import ACK, FIN, LARGEST, PSH, RST, SYN, Address, Segment
from labkit.errors import LabError

log = logging.getLogger(__name__)

_IP_BIND_ADDRESS_NO_PORT = 24  # ip(7); Python 3.11 has no name for it
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Told = Callable[[Segment], None]


class Hop:
    """Stands in the way to the server at `address`. `shown` is the address as manifests have it."""

    def __init__(self, address: Address, shown: Address) -> None:
        self.address, self.shown = address, shown
        self.listeners: list[Told] = []
        self._socket: socket.socket | None = None
        self._inode = 0
        self._servers: frozenset[int] = frozenset()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def steering(self) -> bool:
        return self._socket is not None

    @property
    def idle(self) -> bool:
        return not self.steering and not self._connections

    def own_ends(self) -> set[Address]:
        """The other side of each connection at the server's port that passes this hop."""
        return {end for one in self._connections for end in (one.client, one.outgoing) if end}

    def steer(self, group: frozenset[int]) -> None:
        """Join the sockets (by their inodes) that listen there now, unless they are those that were joined already.

        Raises OSError when they do not share their port, MachineError when the kernel cannot do it.
        """
        servers = group - {self._inode}
        if self._socket and servers == self._servers:
            return
        self._leave()
        if not servers:
            return
        joined = steering.shared_listener(self.address)
        try:
            steering.attach(joined, steering.to_hop(len(servers)))  # who comes last stands last
        except BaseException:
            joined.close()
            raise
        self._socket, self._servers, self._inode = joined, servers, os.fstat(joined.fileno()).st_ino
        asyncio.get_running_loop().add_reader(joined, self._accept)

    def retire(self) -> None:
        """New connections go to the server again; those that pass here go on until they end."""
        self._leave()

    async def close(self) -> None:
        """Cut what still passes."""
        self.retire()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def tell(self, segment: Segment) -> None:
        """Whoever captures is told."""
        for listener in self.listeners:
            listener(segment)

    def _leave(self) -> None:
        if joined := self._socket:
            servers, self._servers = len(self._servers), frozenset()
            self._socket, self._inode = None, 0
            with contextlib.suppress(LabError):
                steering.attach(joined, steering.to_servers(servers))
            asyncio.get_running_loop().remove_reader(joined)
            self._take_all(joined)
            joined.close()

    def _accept(self) -> None:
        if self._socket:
            self._take_all(self._socket)

    def _take_all(self, listener: socket.socket) -> None:
        while True:
            try:
                client, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # no descriptor left: let the server take them, until the next look
                log.warning("a connection to %s:%d was not taken: %s", *self.address, error)
                asyncio.get_running_loop().call_soon(self._leave)
                return
            if steering.is_marked(client):
                # The server has gone, and the hop would call itself. The next look at the sockets puts it right.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                client.close()
                continue
            client.setblocking(False)
            connection = _Connection(self, client, address)
            self._connections.add(connection)
            task = asyncio.create_task(connection.run(), name=f"hop-{self.address}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget(self, connection: _Connection) -> None:
        """The connection has ended."""
        self._connections.discard(connection)


@dataclass(eq=False)
class _End:
    """One of the two sockets of a connection, and what its side has sent."""

    sock: socket.socket
    shown: Address
    sent: int = field(default_factory=lambda: random.getrandbits(32))
    finished: bool = False


class _Connection:
    def __init__(self, hop: Hop, sock: socket.socket, client: Address) -> None:
        self.hop, self.client = hop, client
        self.outgoing: Address | None = None
        self._here = _End(sock, client)
        self._there = _End(socket.socket(socket.AF_INET, socket.SOCK_STREAM), hop.shown)
        self._over = False

    async def run(self) -> None:
        """Until both sides have ended."""
        try:
            self._opened()
            await self._connect()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass(self._here, self._there))
                tasks.create_task(self._pass(self._there, self._here))
        except* OSError as group:
            log.debug("connection to %s:%d: %r", *self.hop.address, group.exceptions)
        finally:
            for end in (self._here, self._there):
                end.sock.close()
            self.hop.forget(self)

    async def _connect(self) -> None:
        sock = self._there.sock
        sock.setblocking(False)
        for end in (self._here, self._there):
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, steering.MARK)
        try:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((self.client[0], 0))
            await asyncio.get_running_loop().sock_connect(sock, self.hop.address)
            self.outgoing = sock.getsockname()
        except OSError:
            self._reset(self._there, self._here)
            raise

    async def _pass(self, source: _End, target: _End) -> None:
        """Everything that `source` sends, until it ends or one side resets."""
        loop = asyncio.get_running_loop()
        while not self._over:
            try:
                data = await loop.sock_recv(source.sock, LARGEST)
            except OSError:
                self._reset(source, target)
                raise
            try:
                if not data:
                    self._told(source, target, FIN | ACK, grows=1)
                    source.finished = True
                    target.sock.shutdown(socket.SHUT_WR)
                    return
                self._told(source, target, PSH | ACK, data, grows=len(data))
                await loop.sock_sendall(target.sock, data)
            except OSError:
                self._reset(target, source)
                raise

    def _opened(self) -> None:
        """The kernel has done the handshake with the client already."""
        here, there = self._here, self._there
        self._told(here, there, SYN, grows=1, ack=0)
        self._told(there, here, SYN | ACK, grows=1)
        self._told(here, there, ACK)

    def _reset(self, source: _End, target: _End) -> None:
        """`source` has reset the connection, so the other side is reset too."""
        if self._over:
            return
        self._over = True
        self._told(source, target, RST | ACK)
        with contextlib.suppress(OSError):
            target.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def _told(
        self, source: _End, target: _End, flags: int, data: bytes = b"", *, grows: int = 0, ack: int | None = None
    ) -> None:
        if self.hop.listeners:
            acknowledged = target.sent % 2**32 if ack is None else ack
            sent = source.sent % 2**32
            segment = Segment(time.time(), source.shown, target.shown, flags, sent, acknowledged, data)
            self.hop.tell(segment)
        source.sent += grows
