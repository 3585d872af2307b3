"""What Telemetry objects say: which access logs a proxy writes, and which metrics with which labels.

https://istio.io/latest/docs/reference/config/telemetry/ ; pilot/pkg/model/telemetry.go of istio/istio.

1. Objects of the root namespace, of the workload's namespace and those that select the workload count, in this order;
   of several at one level the oldest. (A selector in the root namespace selects workloads everywhere.)
2. `accessLogging` of the narrowest level that has any replaces what is wider; `metrics` add up, and the later
   override of the same metric, side and label wins.
3. An override without a metric means all metrics, one without a mode both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import InputError
from labkit.policy.configs import Meta, read_meta
from labkit.policy.selection import selected, selector_labels
from labkit.policy.workload import Workload

BOTH, CLIENT, SERVER = "CLIENT_AND_SERVER", "CLIENT", "SERVER"
ALL_METRICS = "ALL_METRICS"

FILE_PROVIDER = "envoy"
"""Istio's built-in provider of access logs: text in the format of the mesh, on standard output."""

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


@dataclass(frozen=True)
class AccessLogging:
    """One entry of `accessLogging`. `expression` is CEL; what it does not hold for is not logged."""

    mode: str = BOTH
    providers: tuple[str, ...] = ()
    disabled: bool = False
    expression: str = ""

    def concerns(self, *, server: bool) -> bool:
        return self.mode in (BOTH, SERVER if server else CLIENT)


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
        return named and self.mode in (BOTH, SERVER if server else CLIENT)


@dataclass(frozen=True)
class Telemetry:
    """One parsed Telemetry. `access_logging` is None where it says nothing of logs."""

    meta: Meta
    selector: Mapping[str, str] = field(default_factory=dict)
    access_logging: tuple[AccessLogging, ...] | None = None
    overrides: tuple[MetricOverride, ...] = ()


@dataclass(frozen=True)
class EffectiveTelemetry:
    """What counts for one workload. `access_logging` is None where no object says anything of logs."""

    access_logging: tuple[AccessLogging, ...] | None = None
    overrides: tuple[MetricOverride, ...] = ()

    def enabled(self, metric: str, *, server: bool) -> bool:
        """Whether a metric is counted on one side."""
        said = [one.disabled for one in self.overrides if one.concerns(metric, server=server)]
        return not next((one for one in reversed(said) if one is not None), False)

    def tags(self, metric: str, *, server: bool) -> dict[str, str | None]:
        """The labels that are added or changed (CEL) or taken away (None) for a metric on one side."""
        found: dict[str, str | None] = {}
        for one in self.overrides:
            if one.concerns(metric, server=server):
                found.update(one.tags)
        return found

    def logging(self, *, server: bool) -> tuple[AccessLogging, ...] | None:
        """The entries for one side: None means the mesh's settings, an empty tuple means no log."""
        if self.access_logging is None:
            return None
        mine = [one for one in self.access_logging if one.concerns(server=server)]
        return tuple(one for one in mine if not one.disabled) if mine else None


def parse_telemetry(obj: Mapping[str, Any]) -> Telemetry:
    """Read a Telemetry. Raises InputError for a metric or an operation that does not exist."""
    meta, spec = read_meta(obj, kind="Telemetry"), obj.get("spec") or {}
    logging = spec.get("accessLogging")
    return Telemetry(
        meta=meta,
        selector=selector_labels(spec),
        access_logging=tuple(_logging(one or {}) for one in logging) if logging else None,
        overrides=tuple(
            _override(meta, one or {})
            for entry in spec.get("metrics") or ()
            for one in (entry or {}).get("overrides") or ()
        ),
    )


def telemetry_for(telemetries: Iterable[Telemetry], workload: Workload, root_namespace: str) -> EffectiveTelemetry:
    """What counts for a workload, by the rules above."""
    levels: dict[int, Telemetry] = {}
    for one in selected(telemetries, workload, root_namespace):
        level = 2 if one.selector else 1 if one.meta.namespace != root_namespace else 0
        levels.setdefault(level, one)
    inner = [levels[level] for level in sorted(levels)]
    logging = next((one.access_logging for one in reversed(inner) if one.access_logging is not None), None)
    return EffectiveTelemetry(logging, tuple(override for one in inner for override in one.overrides))


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
