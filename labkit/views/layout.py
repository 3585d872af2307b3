"""Where everything on the map stands: DOT in, coordinates out, by the Graphviz library in the pygraphviz wheel.

The library is not thread-safe: two threads that draw abort the process, and with it the kernel. So every use of it
goes through one lock, and nothing else in labkit imports pygraphviz.
https://github.com/pygraphviz/pygraphviz (2.0.4, Graphviz 14): seen in three of four runs with four threads.

A map is laid out once for each topology: who is there and who calls whom. States and counts have no part in it, so
nodes keep their places while the map lives, and a change of style costs no layout.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.views.map import EdgeKind, MapEdge, MapModel, MapNode

_GRAPHVIZ = threading.Lock()
_CACHE: OrderedDict[Any, Layout] = OrderedDict()
_CACHED_LAYOUTS = 16

POINTS = 72.0  # Graphviz measures nodes in inches and everything else in points
NODE_HEIGHT = 56.0
LABEL_WIDTH, LABEL_HEIGHT = 138.0, 42.0
SMALL_LABEL = 24.0  # of special edges: a glyph without words
BOX_HEAD = 28.0  # room for a namespace's name and mode above its nodes
MOST_LABELLED = 45
"""More edges than that, and a label on each would cover the map: `osage` packs the namespaces, edges are straight."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle: left, top, width, height (y grows downwards, as in SVG)."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True)
class Layout:
    """The places of all parts of a map; edges by their id: client to label, label to server.

    `labelled` is False when there are so many edges that only their lines are drawn.
    """

    width: float
    height: float
    nodes: Mapping[str, Box]
    namespaces: Mapping[str, Box]
    curves: Mapping[str, tuple[tuple[Point, ...], tuple[Point, ...]]]
    labels: Mapping[str, Point]
    labelled: bool = True
    lines: dict[str, tuple[str, str]] = field(default_factory=dict, compare=False, repr=False)
    """What was painted of each edge already and does not change with its state: kept for the next painting."""


def node_width(name: str) -> float:
    """Wide enough for the name and for any line beneath it: a node does not grow when it gets a sidecar."""
    return max(178.0, 60 + 8.8 * len(name))


def has_labels(model: MapModel) -> bool:
    """Whether the edges of a map have labels of their own."""
    return len(model.edges) <= MOST_LABELLED


def dot_of(model: MapModel, *, words: bool = True) -> str:
    """The map as Graphviz source. Sizes do not depend on states, so nodes keep their places when a mode changes.

    A label is a node of its own between client and server, so that it gets room on the line and not beside it.
    Without `words` no text has to be measured, so no fonts are looked for: that takes longer than all the rest.
    """
    import graphviz

    labelled = has_labels(model)
    attributes = (
        {"rankdir": "LR", "nodesep": "0.32", "ranksep": "0.42"} if labelled else {"splines": "line", "pack": "28"}
    )
    graph = graphviz.Digraph("map", graph_attr=attributes)
    graph.attr("node", shape="box", fixedsize="true", height=f"{NODE_HEIGHT / POINTS:.3f}")
    nodes = {node.id: node for node in model.nodes}
    edges = [(i, e) for i, e in enumerate(model.sorted_edges()) if e.client in nodes and e.server in nodes]
    boxes = {box.name for box in model.namespaces}
    for box in sorted(model.namespaces, key=lambda item: item.name):
        with graph.subgraph(name=f"cluster_{box.name}") as part:
            part.attr(label=_spacer(9 * len(box.name) + 150, BOX_HEAD), margin="16", labelloc="t", pack="22")
            for node in model.sorted_nodes():
                if node.namespace == box.name:
                    _node(part, node, words=words)
            for index, edge in edges if labelled else ():
                if nodes[edge.client].namespace == nodes[edge.server].namespace == box.name:
                    _label_node(part, index, edge, words=words)
    for node in model.sorted_nodes():
        if node.namespace not in boxes:
            _node(graph, node, words=words)
    for index, edge in edges:
        if not labelled:
            graph.edge(edge.client, edge.server, id=str(index))
            continue
        if nodes[edge.client].namespace != nodes[edge.server].namespace or nodes[edge.client].namespace not in boxes:
            _label_node(graph, index, edge, words=words)
        weight = "1" if edge.kind.special else "2"
        graph.edge(
            edge.client, f"edge {index}", id=f"{index} to", tailport="e", headport="w", dir="none", weight=weight
        )
        graph.edge(f"edge {index}", edge.server, id=f"{index} from", tailport="e", headport="w")
    return str(graph.source)


def _node(graph: Any, node: MapNode, *, words: bool) -> None:
    graph.node(node.id, label=node.name if words else "", width=f"{node_width(node.name) / POINTS:.3f}")


def _label_node(graph: Any, index: int, edge: MapEdge, *, words: bool) -> None:
    small = edge.kind.special
    width, height = (SMALL_LABEL, SMALL_LABEL) if small else (LABEL_WIDTH, LABEL_HEIGHT)
    text = (str(edge.kind) if small else str(edge.shown)) if words else ""
    sizes = {"width": f"{width / POINTS:.3f}", "height": f"{height / POINTS:.3f}"}
    graph.node(f"edge {index}", label=text, shape="plaintext", **sizes)


def _spacer(width: float, height: float) -> str:
    return f'<<TABLE BORDER="0" FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{height:.0f}"><TR><TD></TD></TR></TABLE>>'


def topology(model: MapModel) -> Any:
    """What a layout depends on, and nothing else."""
    return (
        frozenset(box.name for box in model.namespaces),
        frozenset((node.id, node.namespace) for node in model.nodes),
        frozenset((edge.id, edge.kind is EdgeKind.CALL) for edge in model.edges),
    )


def place(model: MapModel) -> Layout:
    """Lay the map out, or take the layout that its topology has already. One caller at a time; about 30 ms."""
    key = topology(model)
    with _GRAPHVIZ:
        if key in _CACHE:
            _CACHE.move_to_end(key)
            return _CACHE[key]
        layout = _lay_out(model)
        _CACHE[key] = layout
        if len(_CACHE) > _CACHED_LAYOUTS:
            _CACHE.popitem(last=False)
    return layout


def _lay_out(model: MapModel) -> Layout:
    import pygraphviz  # 0.1 s, so only when a map is drawn

    labelled = has_labels(model)
    graph = pygraphviz.AGraph(string=dot_of(model, words=False))
    try:
        graph.layout(prog="dot" if labelled else "osage")
        answer = json.loads(graph.draw(format="json"))
    finally:
        graph.close()
    layout = _read(answer, [edge.id for edge in model.sorted_edges()])
    return replace(layout, curves=_apart(model, layout), lines={}) if labelled else _straight(model, layout)


def _read(answer: dict[str, Any], ids: list[str]) -> Layout:
    left, bottom, right, top = _numbers(answer["bb"])
    flip = top  # Graphviz counts y upwards

    nodes: dict[str, Box] = {}
    namespaces: dict[str, Box] = {}
    for item in answer.get("objects", []):
        if item["name"].startswith("cluster_"):
            x0, y0, x1, y1 = _numbers(item["bb"])
            namespaces[item["name"].removeprefix("cluster_")] = Box(x0, flip - y1, x1 - x0, y1 - y0)
        else:
            x, y = _numbers(item["pos"])
            width, height = float(item["width"]) * POINTS, float(item["height"]) * POINTS
            nodes[item["name"]] = Box(x - width / 2, flip - y - height / 2, width, height)
    labels = {ids[int(name.split()[1])]: box.middle for name, box in nodes.items() if name.startswith("edge ")}
    curves = {}
    if labels:
        halves = {item["id"]: _curve(item["pos"], flip) for item in answer.get("edges", [])}
        indexes = (int(name.split()[1]) for name in nodes if name.startswith("edge "))
        curves = {ids[i]: (halves[f"{i} to"], halves[f"{i} from"]) for i in indexes}
    nodes = {name: box for name, box in nodes.items() if not name.startswith("edge ")}
    return Layout(right - left, top - bottom, nodes, namespaces, curves, labels)


def _curve(text: str, flip: float) -> tuple[Point, ...]:
    """A Bezier curve from "e,x,y p0 p1 p2 p3 ...", with the arrow's tip as the last point."""
    points: list[Point] = []
    tip: Point | None = None
    for word in text.split():
        if word.startswith("e,"):
            x, y = _numbers(word[2:])
            tip = (x, flip - y)
        elif not word.startswith("s,"):
            x, y = _numbers(word)
            points.append((x, flip - y))
    return (*points, tip) if tip else tuple(points)


def _apart(model: MapModel, layout: Layout) -> dict[str, tuple[tuple[Point, ...], tuple[Point, ...]]]:
    """Let edges that reach the same server end beside each other, in the order in which they come."""
    curves = dict(layout.curves)
    arriving: dict[str, list[str]] = {}
    for edge in model.sorted_edges():
        if edge.id in curves:
            arriving.setdefault(edge.server, []).append(edge.id)
    for ids in arriving.values():
        ids.sort(key=lambda one: layout.labels[one][1])
        step = min(24.0, (NODE_HEIGHT - 12) / max(len(ids), 1))
        for place_, one in enumerate(ids):
            shift = (place_ - (len(ids) - 1) / 2) * step
            to, (*start, x, y, z) = curves[one]
            curves[one] = (to, (*start, *((px, py + shift) for px, py in (x, y, z))))
    return curves


def _straight(model: MapModel, layout: Layout) -> Layout:
    """Straight lines between the nodes' borders, with the glyph in the middle."""
    curves, labels = {}, {}
    for edge in model.edges:
        start, end = layout.nodes.get(edge.client), layout.nodes.get(edge.server)
        if start is None or end is None or edge.client == edge.server:
            continue
        a, b = _border(start, end.middle), _border(end, start.middle)
        middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
        labels[edge.id] = middle
        curves[edge.id] = ((a, a, middle, middle), (middle, middle, b, b, b))
    return replace(layout, curves=curves, labels=labels, labelled=False, lines={})


def _border(box: Box, towards: Point) -> Point:
    """Where the line from the middle of a box to a point leaves the box."""
    (x, y), (dx, dy) = box.middle, (towards[0] - box.middle[0], towards[1] - box.middle[1])
    scale = min(
        (box.width / 2 + 4) / abs(dx) if dx else float("inf"), (box.height / 2 + 4) / abs(dy) if dy else float("inf")
    )
    scale = min(scale, 0.5)
    return x + dx * scale, y + dy * scale


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]
