"""The same question in PromQL and over readings of our own."""

from __future__ import annotations

import pytest

from labkit.observe.exposition import Sample, read_page
from labkit.observe.metrics import Scrape
from labkit.observe.questions import NAME, Point, Question, answer, matches, promql


def reading(at: float, text: str) -> Scrape:
    return Scrape(tuple(read_page(text, "foo/a-1")), {"foo/a-1": at})


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question("up", how="gauge"), "sum(up{})"),
        (Question("a_total", ("x",), {"r": "source|waypoint"}), 'sum by (x) (rate(a_total{r=~"source|waypoint"}[1m]))'),
        (
            Question("a_total", ("x",), {"r": "d"}, "share", {"code": "!5.."}),
            'sum by (x) (rate(a_total{r=~"d",code!~"5.."}[1m])) / sum by (x) (rate(a_total{r=~"d"}[1m]))',
        ),
        (
            Question("d", ("x",), {}, "quantile", share=0.9, scale=1000),
            "(histogram_quantile(0.9, sum by (le, x) (rate(d_bucket{}[1m])))) * 1000",
        ),
        (
            Question("wasm_(v8|null)_active", (NAME,), how="gauge"),
            'sum by (__name__) ({__name__=~"wasm_(v8|null)_active"})',
        ),
        (Question("a", (), {"x": 'say "\\d"'}, "gauge"), 'sum(a{x=~"say \\"\\\\d\\""})'),
    ],
)
def test_in_promql(question: Question, expected: str) -> None:
    assert promql(question) == expected


FIRST = 'a_total{x="1",code="200"} 10\na_total{x="2",code="503"} 0\n'
SECOND = 'a_total{x="1",code="200"} 20\na_total{x="2",code="503"} 5\na_total{x="1",code="500"} 10\n'


def test_rates_between_readings() -> None:
    readings = [reading(100, FIRST), reading(110, SECOND)]
    assert answer(Question("a_total", ("x",)), readings, clock=1000) == [
        Point(("1",), 1110, 2.0),
        Point(("2",), 1110, 0.5),
    ]
    assert answer(Question("a_total", (), {"code": "!5.."}), readings) == [Point((), 110, 1.0)]
    assert not answer(Question("a_total"), readings[:1])


def test_shares_of_a_rate() -> None:
    readings = [reading(100, FIRST), reading(110, SECOND), reading(120, SECOND)]
    found = answer(Question("a_total", ("x",), how="share", part={"code": "!5.."}), readings)
    # In the second interval nothing came: there is no share of nothing.
    assert found == [Point(("1",), 110, 0.5), Point(("2",), 110, 0.0)]


def test_levels_and_names() -> None:
    text = "wasm_v8_active 2\nwasm_null_active 1\nother 9\n"
    found = answer(Question("wasm_(v8|null)_active", (NAME,), how="gauge", scale=10), [reading(1, text)])
    assert found == [Point(("wasm_null_active",), 1, 10.0), Point(("wasm_v8_active",), 1, 20.0)]


def test_quantiles_are_of_the_time_between() -> None:
    before = 'd_bucket{le="10"} 100\nd_bucket{le="20"} 100\nd_bucket{le="+Inf"} 100\n'
    after = 'd_bucket{le="10"} 100\nd_bucket{le="20"} 110\nd_bucket{le="+Inf"} 110\n'
    question = Question("d", how="quantile", share=0.5)
    assert answer(question, [reading(1, before), reading(2, after)]) == [Point((), 2, 15.0)]
    assert not answer(question, [reading(1, before), reading(2, before)])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, True),
        ({"code": "2.."}, True),
        ({"code": "2"}, False),
        ({"code": "!5.."}, True),
        ({"code": "!2.*"}, False),
        ({"absent": ""}, True),
        ({"absent": "x"}, False),
        ({"absent": "!x"}, True),
        ({"code": "200", "absent": "x"}, False),
    ],
)
def test_labels_match_as_a_whole_and_an_absent_one_is_empty(where: dict[str, str], expected: bool) -> None:
    assert matches(where, {"code": "200"}) is expected


def test_a_sample_keeps_its_series() -> None:
    assert Sample("a", {}, 1).series == ""
