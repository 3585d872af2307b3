"""Refused connections as a frame, with who says so."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cached_property

from labkit.observe.refusals import CLIENT, LOG, PROBE, STATISTICS, Refusals
from labkit.views.page import card
from labkit.views.results import BLUE, ORANGE
from labkit.views.tables import Table

COLUMNS = ("server", "client", "why", "count", "told_by", "last_seen")
_WORDS = {STATISTICS: "servers' statistics", LOG: "access logs", CLIENT: "clients' proxies", PROBE: "this lab's probes"}


@dataclass(frozen=True, eq=False)
class RefusalsView:
    """`.frame` has a line for each server, client, reason and who tells it; `.count(told_by)` adds up one of them;
    `later - earlier` is what was refused in between."""

    refusals: Refusals

    @cached_property
    def frame(self) -> Table:
        """server, client (empty: not known), why, count, told_by, last_seen."""
        return Table([astuple(one) for one in self.refusals.found], columns=list(COLUMNS))

    def __sub__(self, earlier: RefusalsView) -> RefusalsView:
        """What was refused since an earlier look."""
        if not isinstance(earlier, RefusalsView):
            return NotImplemented
        return RefusalsView(self.refusals.since(earlier.refusals))

    def count(self, told_by: str = STATISTICS, server: str = "") -> int:
        """How many connections one of the four tellers knows of, at one server or at all."""
        chosen = (one for one in self.refusals.found if one.told_by == told_by and server in ("", one.server))
        return sum(one.count for one in chosen)

    @property
    def title(self) -> str:
        """How many, from each teller."""
        told = [f"{count} by {words}" for one, words in _WORDS.items() if (count := self.count(one))]
        if not told:
            return "No proxy refused a connection."
        return f"Refused: {', '.join(told)}. They tell of the same connections, so do not add them up."

    def notes(self) -> list[str]:
        """Whose word is missing."""
        return [f"{pod} is missing in the statistics: {why}" for pod, why in sorted(self.refusals.silent.items())]

    def __str__(self) -> str:
        shown = [str(self.frame)] if len(self.frame) else []
        return "\n\n".join([self.title, *shown, *self.notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = card(self.title, self.notes(), (), colour=ORANGE if len(self.frame) else BLUE)
        return head + (self.frame._repr_html_() if len(self.frame) else "")
