"""Questions about metrics, asked once and answered twice: by readings of our own, or by Prometheus in PromQL. Pure.

A question names a metric, which of its series count, by what they are grouped, and how their values become a line:

rate       what is added in a second
gauge      the value itself
quantile   of a histogram, within the time between two points
share      of the rate, what matches `part`
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from labkit.observe.exposition import Labels, Sample
from labkit.observe.metrics import Scrape
from labkit.observe.rates import increase, quantile

How = Literal["rate", "gauge", "quantile", "share"]
Where = Mapping[str, str]
"""Labels and the regular expression that each must match as a whole; with `!` before it, must not match."""

NAME = "__name__"
"""In `by`: group by the metric's own name, where several names match."""


@dataclass(frozen=True)
class Question:
    """See the module's docstring. `scale` multiplies: 1000 makes milliseconds of seconds."""

    metric: str
    by: tuple[str, ...] = ()
    where: Where = field(default_factory=dict)
    how: How = "rate"
    part: Where = field(default_factory=dict)
    share: float = 0.5
    scale: float = 1.0
    name: str = ""
    """What the line is called, where nothing is grouped or several questions share a picture."""


@dataclass(frozen=True)
class Point:
    """One point of one line: the values of `by`, the time (seconds since 1970), the value."""

    group: tuple[str, ...]
    time: float
    value: float


# -- in PromQL


def promql(question: Question, window: str = "1m") -> str:
    """The question as Prometheus understands it; rates over `window`."""
    by = list(question.by)
    if question.how == "quantile":
        inner = f"sum by ({', '.join(['le', *by])}) (rate({_selector(question, '_bucket')}[{window}]))"
        text = f"histogram_quantile({question.share:g}, {inner})"
    elif question.how == "gauge":
        text = _summed(_selector(question), by)
    elif question.how == "rate":
        text = _summed(f"rate({_selector(question)}[{window}])", by)
    else:
        part = Question(question.metric, where={**question.where, **question.part})
        text = f"{_summed(f'rate({_selector(part)}[{window}])', by)} / "
        text += _summed(f"rate({_selector(question)}[{window}])", by)
    return text if question.scale == 1 else f"({text}) * {question.scale:g}"


def _selector(question: Question, suffix: str = "") -> str:
    matchers = [_matcher(name, wanted) for name, wanted in question.where.items()]
    if re.fullmatch(r"\w+", question.metric):
        return f"{question.metric}{suffix}{{{','.join(matchers)}}}"
    return "{" + ",".join([f'{NAME}=~"{question.metric}"', *matchers]) + "}"


def _matcher(name: str, wanted: str) -> str:
    sign, pattern = ("!~", wanted[1:]) if wanted.startswith("!") else ("=~", wanted)
    escaped = pattern.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}{sign}"{escaped}"'


def _summed(inner: str, by: Sequence[str]) -> str:
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


# -- from readings of our own


def answer(question: Question, readings: Sequence[Scrape], clock: float = 0.0) -> list[Point]:
    """The points that readings one after the other give; `clock` is what the monotonic clock began at."""
    if question.how == "gauge":
        return [
            Point(group, clock + _moment(one), value * question.scale)
            for one in readings
            for group, value in sorted(_added(question, one.samples).items())
        ]
    points: list[Point] = []
    for before, after in pairwise(readings):
        added = increase(before, after)
        for group, value in sorted(_between(question, added.samples, added.seconds).items()):
            if not math.isnan(value):
                points.append(Point(group, clock + _moment(after), value * question.scale))
    return points


def _between(question: Question, samples: Iterable[Sample], seconds: float) -> dict[tuple[str, ...], float]:
    samples = list(samples)
    if question.how == "quantile":
        buckets: dict[tuple[str, ...], dict[float, float]] = defaultdict(lambda: defaultdict(float))
        for sample in samples:
            if sample.name == f"{question.metric}_bucket" and matches(question.where, sample.labels):
                buckets[_group(question, sample)][float(sample.edge)] += sample.value
        return {group: quantile(question.share, edges.items()) for group, edges in buckets.items()}
    every = _added(question, samples)
    if question.how == "share":
        part = _added(Question(question.metric, question.by, {**question.where, **question.part}), samples)
        return {group: part.get(group, 0.0) / value if value else math.nan for group, value in every.items()}
    return {group: value / seconds if seconds else math.nan for group, value in every.items()}


def _added(question: Question, samples: Iterable[Sample]) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = defaultdict(float)
    pattern = re.compile(question.metric)
    for sample in samples:
        if pattern.fullmatch(sample.name) and matches(question.where, sample.labels):
            found[_group(question, sample)] += sample.value
    return found


def _group(question: Question, sample: Sample) -> tuple[str, ...]:
    return tuple(sample.name if name == NAME else sample.labels.get(name, "") for name in question.by)


def matches(where: Where, labels: Labels) -> bool:
    """Whether all labels are as wanted; a label that is not there is empty, as in PromQL."""
    for name, wanted in where.items():
        negative = wanted.startswith("!")
        if bool(re.fullmatch(wanted[negative:], labels.get(name, ""))) is negative:
            return False
    return True


def _moment(scrape: Scrape) -> float:
    return sum(scrape.times.values()) / len(scrape.times) if scrape.times else 0.0
