"""Sets of fields: what an object sets, what changed, and the algebra that ownership rests on."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from labkit.embedded.apiserver.fieldsets import differing, fields_of, paths_of, shown, subtract, union
from labkit.embedded.apiserver.resources import BUILTIN
from labkit.embedded.apiserver.shapes import shape_of

DEPLOYMENT = shape_of(next(kind for kind in BUILTIN if kind.kind == "Deployment"))
POD = shape_of(next(kind for kind in BUILTIN if kind.kind == "Pod"))


def _pod(*containers: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", **metadata},
        "spec": {"containers": list(containers)},
    }


def test_what_the_server_writes_is_nobodys() -> None:
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u", "labels": {"a": "b"}}}
    assert fields_of(obj, POD) == {"f:metadata": {"f:labels": {"f:a": {}}}}


def test_items_are_named_by_their_keys() -> None:
    port = {"containerPort": 80}
    tree = fields_of(_pod({"name": "c", "ports": [port]}), POD)
    item = tree["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert item["f:ports"] == {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}


def test_a_selector_is_owned_as_a_whole() -> None:
    obj = {"spec": {"selector": {"matchLabels": {"a": "b"}}}}
    assert fields_of(obj, DEPLOYMENT) == {"f:spec": {"f:selector": {}}}


def test_only_what_differs_has_changed() -> None:
    old = _pod({"name": "a", "image": "1"}, {"name": "b", "image": "1"})
    new = _pod({"name": "a", "image": "2"}, {"name": "c", "image": "1"})
    changed, gone = differing(old, new, POD)
    assert sorted(shown(path) for path in paths_of(changed)) == [
        '.spec.containers[name="a"].image',
        '.spec.containers[name="c"]',
        '.spec.containers[name="c"].image',
        '.spec.containers[name="c"].name',
    ]
    assert '.spec.containers[name="b"]' in {shown(path) for path in paths_of(gone)}


def test_the_same_object_has_no_differences() -> None:
    assert differing(_pod({"name": "a"}), _pod({"name": "a"}), POD) == ({}, {})


names = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}', "v:1"])
trees = st.recursive(st.just({}), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8)
roots = st.dictionaries(names, trees, max_size=3)


@given(roots, roots)
def test_a_union_holds_the_paths_of_both(one: Any, other: Any) -> None:
    assert set(paths_of(union(one, other))) == set(paths_of(one)) | set(paths_of(other))


@given(roots)
def test_nothing_is_left_of_a_set_without_itself(tree: Any) -> None:
    assert list(paths_of(subtract(tree, tree))) == []


@given(roots, roots)
def test_what_is_subtracted_is_gone(one: Any, other: Any) -> None:
    assert not set(paths_of(subtract(one, other))) & set(paths_of(other))
