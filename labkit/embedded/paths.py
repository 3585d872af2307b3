"""Where an embedded cluster keeps its files: one directory per cluster, 0700, owned by the user who runs it.

State (objects, certificates, logs) lives in `state_dir`. Unix sockets live in `run_dir`, because their paths may
be no longer than 107 bytes. Both refuse a directory that another user owns.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from labkit.errors import InputError, MachineError

DEFAULT_NAME = "embedded"


def labkit_home() -> Path:
    """The directory of all clusters: `$LABKIT_HOME`, else the user's state directory, else one below /tmp."""
    if configured := os.environ.get("LABKIT_HOME"):
        return Path(configured).absolute()
    home = platformdirs.user_state_path("labkit")
    # A service user often has a home directory that does not exist or is not its own.
    existing = next(p for p in [home, *home.parents] if p.exists())
    return home if os.access(existing, os.W_OK) else Path(tempfile.gettempdir()) / f"labkit-{os.getuid()}-state"


def private_dir(path: Path) -> Path:
    """Make `path` with mode 0700 and return it. Raises MachineError when it is not ours to use."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
    except OSError as error:
        raise MachineError(
            f"The state directory {path} cannot be made: {error.strerror}.",
            next_step="Set LABKIT_HOME to a directory that you may write to.",
            path=str(path),
        ) from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise MachineError(
            f"The state directory {path} belongs to another user.",
            meaning="It holds keys, so labkit uses only a directory of your own.",
            next_step="Set LABKIT_HOME to a directory of your own.",
            path=str(path),
        )
    if stat.S_IMODE(info.st_mode) & 0o077:
        path.chmod(0o700)
    return path


@dataclass(frozen=True)
class ClusterPaths:
    """All paths of the cluster `name`. Nothing is created until `make` is called."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", self.name):
            raise InputError(
                f"{self.name!r} cannot be the name of a cluster.",
                meaning="A name has at most 32 lower-case letters, digits and hyphens, as Kubernetes names have.",
                next_step="Choose a name such as 'embedded' or 'team-1'.",
            )

    @property
    def state_dir(self) -> Path:
        return labkit_home() / "clusters" / self.name

    @property
    def run_dir(self) -> Path:
        """Unix sockets; short on purpose, and apart for clusters of the same name below another LABKIT_HOME."""
        home = zlib.crc32(str(labkit_home()).encode())
        return Path(tempfile.gettempdir()) / f"labkit-{os.getuid()}" / f"{self.name}-{home:08x}"

    @property
    def kubeconfig(self) -> Path:
        return self.state_dir / "kubeconfig.yaml"

    @property
    def pki_dir(self) -> Path:
        """The cluster's own CA and the API server's certificate (not the mesh's)."""
        return self.state_dir / "pki"

    @property
    def database(self) -> Path:
        """The API server's store (sqlite)."""
        return self.state_dir / "objects.sqlite"

    @property
    def node_dir(self) -> Path:
        """The node's directory: pods/<uid>/, the host file system hostfs/, the node proxy."""
        return self.state_dir / "node"

    @property
    def pid_file(self) -> Path:
        """The supervisor: JSON {pid, create_time, started}."""
        return self.state_dir / "supervisor.json"

    @property
    def heartbeat(self) -> Path:
        return self.state_dir / "heartbeat"

    @property
    def log_file(self) -> Path:
        return self.state_dir / "supervisor.log"

    def make(self) -> ClusterPaths:
        """Create the directories, 0700 and ours, and return self."""
        for path in (self.run_dir.parent, self.run_dir, self.state_dir, self.pki_dir, self.node_dir):
            private_dir(path)
        return self
