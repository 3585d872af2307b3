"""What a URL asks for: group, version, namespace, resource, name, subresource, verb. Pure.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Target:
    """The parts of a resource URL; empty where absent."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""
    """What follows the subresource, for `proxy`."""


def parse_target(parts: list[str]) -> Target | None:
    """The target of `/api/v1/...` or `/apis/<group>/<version>/...`, already split and unquoted, or None."""
    if len(parts) >= 3 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    # `/namespaces/x/pods` lies in a namespace; `/namespaces/x`, `/namespaces/x/status` and `/finalize` are about one.
    if rest[0] == "namespaces" and len(rest) >= 3 and not (len(rest) == 3 and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    plural = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    tail = "/".join(rest[3:])
    if len(rest) > 3 and subresource != "proxy":
        return None
    if not plural or (len(rest) > 1 and not name):
        return None
    return Target(group, version, plural, namespace, name, subresource, tail)


class Accepted(NamedTuple):
    """What the client wants to get, from its Accept header."""

    table: bool
    metadata_only: bool
    discovery: str
    """Version of aggregated discovery (`v2`, `v2beta1`), or empty."""


def parse_accept(header: str) -> Accepted:
    """The first offer in an Accept header that this server has; JSON is always one."""
    for offer in header.split(","):
        media, *parameters = [part.strip() for part in offer.split(";")]
        options = dict(p.split("=", 1) for p in parameters if "=" in p)
        wanted = options.get("as", "")
        if media not in ("application/json", "*/*", "application/*", ""):
            continue
        if wanted == "Table" and options.get("v", "v1") == "v1":
            return Accepted(True, False, "")
        if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Accepted(False, True, "")
        if wanted == "APIGroupDiscoveryList":
            if options.get("v") in ("v2", "v2beta1"):
                return Accepted(False, False, options["v"])
            continue
        if not wanted:
            break
    return Accepted(False, False, "")


def is_true(value: str | None) -> bool:
    """A boolean query parameter; present and empty means true, as in Go's conversion of `?watch`."""
    return value is not None and value.lower() not in ("false", "0", "f", "no")
