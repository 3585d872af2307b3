"""Where declared and observed differ, as it is shown: a row for each call, with the likeliest cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.policy.declared.disagreeing import Cause, Disagreement
from labkit.views.page import card, table
from labkit.views.results import BLUE, ORANGE

if TYPE_CHECKING:
    from labkit.views.tables import Table

COLUMNS = ("CLIENT", "SERVER", "DECLARED", "OBSERVED", "BY", "LIKELIEST CAUSE", "WHY", "WHAT TO DO")


class Disagreed:
    """The calls on which the views differ. What was counted before a change is none, and counted apart."""

    def __init__(self, found: Sequence[Disagreement], seen: int, seconds: float | None = None) -> None:
        self.all = tuple(found)
        self.rows = tuple(one for one in found if one.cause is not Cause.EARLIER)
        self.seen, self.seconds = seen, seconds

    def __len__(self) -> int:
        return len(self.rows)

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def frame(self) -> Table:
        """The rows as a table."""
        from labkit.views.tables import make_table

        return make_table(COLUMNS, self._cells())

    @property
    def title(self) -> str:
        looked = f"{self.seen} {'call' if self.seen == 1 else 'calls'} that {'was' if self.seen == 1 else 'were'} seen"
        if not self.seen:
            return "Nothing was seen, so there is nothing to hold against what is declared"
        return f"Of {looked}, {len(self) or 'none'} {'is' if len(self) < 2 else 'are'} otherwise than declared"

    @property
    def notes(self) -> list[str]:
        """What else there is to know."""
        earlier = len(self.all) - len(self.rows)
        if not earlier:
            return []
        words = "call was" if earlier == 1 else "calls were"
        return [f"{earlier} {words} counted before a policy was changed: lab.disagreements(seconds=5) looks anew."]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"seen": self.seen, "disagreements": [one.as_dict() for one in self.rows], "notes": self.notes}

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                one.client,
                one.server,
                one.declared,
                str(one.seen.outcome),
                one.seen.by,
                str(one.cause),
                one.why,
                one.next_step,
            )
            for one in self.rows
        ]

    def __str__(self) -> str:
        lines = [self.title]
        for one in self.rows:
            lines.append(
                f"  {one.client} -> {one.server}: declared {one.declared}, {one.seen.by} saw {one.seen.outcome}"
            )
            others = f" (or: {', '.join(one.others)})" if one.others else ""
            lines += [f"    {one.cause}: {one.why}{others}", f"    {one.next_step}"]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = card(self.title, self.notes, colour=ORANGE if self.rows else BLUE)
        return head + (table(COLUMNS, self._cells()) if self.rows else "")
