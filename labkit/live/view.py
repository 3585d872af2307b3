"""One picture that is kept up to date: its choices, its past, and frames that say only what has changed.

A frame is a dictionary of plain data. The whole SVG is in it only when somebody came or went; otherwise the styles of
edges, workloads and namespaces that look different now.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from labkit.errors import LabError
from labkit.live.mesh import LiveMesh
from labkit.live.targets import targets_of
from labkit.observe.objects import Snapshot
from labkit.views.drawing import box_style, draw_map, edge_style, legend_of, node_style
from labkit.views.encryption_map import edge_rows
from labkit.views.layout import topology
from labkit.views.map import EdgeKind, Layer, MapEdge, MapModel, NodeKind, Score, concealed, layered, score
from labkit.views.model import Call, make_map
from labkit.views.timeline import draw_timeline

Frame = dict[str, Any]
Show = Callable[[Frame], None]

KEPT_SECONDS = 900
MOST_KEPT_EDGES = 60_000  # of all remembered maps together: memory stays flat, however large the mesh
TIMELINE_SECONDS = 1.0
MOST_ROWS = 400
"""More edges than that are no table that anybody reads on a page."""


class LiveView:
    """A map of some namespaces that follows a mesh. `show` is called with frames, in the mesh's thread."""

    def __init__(
        self,
        mesh: LiveMesh,
        namespaces: Sequence[str],
        show: Show,
        *,
        special: bool = True,
        forwards: Iterable[str] = (),
    ) -> None:
        self.mesh = mesh
        self.forwards = tuple(forwards)
        self.namespaces = tuple(namespaces)
        self.layer = Layer.BOTH
        self.resolve = True
        self.special = special
        self.predicting = False
        self.moment: float | None = None
        """When the past is shown: seconds since the epoch."""
        self.model = MapModel()
        """What is true now, whatever is shown."""
        self._show = show
        self._lock = threading.RLock()
        self._order = threading.RLock()  # frames are shown in the order in which they are made
        self._leave: Callable[[], None] | None = None
        self._past: deque[tuple[float, MapModel]] = deque()
        self._past_edges = 0
        self._sent: Frame = {}
        self._topology: Any = None
        self._timeline_at = 0.0
        self._targets: list[tuple[Call, str]] = []
        self._met: dict[Call, float] = {}

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Follow the mesh. A second call changes nothing."""
        with self._lock:
            if self._leave is None:
                self._leave = self.mesh.subscribe(self.refresh, lambda: self._targets)

    def stop(self) -> None:
        """Stop following; the picture stays as it is."""
        with self._lock:
            if self._leave:
                self._leave()
                self._leave = None

    @property
    def running(self) -> bool:
        return self._leave is not None

    # -- choices ---------------------------------------------------------------------------------------------------

    def choose(self, **choices: Any) -> None:
        """Change what is shown: layer, resolve, special, predicting, moment."""
        with self._lock:
            for name, value in choices.items():
                setattr(self, name, Layer(value) if name == "layer" else value)
            self._timeline_at = 0.0
        self.refresh()

    @property
    def shown(self) -> MapModel:
        """What the picture shows: now or a moment of the past, all or one layer, or nothing that can be predicted."""
        with self._lock:
            model = self.at(self.moment) if self.moment is not None else self.model
            if self.predicting:
                return concealed(model)
            return layered(model, self.layer)

    def at(self, moment: float) -> MapModel:
        """The map as it was at a time: the newest that is not younger, else the oldest that is remembered."""
        with self._lock:
            found = self._past[0][1] if self._past else self.model
            for when, model in self._past:
                if when > moment:
                    break
                found = model
            return found

    def score(self, marks: dict[str, str]) -> Score:
        """How predictions compare with what is true now."""
        return score(self.model, marks)

    # -- frames ----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look again, and show what has changed."""
        with self._order:
            with self._lock:
                snapshot = self.mesh.snapshot(self.namespaces)
                if snapshot is not None:
                    self._look(snapshot)
                frame = self._frame()
                changed = {name: value for name, value in frame.items() if self._sent.get(name) != value}
                self._sent.update(changed)
            if changed:
                self._show(changed)

    def take(self, snapshot: Snapshot) -> Frame:
        """The whole frame for a snapshot that was just read: the picture before anything is followed."""
        with self._lock:
            self._look(snapshot)
            self._sent = self._frame()
            return dict(self._sent)

    def _look(self, snapshot: Snapshot) -> None:
        counted = self.mesh.counted()
        model = make_map(
            snapshot,
            self.mesh.seen(),
            list(self._met),
            counted=counted,
            special=self.special,
            forwards=self.forwards,
            resolve=self.resolve,
        )
        model = self._with_memory(model, time.time())
        self._targets = list(targets_of(model, snapshot))
        self.mesh.servers.update({(edge.service, edge.port): edge.server for edge in model.edges if edge.service})
        if model != self.model:
            self.model = model
            self._remember(time.time(), model)

    def _with_memory(self, model: MapModel, now: float) -> MapModel:
        """Calls that were met once stay on the map, and fade while nobody makes them: nothing jumps when they end."""
        for edge in model.edges:
            if edge.counts.total and edge.service:
                self._met[Call(edge.client, edge.service, edge.port)] = now
        for call in [call for call, when in self._met.items() if when < now - KEPT_SECONDS]:
            del self._met[call]
        edges = tuple(
            replace(edge, stale=True)
            if not edge.tried and Call(edge.client, edge.service, edge.port) in self._met
            else edge
            for edge in model.edges
        )
        return replace(model, edges=edges)

    def _remember(self, now: float, model: MapModel) -> None:
        if self._past and int(self._past[-1][0]) == int(now):  # one map a second is enough to step through
            self._past_edges -= len(self._past.pop()[1].edges)
        self._past.append((now, model))
        self._past_edges += len(model.edges)
        while len(self._past) > 1 and (self._past[1][0] < now - KEPT_SECONDS or self._past_edges > MOST_KEPT_EDGES):
            self._past_edges -= len(self._past.popleft()[1].edges)

    def _frame(self) -> Frame:
        shown = self.shown
        frame: Frame = {
            "styles": {
                "edges": {edge.id: edge_style(edge) for edge in shown.edges},
                "nodes": {node.id: node_style(node) for node in shown.nodes},
                "boxes": {box.name: box_style(box) for box in shown.namespaces}
                | ({"": box_style(shown.mesh)} if shown.mesh else {}),
                "legend": legend_of(shown),
                "summary": shown.summary(),
            },
            "line": self._line(shown),
            "lost": bool(self.mesh.problem),
            "rows": _rows(shown) if len(shown.edges) <= MOST_ROWS else [],
            "large": sum(1 for node in shown.nodes if node.kind is NodeKind.WORKLOAD) >= 30,
        }
        key = topology(shown)
        if key != self._topology:
            self._topology = key
            frame["svg"] = draw_map(shown, standalone=False)
        now = time.monotonic()
        if now - self._timeline_at >= TIMELINE_SECONDS:
            self._timeline_at = now
            frame["timeline"] = draw_timeline(self.mesh.ledger.series(float(int(time.time()))), moment=self.moment)
        return frame

    def _line(self, shown: MapModel) -> str:
        if self.mesh.problem:
            return f"{self.mesh.problem} The map follows again when it is back."
        if self.moment is not None:
            clock = time.strftime("%H:%M:%S", time.localtime(self.moment))
            return f"As it was at {clock}. {shown.summary()}"
        if self.predicting:
            return "Mark what you expect on each edge, then reveal."
        wrong = sum(1 for edge in shown.edges if edge.disagrees)
        apart = f" {wrong} not as the policies say." if wrong else ""
        return f"{shown.summary()}.{apart}"

    # -- one edge --------------------------------------------------------------------------------------------------

    def edge(self, edge_id: str) -> MapEdge | None:
        """An edge of what is shown."""
        return self.shown.edge(edge_id)

    def probe(self, edge_id: str) -> None:
        """Try all edges now, this one among them."""
        edge = self.edge(edge_id)
        if edge is None or edge.kind is not EdgeKind.CALL:
            raise LabError(f"{edge_id!r} is no edge that can be tried.")
        self.mesh.probe_soon()


def _rows(shown: MapModel) -> list[list[str]]:
    """The cells of each edge, and at last its id, by which a row opens it."""
    ids = (edge.id for edge in shown.sorted_edges())
    return [[*row, edge_id] for row, edge_id in zip(edge_rows(shown), ids, strict=True)]
