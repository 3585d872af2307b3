"""Envoy clusters and their endpoints as `istioctl proxy-config clusters` and `endpoints` show them. Pure.

istioctl/pkg/writer/envoy/configdump/cluster.go, istioctl/pkg/writer/envoy/clusters/clusters.go of istio/istio.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.observe.dumps.dump import Config, Dump, made_by, name_of_path
from labkit.observe.dumps.filters import Wanted

COLUMNS = ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE")
ENDPOINT_COLUMNS = ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")


def select(dump: Dump, wanted: Wanted) -> list[Config]:
    """The Envoy clusters that are asked for, by name, subset and port."""
    return sorted((one for one in dump.clusters() if wanted.fits_name(str(one.get("name", "")))), key=_order)


def rows(clusters: Iterable[Config]) -> Iterator[tuple[str, ...]]:
    """The cells of COLUMNS. A cluster that is no service's has its name alone."""
    for one in clusters:
        host, port, subset, direction = split_name(str(one.get("name", "")))
        kind = one.get("type") or ("CUSTOM" if "cluster_type" in one else "STATIC")
        namespace, rule = name_of_path(made_by(one))
        yield host, port or "-", subset or "-", direction or "-", str(kind), f"{rule}.{namespace}" if rule else ""


def split_name(name: str) -> tuple[str, str, str, str]:
    """(host, port, subset, direction) of `outbound|80|v1|host`; (name, "", "", "") of any other."""
    parts = name.split("|")
    return (parts[3], parts[1], parts[2], parts[0]) if len(parts) > 3 else (name, "", "", "")


def _order(cluster: Mapping[str, Any]) -> tuple[str, str, int, str]:
    host, port, subset, direction = split_name(str(cluster.get("name", "")))
    return host, subset, int(port) if port.isdigit() else 0, direction


# Endpoints: from /clusters?format=json, which knows their health, wherever they came from (EDS, DNS, static).


def select_endpoints(answer: Mapping[str, Any], wanted: Wanted) -> list[Config]:
    """The entries of `cluster_statuses` that are asked for, each with the hosts that are."""
    found = []
    for one in sorted(answer.get("cluster_statuses") or (), key=lambda one: str(one.get("name", ""))):
        hosts = [host for host in one.get("host_statuses") or () if _host_fits(host, wanted)]
        if hosts and wanted.cluster in ("", one.get("name")):
            found.append({**one, "host_statuses": hosts})
    return found


def endpoint_rows(statuses: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """The cells of ENDPOINT_COLUMNS, by address."""
    found = [
        (host_address(host), health(host), _outliers(host), str(one.get("name", "")))
        for one in statuses
        for host in one.get("host_statuses") or ()
    ]
    return sorted(found)


def _host_fits(host: Mapping[str, Any], wanted: Wanted) -> bool:
    at, _, port = host_address(host).rpartition(":")
    return (
        (not wanted.port or port == str(wanted.port))
        and wanted.address in ("", at)
        and wanted.status.upper() in ("", health(host))
    )


def host_address(host: Mapping[str, Any]) -> str:
    """`address:port`, or the path of a unix socket."""
    where = host.get("address") or {}
    if pipe := where.get("pipe"):
        return f"unix://{pipe.get('path', '')}"
    socket = where.get("socket_address") or {}
    return f"{socket.get('address', '')}:{socket.get('port_value', '')}"


def health(host: Mapping[str, Any]) -> str:
    """HEALTHY, UNHEALTHY, DRAINING ... as the control plane says it; active checks count, too."""
    status = host.get("health_status") or {}
    if status.get("failed_active_health_check"):
        return "UNHEALTHY"
    return str(status.get("eds_health_status") or "UNKNOWN")


def _outliers(host: Mapping[str, Any]) -> str:
    return "FAILED" if (host.get("health_status") or {}).get("failed_outlier_check") else "OK"
