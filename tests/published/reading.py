"""A strict reader of Istio objects, from the published table alone: it shares nothing with what labkit installs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.published.schema_fields import ANY, BOOL, INT, NUMBER, SPECS, VERSIONS

Object = dict[str, Any]

_TYPES: dict[str, type | tuple[type, ...]] = {INT: int, NUMBER: (int, float), BOOL: bool}


def complaints(obj: Object) -> list[str]:
    """What Istio's published schema has against an object of one of its kinds."""
    group, _, version = str(obj["apiVersion"]).rpartition("/")
    kind = str(obj["kind"])
    if kind not in SPECS:
        return [f"kind {kind} is not one of Istio's"]
    known, versions, _ = VERSIONS[kind]
    found = [] if (group == known and version in versions) else [f"{kind} is not served as {obj['apiVersion']}"]
    found += [f"unknown field {name}" for name in obj.keys() - {"apiVersion", "kind", "metadata", "spec"}]
    return [*found, *_value(SPECS[kind], obj.get("spec") or {}, "spec")]


def _value(fields: Any, value: Any, path: str) -> Iterator[str]:
    if value is None or fields == ANY:
        return
    if isinstance(fields, list):
        if not isinstance(value, list):
            yield f"{path} is no list"
            return
        for index, one in enumerate(value):
            yield from _value(fields[0], one, f"{path}[{index}]")
    elif isinstance(fields, dict):
        yield from _object(fields, value, path)
    elif "|" in fields:
        if value not in fields.split("|"):
            yield f"{path}: {value!r} is none of {fields}"
    elif not isinstance(value, _TYPES.get(fields, str)) or (isinstance(value, bool) and fields != BOOL):
        yield f"{path}: {value!r} is no {fields}"


def _object(fields: Object, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path} is no object"
        return
    if "*" in fields:
        for key, one in value.items():
            yield from _value(fields["*"], one, f"{path}.{key}")
        return
    known = {name.removesuffix("!"): inner for name, inner in fields.items()}
    yield from (f"unknown field {path}.{name}" for name in value if name not in known)
    yield from (f"{path}.{name[:-1]} is missing" for name in fields if name.endswith("!") and name[:-1] not in value)
    for name, inner in known.items():
        yield from _value(inner, value.get(name), f"{path}.{name}")
