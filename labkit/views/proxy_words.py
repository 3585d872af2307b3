"""What a proxy says of itself, for the eye: tables with istioctl's columns, or all of it as JSON or YAML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.observe.dumps import Compared, Section
from labkit.views.page import card, table
from labkit.views.results import BLUE, ORANGE

if TYPE_CHECKING:
    from labkit.views.tables import Table


@dataclass(frozen=True)
class ProxyConfig:
    """The configuration that a proxy runs: `.table`, `.resources`, `.json()`, `.yaml()`."""

    pod: str
    sections: tuple[Section, ...]
    command: str = ""

    @property
    def table(self) -> Table:
        """The first section as a table."""
        from labkit.views.tables import make_table

        return make_table(self.sections[0].columns, self.sections[0].rows)

    @property
    def resources(self) -> list[dict[str, Any]]:
        """What Envoy wrote, without private keys."""
        return [one for section in self.sections for one in section.resources]

    def as_data(self) -> Any:
        """The resources of one section as a list, of several by the section's name."""
        if len(self.sections) == 1:
            return list(self.sections[0].resources)
        return {section.kind: list(section.resources) for section in self.sections}

    def json(self) -> str:
        """As `istioctl proxy-config -o json` prints it."""
        return json.dumps(self.as_data(), indent=4)

    def yaml(self) -> str:
        """As `istioctl proxy-config -o yaml` prints it."""
        import yaml

        return str(yaml.safe_dump(self.as_data(), sort_keys=False)).rstrip()

    def __len__(self) -> int:
        return sum(len(section.rows) for section in self.sections)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return (row for section in self.sections for row in section.rows)

    def __str__(self) -> str:
        return "\n\n".join(as_text(section.columns, section.rows) for section in self.sections)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        shown = "".join(table(section.columns, section.rows) for section in self.sections)
        return card(f"Proxy of {self.pod}", (), (self.command,) if self.command else (), colour=BLUE) + shown


def as_text(columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """Columns below each other, as istioctl prints them."""
    everything = [columns, *rows]
    widths = [max(len(row[at]) for row in everything) for at in range(len(columns))]
    padded = ("     ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in everything)
    return "\n".join(line.rstrip() for line in padded)


MATCHES = {True: "Match", False: "Don't Match"}


@dataclass(frozen=True)
class ConfigComparison:
    """What istiod wants a proxy to run against what it runs: `.matches`, `.parts`."""

    pod: str
    parts: tuple[Compared, ...]
    command: str = ""

    @property
    def matches(self) -> bool:
        """Whether the proxy runs what it shall."""
        return all(one.matches for one in self.parts)

    def as_data(self) -> dict[str, Any]:
        """For --json."""
        return {
            "pod": self.pod,
            "matches": self.matches,
            "differences": {one.kind.lower(): one.difference for one in self.parts if one.difference},
        }

    def __str__(self) -> str:
        return "\n".join(line for one in self.parts for line in (_verdict(one), one.difference) if line)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        commands, colour = (self.command,) if self.command else (), BLUE if self.matches else ORANGE
        shown = card(f"Proxy of {self.pod} against istiod", map(_verdict, self.parts), commands, colour=colour)
        return shown + "".join(f"<pre>{escape(one.difference)}</pre>" for one in self.parts if one.difference)


def _verdict(one: Compared) -> str:
    loaded = f" (RDS last loaded at {one.loaded})" if one.loaded else ""
    return f"{one.kind} {MATCHES[one.matches]}{loaded}"


@dataclass(frozen=True)
class LogLevels:
    """The level of every logger of a proxy; `levels["upstream"]`."""

    pod: str
    levels: dict[str, str]
    commands: tuple[str, ...] = ()

    def __getitem__(self, logger: str) -> str:
        return self.levels[logger]

    @property
    def summary(self) -> str:
        """`all loggers: warning, but upstream: debug`"""
        if not self.levels:
            return "no loggers"
        common, _ = Counter(self.levels.values()).most_common(1)[0]
        odd = [f"{name}: {level}" for name, level in self.levels.items() if level != common]
        return f"all loggers: {common}" + (f", but {', '.join(odd)}" if odd else "")

    def __str__(self) -> str:
        lines = [f"  {name}: {level}" for name, level in self.levels.items()]
        return "\n".join([f"{self.pod}:", "active loggers:", *lines])

    def __repr__(self) -> str:
        return "\n".join([f"{self.pod}: {self.summary}", *(f"  $ {line}" for line in self.commands)])

    def _repr_html_(self) -> str:
        return card(self.pod, (self.summary,), self.commands, colour=BLUE)
