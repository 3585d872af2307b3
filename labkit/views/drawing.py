"""Painting the encryption map as SVG, from a model and its layout.

Colours are Okabe and Ito's, which the common kinds of colour blindness keep apart; every state has its own line
style, glyph and word besides. The inline picture takes ink and paper from JupyterLab's theme, the standalone one
brings its own.
"""

from __future__ import annotations

from html import escape

from labkit.views.layout import BOX_HEAD, LABEL_HEIGHT, Box, Layout, Point, place
from labkit.views.map import EdgeState, MapEdge, MapModel, MapNode, NamespaceBox

MARGIN = 14.0
LEGEND_HEIGHT = 40.0

_CLASS = {
    EdgeState.MTLS: "mtls",
    EdgeState.PLAINTEXT: "plain",
    EdgeState.REFUSED: "refused",
    EdgeState.NOT_TRIED: "untried",
    EdgeState.UNKNOWN: "unknown",
}
_DASH = {"mtls": "none", "plain": "9 5", "refused": "2 5", "untried": "1 7", "unknown": "1 7"}

_LIGHT = {
    "ink": "#1f2328",
    "soft": "#57606a",
    "paper": "#ffffff",
    "box": "#f6f8fa",
    "line": "#d0d7de",
    "mtls": "#0072b2",
    "plain": "#c75000",  # Okabe-Ito vermillion, a little darker: 4.5:1 on white, for the words
    "refused": "#1f2328",
    "grey": "#6e7781",
}
_DARK = {"mtls": "#56b4e9", "plain": "#f0803c", "grey": "#9aa4ae"}
_JUPYTER = {
    "ink": "--jp-ui-font-color1",
    "soft": "--jp-ui-font-color2",
    "paper": "--jp-layout-color0",
    "box": "--jp-layout-color1",
    "line": "--jp-border-color1",
    "refused": "--jp-ui-font-color0",
}

# Glyphs on a 16 x 16 field.
_CLOSED_LOCK = (
    '<path d="M4.6 7V5.2a3.4 3.4 0 0 1 6.8 0V7" fill="none" stroke="currentColor" stroke-width="1.7"/>'
    '<rect x="2.8" y="7" width="10.4" height="7.4" rx="1.6" fill="currentColor"/>'
)
_OPEN_LOCK = (
    '<path d="M4.6 7V4.4a3.4 3.4 0 0 1 6.6-1.1" fill="none" stroke="currentColor" stroke-width="1.7"/>'
    '<rect x="3.6" y="7.8" width="8.8" height="5.8" rx="1.2" fill="none" stroke="currentColor" stroke-width="1.7"/>'
)
_CROSS = (
    '<path d="M3.6 3.6l8.8 8.8M12.4 3.6l-8.8 8.8" stroke="currentColor" stroke-width="2.4" stroke-linecap="round"/>'
)
_QUESTION = (
    '<circle cx="8" cy="8" r="6.3" fill="none" stroke="currentColor" stroke-width="1.4"/>'
    '<path d="M6.2 6.4a1.9 1.9 0 1 1 2.6 1.8c-.5.2-.8.5-.8 1.1M8 11.4v.3" fill="none" stroke="currentColor" '
    'stroke-width="1.5" stroke-linecap="round"/>'
)
_GLYPH = {"mtls": _CLOSED_LOCK, "plain": _OPEN_LOCK, "refused": _CROSS, "untried": _QUESTION, "unknown": _QUESTION}
_SIDECAR = (  # Envoy-like hexagon, whole for a sidecar, hollow without
    '<path d="M8 .9l6.2 3.55v7.1L8 15.1l-6.2-3.55v-7.1z" stroke="currentColor" stroke-width="1.5" '
    'stroke-linejoin="round" {fill}/>'
)


def draw_map(model: MapModel, *, standalone: bool) -> str:
    """The whole picture as one <svg> element."""
    layout = place(model)
    width = max(layout.width, 430) + 2 * MARGIN
    height = layout.height + 2 * MARGIN + LEGEND_HEIGHT
    parts = [_namespace(box, layout.namespaces[box.name]) for box in model.namespaces if box.name in layout.namespaces]
    edges = model.sorted_edges()
    parts += [_line(edge, layout.curves[index]) for index, edge in enumerate(edges) if index in layout.curves]
    parts += [_node(node, layout.nodes[node.id]) for node in model.sorted_nodes() if node.id in layout.nodes]
    parts += [_label(edge, layout.labels[index]) for index, edge in enumerate(edges) if index in layout.labels]
    if not parts:
        parts.append('<text class="lkm-soft" x="4" y="20" font-size="13">Nothing runs in these namespaces.</text>')
    paper = '<rect class="lkm-paper" width="100%" height="100%" rx="10"/>' if standalone else ""
    description = escape(" ".join(model.sentences()) or "No edges.")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lkm{"" if standalone else " lkm-inline"}" role="img" '
        f'aria-label="{escape(model.summary())}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" style="max-width:100%;height:auto" '
        'font-family="system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif">'
        f"<title>{escape(model.summary())}</title><desc>{description}</desc>"
        f"<style>{_style(standalone)}</style>{paper}"
        f'<g transform="translate({MARGIN:g} {MARGIN:g})">{"".join(parts)}</g>'
        f'<g transform="translate({MARGIN:g} {layout.height + 2 * MARGIN + 6:.1f})">{_legend()}</g>'
        "</svg>"
    )


def _style(standalone: bool) -> str:
    scope = ".lkm" if standalone else ".lkm-inline"
    colours = dict(_LIGHT)
    if not standalone:
        colours |= {name: f"var({variable},{_LIGHT[name]})" for name, variable in _JUPYTER.items()}
    rules = [_palette(scope, colours)]
    if not standalone:
        dark = {**colours, **_DARK}
        rules.append(_palette('[data-jp-theme-light="false"] .lkm-inline', dark))
    rules += [f".lkm .lkm-{name} .lkm-stroke{{stroke-dasharray:{dash}}}" for name, dash in _DASH.items()]
    rules.append(".lkm .lkm-stroke{fill:none;stroke:currentColor;stroke-width:2.4;stroke-linecap:round}")
    rules.append(".lkm .lkm-untried .lkm-stroke,.lkm .lkm-unknown .lkm-stroke{stroke-width:1.8}")
    return "".join(rules)


def _palette(scope: str, colours: dict[str, str]) -> str:
    c = colours
    return (
        f"{scope} .lkm-ink{{fill:{c['ink']}}}{scope} .lkm-soft{{fill:{c['soft']}}}"
        f"{scope} .lkm-paper{{fill:{c['paper']}}}"
        f"{scope} .lkm-box{{fill:{c['box']};stroke:{c['line']}}}"
        f"{scope} .lkm-card{{fill:{c['paper']};stroke:{c['line']}}}"
        f"{scope} .lkm-pill{{fill:{c['paper']};stroke:{c['line']}}}"
        f"{scope} .lkm-mtls{{color:{c['mtls']}}}{scope} .lkm-plain{{color:{c['plain']}}}"
        f"{scope} .lkm-refused{{color:{c['refused']}}}"
        f"{scope} .lkm-untried,{scope} .lkm-unknown{{color:{c['grey']}}}"
        f"{scope} .lkm-in{{color:{c['mtls']};stroke:{c['mtls']}}}{scope} .lkm-out{{color:{c['grey']}}}"
    )


def _namespace(box: NamespaceBox, at: Box) -> str:
    name_width = 9 * len(box.name) + 12
    chip = _chip(box.mode_text, at.x + 16 + name_width, at.y + 9)
    injection = f", new pods: {box.injection}" if box.injection else ""
    tip = f"Namespace {box.name}: {box.mode_text}{f' by {box.decided_by}' if box.decided_by else ''}{injection}"
    return (
        f"<g><title>{escape(tip)}</title>"
        f'<rect class="lkm-box" x="{at.x:.1f}" y="{at.y:.1f}" width="{at.width:.1f}" height="{at.height:.1f}" '
        'rx="12" stroke-width="1.2"/>'
        f'<text class="lkm-ink" x="{at.x + 16:.1f}" y="{at.y + BOX_HEAD - 5:.1f}" font-size="14.5" '
        f'font-weight="650">{escape(box.name)}</text>{chip}</g>'
    )


def _chip(mode: str, x: float, y: float) -> str:
    look = {"STRICT": "mtls", "PERMISSIVE": "unknown", "DISABLE": "plain"}.get(mode, "unknown")
    width = 7.4 * len(mode) + 16
    fill = "currentColor" if mode == "STRICT" else "none"
    text_class = ' class="lkm-paper"' if mode == "STRICT" else ' fill="currentColor"'
    return (
        f'<g class="lkm-{look}"><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="19" rx="9.5" fill="{fill}" '
        'stroke="currentColor" stroke-width="1.2"/>'
        f'<text{text_class} x="{x + width / 2:.1f}" y="{y + 13.4:.1f}" font-size="10.5" font-weight="650" '
        f'letter-spacing=".4" text-anchor="middle">{escape(mode)}</text></g>'
    )


def _node(node: MapNode, at: Box) -> str:
    look = "in" if node.injected else "out"
    outline = 'stroke-dasharray="5 4"' if node.injected is False else ""
    ring = ""
    if node.injected:  # the sidecar wraps the application: a second outline around it
        ring = (
            f'<rect class="lkm-in" x="{at.x - 3.5:.1f}" y="{at.y - 3.5:.1f}" width="{at.width + 7:.1f}" '
            f'height="{at.height + 7:.1f}" rx="13" fill="none" stroke-width="2"/>'
        )
    fill = 'fill="currentColor" fill-opacity=".22"' if node.injected else 'fill="none" stroke-dasharray="2.4 2.2"'
    badge = _SIDECAR.format(fill=fill)
    tip = f"{node.id}: {node.detail}{f', {node.mode}' if node.mode else ''}"
    return (
        f"<g><title>{escape(tip)}</title>{ring}"
        f'<rect class="lkm-card" x="{at.x:.1f}" y="{at.y:.1f}" width="{at.width:.1f}" height="{at.height:.1f}" '
        f'rx="10" stroke-width="1.4" {outline}/>'
        f'<g class="lkm-{look}" transform="translate({at.x + 14:.1f} {at.y + at.height / 2 - 10:.1f}) scale(1.25)">'
        f"{badge}</g>"
        f'<text class="lkm-ink" x="{at.x + 44:.1f}" y="{at.y + 25:.1f}" font-size="14" font-weight="600">'
        f"{escape(node.name)}</text>"
        f'<text class="lkm-soft" x="{at.x + 44:.1f}" y="{at.y + 42:.1f}" font-size="11">{escape(node.detail)}</text>'
        "</g>"
    )


def _line(edge: MapEdge, halves: tuple[tuple[Point, ...], tuple[Point, ...]]) -> str:
    look = _CLASS[edge.state]
    (*points, tip) = halves[1]
    end = _stop(tip) if edge.state is EdgeState.REFUSED else _arrow(points[-1], tip)
    middle = f"L{points[0][0]:.1f} {points[0][1]:.1f}"  # beneath the label
    sentence = escape(edge.sentence)
    return (
        f'<g class="lkm-{look}" tabindex="0" aria-label="{sentence}"><title>{sentence}</title>'
        f'<path class="lkm-stroke" d="{_bezier(halves[0])}{middle}{_bezier(tuple(points))}"/>{end}</g>'
    )


def _bezier(points: tuple[Point, ...]) -> str:
    (x, y), rest = points[0], points[1:]
    return f"M{x:.1f} {y:.1f}C" + " ".join(f"{px:.1f} {py:.1f}" for px, py in rest)


def _arrow(base: Point, tip: Point) -> str:
    (bx, by), (tx, ty) = base, tip
    dx, dy = tx - bx, ty - by
    length = max((dx * dx + dy * dy) ** 0.5, 0.1)
    nx, ny = -dy / length * 5, dx / length * 5
    tx, ty = tx - dx / length * 4, ty - dy / length * 4  # stays clear of the sidecar's outline
    return (
        f'<path d="M{bx + nx:.1f} {by + ny:.1f}L{tx:.1f} {ty:.1f}L{bx - nx:.1f} {by - ny:.1f}z" '
        'fill="currentColor" stroke="currentColor" stroke-width="1" stroke-linejoin="round"/>'
    )


def _stop(tip: Point) -> str:
    """The connection ends in front of the server: a bar with a cross."""
    x, y = tip[0] - 16, tip[1]
    return (
        f'<circle class="lkm-paper" cx="{x:.1f}" cy="{y:.1f}" r="9.5"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9.5" fill="none" stroke="currentColor" stroke-width="2"/>'
        f'<g transform="translate({x - 6.4:.1f} {y - 6.4:.1f}) scale(.8)">{_CROSS}</g>'
    )


def _label(edge: MapEdge, at: Point) -> str:
    look = _CLASS[edge.state]
    seen = edge.seen or "not tried yet"
    if edge.state is EdgeState.NOT_TRIED:
        seen = f"port {edge.port}"
    second = ("≠ " if edge.disagrees else "") + (seen if len(seen) <= 20 else seen[:19] + "…")
    width = max(34 + 7.2 * len(edge.state), 16 + 5.9 * len(second))
    height = LABEL_HEIGHT
    x, y = at[0] - width / 2, at[1] - height / 2
    warn = ' stroke="currentColor" stroke-width="2"' if edge.disagrees else ' stroke-width="1"'
    return (
        f'<g class="lkm-{look}"><title>{escape(edge.sentence)}</title>'
        f'<rect class="lkm-pill" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="9"{warn}/>'
        f'<g transform="translate({x + width / 2 - 3.6 * len(edge.state) - 12:.1f} {y + 4:.1f}) scale(.88)">'
        f"{_GLYPH[look]}</g>"
        f'<text fill="currentColor" x="{x + width / 2 + 9:.1f}" y="{y + 17:.1f}" font-size="12.5" font-weight="650" '
        f'text-anchor="middle">{escape(edge.state)}</text>'
        f'<text class="lkm-soft" x="{x + width / 2:.1f}" y="{y + 31.5:.1f}" font-size="10.5" text-anchor="middle">'
        f"{escape(second)}</text></g>"
    )


def _legend() -> str:
    parts, x = [], 0.0
    for state in (EdgeState.MTLS, EdgeState.PLAINTEXT, EdgeState.REFUSED):
        look = _CLASS[state]
        parts.append(
            f'<g class="lkm-{look}" transform="translate({x:.0f} 0)"><path class="lkm-stroke" d="M0 10H30"/>'
            f'<g transform="translate(36 3) scale(.86)">{_GLYPH[look]}</g>'
            f'<text class="lkm-soft" x="54" y="14" font-size="11">{escape(state)}</text></g>'
        )
        x += 62 + 6.4 * len(state) + 14
    for injected, text in ((True, "sidecar"), (False, "no sidecar")):
        fill = 'fill="currentColor" fill-opacity=".22"' if injected else 'fill="none" stroke-dasharray="2.4 2.2"'
        look = "in" if injected else "out"
        parts.append(
            f'<g class="lkm-{look}" transform="translate({x:.0f} 2)">{_SIDECAR.format(fill=fill)}'
            f'<text class="lkm-soft" stroke="none" x="22" y="12" font-size="11">{text}</text></g>'
        )
        x += 30 + 6.4 * len(text) + 14
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


__all__ = ["Layout", "draw_map"]
