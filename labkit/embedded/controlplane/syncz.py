"""What every proxy runs and shall run, as port 15014 says it, for `proxy-status`. Pure but for its sources.

    /debug/syncz                            what each proxy has taken
    /debug/config_dump?proxyID=pod.ns       what one shall run, in the form of Envoy's own config_dump

The members of Istio's pilot/pkg/xds/debug.go SyncStatus (`proxy`, `cluster_sent`, `listener_acked`, ...), and in
`types` what its newer form has: per type the status, the times, and Envoy's own words.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from labkit.embedded.controlplane.agent import VERSION
from labkit.embedded.controlplane.delivery import Delivery
from labkit.embedded.controlplane.translation.model import Key
from labkit.embedded.controlplane.translation.proxy import CLUSTERS_FILE, LISTENERS_FILE
from labkit.embedded.controlplane.xds import (
    CLUSTERS,
    ERROR,
    LISTENERS,
    NOT_SENT,
    SECRETS,
    STALE,
    SYNCED,
    Subscription,
    XdsServer,
)

SHORT = {CLUSTERS: "CDS", LISTENERS: "LDS", SECRETS: "SDS"}
_MEMBER = {CLUSTERS: "cluster", LISTENERS: "listener"}
_WORST_FIRST = (ERROR, STALE, NOT_SENT, SYNCED)


def syncz(server: XdsServer, proxies: Collection[Key]) -> list[dict[str, Any]]:
    """One entry per proxy, by name."""
    return [_entry(server, key) for key in sorted(proxies, key=lambda key: (key[1], key[0]))]


def config_dump(delivery: Delivery, key: Key) -> dict[str, Any] | None:
    """What a proxy shall run; None when nothing is written for it. Secrets are left out: they hold keys."""
    directory = delivery.directory(key)
    clusters, listeners = delivery.read(directory / CLUSTERS_FILE), delivery.read(directory / LISTENERS_FILE)
    if clusters is None or listeners is None:
        return None
    kind = "type.googleapis.com/envoy.admin.v3"
    open_ones = [
        {"name": one.get("name", ""), "active_state": {"listener": one}} for one in listeners.get("resources") or ()
    ]
    return {
        "configs": [
            {
                "@type": f"{kind}.ClustersConfigDump",
                "dynamic_active_clusters": [{"cluster": one} for one in clusters.get("resources") or ()],
            },
            {"@type": f"{kind}.ListenersConfigDump", "dynamic_listeners": open_ones},
            {"@type": f"{kind}.RoutesConfigDump"},
        ]
    }


def _entry(server: XdsServer, key: Key) -> dict[str, Any]:
    by_kind: dict[str, list[Subscription]] = {kind: [] for kind in SHORT}
    for one in server.subscriptions(key):
        by_kind[one.kind].append(one)
    entry: dict[str, Any] = {
        "cluster_id": "Kubernetes",
        "proxy": f"{key[1]}.{key[0]}",
        "proxy_type": "sidecar",
        "istio_version": VERSION,
        "connected": any(one.connected for ones in by_kind.values() for one in ones),
        "types": {SHORT[kind]: _type(server, ones) for kind, ones in by_kind.items()},
    }
    for kind, member in _MEMBER.items():
        for one in by_kind[kind]:
            entry[f"{member}_sent"] = one.sent.version if one.sent else one.acked
            entry[f"{member}_acked"] = one.acked
    return entry


def _type(server: XdsServer, ones: list[Subscription]) -> dict[str, Any]:
    """What is to be said of one type; of several secrets, the worst."""
    if not ones:
        return {"status": NOT_SENT}
    said = [(one.status(server.delivery.document(one.path)), one) for one in ones]
    status, one = min(said, key=lambda each: _WORST_FIRST.index(each[0]))
    newest = server.delivery.document(one.path)
    found: dict[str, Any] = {"status": status, "acked": one.acked, "newest": newest.version if newest else ""}
    if newest:
        found["written_at"] = _time(newest.written)
    if one.acked_at:
        found["acked_at"] = _time(one.acked_at)
    if status == ERROR:
        found["error"] = one.error
    return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
