"""`kubectl exec` and `kubectl attach` over a websocket: the subprotocols v5 and v4.channel.k8s.io.

Each binary message begins with the number of its channel: 0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 the
terminal's size as JSON. v5 adds message 255: the channel whose number follows is closed (the end of stdin).
https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMessage, WSMsgType, web

from labkit.embedded.node.console import QUIET, Input, Output, set_size, take_terminal
from labkit.embedded.node.container import Container
from labkit.embedded.node.logs import LogFile, LogOptions, read_log
from labkit.embedded.node.processes import Process
from labkit.embedded.node.sandbox import ProgramNotFoundError

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
HIGH_WATER = 64
"""Messages that may wait for a slow client before the program is made to wait too."""
HEAD_START = 0.01
"""Seconds before the first message of v5. kubectl up to 1.32 drops what comes before it has opened its channels
(https://github.com/kubernetes/kubernetes/pull/131203), and a process starts sooner here than in a container."""
FIRST_SIZE = 0.05
"""Seconds for which a program at a terminal waits for the terminal's size, so that it never sees another first."""


@dataclass(frozen=True)
class StreamOptions:
    """Which streams the caller wants."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, query: Mapping[str, str]) -> StreamOptions:
        """From the query: kubectl writes `stdin=true`, the kubelet's own API `input=1`."""

        def wanted(*names: str) -> bool:
            return any(query.get(name, "").lower() in ("1", "true") for name in names)

        tty = wanted("tty")
        return cls(wanted("stdin", "input"), wanted("stdout", "output"), wanted("stderr", "error") and not tty, tty)


def success() -> dict[str, Any]:
    """The Status of a program that ended with 0."""
    return {"metadata": {}, "status": "Success"}


def exited(code: int, detail: str = "") -> dict[str, Any]:
    """The Status of a program that ended with another code; clients take the code from the cause ExitCode."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {detail or f'exit code {code}'}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(message: str) -> dict[str, Any]:
    """The Status when there was nothing to run."""
    return {"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500}


class Channels:
    """The channels of one websocket. Sending is in order; a slow client slows the program down, not us."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._outputs: list[Output] = []
        self.paused = False
        self.taken = 0  # messages so far
        self._sender = asyncio.create_task(self._send())
        self._early: list[bytes] = []
        self.size = (24, 80)  # rows and columns

    def attach(self, output: Output) -> Output:
        """Pause this output when the client does not keep up."""
        self._outputs.append(output)
        return output

    def put(self, channel: int, data: bytes) -> None:
        """Queue one message."""
        self._queue.put_nowait(bytes((channel,)) + data)
        self.taken += 1
        if self._queue.qsize() > HIGH_WATER and not self.paused:
            self.paused = True
            for output in self._outputs:
                output.pause()

    async def finish(self, status: dict[str, Any], receiving: asyncio.Task[None] | None = None) -> None:
        """Send the Status behind all that was queued, and close once the client has it.

        `receiving` is ended first: aiohttp does not wait for the client's answer to a close while somebody else
        reads, but ends the connection at once, and a client that is slow to read then loses what it has not read.
        """
        self.put(ERROR, json.dumps(status).encode())
        self._queue.put_nowait(None)
        await self._sender
        if receiving:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
        with contextlib.suppress(ConnectionError):
            await self.socket.close()

    async def drop(self) -> None:
        """The client is gone."""
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)

    async def _send(self) -> None:
        if self.socket.ws_protocol == PROTOCOLS[0]:
            await asyncio.sleep(HEAD_START)
        while (message := await self._queue.get()) is not None:
            with contextlib.suppress(ConnectionError):  # noticed by whoever reads
                await self.socket.send_bytes(message)
            if self.paused and self._queue.qsize() < HIGH_WATER // 2:
                self.paused = False
                for output in self._outputs:
                    output.resume()

    async def first_size(self) -> None:
        """Learn the size of the client's terminal; clients that have one send it at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SIZE):
                while (message := await self.socket.receive()).type in (WSMsgType.BINARY, WSMsgType.TEXT):
                    if data := _bytes(message):
                        self._early.append(data)
                        if data[0] == RESIZE:
                            self.size = _size(data[1:]) or self.size
                            return

    async def receive(self, stdin: Input | None, terminal: int | None) -> None:
        """Hand on what the client sends, until it goes away."""
        while self._early:
            await self._take(self._early.pop(0), stdin, terminal)
        async for message in self.socket:
            if data := _bytes(message):
                await self._take(data, stdin, terminal)

    async def _take(self, data: bytes, stdin: Input | None, terminal: int | None) -> None:
        if data[0] == STDIN and stdin:
            await stdin.write(data[1:])
        elif data[0] == RESIZE and terminal is not None:
            if size := _size(data[1:]):
                with contextlib.suppress(OSError):
                    set_size(terminal, *size)
        elif data[0] == CLOSE and len(data) > 1 and data[1] == STDIN and stdin:
            stdin.close()


def _bytes(message: WSMessage) -> bytes:
    return message.data.encode() if message.type is WSMsgType.TEXT else bytes(message.data)


def _size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns; None for what is no size of a terminal."""
    try:
        size = json.loads(data)
        rows, columns = int(size["Height"]), int(size["Width"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    return (rows, columns) if 0 <= rows <= 0xFFFF and 0 <= columns <= 0xFFFF else None


@dataclass
class _Running:
    """A program of `kubectl exec` with our ends of its streams."""

    process: Process
    stdin: Input | None
    outputs: list[Output]
    terminal: int | None = None

    async def drain(self, channels: Channels) -> None:
        """What it wrote before it ended, however slow the client; a background process may hold the pipe open."""
        before = -1
        while channels.paused or channels.taken != before:
            before = channels.taken
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET):
                    for output in self.outputs:
                        await output.ended.wait()
                    return

    def close(self) -> None:
        for output in self.outputs:
            output.close()
        if self.stdin:
            self.stdin.close()


async def exec_in_container(
    socket: web.WebSocketResponse, container: Container, command: list[str], options: StreamOptions
) -> None:
    """Run a program beside a container's own, in the same environment, with its streams on the websocket."""
    channels = Channels(socket)
    # The kubelet sends an empty message at once, so that a client knows that it is connected.
    channels.put(STDOUT if options.stdout else STDERR if options.stderr else ERROR, b"")
    sandbox = container.sandbox
    env = await sandbox.running_environment(container.spec)
    if options.tty:
        env = {"TERM": "xterm", **env}
        await channels.first_size()
    try:
        argv = sandbox.resolve(container.spec, command, env)
        running = _start(channels, container, argv, env, options)
    except (ProgramNotFoundError, OSError) as error:
        code, why = _why_not(error, command[0])
        text = f"OCI runtime exec failed: exec failed: unable to start container process: {why}"
        channels.put(STDERR if options.stderr else STDOUT, f"{text}\n".encode())
        await channels.finish(exited(code, text))
        return
    await _talk(channels, running)


def _why_not(error: ProgramNotFoundError | OSError, name: str) -> tuple[int, str]:
    """127 for a program that is not there, 126 for one that cannot be executed, as in a shell."""
    if isinstance(error, ProgramNotFoundError):
        return 127, error.what
    return 126, f'exec: "{name}": {(error.strerror or "cannot execute").lower()}'


def _start(
    channels: Channels, container: Container, argv: list[str], env: dict[str, str], options: StreamOptions
) -> _Running:
    cwd = container.sandbox.working_directory(container.spec)
    if options.tty:
        return _start_at_terminal(channels, argv, env, cwd)
    theirs: list[int] = []
    outputs = []
    stdin = None
    targets = []
    try:
        for wanted, channel in ((options.stdout, STDOUT), (options.stderr, STDERR)):
            if not wanted:
                targets.append(asyncio.subprocess.DEVNULL)
                continue
            ours, their = os.pipe()
            theirs.append(their)
            targets.append(their)
            outputs.append(channels.attach(Output(ours, _sink(channels, channel))))
        source: int = asyncio.subprocess.DEVNULL
        if options.stdin:
            source, ours = os.pipe()
            theirs.append(source)
            stdin = Input(ours)
        process = Process.start(
            argv, env=env, cwd=cwd, stdin=source, stdout=targets[0], stderr=targets[1], owns_session=False
        )
    except OSError:
        _Running.close(_Running(None, stdin, outputs))  # type: ignore[arg-type]
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return _Running(process, stdin, outputs)


def _start_at_terminal(channels: Channels, argv: list[str], env: dict[str, str], cwd: Any) -> _Running:
    master, side = pty.openpty()
    set_size(master, *channels.size)
    output = channels.attach(Output(os.dup(master), _sink(channels, STDOUT)))
    stdin = Input(master)
    try:
        process = Process.start(argv, env=env, cwd=cwd, stdin=side, stdout=side, stderr=side, preexec=take_terminal)
    except OSError:
        output.close()
        stdin.close()
        raise
    finally:
        os.close(side)
    return _Running(process, stdin, [output], master)


def _sink(channels: Channels, channel: int) -> Any:
    return lambda data: channels.put(channel, data)


async def _talk(channels: Channels, running: _Running) -> None:
    """Until the program ends, or the client goes away, which ends the program."""
    receiving = asyncio.create_task(channels.receive(running.stdin, running.terminal))
    ending = asyncio.create_task(running.process.wait())
    try:
        await asyncio.wait([receiving, ending], return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            ended = ending.result()
            await running.drain(channels)
            code = 137 if ended.code is None else ended.code
            await channels.finish(success() if code == 0 else exited(code), receiving)
        else:
            await channels.drop()
    finally:
        receiving.cancel()
        ending.cancel()
        running.process.kill()
        running.close()
        await asyncio.gather(receiving, ending, return_exceptions=True)


async def attach_to_container(
    socket: web.WebSocketResponse, container: Container, options: StreamOptions, log: LogFile, ended: asyncio.Event
) -> None:
    """Connect to a container's own streams: its console if it has one, otherwise what it writes from now on."""
    channels = Channels(socket)
    channels.put(STDOUT, b"")
    console = container.console
    stdin = console.input if console and options.stdin else None
    receiving = asyncio.create_task(channels.receive(stdin, console.terminal if console else None))
    reading = asyncio.create_task(_read_from(channels, container, log, ended))
    try:
        await asyncio.wait([receiving, reading], return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            # The container's exit code is not attach's: `kubectl run` would take it for a failure to attach.
            await channels.finish(success(), receiving)
        else:
            await channels.drop()
    finally:
        receiving.cancel()
        reading.cancel()
        await asyncio.gather(receiving, reading, return_exceptions=True)


async def _read_from(channels: Channels, container: Container, log: LogFile, ended: asyncio.Event) -> None:
    console = container.console
    if console and console.output:
        sink = _sink(channels, STDOUT)
        console.output.sinks.append(sink)
        try:
            await console.output.ended.wait()
            await ended.wait()
        finally:
            console.output.sinks.remove(sink)
        return
    async for piece in read_log(log, LogOptions(follow=True, tail_lines=0), ended):
        channels.put(STDOUT, piece)
