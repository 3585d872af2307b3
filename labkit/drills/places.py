"""What several drills share: who calls whom, and where the manifests stand."""

from __future__ import annotations

from labkit.course import World

CALLER, OUTSIDE = "callers/curl", "default/curl-outside"
PAGE, METRICS = "http://visits.visits:8080/", "http://visits.visits:9102/metrics"
VISITS = World(applications=("visits", "callers", "curl-outside"))
"""One server with a sidecar, one caller in the mesh and one outside: enough for most of what goes wrong."""


def broken(drill: str, file: str = "") -> str:
    """A manifest that breaks a drill's mesh; without a name, all of them."""
    return f"manifests/drills/{drill}/{file}".rstrip("/")


def repaired(drill: str) -> str:
    """The manifest of a drill's shortest repair."""
    return f"manifests/solutions/drills/{drill}.yaml"
