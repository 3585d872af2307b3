"""Istio's standard metrics, as Envoy's stats access loggers. Pure.

https://istio.io/latest/docs/reference/config/metrics/

1. `reporter="destination"` is the server's proxy, `reporter="source"` a client's, gateways included.
2. `connection_security_policy` is the server's word alone: `mutual_tls` on the chains that open mTLS, else `none`.
   A client's proxy says `unknown`.
3. Who calls travels in the header `x-envoy-peer-metadata`, as in Istio. The server's proxy takes it out before the
   application sees it. A caller without a sidecar sends none, and is `unknown` in all labels but the revision.
4. What a client's proxy says of the server it knows from the endpoints that it was sent.

Istio's own filter (istio_stats) is not in this Envoy; the stats access logger counts the same. Its names begin with
`envoy_` and missing labels are empty, which `metrics_page` mends for whoever scrapes. There all labels stand in one,
which makes what each proxy is sent a third as long, and a change of policy as much quicker to follow.

Simplified: of TCP the source is known by its certificate alone; bytes of a connection count when it ends; messages of
gRPC streams are not counted.
"""

from __future__ import annotations

from functools import lru_cache

from labkit.embedded.controlplane.translation.access_logs import of_types
from labkit.embedded.controlplane.translation.filters import typed
from labkit.embedded.controlplane.translation.metrics_page import ALL_LABELS, HTTP_LABELS, SEPARATOR, TCP_LABELS
from labkit.embedded.controlplane.translation.model import Service
from labkit.embedded.envoy_messages import Config
from labkit.policy.telemetry import METRICS, EffectiveTelemetry
from labkit.policy.workload import CANONICAL_NAME, CANONICAL_REVISION, Workload

PEER_HEADER = "x-envoy-peer-metadata"
PEER = "istio.peer"
"""Where a peer's fields stand: in the request's metadata at the server, in the endpoint's at the client."""

SERVICE = "istio.service"
"""Where an Envoy cluster's metadata name the service that it leads to."""

SCOPE = "istio"
"""All loggers of a proxy count in one place: else what a listener counted would be lost when its filters change."""

UNKNOWN = "unknown"
_CLUSTER = "Kubernetes"
_PASSTHROUGH = "InboundPassthroughCluster"
_FIELDS = ("workload", "namespace", "app", "version", "canonical_service", "canonical_revision", "cluster")

_HTTP_METRICS = tuple(METRICS[one] for one in ("REQUEST_COUNT", "REQUEST_DURATION", "REQUEST_SIZE", "RESPONSE_SIZE"))
_OPENED = METRICS["TCP_OPENED_CONNECTIONS"]
_ENDED = tuple(METRICS[one] for one in ("TCP_CLOSED_CONNECTIONS", "TCP_SENT_BYTES", "TCP_RECEIVED_BYTES"))
# What is added up, and for a histogram its unit; every other metric counts.
_VALUES = {
    METRICS["REQUEST_DURATION"]: ("%DURATION%", "Milliseconds"),
    METRICS["REQUEST_SIZE"]: ("%BYTES_RECEIVED%", "Bytes"),
    METRICS["RESPONSE_SIZE"]: ("%BYTES_SENT%", "Bytes"),
    METRICS["TCP_SENT_BYTES"]: ("%BYTES_SENT%", ""),
    METRICS["TCP_RECEIVED_BYTES"]: ("%BYTES_RECEIVED%", ""),
}

_PROTOCOL = (
    "%CEL('content-type' in request.headers && request.headers['content-type'].startsWith('application/grpc')"
    " ? 'grpc' : 'http')%"
)

Pairs = tuple[tuple[str, str], ...]
"""Labels and what they say; hashable, so that what is made of them is made once."""


# Who calls whom


def peer_fields(workload: Workload) -> dict[str, str]:
    """What Istio tells of a workload to its peers; an app or version that it does not have is `unknown`."""
    labels = workload.labels
    name = workload.owner or workload.name
    app = labels.get("app.kubernetes.io/name") or labels.get("app")
    return {
        "workload": name,
        "namespace": workload.namespace,
        "app": labels.get("app") or UNKNOWN,
        "version": labels.get("version") or UNKNOWN,
        "canonical_service": labels.get(CANONICAL_NAME) or app or name,
        "canonical_revision": labels.get(CANONICAL_REVISION) or labels.get("version") or "latest",
        "cluster": _CLUSTER,
    }


def service_metadata(service: Service) -> Config:
    """What the labels `destination_service*` say of a service, for the metadata of its Envoy clusters."""
    return {"host": service.host, "name": service.name, "namespace": service.namespace}


def announcement(workload: Workload) -> Config:
    """The header in which a proxy says for whom it calls."""
    fields = peer_fields(workload)
    value = ";".join(fields[one] for one in _FIELDS)
    return {"header": {"key": PEER_HEADER, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


@lru_cache(maxsize=1)
def peer_filter() -> Config:
    """The filter of a server's proxy that reads who calls, and keeps it from the application."""
    message = "envoy.extensions.filters.http.header_to_metadata.v3.Config"
    rules = [_peer_rule(index, field) for index, field in enumerate(_FIELDS)]
    rules[-1]["remove"] = True  # after all others have read it
    return typed("envoy.filters.http.header_to_metadata", message, request_rules=rules)


def _peer_rule(index: int, field: str) -> Config:
    into = {"metadata_namespace": PEER, "key": field}
    pattern = f"^{'[^;]*;' * index}([^;]*).*$"
    return {
        "header": PEER_HEADER,
        "on_header_present": {
            **into,
            "regex_value_rewrite": {"pattern": {"regex": pattern}, "substitution": "\\1"},
        },
        "on_header_missing": {**into, "value": _of_nobody(field)},
    }


def _of_nobody(field: str) -> str:
    """What is said of a caller that nobody knows; of its revision, as Istio does, `latest`."""
    return "latest" if field == "canonical_revision" else UNKNOWN


# Labels


def server_labels(workload: Workload, service: Service | None, *, mutual: bool, http: bool) -> Pairs:
    """The labels of what arrives at a workload for a service (None: for none); `mutual` where mTLS is opened."""
    peer = {one: f"%DYNAMIC_METADATA({PEER}:{one})%" if http else _of_nobody(one) for one in _FIELDS}
    return _labels(
        "destination",
        source=peer,
        destination=peer_fields(workload),
        principals=("%DOWNSTREAM_PEER_URI_SAN%", "%DOWNSTREAM_LOCAL_URI_SAN%") if mutual else (UNKNOWN, UNKNOWN),
        service=(service.host, service.name, service.namespace) if service else (UNKNOWN, _PASSTHROUGH, UNKNOWN),
        policy="mutual_tls" if mutual else "none",
        http=http,
    )


def client_labels(workload: Workload, *, http: bool) -> Pairs:
    """The labels of what a workload sends: the same for all services, which Envoy's clusters and endpoints name."""
    return _client_labels(tuple(peer_fields(workload).items()), http)


@lru_cache(maxsize=512)
def _client_labels(identity: Pairs, http: bool) -> Pairs:
    host, name, namespace = (f"%CLUSTER_METADATA({SERVICE}:{one})%" for one in ("host", "name", "namespace"))
    return _labels(
        "source",
        source=dict(identity),
        destination={one: f"%UPSTREAM_METADATA({PEER}:{one})%" for one in _FIELDS},
        principals=("%UPSTREAM_LOCAL_URI_SAN%", "%UPSTREAM_PEER_URI_SAN%"),
        service=(host, name, namespace),
        policy=UNKNOWN,
        http=http,
    )


def _labels(
    reporter: str,
    *,
    source: dict[str, str],
    destination: dict[str, str],
    principals: tuple[str, str],
    service: tuple[str, str, str],
    policy: str,
    http: bool,
) -> Pairs:
    """Every label of Istio's metrics, in Istio's order."""
    told = {
        "reporter": reporter,
        "source_principal": principals[0],
        "destination_principal": principals[1],
        "destination_service": service[0],
        "destination_service_name": service[1],
        "destination_service_namespace": service[2],
        "request_protocol": _PROTOCOL if http else "tcp",
        "response_code": "%RESPONSE_CODE%",
        "grpc_response_status": "%GRPC_STATUS_NUMBER%",
        "response_flags": "%RESPONSE_FLAGS%",
        "connection_security_policy": policy,
    }
    for side, fields in (("source", source), ("destination", destination)):
        told |= {f"{side}_{'workload_namespace' if one == 'namespace' else one}": fields[one] for one in _FIELDS}
    return tuple((name, told[name]) for name in (HTTP_LABELS if http else TCP_LABELS))


# Loggers


def http_loggers(effective: EffectiveTelemetry, labels: Pairs, *, server: bool) -> list[Config]:
    """The loggers that count the requests of a connection manager."""
    wanted = _wanted(effective, _HTTP_METRICS, labels, server=server)
    return [_logger(wanted)] if wanted else []


def tcp_loggers(effective: EffectiveTelemetry, labels: Pairs, *, server: bool) -> list[Config]:
    """The loggers that count the connections of a TCP proxy: one at the beginning, one at the end."""
    found = []
    for names, moment in (((_OPENED,), "TcpUpstreamConnected"), (_ENDED, "TcpConnectionEnd")):
        wanted = _wanted(effective, names, labels, server=server)
        if wanted:
            found.append({**_logger(wanted), "filter": of_types(moment)})
    return found


Wanted = tuple[tuple[str, Pairs], ...]


def _wanted(effective: EffectiveTelemetry, names: tuple[str, ...], labels: Pairs, *, server: bool) -> Wanted:
    return tuple(
        (name, _overridden(effective, name, labels, server=server))
        for name in names
        if effective.enabled(name, server=server)
    )


def _overridden(effective: EffectiveTelemetry, metric: str, labels: Pairs, *, server: bool) -> Pairs:
    changes = effective.tags(metric, server=server)
    if not changes:
        return labels
    found: dict[str, str | None] = {**dict(labels)}
    for name, expression in changes.items():
        found[name] = None if expression is None else f"%CEL({expression})%"
    return tuple((name, value) for name, value in found.items() if value is not None)


def _tags(labels: Pairs) -> list[Config]:
    """The labels as tags of Envoy's: Istio's own ones in one tag, others one by one."""
    if tuple(name for name, _ in labels) in (HTTP_LABELS, TCP_LABELS):
        labels = ((ALL_LABELS, SEPARATOR.join(value for _, value in labels)),)
    return [{"name": label, "value_format": value} for label, value in labels]


@lru_cache(maxsize=1024)
def _logger(metrics: Wanted) -> Config:
    """One stats logger. Many connection managers share it, so nobody may change it."""
    counters: list[Config] = []
    histograms: list[Config] = []
    for name, labels in metrics:
        stat = {"name": name, "tags": _tags(labels)}
        value, unit = _VALUES.get(name, ("", ""))
        if unit:
            histograms.append({"stat": stat, "value_format": value, "unit": unit})
        else:
            counters.append({"stat": stat, **({"value_format": value} if value else {"value_fixed": 1})})
    message = "envoy.extensions.access_loggers.stats.v3.Config"
    # No prefix: the names stand as Istio's do.
    return typed(
        "envoy.access_loggers.stats",
        message,
        stats_scope={"sharing_name": SCOPE},
        counters=counters,
        histograms=histograms,
    )
