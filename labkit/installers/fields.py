"""Fields that a kind of Istio does not know, found without a cluster. An API server refuses them (strict decoding)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from labkit.cluster.kinds import CRD
from labkit.installers.embedded import DATA, Installation


def unknown_fields(obj: Mapping[str, Any]) -> list[str]:
    """The paths below `spec` that the kind's schema does not name; none, of a kind that is not Istio's."""
    group = str(obj.get("apiVersion", "")).partition("/")[0]
    schema = _schemas().get((group, str(obj.get("kind", ""))))
    return _unknown(schema, obj.get("spec"), "spec") if schema else []


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
