"""Fields that a kind of Istio does not know, found without a cluster. An API server refuses them (strict decoding)."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from labkit.cluster.kinds import CRD
from labkit.installers.embedded import DATA, Installation


def unknown_fields(obj: Mapping[str, Any]) -> list[str]:
    """The paths below `spec` that the kind's schema does not name; none, of a kind that is not Istio's."""
    group = str(obj.get("apiVersion", "")).partition("/")[0]
    schema = _schemas().get((group, str(obj.get("kind", ""))))
    return _unknown(schema, obj.get("spec"), "spec") if schema else []


def unknown_kind(obj: Mapping[str, Any]) -> str:
    """What is wrong with the kind of an object in one of Istio's API groups; empty where nothing is.

    https://istio.io/latest/docs/reference/config/
    """
    group, kind = str(obj.get("apiVersion", "")).partition("/")[0], str(obj.get("kind", ""))
    known = _schemas()
    if (group, kind) in known or group not in {one for one, _ in known}:
        return ""
    meant = nearest_kind(obj)
    return f"{group} has no kind {kind}{f' ({meant})' if meant else ''}"


def nearest_kind(obj: Mapping[str, Any]) -> str:
    """`Did you mean ...?` for an object whose kind, or whose kind's group, is nearly one of Istio's; else nothing."""
    kinds = {kind: group for group, kind in _schemas()}
    kind = str(obj.get("kind", ""))
    near = kind if kind in kinds else next(iter(get_close_matches(kind, kinds, n=1)), "")
    return f"Did you mean the kind {near} of {kinds[near]}?" if near else ""


@cache
def _schemas() -> dict[tuple[str, str], Mapping[str, Any]]:
    """What each kind knows below `spec`, by group and kind. The versions of a kind share one schema."""
    found = {}
    for crd in Installation().crds() if (DATA / "crds").is_dir() else ():
        if crd["kind"] == CRD.kind:
            spec = crd["spec"]
            known = spec["versions"][0]["schema"]["openAPIV3Schema"].get("properties", {}).get("spec")
            if known:
                found[spec["group"], spec["names"]["kind"]] = known
    return found


def _unknown(schema: Mapping[str, Any], value: Any, path: str) -> list[str]:
    """As the API server prunes: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-pruning."""
    if isinstance(value, list):
        items = schema.get("items")
        if not isinstance(items, Mapping):
            return []
        return [one for i, item in enumerate(value) for one in _unknown(items, item, f"{path}[{i}]")]
    properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
    if not isinstance(value, Mapping) or not (properties or isinstance(others, Mapping)):
        return []
    keep = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or others is True
    found: list[str] = []
    for key, item in value.items():
        inner = properties.get(key, others if isinstance(others, Mapping) else None)
        if isinstance(inner, Mapping):
            found += _unknown(inner, item, f"{path}.{key}")
        elif not keep:
            found.append(f"{path}.{key}")
    return found
