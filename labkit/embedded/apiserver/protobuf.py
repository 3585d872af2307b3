"""Request bodies in protobuf, which kubectl since 1.32 sends for kinds that it knows (`kubectl create namespace`).

https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
Only decoding: every client that sends protobuf also accepts JSON. `protobuf_fields.json` lists the messages' fields
(`number name type`; a star marks a message whose fields belong to the one that holds it). It was derived from the
file descriptors of k8s.io/api that kubectl 1.33 carries; fields that are newer are skipped, as protobuf has it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from labkit.embedded.apiserver.failures import bad_request

Object = dict[str, Any]

MAGIC = b"k8s\x00"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

# Go writes these even when they were not set, because they are no pointers; zero means absent. Every other zero was
# written by somebody, as in `replicas: 0`.
_ZERO_IS_ABSENT = frozenset(
    {"generation", "observedGeneration", "minReadySeconds", "containerPort", "hostPort", "port", "nodePort"}
    | {"initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold", "weight"}
    | {"count", "restartCount", "hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly"}
    | {"unschedulable", "publishNotReadyAddresses", "paused", "ready", "namespaced", "readyReplicas"}
    | {"availableReplicas", "updatedReplicas", "currentReplicas", "fullyLabeledReplicas"}
)


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    document = json.loads((Path(__file__).parent / "protobuf_fields.json").read_text())
    return document["kinds"], document["messages"]


@cache
def _fields(message: str) -> dict[int, tuple[str, str]]:
    found: dict[int, tuple[str, str]] = {}
    for entry in filter(None, _tables()[1][message].split("; ")):
        number, name, kind = entry.split(" ")
        found[int(number)] = (name, kind)
    return found


def decode(body: bytes) -> Object:
    """The object in a protobuf body. Raises 400 when it cannot be read."""
    if not body.startswith(MAGIC):
        raise bad_request("the body is not in Kubernetes' protobuf encoding")
    try:
        envelope = dict(_wire(body[len(MAGIC) :]))
        names = dict(_wire(_expect_bytes(envelope.get(1, b""))))
        api_version, kind = _text(names.get(1, b"")), _text(names.get(2, b""))
        message = _tables()[0].get(f"{api_version}/{kind}") or _tables()[0].get(f"v1/{kind}")
        if message is None:
            raise bad_request(f"no kind {kind!r} is known for version {api_version!r} in protobuf; send JSON")
        return {"apiVersion": api_version, "kind": kind, **_message(message, _expect_bytes(envelope.get(2, b"")), 0)}
    except (ValueError, IndexError, struct.error, OverflowError) as error:
        raise bad_request(f"the protobuf body cannot be read: {error}") from None


def _wire(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message, in order (https://protobuf.dev/programming-guides/encoding/)."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        value: int | bytes
        if wire_type == 0:
            value, position = _varint(data, position)
        elif wire_type == 2:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise ValueError("unexpected end")
            value, position = data[position : position + length], position + length
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
            value, position = data[position : position + size], position + size
        else:
            raise ValueError(f"wire type {wire_type}")
        yield number, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    raise ValueError("varint too long")


def _expect_bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a message was expected")
    return value


def _text(value: int | bytes) -> str:
    return _expect_bytes(value).decode()


def _message(name: str, data: bytes, depth: int) -> Any:
    if special := _SPECIAL.get(name):
        return special(data)
    if depth > 60:
        raise ValueError("nested too deeply")
    fields, result = _fields(name), {}  # type: dict[int, tuple[str, str]], Object
    for number, value in _wire(data):
        if number in fields:
            _set(result, *fields[number], value, depth)
    return result


def _set(result: Object, name: str, kind: str, raw: int | bytes, depth: int) -> None:
    """Put one field into its message."""
    if name.startswith("*"):
        result |= _message(kind, _expect_bytes(raw), depth + 1)
        return
    if kind.startswith("[]"):
        result.setdefault(name, []).append(_value(kind[2:], raw, depth))
        return
    if kind.startswith("{}"):
        entry = dict(_wire(_expect_bytes(raw)))
        inner = kind[2:]
        result.setdefault(name, {})[_text(entry.get(1, b""))] = _value(
            inner, entry.get(2, _ZEROS.get(inner, b"")), depth
        )
        return
    value = _value(kind, raw, depth)
    absent = value is None or value == "" or (name in _ZERO_IS_ABSENT and not value)
    if not absent:
        result[name] = value


_ZEROS: dict[str, int | bytes] = {"int": 0, "bool": 0}


def _value(kind: str, raw: int | bytes, depth: int) -> Any:
    if kind == "str":
        return _text(raw)
    if kind == "int":
        return _signed(raw)
    if kind == "bool":
        return bool(raw)
    if kind == "bytes":
        import base64

        return base64.b64encode(_expect_bytes(raw)).decode()
    if kind == "double":
        return struct.unpack("<d", _expect_bytes(raw))[0]
    return _message(kind, _expect_bytes(raw), depth + 1)


def _signed(raw: int | bytes) -> int:
    if not isinstance(raw, int):
        raise ValueError("a message where a number was expected")
    return raw - (1 << 64) if raw >= 1 << 63 else raw


def _quantity(data: bytes) -> Any:
    return _text(dict(_wire(data)).get(1, b""))


def _int_or_string(data: bytes) -> Any:
    fields = dict(_wire(data))
    if fields.get(1, 0):
        return _text(fields.get(3, b""))
    return _signed(fields.get(2, 0))


def _time(data: bytes) -> Any:
    fields = dict(_wire(data))
    if not fields:
        return None  # Go's zero time
    seconds, nanos = _signed(fields.get(1, 0)), _signed(fields.get(2, 0))
    moment = datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds, microseconds=nanos // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if nanos else "%Y-%m-%dT%H:%M:%SZ")


def _json(data: bytes) -> Any:
    raw = _expect_bytes(dict(_wire(data)).get(1, b""))
    return json.loads(raw) if raw else None


_SPECIAL: dict[str, Callable[[bytes], Any]] = {
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "RawExtension": _json,
    "meta.Time": _time,
    "meta.MicroTime": _time,
    "meta.FieldsV1": _json,
    "authorization.ExtraValue": lambda data: [_text(value) for _, value in _wire(data)],
    "authentication.ExtraValue": lambda data: [_text(value) for _, value in _wire(data)],
}
