"""A program in a container whose output is read while it runs, and which is told when it is enough (`pods/exec`)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import Any

from labkit.cluster import execute
from labkit.errors import LabError

_PATIENCE = 0.05
"""Seconds for which one look at the connection waits; so late goes out what is to be written."""


class Stream:
    """Both outputs of a program, collected by a thread of their own. `ended` is set once nothing more can come."""

    def __init__(self, client: Any, pod: str) -> None:
        self.ended = threading.Event()
        self.failure = ""
        """Why it ended, if that was no proper end."""
        self._client, self._pod = client, pod
        self._outputs = {execute.STDOUT: bytearray(), execute.STDERR: bytearray()}
        self._told = bytearray()
        self._outgoing: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._collect, name=f"stream-{pod}", daemon=True)
        self._thread.start()

    @property
    def stdout(self) -> bytes:
        with self._changed:
            return bytes(self._outputs[execute.STDOUT])

    @property
    def stderr(self) -> str:
        with self._changed:
            return self._outputs[execute.STDERR].decode("utf-8", "replace")

    def write(self, data: bytes) -> None:
        """Write to the program's input, soon; nothing when it has ended."""
        self._outgoing.append(data)  # one thread alone may touch a TLS socket

    def wait_for(self, words: str, limit: float) -> bool:
        """Wait until the error output holds `words`; False when it ended before, or `limit` seconds have passed."""
        until = time.monotonic() + limit
        with self._changed:
            while words not in self._outputs[execute.STDERR].decode("utf-8", "replace"):
                left = until - time.monotonic()
                if self.ended.is_set() or left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def wait_until_quiet(self, quiet: float, limit: float) -> None:
        """Wait until nothing has come for `quiet` seconds, or the program has ended, at most `limit` seconds."""
        until = time.monotonic() + limit
        with self._changed:
            while not self.ended.is_set() and time.monotonic() < until:
                if not self._changed.wait(quiet):  # told of everything that comes
                    return

    def close(self) -> None:
        """Drop the connection; the container's side sees the end of its input."""
        self._closing = True
        self._thread.join(20 * _PATIENCE)

    def _collect(self) -> None:
        try:
            while self._client.is_open() and not self._closing:
                while self._outgoing:
                    self._client.write_stdin(self._outgoing.popleft())
                self._client.update(timeout=_PATIENCE)
                self._take()
        except Exception as error:  # the package and its websocket raise many kinds for "it is gone"
            self.failure = str(error) or type(error).__name__
        finally:
            self._take()
            self._finish()

    def _take(self) -> None:
        new = self._client._channels  # read_channel() would wait for more
        if not new:
            return
        with self._changed:
            for channel, output in self._outputs.items():
                output += new.pop(channel, b"")
            self._told += new.pop(execute.ERROR, b"")
            self._changed.notify_all()

    def _finish(self) -> None:
        with contextlib.suppress(Exception):
            self._client.sock.shutdown()  # close() would leave the socket open when the server has said goodbye first
        if not self._told and not self._closing:
            self.failure = self.failure or "the connection broke"
        elif self._told:
            try:
                code, words = execute.ending(bytes(self._told), ("program",), self._pod)
                self.failure = words or (f"exit code {code}" if code else "")
            except LabError as error:
                self.failure = error.what
        with self._changed:
            self.ended.set()
            self._changed.notify_all()
