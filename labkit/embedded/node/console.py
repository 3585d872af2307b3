"""Talking to a process: pipes and terminals as asyncio streams, for probes, `kubectl exec` and `kubectl attach`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.embedded.apiclient import Object
from labkit.embedded.node.processes import Exit, Process

if TYPE_CHECKING:
    from labkit.embedded.node.sandbox import Sandbox

CAPTURED = 10 * 1024
"""Bytes of a probe's or hook's output that are kept for its event, as in the kubelet."""

QUIET = 0.25
"""Seconds to wait for the end of a stream once its process has ended: a background process may hold it open."""

Sink = Callable[[bytes], object]


def take_terminal() -> None:
    """In the child: make its standard input the controlling terminal of its new session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def set_size(terminal: int, rows: int, columns: int) -> None:
    """The size of a terminal; the programs in it get SIGWINCH."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Output:
    """Reads a descriptor as bytes come and hands them to sinks; `ended` is set at its end. Owns the descriptor."""

    def __init__(self, descriptor: int, *sinks: Sink) -> None:
        self.sinks = list(sinks)
        self.ended = asyncio.Event()
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process of a terminal has gone
            data = b""
        if not data:
            self.close()
            return
        for sink in list(self.sinks):
            sink(data)

    def pause(self) -> None:
        """Read nothing for now: whoever takes the bytes is slow."""
        if not self.ended.is_set():
            self._loop.remove_reader(self._descriptor)

    def resume(self) -> None:
        """Read on."""
        if not self.ended.is_set():
            self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Stop reading and close the descriptor."""
        if not self.ended.is_set():
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self.ended.set()


class Input:
    """Writes bytes to a descriptor without blocking the event loop. Owns the descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._writable = asyncio.Event()
        os.set_blocking(descriptor, False)

    async def write(self, data: bytes) -> None:
        """All of `data`; what nobody reads any more is dropped."""
        view = memoryview(data)
        while view and not self._closed:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                await self._until_writable()
            except OSError:
                self.close()

    def close(self) -> None:
        """End of input."""
        if not self._closed:
            self._closed = True
            # Before it is closed: the number may be a process's pidfd next, which the loop would mix up with this.
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._writable.set()

    async def _until_writable(self) -> None:
        self._writable.clear()
        self._loop.add_writer(self._descriptor, self._writable.set)
        try:
            await self._writable.wait()
        finally:
            if not self._closed:
                self._loop.remove_writer(self._descriptor)


class Console:
    """Standard input of a container, and with `tty` its terminal, whose output we copy into the log.

    It ends with the supervisor: a terminal needs somebody at its other end. Containers without `stdin` and `tty`,
    which are nearly all, have no console and do not notice when the supervisor dies.
    """

    def __init__(self, log: Path, *, tty: bool) -> None:
        self.tty = tty
        self._log = log.open("ab", buffering=0)
        if tty:
            master, self._child_side = pty.openpty()
            set_size(master, 24, 80)
            self.terminal: int | None = master
            self.output: Output | None = Output(os.dup(master), lambda data: self._log.write(data))
            self.input = Input(master)
        else:
            self._child_side, ours = os.pipe()
            self.terminal, self.output, self.input = None, None, Input(ours)

    def start(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Process:
        """Start the container's process at this console."""
        side = self._child_side
        try:
            if self.tty:
                env = {"TERM": "xterm", **env}
                return Process.start(
                    argv, env=env, cwd=cwd, stdin=side, stdout=side, stderr=side, preexec=take_terminal
                )
            return Process.start(argv, env=env, cwd=cwd, stdin=side, stdout=self._log)
        finally:
            os.close(side)
            self._child_side = -1

    def close(self) -> None:
        """Close our side; a program at a terminal gets SIGHUP."""
        if self._child_side >= 0:
            os.close(self._child_side)
            self._child_side = -1
        if self.output:
            self.output.close()
        self.input.close()
        self._log.close()


async def run_and_capture(sandbox: Sandbox, spec: Object, command: list[str], timeout: float) -> tuple[Exit, str]:
    """Run a program in a container's environment; how it ended, and the beginning of its output.

    A program that cannot be executed, or takes too long, has the exit code None or 124 and says why.
    """
    from labkit.embedded.node.sandbox import ProgramNotFoundError  # it imports us

    env = await sandbox.running_environment(spec)
    try:
        argv = sandbox.resolve(spec, command, env)
    except ProgramNotFoundError as error:
        return Exit(127), error.what
    captured = bytearray()
    ours, theirs = os.pipe()
    output = Output(ours, lambda data: captured.extend(data[: CAPTURED - len(captured)]))
    try:
        process = Process.start(argv, env=env, cwd=sandbox.working_directory(spec), stdout=theirs)
    except OSError as error:
        output.close()
        return Exit(126), str(error.strerror)
    finally:
        os.close(theirs)
    try:
        async with asyncio.timeout(timeout):
            ended = await process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET):
                await output.ended.wait()
        return ended, captured.decode(errors="replace").strip()
    except TimeoutError:
        return Exit(124), f"command timed out after {timeout:.0f}s"
    finally:
        process.kill()
        output.close()
