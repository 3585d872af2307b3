"""`kubectl port-forward` at the node: one websocket for each forwarded connection.

Messages begin with a channel, as those of exec do: 0 the bytes, 1 what went wrong, 255 0 the client sends no more.
The connection is made inside the pod, as a real kubelet makes it in the pod's network namespace: it meets what
listens on the pod's localhost, behind the sidecar. So it works under STRICT, in plaintext.
https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os

from aiohttp import WSMsgType, web

from labkit.embedded.addresses import inside_ip, listen_port
from labkit.embedded.node.network import ADMIN_PORT, PROXY_PORTS
from labkit.embedded.node.sandbox import Sandbox

PROTOCOLS = ("v5.channel.k8s.io",)
DATA, ERROR, CLOSE = 0, 1, 255
PIECE = 64 * 1024
CONNECT_SECONDS = 5.0


async def forward(socket: web.WebSocketResponse, sandbox: Sandbox, pod: str, port: int) -> None:
    """Connect to a port inside the pod and carry bytes until the pod closes or the client goes away."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await _connect(sandbox, port)
    except OSError as error:  # TimeoutError is one of them
        why = os.strerror(error.errno or errno.ETIMEDOUT).lower()  # asyncio's own words name our addresses
        text = f"failed to connect to localhost:{port} inside pod {pod}: {why}"
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(bytes((ERROR,)) + text.encode())
            await socket.close()
        return
    up = asyncio.create_task(_from_client(socket, writer))
    down = asyncio.create_task(_from_pod(socket, reader))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await socket.close()


async def _connect(sandbox: Sandbox, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    admin = sandbox.run_dir / "envoy-admin.sock"
    if port == ADMIN_PORT and admin.exists():
        return await asyncio.open_unix_connection(str(admin))
    if sandbox.redirect is None:
        return await asyncio.open_connection(sandbox.pod_ip, listen_port(port))
    address = sandbox.pod_ip if port in PROXY_PORTS else inside_ip(sandbox.pod_ip)
    return await asyncio.open_connection(address, listen_port(port))


async def _from_client(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    """Ends when the client goes away; the pod may still be writing when the client has nothing more to send."""
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        with contextlib.suppress(OSError, RuntimeError):  # the pod does not read any more
            if message.data[0] == DATA:
                writer.write(message.data[1:])
                await writer.drain()
            elif message.data[0] == CLOSE:
                writer.write_eof()


async def _from_pod(socket: web.WebSocketResponse, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):  # a reset is the end of the bytes, too
        while data := await reader.read(PIECE):
            await socket.send_bytes(bytes((DATA,)) + data)
