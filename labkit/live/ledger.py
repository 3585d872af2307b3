"""What was counted, second by second, for the last quarter of an hour. Pure: the time is handed in."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from labkit.outcomes import Outcome
from labkit.views.map import Counts
from labkit.views.timeline import Mark, Second, Series

KEPT_SECONDS = 900
WINDOW_SECONDS = 10

Edge = tuple[str, str]
"""(client, server), each `namespace/workload`."""

_MTLS, _PLAINTEXT, _REFUSED, _UNKNOWN, _FAILED = range(5)
_COLUMN = {Outcome.MTLS: _MTLS, Outcome.PLAINTEXT: _PLAINTEXT, Outcome.REFUSED: _REFUSED}


@dataclass(frozen=True)
class Sighting:
    """Some requests of one edge that were carried in one way."""

    client: str
    server: str
    outcome: Outcome
    number: int = 1
    failed: int = 0  # of these: answered, and not with success
    probe: bool = False  # labkit's own single request: on the timeline, and not in the rate of the edge


class Ledger:
    """Counts of edges by the second. Several threads write and read."""

    def __init__(self, kept: int = KEPT_SECONDS) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._seconds: deque[tuple[int, dict[Edge, list[int]], dict[Edge, list[int]]]] = deque(maxlen=kept)
        self._marks: deque[Mark] = deque(maxlen=60)
        self.version = 0

    def add(self, sighting: Sighting, at: float) -> None:
        """Count what was seen at a time, in seconds since the epoch."""
        column = _COLUMN.get(sighting.outcome, _UNKNOWN)
        with self._lock:
            _, traffic, probes = self._second(int(at))
            row = (probes if sighting.probe else traffic).setdefault((sighting.client, sighting.server), [0] * 5)
            row[column] += sighting.number
            row[_FAILED] += sighting.failed
            self.version += 1

    def mark(self, text: str, at: float) -> None:
        """Remember that something was changed."""
        with self._lock:
            if not (self._marks and self._marks[-1].text == text and at - self._marks[-1].at < 1):
                self._marks.append(Mark(at, text))
                self.version += 1

    def counted(self, now: float, window: int = WINDOW_SECONDS, since: float = 0.0) -> dict[Edge, Counts]:
        """The counts of each edge in the last `window` whole seconds, and not before `since`."""
        first = max(int(now) - window, int(since))
        length = max(1.0, min(now - first, window))
        totals: dict[Edge, list[int]] = {}
        with self._lock:
            for second, traffic, _ in self._recent(first):
                if second > now:
                    continue
                for edge, row in traffic.items():
                    total = totals.setdefault(edge, [0] * 5)
                    for column, number in enumerate(row):
                        total[column] += number
        return {
            edge: Counts(
                mtls=row[_MTLS],
                plaintext=row[_PLAINTEXT],
                refused=row[_REFUSED],
                failed=row[_FAILED],
                unknown=row[_UNKNOWN],
                window=length,
            )
            for edge, row in totals.items()
        }

    def series(self, now: float) -> Series:
        """Everything per second, with the marks, for the timeline."""
        with self._lock:
            seconds = [self._sum(second, traffic, probes) for second, traffic, probes in self._seconds]
            marks = [mark for mark in self._marks if mark.at > now - self._kept]
        return Series(now, self._kept, tuple(one for one in seconds if one.at > now - self._kept), tuple(marks))

    def _second(self, at: int) -> tuple[int, dict[Edge, list[int]], dict[Edge, list[int]]]:
        for entry in reversed(self._seconds):
            if entry[0] == at:
                return entry
            if entry[0] < at:
                break
        entry = (at, {}, {})
        self._seconds.append(entry)  # a late one lands a place too far, which no sum sees
        return entry

    def _recent(self, first: int) -> Iterator[tuple[int, dict[Edge, list[int]], dict[Edge, list[int]]]]:
        for entry in reversed(self._seconds):
            if entry[0] <= first:
                return
            yield entry

    def _sum(self, at: int, *parts: dict[Edge, list[int]]) -> Second:
        rows = [row for part in parts for row in part.values()]
        total = [sum(row[column] for row in rows) for column in range(5)]
        good = total[_MTLS] + total[_PLAINTEXT] + total[_UNKNOWN] - total[_FAILED]
        return Second(at, max(good, 0), total[_MTLS], total[_PLAINTEXT], total[_REFUSED])
