"""The table of all calls: a frame like any other, of which a page shows as much as one can read."""

from __future__ import annotations

from collections import Counter
from html import escape

from labkit.views.tables import Table

MOST = 200
"""Rows that are shown at once; the frame has all."""


class EdgeTable(Table):
    """Calls and their verdicts, with a line that counts them."""

    @property
    def _constructor(self) -> type[EdgeTable]:
        return EdgeTable

    @property
    def summary(self) -> str:
        """How many calls there are of each verdict."""
        if self.empty or "VERDICT" not in self.columns:
            return "No such edge."
        counted = Counter(str(one).partition(",")[0] for one in self["VERDICT"])
        words = ", ".join(f"{number} {verdict}" for verdict, number in counted.most_common())
        more = f" The first {MOST} are shown." if len(self) > MOST else ""
        return f"{len(self)} {'call' if len(self) == 1 else 'calls'}: {words}.{more}"

    def _repr_html_(self) -> str:
        shown = Table(self.head(MOST))._repr_html_() if len(self) else ""
        return f'{shown}<div style="opacity:.8;color:inherit">{escape(self.summary)}</div>'

    def __repr__(self) -> str:
        return "\n".join([repr(Table(self.head(MOST))), self.summary] if len(self) else [self.summary])

    __str__ = __repr__
