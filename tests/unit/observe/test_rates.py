"""Increases between two readings: resets, new series, proxies that came and went; and quantiles."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.observe.exposition import Sample, read_page
from labkit.observe.metrics import UPTIME, Scrape, mended
from labkit.observe.rates import increase, quantile


def read(at: float, failed: dict[str, str] | None = None, /, **pages: str) -> Scrape:
    samples = tuple(s for pod, text in pages.items() for s in read_page(text, pod))
    return Scrape(samples, dict.fromkeys(pages, at), failed or {})


def added(before: Scrape, after: Scrape) -> dict[tuple[str, str], float]:
    return {(s.pod, s.series): s.value for s in increase(before, after).samples}


def page(*counts: float, uptime: float = 1000) -> str:
    lines = [f'istio_requests_total{{n="{i}"}} {count:g}\n' for i, count in enumerate(counts)]
    return "".join([*lines, f"{UPTIME} {uptime:g}\n"])


def test_a_counter_that_grew_stood_still_or_is_new() -> None:
    found = increase(read(10, a=page(5, 7)), read(14, a=page(9, 7, 2)))
    assert [s.value for s in found.samples] == [4, 0, 2]
    assert (found.seconds, found.pods, dict(found.missing)) == (4, {"a"}, {})


def test_a_counter_that_is_smaller_was_reset() -> None:
    assert added(read(10, a=page(100)), read(14, a=page(3)))["a", 'n="0"'] == 3


def test_after_a_restart_nothing_of_before_is_subtracted() -> None:
    # Without the uptime, 120 would look like 20 more than 100.
    assert added(read(10, a=page(100)), read(70, a=page(120, uptime=30)))["a", 'n="0"'] == 120
    assert added(read(10, a=page(100)), read(70, a=page(120, uptime=90)))["a", 'n="0"'] == 20


def test_a_proxy_that_was_started_in_between_counts_whole() -> None:
    found = increase(read(10, a=page(1)), read(70, a=page(1), b=page(4, uptime=5)))
    assert {s.pod: s.value for s in found.samples} == {"a": 0, "b": 4}
    assert not found.missing


def test_a_proxy_that_did_not_answer_once_is_missing() -> None:
    before, after = (
        read(10, {"b": "it was asleep"}, a=page(1), c=page(1)),
        read(20, {"c": "gone"}, a=page(2), b=page(9)),
    )
    found = increase(before, after)
    assert {s.pod for s in found.samples} == {"a"}
    assert dict(found.missing) == {"b": "it did not answer at the first reading", "c": "gone"}


def test_names_with_envoy_s_prefix_are_istio_s() -> None:
    sample = Sample("envoy_istio_requests_total", {}, 1)
    assert mended(sample).name == "istio_requests_total"
    assert mended(Sample("envoy_server_uptime", {}, 1)).name == "envoy_server_uptime"


BUCKETS = [(1.0, 0.0), (5.0, 10.0), (10.0, 20.0), (math.inf, 20.0)]


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [  # computed with promql's histogram_quantile
        (0.5, BUCKETS, 5.0),
        (0.25, BUCKETS, 3.0),
        (0.9, BUCKETS, 9.0),
        (1.0, BUCKETS, 10.0),
        (0.5, [(1.0, 4.0), (math.inf, 4.0)], 0.5),
        (0.99, [(1.0, 1.0), (math.inf, 10.0)], 1.0),
    ],
)
def test_quantiles_lie_within_their_bucket(share: float, buckets: list[tuple[float, float]], expected: float) -> None:
    assert quantile(share, buckets) == pytest.approx(expected)
    assert quantile(share, reversed(buckets)) == pytest.approx(expected)


def test_nothing_observed_has_no_quantile() -> None:
    assert math.isnan(quantile(0.5, [])) and math.isnan(quantile(0.5, [(1.0, 0.0), (math.inf, 0.0)]))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_larger_share_has_no_smaller_quantile(counts: list[int], one: float, other: float) -> None:
    edges = [*(float(i + 1) for i in range(len(counts))), math.inf]
    total, buckets = 0, []
    for edge, count in zip(edges, [*counts, 0], strict=True):
        total += count
        buckets.append((edge, float(total)))
    if total:
        low, high = sorted((one, other))
        assert quantile(low, buckets) <= quantile(high, buckets) <= len(counts)
