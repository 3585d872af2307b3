"""The encryption map: who may speak to whom, and how. Pure data.

`layout` places it, `drawing` paints it, and `encryption_map` is what a notebook shows.

A state is told three times, by the line's style, by a glyph and by a word, and only then by its colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class EdgeState(StrEnum):
    """How an edge is carried."""

    MTLS = "mTLS"
    PLAINTEXT = "plaintext"
    REFUSED = "refused"
    NOT_TRIED = "not tried"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class NamespaceBox:
    """A namespace: its mode, and whether new pods get a sidecar."""

    name: str
    mode: str = ""
    decided_by: str = ""
    injection: str = ""

    @property
    def mode_text(self) -> str:
        return self.mode or "no policy"


@dataclass(frozen=True)
class MapNode:
    """A workload. `injected` is None when some of its pods have a sidecar and some have not."""

    namespace: str
    name: str
    injected: bool | None = False
    pods: int = 1
    mode: str = ""

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def sidecar_text(self) -> str:
        return {True: "sidecar", False: "no sidecar", None: "some have a sidecar"}[self.injected]

    @property
    def detail(self) -> str:
        pods = f"{self.pods} pod" + ("" if self.pods == 1 else "s")
        return f"{pods} · {self.sidecar_text}"


@dataclass(frozen=True)
class MapEdge:
    """Client -> server on a port: what the policies say (`state`, `reason`), and what was seen, if it was tried."""

    client: str
    server: str
    port: int
    state: EdgeState = EdgeState.UNKNOWN
    reason: str = ""
    seen: str = ""
    disagrees: bool = False

    @property
    def sentence(self) -> str:
        """The edge in words: the text twin of the line."""
        verb = {
            EdgeState.MTLS: f"reaches {self.server} on port {self.port} by mTLS",
            EdgeState.PLAINTEXT: f"reaches {self.server} on port {self.port} in plaintext",
            EdgeState.REFUSED: f"is refused by {self.server} on port {self.port}",
            EdgeState.NOT_TRIED: f"has not tried {self.server} on port {self.port}",
            EdgeState.UNKNOWN: f"calls {self.server} on port {self.port}; how is unknown",
        }[self.state]
        text = f"{self.client} {verb}."
        if self.reason:
            text += f" {self.reason.rstrip('.')}."
        if self.seen:
            text += f" Seen: {self.seen}."
        elif self.state is not EdgeState.NOT_TRIED:
            text += " Not tried yet."
        return text + (" What was seen is not what the policies say." if self.disagrees else "")


@dataclass(frozen=True, repr=False)
class MapModel:
    """The whole map. Order does not matter: it is sorted before it is drawn, so that nodes keep their places."""

    namespaces: tuple[NamespaceBox, ...] = ()
    nodes: tuple[MapNode, ...] = ()
    edges: tuple[MapEdge, ...] = ()
    title: str = "Encryption map"

    def sorted_nodes(self) -> list[MapNode]:
        return sorted(self.nodes, key=lambda node: node.id)

    def sorted_edges(self) -> list[MapEdge]:
        return sorted(self.edges, key=lambda edge: (edge.client, edge.server, edge.port))

    def sentences(self) -> list[str]:
        """One sentence per namespace that has a mode, then one per edge."""
        boxes = sorted((box for box in self.namespaces if box.mode), key=lambda box: box.name)
        modes = [f"Namespace {b.name} is {b.mode}" + (f", by {b.decided_by}." if b.decided_by else ".") for b in boxes]
        return modes + [edge.sentence for edge in self.sorted_edges()]

    def count(self, state: EdgeState) -> int:
        """How many edges are in this state."""
        return sum(1 for edge in self.edges if edge.state is state)

    def summary(self) -> str:
        """One line: how many edges are in which state."""
        counts = [f"{number} {state}" for state in EdgeState if (number := self.count(state))]
        return f"{self.title}: {', '.join(counts) or 'no edges'}"

    def __str__(self) -> str:
        return "\n".join([self.summary(), *(f"- {sentence}" for sentence in self.sentences())])

    __repr__ = __str__


def text_twin(edges: Iterable[MapEdge]) -> str:
    """The sentences of some edges, one per line."""
    return "\n".join(edge.sentence for edge in edges)
