"""What proxies counted, as tidy frames: who called whom, how it was protected, how it ended, how long it took.

https://istio.io/latest/docs/reference/config/metrics/

1. A request between two workloads of the mesh is counted twice: by its client's proxy (`reporter` source) and by its
   server's (destination). A table of both must not be added up.
2. Only the server's proxy knows how a request was protected (`connection_security_policy`); the client's says
   `unknown`. So questions about mTLS are asked of the servers.
3. Only the client's proxy knows of requests that never arrived. So questions about success are asked of the clients,
   where they have a proxy, and of the servers otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from labkit.errors import InputError
from labkit.observe import metrics as names
from labkit.observe.exposition import Labels, Sample
from labkit.observe.metrics import Scrape
from labkit.observe.rates import increase, quantile
from labkit.views.page import card
from labkit.views.results import BLUE, ORANGE
from labkit.views.tables import Table

UNKNOWN = "unknown"
MTLS = "mutual_tls"
SERVERS, CLIENTS = "destination", "source"

EDGE = ("source", "destination")
REQUESTS = (
    *EDGE,
    "service",
    "reporter",
    "connection_security_policy",
    "request_protocol",
    "response_code",
    "response_flags",
    "requests",
)
CONNECTIONS = (
    *EDGE,
    "service",
    "reporter",
    "connection_security_policy",
    "response_flags",
    "opened",
    "closed",
    "sent_bytes",
    "received_bytes",
)
_TCP = {names.OPENED: "opened", names.CLOSED: "closed", names.SENT: "sent_bytes", names.RECEIVED: "received_bytes"}


def workload_of(labels: Labels, side: str) -> str:
    """`namespace/workload` of the source or destination, as far as the metrics know it."""
    workload = labels.get(f"{side}_workload") or UNKNOWN
    namespace = labels.get(f"{side}_workload_namespace") or UNKNOWN
    return UNKNOWN if workload == namespace == UNKNOWN else f"{namespace}/{workload}"


def service_of(labels: Labels) -> str:
    """`namespace/service`, or the name of the cluster that passes through or refuses what the mesh does not know."""
    name = labels.get("destination_service_name") or UNKNOWN
    namespace = labels.get("destination_service_namespace") or UNKNOWN
    return name if namespace == UNKNOWN else f"{namespace}/{name}"


def is_failure(code: str, flags: str) -> bool:
    """Whether a request counts as failed: no answer at all, or one of the 500s, as in Istio's dashboards."""
    return code == "0" or code.startswith("5") or (not code and flags not in ("", "-"))


@dataclass(frozen=True, eq=False)
class Metrics:
    """What all proxies counted: since they were started, or within `seconds` (`later - earlier`, `lab.rates()`).

    .requests  .connections          tidy frames, one line per label set, summed over the pods of a workload
    .by("connection_security_policy", ...)       requests and their share, as the servers saw them
    .success()                       share of the requests that did not fail, edge by edge
    .latency(0.5, 0.9, 0.99)         milliseconds, edge by edge
    .plaintext(10)                   who talks in plaintext, most first
    .samples                         every line of every proxy
    """

    lines: tuple[Sample, ...] = field(repr=False)
    proxies: int = 0
    seconds: float | None = None
    scrape: Scrape | None = field(default=None, repr=False)
    unanswered: Mapping[str, str] = field(default_factory=dict)
    durations: Callable[[], Scrape] | None = field(default=None, repr=False)
    """Reads how long requests took, for who asks for it; None where that was read with the rest."""

    @classmethod
    def of(cls, scrape: Scrape, durations: Callable[[], Scrape] | None = None) -> Metrics:
        """The counts since the proxies were started."""
        return cls(scrape.samples, len(scrape.times), None, scrape, scrape.failed, durations)

    def __sub__(self, earlier: Metrics) -> Metrics:
        """What was added since an earlier reading, with rates."""
        if not isinstance(earlier, Metrics) or self.scrape is None or earlier.scrape is None:
            return NotImplemented
        added = increase(earlier.scrape, self.scrape)
        if self.durations or earlier.durations:

            def unknown() -> Scrape:
                raise InputError(
                    "How long requests took between these two readings was not read.",
                    next_step="Take both with lab.metrics(durations=True), or ask lab.rates(seconds=5).",
                )

            return Metrics(added.samples, len(added.pods), added.seconds, None, added.missing, unknown)
        return Metrics(added.samples, len(added.pods), added.seconds, None, added.missing)

    # -- frames

    @cached_property
    def samples(self) -> Table:
        """Every line of every proxy: its name, pod, value, and each label as a column."""
        rows = [{"metric": s.name, "pod": s.pod, "value": s.value, "le": s.edge, **s.labels} for s in self.lines]
        return Table(rows, columns=None if rows else ["metric", "pod", "value", "le"])

    @cached_property
    def requests(self) -> Table:
        """HTTP and gRPC requests."""
        counts: dict[tuple[str, ...], float] = defaultdict(float)
        for sample in self.lines:
            if sample.name == names.REQUESTS:
                labels = sample.labels
                key = (*_edge(labels), labels.get("request_protocol", ""), labels.get("response_code", ""))
                counts[(*key, labels.get("response_flags", ""))] += sample.value
        rows = [(*key, count) for key, count in sorted(counts.items()) if count]
        return self._frame(REQUESTS, rows, "requests")

    @cached_property
    def connections(self) -> Table:
        """Connections that carry what the mesh does not read: TCP, and TLS of the applications."""
        counts: dict[tuple[str, ...], dict[str, float]] = defaultdict(lambda: dict.fromkeys(_TCP.values(), 0.0))
        for sample in self.lines:
            if sample.name in _TCP:
                key = (*_edge(sample.labels), sample.labels.get("response_flags", ""))
                counts[key][_TCP[sample.name]] += sample.value
        rows = [(*key, *values.values()) for key, values in sorted(counts.items()) if any(values.values())]
        return self._frame(CONNECTIONS, rows, "opened")

    def _frame(self, columns: tuple[str, ...], rows: list[tuple[Any, ...]], counted: str) -> Table:
        frame = Table(rows, columns=list(columns))
        for name in columns:
            if name in ("requests", *_TCP.values()):
                frame[name] = frame[name].astype("int64")
        if self.seconds:
            frame["per_second"] = (frame[counted] / self.seconds).round(3)
        return frame

    # -- answers

    def by(self, *columns: str, reporter: str = SERVERS) -> Table:
        """Requests grouped by some columns of `.requests`, and their share; of what the servers counted."""
        columns, frame = columns or ("connection_security_policy",), self.requests
        for name in columns:
            if name not in REQUESTS[:-1]:
                raise InputError(
                    f"Requests have no column {name!r}.", next_step=f"Columns: {', '.join(REQUESTS[:-1])}."
                )
        chosen = frame[frame["reporter"] == reporter]
        return self._shares(chosen, list(columns))

    def success(self) -> Table:
        """Edge by edge, the share of requests that did not fail (no answer, or a code of 500 and more)."""
        frame = _told_best(self.requests)
        failed = [
            is_failure(str(c), str(f)) for c, f in zip(frame["response_code"], frame["response_flags"], strict=True)
        ]
        frame = frame.assign(failed=frame["requests"].where(pd.Series(failed, index=frame.index), 0))
        grouped = frame.groupby([*EDGE, "reporter"], sort=True)[["requests", "failed"]].sum().reset_index()
        grouped["success_rate"] = (1 - grouped["failed"] / grouped["requests"]).round(4)
        return self._rated(Table(grouped).rename(columns={"reporter": "told_by"}))

    def plaintext(self, top: int = 10) -> Table:
        """Who talks in plaintext: requests and TCP connections that servers took without mTLS, most first."""
        requests = self.requests.rename(columns={"requests": "count"}).assign(what="requests")
        opened = self.connections.rename(columns={"opened": "count"}).assign(what="connections")
        columns = [*EDGE, "service", "what"]
        found = pd.concat(
            [one[[*columns, "reporter", "connection_security_policy", "count"]] for one in (requests, opened)]
        )
        found = found[found["reporter"] == SERVERS]
        every = found.groupby(columns[1:])["count"].sum().rename("all")
        plain = found[found["connection_security_policy"] != MTLS].groupby(columns)["count"].sum().reset_index()
        plain = plain[plain["count"] > 0].join(every, on=columns[1:])
        plain["share_of_server"] = (plain["count"] / plain["all"]).round(4)
        first = plain.sort_values(["count", *columns], ascending=[False, *[True] * len(columns)]).head(top)
        return self._rated(Table(first.drop(columns="all").reset_index(drop=True)), "count")

    def latency(self, *quantiles: float, by: Iterable[str] = EDGE, reporter: str = SERVERS) -> Table:
        """How long requests took, in milliseconds: quantiles by linear interpolation within Istio's buckets."""
        wanted, columns = quantiles or (0.5, 0.9, 0.99), tuple(by)
        buckets: dict[tuple[str, ...], dict[float, float]] = defaultdict(lambda: defaultdict(float))
        for sample in self.durations().samples if self.durations else self.lines:
            if sample.name == f"{names.DURATION}_bucket" and sample.labels.get("reporter") == reporter:
                buckets[_columns_of(sample.labels, columns)][float(sample.edge)] += sample.value
        rows = [
            (*key, *(round(quantile(q, edges.items()), 2) for q in wanted), int(max(edges.values())))
            for key, edges in sorted(buckets.items())
            if max(edges.values())
        ]
        return self._rated(Table(rows, columns=[*columns, *(f"p{q * 100:g}_ms" for q in wanted), "requests"]))

    def _shares(self, frame: pd.DataFrame, columns: list[str]) -> Table:
        grouped = frame.groupby(columns, sort=True)["requests"].sum().reset_index()
        total = grouped["requests"].sum()
        grouped["share"] = (grouped["requests"] / total).round(4) if total else 0.0
        return self._rated(Table(grouped))

    def _rated(self, frame: Table, counted: str = "requests") -> Table:
        return frame.assign(per_second=(frame[counted] / self.seconds).round(3)) if self.seconds else frame

    # -- for the eye

    @property
    def title(self) -> str:
        """What was counted, and since when."""
        proxies = f"{self.proxies} {'proxy' if self.proxies == 1 else 'proxies'}"
        return f"{proxies}, within {self.seconds:.1f} s" if self.seconds else f"{proxies}, since each was started"

    def notes(self) -> list[str]:
        """What a reader should know: who did not answer."""
        return [f"{pod} is missing: {why}" for pod, why in sorted(self.unanswered.items())]

    def _shown(self) -> list[Table]:
        frames = [self.requests, *([self.connections] if len(self.connections) else [])]
        return frames if len(frames[0]) or len(frames) > 1 else []

    def __str__(self) -> str:
        nothing = [] if self._shown() else ["Nothing was counted: no request met a proxy."]
        return "\n\n".join([self.title, *map(str, self._shown()), *nothing, *self.notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        nothing = [] if self._shown() else ["Nothing was counted: no request met a proxy."]
        colour = ORANGE if self.unanswered else BLUE
        head = card(self.title, [*nothing, *self.notes()], (), colour=colour)
        return head + "".join(frame._repr_html_() for frame in self._shown())


def _edge(labels: Labels) -> tuple[str, ...]:
    return (
        workload_of(labels, "source"),
        workload_of(labels, "destination"),
        service_of(labels),
        labels.get("reporter", ""),
        labels.get("connection_security_policy", ""),
    )


_COMPUTED: dict[str, Callable[[Labels], str]] = {
    "source": lambda labels: workload_of(labels, "source"),
    "destination": lambda labels: workload_of(labels, "destination"),
    "service": service_of,
}


def _columns_of(labels: Labels, columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_COMPUTED[name](labels) if name in _COMPUTED else labels.get(name, "") for name in columns)


def _told_best(frame: pd.DataFrame) -> pd.DataFrame:
    """Each request once: as its client's proxy saw it; of callers without a proxy, as the server's did."""
    known = set(frame.loc[frame["reporter"] == CLIENTS, "source"])
    by_server = (frame["reporter"] == SERVERS) & ~frame["source"].isin(known)
    return frame[(frame["reporter"] == CLIENTS) | by_server]
