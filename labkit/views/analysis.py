"""The messages of an analysis for the eye and for machines: istioctl's lines, a table, JSON, SARIF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labkit.policy.analysis import CODES, Level, Message
from labkit.views.page import card, table
from labkit.views.results import BLUE, ORANGE
from labkit.views.sarif import Result, Rule, sarif_log

if TYPE_CHECKING:
    from labkit.cluster.trees import Place
    from labkit.views.tables import Table

_COLUMNS = ("LEVEL", "CODE", "OBJECT", "MESSAGE")
_SARIF_LEVELS = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "note"}


@dataclass(frozen=True)
class Analysis:
    """What istioctl analyze and Kiali say: `.messages`, `.errors`, `.codes`, `.table`, `.sarif()`."""

    messages: tuple[Message, ...]
    what: str = "all namespaces"
    place_of: Callable[[Message], Place | None] = lambda _: None
    command: str = ""

    @property
    def errors(self) -> tuple[Message, ...]:
        """The messages of level Error."""
        return self.at_least(Level.ERROR)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that were found, each once."""
        return tuple(dict.fromkeys(one.code.code for one in self.messages))

    def at_least(self, level: Level) -> tuple[Message, ...]:
        """The messages of a level, and worse ones."""
        return tuple(one for one in self.messages if one.level >= level)

    def of_level(self, level: Level) -> Analysis:
        """The same with those messages alone."""
        return replace(self, messages=self.at_least(level))

    @property
    def lines(self) -> list[str]:
        """istioctl's lines, with file and line where an object came from a file."""
        return [one.line(self._place(one)) for one in self.messages]

    @property
    def summary(self) -> str:
        """How many of each level; or that there is nothing."""
        if not self.messages:
            return f"✔ No validation issues found when analyzing {self.what}."
        counts = Counter(one.level for one in self.messages)
        said = ", ".join(f"{counts[level]} {_plural(level, counts[level])}" for level in sorted(counts, reverse=True))
        return f"{said} found when analyzing {self.what}."

    @property
    def table(self) -> Table:
        """LEVEL, CODE, OBJECT, MESSAGE."""
        from labkit.views.tables import make_table

        return make_table(_COLUMNS, self._rows())

    def as_data(self) -> list[dict[str, Any]]:
        """For JSON, with the names that istioctl's own has."""
        return [{**one.as_dict(), "reference": self._place(one)} for one in self.messages]

    def sarif(self) -> dict[str, Any]:
        """For code hosts, which show findings beside the lines of a change."""
        rules = (Rule(one.code, one.name, one.summary, one.link, _SARIF_LEVELS[one.level]) for one in CODES.values())
        return sarif_log(rules, (self._result(one) for one in self.messages))

    def _result(self, one: Message) -> Result:
        place = self.place_of(one)
        path, line = (place.path, place.line) if place else ("", 0)
        named = (one.kind, one.namespace, one.name)
        about = f"{one.code.code} {one.origin} {one.text}"
        return Result(one.code.code, one.text, _SARIF_LEVELS[one.level], path, line, named, about)

    def _place(self, one: Message) -> str:
        place = self.place_of(one)
        return f"{place.path}:{place.line}" if place else ""

    def _rows(self) -> Sequence[tuple[str, str, str, str]]:
        return [(one.level.word, one.code.code, self._origin(one), one.text) for one in self.messages]

    def _origin(self, one: Message) -> str:
        place = self._place(one)
        return f"{one.origin} {place}" if place else one.origin

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __str__(self) -> str:
        return "\n".join([*self.lines, self.summary])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        commands = (self.command,) if self.command else ()
        head = card(self.summary, (), commands, colour=ORANGE if self.messages else BLUE)
        return head + (table(_COLUMNS, self._rows()) if self.messages else "")


def _plural(level: Level, count: int) -> str:
    word = {Level.ERROR: "error", Level.WARNING: "warning", Level.INFO: "info"}[level]
    return word if count == 1 or level is Level.INFO else f"{word}s"
