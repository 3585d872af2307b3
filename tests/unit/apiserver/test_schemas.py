"""openAPIV3Schema: pruning, defaults, and every keyword's refusal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.embedded.apiserver.schemas import check_schema, fill_defaults, prune


@pytest.mark.parametrize(
    ("schema", "good", "bad", "words"),
    [
        ({"type": "string"}, "x", 1, 'must be of type string: "integer"'),
        ({"type": "integer"}, 2.0, 2.5, 'must be of type integer: "number"'),
        ({"type": "boolean"}, True, "true", 'must be of type boolean: "string"'),
        ({"type": "object"}, {}, [], 'must be of type object: "array"'),
        ({"type": "string", "enum": ["A", "B"]}, "A", "a", 'Unsupported value: "a": supported values: "A", "B"'),
        ({"type": "string", "minLength": 2}, "ab", "a", "should be at least 2 chars long"),
        ({"type": "string", "maxLength": 2}, "ab", "abc", "Too long: may not be more than 2"),
        ({"type": "integer", "exclusiveMinimum": True, "minimum": 0}, 1, 0, "should be greater than 0"),
        ({"type": "integer", "multipleOf": 2}, 4, 3, "should be a multiple of 2"),
        ({"type": "array", "maxItems": 1}, [1], [1, 2], "Too many: 2: must have at most 1 items"),
        ({"type": "array", "uniqueItems": True}, [1, 2], [1, 1], "shouldn't contain duplicates"),
        ({"type": "object", "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}, "must have at most 1 properties"),
        ({"type": "object", "required": ["a"]}, {"a": 1}, {}, "p.a: Required value"),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, {"a": 1, "b": 1}, "(oneOf)"),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, {}, "(anyOf)"),
        ({"not": {"required": ["a"]}}, {}, {"a": 1}, "must not validate the schema (not)"),
        ({"type": "string", "format": "date-time"}, "2024-01-01T00:00:00Z", "soon", "must be of type date-time"),
        ({"type": "integer", "format": "int32"}, 2**31 - 1, 2**31, "must be of type int32"),
        ({"type": "string", "nullable": True}, None, 1, "must be of type string"),
    ],
)
def test_a_keyword_accepts_and_refuses(schema: Any, good: Any, bad: Any, words: str) -> None:
    assert check_schema(schema, good, "p") == []
    assert words in "; ".join(map(str, check_schema(schema, bad, "p")))


def test_pruning_keeps_what_is_known_and_names_the_rest() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}}
    unknown: list[str] = []
    assert prune(schema, {"a": [{"x": 1}], "b": 2}, "", unknown) == {"a": [{}]}
    assert unknown == ["a[0].x", "b"]


def test_preserved_fields_stay() -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    assert prune(schema, {"b": {"c": 1}}, "", []) == {"b": {"c": 1}}


def test_defaults_are_filled_into_what_is_there_and_not_above_it() -> None:
    inner = {"type": "object", "properties": {"x": {"type": "integer", "default": 1}}}
    value: dict[str, Any] = {"there": {}}
    fill_defaults({"type": "object", "properties": {"there": inner, "absent": inner}}, value)
    assert value == {"there": {"x": 1}}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)
SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "array", "items": {"type": "string", "pattern": "x"}},
        "b": {"minimum": 1, "enum": [1]},
    },
}


@given(values)
def test_any_value_is_accepted_or_refused(value: Any) -> None:
    assert isinstance(check_schema(SCHEMA, prune(SCHEMA, value, "", []), ""), list)
