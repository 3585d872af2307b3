"""The commands of a platform as a numbered list, and what came of the one that was run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape

from labkit.installers.recipes import Recipe
from labkit.views.page import CODE, card

BLUE, GREEN, ORANGE = "#0072b2", "#009e73", "#d55e00"  # Okabe-Ito; the words carry the meaning
_COLOURS = {"done": GREEN, "refused": ORANGE, "failed": ORANGE}


@dataclass(frozen=True)
class Shown:
    """A recipe in full view. `state` is "printed", or how the command number `number` ended."""

    recipe: Recipe
    missing: Mapping[str, str] = field(default_factory=dict)
    number: int = 0
    state: str = "printed"
    said: str = ""

    @property
    def ran(self) -> bool:
        return self.state in ("done", "failed")

    def notes(self) -> list[str]:
        """What of this machine has to be known, and what the command that was asked for came to."""
        if self.number:
            return [f"{self.number}: {self.state}: {self.said}"]
        notes = [f"{name} is not on this machine: {source}" for name, source in self.missing.items()]
        return ["Nothing was run.", *notes]

    def __str__(self) -> str:
        width = len(str(len(self.recipe.commands)))
        lines = [f"  {n:>{width}}  {c.what}\n  {'':{width}}  $ {c.line}" for n, c in enumerate(self.recipe.commands, 1)]
        return "\n".join([self.recipe.title, *lines, *(f"  {note}" for note in self.notes())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(_row(*one) for one in self._rows())
        head = card(self.recipe.title, self.notes(), colour=_COLOURS.get(self.state, BLUE))
        return f'{head}<ol style="color:inherit;margin:4px 0;line-height:1.5">{rows}</ol>'

    def _rows(self) -> Iterable[tuple[str, str]]:
        return ((one.what, one.line) for one in self.recipe.commands)


def _row(what: str, line: str) -> str:
    return f'<li>{escape(what)}<br><code style="{CODE};white-space:pre-wrap">$ {escape(line)}</code></li>'
