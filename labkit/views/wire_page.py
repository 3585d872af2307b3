"""Packets as a page shows them: what everybody can read in orange, TLS in blue, and the first bytes of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from labkit.observe.packets import Kind, Packet
from labkit.views.page import CODE
from labkit.views.results import BLUE, ORANGE

HEX_BYTES = 12
"""Bytes in hex of each packet; beneath them more of them as text, in lines of that width."""

_CELL = "text-align:left;padding:2px 14px 2px 0;color:inherit;vertical-align:top"
_SMALL = "font-size:85%;opacity:.85"
_HEADS = ("TIME", "", "PEER", "SIZE", "WHAT", "ENTROPY", "FIRST BYTES")


def packets_page(
    packets: Sequence[Packet], zero: float, is_inward: Callable[[Packet], bool], peer: Callable[[Packet], str]
) -> str:
    """A table of packets. `zero` is the time of the first one; `peer` names the other side."""
    head = "".join(f'<th style="{_CELL};opacity:.7;font-weight:600">{name}</th>' for name in _HEADS)
    body = "".join(
        _row(
            (
                f"{one.time - zero:.4f}",
                _arrow(is_inward(one)),
                f'<span style="white-space:nowrap">{escape(peer(one))}</span>',
                str(one.size),
                _what(one),
                _entropy(one),
                _bytes(one),
            )
        )
        for one in packets
    )
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;color:inherit;margin:4px 0">'
        f"<thead><tr style='background:transparent'>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(cells: Iterable[str]) -> str:
    shown = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
    return f"<tr style='background:transparent;border-top:1px solid rgba(128,128,128,.25)'>{shown}</tr>"


def _arrow(inward: bool) -> str:
    return '<span title="to the server">in&nbsp;→</span>' if inward else '<span title="to the client">←&nbsp;out</span>'


def _what(packet: Packet) -> str:
    colour = ORANGE if packet.kind.readable else BLUE if packet.kind.tls else "inherit"
    kind = f'<b style="color:{colour};white-space:nowrap">{escape(packet.kind.value)}</b>'
    return f'{kind}<div style="{_SMALL};max-width:30em">{"<br>".join(map(escape, _pieces(packet)))}</div>'


def _pieces(packet: Packet) -> list[str]:
    """The detail of a packet in lines: a name of a server is long."""
    if packet.kind is not Kind.HANDSHAKE:
        return [packet.detail] if packet.detail else []
    return packet.detail.replace(" sni=", "\nSNI ").replace(" alpn=", "\nALPN ").split("\n")


def _entropy(packet: Packet) -> str:
    if not packet.size:
        return ""
    colour = ORANGE if packet.kind.readable else BLUE
    bar = f'<div style="background:{colour};height:4px;width:{packet.entropy / 8 * 4:.1f}em"></div>'
    return f'<span title="bits per byte, 8 at most">{packet.entropy:.1f}</span>{bar}'


def _bytes(packet: Packet) -> str:
    if not packet.start:
        return ""
    shown = packet.start[:HEX_BYTES].hex(" ") + (" ..." if packet.size > HEX_BYTES else "")
    code = f'<code style="{CODE};white-space:pre">'
    width = 3 * HEX_BYTES
    lines = "\n".join(packet.text[at : at + width] for at in range(0, len(packet.text), width))
    return f'{code}<span style="opacity:.7">{shown}</span>\n{escape(lines)}</code>'
