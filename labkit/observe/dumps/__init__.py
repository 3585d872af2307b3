"""What a proxy says of itself, as tables with istioctl's columns (`istioctl proxy-config`). Pure: it asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labkit.observe.dumps import clusters, listeners, routes, secrets
from labkit.observe.dumps.comparing import Compared, compare
from labkit.observe.dumps.dump import Config, Dump
from labkit.observe.dumps.filters import TAKES, Wanted, check_filters, known_kind

KINDS = ("listeners", "clusters", "routes", "endpoints", "secrets", "bootstrap")
"""The tables, in the order in which `all` shows them."""


@dataclass(frozen=True)
class Section:
    """One table, and the resources behind it as Envoy wrote them."""

    kind: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    resources: tuple[Config, ...]


def make_section(
    kind: str, dump: Dump, statuses: Mapping[str, Any], now: datetime, wanted: Wanted | None = None
) -> Section:
    """One of KINDS. `statuses` is the answer of `/clusters?format=json`, which only endpoints need."""
    wanted = wanted or Wanted()
    if kind == "listeners":
        found = listeners.select(dump, wanted)
        return Section(kind, listeners.COLUMNS, tuple(listeners.rows(found)), tuple(found))
    if kind == "clusters":
        found = clusters.select(dump, wanted)
        return Section(kind, clusters.COLUMNS, tuple(clusters.rows(found)), tuple(found))
    if kind == "routes":
        found = routes.select(dump, wanted)
        return Section(kind, routes.COLUMNS, tuple(routes.rows(found)), tuple(found))
    if kind == "endpoints":
        found = clusters.select_endpoints(statuses, wanted)
        return Section(kind, clusters.ENDPOINT_COLUMNS, tuple(clusters.endpoint_rows(found)), tuple(found))
    if kind == "secrets":
        own = secrets.select(dump, wanted)
        resources = tuple({"name": one.name, "status": one.status, "secret": one.content} for one in own)
        return Section(kind, secrets.COLUMNS, tuple(secrets.rows(own, now)), resources)
    return _bootstrap(dump)


def _bootstrap(dump: Dump) -> Section:
    """istioctl has no table for it; here the lines that a person looks for first."""
    whole = dump.bootstrap()
    inside = whole.get("bootstrap") or {}
    node, resources = inside.get("node") or {}, inside.get("dynamic_resources") or {}
    metadata = node.get("metadata") or {}
    named = ("NAME", "NAMESPACE", "SERVICE_ACCOUNT", "ISTIO_VERSION", "MESH_ID", "CLUSTER_ID", "WORKLOAD_NAME")
    rows = [
        ("node id", str(node.get("id", ""))),
        ("node cluster", str(node.get("cluster", ""))),
        *((name, str(metadata[name])) for name in named if metadata.get(name)),
        ("asks for", ", ".join(sorted(one.removesuffix("_config") for one in resources)) or "nothing: all is static"),
        ("last updated", str(whole.get("last_updated", ""))),
    ]
    return Section("bootstrap", ("BOOTSTRAP", ""), tuple(rows), (whole,))


__all__ = [
    "KINDS",
    "TAKES",
    "Compared",
    "Config",
    "Dump",
    "Section",
    "Wanted",
    "check_filters",
    "compare",
    "known_kind",
    "make_section",
]
