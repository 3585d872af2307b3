"""What Telemetry objects say: which access logs a proxy writes, and which metrics with which labels.

https://istio.io/latest/docs/reference/config/telemetry/ ; pilot/pkg/model/telemetry.go of istio/istio.

1. The oldest object without a selector in the root namespace counts, then the oldest without one in the workload's
   namespace, then all in that namespace that select the workload. (A selector in the root namespace reaches no other.)
2. Providers of the last entry that names any replace those before, and the mesh's `defaultProviders`. What is said of
   other providers is forgotten.
3. Overrides of metrics add up: the later one of the same metric, side and label wins. Switching off all metrics holds
   until a later override speaks of the same side.
4. Logs: an entry without providers is about those of the entry before, at first the mesh's `defaultProviders`. Where
   there are none it says nothing, and the mesh's `accessLogFile` goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import InputError
from labkit.policy.configs import Meta, read_meta
from labkit.policy.selection import selector_labels
from labkit.policy.workload import Workload, labels_match

BOTH, CLIENT, SERVER = "CLIENT_AND_SERVER", "CLIENT", "SERVER"
ALL_METRICS = "ALL_METRICS"

FILE_PROVIDER = "envoy"
"""Istio's built-in provider of access logs: text in the format of the mesh, on standard output."""

PROMETHEUS = "prometheus"
"""Istio's built-in provider of metrics, and by default the only one."""

METRICS: dict[str, str] = {
    "REQUEST_COUNT": "istio_requests_total",
    "REQUEST_DURATION": "istio_request_duration_milliseconds",
    "REQUEST_SIZE": "istio_request_bytes",
    "RESPONSE_SIZE": "istio_response_bytes",
    "TCP_OPENED_CONNECTIONS": "istio_tcp_connections_opened_total",
    "TCP_CLOSED_CONNECTIONS": "istio_tcp_connections_closed_total",
    "TCP_SENT_BYTES": "istio_tcp_sent_bytes_total",
    "TCP_RECEIVED_BYTES": "istio_tcp_received_bytes_total",
    "GRPC_REQUEST_MESSAGES": "istio_request_messages_total",
    "GRPC_RESPONSE_MESSAGES": "istio_response_messages_total",
}
"""The metrics of `match.metric`, by the names that Prometheus knows."""


def _on_side(mode: str, server: bool) -> bool:
    return mode in (BOTH, SERVER if server else CLIENT)


@dataclass(frozen=True)
class AccessLogging:
    """One entry of `accessLogging`. `expression` is CEL; what it does not hold for is not logged."""

    mode: str = BOTH
    providers: tuple[str, ...] = ()
    disabled: bool = False
    expression: str = ""

    def concerns(self, *, server: bool) -> bool:
        return _on_side(self.mode, server)


@dataclass(frozen=True)
class MetricOverride:
    """One entry of `metrics.overrides`. `tags` has CEL by label, None where a label is taken away."""

    metric: str = ALL_METRICS
    mode: str = BOTH
    disabled: bool | None = None
    tags: tuple[tuple[str, str | None], ...] = ()

    def concerns(self, metric: str, *, server: bool) -> bool:
        """Whether it is for a metric (as Prometheus names it) on one side."""
        named = self.metric == ALL_METRICS or METRICS.get(self.metric, self.metric) == metric
        return named and self.on_side(server=server)

    def on_side(self, *, server: bool) -> bool:
        return _on_side(self.mode, server)


@dataclass(frozen=True)
class Metrics:
    """One entry of `metrics`."""

    providers: tuple[str, ...] = ()
    overrides: tuple[MetricOverride, ...] = ()


@dataclass(frozen=True)
class Telemetry:
    """One parsed Telemetry."""

    meta: Meta
    selector: Mapping[str, str] = field(default_factory=dict)
    access_logging: tuple[AccessLogging, ...] = ()
    metrics: tuple[Metrics, ...] = ()


@dataclass(frozen=True)
class Log:
    """An access log to write: the name of its provider, and in CEL what is logged."""

    provider: str
    expression: str = ""


@dataclass(frozen=True)
class EffectiveTelemetry:
    """What counts for one workload. `access_logging` has a tuple of entries for each object that has any."""

    access_logging: tuple[tuple[AccessLogging, ...], ...] = ()
    overrides: tuple[MetricOverride, ...] = ()
    counting: bool = True
    """Whether Prometheus is among the providers."""
    default_logs: tuple[str, ...] = ()

    def enabled(self, metric: str, *, server: bool) -> bool:
        """Whether a metric is counted on one side."""
        counted, whole = True, True
        for one in self.overrides:
            if one.metric == ALL_METRICS and one.disabled:
                whole = whole and not one.on_side(server=server)
            elif one.on_side(server=server):
                whole = True
                if one.disabled is not None and one.concerns(metric, server=server):
                    counted = not one.disabled
        return self.counting and whole and counted

    def tags(self, metric: str, *, server: bool) -> dict[str, str | None]:
        """The labels that are added or changed (CEL) or taken away (None) for a metric on one side."""
        found: dict[str, str | None] = {}
        for one in self.overrides:
            if one.concerns(metric, server=server) and not (one.metric == ALL_METRICS and one.disabled):
                found.update(one.tags)
        return found

    def logs(self, *, server: bool) -> tuple[Log, ...] | None:
        """The logs of one side by provider; None where nothing is said, and the mesh's `accessLogFile` counts."""
        # mergeLogs
        in_scope, filters = self._providers(server=server)
        found: dict[str, Log | None] = {}
        named = self.default_logs
        for entry in (one for level in self.access_logging for one in level):
            named = entry.providers or named
            if entry.concerns(server=server):
                found |= {
                    one: None if entry.disabled else Log(one, filters.get(one, "")) for one in named if one in in_scope
                }
        if not self.access_logging:
            found = {one: Log(one) for one in self.default_logs}
        return tuple(log for _, log in sorted(found.items()) if log) if found else None

    def _providers(self, *, server: bool) -> tuple[tuple[str, ...], dict[str, str]]:
        """The providers that count, and the last filter of each."""
        in_scope = self.default_logs
        filters: dict[str, str] = {}
        for level in self.access_logging:
            entries = [one for one in level if one.concerns(server=server)]
            filters |= {name: one.expression for one in entries for name in one.providers}
            in_scope = tuple(name for one in entries for name in one.providers) or in_scope
        return in_scope, filters


def parse_telemetry(obj: Mapping[str, Any]) -> Telemetry:
    """Read a Telemetry. Raises InputError for a metric or an operation that does not exist."""
    meta, spec = read_meta(obj, kind="Telemetry"), obj.get("spec") or {}
    return Telemetry(
        meta=meta,
        selector=selector_labels(spec),
        access_logging=tuple(_logging(one or {}) for one in spec.get("accessLogging") or ()),
        metrics=tuple(_metrics(meta, one or {}) for one in spec.get("metrics") or ()),
    )


def telemetry_for(
    telemetries: Iterable[Telemetry], workload: Workload, root_namespace: str, default_logs: tuple[str, ...] = ()
) -> EffectiveTelemetry:
    """What counts for a workload, by the rules above. `default_logs`: the mesh's `defaultProviders.accessLogging`."""
    mine = _applicable(telemetries, workload, root_namespace)
    overrides: list[MetricOverride] = []
    providers: tuple[str, ...] = (PROMETHEUS,)
    metrics = [entry for one in mine for entry in one.metrics]
    last = next((entry.providers for entry in reversed(metrics) if entry.providers), providers)
    for entry in metrics:
        providers = entry.providers or providers
        if PROMETHEUS in providers:
            overrides += entry.overrides
    return EffectiveTelemetry(
        access_logging=tuple(one.access_logging for one in mine if one.access_logging),
        overrides=tuple(overrides),
        counting=PROMETHEUS in last,
        default_logs=default_logs,
    )


def _applicable(telemetries: Iterable[Telemetry], workload: Workload, root_namespace: str) -> list[Telemetry]:
    """The objects that count for a workload, the widest first. applicableTelemetries"""
    known = sorted(telemetries, key=lambda one: one.meta.age_order)
    found = []
    for namespace in dict.fromkeys((root_namespace, workload.namespace)):
        whole = (one for one in known if one.meta.namespace == namespace and not one.selector)
        found += [one for one in (next(whole, None),) if one]
    own = (one for one in known if one.meta.namespace == workload.namespace and one.selector)
    return [*found, *(one for one in own if labels_match(one.selector, workload.labels))]


def _metrics(meta: Meta, entry: Mapping[str, Any]) -> Metrics:
    overrides = tuple(_override(meta, one or {}) for one in entry.get("overrides") or ())
    return Metrics(tuple(str(one["name"]) for one in entry.get("providers") or ()), overrides)


def _logging(entry: Mapping[str, Any]) -> AccessLogging:
    return AccessLogging(
        mode=str((entry.get("match") or {}).get("mode") or BOTH),
        providers=tuple(str(one["name"]) for one in entry.get("providers") or ()),
        disabled=bool(entry.get("disabled")),
        expression=str((entry.get("filter") or {}).get("expression") or ""),
    )


def _override(meta: Meta, entry: Mapping[str, Any]) -> MetricOverride:
    match = entry.get("match") or {}
    metric = str(match.get("customMetric") or match.get("metric") or ALL_METRICS)
    if not match.get("customMetric") and metric != ALL_METRICS and metric not in METRICS:
        raise InputError(
            f"Telemetry {meta} names the metric {metric!r}.",
            next_step=f"Istio's metrics are {', '.join((ALL_METRICS, *METRICS))}.",
            field="spec.metrics.overrides.match.metric",
        )
    return MetricOverride(
        metric=metric,
        mode=str(match.get("mode") or BOTH),
        disabled=None if entry.get("disabled") is None else bool(entry["disabled"]),
        tags=tuple((str(name), _tag(meta, name, one or {})) for name, one in (entry.get("tagOverrides") or {}).items()),
    )


def _tag(meta: Meta, name: str, entry: Mapping[str, Any]) -> str | None:
    if entry.get("operation") == "REMOVE":
        return None
    value = str(entry.get("value") or "")
    if not value:
        raise InputError(
            f"Telemetry {meta} gives the label {name!r} no value.",
            next_step="Write value: with an expression in CEL, such as request.host, or operation: REMOVE.",
            field="spec.metrics.overrides.tagOverrides",
        )
    return value
