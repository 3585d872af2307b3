"""The side panel of one edge: both certificates, TLS, the last requests, flags with their meaning. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape

from labkit.pki import CertificateFacts
from labkit.views.glyphs import GLYPH, LOOK
from labkit.views.map import EdgeState, MapEdge
from labkit.views.response_flags import meaning


@dataclass(frozen=True)
class Request:
    """One answer that was seen, or several that came alike."""

    at: float
    text: str
    number: int = 1


@dataclass(frozen=True)
class Party:
    """One end of an edge: its certificate, or why there is none."""

    name: str
    certificate: CertificateFacts | None = None
    without: str = ""


@dataclass(frozen=True)
class EdgeFacts:
    """What was asked about an edge when it was selected."""

    client: Party
    server: Party
    tls: tuple[str, ...] = ()  # version and cipher of the handshakes so far
    requests: tuple[Request, ...] = ()
    flags: tuple[tuple[str, int], ...] = ()
    commands: tuple[str, ...] = field(default=())


def edge_html(edge: MapEdge, facts: EdgeFacts | None = None) -> str:
    """The panel as HTML; without facts, what the map itself knows."""
    look = LOOK[edge.shown]
    rows = [
        ("Policy says", f"{edge.state}. {edge.reason}"),
        ("Decided by", edge.decided_by or "nobody: the default"),
        ("Seen", edge.counts.words or edge.seen or "not tried yet"),
    ]
    if edge.resolved:
        rows.append(("Who", edge.resolved))
    body = [
        f'<div class="lkw-state lkm-{look}"><svg viewBox="0 0 16 16" width="20" height="20" aria-hidden="true">'
        f"{GLYPH[look]}</svg><b>{escape(edge.shown)}</b></div>",
        f'<h3 class="lkw-title">{escape(edge.client)} <span aria-label="to">→</span> {escape(edge.server)}'
        + (f'<span class="lkw-soft"> port {edge.port}</span></h3>' if edge.port else "</h3>"),
    ]
    if edge.disagrees:
        body.append('<p class="lkw-warn">What was seen is not what the policies say.</p>')
    body.append(_rows(rows))
    if facts is None:
        body.append('<p class="lkw-soft">Asking both proxies …</p>')
        return "".join(body)
    body.append(f'<div class="lkw-parties">{_party("Client", facts.client)}{_party("Server", facts.server)}</div>')
    if facts.tls:
        body.append(_rows([("TLS", ", ".join(facts.tls))]))
    elif edge.shown is EdgeState.MTLS:
        body.append('<p class="lkw-soft">These proxies keep no statistics of TLS versions and ciphers.</p>')
    body.append(_requests(facts.requests))
    if facts.flags:
        flags = [(f"{flag} × {number}", meaning(flag)) for flag, number in facts.flags]
        body.append(f"<h4>Response flags</h4>{_rows(flags)}")
    if facts.commands:
        lines = "".join(f"<code>$ {escape(line)}</code>" for line in facts.commands)
        body.append(f'<h4>Ask yourself</h4><div class="lkw-commands">{lines}</div>')
    return "".join(body)


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="lkw-facts">{cells}</dl>'


def _party(role: str, party: Party) -> str:
    head = f"<h4>{role}</h4>"
    facts = party.certificate
    if facts is None:
        return f'<div class="lkw-party">{head}<p class="lkw-soft">{escape(party.without)}</p></div>'
    until, name = facts.not_after.isoformat(), facts.spiffe_id or facts.subject or "(no name)"
    return (
        f'<div class="lkw-party">{head}<div class="lkw-id">{escape(name)}</div>'
        f'<dl class="lkw-facts"><dt>Issuer</dt><dd>{escape(facts.issuer or "not told")}</dd>'
        f"<dt>Valid from</dt><dd>{facts.not_before:%Y-%m-%d %H:%M} UTC</dd>"
        f"<dt>Valid until</dt><dd>{facts.not_after:%Y-%m-%d %H:%M} UTC, "
        f'<span class="lkw-countdown" data-until="{until}">{escape(_left(facts))}</span></dd>'
        f"<dt>Serial</dt><dd>{escape(facts.serial[:20])}</dd></dl></div>"
    )


def _left(facts: CertificateFacts) -> str:
    seconds = int(facts.remaining().total_seconds())
    if seconds < 0:
        return "expired"
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min left"


def _requests(requests: Iterable[Request]) -> str:
    rows = [
        (time.strftime("%H:%M:%S", time.localtime(one.at)), one.text + (f" × {one.number}" if one.number > 1 else ""))
        for one in requests
    ]
    return f"<h4>Last requests</h4>{_rows(rows)}" if rows else ""
