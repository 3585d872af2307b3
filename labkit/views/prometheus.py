"""What Prometheus answers, as tidy frames: a column for each label, `time` and `value`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labkit.observe.prometheus import PrometheusServer
from labkit.views.page import card
from labkit.views.results import BLUE
from labkit.views.tables import Table

MOST_STEPS = 240
"""Points of a range unless a step is given: more than a picture shows."""


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus of the cluster.

    .query("sum(rate(istio_requests_total[1m]))")       its answer now
    .range("...", minutes=10, step=5)                   its answers over time
    .targets()                                          whom it scrapes, and whether that works
    """

    server: PrometheusServer

    def query(self, promql: str, at: float | None = None) -> Table:
        """An instant query."""
        rows = [{**one["metric"], "value": float(one["value"][1])} for one in self.server.query(promql, at)]
        return _frame(rows, ["value"])

    def range(self, promql: str, minutes: float = 10, step: float | None = None, end: float | None = None) -> Table:
        """A range query, one line for each point of each series; `step` in seconds."""
        seconds = minutes * 60
        chosen = step if step is not None else max(seconds / MOST_STEPS, 1.0)
        series = self.server.range(promql, seconds, chosen, end)
        rows = [{**one["metric"], "time": at, "value": float(text)} for one in series for at, text in one["values"]]
        frame = _frame(rows, ["time", "value"])
        frame["time"] = pd.to_datetime(frame["time"].astype(float), unit="s", utc=True)
        return frame

    def targets(self) -> Table:
        """Whom it scrapes: job, address, up or down, why not, and how long the last time took."""
        rows = [
            (
                one["labels"].get("job", ""),
                one["labels"].get("pod") or one["labels"].get("instance", ""),
                one["scrapeUrl"],
                one["health"],
                one.get("lastError", ""),
                round(float(one.get("lastScrapeDuration", 0)) * 1000, 1),
            )
            for one in self.server.targets()
        ]
        return Table(sorted(rows), columns=["job", "target", "url", "health", "last_error", "took_ms"])

    def __str__(self) -> str:
        return f"Prometheus {self.server} on {self.server.cluster.name}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        namespace, name = self.server.namespace, self.server.service
        command = f"kubectl port-forward -n {namespace} service/{name} {self.server.port}"
        return card(str(self), ["Ask with .query(...), .range(...), .targets()."], [command], colour=BLUE)


def _frame(rows: Iterable[dict[str, Any]], last: list[str]) -> Table:
    """Labels first, in the order of their names, what was measured last."""
    rows = list(rows)
    labels = sorted({name for row in rows for name in row} - set(last))
    return Table(rows, columns=[*labels, *last]).fillna(dict.fromkeys(labels, ""))
