"""What several drills share: who calls whom, and where the manifests stand."""

from __future__ import annotations

from typing import Any

from labkit.course import Act, World

CALLER, OUTSIDE = "callers/curl", "default/curl-outside"
PAGE, METRICS = "http://visits.visits:8080/", "http://visits.visits:9102/metrics"
VISITS = World(applications=("visits", "callers", "curl-outside"))
"""One server with a sidecar, one caller in the mesh and one outside: enough for most of what goes wrong."""

DOOR = World(gateway=True, applications=("visits",))
"""The same server, behind the front door."""
SHOP, SECRET, CA = "https://shop.example.com/", "shop-credential", "example.com"


def shop_secret(*authorities: str, namespace: str = "") -> Act:
    """The Secret of the shop's Gateway, beside the gateway or elsewhere, with the authorities its clients come from."""

    def act(lab: Any) -> object:
        where = namespace or lab.mesh_status().namespace
        trusted = [lab.minted(name) for name in authorities]
        return lab.tls_secret(SECRET, lab.minted("shop.example.com"), trusted, where)

    return act


def broken(drill: str, file: str = "") -> str:
    """A manifest that breaks a drill's mesh; without a name, all of them."""
    return f"manifests/drills/{drill}/{file}".rstrip("/")


def repaired(drill: str) -> str:
    """The manifest of a drill's shortest repair."""
    return f"manifests/solutions/drills/{drill}.yaml"
