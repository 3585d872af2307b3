"""The encryption map: who may speak to whom, and how. Pure data.

`layout` places it, `drawing` paints it, and `encryption_map` is what a notebook shows.

A state is told three times, by the line's style, by a glyph and by a word, and only then by its colour. Every edge has
two layers: what the policies say (`state`, with a `reason`), and what was seen (`observed`, with `counts`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property


class EdgeState(StrEnum):
    """How an edge is carried."""

    MTLS = "mTLS"
    TLS = "TLS"  # encrypted, and only one side shows who it is
    MIXED = "mixed"  # some requests this way, some that way
    PLAINTEXT = "plaintext"
    REFUSED = "refused"
    NOT_TRIED = "not tried"
    UNKNOWN = "unknown"


class EdgeKind(StrEnum):
    """Who speaks on an edge: an application, or somebody who enters a pod by a door of its own."""

    CALL = "call"
    PROBE = "kubelet probe"
    SCRAPE = "Prometheus scrape"
    PORT_FORWARD = "port-forward"
    INGRESS = "ingress"

    @property
    def special(self) -> bool:
        """Drawn thin, with a glyph alone: present, and not what the lesson is about."""
        return self in (EdgeKind.PROBE, EdgeKind.SCRAPE, EdgeKind.PORT_FORWARD)


class NodeKind(StrEnum):
    """What stands at the end of an edge."""

    WORKLOAD = "workload"
    GATEWAY = "gateway"
    OUTSIDE = "outside the cluster"  # a browser at the gateway, kubectl on a laptop
    EXTERNAL = "external host"  # what a ServiceEntry names
    SYSTEM = "node"  # the kubelet
    UNKNOWN = "unknown source"  # as metrics see a client without a sidecar


class Layer(StrEnum):
    """Which of the two layers is drawn."""

    BOTH = "both"
    DECLARED = "declared"
    OBSERVED = "observed"


@dataclass(frozen=True)
class Counts:
    """Requests of one edge in a window of time, by how they were carried."""

    mtls: int = 0
    plaintext: int = 0
    refused: int = 0
    failed: int = 0  # answered, and not with success
    unknown: int = 0
    window: float = 0.0

    @property
    def total(self) -> int:
        return self.mtls + self.plaintext + self.refused + self.unknown

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.total / self.window if self.window else 0.0

    @property
    def success(self) -> float | None:
        """The share of requests that were answered well; None when there were none."""
        return max(0.0, 1 - (self.refused + self.failed) / self.total) if self.total else None

    @property
    def state(self) -> EdgeState | None:
        """One word for all requests, if one fits."""
        kinds = {
            EdgeState.MTLS: self.mtls,
            EdgeState.PLAINTEXT: self.plaintext,
            EdgeState.REFUSED: self.refused,
        }
        some = [state for state, number in kinds.items() if number]
        if not some:
            return EdgeState.UNKNOWN if self.unknown else None
        return some[0] if len(some) == 1 else EdgeState.MIXED

    @property
    def words(self) -> str:
        """`41 mTLS / 3 plaintext / 7 refused in 30 s`."""
        named = [(self.mtls, "mTLS"), (self.plaintext, "plaintext"), (self.refused, "refused"), (self.unknown, "?")]
        parts = [f"{number} {name}" for number, name in named if number]
        return f"{' / '.join(parts)}{self._in_window}" if parts else ""

    @property
    def _in_window(self) -> str:
        # Without a window: all that was counted so far.
        return f" in {self.window:.0f} s" if self.window else ""

    @property
    def short(self) -> str:
        """For the label on a line: `12.4/s · 100 % ok`, or the split when there is one."""
        if not self.total:
            return ""
        rate = f"{self.rate:.0f}/s" if self.rate >= 9.95 else f"{self.rate:.1f}/s"
        if self.rate < 0.95:
            rate = f"{self.total}{self._in_window or ' in all'}"
        if self.state is EdgeState.MIXED:
            return f"{rate} · {100 * self.mtls / self.total:.0f} % mTLS"
        return f"{rate} · {100 * (self.success or 0):.0f} % ok"


NO_COUNTS = Counts()


@dataclass(frozen=True)
class NamespaceBox:
    """A namespace: its mode, whether new pods get a sidecar, and how many workloads have a mode of their own."""

    name: str
    mode: str = ""
    decided_by: str = ""
    injection: str = ""
    differing: int = 0

    @property
    def mode_text(self) -> str:
        return self.mode or "no policy"

    @property
    def sentence(self) -> str:
        """The namespace in words."""
        by = f", by {self.decided_by}" if self.decided_by else ""
        but = f" {self.differing} of its workloads have a mode of their own." if self.differing else ""
        return f"Namespace {self.name} is {self.mode_text}{by}.{but}"


@dataclass(frozen=True)
class MapNode:
    """A workload. `injected` is None when some of its pods have a sidecar and some have not."""

    namespace: str
    name: str
    injected: bool | None = False
    pods: int = 1
    mode: str = ""
    kind: NodeKind = NodeKind.WORKLOAD
    not_ready: int = 0
    decided_by: str = ""

    @property
    def id(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def sidecar_text(self) -> str:
        return {True: "sidecar", False: "no sidecar", None: "part sidecar"}[self.injected]

    @property
    def detail(self) -> str:
        if self.kind is NodeKind.GATEWAY:
            return f"gateway{self._waiting}"
        if self.kind is not NodeKind.WORKLOAD:
            return str(self.kind.value)
        pods = f"{self.pods} pod" + ("" if self.pods == 1 else "s")
        return f"{pods} · {self._waiting.removeprefix(' · ') or self.sidecar_text}"

    @property
    def _waiting(self) -> str:
        if not self.not_ready:
            return ""
        return " · not ready" if self.not_ready == self.pods else f" · {self.not_ready} not ready"


@dataclass(frozen=True)
class MapEdge:
    """Client -> server on a port: what the policies say (`state`, `reason`), and what was seen, if it was tried.

    `seen` is the newest answer in words, `observed` how it was carried. `resolved` says how labkit knows the client
    when the metrics only know it as `unknown`.
    """

    client: str
    server: str
    port: int
    state: EdgeState = EdgeState.UNKNOWN
    reason: str = ""
    seen: str = ""
    disagrees: bool = False
    kind: EdgeKind = EdgeKind.CALL
    observed: EdgeState | None = None
    counts: Counts = NO_COUNTS
    decided_by: str = ""
    service: str = ""
    resolved: str = ""
    stale: bool = False

    @property
    def id(self) -> str:
        """What stays the same while the edge changes its state."""
        return f"{self.client}|{self.server}|{self.port}|{self.kind.name.lower()}"

    @property
    def shown(self) -> EdgeState:
        """What is drawn: what was seen, else what the policies say."""
        return self.state if self.observed in (None, EdgeState.UNKNOWN) else self.observed or self.state

    @property
    def tried(self) -> bool:
        return bool(self.seen) or self.counts.total > 0 or self.observed is not None

    @property
    def sentence(self) -> str:
        """The edge in words: the text twin of the line."""
        # Metrics name a server and no port.
        server = f"{self.server} on port {self.port}" if self.port else self.server
        verb = {
            EdgeState.MTLS: f"reaches {server} by mTLS",
            EdgeState.TLS: f"reaches {server} by TLS that shows one side alone",
            EdgeState.MIXED: f"reaches {server}, now this way, now that",
            EdgeState.PLAINTEXT: f"reaches {server} in plaintext",
            EdgeState.REFUSED: f"is refused by {server}",
            EdgeState.NOT_TRIED: f"has not tried {server}",
            EdgeState.UNKNOWN: f"calls {server}; how is unknown",
        }[self.shown]
        who = f"{self.client} ({self.kind})" if self.kind is not EdgeKind.CALL else self.client
        text = f"{who} {verb}."
        if self.reason:
            text += f" {self.reason.rstrip('.')}."
        if self.counts.total:
            text += f" Counted: {self.counts.words}."
        elif self.seen:
            text += f" Seen: {self.seen}."
        elif self.shown is not EdgeState.NOT_TRIED and self.kind is EdgeKind.CALL:
            text += " Not tried yet."
        if self.resolved:
            text += f" {self.resolved.rstrip('.')}."
        if self.disagrees:
            text += " What was seen is not what the policies say"
            text += f": {self.state}." if self.observed not in (None, self.state) else "."
        return text


@dataclass(frozen=True, repr=False)
class MapModel:
    """The whole map. Order does not matter: it is sorted before it is drawn, so that nodes keep their places."""

    namespaces: tuple[NamespaceBox, ...] = ()
    nodes: tuple[MapNode, ...] = ()
    edges: tuple[MapEdge, ...] = ()
    title: str = "Encryption map"
    mesh: NamespaceBox | None = None
    window: float = 0.0
    hidden: frozenset[str] = field(default=frozenset())  # edges whose state is to be predicted first

    @cached_property
    def _nodes(self) -> list[MapNode]:
        return sorted(self.nodes, key=lambda node: node.id)

    @cached_property
    def _edges(self) -> list[MapEdge]:
        return sorted(self.edges, key=lambda edge: (edge.client, edge.server, edge.port, edge.kind))

    def sorted_nodes(self) -> list[MapNode]:
        return self._nodes

    def sorted_edges(self) -> list[MapEdge]:
        return self._edges

    def sentences(self) -> list[str]:
        """One sentence for the mesh, one per namespace that has a mode, then one per edge."""
        mesh = [f"The mesh is {self.mesh.mode_text}, by {self.mesh.decided_by}."] if self.mesh else []
        boxes = sorted((box for box in self.namespaces if box.mode), key=lambda box: box.name)
        return mesh + [box.sentence for box in boxes] + [edge.sentence for edge in self.sorted_edges()]

    def count(self, state: EdgeState) -> int:
        """How many edges are drawn in this state."""
        return sum(1 for edge in self.edges if edge.shown is state)

    def summary(self) -> str:
        """One line: how many edges are in which state."""
        counts = [f"{number} {state}" for state in EdgeState if (number := self.count(state))]
        return f"{self.title}: {', '.join(counts) or 'no edges'}"

    def edge(self, edge_id: str) -> MapEdge | None:
        """The edge with this id, or None."""
        return next((edge for edge in self.edges if edge.id == edge_id), None)

    def __str__(self) -> str:
        return "\n".join([self.summary(), *(f"- {sentence}" for sentence in self.sentences())])

    __repr__ = __str__


def layered(model: MapModel, layer: Layer) -> MapModel:
    """The same map with one layer alone: what the policies say, or what was seen."""
    if layer is Layer.DECLARED:
        bare = (replace(e, seen="", observed=None, counts=NO_COUNTS, disagrees=False) for e in model.edges)
        return replace(model, edges=tuple(bare))
    if layer is Layer.OBSERVED:
        seen = (
            e if e.tried else replace(e, state=EdgeState.NOT_TRIED, reason="", decided_by="", disagrees=False)
            for e in model.edges
        )
        return replace(model, edges=tuple(seen))
    return model


def concealed(model: MapModel) -> MapModel:
    """The map before the learner has committed: every call is drawn and no state is told. Modes are known, and stay."""
    edges = tuple(
        MapEdge(e.client, e.server, e.port, EdgeState.NOT_TRIED, kind=e.kind, service=e.service) for e in model.edges
    )
    hidden = frozenset(edge.id for edge in edges if edge.kind is EdgeKind.CALL)
    return replace(model, edges=edges, hidden=hidden, title="Predict each edge", window=0.0)


@dataclass(frozen=True)
class Score:
    """How a learner's predictions compare with the map."""

    right: tuple[str, ...]
    wrong: tuple[tuple[str, str, str], ...]  # edge, predicted, what it is
    open: int

    def __str__(self) -> str:
        total = len(self.right) + len(self.wrong)
        lines = [f"{len(self.right)} of {total} right" + (f", {self.open} not marked" if self.open else "")]
        return "\n".join([*lines, *(f"- {edge}: you said {said}, it is {is_}" for edge, said, is_ in self.wrong)])

    __repr__ = __str__


def score(model: MapModel, marks: dict[str, str]) -> Score:
    """Compare marks (edge id -> state) with what the map shows."""
    calls = [edge for edge in model.sorted_edges() if edge.kind is EdgeKind.CALL]
    marked = [(edge, marks[edge.id]) for edge in calls if marks.get(edge.id)]
    name = "{0.client} -> {0.server}:{0.port}".format
    right = tuple(name(edge) for edge, mark in marked if mark == edge.shown)
    wrong = tuple((name(edge), mark, str(edge.shown)) for edge, mark in marked if mark != edge.shown)
    return Score(right, wrong, len(calls) - len(marked))


def text_twin(edges: Iterable[MapEdge]) -> str:
    """The sentences of some edges, one per line."""
    return "\n".join(edge.sentence for edge in edges)
