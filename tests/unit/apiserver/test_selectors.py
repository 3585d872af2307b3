"""Label and field selectors as pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.embedded.apiserver.failures import StatusError
from labkit.embedded.apiserver.selectors import parse_fields, parse_labels, selector_test


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a!=1", {}, True),
        ("a in (1,2)", {"a": "2"}, True),
        ("a notin (1,2)", {}, True),
        ("a notin (1,2)", {"a": "1"}, False),
        ("a>3", {"a": "4"}, True),
        ("a>3", {"a": "x"}, False),
        ("example.com/a=b,c", {"example.com/a": "b", "c": ""}, True),
        ("a in (1),b", {"a": "1"}, False),
        ("a=", {"a": ""}, True),
    ],
)
def test_a_label_selector_takes_what_it_says(text: str, labels: dict[str, str], expected: bool) -> None:
    assert parse_labels(text)(labels) is expected


@pytest.mark.parametrize("text", [",", "a,", "=1", "a=b=c", "a in", "a in b", "(a)", "a b", "!"])
def test_what_cannot_be_read_is_a_bad_request(text: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_labels(text)
    assert caught.value.code == 400


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_labels(text)({"a": "b"})
        parse_fields(text, "/pods")({"metadata": {"name": "a"}})
    except StatusError as failure:
        assert failure.code == 400


def test_a_selector_object_needs_all_its_parts() -> None:
    test = selector_test({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]})
    assert test({"a": "1", "b": ""})
    assert not test({"a": "1"})
    assert selector_test({})({})


def test_fields_are_compared_as_text() -> None:
    assert parse_fields("status.phase!=Failed,spec.nodeName=n", "/pods")({"spec": {"nodeName": "n"}, "status": {}})
    assert not parse_fields("spec.unschedulable=true", "/nodes")({"spec": {"unschedulable": False}})
