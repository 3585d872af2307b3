"""The seam between labkit and the embedded cluster: this file holds the only imports of `labkit.embedded`.

They are lazy, so that everything else works with the embedded cluster taken out.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from labkit.findings import Finding


def embedded_lifecycle() -> ModuleType:
    """The module with `up`, `down`, `status` and `list_clusters`."""
    from labkit.embedded import lifecycle

    return lifecycle


def embedded_kubeconfig(name: str = "embedded") -> Path:
    """Where the kubeconfig of the embedded cluster `name` is, or will be once it was started."""
    from labkit.embedded.paths import ClusterPaths

    return ClusterPaths(name).kubeconfig


def examine_embedded() -> list[Finding]:
    """What this machine has and lacks for an embedded cluster."""
    from labkit.embedded import machine

    return machine.examine()
