"""Dashboards drawn with matplotlib: one row of pictures after the other, each with its question, axis and unit.

Colours are those of Okabe and Ito, distinct for the common kinds of colour blindness; what is encrypted and what is
plaintext have the colours that they have on the encryption map, and lines differ in their dashes too. In a notebook
the drawing takes the ink and the paper of the page around it, light or dark; a file gets the one that is asked for.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.errors import InputError
from labkit.observe.questions import Point
from labkit.outcomes import Outcome, outcome_colour
from labkit.views.dashboards import Dashboard, Panel
from labkit.views.tables import Table

OKABE_ITO = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#f0e442", "#808080")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
WORDS = {"mutual_tls": "mTLS", "none": "plaintext"}
_POLICY_COLOURS = {"mTLS": outcome_colour(Outcome.MTLS), "plaintext": outcome_colour(Outcome.PLAINTEXT)}
INK = "#0a0b0c"
"""Stands for the page's own ink while a drawing for a notebook is made; no panel uses it otherwise."""

_INK_ON_LIGHT = "#202020"

MOST_LINES = 8
"""More lines in one picture are told apart by nobody: the largest are drawn, the others added up."""

REST = "all others"


@dataclass(frozen=True)
class Answers:
    """What one panel shows: its points, by the name of their line."""

    panel: Panel
    points: tuple[tuple[str, Point], ...]

    @property
    def frame(self) -> Table:
        """line, time, value."""
        rows = [(name, point.time, point.value) for name, point in self.points]
        frame = Table(rows, columns=["line", "time", "value"])
        frame["time"] = pd.to_datetime(frame["time"].astype(float), unit="s", utc=True)
        return frame

    def lines(self) -> dict[str, list[tuple[float, float]]]:
        """(time, value) of each line, the largest first; what is too much is added up in one."""
        found: dict[str, list[tuple[float, float]]] = {}
        for name, point in self.points:
            found.setdefault(name, []).append((point.time, point.value))
        ordered = dict(sorted(found.items(), key=lambda item: (-max(v for _, v in item[1]), item[0])))
        if len(ordered) <= MOST_LINES:
            return ordered
        names = list(ordered)
        kept = {name: ordered[name] for name in names[: MOST_LINES - 1]}
        if self.panel.share or any(question.how == "quantile" for question in self.panel.questions):
            return {name: ordered[name] for name in names[:MOST_LINES]}  # these cannot be added
        rest: dict[float, float] = {}
        for name in names[MOST_LINES - 1 :]:
            for time, value in ordered[name]:
                rest[time] = rest.get(time, 0.0) + value
        return {**kept, REST: sorted(rest.items())}


def line_name(values: Sequence[str], name: str, by: Sequence[str]) -> str:
    """What a line is called: namespace and name of a workload as one word, policies in this workshop's words."""
    words: list[str] = []
    for label, value in zip(by, values, strict=True):
        value = WORDS.get(value, value) or "-"
        if words and label.endswith(("_workload", "_service_name")) and by[0].endswith("_namespace"):
            before = words.pop()
            words.append(value if before == value else f"{before}/{value}")
        else:
            words.append(re.sub(r"^envoy_wasm_(?:envoy_wasm_runtime_|vm_|remote_load_)?", "", value))
    text = ", ".join(words) if by[:1] != ("response_code",) else " ".join(w for w in words if w != "-")
    return " ".join(part for part in (name, text) if part) or "all"


class DashboardView:
    """A dashboard with its answers: shows itself as a picture, `.frames` has the numbers, `.save(path)` a file,
    `.queries` what to ask Prometheus for the same.
    """

    def __init__(self, dashboard: Dashboard, answers: Sequence[Answers], source: str) -> None:
        self.dashboard = dashboard
        self.answers = tuple(answers)
        self.source = source

    @property
    def frames(self) -> dict[str, Table]:
        """The numbers, by the title of their panel: line, time, value."""
        return {one.panel.title: one.frame for one in self.answers}

    @property
    def queries(self) -> dict[str, list[str]]:
        """What is asked, in PromQL, by the title of the panel."""
        return self.dashboard.queries()

    def save(self, path: str | Path, *, dark: bool = False) -> Path:
        """Write a picture: .png, .svg or .pdf, on light paper or on dark."""
        path = Path(path)
        if path.suffix not in (".png", ".svg", ".pdf"):
            raise InputError(f"{path.name!r} is no picture.", next_step="Give a name that ends in .png, .svg or .pdf.")
        ink, paper = ("#e6e6e6", "#1b1b1b") if dark else (_INK_ON_LIGHT, "#ffffff")
        path.write_bytes(draw(self, path.suffix[1:], ink, paper))
        return path

    @cached_property
    def svg(self) -> str:
        """The drawing in the ink of the page around it."""
        drawn = draw(self, "svg", INK, "none").decode()
        return drawn[drawn.index("<svg") :].replace(INK, "currentColor")

    @property
    def standalone_svg(self) -> str:
        """The same with ink and light paper of its own, for a file or a slide."""
        return self.svg.replace("currentColor", _INK_ON_LIGHT).replace("<svg ", '<svg style="background:#fff" ', 1)

    def sentences(self) -> list[str]:
        """Panel by panel, the mean of each line over the time shown, for who reads and for who cannot see."""
        said = []
        for one in self.answers:
            means = [f"{name} {_number(_mean(points), one.panel)}" for name, points in one.lines().items()]
            unit = "" if one.panel.share else f" {one.panel.unit}"
            text = ", ".join(means) + unit if means else "Nothing was seen."
            said.append(f"{one.panel.title} {text}")
        return said

    def __str__(self) -> str:
        return "\n".join([f"{self.dashboard.title} ({self.source})", *(f"  {line}" for line in self.sentences())])

    __repr__ = __str__

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        items = "".join(f"<li>{escape(line)}</li>" for line in self.sentences())
        html = (
            f'<figure style="margin:4px 0;color:inherit">{self.svg}<figcaption><details>'
            f'<summary style="cursor:pointer;opacity:.75">In words</summary>'
            f'<ul style="margin:4px 0 0 0;padding-left:1.4em;line-height:1.5">{items}</ul></details>'
            "</figcaption></figure>"
        )
        # JupyterLab shows image/svg+xml as an <img>, which the page's theme does not reach.
        return {"text/html": html, "image/svg+xml": self.standalone_svg, "text/plain": str(self)}


def draw(view: DashboardView, form: str, ink: str, paper: str) -> bytes:
    """The whole dashboard as a picture."""
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(3, len(view.answers))
    rows = math.ceil(len(view.answers) / columns)
    style = {
        "font.family": "sans-serif",
        "font.size": 9,
        "svg.fonttype": "none",  # text stays text, in the page's own font
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.6 * columns, 3.1 * rows + 0.5), layout="constrained")
        figure.patch.set_facecolor(paper)
        figure.suptitle(f"{view.dashboard.title}  ·  {view.source}", fontsize=11, fontweight="bold")
        axes = figure.subplots(rows, columns, squeeze=False)
        for index, place in enumerate(axes.flat):
            if index < len(view.answers):
                _draw_panel(place, view.answers[index], ink)
            else:
                place.set_axis_off()
        stream = io.BytesIO()
        figure.savefig(
            stream, format=form, facecolor=paper, dpi=110, metadata={"Date": None} if form == "svg" else None
        )
    return stream.getvalue()


def _draw_panel(axes: Any, answers: Answers, ink: str) -> None:
    panel, lines = answers.panel, answers.lines()
    axes.set_title(panel.title, fontsize=9.5, loc="left")
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_ylabel(panel.unit)
    if not lines:
        axes.text(0.5, 0.5, "nothing was seen", ha="center", va="center", transform=axes.transAxes, alpha=0.7)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    end = max(time for points in lines.values() for time, _ in points)
    if panel.stacked:
        _stack(axes, lines, end)
    else:
        for index, (name, points) in enumerate(lines.items()):
            colour = _colour(name, index)
            marker = "o" if len(points) < 12 else ""
            axes.plot(
                [time - end for time, _ in points],
                [value for _, value in points],
                color=colour,
                linestyle=DASHES[(index // 2) % len(DASHES)],
                marker=marker,
                markersize=3,
                label=name,
            )
    _scales(axes, panel, ink)
    axes.legend(fontsize=7, frameon=False, loc="best", labelcolor=ink)


def _stack(axes: Any, lines: dict[str, list[tuple[float, float]]], end: float) -> None:
    times = sorted({time for points in lines.values() for time, _ in points})
    known = {name: dict(points) for name, points in lines.items()}
    heights = [[known[name].get(time, 0.0) for time in times] for name in lines]
    colours = [_colour(name, index) for index, name in enumerate(lines)]
    axes.stackplot([time - end for time in times], heights, labels=list(lines), colors=colours, alpha=0.85)


def _scales(axes: Any, panel: Panel, ink: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

    low, high = axes.get_xlim()
    minutes = high - low > 180
    axes.set_xlabel("minutes before the last reading" if minutes else "seconds before the last reading")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 60:g}" if minutes else f"{x:g}"))
    if panel.share:
        axes.set_ylim(-0.03, 1.05)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    else:
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, color=ink, alpha=0.15, linewidth=0.6)


def _colour(name: str, index: int) -> str:
    for word, colour in _POLICY_COLOURS.items():
        if name == word or (name.endswith(f", {word}") and index < 2):
            return colour
    return "#808080" if name == REST else OKABE_ITO[index % len(OKABE_ITO)]


def _number(value: float, panel: Panel) -> str:
    return f"{value * 100:.1f} %" if panel.share else f"{value:.3g}"


def _mean(points: Sequence[tuple[float, float]]) -> float:
    return sum(value for _, value in points) / len(points)
