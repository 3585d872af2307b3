"""Two captures of one server side by side: what could be read before, and what can be read after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from labkit.observe.packets import Kind, printable
from labkit.views.page import CODE, card
from labkit.views.results import BLUE
from labkit.views.wire import REFUSED, Wire, plain_table


@dataclass(frozen=True)
class Beside:
    """Two captures of one server, before and after a change."""

    before: Wire
    after: Wire
    names: tuple[str, str] = ("BEFORE", "AFTER")

    def rows(self) -> list[tuple[str, str, str]]:
        """What is compared, and how it was in each."""
        sides = (_Side(self.before), _Side(self.after))
        return [(name, *(getattr(side, key) for side in sides)) for name, key in _COMPARED]

    @property
    def title(self) -> str:
        same = self.before.server == self.after.server
        return f"The wire to {self.before.server if same else f'{self.before.server} and {self.after.server}'}, twice"

    def __repr__(self) -> str:
        return f"{self.title}\n\n{plain_table(('', *self.names), self.rows())}"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return card(self.title, colour=BLUE) + _page(("", *self.names), self.rows())


def _page(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with bytes in the type that bytes have."""
    cell = "text-align:left;padding:2px 20px 2px 0;color:inherit;vertical-align:top"
    line = "background:transparent;border-top:1px solid rgba(128,128,128,.25)"
    head = "".join(f'<th style="{cell};opacity:.7">{escape(one)}</th>' for one in heads)
    body = ""
    for name, *sides in rows:
        shown = (f'<code style="{CODE};white-space:pre-wrap">{escape(one)}</code>' for one in sides)
        cells = "".join(f'<td style="{cell}">{one}</td>' for one in (escape(name), *shown))
        body += f'<tr style="{line}">{cells}</tr>'
    return f'<table style="border-collapse:collapse;color:inherit"><tr>{head}</tr>{body}</table>'


_COMPARED = (
    ("connections", "connections"),
    ("bytes that can be read", "readable_bytes"),
    ("bytes in TLS records", "tls_bytes"),
    ("entropy, bits per byte", "entropy"),
    ("who asks for what", "asks"),
    ("the first bytes of data", "first_text"),
    ("the same in hex", "first_hex"),
    ("refused", "resets"),
)


class _Side:
    """One half of a comparison, in words."""

    def __init__(self, wire: Wire) -> None:
        connections = wire.all_connections()
        packets = [one for one in wire.with_data() if one.size]
        # What the server was told: past the handshakes, if there are any.
        inward = [one for one in packets if wire.is_inward(one)]
        data = [one for one in inward if one.kind.readable] or [
            one for one in inward if one.kind is Kind.APPLICATION_DATA
        ]
        self.connections = str(len(connections))
        self.readable_bytes = str(sum(one.size for one in packets if one.kind.readable))
        self.tls_bytes = str(sum(one.size for one in packets if one.kind.tls))
        total = sum(one.size for one in packets)
        self.entropy = f"{sum(one.entropy * one.size for one in packets) / total:.1f}" if total else "-"
        asked = [*dict.fromkeys(wire.requests), *dict.fromkeys(f"SNI {one.sni}" for one in connections if one.sni)]
        self.asks = "\n".join(asked[:3]) or "-"
        start = data[0].start if data else b""
        self.first_text = printable(start) or "-"
        self.first_hex = start[:16].hex(" ") or "-"
        self.resets = str(sum(one.ended == REFUSED for one in connections))
