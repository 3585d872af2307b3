"""What all of Istio's objects have in common: who they are, how old they are, and whom they are exported to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# A manifest that is not applied yet will be younger than everything that exists.
NOT_YET_CREATED = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Meta:
    """Who an object is. `created` is None for a manifest that is not applied yet."""

    kind: str
    namespace: str
    name: str
    created: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def age_order(self) -> tuple[datetime, str, str]:
        """Sort key, oldest first. creationTimestamp has a resolution of 1 s, so ties are common."""
        # pilot/pkg/model/config.go configCompareByCreationTime: time, then name, then namespace
        return (self.created or NOT_YET_CREATED, self.name, self.namespace)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def read_meta(obj: Mapping[str, Any], *, kind: str = "") -> Meta:
    """The metadata of an object as the API or a manifest writes it; a manifest without a namespace means `default`."""
    metadata = obj.get("metadata") or {}
    created = metadata.get("creationTimestamp")
    return Meta(
        kind=kind or str(obj.get("kind") or ""),
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name") or "",
        # Python reads the Z of RFC 3339; PyYAML hands over a datetime already.
        created=created if isinstance(created, datetime | None) else datetime.fromisoformat(str(created)),
        labels=dict(metadata.get("labels") or {}),
        annotations=dict(metadata.get("annotations") or {}),
    )


def namespace_of(obj: Mapping[str, Any]) -> str:
    """metadata.namespace; `default` where none is named."""
    return str((obj.get("metadata") or {}).get("namespace") or "default")


def exported(export_to: frozenset[str], owner: str, namespace: str) -> bool:
    """Whether an object of the namespace `owner` is seen in `namespace`; without exportTo it is seen everywhere."""
    if not export_to or "*" in export_to or namespace in export_to:
        return True
    return "." in export_to and owner == namespace


def service_export_to(metadata: Mapping[str, Any]) -> frozenset[str]:
    """To whom a Service is exported: https://istio.io/latest/docs/reference/config/annotations/#NetworkingExportTo"""
    written = (metadata.get("annotations") or {}).get("networking.istio.io/exportTo") or ""
    return frozenset(one.strip() for one in written.split(",") if one.strip())
