"""What counters say between two readings: increases, and quantiles of histograms. Pure.

1. A counter only grows. One that is smaller than before has been reset, and so have all of that proxy when its
   uptime says that it was started in between: then what it shows now was counted since
   (https://prometheus.io/docs/prometheus/latest/querying/functions/#increase).
2. A series that was not there before was zero: a proxy shows each one from its first request on.
3. A proxy that was not read before, or is not read now, tells nothing about the time between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from labkit.observe.exposition import Sample
from labkit.observe.metrics import UPTIME, Scrape

GAUGES = frozenset({UPTIME})


@dataclass(frozen=True)
class Increase:
    """What was added between two readings, `seconds` apart. `missing` names the proxies that only one of them has."""

    samples: tuple[Sample, ...]
    seconds: float
    pods: frozenset[str]
    missing: Mapping[str, str]


Key = tuple[str, str, str, str]


def increase(before: Scrape, after: Scrape) -> Increase:
    """The counts that were added from one reading to the next; series that stood still have 0."""
    began = _began_since(before, after)
    told = (before.times.keys() & after.times.keys()) | began
    earlier = {_key(one): one.value for one in before.samples if one.pod not in began}
    found = []
    for one in after.samples:
        if one.pod in told and one.name not in GAUGES:
            was = earlier.get(_key(one), 0.0)
            found.append(replace(one, value=one.value - was if one.value >= was else one.value))
    missing = {
        **dict.fromkeys(after.times.keys() - told, "it did not answer at the first reading"),
        **dict.fromkeys(before.times.keys() - after.times.keys(), "it did not answer at the second reading"),
    }
    spans = [after.times[pod] - before.times[pod] for pod in before.times.keys() & after.times.keys()]
    seconds = sum(spans) / len(spans) if spans else 0.0
    return Increase(tuple(found), seconds, frozenset(told), {**missing, **after.failed})


def _key(sample: Sample) -> Key:
    return sample.pod, sample.name, sample.series, sample.edge


def _began_since(before: Scrape, after: Scrape) -> set[str]:
    """The proxies that were started between the two readings; the uptime is in whole seconds."""
    first = min(before.times.values(), default=0.0)
    uptimes = {one.pod: one.value for one in after.samples if one.name == UPTIME}
    return {
        pod
        for pod, uptime in uptimes.items()
        if uptime + 1 < after.times[pod] - before.times.get(pod, first) and pod not in before.failed
    }


def quantile(share: float, buckets: Iterable[tuple[float, float]]) -> float:
    """The value below which `share` of the observations lie, from (upper edge, count up to there).

    As Prometheus' histogram_quantile: linear within a bucket; in the last one, which has no upper edge, its lower
    edge. NaN when nothing was observed.
    """
    ordered = sorted(buckets)
    total = ordered[-1][1] if ordered else 0.0
    if total <= 0:
        return math.nan
    rank = share * total
    lower, below = 0.0, 0.0
    for edge, count in ordered:
        if count >= rank and count > below:
            if math.isinf(edge):
                return lower
            return lower + (edge - lower) * max(rank - below, 0.0) / (count - below)
        lower, below = (edge if not math.isinf(edge) else lower), count
    return lower
