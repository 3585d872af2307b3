"""labkit: learn Istio mutual TLS by doing it.

    import labkit

    lab = labkit.open()                   # the embedded cluster; or labkit.open("<kubeconfig context>")
    lab.probe("curl-outside", "http://chatbackend-service.azureopenai:5000/healthz")

    labkit.files("manifests/").explain_all()      # what manifests declare, without a cluster

Names are resolved when they are first used, so `import labkit` costs nothing; see `labkit.lab.Lab` for all verbs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.errors import LabError
    from labkit.lab import Files, Lab, files, open
    from labkit.outcomes import Observation, Outcome, Probe, Verdict

__version__ = "0.1.0"

_HOMES = {
    "open": "labkit.lab",
    "Files": "labkit.lab",
    "Lab": "labkit.lab",
    "files": "labkit.lab",
    "LabError": "labkit.errors",
    "Observation": "labkit.outcomes",
    "Outcome": "labkit.outcomes",
    "Probe": "labkit.outcomes",
    "Verdict": "labkit.outcomes",
}

__all__ = ["Files", "Lab", "LabError", "Observation", "Outcome", "Probe", "Verdict", "__version__", "files", "open"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
