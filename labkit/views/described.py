"""A pod or a Service in istioctl's words, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.views.page import CODE, card
from labkit.views.results import BLUE, ORANGE

if TYPE_CHECKING:
    from labkit.observe.describe import Description


@dataclass(frozen=True)
class Described:
    """What `istioctl x describe` says: `.text`, and the facts in it: `.mode`, `.policies`, `.routing`, `.warnings`."""

    found: Description

    @property
    def text(self) -> str:
        return "\n".join(self.found.lines)

    @property
    def mode(self) -> str:
        """The effective mode; empty where nothing is enforced, and for a Service."""
        return self.found.mode

    @property
    def port_modes(self) -> Mapping[int, str]:
        return self.found.port_modes

    @property
    def policies(self) -> tuple[str, ...]:
        """The PeerAuthentications that apply, as `name.namespace`."""
        return self.found.policies

    @property
    def routing(self) -> tuple[Any, ...]:
        """For each port of each Service the DestinationRule, the VirtualService and the RBAC policies."""
        return self.found.routing

    @property
    def exposed(self) -> tuple[Any, ...]:
        """The ways in from outside: url, gateway, virtual service."""
        return self.found.exposed

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.found.warnings

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self.found)

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        commands = (self.found.command,) if self.found.command else ()
        colour = ORANGE if self.found.warnings else BLUE
        return card(self.found.subject, (), commands, colour=colour) + (
            f'<pre style="{CODE};margin:4px 0 4px 14px;white-space:pre-wrap">{escape(self.text)}</pre>'
        )
