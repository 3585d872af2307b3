"""Strategic merge patch, clause by clause."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.embedded.apiserver.failures import StatusError
from labkit.embedded.apiserver.patches import JSON_PATCH, apply_patch, merge_patch
from labkit.embedded.apiserver.resources import BUILTIN
from labkit.embedded.apiserver.strategic import strategic_merge

POD: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}, "finalizers": ["x"]},
    "spec": {
        "containers": [{"name": "one", "image": "a", "args": ["1"]}, {"name": "two", "image": "b"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    },
}


@pytest.mark.parametrize(
    ("patch", "containers"),
    [
        ([{"name": "two", "image": "c"}], [("one", "a"), ("two", "c")]),
        ([{"name": "three", "image": "c"}], [("one", "a"), ("two", "b"), ("three", "c")]),
        ([{"name": "one", "$patch": "delete"}], [("two", "b")]),
        ([{"$patch": "replace"}, {"name": "only", "image": "c"}], [("only", "c")]),
        ([], [("one", "a"), ("two", "b")]),
    ],
    ids=["merged-by-name", "added", "deleted", "replaced", "empty-changes-nothing"],
)
def test_containers(patch: Any, containers: Any) -> None:
    result = strategic_merge("V1Pod", POD, {"spec": {"containers": patch}})
    assert [(c["name"], c["image"]) for c in result["spec"]["containers"]] == containers


def test_a_list_of_plain_values_is_replaced() -> None:
    result = strategic_merge("V1Pod", POD, {"spec": {"containers": [{"name": "one", "args": ["2"]}]}})
    assert result["spec"]["containers"][0]["args"] == ["2"]


def test_a_set_grows_and_loses_by_directive() -> None:
    assert strategic_merge("V1Pod", POD, {"metadata": {"finalizers": ["y"]}})["metadata"]["finalizers"] == ["x", "y"]
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"]}}
    assert strategic_merge("V1Pod", POD, gone)["metadata"]["finalizers"] == []


def test_order_follows_its_directive() -> None:
    patch = {"spec": {"$setElementOrder/containers": [{"name": "two"}, {"name": "one"}]}}
    result = strategic_merge("V1Pod", POD, patch)
    assert [c["name"] for c in result["spec"]["containers"]] == ["two", "one"]


def test_retained_keys_drop_the_others() -> None:
    patch = {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}
    assert strategic_merge("V1Pod", POD, patch)["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/"}}]


def test_an_item_without_its_key_is_refused() -> None:
    with pytest.raises(StatusError) as caught:
        strategic_merge("V1Pod", POD, {"spec": {"containers": [{"image": "x"}]}})
    assert "does not contain declared merge key: name" in caught.value.message


def test_null_removes_a_field() -> None:
    assert "labels" not in strategic_merge("V1Pod", POD, {"metadata": {"labels": None}})["metadata"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc$"), inner, max_size=3),
    max_leaves=12,
)
maps = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


@given(maps, maps)
def test_a_merge_patch_applied_twice_is_as_good_as_once(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(maps)
def test_a_merge_patch_of_everything_makes_the_patch(patch: Any) -> None:
    assert merge_patch({}, patch) == _without_nulls(patch)


@given(maps, json_values)
def test_any_json_patch_is_applied_or_refused(target: Any, patch: Any) -> None:
    try:
        assert isinstance(apply_patch(BUILTIN[1], JSON_PATCH, target, patch), dict)
    except StatusError as failure:
        assert failure.code in (400, 413, 422)


operations = st.lists(
    st.fixed_dictionaries(
        {
            "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]) | json_values,
            "path": st.sampled_from(["", "/", "/a", "/a/0", "/a/-", "/b/c", "a", "/~2"]) | json_values,
        },
        optional={"value": json_values, "from": st.sampled_from(["", "/a", "/b", "x"]) | json_values},
    ),
    max_size=4,
)


@given(maps, operations)
def test_any_json_patch_operations_are_applied_or_refused(target: Any, patch: Any) -> None:
    try:
        assert isinstance(apply_patch(BUILTIN[1], JSON_PATCH, target, patch), dict)
    except StatusError as failure:
        assert failure.code in (400, 422)


@given(maps)
def test_any_strategic_patch_is_applied_or_refused(patch: Any) -> None:
    try:
        assert isinstance(strategic_merge("V1Pod", POD, {"spec": {"containers": [patch]}, "metadata": patch}), dict)
    except StatusError as failure:
        assert failure.code == 400
