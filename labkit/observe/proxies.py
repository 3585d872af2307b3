"""What every proxy runs, as istiod knows it: `istioctl proxy-status`, read through the API server.

istiod says it on its monitoring port, https://istio.io/latest/docs/ops/diagnostic-tools/proxy-cmd/
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.cluster.cluster import Change
from labkit.errors import LabError, MeshError
from labkit.observe.dumps import Compared, compare
from labkit.observe.istiod import ask_istiod, by_service
from labkit.observe.objects import find_istiod, name_of, namespace_of
from labkit.observe.proxy import ask_pod, read_time

TYPES = ("CDS", "LDS", "SDS")
COLUMNS = ("NAME", "CLUSTER", *TYPES, "ISTIOD", "VERSION")
SYNCED, ERROR, STALE, NOT_SENT = "SYNCED", "ERROR", "STALE", "NOT SENT"
# What Istio's own istiod tells of each type: the members `cluster_sent` and `cluster_acked`, and so on.
_MEMBERS = {"CDS": "cluster", "LDS": "listener", "EDS": "endpoint", "RDS": "route", "ECDS": "extensionconfig"}
_MAY_BE_MISSING = ("EDS", "RDS", "ECDS")


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
        return not self.late

    @property
    def late(self) -> dict[str, str]:
        """The types of which it runs something else. Not each proxy has routes or extensions of its own to ask for."""
        return {
            kind: status
            for kind, status in self.statuses.items()
            if status != SYNCED and not (status == NOT_SENT and kind in _MAY_BE_MISSING)
        }

    def row(self, now: datetime) -> tuple[str, ...]:
        """Name, cluster, a cell for each type, istiod, version."""
        cells = (self._cell(kind, now) for kind in self.statuses)
        return (self.name, self.cluster, *cells, self.istiod, self.version)

    def _cell(self, kind: str, now: datetime) -> str:
        status, taken = self.statuses[kind], self.taken.get(kind)
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
                for one in json.loads(by_service(cluster, istiod, "configz")[1])
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
    return all(status in (SYNCED, ERROR, NOT_SENT) for status in proxy.statuses.values())


def proxy_statuses(cluster: Cluster) -> list[ProxyStatus]:
    """All proxies, by name. Raises MeshError when there is no istiod that could be asked."""
    answers = ask_istiod(cluster, _istiod(cluster), "syncz")
    found = [read_status(entry, one.istiod) for one in answers for entry in json.loads(one.text) or ()]
    return sorted(found, key=lambda one: one.name)


def compare_proxy(cluster: Cluster, pod: Obj) -> tuple[Compared, ...]:
    """What istiod wants a pod's proxy to run against what it runs, as `istioctl proxy-status POD`."""
    name = f"{name_of(pod)}.{namespace_of(pod)}"
    runs = json.loads(ask_pod(cluster, pod, "config_dump"))  # first: who has no proxy is told so
    (answer, *_) = ask_istiod(cluster, _istiod(cluster), "config_dump", {"proxyID": name})
    return compare(json.loads(answer.text), runs)


def _istiod(cluster: Cluster) -> Obj:
    istiod = find_istiod(cluster)
    if istiod is None:
        raise MeshError(
            "No mesh is installed on this cluster.",
            meaning="Only istiod knows which configuration each proxy runs.",
            next_step="Install one: lab.install_mesh(), or labkit mesh install.",
        )
    return istiod


def read_status(entry: dict[str, Any], istiod: str) -> ProxyStatus:
    """One entry of /debug/syncz."""
    if "types" not in entry:
        return _read_istios_own(entry, istiod)
    types: dict[str, Any] = entry["types"] or {}
    return ProxyStatus(
        name=entry["proxy"],
        cluster=entry.get("cluster_id", ""),
        istiod=istiod,
        version=entry.get("istio_version", ""),
        statuses={kind: types.get(kind, {}).get("status", NOT_SENT) for kind in TYPES},
        taken={kind: read_time(one["acked_at"]) for kind, one in types.items() if one.get("acked_at")},
        errors={kind: one["error"] for kind, one in types.items() if one.get("error")},
    )


def _read_istios_own(entry: dict[str, Any], istiod: str) -> ProxyStatus:
    """An entry of Istio's istiod: of each type, what was sent and what was taken (SyncStatus)."""

    def status(member: str) -> str:
        sent, taken = entry.get(f"{member}_sent") or "", entry.get(f"{member}_acked") or ""
        if not sent:
            return NOT_SENT
        if sent == taken:
            return SYNCED
        return STALE if taken else f"{STALE} (Never Acknowledged)"

    return ProxyStatus(
        name=entry["proxy"],
        cluster=entry.get("cluster_id", ""),
        istiod=istiod,
        version=entry.get("istio_version", ""),
        statuses={kind: status(member) for kind, member in _MEMBERS.items()},
        taken={},
        errors={},
    )


def status_rows(found: list[ProxyStatus], now: datetime) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of a table; with a column for Envoy's words when it rejects something."""
    columns = ("NAME", "CLUSTER", *found[0].statuses, "ISTIOD", "VERSION") if found else COLUMNS
    if not any(one.errors for one in found):
        return columns, [one.row(now) for one in found]
    words = ["; ".join(f"{kind}: {text}" for kind, text in one.errors.items()) for one in found]
    return (*columns, "REJECTED"), [(*one.row(now), said) for one, said in zip(found, words, strict=True)]


def _age(now: datetime, then: datetime) -> str:
    """How long ago, as istioctl writes it: 12s, 5m, 2h."""
    seconds = max(int((now - then).total_seconds()), 0)
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
