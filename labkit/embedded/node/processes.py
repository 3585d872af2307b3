"""Processes, exactly: started in sessions of their own, watched by pidfd, adopted and ended by identity.

House rules:
- A pid alone names nobody, because pids are reused. A process is its pid, its start time in clock ticks and the
  boot it belongs to (`Identity`). Nothing is ever signalled by a bare pid: signals go through a pidfd that was
  opened first and compared with the identity afterwards.
- A container is a process session. When its first process ends, the rest of the session is killed, as the kernel
  does with a pid namespace.
- Everything that a pod runs carries POD_ROOT and POD_CONTAINER in its environment. What left its container's
  session ends with the container by that. What was started in the very moment in which a
  supervisor was killed, and could not be recorded, is found by that; the node proxy by its command line.

Linux only (pidfd_open is in Linux since 5.3), as are the wheels of Envoy that we depend on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import psutil

from labkit.embedded.paths import ClusterPaths

log = logging.getLogger(__name__)

TERM_PATIENCE = 1.5
"""Seconds between SIGTERM and SIGKILL when a whole cluster goes down; Envoy and the applications need 0.1."""


@cache
def boot_id() -> str:
    """Identifies the running kernel: start times count from its boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time in clock ticks from /proc/<pid>/stat, or None; proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")  # a program's name is any bytes
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the command in parentheses may hold anything
    return fields[0], int(fields[19])


@dataclass(frozen=True)
class Identity:
    """One process that existed once. `alive` says whether it still runs; a zombie does not."""

    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of a process that exists now."""
        stat = _stat(pid)
        return None if stat is None else cls(pid, stat[1], boot_id())

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Identity | None:
        """Back from `to_json`; None when nothing usable was recorded."""
        try:
            return cls(int(data["pid"]), int(data["start_ticks"]), str(data["boot"])) if data else None
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """As it is recorded."""
        return asdict(self)

    @property
    def alive(self) -> bool:
        stat = _stat(self.pid)
        return self.boot == boot_id() and stat is not None and stat[1] == self.start_ticks and stat[0] not in "ZX"

    def open(self) -> int | None:
        """A pidfd of this very process, or None when it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return None
        # Opened first, compared then: the pid cannot have changed hands between the comparison and the use.
        if not self.alive:
            os.close(descriptor)
            return None
        return descriptor

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; False when it is gone."""
        descriptor = self.open()
        if descriptor is None:
            return False
        try:
            return _send(descriptor, number)
        finally:
            os.close(descriptor)


def _send(descriptor: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    return True


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - a list of strings is wanted


def session_members(session: int) -> list[Identity]:
    """The living processes of a session, its leader included."""
    members = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == session and (identity := Identity.of(pid)) and identity.alive:
                members.append(identity)
    return members


def marked_processes(*marks: str) -> list[Identity]:
    """The living processes of this user whose environment contains all of `marks`, for example `POD_ROOT=/a/b`."""
    wanted = [b"\0" + os.fsencode(mark) for mark in marks]
    found = []
    for pid in _pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # gone, or another user's
            continue
        environment = b"\0" + environment
        if all(mark in environment for mark in wanted) and pid != os.getpid():
            identity = Identity.of(pid)
            if identity and identity.alive:
                found.append(identity)
    return found


def proxies(node_dir: Path) -> list[Identity]:
    """The living Envoys that read the node proxy's bootstrap."""
    bootstrap = os.fsencode(node_dir / "proxy" / "bootstrap.json")
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if bootstrap in argv and argv[0].endswith(b"/envoy") and (identity := Identity.of(pid)) and identity.alive:
                found.append(identity)
    return found


def pod_mark(node_dir: Path, uid: str = "") -> str:
    """What the environment of every process of the pod (without `uid`: of all pods) contains."""
    return f"POD_ROOT={node_dir}/pods/{uid}{'/' if uid else ''}"


def container_mark(container: str) -> str:
    """What, beside `pod_mark`, the environment of every process of a container contains."""
    return f"POD_CONTAINER={container}\0"  # to its end: `web` is not `web-2`


def starter_environment(node_dir: Path) -> dict[str, str]:
    """What the process that runs a node carries in its environment from its start, for `end_unborn`."""
    return {"LABKIT_NODE": str(node_dir)}


def end_unborn(node_dir: Path) -> int:
    """End the children of a node that was killed which have not become their program yet; how many.

    Between fork and exec a child still has the environment of the node's process, so no pod's mark tells of it. Call
    it when no other process runs this node.
    """
    return kill_all(marked_processes(*(f"{k}={v}\0" for k, v in starter_environment(node_dir).items())))


def kill_all(processes: Iterable[Identity]) -> int:
    """SIGKILL to each; how many there were."""
    return sum(process.signal(signal.SIGKILL) for process in processes)


def kill_session(leader: Identity) -> int:
    """Kill the session of `leader`, which may have ended already, until nothing of it appears any more.

    While a session has members, the kernel gives its number to no new process. So if a process of that number lives
    and is not our leader, our session is empty and this is somebody else's: it is left alone.
    """
    killed = 0
    for _ in range(20):  # a member may fork while we look; a fork bomb is not our case
        members = session_members(leader.pid)
        if not members or any(m.pid == leader.pid and m != leader for m in members):
            break
        killed += kill_all(members)
    return killed


@dataclass(frozen=True)
class Exit:
    """How a process ended. `code` is None when nobody could know: it was adopted, so it was not our child."""

    code: int | None
    signal: int = 0


class Process:
    """A running process that this supervisor started or adopted. Its end is told by the kernel, not by polling."""

    def __init__(self, identity: Identity, descriptor: int, *, owns_session: bool = True) -> None:
        self.identity = identity
        self._descriptor = descriptor
        self._owns_session = owns_session
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Exit] = self._loop.create_future()
        self._loop.add_reader(descriptor, self._on_end)

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.STDOUT,
        preexec: Callable[[], None] | None = None,
        owns_session: bool = True,
    ) -> Process:
        """Start a program in a session of its own. Raises OSError when it cannot be executed.

        Without `owns_session`, what it leaves in the background lives on, as after `kubectl exec`.
        """
        child = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=preexec,  # for a terminal only: without it, Popen uses the fast vfork
        )
        child.returncode = 0  # we reap it ourselves through the pidfd; Popen must neither wait nor warn
        try:
            identity = Identity.of(child.pid)  # exists at least as a zombie, since only we reap it
            if identity is None:
                raise OSError(errno.EMFILE, "its /proc cannot be read")
            return cls(identity, os.pidfd_open(child.pid), owns_session=owns_session)
        except OSError:  # no descriptor left: what cannot be watched must not run
            os.killpg(child.pid, signal.SIGKILL)  # our own child, not reaped: the number is its own
            os.waitpid(child.pid, 0)
            raise

    @classmethod
    def adopt(cls, identity: Identity) -> Process | None:
        """Watch a process that an earlier supervisor started; None when it is gone."""
        descriptor = identity.open()
        return None if descriptor is None else cls(identity, descriptor)

    @property
    def running(self) -> bool:
        return not self._ended.done()

    async def wait(self) -> Exit:
        """Until it has ended, and the rest of its session with it."""
        return await asyncio.shield(self._ended)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; nothing when it has ended."""
        if self.running:
            _send(self._descriptor, number)

    async def terminate(self, grace: float) -> Exit:
        """SIGTERM; after `grace` seconds, SIGKILL to the whole session."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """SIGKILL to the whole session."""
        if self.running:
            kill_session(self.identity)

    def release(self) -> None:
        """Stop watching and leave the process running."""
        if self.running:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._ended.cancel()

    def _on_end(self) -> None:
        self._loop.remove_reader(self._descriptor)
        try:
            # Not yet reaped, our own child still holds its pid: the session number cannot be somebody else's.
            if self._owns_session:
                kill_session(self.identity)
        except OSError as error:  # no descriptor is left to look into /proc
            log.warning("the rest of session %d was not ended: %s", self.identity.pid, error)
        finally:  # whatever happens, whoever waits for the end is told
            ended = _reap(self._descriptor)
            os.close(self._descriptor)
            if not self._ended.done():
                self._ended.set_result(ended)


def _reap(descriptor: int) -> Exit:
    try:
        info = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return Exit(None)
    if info is None:
        return Exit(None)
    if info.si_code == os.CLD_EXITED:
        return Exit(info.si_status)
    return Exit(128 + info.si_status, info.si_status)


# Without a supervisor


@dataclass(frozen=True)
class Ended:
    """A process that `end_recorded` ended: where it belonged and who it was."""

    owner: str
    identity: Identity


def _recorded_identities(paths: ClusterPaths) -> list[tuple[str, Identity]]:
    """Every process that the node's records name, dead or alive."""
    found = []
    for file in sorted(paths.node_dir.glob("pods/*/pod.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            record = json.loads(file.read_text())
            for name, container in record.get("containers", {}).items():
                if identity := Identity.from_json(container.get("process")):
                    found.append((f"{record.get('namespace')}/{record.get('name')}/{name}", identity))
    return found


def _living(paths: ClusterPaths) -> list[tuple[str, Identity]]:
    living: dict[int, tuple[str, Identity]] = {}
    for owner, identity in _recorded_identities(paths):
        if identity.alive:
            for member in session_members(identity.pid):
                living[member.pid] = (owner, member)
    for identity in marked_processes(pod_mark(paths.node_dir)):
        living.setdefault(identity.pid, ("unrecorded", identity))
    for identity in proxies(paths.node_dir):
        living.setdefault(identity.pid, ("node-proxy", identity))
    return list(living.values())


def recorded(paths: ClusterPaths) -> list[psutil.Process]:
    """The processes that run now for this cluster's node: its containers, what they started, its proxy."""
    found = []
    for _, identity in _living(paths):
        with contextlib.suppress(psutil.Error):
            found.append(psutil.Process(identity.pid))
    return found


def end_recorded(paths: ClusterPaths) -> list[Ended]:
    """End every process of this cluster's node, without any running supervisor, and say which those were.

    For `labkit down` after a crash. Safe to call at any time: pids that were given to others are left alone.
    """
    ended = []
    for _ in range(5):  # what forked while we looked is found in the next round
        living = _living(paths)
        if not living:
            break
        _end([identity for _, identity in living])
        ended += [Ended(owner, identity) for owner, identity in living]
    return ended


def _end(processes: list[Identity]) -> None:
    """SIGTERM to all, SIGKILL after `TERM_PATIENCE`; returns when they have ended."""
    open_ones = {descriptor: p for p in processes if (descriptor := p.open()) is not None}
    poller = select.poll()
    for descriptor in open_ones:
        poller.register(descriptor, select.POLLIN)
        _send(descriptor, signal.SIGTERM)
    deadline = time.monotonic() + TERM_PATIENCE
    killed = False
    while open_ones:
        ready = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        for descriptor, _ in ready:
            poller.unregister(descriptor)
            open_ones.pop(descriptor)
            with contextlib.suppress(OSError):  # reap it, if it is our child
                os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
            os.close(descriptor)
        if time.monotonic() >= deadline:
            if killed:  # 5 s after SIGKILL: the kernel holds it; nothing more can be done
                for descriptor in open_ones:
                    os.close(descriptor)
                return
            for descriptor in open_ones:
                _send(descriptor, signal.SIGKILL)
            killed, deadline = True, time.monotonic() + 5


def explain_start_failure(error: OSError) -> tuple[int, str]:
    """Exit code and words for a program that could not be executed, as runc has them."""
    code = 127 if error.errno == errno.ENOENT else 126
    return code, os.strerror(error.errno or errno.EIO).lower()
