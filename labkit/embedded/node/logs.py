"""Container logs: plain files that the containers write themselves, read for `kubectl logs`.

A container writes directly into its file, so that it needs nobody to take its output and survives the supervisor.
The price: no line carries a time. `LogWatcher` notes how long a file was at which moment (told by inotify, at most
ten times a second), and a line's time is that of the first note behind it.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import ctypes
import logging
import os
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

log = logging.getLogger(__name__)

IN_MODIFY, IN_CLOEXEC, IN_NONBLOCK, IN_IGNORED = 0x2, 0o2000000, 0o4000, 0x8000
EVENT_HEADER = struct.Struct("iIII")  # inotify(7): wd, mask, cookie, len
THROTTLE = 0.1
"""Seconds between two looks at files that change all the time; a chatty container must not keep us busy."""

BLOCK = 64 * 1024

LOG_LIMIT = 64 * 2**20
"""A longer log is emptied (the kubelet rotates at 10 MiB): a program that prints in a loop must not fill the disk."""

CUT = b"[labkit: this log grew too long; what stood here before was dropped]\n"


@dataclass
class LogFile:
    """A watched log: how long it was when."""

    path: Path
    offsets: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self) -> None:
        """Note the present length, and wake those who follow."""
        with contextlib.suppress(OSError):
            size = self.path.stat().st_size
            if size > LOG_LIMIT:
                size = self._cut()
            if not self.offsets or size > self.offsets[-1]:
                self.offsets.append(size)
                self.times.append(time.time())
        self.changed.set()
        self.changed = asyncio.Event()

    def _cut(self) -> int:
        """Empty the file. Its writers append, so that they go on at its new end."""
        os.truncate(self.path, 0)
        with self.path.open("ab") as stream:
            stream.write(CUT)
        self.offsets.clear()
        self.times.clear()
        return len(CUT)

    def time_of(self, end: int) -> float:
        """When the byte before `end` was written, as far as known."""
        index = bisect.bisect_left(self.offsets, end)
        if index < len(self.times):
            return self.times[index]
        with contextlib.suppress(OSError):
            return self.path.stat().st_mtime
        return time.time()


class LogWatcher:
    """One inotify descriptor for all logs of the node. Without inotify, followers look once a second."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
        self._files: dict[int, LogFile] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        if self._descriptor < 0:
            log.warning("no inotify (%s): logs are followed once a second", os.strerror(ctypes.get_errno()))
        else:
            self._loop.add_reader(self._descriptor, self._read)

    def watch(self, path: Path) -> LogFile:
        """The watched file; the same object for the same path."""
        for known in self._files.values():
            if known.path == path:
                return known
        file = LogFile(path)
        file.note()
        if self._descriptor >= 0:
            number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), IN_MODIFY)
            if number >= 0:
                self._files[number] = file
        return file

    def close(self) -> None:
        """Stop watching."""
        if self._timer:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        data = os.read(self._descriptor, BLOCK)
        changed, position = set(), 0
        while position < len(data):
            number, mask, _, length = EVENT_HEADER.unpack_from(data, position)
            position += EVENT_HEADER.size + length
            if mask & IN_IGNORED:  # the file was removed
                self._files.pop(number, None)
            else:
                changed.add(number)
        for number in changed & self._files.keys():
            self._files[number].note()
        self._loop.remove_reader(self._descriptor)
        self._timer = self._loop.call_later(THROTTLE, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._descriptor, self._read)


@dataclass(frozen=True)
class LogOptions:
    """The parameters of `kubectl logs`."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float | None = None  # seconds since the epoch
    limit_bytes: int | None = None


def tail_offset(path: Path, lines: int) -> int:
    """Where the last `lines` lines of a file begin; read from its end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        if lines <= 0 or end == 0:
            return end
        position = end - 1  # a newline at the very end does not begin a line
        left = lines
        while position > 0:
            step = min(BLOCK, position)
            position = file.seek(position - step)
            block = file.read(step)
            if (count := block.count(b"\n")) < left:
                left -= count
                continue
            cut = len(block)
            for _ in range(left):
                cut = block.rindex(b"\n", 0, cut)
            return position + cut + 1
    return 0


async def read_log(file: LogFile, options: LogOptions, ended: asyncio.Event) -> AsyncIterator[bytes]:
    """The log in pieces; with `follow` until `ended` is set and all is read."""
    start = tail_offset(file.path, options.tail_lines) if options.tail_lines is not None else 0
    left = options.limit_bytes
    held: list[bytes] = []  # pieces of an unfinished line, which may be as long as the file
    by_line = options.timestamps or options.since is not None
    with file.path.open("rb") as stream:
        stream.seek(start)
        while True:
            change, over = file.changed, ended.is_set()
            if stream.tell() > os.fstat(stream.fileno()).st_size:  # it was cut
                stream.seek(0)
                held.clear()
            while data := stream.read(BLOCK):
                if by_line:
                    whole, newline, rest = data.rpartition(b"\n")
                    if not newline:
                        held.append(data)
                        continue
                    lines, held = b"".join((*held, whole)).split(b"\n"), [rest]
                    data = _lines(file, options, lines, stream.tell() - len(rest))
                if left is not None:
                    data, left = data[:left], left - len(data[:left])
                if data:
                    yield data
                if left == 0:
                    return
            if not options.follow or over:
                break
            await _either(change, ended)
    if unfinished := b"".join(held):
        data = _lines(file, options, [unfinished], file.path.stat().st_size)
        yield data if left is None else data[:left]


def _lines(file: LogFile, options: LogOptions, lines: list[bytes], end: int) -> bytes:
    """Lines with their times in front, those before `since` left out. `end` is the offset behind the last one."""
    result = []
    position = end - sum(len(line) + 1 for line in lines)
    for line in lines:
        position += len(line) + 1
        moment = file.time_of(position)
        if options.since is not None and moment < options.since:
            continue
        if options.timestamps:
            stamp = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
            line = stamp + b" " + line
        result.append(line + b"\n")
    return b"".join(result)


async def _either(change: asyncio.Event, ended: asyncio.Event) -> None:
    """Until the file changed or its container ended; a second at most, in case that there is no inotify."""
    waits = [asyncio.ensure_future(event.wait()) for event in (change, ended)]
    try:
        await asyncio.wait(waits, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
