"""How the parts of an object merge: granular maps, lists by key, sets, and what is replaced as a whole. Pure.

Server-side apply walks objects along these shapes. Built-in kinds take theirs from the models and the merge keys in
`strategic.py`, custom resources from their schema's `x-kubernetes-list-type` and `x-kubernetes-map-type`.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from labkit.embedded.apiserver.models import model, split_type
from labkit.embedded.apiserver.resources import Kind
from labkit.embedded.apiserver.strategic import APPLY_ONLY_KEYS, LIST_KEYS

Object = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """`form` is one of `granular` (a map), `keyed` (a list of maps), `set`, `atomic`."""

    form: str
    child: Callable[[str], Shape] | None = None
    keys: tuple[str, ...] = ()
    item: Callable[[], Shape] | None = None


ATOMIC = Shape("atomic")
SET = Shape("set")
OPEN: Shape = Shape("granular", child=lambda _: OPEN)
"""A part that no schema describes: maps merge, lists are replaced."""

# Marked `+structType=atomic` or `+mapType=atomic` in k8s.io/api.
_ATOMIC_MODELS = frozenset(
    {
        "V1LabelSelector",
        "V1NodeSelector",
        "V1NodeSelectorTerm",
        "V1ObjectReference",
        "V1LocalObjectReference",
        "V1SecretReference",
        "V1TypedLocalObjectReference",
        "V1ConfigMapKeySelector",
        "V1SecretKeySelector",
        "V1ObjectFieldSelector",
        "V1ResourceFieldSelector",
        "V1ScopeSelector",
        "V1RoleRef",
        "RbacV1Subject",
    }
)
_ATOMIC_MAPS = frozenset({("V1ServiceSpec", "selector"), ("V1PodSpec", "nodeSelector")})


def shape_of(kind: Kind) -> Shape:
    """The shape of a kind's objects."""
    if not kind.custom:
        return _of_model(kind.model)
    inner = _of_schema(kind.schema) if kind.schema is not None else OPEN

    def child(name: str) -> Shape:
        if name == "metadata":
            return _of_model("V1ObjectMeta")
        return inner.child(name) if inner.child else OPEN

    return Shape("granular", child=child)


@cache
def _of_model(name: str) -> Shape:
    return Shape("granular", child=lambda key: _of_field(name, key))


@cache
def _of_field(model_name: str, key: str) -> Shape:
    described = model(model_name)
    type_name = described.fields.get(key, "") if described else ""
    container, inner = split_type(type_name)
    if container == "list":
        keys = LIST_KEYS.get((model_name, key)) or APPLY_ONLY_KEYS.get((model_name, key))
        if keys is None:
            return ATOMIC
        return Shape("keyed", keys=keys.keys, item=lambda: _of_model(inner)) if keys.keys else SET
    if container == "dict":
        return ATOMIC if (model_name, key) in _ATOMIC_MAPS else OPEN
    if inner[:1].isupper() and inner not in _ATOMIC_MODELS:
        return _of_model(inner)
    return ATOMIC


def _of_schema(schema: Any) -> Shape:
    if not isinstance(schema, dict):
        return OPEN
    kind = schema.get("type")
    if kind == "array":
        form = schema.get("x-kubernetes-list-type")
        if form == "map":
            keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
            return Shape("keyed", keys=keys, item=lambda: _of_schema(schema.get("items")))
        return SET if form == "set" else ATOMIC
    if kind not in ("object", None) or schema.get("x-kubernetes-map-type") == "atomic":
        return ATOMIC
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    return Shape("granular", child=lambda name: _of_schema(properties.get(name, additional)))
