"""What a verb of the lab hands back: small objects that show what happened and the kubectl line that does the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labkit.errors import LabError
from labkit.views.page import card, table

BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe-Ito; the words carry the meaning


@dataclass(frozen=True)
class Done:
    """Something was changed: what, how long it took, and how kubectl does it."""

    what: str
    lines: tuple[str, ...] = ()
    kubectl: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    manifest: str = ""
    """What was applied, as YAML, where labkit wrote it itself."""

    @property
    def took(self) -> str:
        # Below a tenth of a second the number says nothing to a person.
        return f" ({self.seconds:.1f} s)" if self.seconds and self.seconds >= 0.1 else ""

    def __str__(self) -> str:
        parts = [self.what + self.took, *(f"  {line}" for line in self.lines)]
        parts += [f"  Warning: {warning}" for warning in self.warnings]
        return "\n".join(parts + [f"  $ {line}" for line in self.kubectl])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = [*self.lines, *(f"Warning: {warning}" for warning in self.warnings)]
        return card(self.what + self.took, lines, self.kubectl, colour=ORANGE if self.warnings else BLUE)


@dataclass(frozen=True)
class Attempt:
    """What came of applying something that may be refused, or that still holds the blank `...`."""

    done: Done | None = None
    error: LabError | None = None
    pending: bool = False

    @property
    def accepted(self) -> bool:
        return self.done is not None

    def __str__(self) -> str:
        if self.pending:
            return "Not sent: replace the `...` first."
        return str(self.done) if self.error is None else f"Refused: {self.error}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if self.done is not None:
            return self.done._repr_html_()
        if self.error is None:
            return card("Not sent", ["Replace the ... first."], colour="#808080")
        rest = [line.strip() for line in self.error.lines()[1:]]
        return card(self.error.what, rest, mark="Refused:", colour=ORANGE)


@dataclass(frozen=True)
class Facts:
    """A named list of facts: a status, a pod's description."""

    title: str
    rows: tuple[tuple[str, str], ...]
    kubectl: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> str:
        return dict(self.rows)[name]

    def __str__(self) -> str:
        width = max((len(name) for name, _ in self.rows), default=0)
        lines = [f"  {name:<{width}}  {value}".rstrip() for name, value in self.rows]
        return "\n".join([self.title, *lines, *(f"  $ {line}" for line in self.kubectl)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return card(self.title, (), self.kubectl, colour=BLUE) + table(("", ""), self.rows)


@dataclass(frozen=True)
class Manifest:
    """A manifest in full view. JupyterLab highlights the YAML in the colours of its theme."""

    text: str
    path: str = ""
    language: str = "yaml"

    def __str__(self) -> str:
        return (f"# {self.path}\n" if self.path else "") + self.text.rstrip()

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        head = f"`{self.path}`\n\n" if self.path else ""
        return f"{head}```{self.language}\n{self.text.rstrip()}\n```"


@dataclass(frozen=True)
class PodDescription:
    """What `kubectl describe pod` tells that matters here."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    containers: tuple[Mapping[str, str], ...]
    init_containers: tuple[Mapping[str, str], ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def container_names(self) -> list[str]:
        return [item["name"] for item in self.containers]

    @property
    def init_container_names(self) -> list[str]:
        return [item["name"] for item in self.init_containers]

    @property
    def kubectl(self) -> str:
        return f"kubectl describe pod {self.name} -n {self.namespace}"

    def _container_rows(self) -> list[tuple[str, ...]]:
        kinds = [("init", item) for item in self.init_containers] + [("", item) for item in self.containers]
        return [(item["name"], kind, item["image"], item["state"], item["restarts"]) for kind, item in kinds]

    def __str__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self.facts]
        lines += [
            f"container {row[0]}{' (init)' if row[1] else ''}: {row[3]}, {row[2]}" for row in self._container_rows()
        ]
        lines += [f"label {key}={value}" for key, value in sorted(self.labels.items())]
        return "\n".join([f"Pod {self.namespace}/{self.name}", *(f"  {line}" for line in lines), f"  $ {self.kubectl}"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        labels = sorted(self.labels.items())
        return (
            card(f"Pod {self.namespace}/{self.name}", (), (self.kubectl,), colour=BLUE)
            + table(("", ""), self.facts)
            + table(("CONTAINER", "KIND", "IMAGE", "STATE", "RESTARTS"), self._container_rows())
            + table(("LABEL", "VALUE"), labels)
        )
