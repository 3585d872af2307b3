"""Where everything on the map stands: DOT in, coordinates out, by the Graphviz library in the pygraphviz wheel.

The library is not thread-safe: two threads that draw abort the process, and with it the kernel. So every use of it
goes through one lock, and nothing else in labkit imports pygraphviz.
https://github.com/pygraphviz/pygraphviz (2.0.4, Graphviz 14): seen in three of four runs with four threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from labkit.views.map import MapModel

_GRAPHVIZ = threading.Lock()

POINTS = 72.0  # Graphviz measures nodes in inches and everything else in points
NODE_HEIGHT = 56.0
LABEL_WIDTH, LABEL_HEIGHT = 132.0, 40.0
BOX_HEAD = 28.0  # room for a namespace's name and mode above its nodes

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
    """The places of all parts of a map; edges by their index in `sorted_edges()`: client to label, label to server."""

    width: float
    height: float
    nodes: Mapping[str, Box]
    namespaces: Mapping[str, Box]
    curves: Mapping[int, tuple[tuple[Point, ...], tuple[Point, ...]]]
    labels: Mapping[int, Point]


def node_width(name: str, detail: str) -> float:
    """Wide enough for both lines of text; a digit is about 7.6 points wide at the size of the name."""
    return max(150.0, 58 + 8.8 * len(name), 52 + 6.1 * len(detail))


def dot_of(model: MapModel, *, words: bool = True) -> str:
    """The map as Graphviz source. Sizes do not depend on states, so nodes keep their places when a mode changes.

    A label is a node of its own between client and server, so that it gets room on the line and not beside it.
    Without `words` no text has to be measured, so no fonts are looked for: that takes longer than all the rest.
    """
    import graphviz

    graph = graphviz.Digraph("map", graph_attr={"rankdir": "LR", "nodesep": "0.42", "ranksep": "0.5"})
    graph.attr("node", shape="box", fixedsize="true", height=f"{NODE_HEIGHT / POINTS:.3f}")
    nodes = {node.id: node for node in model.nodes}
    edges = [(i, e) for i, e in enumerate(model.sorted_edges()) if e.client in nodes and e.server in nodes]
    for box in sorted(model.namespaces, key=lambda item: item.name):
        with graph.subgraph(name=f"cluster_{box.name}") as part:
            part.attr(label=_spacer(9 * len(box.name) + 110, BOX_HEAD), margin="16", labelloc="t")
            for node in model.sorted_nodes():
                if node.namespace == box.name:
                    width = node_width(node.name, node.detail) / POINTS
                    part.node(node.id, label=node.name if words else "", width=f"{width:.3f}")
            for index, edge in edges:
                if nodes[edge.client].namespace == nodes[edge.server].namespace == box.name:
                    _label_node(part, index, edge.state if words else "")
    for index, edge in edges:
        if nodes[edge.client].namespace != nodes[edge.server].namespace:
            _label_node(graph, index, edge.state if words else "")
        graph.edge(edge.client, f"edge {index}", id=f"{index} to", tailport="e", headport="w", dir="none", weight="2")
        graph.edge(f"edge {index}", edge.server, id=f"{index} from", tailport="e", headport="w")
    return str(graph.source)


def _label_node(graph: Any, index: int, text: str) -> None:
    width, height = f"{LABEL_WIDTH / POINTS:.3f}", f"{LABEL_HEIGHT / POINTS:.3f}"
    graph.node(f"edge {index}", label=text, width=width, height=height, shape="plaintext")


def _spacer(width: float, height: float) -> str:
    return f'<<TABLE BORDER="0" FIXEDSIZE="TRUE" WIDTH="{width:.0f}" HEIGHT="{height:.0f}"><TR><TD></TD></TR></TABLE>>'


def place(model: MapModel) -> Layout:
    """Lay the map out. One caller at a time; about 30 ms."""
    source = dot_of(model, words=False)
    with _GRAPHVIZ:
        import pygraphviz  # 0.1 s, so only when a map is drawn

        graph = pygraphviz.AGraph(string=source)
        try:
            graph.layout(prog="dot")
            answer = json.loads(graph.draw(format="json"))
        finally:
            graph.close()
    layout = _read(answer)
    return replace(layout, curves=_apart(model, layout))


def _read(answer: dict[str, Any]) -> Layout:
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
    labels = {int(name.split()[1]): box.middle for name, box in nodes.items() if name.startswith("edge ")}
    halves = {item["id"]: _curve(item["pos"], flip) for item in answer.get("edges", [])}
    curves = {index: (halves[f"{index} to"], halves[f"{index} from"]) for index in labels}
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


def _apart(model: MapModel, layout: Layout) -> dict[int, tuple[tuple[Point, ...], tuple[Point, ...]]]:
    """Let edges that reach the same server end beside each other, in the order in which they come."""
    curves = dict(layout.curves)
    edges = model.sorted_edges()
    for server in {edges[index].server for index in curves}:
        arriving = sorted((i for i in curves if edges[i].server == server), key=lambda i: layout.labels[i][1])
        step = min(24.0, (NODE_HEIGHT - 12) / max(len(arriving), 1))
        for place_, index in enumerate(arriving):
            shift = (place_ - (len(arriving) - 1) / 2) * step
            to, (*start, x, y, z) = curves[index]
            curves[index] = (to, (*start, *((px, py + shift) for px, py in (x, y, z))))
    return curves


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]
