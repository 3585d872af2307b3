"""The encryption map as a notebook holds it: one model, shown as picture, as DOT source, as table and as sentences."""

from __future__ import annotations

from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.views.drawing import draw_map
from labkit.views.layout import dot_of
from labkit.views.map import Layer, MapEdge, MapModel, Score, concealed, layered, score
from labkit.views.picture import png_of, save_picture

if TYPE_CHECKING:
    from labkit.views.tables import Table

COLUMNS = ("CLIENT", "SERVER", "PORT", "KIND", "STATE", "POLICY SAYS", "SEEN", "REASON", "DECIDED BY")


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
    def dark_svg(self) -> str:
        """The same on dark paper."""
        return draw_map(self.model, standalone=True, dark=True)

    @cached_property
    def inline_svg(self) -> str:
        """The map as SVG with the colours of the page around it, light or dark."""
        return draw_map(self.model, standalone=False)

    @property
    def png(self) -> bytes:
        """The map as PNG, made without a browser."""
        return png_of(self.svg)

    def save(self, path: str | Path, *, dark: bool = False) -> Path:
        """Write the map to a file that ends with .svg or .png."""
        return save_picture(self.dark_svg if dark else self.svg, path)

    @property
    def table(self) -> Table:
        """The edges as a table."""
        from labkit.views.tables import make_table

        return make_table(COLUMNS, edge_rows(self.model))

    def layer(self, name: str) -> EncryptionMap:
        """One layer alone: "declared" (what the policies say) or "observed" (what was seen); "both" again."""
        return EncryptionMap(layered(self.model, Layer(name)))

    def conceal(self) -> EncryptionMap:
        """The map without its answers, to predict them first; `score` compares."""
        return EncryptionMap(concealed(self.model))

    def score(self, marks: dict[str, str]) -> Score:
        """How predictions compare with this map: `{edge.id: "mTLS" | "plaintext" | "refused"}`."""
        return score(self.model, marks)

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


def edge_rows(model: MapModel) -> list[tuple[str, ...]]:
    """One row per edge: the cells of COLUMNS."""
    return [
        (
            edge.client,
            edge.server,
            str(edge.port or "-"),
            str(edge.kind),
            str(edge.shown),
            str(edge.state),
            edge.counts.words or edge.seen or "-",
            edge.reason,
            edge.decided_by or "-",
        )
        for edge in model.sorted_edges()
    ]
