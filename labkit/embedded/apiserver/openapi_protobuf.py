"""OpenAPI v2 in protobuf, the form in which kubectl asks for it: up to 1.28 always, later for unknown kinds. Pure.

Field numbers are those of gnostic's OpenAPIv2.proto
(https://github.com/google/gnostic-models/blob/main/openapiv2/OpenAPIv2.proto), reduced to what our documents hold.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from typing import Any

Object = dict[str, Any]

# Clients ask for `...v2@v1.0+protobuf`; but "@" is not allowed in a media type, so this is what servers answer.
MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: Any) -> bytes:
    return _bytes(field, str(value).encode()) if value else b""


def _flag(field: int, value: Any) -> bytes:
    return _varint(field << 3) + b"\x01" if value else b""


def _texts(field: int, values: Iterable[Any] | None) -> bytes:
    return b"".join(_bytes(field, str(value).encode()) for value in values or ())


def _any(value: Any) -> bytes:
    # gnostic carries free values as YAML, which JSON is.
    return _text(2, json.dumps(value))


def _extensions(field: int, obj: Object) -> bytes:
    named = [(key, value) for key, value in obj.items() if key.startswith("x-")]
    return b"".join(_bytes(field, _text(1, key) + _bytes(2, _any(value))) for key, value in named)


def _named(field: int, items: Object | None, encode: Callable[[Any], bytes]) -> bytes:
    return b"".join(_bytes(field, _text(1, name) + _bytes(2, encode(value))) for name, value in (items or {}).items())


def encode_document(document: Object) -> bytes:
    """The whole document."""
    info = document["info"]
    return b"".join(
        (
            _text(1, document["swagger"]),
            _bytes(2, _text(1, info["title"]) + _text(2, info["version"])),
            _bytes(8, _named(2, document["paths"], _path_item)),
            _bytes(9, _named(1, document["definitions"], _schema)),
        )
    )


_VERBS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _path_item(item: Object) -> bytes:
    operations = b"".join(_bytes(number, _operation(item[verb])) for verb, number in _VERBS.items() if verb in item)
    return operations + b"".join(_bytes(9, _parameter(parameter)) for parameter in item.get("parameters") or [])


def _operation(operation: Object) -> bytes:
    return b"".join(
        (
            _texts(1, operation.get("tags")),
            _text(5, operation.get("operationId")),
            _texts(7, operation.get("consumes")),
            *(_bytes(8, _parameter(parameter)) for parameter in operation.get("parameters") or []),
            _bytes(9, _named(1, operation.get("responses"), _response)),
            _extensions(13, operation),
        )
    )


def _parameter(parameter: Object) -> bytes:
    name, where = parameter["name"], parameter["in"]
    if where == "body":
        body = _text(2, name) + _text(3, where) + _flag(4, parameter.get("required"))
        return _bytes(1, _bytes(1, body + _bytes(5, _schema(parameter["schema"]))))
    if where == "path":
        inner = _flag(1, True) + _text(2, where) + _text(4, name) + _text(5, parameter.get("type"))
        return _bytes(1, _bytes(2, _bytes(4, inner)))
    inner = _text(2, where) + _text(4, name) + _text(6, parameter.get("type"))
    return _bytes(1, _bytes(2, _bytes(3, inner)))


def _response(response: Object) -> bytes:
    schema = response.get("schema")
    body = _text(1, response.get("description")) + (_bytes(2, _bytes(1, _schema(schema))) if schema else b"")
    return _bytes(1, body)


def _number(field: int, value: Any) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", float(value)) if isinstance(value, int | float) else b""


def _schema(schema: Any) -> bytes:
    if not isinstance(schema, dict):
        return b""
    additional = schema.get("additionalProperties")
    parts = [
        _text(1, schema.get("$ref")),
        _text(2, schema.get("format")),
        _text(4, schema.get("description")),
        _number(7, schema.get("maximum")),
        _number(9, schema.get("minimum")),
        _text(13, schema.get("pattern")),
        _texts(19, schema.get("required")),
        *(_bytes(20, _any(value)) for value in schema.get("enum") or []),
    ]
    if isinstance(additional, dict):
        parts.append(_bytes(21, _bytes(1, _schema(additional))))
    elif additional is True:
        parts.append(_bytes(21, _flag(2, True)))
    if isinstance(schema.get("type"), str):
        parts.append(_bytes(22, _text(1, schema["type"])))
    if isinstance(schema.get("items"), dict):
        parts.append(_bytes(23, _bytes(1, _schema(schema["items"]))))
    if schema.get("properties"):
        parts.append(_bytes(25, _named(1, schema["properties"], _schema)))
    return b"".join([*parts, _extensions(31, schema)])
