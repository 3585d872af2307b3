"""The live encryption map in a notebook: what a view of the mesh says, as traits; what a person chooses, as calls.

State travels through traits alone. It follows the mesh from the moment it is displayed until no page shows it any
more, or until `stop`. Where no widgets are shown, its output holds the picture as SVG and the map in words.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import anywidget
import traitlets

from labkit.errors import LabError
from labkit.views.edge_panel import edge_html
from labkit.views.encryption_map import EncryptionMap
from labkit.views.glyphs import GLYPH
from labkit.views.map import MapEdge, MapModel, Score
from labkit.widgets.mode_panel import _with_text

_STATIC = Path(__file__).parent / "static"
_UNSEEN_SECONDS = 60.0
"""So long it follows without any page that shows it: a notebook that is executed without a browser has none."""


class Following(Protocol):
    """What the widget needs of a view: `labkit.live.view.LiveView`."""

    model: MapModel

    @property
    def shown(self) -> MapModel: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def choose(self, **choices: Any) -> None: ...
    def score(self, marks: dict[str, str]) -> Score: ...
    def edge(self, edge_id: str) -> MapEdge | None: ...


class LiveMap(anywidget.AnyWidget):  # type: ignore[misc]  # the package has no types
    """A map that follows the mesh. Every control has a method of the same name that a cell can call."""

    _esm = (_STATIC / "live_map.js").read_text(encoding="utf-8")
    _css = (_STATIC / "live_map.css").read_text(encoding="utf-8")

    svg = traitlets.Unicode("").tag(sync=True)
    styles = traitlets.Dict().tag(sync=True)
    glyphs = traitlets.Dict(GLYPH).tag(sync=True)
    timeline = traitlets.Unicode("").tag(sync=True)
    line = traitlets.Unicode("").tag(sync=True)
    rows = traitlets.List().tag(sync=True)
    large = traitlets.Bool(False).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    lost = traitlets.Bool(False).tag(sync=True)
    panel = traitlets.Unicode("").tag(sync=True)
    score = traitlets.Unicode("").tag(sync=True)

    # what a person chooses
    selected = traitlets.Unicode("").tag(sync=True)
    layer = traitlets.Unicode("both").tag(sync=True)
    resolve = traitlets.Bool(True).tag(sync=True)
    special = traitlets.Bool(True).tag(sync=True)
    predicting = traitlets.Bool(False).tag(sync=True)
    marks = traitlets.Dict().tag(sync=True)
    moment = traitlets.Float(0.0).tag(sync=True)

    def __init__(
        self,
        follow: Callable[[Callable[[Mapping[str, Any]], None]], Following],
        *,
        facts: Callable[[MapEdge], Any],
        later: Callable[[Callable[[], None]], None],
        probe: Callable[[], None],
        first: Callable[[], Mapping[str, Any]],
        special: bool = True,
    ) -> None:
        """`follow` makes the view that calls back with frames; `facts` asks the proxies of an edge, which takes a
        moment and is done by `later`; `probe` tries all edges; `first` is the picture before anything moves.
        """
        super().__init__(special=special)
        self._guard = threading.Lock()
        self._pages: set[str] = set()
        self._told: MapEdge | None = None
        self._known: Any = None
        self._unseen: threading.Timer | None = None
        self._facts, self._later, self._probe = facts, later, probe
        self.view = follow(self._take)
        self._take(first())
        self.observe(self._chosen, names=["layer", "resolve", "special", "predicting", "moment"])
        self.observe(self._selected, names="selected")
        self.on_msg(self._heard)

    # -- the same from a cell --------------------------------------------------------------------------------------

    @property
    def now(self) -> EncryptionMap:
        """What the map shows at this moment, as a picture that stays."""
        return EncryptionMap(self.view.shown)

    @property
    def text(self) -> str:
        """The map in words."""
        return str(self.view.shown)

    def start(self) -> None:
        """Follow the mesh."""
        self.view.start()
        self.running = True

    def stop(self) -> None:
        """Stop following. The picture stays as it is."""
        self.view.stop()
        self.running = False

    def try_all(self) -> None:
        """Send one request over each edge now."""
        self._probe()

    def select(self, client: str, server: str, port: int | None = None) -> None:
        """Open the side panel of an edge: `live.select("default/curl-outside", "azureopenai/chatbackend")`."""
        for edge in self.view.shown.sorted_edges():
            if (edge.client, edge.server) == (client, server) and port in (None, edge.port):
                self.selected = edge.id
                return
        known = ", ".join(f"{e.client} -> {e.server}" for e in self.view.shown.sorted_edges()) or "none"
        raise LabError(f"The map has no edge {client} -> {server}.", next_step=f"Its edges: {known}.")

    def replay(self, seconds_ago: float) -> None:
        """Show the map as it was so many seconds ago; 0 is now again."""
        self.moment = time.time() - seconds_ago if seconds_ago > 0 else 0.0

    def predict(self) -> None:
        """Hide every state, so that the edges can be marked first."""
        self.marks, self.score, self.predicting = {}, "", True

    def reveal(self, marks: Mapping[str, str] | None = None) -> Score:
        """Show the states again, and compare."""
        found = self.view.score(dict(self.marks if marks is None else marks))
        self.predicting = False
        self.score = str(found).splitlines()[0]
        return found

    # -- plumbing --------------------------------------------------------------------------------------------------

    def _take(self, frame: Mapping[str, Any]) -> None:
        # A new picture goes first: what follows are styles of its parts.
        with self._guard:
            for name in ("svg", "styles", "timeline", "line", "rows", "large", "lost"):
                if name in frame:
                    setattr(self, name, frame[name])
            if self.selected and "styles" in frame:
                edge = self.view.edge(self.selected) if hasattr(self, "view") else None
                if edge is not None and edge != self._told:
                    self._tell(edge)

    def _chosen(self, change: Any) -> None:
        value = change["new"]
        if change["name"] == "moment":
            value = value or None
        self.view.choose(**{change["name"]: value})

    def _selected(self, change: Any) -> None:
        edge = self.view.edge(change["new"]) if change["new"] else None
        self._known = None
        if edge is not None:
            self._tell(edge)
            self._later(lambda: self._ask(edge))

    def _tell(self, edge: MapEdge) -> None:
        self._told = edge
        self.panel = edge_html(edge, self._known)

    def _ask(self, edge: MapEdge) -> None:
        facts = self._facts(edge)
        if self.selected == edge.id:
            self._known = facts
            self._tell(self.view.edge(edge.id) or edge)

    def _heard(self, _: Any, content: Mapping[str, Any], __: Any) -> None:
        if content.get("kind") == "view":
            self._seen_by(str(content.get("id")), bool(content.get("open")))
        elif content.get("kind") == "probe":
            self.try_all()
        elif content.get("kind") == "reveal":
            self.reveal(content.get("marks") or {})

    def _seen_by(self, page: str, there: bool) -> None:
        (self._pages.add if there else self._pages.discard)(page)
        if self._unseen:
            self._unseen.cancel()
            self._unseen = None
        if self._pages:
            self.start()
        else:
            self.stop()

    def close(self) -> None:
        """End for good."""
        self.stop()
        super().close()

    def __repr__(self) -> str:
        return self.text

    def displayed(self) -> None:
        """Follow from now on, and rest again if no page has shown up after a minute."""
        self.start()
        if not self._pages and self._unseen is None:
            self._unseen = threading.Timer(_UNSEEN_SECONDS, self.stop)
            self._unseen.daemon = True
            self._unseen.start()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        self.displayed()
        return _with_text(super()._repr_mimebundle_(**options), self.text, self.now.svg)
