"""Sets of fields as `managedFields` writes them (FieldsV1), and what can be asked of them. Pure.

A set is a tree: `f:<name>` steps into a map, `k:{...}` to a list item by its keys, `v:<value>` to a member of a set.
A node is in the set when it has no children, or a child named ".".
https://pkg.go.dev/sigs.k8s.io/structured-merge-diff/v4/fieldpath
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from labkit.embedded.apiserver.shapes import ATOMIC, Shape

Object = dict[str, Any]
Tree = dict[str, Any]
Path = tuple[str, ...]

# What the server writes, and nobody owns.
_UNOWNED = frozenset({"apiVersion", "kind"})
_UNOWNED_METADATA = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "generateName"}
    | {"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"}
)


def fields_of(obj: Object, shape: Shape) -> Tree:
    """All fields that an object sets."""
    tree: Tree = {}
    for key, value in _owned(obj).items():
        node = _of_value(value, shape.child(key) if shape.child else ATOMIC)
        if node or key != "metadata":
            tree[f"f:{key}"] = node
    return tree


def _owned(obj: Object) -> Object:
    """The object without what nobody owns."""
    kept = {key: value for key, value in obj.items() if key not in _UNOWNED}
    if isinstance(kept.get("metadata"), dict):
        kept["metadata"] = {k: v for k, v in kept["metadata"].items() if k not in _UNOWNED_METADATA}
    return kept


def _of_value(value: Any, shape: Shape) -> Tree:
    if shape.form == "granular" and isinstance(value, dict) and shape.child:
        return {f"f:{key}": _of_value(item, shape.child(key)) for key, item in value.items()}
    if shape.form == "keyed" and isinstance(value, list) and shape.item:
        return {item_key(item, shape): {".": {}} | _of_value(item, shape.item()) for item in value}
    if shape.form == "set" and isinstance(value, list):
        return {f"v:{_compact(item)}": {} for item in value}
    return {}


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def item_key(item: Any, shape: Shape) -> str:
    """`k:{"name":"web"}`; a key that is not set counts as its default where there is one."""
    defaults = {"protocol": "TCP"}
    item = item if isinstance(item, dict) else {}
    return "k:" + _compact({key: item.get(key, defaults.get(key)) for key in shape.keys})


def value_key(item: Any) -> str:
    """`v:"example.com/hold"`."""
    return f"v:{_compact(item)}"


def differing(old: Object, new: Object, shape: Shape) -> tuple[Tree, Tree]:
    """The fields that `new` sets to something else than `old`, and those that it no longer has."""
    changed: Tree = {}
    gone: Tree = {}
    _compare(_owned(old), _owned(new), shape, changed, gone)
    return changed, gone


def _compare(old: Any, new: Any, shape: Shape, changed: Tree, gone: Tree) -> None:
    """Into `changed` and `gone`, below two maps or lists that both exist."""
    before, after = _children(old, shape), _children(new, shape)
    for step, (value, inner) in after.items():
        if step not in before:
            changed[step] = ({".": {}} if step.startswith("k:") else {}) | _of_value(value, inner)
        elif before[step][0] != value:
            was = before[step][0]
            if _has_parts(was, inner) and _has_parts(value, inner):
                deeper_changed: Tree = {}
                deeper_gone: Tree = {}
                _compare(was, value, inner, deeper_changed, deeper_gone)
                if deeper_changed:
                    changed[step] = deeper_changed
                if deeper_gone:
                    gone[step] = deeper_gone
            else:
                changed[step] = _of_value(value, inner)
    for step, (value, inner) in before.items():
        if step not in after:
            gone[step] = ({".": {}} if step.startswith("k:") else {}) | _of_value(value, inner)


def _has_parts(value: Any, shape: Shape) -> bool:
    return (shape.form == "granular" and isinstance(value, dict)) or (
        shape.form in ("keyed", "set") and isinstance(value, list)
    )


def _children(value: Any, shape: Shape) -> dict[str, tuple[Any, Shape]]:
    if shape.form == "granular" and isinstance(value, dict) and shape.child:
        return {f"f:{key}": (item, shape.child(key)) for key, item in value.items()}
    if shape.form == "keyed" and isinstance(value, list) and shape.item:
        return {item_key(item, shape): (item, shape.item()) for item in value}
    if shape.form == "set" and isinstance(value, list):
        return {value_key(item): (item, ATOMIC) for item in value}
    return {}


# Algebra.


def paths_of(tree: Tree, prefix: Path = ()) -> Iterator[Path]:
    """Every field in the set."""
    for step, below in tree.items():
        if step == ".":
            continue
        path = (*prefix, step)
        if not below or "." in below:
            yield path
        yield from paths_of(below, path)


def union(one: Tree, other: Tree) -> Tree:
    """Fields in either."""
    result = dict(one)
    for step, below in other.items():
        result[step] = _united(result[step], below) if step in result else below
    return result


def _united(one: Tree, other: Tree) -> Tree:
    if not one and not other:
        return {}
    joined = union(one, other)
    # A leaf is in the set by itself; with children beside it, it needs the dot to stay so.
    return joined if one and other else {".": {}} | joined


def subtract(one: Tree, other: Tree) -> Tree:
    """Fields of `one` that are not in `other`, nor below one of its leaves."""
    result: Tree = {}
    for step, below in one.items():
        if step not in other:
            result[step] = below
            continue
        removed = other[step]
        if not removed:
            continue  # a leaf of `other` takes all that is below it
        left = subtract(below, removed) if below else {}
        if left or (not below and "." not in removed):
            result[step] = left
    return result


def contains(tree: Tree, path: Path) -> bool:
    """Whether a field, or anything below it, is in the set."""
    node = tree
    for step in path:
        if step not in node:
            return False
        node = node[step]
    return True


def owner_of(tree: Tree, path: Path) -> bool:
    """Whether exactly this field is in the set."""
    node = tree
    for step in path:
        if step not in node:
            return False
        node = node[step]
    return not node or "." in node


def shown(path: Path) -> str:
    """`.spec.containers[name="web"].image`, as messages write it."""
    words = []
    for step in path:
        kind, text = step[0], step[2:]
        if kind == "f":
            words.append(f".{text}")
        elif kind == "k":
            keys = json.loads(text)
            words.append("[" + ",".join(f"{key}={_compact(value)}" for key, value in keys.items()) + "]")
        else:
            words.append(f"[={text}]")
    return "".join(words)
