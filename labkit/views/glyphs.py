"""The map's signs and colours: what a state looks like, for those who see colours and for those who do not.

Colours are Okabe and Ito's, which the common kinds of colour blindness keep apart; every state has its own line
style, glyph and word besides. On both papers lines have a contrast of at least 3:1, words of 4.5:1.
"""

from __future__ import annotations

from labkit.views.map import EdgeState

LOOK = {
    EdgeState.MTLS: "mtls",
    EdgeState.TLS: "tls",
    EdgeState.MIXED: "mixed",
    EdgeState.PLAINTEXT: "plain",
    EdgeState.REFUSED: "refused",
    EdgeState.NOT_TRIED: "untried",
    EdgeState.UNKNOWN: "unknown",
}
"""The CSS class of each state."""

DASH = {
    "mtls": "none",
    "tls": "16 4",
    "mixed": "12 4 2 4",
    "plain": "9 5",
    "refused": "2 5",
    "untried": "1 7",
    "unknown": "4 7",
}

LIGHT = {
    "ink": "#1f2328",
    "soft": "#57606a",
    "paper": "#ffffff",
    "box": "#f6f8fa",
    "line": "#d0d7de",
    "mtls": "#0072b2",
    "tls": "#007a5a",
    "mixed": "#8a4b80",
    "plain": "#b84a00",  # Okabe-Ito vermillion, a little darker: 4.5:1 on white and on a box, for the words
    "refused": "#1f2328",
    "grey": "#646d76",
}
DARK = {
    "ink": "#f0f3f6",
    "soft": "#aab4be",
    "paper": "#111418",
    "box": "#1a1f25",
    "line": "#3d444d",
    "mtls": "#56b4e9",
    "tls": "#3fc79a",
    "mixed": "#dd9bce",
    "plain": "#f5934e",
    "refused": "#f0f3f6",
    "grey": "#9aa4ae",
}
JUPYTER = {
    "ink": "--jp-ui-font-color1",
    "soft": "--jp-ui-font-color2",
    "paper": "--jp-layout-color0",
    "box": "--jp-layout-color1",
    "line": "--jp-border-color1",
    "refused": "--jp-ui-font-color0",
}
"""What the page's theme gives, where there is one."""

SELECTED = "#e0b000"

# Glyphs on a 16 x 16 field.
_STROKE = 'fill="none" stroke="currentColor"'
CLOSED_LOCK = (
    f'<path d="M4.6 7V5.2a3.4 3.4 0 0 1 6.8 0V7" {_STROKE} stroke-width="1.7"/>'
    '<rect x="2.8" y="7" width="10.4" height="7.4" rx="1.6" fill="currentColor"/>'
)
HALF_LOCK = (
    f'<path d="M4.6 7V5.2a3.4 3.4 0 0 1 6.8 0V7" {_STROKE} stroke-width="1.7"/>'
    f'<rect x="3.5" y="7.6" width="9" height="6.2" rx="1.2" {_STROKE} stroke-width="1.5"/>'
    '<path d="M3.4 7.6H8v6.2H3.4z" fill="currentColor"/>'
)
OPEN_LOCK = (
    f'<path d="M4.6 7V4.4a3.4 3.4 0 0 1 6.6-1.1" {_STROKE} stroke-width="1.7"/>'
    f'<rect x="3.6" y="7.8" width="8.8" height="5.8" rx="1.2" {_STROKE} stroke-width="1.7"/>'
)
CROSS = '<path d="M3.6 3.6l8.8 8.8M12.4 3.6l-8.8 8.8" stroke="currentColor" stroke-width="2.4" stroke-linecap="round"/>'
QUESTION = (
    f'<circle cx="8" cy="8" r="6.3" {_STROKE} stroke-width="1.4"/>'
    f'<path d="M6.2 6.4a1.9 1.9 0 1 1 2.6 1.8c-.5.2-.8.5-.8 1.1M8 11.4v.3" {_STROKE} '
    'stroke-width="1.5" stroke-linecap="round"/>'
)
DOTS = (
    '<circle cx="3.4" cy="8" r="1.5" fill="currentColor"/><circle cx="8" cy="8" r="1.5" fill="currentColor"/>'
    '<circle cx="12.6" cy="8" r="1.5" fill="currentColor"/>'
)
GLYPH = {
    "mtls": CLOSED_LOCK,
    "tls": HALF_LOCK,
    "mixed": HALF_LOCK,
    "plain": OPEN_LOCK,
    "refused": CROSS,
    "untried": DOTS,
    "unknown": QUESTION,
}

# An Envoy-like hexagon: full for a sidecar, half for some, hollow without.
SIDECAR = (
    '<path d="M8 .9l6.2 3.55v7.1L8 15.1l-6.2-3.55v-7.1z" stroke="currentColor" stroke-width="1.5" '
    'stroke-linejoin="round" {fill}/>'
)
GATEWAY = (
    f'<path d="M2 14V6.5a6 6 0 0 1 12 0V14" {_STROKE} stroke-width="1.7" stroke-linecap="round"/>'
    f'<path d="M5.5 14V7.4a2.5 2.5 0 0 1 5 0V14M.8 14.2h14.4" {_STROKE} stroke-width="1.4" stroke-linecap="round"/>'
)
GLOBE = (
    f'<circle cx="8" cy="8" r="6.4" {_STROKE} stroke-width="1.4"/>'
    f'<path d="M1.6 8h12.8M8 1.6c-4.2 4-4.2 8.8 0 12.8M8 1.6c4.2 4 4.2 8.8 0 12.8" {_STROKE} stroke-width="1.2"/>'
)
PERSON = (
    f'<circle cx="8" cy="5" r="3" {_STROKE} stroke-width="1.5"/>'
    f'<path d="M2.2 14.4c.6-3.6 2.8-5.2 5.8-5.2s5.2 1.6 5.8 5.2" {_STROKE} stroke-width="1.5" stroke-linecap="round"/>'
)
NODE = (
    f'<rect x="1.8" y="2.6" width="12.4" height="4.4" rx="1" {_STROKE} stroke-width="1.4"/>'
    f'<rect x="1.8" y="9" width="12.4" height="4.4" rx="1" {_STROKE} stroke-width="1.4"/>'
    '<circle cx="4.4" cy="4.8" r=".9" fill="currentColor"/><circle cx="4.4" cy="11.2" r=".9" fill="currentColor"/>'
)


def _palette(scope: str, c: dict[str, str]) -> str:
    coloured = "".join(
        f"{scope} .lkm-{look}{{color:{c[look]}}}" for look in ("mtls", "tls", "mixed", "plain", "refused")
    )
    return (
        f"{scope} .lkm-ink{{fill:{c['ink']}}}{scope} .lkm-soft{{fill:{c['soft']}}}"
        f"{scope} .lkm-paper{{fill:{c['paper']}}}"
        f"{scope} .lkm-box{{fill:{c['box']};stroke:{c['line']}}}"
        f"{scope} .lkm-card,{scope} .lkm-pill{{fill:{c['paper']};stroke:{c['line']}}}"
        f"{coloured}{scope} .lkm-untried,{scope} .lkm-unknown{{color:{c['grey']}}}"
        f"{scope} .lkm-in{{color:{c['mtls']};stroke:{c['mtls']}}}{scope} .lkm-out{{color:{c['grey']}}}"
        f"{scope} .lkm-bad{{color:{c['plain']};fill:{c['plain']}}}"
    )


def style(*, standalone: bool, dark: bool = False) -> str:
    """The stylesheet of a picture: with colours of its own, or with those of the page around it.

    Inline, the dark palette follows JupyterLab's theme where there is one, else the reader's system. VS Code sets
    neither; there ink is inherited from the page.
    """
    if standalone:
        rules = [_palette(".lkm", DARK if dark else LIGHT)]
    else:
        page = {name: f"var({variable},{LIGHT[name]})" for name, variable in JUPYTER.items()}
        night = {name: f"var({variable},{DARK[name]})" for name, variable in JUPYTER.items()}
        rules = [
            _palette(".lkm-inline", {**LIGHT, **page}),
            "@media (prefers-color-scheme:dark){",
            _palette("body:not([data-jp-theme-light]) .lkm-inline", {**DARK, **night}),
            "}",
            _palette('[data-jp-theme-light="false"] .lkm-inline', {**DARK, **night}),
        ]
    rules += [f".lkm .lkm-{look} .lkm-stroke{{stroke-dasharray:{dash}}}" for look, dash in DASH.items()]
    rules.append(
        ".lkm .lkm-stroke{fill:none;stroke:currentColor;stroke-width:2.6;stroke-linecap:round}"
        ".lkm .lkm-said .lkm-stroke{stroke-width:1.5;opacity:.75}"
        ".lkm .lkm-special .lkm-stroke{stroke-width:1.3;opacity:.8}"
        ".lkm .lkm-untried .lkm-stroke,.lkm .lkm-unknown .lkm-stroke{stroke-width:1.8}"
        ".lkm .lkm-stop{display:none}.lkm .lkm-refused .lkm-stop{display:inline}"
        ".lkm .lkm-refused .lkm-arrow{display:none}"
        ".lkm .lkm-stale{opacity:.45}"
        ".lkm .lkm-warn .lkm-pill{stroke:currentColor;stroke-width:2.2}"
        # Of two thousand edges those that are not encrypted have a glyph; the lock is the rule, and the rule is thin.
        ".lkm-large .lkm-edge .lkm-stroke{stroke-width:1.6;opacity:.8}.lkm-large .lkm-edge:hover .lkm-stroke{opacity:1}"
        ".lkm-large .lkm-mtls .lkm-dot{display:none}.lkm-large .lkm-mtls .lkm-stroke{opacity:.25}"
        ".lkm .lkm-halo{fill:none;stroke:transparent;stroke-width:14}"
    )
    if not standalone:
        rules.append(
            ".lkm-inline .lkm-edge{cursor:pointer;outline:none}"
            f".lkm-inline .lkm-edge:focus-visible .lkm-halo,.lkm-inline .lkm-picked .lkm-halo"
            f"{{stroke:{SELECTED};stroke-opacity:.45}}"
            ".lkm-inline .lkm-edge:hover .lkm-pill{stroke:currentColor}"
        )
    return "".join(rules)
