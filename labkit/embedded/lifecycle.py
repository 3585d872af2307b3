"""Bringing an embedded cluster up and down, from any process: `up`, `down`, `status`, `list_clusters`.

A cluster is one supervisor process (see `supervisor`) and the processes of its pods. `up` adopts a supervisor that
runs; `down` ends what this cluster started, each by its pid and creation time, and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from labkit import errors
from labkit.embedded.addresses import node_ip
from labkit.embedded.blocks import API_PORT
from labkit.embedded.paths import DEFAULT_NAME, ClusterPaths, labkit_home
from labkit.errors import InputError, InternalError, LabError, MachineError

UP_TIMEOUT = 30.0
"""Seconds for the API to answer. Measured: under 1.5; a loaded CI machine may need ten times that."""
DOWN_TIMEOUT = 15.0
"""Seconds for the supervisor to end its pods before it is killed; pods have a grace period of their own."""
DEFAULT_IDLE_SECONDS = 8 * 3600.0
"""A working day: a forgotten cluster does not run for ever, a lunch break does not end it."""

Narrator = Callable[[str], None]


@dataclass(frozen=True)
class ClusterStatus:
    """What runs of the cluster `name`. `memory_bytes` is the sum of PSS over all its processes."""

    name: str
    running: bool
    pid: int | None
    server: str | None
    kubeconfig: Path | None
    uptime_seconds: float | None
    heartbeat_age_seconds: float | None
    processes: int
    memory_bytes: int


def up(
    name: str = DEFAULT_NAME,
    *,
    idle_seconds: float = DEFAULT_IDLE_SECONDS,
    until_pid: int | None = None,
    narrate: Narrator = lambda _: None,
) -> Path:
    """Make the cluster `name` run and return the path of its kubeconfig. Does and says nothing when it runs already.

    `until_pid`: the cluster ends when that process (a Jupyter server) ends. Raises MachineError for what the
    machine lacks, InternalError when the cluster failed to start.
    """
    _require_future(idle_seconds, until_pid)
    paths = ClusterPaths(name).make()
    with _locked(paths):
        if _supervisor(paths) is not None:
            return paths.kubeconfig
        narrate(f"Starting the embedded cluster '{name}' ...")
        started = time.monotonic()
        _start_supervisor(paths, idle_seconds, until_pid)
        narrate(f"It is up after {time.monotonic() - started:.1f} s.")
    return paths.kubeconfig


def down(name: str = DEFAULT_NAME, *, purge: bool = False, narrate: Narrator = lambda _: None) -> int:
    """End all processes of the cluster and return how many there were.

    With `purge`, its objects, certificates and logs are removed too, so that the next `up` starts empty.
    """
    paths = ClusterPaths(name)
    if not _exists(paths.state_dir):
        narrate(f"There is no embedded cluster '{name}'.")
        return 0
    paths.make()
    with _locked(paths):
        members = _members(paths)
        supervisor = _supervisor(paths)
        if supervisor is not None:
            narrate(f"Ending the embedded cluster '{name}' ...")
            supervisor.terminate()
            if not _await_end(supervisor.pid, DOWN_TIMEOUT):
                supervisor.kill()
                _await_end(supervisor.pid, DOWN_TIMEOUT)
        from labkit.embedded.node.processes import end_recorded, end_unborn

        end_unborn(paths.node_dir)
        end_recorded(paths)
        paths.pid_file.unlink(missing_ok=True)
        shutil.rmtree(paths.run_dir, ignore_errors=True)
        narrate(f"The embedded cluster '{name}' is down; {len(members)} processes ended.")
        if purge:
            shutil.rmtree(paths.state_dir, ignore_errors=True)
    return len(members)


def status(name: str = DEFAULT_NAME) -> ClusterStatus:
    """What runs of this cluster now."""
    paths = ClusterPaths(name)
    supervisor = _supervisor(paths) if _exists(paths.state_dir) else None
    members = _members(paths) if _exists(paths.state_dir) else []
    memory = 0
    for process in members:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_full_info().pss
    record = _read_record(paths)
    beat = paths.heartbeat.stat().st_mtime if paths.heartbeat.exists() else None
    return ClusterStatus(
        name=name,
        running=supervisor is not None,
        pid=supervisor.pid if supervisor else None,
        server=f"https://{node_ip(int(record['block']))}:{API_PORT}" if supervisor and record else None,
        kubeconfig=paths.kubeconfig if supervisor else None,
        uptime_seconds=time.time() - supervisor.create_time() if supervisor else None,
        heartbeat_age_seconds=time.time() - beat if supervisor and beat else None,
        processes=len(members),
        memory_bytes=memory,
    )


def list_clusters() -> list[str]:
    """The names of the clusters that have state on this machine for this user."""
    root = labkit_home() / "clusters"
    return sorted(p.name for p in root.iterdir() if p.is_dir()) if _exists(root) else []


def processes(name: str = DEFAULT_NAME) -> list[psutil.Process]:
    """The supervisor and every process of its pods and proxies that runs now."""
    return _members(ClusterPaths(name))


def _exists(directory: Path) -> bool:
    # Whether there is state. What may not be looked at belongs to another user.
    try:
        found = directory.exists()
        if found:
            next(directory.iterdir(), None)
        return found
    except PermissionError as error:
        raise MachineError(
            f"The state directory {directory} cannot be read: {error.strerror}.",
            next_step="Set LABKIT_HOME to a directory of your own.",
            path=str(directory),
        ) from error


def _require_future(idle_seconds: float, until_pid: int | None) -> None:
    """A cluster that would end as soon as it started is a mistake, not a wish."""
    if not idle_seconds >= 0:  # also true of nan
        raise InputError(
            f"A cluster cannot end after {idle_seconds:g} s without use.",
            next_step="Give a time of 0 or more; 0 is never.",
            idle_seconds=idle_seconds,
        )
    if until_pid is not None and not (until_pid > 0 and psutil.pid_exists(until_pid)):
        raise InputError(
            f"There is no process {until_pid}.",
            meaning="The cluster was to end together with it, so it was not started.",
            next_step="Give the id of a process that runs, or leave it out.",
            until_pid=until_pid,
        )


def _start_supervisor(paths: ClusterPaths, idle_seconds: float, until_pid: int | None) -> None:
    from labkit.embedded.node.processes import starter_environment

    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "labkit.embedded.supervisor", "--name", paths.name]
    command += ["--idle", str(idle_seconds), "--report-fd", str(write_end)]
    if until_pid is not None:
        command += ["--until-pid", str(until_pid)]
    with paths.log_file.open("ab") as log:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(write_end,),
            start_new_session=True,
            cwd=paths.state_dir,
            env={**os.environ, **starter_environment(paths.node_dir)},
            check=False,
        )
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as pipe:
        report = _await_report(pipe)
    if "ready" in report:
        return
    if "error" in report:
        _await_end(report["pid"], DOWN_TIMEOUT)
        kind = getattr(errors, report["error"], InternalError)
        error_class = kind if issubclass(kind, LabError) else InternalError
        raise error_class(report["what"], meaning=report["meaning"], next_step=report["next_step"])
    if "pid" in report:
        with contextlib.suppress(ProcessLookupError):
            os.kill(report["pid"], signal.SIGKILL)
    raise InternalError(
        f"The embedded cluster '{paths.name}' did not start within {UP_TIMEOUT:.0f} s, or ended while starting.",
        meaning=_last_lines(paths.log_file),
        next_step=f"Read {paths.log_file}.",
    )


def _await_report(pipe: IO[bytes]) -> dict[str, Any]:
    """What the supervisor said until it was ready, failed, went away, or the time was up."""
    report: dict[str, Any] = {}
    text = b""
    deadline = time.monotonic() + UP_TIMEOUT
    while "ready" not in report and "error" not in report:
        readable, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        chunk = pipe.read(65536) if readable else b""
        if not chunk:
            break
        *lines, text = (text + chunk).split(b"\n")
        for line in lines:
            report |= json.loads(line)
    return report


def _await_end(pid: int, seconds: float) -> bool:
    """Whether the process ended in time. A pidfd tells at once, also where nobody reaps orphans."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        readable, _, _ = select.select([descriptor], [], [], seconds)
        return bool(readable)
    finally:
        os.close(descriptor)


def _last_lines(path: Path, count: int = 3) -> str:
    return " / ".join(path.read_text(errors="replace").strip().splitlines()[-count:])


@contextlib.contextmanager
def _locked(paths: ClusterPaths) -> Iterator[None]:
    """One `up` or `down` of a cluster at a time, across processes. The lock leaves no file behind."""
    path = paths.state_dir.parent / f".{paths.name}.lock"
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                current = os.path.samestat(os.fstat(lock.fileno()), path.stat())
            except FileNotFoundError:
                current = False
            if not current:
                continue  # its holder removed it while we waited: whoever comes now makes a new one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _read_record(paths: ClusterPaths) -> dict[str, float] | None:
    try:
        return json.loads(paths.pid_file.read_text())  # type: ignore[no-any-return]
    except (OSError, json.JSONDecodeError):
        return None


def _supervisor(paths: ClusterPaths) -> psutil.Process | None:
    """The supervisor's process, if the one that was recorded still runs (a pid may have been given to another)."""
    record = _read_record(paths)
    if record is None:
        return None
    try:
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - record["create_time"]) < 0.01
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _members(paths: ClusterPaths) -> list[psutil.Process]:
    from labkit.embedded.node.processes import recorded

    supervisor = _supervisor(paths)
    return ([supervisor] if supervisor else []) + recorded(paths)
