"""What the node remembers of a pod across its own death: `pods/<uid>/pod.json`, written before and after each step.

The record of a container is written *before* its process is started (an attempt without a process) and again with
the process's identity. So a supervisor that is killed in between finds the attempt, kills what carries the pod's
mark but is in no record (`processes.pod_mark`), and starts it once.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labkit.embedded.envoy import write_atomically
from labkit.embedded.node.processes import Identity

log = logging.getLogger(__name__)

State = dict[str, Any]
"""A ContainerState: {"waiting": ...}, {"running": ...} or {"terminated": ...}."""


@dataclass
class ContainerRecord:
    """One container: its state as Kubernetes shows it, and the process that stands behind it."""

    state: State = field(default_factory=dict)
    last_state: State = field(default_factory=dict)
    restart_count: int = 0
    attempt: int = 0  # number of the last log file; 0 before the first start
    ready: bool = False
    started: bool = False
    process: dict[str, Any] | None = None

    @property
    def identity(self) -> Identity | None:
        return Identity.from_json(self.process)

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def terminated(self) -> State | None:
        """The terminated state, if it is the present one."""
        return self.state.get("terminated")

    @property
    def succeeded(self) -> bool:
        ended = self.terminated
        return ended is not None and ended["exitCode"] == 0


@dataclass
class PodRecord:
    """One pod: who it is, its row of addresses, its containers."""

    uid: str
    namespace: str
    name: str
    row: int
    containers: dict[str, ContainerRecord] = field(default_factory=dict)

    def container(self, name: str) -> ContainerRecord:
        """The record of a container, made when it is new."""
        return self.containers.setdefault(name, ContainerRecord())

    def save(self, directory: Path) -> None:
        """Write it; a reader sees the old record or the new one."""
        write_atomically(directory / "pod.json", asdict(self))


def load_records(pods_dir: Path) -> dict[str, PodRecord]:
    """All records by uid. A directory without a readable record is of no use to anybody and removed."""
    records = {}
    for directory in sorted(pods_dir.iterdir()) if pods_dir.exists() else []:
        try:
            data = json.loads((directory / "pod.json").read_text())
            data["containers"] = {name: ContainerRecord(**record) for name, record in data["containers"].items()}
            record = PodRecord(**data)
            records[record.uid] = record
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("removing the unreadable pod directory %s: %r", directory.name, error)
            shutil.rmtree(directory, ignore_errors=True)
    return records
