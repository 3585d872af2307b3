"""Tables with kubectl's columns, as pandas DataFrames that are shown without an index, left-aligned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from labkit.views.page import table


class Table(pd.DataFrame):
    """A DataFrame that looks like kubectl's output."""

    @property
    def _constructor(self) -> type[Table]:
        return Table

    def _repr_html_(self) -> str:
        if self.empty:
            return "<i>No resources found.</i>"
        return table([str(name) for name in self.columns], self.astype(str).values.tolist())

    def __repr__(self) -> str:
        if self.empty:
            return "No resources found."
        rows = [[str(name) for name in self.columns], *self.astype(str).values.tolist()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join("   ".join(f"{v:<{w}}" for v, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    __str__ = __repr__


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, drop: Sequence[str] = ()) -> Table:
    """A Table from rows; columns in `drop` are left out (kubectl shows no NAMESPACE for one namespace)."""
    frame = Table(list(rows), columns=list(columns))
    return frame.drop(columns=list(drop)) if drop else frame


def age(created: str, now: datetime | None = None) -> str:
    """kubectl's AGE: 5s, 3m10s, 2h5m, 4d."""
    seconds = max(0, int(((now or datetime.now(UTC)) - datetime.fromisoformat(created)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if days < 2:
        return f"{hours}h"
    return f"{days}d"
