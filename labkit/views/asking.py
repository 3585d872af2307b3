"""Dashboards answered: by Prometheus over the last minutes, or by readings of our own over some seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labkit.observe.metrics import Scrape
from labkit.observe.prometheus import PrometheusServer
from labkit.observe.questions import Point, Question, answer, promql
from labkit.views.dashboards import Dashboard, Panel
from labkit.views.plots import Answers, DashboardView, line_name

POINTS = 120
"""Points of a line: more than its picture is wide for."""


def by_prometheus(dashboard: Dashboard, server: PrometheusServer, minutes: float, window: str) -> DashboardView:
    """Asked in PromQL."""
    seconds = minutes * 60

    def points(question: Question) -> list[Point]:
        series = server.range(promql(question, window), seconds, max(seconds / POINTS, 1.0))
        return [
            Point(tuple(one["metric"].get(name, "") for name in question.by), float(at), float(text))
            for one in series
            for at, text in one["values"]
            if not math.isnan(float(text))
        ]

    answers = [
        _answers(panel, [(question, points(question)) for question in panel.questions]) for panel in dashboard.panels
    ]
    return DashboardView(dashboard, answers, f"Prometheus, last {minutes:g} min")


def by_readings(dashboard: Dashboard, readings: Sequence[Scrape], clock: float) -> DashboardView:
    """Computed from pages that we read one after the other; `clock` is what the monotonic clock began at."""
    answers = [
        _answers(panel, [(question, answer(question, readings, clock)) for question in panel.questions])
        for panel in dashboard.panels
    ]
    return DashboardView(dashboard, answers, f"{len(readings)} readings of our own")


def _answers(panel: Panel, asked: Sequence[tuple[Question, list[Point]]]) -> Answers:
    named = [
        (line_name(point.group, question.name, question.by), point) for question, points in asked for point in points
    ]
    silent = {name for name in dict(named) if all(point.value == 0 for each, point in named if each == name)}
    # A counter that never moved is drawn only where nothing else is.
    if len(silent) < len(dict(named)):
        named = [(name, point) for name, point in named if name not in silent]
    return Answers(panel, tuple(named))
