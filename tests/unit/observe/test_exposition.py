"""The reader of metrics pages against prometheus_client's own parser, and against pages that are none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from labkit.observe.exposition import read_page

NAMES = st.sampled_from(["istio_requests_total", "istio_bytes_bucket", "up", "a:b"])
LABELS = st.dictionaries(st.sampled_from(["reporter", "source_app", "x", "_y"]), st.text(max_size=8), max_size=4)
VALUES = st.floats(allow_nan=False)


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def line(name: str, labels: dict[str, str], value: object) -> str:
    written = ",".join(f'{key}="{escaped(each)}"' for key, each in labels.items())
    return f"{name}{{{written}}} {value}"


def theirs(text: str) -> list[tuple[str, dict[str, str], float]]:
    return [(s.name, dict(s.labels), s.value) for f in text_string_to_metric_families(text) for s in f.samples]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(NAMES, LABELS, VALUES), min_size=1, max_size=4))
def test_it_reads_what_prometheus_reads(samples: list[tuple[str, dict[str, str], float]]) -> None:
    text = "".join(f"{line(*one)}\n" for one in samples)
    assert [(s.name, dict(s.labels), s.value) for s in read_page(text)] == samples
    assert sorted(theirs(text), key=repr) == sorted(samples, key=repr)


def test_the_edge_of_a_bucket_is_no_label_of_its_series() -> None:
    text = 'd_bucket{a="1",le="0.5"} 3\nd_bucket{a="1",le="+Inf"} 4\nd_sum{a="1"} 7.5\nd_bucket{le="1"} 2\n'
    found = list(read_page(text, "foo/a-1"))
    assert [(s.edge, dict(s.labels), s.value) for s in found] == [
        ("0.5", {"a": "1"}, 3),
        ("+Inf", {"a": "1"}, 4),
        ("", {"a": "1"}, 7.5),
        ("1", {}, 2),
    ]
    assert found[0].labels is found[1].labels
    assert found[0].pod == "foo/a-1"


@pytest.mark.parametrize("text", ["", "# TYPE a counter\n", "Not found\n", 'a{b="1" 3\n', "a{} many\n", "<html>\n\n"])
def test_what_is_no_sample_is_skipped(text: str) -> None:
    assert not list(read_page(text))


def test_timestamps_and_values_without_a_number_to_add() -> None:
    assert [s.value for s in read_page("a 1 1395066363000\nb{} +Inf\nc{ } 2e3\n")] == [1.0, float("inf"), 2000.0]
