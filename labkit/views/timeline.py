"""The timeline below the map: requests per second by how they were carried, with marks where policies changed. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from labkit.views import glyphs

WIDTH, HEIGHT = 900.0, 118.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 20.0, 20.0
BINS = 180


@dataclass(frozen=True)
class Second:
    """One second of the mesh."""

    at: int
    success: int = 0
    mtls: int = 0
    plaintext: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Mark:
    """A moment at which something was changed."""

    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """The seconds up to `now` that something was seen in; `kept` seconds are shown."""

    now: float
    kept: int
    seconds: tuple[Second, ...] = ()
    marks: tuple[Mark, ...] = ()

    @property
    def words(self) -> str:
        """The timeline in a sentence."""
        last = [one for one in self.seconds if one.at > self.now - 30]
        if not last:
            return "Timeline: nothing was seen in the last 30 s."
        sums = {
            "mTLS": sum(one.mtls for one in last),
            "plaintext": sum(one.plaintext for one in last),
            "refused": sum(one.refused for one in last),
        }
        told = ", ".join(f"{number / 30:.1f}/s {name}" for name, number in sums.items() if number)
        changes = f" Last change: {self.marks[-1].text}." if self.marks else ""
        return f"Timeline: {told} in the last 30 s.{changes}"


_LINES: tuple[tuple[str, str, Callable[[Second], int]], ...] = (
    ("refused", "refused", lambda one: one.refused),
    ("plain", "plaintext", lambda one: one.plaintext),
    ("mtls", "mTLS", lambda one: one.mtls),
    ("ok", "success", lambda one: one.success),
)


def draw_timeline(series: Series, *, moment: float | None = None, standalone: bool = False, dark: bool = False) -> str:
    """The timeline as one <svg>; `moment` is where the map stands when the past is replayed."""
    start = series.now - series.kept
    step = series.kept / BINS
    sums = {name: [0.0] * BINS for name, _, _ in _LINES}
    for one in series.seconds:
        place = int((one.at - start) / step)
        if 0 <= place < BINS:
            for name, _, value in _LINES:
                sums[name][place] += value(one) / step
    top = _nice(max((max(values) for values in sums.values()), default=0))
    scope = "lkm" if standalone else "lkm lkm-inline"
    paper = '<rect class="lkm-paper" width="100%" height="100%" rx="10"/>' if standalone else ""
    parts = [_grid(series, top), *(_line(name, sums[name], top) for name, _, _ in _LINES)]
    parts += [_mark(mark, start, series.kept) for mark in series.marks if mark.at >= start]
    if moment is not None:
        parts.append(_moment(_x(moment, start, series.kept)))
    words = escape(series.words)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{scope} lkm-timeline" role="img" aria-label="{words}" '
        f'viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" width="{WIDTH:.0f}" height="{HEIGHT:.0f}" '
        f'style="max-width:100%;height:auto" data-from="{start:.1f}" data-to="{series.now:.1f}" '
        f'data-left="{LEFT / WIDTH:.4f}" data-right="{1 - RIGHT / WIDTH:.4f}" '
        'font-family="system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,DejaVu Sans,sans-serif">'
        f"<title>{words}</title><style>{glyphs.style(standalone=standalone, dark=dark)}{_OWN}</style>{paper}"
        f"{_legend()}{''.join(parts)}</svg>"
    )


_OWN = (
    ".lkm-timeline .lkm-stroke{stroke-width:1.8}"
    ".lkm-timeline .lkm-ok{color:#8c959f}.lkm-timeline .lkm-ok .lkm-stroke{stroke-width:5;opacity:.28}"
    ".lkm-timeline .lkm-axis{stroke:#8c959f;stroke-opacity:.35;stroke-width:1}"
    ".lkm-timeline .lkm-flag{stroke:#8c959f;stroke-width:1.2;stroke-dasharray:3 2}"
)


def _nice(value: float) -> float:
    for limit in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if value <= limit:
            return float(limit)
    return float(value)


def _x(at: float, start: float, kept: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(max((at - start) / kept, 0), 1)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value / top, 1)


def _grid(series: Series, top: float) -> str:
    parts = []
    for value in (0.0, top / 2, top):
        y = _y(value, top)
        parts.append(f'<path class="lkm-axis" d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}"/>')
        parts.append(
            f'<text class="lkm-soft" x="{LEFT - 5:g}" y="{y + 3.5:.1f}" font-size="10" '
            f'text-anchor="end">{value:g}/s</text>'
        )
    for minutes in (15, 12, 9, 6, 3, 0):
        x = _x(series.now - 60 * minutes, series.now - series.kept, series.kept)
        text = "now" if minutes == 0 else f"-{minutes} min"
        anchor = "end" if minutes == 0 else "start" if minutes == 15 else "middle"
        parts.append(
            f'<text class="lkm-soft" x="{x:.1f}" y="{HEIGHT - 6:g}" font-size="10" text-anchor="{anchor}">{text}</text>'
        )
    return "".join(parts)


def _line(name: str, values: list[float], top: float) -> str:
    """The line where there is something, with its foot on either side; nothing where nothing was seen."""
    width = (WIDTH - LEFT - RIGHT) / BINS
    pieces: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if any(values[max(0, place - 1) : place + 2]):
            pieces[-1].append(f"{LEFT + (place + 0.5) * width:.1f} {_y(value, top):.1f}")
        elif pieces[-1]:
            pieces.append([])
    path = "".join(f"M{'L'.join(points)}" for points in pieces if points)
    return f'<g class="lkm-{name}"><path class="lkm-stroke" d="{path}"/></g>' if path else ""


def _mark(mark: Mark, start: float, kept: int) -> str:
    x = _x(mark.at, start, kept)
    return (
        f'<g><title>{escape(mark.text)}</title><path class="lkm-flag" d="M{x:.1f} {TOP - 2:g}V{HEIGHT - BOTTOM:g}"/>'
        f'<path class="lkm-ink" d="M{x:.1f} {TOP - 6:g}l4 4l-4 4l-4-4z"/></g>'
    )


def _moment(x: float) -> str:
    return f'<path d="M{x:.1f} {TOP - 6:g}V{HEIGHT - BOTTOM:g}" stroke="{glyphs.SELECTED}" stroke-width="2.5"/>'


def _legend() -> str:
    parts, x = [], LEFT
    for name, word, _ in reversed(_LINES):
        parts.append(
            f'<g class="lkm-{name}" transform="translate({x:.0f} 0)"><path class="lkm-stroke" d="M0 8H24"/>'
            f'<text class="lkm-soft" x="30" y="11.5" font-size="10.5">{word}</text></g>'
        )
        x += 44 + 6.2 * len(word) + 12
    parts.append(
        f'<g transform="translate({x:.0f} 0)"><path class="lkm-ink" d="M5 3l4 4l-4 4l-4-4z"/>'
        '<text class="lkm-soft" x="15" y="11.5" font-size="10.5">something was changed</text></g>'
    )
    return f'<g aria-hidden="true">{"".join(parts)}</g>'
