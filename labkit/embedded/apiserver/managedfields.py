"""Who set which field: `metadata.managedFields`, which server-side apply decides conflicts by."""

from __future__ import annotations

from typing import Any

from labkit.embedded.apiserver.resources import Kind

Object = dict[str, Any]


def track_update(kind: Kind, old: Object | None, new: Object, manager: str, subresource: str) -> None:
    """Note in `new` that `manager` set what differs from `old`."""
