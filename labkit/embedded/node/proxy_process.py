"""One Envoy process that is found again after a restart of ours, and started again when it dies.

It runs in its own session, so that a Ctrl-C meant for us does not reach it. What identifies it is its pid together
with its start time and its command line: a pid alone may by now belong to somebody else, who is never signalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import psutil

from labkit.embedded import envoy
from labkit.errors import MachineError

log = logging.getLogger(__name__)

READY_SECONDS = 10.0  # Envoy takes 0.05 s; a machine under load may need a hundred times that
STOP_SECONDS = 5.0
LOG_LIMIT = 1_000_000
FIRST_PAUSE, LAST_PAUSE = 0.1, 5.0
STABLE_SECONDS = 10.0
"""Who has run for so long is restarted at once; who died sooner, after a growing pause."""

# psutil computes the start time from the clock's idea of when the machine started, which moves a little.
CREATE_TIME_TOLERANCE = 2.0


class EnvoyProcess:
    """Keeps `command` running; its record and its log are in `directory`."""

    def __init__(self, directory: Path, command: list[str], admin_socket: Path) -> None:
        self._directory = directory
        self._command = command
        self._admin_socket = admin_socket
        self._record = directory / "process.json"
        self._log = directory / "envoy.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.pid: int | None = None

    async def start(self) -> None:
        """Adopt the Envoy of an earlier life or start one, wait until it serves, then watch over it."""
        pidfd = self._adopt() or self._spawn()
        try:
            await self._until_ready(pidfd)
        except BaseException:
            os.close(pidfd)
            await self._end()
            raise
        self._keeper = asyncio.create_task(self._keep(pidfd))

    async def stop(self, *, keep: bool = False) -> None:
        """Stop watching, and end the process unless `keep`."""
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if keep:
            if self._child:
                self._child.returncode = 0  # else its destructor warns about a process that is still running
            return
        await self._end()

    def _adopt(self) -> int | None:
        """A pidfd of the process that runs already."""
        pid = self._find()
        try:
            pidfd = os.pidfd_open(pid) if pid else None
        except ProcessLookupError:
            return None
        if pidfd is not None:
            log.info("adopted the node proxy, pid %d", pid)
            self.pid = pid
        return pidfd

    def _find(self) -> int | None:
        if self._child and self._child.poll() is None:
            return self._child.pid  # our own: nobody needs to tell us, even if our files are gone
        pid: int | None
        created: float | None
        try:
            record = json.loads(self._record.read_text())
            pid, created = int(record["pid"]), float(record["create_time"])
        except (OSError, ValueError, KeyError, TypeError):
            # We may have died between starting Envoy and writing the record: ask its socket who listens.
            pid, created = _listener_of(self._admin_socket), None
        if pid is None:
            return None
        try:
            process = psutil.Process(pid)
            same = process.cmdline() == self._command and process.status() != psutil.STATUS_ZOMBIE
            if same and (created is None or abs(process.create_time() - created) < CREATE_TIME_TOLERANCE):
                self._write_record(process)
                return pid
        except psutil.Error:
            pass
        return None

    def _spawn(self) -> int:
        """Start the process; a pidfd of it."""
        self._admin_socket.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > LOG_LIMIT:
                self._log.unlink()
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env={"PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._child.pid
        with contextlib.suppress(psutil.Error):  # it died at once: the keeper will tell
            self._write_record(psutil.Process(self.pid))
        return os.pidfd_open(self.pid)  # it is our child: until we reap it, the pid stays its own

    def _write_record(self, process: psutil.Process) -> None:
        envoy.write_atomically(self._record, {"pid": process.pid, "create_time": process.create_time()})

    async def _until_ready(self, pidfd: int) -> None:
        deadline, pause = time.monotonic() + READY_SECONDS, 0.005
        while time.monotonic() < deadline:
            if _has_ended(pidfd):
                raise self._failure("The node proxy's Envoy ended while it started.")
            with contextlib.suppress(OSError):
                status, _ = await asyncio.to_thread(envoy.admin_get, self._admin_socket, "/ready")
                if status == 200:
                    return
            await asyncio.sleep(pause)  # Envoy has no way to tell us; it needs 50 ms
            pause = min(pause * 1.5, 0.1)
        raise self._failure(f"The node proxy's Envoy was not ready after {READY_SECONDS:.0f} s.")

    def _failure(self, what: str) -> MachineError:
        return MachineError(
            what,
            meaning=f"Its log ends with: {self._last_lines()}",
            next_step=f"Read {self._log}, then run 'labkit down' and 'labkit up'.",
            log=str(self._log),
        )

    def _last_lines(self, count: int = 3) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return " | ".join(lines[-count:]) or "(empty)"

    async def _keep(self, pidfd: int) -> None:
        pause = FIRST_PAUSE
        while True:
            started = time.monotonic()
            try:
                await _ended(pidfd)
            finally:
                os.close(pidfd)
            self._reap()
            log.error("the node proxy's Envoy ended; its log ends with: %s", self._last_lines())
            pause = FIRST_PAUSE if time.monotonic() - started > STABLE_SECONDS else min(pause * 2, LAST_PAUSE)
            await asyncio.sleep(pause)  # back-off, so that an Envoy that cannot start does not spin
            pidfd = self._spawn()

    async def _end(self) -> None:
        pid = self._find()
        if pid is not None:
            pidfd = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                try:
                    async with asyncio.timeout(STOP_SECONDS):
                        await _ended(pidfd)
                except TimeoutError:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    await _ended(pidfd)
            except ProcessLookupError:
                pass
            finally:
                os.close(pidfd)
        self._reap()
        self.pid = None
        self._record.unlink(missing_ok=True)
        self._admin_socket.unlink(missing_ok=True)

    def _reap(self) -> None:
        if self._child:
            self._child.wait()
            self._child = None


def _listener_of(path: Path) -> int | None:
    """The pid of the process that listens on the unix socket `path`; of the same user, as the directory is 0700."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    return int(struct.unpack("3i", credentials)[0])


def _has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])  # a signal would still reach a zombie


async def _ended(pidfd: int) -> None:
    """Return when the process has ended: a pidfd becomes readable then."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
