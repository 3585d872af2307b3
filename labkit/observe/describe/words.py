"""The lines of `istioctl x describe`, as they are put together. Pure.

istioctl/pkg/describe/describe.go of istio/istio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labkit.cluster import Obj
from labkit.cluster.kinds import Kind
from labkit.observe.objects import name_of, namespace_of

GATEWAY = Kind("networking.istio.io/v1", "Gateway", "gateways")
VIRTUAL_SERVICE = Kind("networking.istio.io/v1", "VirtualService", "virtualservices")

RULER = "--------------------"
REQUIREMENTS = "https://istio.io/latest/docs/ops/deployment/application-requirements/"


@dataclass(frozen=True)
class Routing:
    """One port of a Service as the proxy knows it: the objects that decide, by `name.namespace`."""

    service: str
    port: int
    destination_rule: str = ""
    virtual_service: str = ""
    rbac: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exposure:
    """One way in from outside."""

    url: str
    gateway: str
    virtual_service: str


@dataclass(frozen=True)
class Description:
    """What istioctl says of a pod or a Service, as lines and as facts."""

    subject: str
    lines: tuple[str, ...]
    mode: str = ""
    """The effective mode of a pod with a sidecar; empty for a Service, or where nothing is enforced."""
    port_modes: Mapping[int, str] = field(default_factory=dict)
    policies: tuple[str, ...] = ()
    """The PeerAuthentications whose selectors match, those included that others overrule."""
    routing: tuple[Routing, ...] = ()
    exposed: tuple[Exposure, ...] = ()
    warnings: tuple[str, ...] = ()
    command: str = ""


class Writer:
    """Collects lines; a name gets its namespace where that is not the one that the question was asked in."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str, indent: int = 0) -> None:
        self.lines.append(" " * indent + text)

    def warn(self, text: str, indent: int = 0) -> None:
        """A line that also counts as a warning."""
        self.warnings.append(text)
        self.say(text, indent)

    def name(self, obj: Obj) -> str:
        """`name`, or `name.namespace`."""
        return name_of(obj) if namespace_of(obj) == self.home else full(obj)


def full(obj: Obj) -> str:
    """`name.namespace`"""
    return f"{name_of(obj)}.{namespace_of(obj)}"
