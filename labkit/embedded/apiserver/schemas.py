"""openAPIV3Schema of custom resources: pruning, defaults, and validation in Kubernetes' words. Pure.

Structural schemas only, as Kubernetes demands them
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema).
Written here and not left to a JSON Schema library, because the messages are what learners and tests read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_network
from typing import Any

from labkit.embedded.apiserver.failures import Cause, go_value, invalid, not_supported, required
from labkit.embedded.apiserver.patterns import compiled

Object = dict[str, Any]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def prune(schema: Object, value: Any, path: str, unknown: list[str]) -> Any:
    """`value` without the fields that no schema names; their paths are added to `unknown`."""
    if isinstance(value, list):
        items = schema.get("items")
        if not isinstance(items, dict):
            return value
        return [prune(items, item, f"{path}[{i}]", unknown) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    keep_all = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or additional is True
    embedded = ("apiVersion", "kind", "metadata") if schema.get("x-kubernetes-embedded-resource") else ()
    if not properties and not additional and schema.get("type") != "object" and not embedded:
        return value  # a schema that says nothing about the type keeps what it gets (int-or-string, any)
    result: Object = {}
    for key, item in value.items():
        where = _join(path, key)
        if isinstance(properties.get(key), dict):
            result[key] = prune(properties[key], item, where, unknown)
        elif isinstance(additional, dict):
            result[key] = prune(additional, item, where, unknown)
        elif keep_all or key in embedded:
            result[key] = item
        else:
            unknown.append(where)
    return result


def fill_defaults(schema: Object, value: Any) -> None:
    """Write the schema's defaults into the maps of `value`."""
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            fill_defaults(schema["items"], item)
    if not isinstance(value, dict):
        return
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    for key, inner in properties.items():
        if not isinstance(inner, dict):
            continue
        missing = key not in value or (value[key] is None and not inner.get("nullable"))
        if missing and "default" in inner:
            value[key] = copy.deepcopy(inner["default"])
        if key in value:
            fill_defaults(inner, value[key])
    if isinstance(additional, dict):
        for key in value.keys() - properties.keys():
            fill_defaults(additional, value[key])


def check_schema(schema: Object, value: Any, path: str) -> list[Cause]:
    """All that the schema has against the value."""
    if value is None and (schema.get("nullable") or not schema.get("type")):
        return []
    if schema.get("x-kubernetes-int-or-string"):
        wrong = isinstance(value, bool) or not isinstance(value, int | str)
        return [_type_error(path, value, "integer,string")] if wrong else _constraints(schema, value, path)
    wanted = schema.get("type")
    if wanted and not _is_of_type(value, wanted):
        return [_type_error(path, value, wanted)]
    causes = _constraints(schema, value, path)
    if isinstance(value, dict):
        causes += _check_map(schema, value, path)
    elif isinstance(value, list):
        causes += _check_list(schema, value, path)
    return causes + _check_combinations(schema, value, path)


def _is_of_type(value: Any, wanted: str) -> bool:
    if wanted == "integer":
        return not isinstance(value, bool) and (
            isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        )
    if wanted == "number":
        return not isinstance(value, bool) and isinstance(value, int | float)
    types: dict[str, type] = {"string": str, "boolean": bool, "object": dict, "array": list}
    return isinstance(value, types[wanted]) if wanted in types else True


def _type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return names.get(type(value), "null")


def _type_error(path: str, value: Any, wanted: str) -> Cause:
    name = _type_name(value)
    return Cause(
        path, "FieldValueTypeInvalid", f'Invalid value: "{name}": {path} in body must be of type {wanted}: "{name}"'
    )


def _check_map(schema: Object, value: Object, path: str) -> list[Cause]:
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    causes = [required(_join(path, key)) for key in schema.get("required") or [] if key not in value]
    for key, item in value.items():
        inner = properties.get(key, additional)
        if isinstance(inner, dict):
            causes += check_schema(inner, item, _join(path, key))
    return causes


def _check_list(schema: Object, value: list[Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    items = schema.get("items")
    if isinstance(items, dict):
        for i, item in enumerate(value):
            causes += check_schema(items, item, f"{path}[{i}]")
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if kind in ("set", "map"):
        seen: set[str] = set()
        for i, item in enumerate(value):
            identity = {k: item.get(k) for k in keys} if kind == "map" and isinstance(item, dict) else item
            shown = go_value(identity)
            if shown in seen:
                causes.append(Cause(f"{path}[{i}]", "FieldValueDuplicate", f"Duplicate value: {shown}"))
            seen.add(shown)
    return causes


def _check_combinations(schema: Object, value: Any, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for inner in schema.get("allOf") or []:
        causes += check_schema(inner, value, path)
    if any_of := schema.get("anyOf"):
        results = [check_schema(inner, value, path) for inner in any_of]
        if all(results):
            causes += [_whole(path, "must validate at least one schema (anyOf)"), *results[0]]
    if one_of := schema.get("oneOf"):
        valid = sum(not check_schema(inner, value, path) for inner in one_of)
        if valid != 1:
            found = "Found none valid" if not valid else f"Found {valid} valid alternatives"
            causes.append(_whole(path, f"must validate one and only one schema (oneOf). {found}"))
    if isinstance(schema.get("not"), dict) and not check_schema(schema["not"], value, path):
        causes.append(_whole(path, "must not validate the schema (not)"))
    return causes


def _whole(path: str, text: str) -> Cause:
    return Cause(path or "<nil>", "FieldValueInvalid", f'Invalid value: "": "{path}" {text}')


Constraint = Callable[[Any, Any, str, Object], Cause | None]


def _constraints(schema: Object, value: Any, path: str) -> list[Cause]:
    found = []
    for keyword, check in _CONSTRAINTS.items():
        if keyword in schema and schema[keyword] is not None and (cause := check(schema[keyword], value, path, schema)):
            found.append(cause)
    return found


def _enum(allowed: Any, value: Any, path: str, _: Object) -> Cause | None:
    if value in allowed and not (isinstance(value, bool) and value not in [a for a in allowed if isinstance(a, bool)]):
        return None
    return not_supported(path, value, [str(word) for word in allowed])


def _pattern(pattern: Any, value: Any, path: str, _: Object) -> Cause | None:
    if not isinstance(value, str) or compiled(pattern).found_in(value):
        return None
    return invalid(path, value, f"{path} in body should match '{pattern}'")


def _minimum(limit: Any, value: Any, path: str, schema: Object) -> Cause | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    exclusive = schema.get("exclusiveMinimum")
    if value > limit or (value == limit and not exclusive):
        return None
    words = "greater than" if exclusive else "greater than or equal to"
    return invalid(path, value, f"{path} in body should be {words} {limit}")


def _maximum(limit: Any, value: Any, path: str, schema: Object) -> Cause | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    exclusive = schema.get("exclusiveMaximum")
    if value < limit or (value == limit and not exclusive):
        return None
    words = "less than" if exclusive else "less than or equal to"
    return invalid(path, value, f"{path} in body should be {words} {limit}")


def _multiple(factor: Any, value: Any, path: str, _: Object) -> Cause | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not factor or value % factor == 0:
        return None
    return invalid(path, value, f"{path} in body should be a multiple of {factor}")


def _at_least(unit: str, kind: type) -> Constraint:
    def check(limit: Any, value: Any, path: str, _: Object) -> Cause | None:
        if not isinstance(value, kind) or len(value) >= limit:  # type: ignore[arg-type]
            return None
        shown = value if kind is str else len(value)  # type: ignore[arg-type]
        words = "be at least {} chars long" if kind is str else f"have at least {{}} {unit}"
        return invalid(path, shown, f"{path} in body should {words.format(limit)}")

    return check


def _at_most(unit: str, kind: type) -> Constraint:
    def check(limit: Any, value: Any, path: str, _: Object) -> Cause | None:
        if not isinstance(value, kind) or len(value) <= limit:  # type: ignore[arg-type]
            return None
        if kind is str:
            return Cause(path, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")
        return Cause(path, "FieldValueTooMany", f"Too many: {len(value)}: must have at most {limit} {unit}")  # type: ignore[arg-type]

    return check


def _unique(wanted: Any, value: Any, path: str, _: Object) -> Cause | None:
    if not wanted or not isinstance(value, list):
        return None
    shown = [go_value(item) for item in value]
    return (
        invalid(path, value, f"{path} in body shouldn't contain duplicates") if len(set(shown)) < len(shown) else None
    )


def _format(name: Any, value: Any, path: str, _: Object) -> Cause | None:
    check = _FORMATS.get(name)
    try:
        if check:
            check(value)
    except (ValueError, AddressValueError, TypeError):
        return invalid(path, value, f"{path} in body must be of type {name}: {go_value(value)}")
    return None


def _in_range(bits: int) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if isinstance(value, int | float) and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise ValueError

    return check


_FORMATS: dict[str, Callable[[Any], object]] = {
    "int32": _in_range(32),
    "int64": _in_range(64),
    "date-time": lambda value: datetime.fromisoformat(value),
    "date": lambda value: datetime.strptime(value, "%Y-%m-%d"),
    "ipv4": IPv4Address,
    "ipv6": IPv6Address,
    "cidr": lambda value: ip_network(value, strict=False),
}

_CONSTRAINTS: dict[str, Constraint] = {
    "enum": _enum,
    "pattern": _pattern,
    "minimum": _minimum,
    "maximum": _maximum,
    "multipleOf": _multiple,
    "minLength": _at_least("chars", str),
    "maxLength": _at_most("chars", str),
    "minItems": _at_least("items", list),
    "maxItems": _at_most("items", list),
    "minProperties": _at_least("properties", dict),
    "maxProperties": _at_most("properties", dict),
    "uniqueItems": _unique,
    "format": _format,
}
