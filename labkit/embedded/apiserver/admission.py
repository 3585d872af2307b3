"""Admission webhooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from labkit.embedded.apiserver.resources import Kind

Object = dict[str, Any]


@dataclass
class Review:
    """One write that is to be admitted."""

    operation: str
    kind: Kind
    namespace: str
    name: str
    old: Object | None
    dry_run: bool
    warnings: list[str] = field(default_factory=list)
    subresource: str = ""


class Admission:
    """Asks the webhooks."""

    async def mutate(self, review: Review, obj: Object) -> Object:
        """The object as the mutating webhooks leave it."""
        return obj

    async def validate(self, review: Review, obj: Object | None) -> None:
        """Raise when a validating webhook refuses."""
