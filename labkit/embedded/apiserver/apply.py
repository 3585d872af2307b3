"""Server-side apply."""

from __future__ import annotations

from typing import Any

from labkit.embedded.apiserver import patches
from labkit.embedded.apiserver.failures import StatusError, bad_request
from labkit.embedded.apiserver.registry import Registry, WriteOptions
from labkit.embedded.apiserver.requests import Target
from labkit.embedded.apiserver.resources import Kind
from labkit.embedded.apiserver.storage import Record

Object = dict[str, Any]


async def apply_object(
    registry: Registry, kind: Kind, target: Target, body: Any, options: WriteOptions, *, force: bool
) -> tuple[Record, bool]:
    """Create or merge; whether it was created."""
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    media = patches.MERGE_PATCH if kind.custom else patches.STRATEGIC_PATCH
    try:
        record = await registry.update(
            kind,
            target.namespace,
            target.name,
            lambda obj: patches.apply_patch(kind, media, obj, body),
            options,
            target.subresource,
        )
        return record, False
    except StatusError as failure:
        if failure.code != 404 or target.subresource:
            raise
    metadata = {**(body.get("metadata") or {}), "name": target.name}
    return await registry.create(kind, target.namespace, {**body, "metadata": metadata}, options), True
