"""What every proxy runs, as istiod knows it: `istioctl proxy-status`, read through the API server.

istiod says it on its monitoring port, https://istio.io/latest/docs/ops/diagnostic-tools/proxy-cmd/
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.cluster.cluster import Change
from labkit.errors import LabError, MeshError
from labkit.observe.objects import find_istiod, name_of, namespace_of

TYPES = ("CDS", "LDS", "SDS")
COLUMNS = ("NAME", "CLUSTER", *TYPES, "ISTIOD", "VERSION")
SYNCED, ERROR = "SYNCED", "ERROR"
_MONITORING = 15014


@dataclass(frozen=True)
class ProxyStatus:
    """One proxy: the status of each type, when it was taken, and Envoy's words where it rejects one."""

    name: str
    cluster: str
    istiod: str
    version: str
    statuses: dict[str, str]
    taken: dict[str, datetime]
    errors: dict[str, str]

    @property
    def synced(self) -> bool:
        """Whether it runs the newest configuration of every type."""
        return all(status == SYNCED for status in self.statuses.values())

    def row(self, now: datetime) -> tuple[str, ...]:
        """The cells of COLUMNS."""
        cells = (self._cell(kind, now) for kind in TYPES)
        return (self.name, self.cluster, *cells, self.istiod, self.version)

    def _cell(self, kind: str, now: datetime) -> str:
        status, taken = self.statuses.get(kind, "NOT SENT"), self.taken.get(kind)
        return f"{status} ({_age(now, taken)})" if taken else status


SETTLE_SECONDS = 10.0


def wait_until_delivered(cluster: Cluster, changes: Iterable[Change], *, limit: float = SETTLE_SECONDS) -> bool:
    """Wait until istiod has delivered these changes and every proxy has said what it thinks of them.

    False when that cannot be told: no istiod is there, or it does not say which objects it has delivered.
    """
    istiod = find_istiod(cluster)
    wanted = {
        (change.kind.kind, change.namespace or "default", change.name): change.after
        for change in changes
        if change.action != "unchanged"
    }
    if istiod is None or not wanted:
        return False
    until, pause = time.monotonic() + limit, 0.005
    while time.monotonic() < until:
        try:
            known = {
                (one["kind"], one["namespace"], one["name"]): int(one["resourceVersion"])
                for one in json.loads(_debug(cluster, istiod, "configz"))
            }
        except (LabError, ValueError, KeyError, TypeError):
            return False
        delivered = all(_is_delivered(known.get(key), after) for key, after in wanted.items())
        if delivered and all(_has_answered(one) for one in proxy_statuses(cluster)):
            return True
        time.sleep(pause)  # istiod tells nobody when a proxy has answered
        pause = min(2 * pause, 0.25)
    return False


def _is_delivered(version: int | None, after: Obj | None) -> bool:
    if after is None:
        return version is None
    return version is not None and version >= int(after["metadata"]["resourceVersion"])


def _has_answered(proxy: ProxyStatus) -> bool:
    return all(status in (SYNCED, ERROR, "NOT SENT") for status in proxy.statuses.values())


def _debug(cluster: Cluster, istiod: Obj, what: str) -> str:
    path = f"/api/v1/namespaces/{namespace_of(istiod)}/services/{name_of(istiod)}:{_MONITORING}/proxy/debug/{what}"
    return cluster.transport.text(path, action=f"Asking istiod for {what}")


def proxy_statuses(cluster: Cluster) -> list[ProxyStatus]:
    """All proxies, by name. Raises MeshError when there is no istiod that could be asked."""
    istiod = find_istiod(cluster)
    if istiod is None:
        raise MeshError(
            "No mesh is installed on this cluster.",
            meaning="Only istiod knows which configuration each proxy runs.",
            next_step="Install one: lab.install_mesh(), or labkit mesh install.",
        )
    return [read_status(entry, name_of(istiod)) for entry in json.loads(_debug(cluster, istiod, "syncz"))]


def read_status(entry: dict[str, Any], istiod: str) -> ProxyStatus:
    """One entry of /debug/syncz."""
    types: dict[str, Any] = entry.get("types") or {}
    return ProxyStatus(
        name=entry["proxy"],
        cluster=entry.get("cluster_id", ""),
        istiod=istiod,
        version=entry.get("istio_version", ""),
        statuses={kind: types.get(kind, {}).get("status", "NOT SENT") for kind in TYPES},
        taken={kind: _time(one["acked_at"]) for kind, one in types.items() if one.get("acked_at")},
        errors={kind: one["error"] for kind, one in types.items() if one.get("error")},
    )


def status_rows(found: list[ProxyStatus], now: datetime) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of a table; with a column for Envoy's words when it rejects something."""
    if not any(one.errors for one in found):
        return COLUMNS, [one.row(now) for one in found]
    words = ["; ".join(f"{kind}: {text}" for kind, text in one.errors.items()) for one in found]
    return (*COLUMNS, "REJECTED"), [(*one.row(now), said) for one, said in zip(found, words, strict=True)]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def _age(now: datetime, then: datetime) -> str:
    """How long ago, as istioctl writes it: 12s, 5m, 2h."""
    seconds = max(int((now - then).total_seconds()), 0)
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
