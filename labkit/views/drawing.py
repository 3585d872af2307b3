"""Painting the encryption map as SVG, from a model and its layout.

Each edge is one group with an id of its own, and what changes with its state is a class and some words: so the map
can be repainted without a layout, here as a whole, and in a browser edge by edge (`edge_style`).
"""

from __future__ import annotations

from html import escape
from typing import Any

from labkit.views import glyphs
from labkit.views.glyphs import CROSS, GATEWAY, GLOBE, GLYPH, LOOK, NODE, PERSON, SIDECAR
from labkit.views.layout import BOX_HEAD, LABEL_HEIGHT, LABEL_WIDTH, Box, Layout, Point, place
from labkit.views.map import EdgeKind, EdgeState, MapEdge, MapModel, MapNode, NamespaceBox, NodeKind

MARGIN = 14.0
HEAD_HEIGHT = 34.0
LEGEND_HEIGHT = 34.0
SHORTEST_WIDTH = 640.0

Style = dict[str, Any]
"""What of an edge or a node changes while it stays where it is: classes and words, as a browser needs them."""


def draw_map(model: MapModel, *, standalone: bool, dark: bool = False) -> str:
    """The whole picture as one <svg> element."""
    layout = place(model)
    width = max(layout.width, SHORTEST_WIDTH) + 2 * MARGIN
    head = HEAD_HEIGHT if model.mesh else 0.0
    height = layout.height + 2 * MARGIN + head + LEGEND_HEIGHT
    edges = [edge for edge in model.sorted_edges() if edge.id in layout.curves]
    parts = [_namespace(box, layout.namespaces[box.name]) for box in model.namespaces if box.name in layout.namespaces]
    parts += [_edge(edge, layout) for edge in sorted(edges, key=lambda edge: not edge.kind.special)]  # those behind
    parts += [_node(node, layout.nodes[node.id]) for node in model.sorted_nodes() if node.id in layout.nodes]
    if not parts:
        parts.append('<text class="lkm-soft" x="4" y="20" font-size="13">Nothing runs in these namespaces.</text>')
    paper = '<rect class="lkm-paper" width="100%" height="100%" rx="10"/>' if standalone else ""
    summary = escape(model.summary())
    classes = " ".join(["lkm", *([] if standalone else ["lkm-inline"]), *([] if layout.labelled else ["lkm-large"])])
    # A picture of many edges is described by its summary: nobody listens to two thousand sentences.
    told = " ".join(model.sentences()) if layout.labelled else model.summary()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{classes}" role="img" '
        f'aria-label="{summary}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" style="max-width:100%;height:auto" '
        'font-family="system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,DejaVu Sans,sans-serif">'
        f"<title>{summary}</title><desc>{escape(told or 'No edges.')}</desc>"
        f"<style>{glyphs.style(standalone=standalone, dark=dark)}</style>{paper}"
        f"{_masthead(model, width) if model.mesh else ''}"
        f'<g transform="translate({MARGIN:g} {MARGIN + head:g})">{"".join(parts)}</g>'
        f'<g class="lkm-legend" aria-hidden="true" '
        f'transform="translate({MARGIN:g} {layout.height + 2 * MARGIN + head + 4:.1f})">{legend_of(model)}</g>'
        "</svg>"
    )


# -- the mesh and its namespaces -----------------------------------------------------------------------------------


def _masthead(model: MapModel, width: float) -> str:
    """The lock of the whole mesh, as Kiali's masthead shows it: closed, half or open."""
    assert model.mesh
    box = model.mesh
    style = box_style(box)
    return (
        f'<g class="lkm-box-head" data-box=""><title>{escape(style["title"])}</title>'
        f'<text class="lkm-ink" x="{MARGIN:g}" y="28" font-size="13.5" font-weight="650">{escape(box.name)}</text>'
        f'<g class="lkm-chip-at" transform="translate({MARGIN + 9.2 * len(box.name) + 12:.1f} 14)">{style["chip"]}</g>'
        f'<text class="lkm-soft lkm-by" x="{width - MARGIN:.1f}" y="28" font-size="11" text-anchor="end">'
        f"{escape(style['by'])}</text></g>"
    )


def box_style(box: NamespaceBox) -> Style:
    """What of a namespace changes while it stays where it is."""
    injection = f" New pods: {box.injection}." if box.injection else ""
    return {
        "title": box.sentence + injection,
        "chip": _chip(box.mode_text, box.differing),
        "by": f"by {box.decided_by}" if box.decided_by else "",
    }


def _namespace(box: NamespaceBox, at: Box) -> str:
    style = box_style(box)
    name_width = 9 * len(box.name) + 12
    return (
        f'<g data-box="{escape(box.name)}"><title>{escape(style["title"])}</title>'
        f'<rect class="lkm-box" x="{at.x:.1f}" y="{at.y:.1f}" width="{at.width:.1f}" height="{at.height:.1f}" '
        'rx="12" stroke-width="1.2"/>'
        f'<text class="lkm-ink" x="{at.x + 16:.1f}" y="{at.y + BOX_HEAD - 5:.1f}" font-size="14.5" '
        f'font-weight="650">{escape(box.name)}</text>'
        f'<g class="lkm-chip-at" transform="translate({at.x + 16 + name_width:.1f} {at.y + 9:.1f})">{style["chip"]}</g>'
        "</g>"
    )


# A full chip turns the closed padlock round: paper on colour.
_LOCK_ON_COLOUR = (
    '<path class="lkm-paper" d="M3.8 7V5.2a4.2 4.2 0 0 1 8.4 0V7h-1.7V5.2a2.5 2.5 0 0 0-5 0V7z"/>'
    '<rect class="lkm-paper" x="2.8" y="7" width="10.4" height="7.4" rx="1.6"/>'
)
_CHIPS = {"STRICT": ("mtls", "mtls"), "PERMISSIVE": ("unknown", "mixed"), "DISABLE": ("plain", "plain")}


def _chip(mode: str, differing: int = 0) -> str:
    look, lock = _CHIPS.get(mode, ("unknown", ""))
    text = mode + (f" · {differing} differ" if differing > 1 else " · 1 differs" if differing else "")
    pad = 16.0 if lock else 0.0
    width = 7.3 * len(text) + 16 + pad
    full = mode == "STRICT" and not differing
    fill, text_class = ("currentColor", ' class="lkm-paper"') if full else ("none", ' fill="currentColor"')
    sign = _LOCK_ON_COLOUR if full else GLYPH.get(lock, "")
    return (
        f'<g class="lkm-{look}"><rect width="{width:.1f}" height="19" rx="9.5" fill="{fill}" '
        'stroke="currentColor" stroke-width="1.2"/>'
        + (f'<g transform="translate(7 3) scale(.82)">{sign}</g>' if lock else "")
        + f'<text{text_class} x="{pad + (width - pad) / 2:.1f}" y="13.4" font-size="10.5" font-weight="650" '
        f'letter-spacing=".4" text-anchor="middle">{escape(text)}</text></g>'
    )


# -- workloads -----------------------------------------------------------------------------------------------------

_FILLS = {
    True: 'fill="currentColor" fill-opacity=".22"',
    None: 'fill="currentColor" fill-opacity=".1" stroke-dasharray="5 2"',
    False: 'fill="none" stroke-dasharray="2.4 2.2"',
}


def node_style(node: MapNode) -> Style:
    """What of a workload changes while it stays where it is."""
    mode = f", {node.mode}{f' by {node.decided_by}' if node.decided_by else ''}" if node.mode else ""
    return {
        "title": f"{node.id}: {node.detail}{mode}",
        "detail": node.detail,
        "badge": _badge(node),
        "in": bool(node.injected),
        "out": node.injected is False and node.kind is NodeKind.WORKLOAD,
        "bad": bool(node.not_ready),
    }


def _badge(node: MapNode) -> str:
    sign = {
        NodeKind.GATEWAY: GATEWAY,
        NodeKind.OUTSIDE: PERSON,
        NodeKind.EXTERNAL: GLOBE,
        NodeKind.SYSTEM: NODE,
        NodeKind.UNKNOWN: GLYPH["unknown"],
    }.get(node.kind, SIDECAR.format(fill=_FILLS[node.injected]))
    look = "in" if node.injected or node.injected is None else "out"
    stroke = "" if node.kind is NodeKind.WORKLOAD else ' style="stroke:none"'
    return f'<g class="lkm-{look}"{stroke}>{sign}</g>'


def _node(node: MapNode, at: Box) -> str:
    style = node_style(node)
    shown = "" if style["in"] else ' visibility="hidden"'
    ring = (  # the sidecar wraps the application: a second outline around it
        f'<rect class="lkm-in lkm-ring" x="{at.x - 3.5:.1f}" y="{at.y - 3.5:.1f}" width="{at.width + 7:.1f}" '
        f'height="{at.height + 7:.1f}" rx="13" fill="none" stroke-width="2"'
        f"{shown}/>"
    )
    plain = node.kind is NodeKind.WORKLOAD or node.kind is NodeKind.GATEWAY
    radius = 10 if plain else 28
    outline = ' stroke-dasharray="5 4"' if style["out"] or node.kind is NodeKind.UNKNOWN else ""
    return (
        f'<g class="lkm-node" data-node="{escape(node.id)}"><title>{escape(style["title"])}</title>{ring}'
        f'<rect class="lkm-card" x="{at.x:.1f}" y="{at.y:.1f}" width="{at.width:.1f}" height="{at.height:.1f}" '
        f'rx="{radius}" stroke-width="1.4"{outline}/>'
        f'<g class="lkm-badge" transform="translate({at.x + 14:.1f} {at.y + at.height / 2 - 10:.1f}) scale(1.25)">'
        f"{style['badge']}</g>"
        f'<text class="lkm-ink" x="{at.x + 44:.1f}" y="{at.y + 25:.1f}" font-size="14" font-weight="600">'
        f"{escape(node.name)}</text>"
        f'<text class="{"lkm-bad" if style["bad"] else "lkm-soft"} lkm-detail" x="{at.x + 44:.1f}" '
        f'y="{at.y + 42:.1f}" font-size="11">{escape(node.detail)}</text></g>'
    )


# -- edges ---------------------------------------------------------------------------------------------------------


def edge_style(edge: MapEdge) -> Style:
    """What of an edge changes while it stays where it is."""
    look = LOOK[edge.shown]
    classes = [f"lkm-{look}"]
    if edge.kind.special:
        classes.append("lkm-special")
    elif not edge.tried:
        classes.append("lkm-said")
    if edge.disagrees:
        classes.append("lkm-warn")
    if edge.stale:
        classes.append("lkm-stale")
    return {
        "look": look,
        "class": " ".join(classes),
        "word": str(edge.shown),
        "second": _second_line(edge),
        "title": edge.sentence,
    }


def _second_line(edge: MapEdge) -> str:
    if edge.shown is EdgeState.NOT_TRIED:
        text = f"port {edge.port}"
    else:
        text = edge.counts.short or edge.seen or ("" if edge.kind.special else "not tried yet")
    if edge.disagrees:
        text = f"≠ {text}" if edge.observed in (None, edge.state) else f"≠ policy: {edge.state}"
    return text if len(text) <= 22 else text[:21] + "…"


def _edge(edge: MapEdge, layout: Layout) -> str:
    style = edge_style(edge)
    path, ends = layout.lines.get(edge.id) or _line(edge.id, layout)
    title, at = escape(style["title"]), layout.labels[edge.id]
    label = _label(edge, style, at) if layout.labelled else _dot(style, at)
    # Two thousand stops on the way of the Tab key help nobody: there the table is the way in.
    focus = f' tabindex="0" role="button" aria-label="{title}"' if layout.labelled else ""
    halo = f'<path class="lkm-halo" d="{path}"/>' if layout.labelled else ""
    return (
        f'<g class="lkm-edge {style["class"]}" data-edge="{escape(edge.id)}"{focus}><title>{title}</title>{halo}'
        f'<path class="lkm-stroke" d="{path}"/>{ends}{label}</g>'
    )


def _line(edge_id: str, layout: Layout) -> tuple[str, str]:
    """The path of an edge, and both of its ends: whatever its state, and painted once for a layout."""
    halves = layout.curves[edge_id]
    (*points, tip) = halves[1]
    path = f"{_bezier(halves[0])}L{points[0][0]:.1f} {points[0][1]:.1f}{_bezier(tuple(points))}"  # beneath the label
    layout.lines[edge_id] = (path, _arrow(points[-1], tip) + _stop(tip))
    return layout.lines[edge_id]


def _bezier(points: tuple[Point, ...]) -> str:
    (x, y), rest = points[0], points[1:]
    return f"M{x:.1f} {y:.1f}C" + " ".join(f"{px:.1f} {py:.1f}" for px, py in rest)


def _arrow(base: Point, tip: Point) -> str:
    (bx, by), (tx, ty) = base, tip
    dx, dy = tx - bx, ty - by
    length = max((dx * dx + dy * dy) ** 0.5, 0.1)
    if length < 1:  # a straight line: the curve ends at the tip
        return f'<circle class="lkm-arrow" cx="{tx:.1f}" cy="{ty:.1f}" r="3.4" fill="currentColor"/>'
    nx, ny = -dy / length * 5, dx / length * 5
    tx, ty = tx - dx / length * 4, ty - dy / length * 4  # stays clear of the sidecar's outline
    return (
        f'<path class="lkm-arrow" d="M{bx + nx:.1f} {by + ny:.1f}L{tx:.1f} {ty:.1f}L{bx - nx:.1f} {by - ny:.1f}z" '
        'fill="currentColor" stroke="currentColor" stroke-width="1" stroke-linejoin="round"/>'
    )


def _stop(tip: Point) -> str:
    """The connection ends in front of the server: a bar with a cross."""
    x, y = tip[0] - 16, tip[1]
    return (
        f'<g class="lkm-stop"><circle class="lkm-paper" cx="{x:.1f}" cy="{y:.1f}" r="9.5"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9.5" fill="none" stroke="currentColor" stroke-width="2"/>'
        f'<g transform="translate({x - 6.4:.1f} {y - 6.4:.1f}) scale(.8)">{CROSS}</g></g>'
    )


def _label(edge: MapEdge, style: Style, at: Point) -> str:
    if edge.kind.special:
        return (
            f'<g transform="translate({at[0]:.1f} {at[1]:.1f})"><circle class="lkm-pill" r="10.5" stroke-width="1"/>'
            f'<g class="lkm-glyph" transform="translate(-6.2 -6.2) scale(.78)">{GLYPH[style["look"]]}</g></g>'
        )
    width, height = LABEL_WIDTH - 8, LABEL_HEIGHT - 2
    left = -width / 2
    return (
        f'<g transform="translate({at[0]:.1f} {at[1]:.1f})">'
        f'<rect class="lkm-pill" x="{left:.1f}" y="{-height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" '
        'rx="9" stroke-width="1"/>'
        f'<g class="lkm-glyph" transform="translate({left + 8:.1f} -16.5) scale(.9)">{GLYPH[style["look"]]}</g>'
        f'<text class="lkm-word" fill="currentColor" x="{left + 27:.1f}" y="-4.5" font-size="12.5" font-weight="650">'
        f"{escape(style['word'])}</text>"
        f'<text class="lkm-soft lkm-second" x="{left + 9:.1f}" y="12.5" font-size="10.8">'
        f"{escape(style['second'])}</text></g>"
    )


def _dot(style: Style, at: Point) -> str:
    return (
        f'<g class="lkm-dot" transform="translate({at[0]:.1f} {at[1]:.1f})"><circle class="lkm-paper" r="7.5"/>'
        f'<g class="lkm-glyph" transform="translate(-5.6 -5.6) scale(.7)">{GLYPH[style["look"]]}</g></g>'
    )


# -- the legend ----------------------------------------------------------------------------------------------------

_ALWAYS = (EdgeState.MTLS, EdgeState.PLAINTEXT, EdgeState.REFUSED)


def legend_of(model: MapModel) -> str:
    """What the signs mean, as far as they are on this map."""
    parts, x = [], 0.0
    there = {edge.shown for edge in model.edges}
    for state in EdgeState:
        if state not in _ALWAYS and state not in there:
            continue
        look = LOOK[state]
        parts.append(
            f'<g class="lkm-{look}" transform="translate({x:.0f} 0)"><path class="lkm-stroke" d="M0 10H30"/>'
            f'<g transform="translate(36 3) scale(.86)">{GLYPH[look]}</g>'
            f'<text class="lkm-soft" x="54" y="14" font-size="11">{escape(state)}</text></g>'
        )
        x += 58 + 6.2 * len(state) + 12
    for injected, text in ((True, "sidecar"), (False, "no sidecar")):
        look = "in" if injected else "out"
        parts.append(
            f'<g class="lkm-{look}" transform="translate({x:.0f} 2)">{SIDECAR.format(fill=_FILLS[injected])}'
            f'<text class="lkm-soft" stroke="none" x="22" y="12" font-size="11">{text}</text></g>'
        )
        x += 26 + 6.2 * len(text) + 12
    notes = []
    if any(edge.kind is EdgeKind.CALL and not edge.tried for edge in model.edges):
        notes.append("thin: declared, not tried")
    if model.window:
        notes.append(f"counts: last {model.window:.0f} s")
    text = " · ".join(notes)
    parts.append(f'<text class="lkm-soft" x="{x:.0f}" y="14" font-size="11">{escape(text)}</text>')
    return "".join(parts)


__all__ = ["Layout", "box_style", "draw_map", "edge_style", "legend_of", "node_style"]
