"""The encryption map as a notebook holds it: one model, shown as picture, as DOT source and as sentences."""

from __future__ import annotations

from functools import cached_property
from html import escape
from typing import Any

from labkit.views.drawing import draw_map
from labkit.views.layout import dot_of
from labkit.views.map import MapEdge, MapModel


class EncryptionMap:
    """Shows itself as SVG in a notebook and as sentences everywhere else. `model` holds the data."""

    def __init__(self, model: MapModel) -> None:
        self.model = model

    @property
    def edges(self) -> tuple[MapEdge, ...]:
        return self.model.edges

    @property
    def dot(self) -> str:
        """The map as Graphviz source."""
        return dot_of(self.model)

    @cached_property
    def svg(self) -> str:
        """The map as SVG with its own light paper, for a file or a slide."""
        return draw_map(self.model, standalone=True)

    @cached_property
    def inline_svg(self) -> str:
        """The map as SVG with the colours of the page around it, light or dark."""
        return draw_map(self.model, standalone=False)

    def __str__(self) -> str:
        return str(self.model)

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        # JupyterLab shows image/svg+xml as an <img>, which the page's theme does not reach: so there is also
        # text/html, with the SVG inline. Whoever shows no HTML takes the standalone picture, or the sentences.
        return {"text/html": self._html(), "image/svg+xml": self.svg, "text/plain": str(self)}

    def _html(self) -> str:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.model.sentences())
        return (
            f'<figure style="margin:4px 0">{self.inline_svg}'
            f'<figcaption aria-live="polite"><details><summary style="cursor:pointer;opacity:.75">In words</summary>'
            f'<ul style="margin:4px 0 0 0;padding-left:1.4em;line-height:1.5">{items}</ul></details></figcaption>'
            "</figure>"
        )
