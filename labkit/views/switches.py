"""A row of switches as a picture: what a panel shows where no widgets are shown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from labkit.views import glyphs

ROW, LEFT, BUTTON = 30.0, 170.0, 104.0


def draw_switches(rows: Iterable[tuple[str, Sequence[str], str]]) -> str:
    """(name, choices, chosen) as one <svg> with its own light paper."""
    rows = list(rows)
    width = LEFT + BUTTON * max((len(choices) for _, choices, _ in rows), default=1) + 20
    height = ROW * len(rows) + 20
    told = ". ".join(f"{name}: {chosen or 'none'}" for name, _, chosen in rows)
    body = "".join(_row(12 + ROW * index, *row) for index, row in enumerate(rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lkm" role="img" aria-label="{escape(told)}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        'font-family="system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,DejaVu Sans,sans-serif">'
        f"<title>{escape(told)}</title><style>{glyphs.style(standalone=True)}</style>"
        f'<rect class="lkm-paper" width="100%" height="100%" rx="10"/>{body}</svg>'
    )


def _row(y: float, name: str, choices: Sequence[str], chosen: str) -> str:
    parts = [f'<text class="lkm-ink" x="14" y="{y + 16:g}" font-size="12.5" font-weight="600">{escape(name)}</text>']
    for place, choice in enumerate(choices):
        x = LEFT + BUTTON * place
        on = choice == chosen
        look = ' class="lkm-mtls"' if on else ' class="lkm-untried"'
        fill = 'fill="currentColor"' if on else 'fill="none" stroke-dasharray="3 2"'
        ink = ' class="lkm-paper" font-weight="700"' if on else ' fill="currentColor"'
        parts.append(
            f'<g{look}><rect x="{x:g}" y="{y:g}" width="{BUTTON - 6:g}" height="23" rx="6" {fill} '
            'stroke="currentColor"/>'
            f'<text{ink} x="{x + BUTTON / 2 - 3:g}" y="{y + 15.5:g}" font-size="11" text-anchor="middle">'
            f"{'✓ ' if on else ''}{escape(choice)}</text></g>"
        )
    return "".join(parts)
