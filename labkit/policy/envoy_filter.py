"""What an EnvoyFilter says: which part of whose configuration is changed, and how. The changing is translation's work.

https://istio.io/latest/docs/reference/config/networking/envoy-filter/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.policy.configs import Meta, read_meta
from labkit.policy.selection import selector_labels
from labkit.policy.workload import Workload, labels_match

ANY = "ANY"


@dataclass(frozen=True)
class ConfigPatch:
    """One entry of `configPatches`. `match` and `value` stay as they are written."""

    apply_to: str
    operation: str
    value: Mapping[str, Any]
    context: str = ANY
    match: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EnvoyFilter:
    """One parsed EnvoyFilter."""

    meta: Meta
    selector: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    patches: tuple[ConfigPatch, ...] = ()


def parse_envoy_filter(obj: Mapping[str, Any]) -> EnvoyFilter:
    """Read an EnvoyFilter."""
    spec = obj.get("spec") or {}
    return EnvoyFilter(
        meta=read_meta(obj, kind="EnvoyFilter"),
        selector=selector_labels(spec, field="workloadSelector", inner="labels"),
        priority=int(spec.get("priority") or 0),
        patches=tuple(_patch(one) for one in spec.get("configPatches") or ()),
    )


def envoy_filters(filters: Iterable[EnvoyFilter], workload: Workload, root_namespace: str) -> list[EnvoyFilter]:
    """The filters for a workload in the order in which they are applied: those of the root namespace first; then by
    priority, lowest first; then oldest first.
    """
    # pilot/pkg/model/push_context.go getMatchedEnvoyFilters, envoyfilter.go
    mine = (
        one
        for one in filters
        if one.meta.namespace in (root_namespace, workload.namespace) and labels_match(one.selector, workload.labels)
    )
    return sorted(mine, key=lambda one: (one.meta.namespace != root_namespace, one.priority, one.meta.age_order))


def _patch(entry: Mapping[str, Any]) -> ConfigPatch:
    match, patch = entry.get("match") or {}, entry.get("patch") or {}
    return ConfigPatch(
        apply_to=str(entry.get("applyTo") or ""),
        operation=str(patch.get("operation") or "INVALID"),
        value=patch.get("value") or {},
        context=str(match.get("context") or ANY),
        match=match,
    )
