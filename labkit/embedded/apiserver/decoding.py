"""From the bytes of a request to an object of the right shape: formats, unknown fields, wrong types.

Built-in kinds are held against the models of the `kubernetes` package: unknown fields are reported and dropped,
nulls are dropped, a wrong type is an error, as Go's decoder has it. Custom resources have their own schema, see
`customresources.py`. Meaning is checked in `validation.py`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from labkit.embedded.apiserver import protobuf
from labkit.embedded.apiserver.failures import StatusError, bad_request, unsupported_media_type
from labkit.embedded.apiserver.models import model, split_type

Object = dict[str, Any]

MAX_DEPTH = 200  # far beyond any manifest, and below Python's recursion limit
MAX_ALIASES = 200  # YAML aliases multiply: a few lines can unfold to gigabytes

_QUANTITY = re.compile(r"[+-]?(\d+|\d+\.\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
_QUANTITY_MAPS = frozenset(
    {"limits", "requests", "hard", "used", "capacity", "allocatable", "overhead", "min", "max", "default"}
    | {"defaultRequest", "maxLimitRequestRatio", "allocatedResources"}
)
_QUANTITIES = frozenset({"sizeLimit", "divisor", "averageValue"})
_INT_OR_STRING = frozenset({"port", "targetPort", "maxSurge", "maxUnavailable", "minAvailable"})
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def parse_body(body: bytes, content_type: str) -> Any:
    """JSON or YAML as the content type says (clients that send none send JSON). Raises 400 or 415."""
    media = content_type.split(";")[0].strip().lower()
    if media.endswith("yaml"):
        value = _parse_yaml(body)
    elif media == protobuf.MEDIA_TYPE:
        value = protobuf.decode(body)
    elif media in ("", "application/octet-stream", "text/plain") or media.endswith("json"):
        value = _parse_json(body)
    else:
        raise unsupported_media_type(["application/json", "application/yaml", protobuf.MEDIA_TYPE])
    check_depth(value)
    return value


def _parse_json(body: bytes) -> Any:
    try:
        value = json.loads(body, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise bad_request("the object is nested too deeply") from None
    except ValueError as error:  # also UnicodeDecodeError, JSONDecodeError and numbers of too many digits
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
    check_depth(value)
    return _without_surrogates(value) if b"\\u" in body else value


def _no_constant(word: str) -> Any:
    raise ValueError(f"invalid character '{word[0]}' looking for beginning of value")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"cannot unmarshal number {text[:40]}")
    return number


def _without_surrogates(value: Any) -> Any:
    # Half of a surrogate pair is no character; Go writes U+FFFD for it, and so do we.
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


def _parse_yaml(body: bytes) -> Any:
    if body.lstrip()[:1] in (b"{", b"["):  # what clients send as YAML is JSON nearly always, and 50 times faster
        try:
            return _parse_json(body)
        except StatusError:
            pass
    import yaml

    try:
        _check_yaml(body)
        value = yaml.load(body, Loader=_yaml_loader())  # noqa: S506 - derived from the safe loader
        json.dumps(value, allow_nan=False)
    except RecursionError:
        raise bad_request("the object is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise bad_request(f"error decoding YAML: {' '.join(str(error).split())}") from None
    return _without_surrogates(json.loads(json.dumps(value)))


def _check_yaml(body: bytes) -> None:
    """Refuse what would unfold or nest without end, before anything is built from it."""
    import yaml

    depth = aliases = 0
    for event in yaml.parse(body, Loader=_base_loader()):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH:
            raise bad_request("the object is nested too deeply")
        if aliases > MAX_ALIASES:
            raise bad_request("error decoding YAML: document contains excessive aliasing")


def _base_loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as quick


def _yaml_loader() -> Any:
    import yaml

    class Loader(_base_loader()):  # type: ignore[misc]
        """YAML as JSON knows it: a timestamp stays text."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader


def check_depth(value: Any) -> None:
    """Refuse what is nested so deeply that working on it would exhaust the stack."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise bad_request("the object is nested too deeply")
        level = [
            item
            for parent in level
            if isinstance(parent, dict | list)
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]


class WrongType(Exception):
    """A value whose JSON type is not the field's."""


def decode_builtin(obj: Object, model_name: str) -> tuple[Object, list[str]]:
    """The object without nulls and unknown fields, and the paths of the unknown ones. Raises WrongType."""
    unknown: list[str] = []
    return _decode_model(obj, model_name, "", unknown), unknown


def _decode_model(value: Any, model_name: str, path: str, unknown: list[str]) -> Any:
    described = model(model_name)
    if described is None:
        return value
    if not isinstance(value, dict):
        raise _wrong(value, path, model_name.removeprefix("V1"))
    result: Object = {}
    for key, item in value.items():
        type_name = described.fields.get(key)
        where = f"{path}.{key}" if path else key
        if type_name is None:
            unknown.append(where)
        elif item is not None:
            decoded = _decode(item, type_name, key, where, unknown)
            if decoded != {} or not type_name.startswith("dict["):  # an empty map is as good as absent in Go
                result[key] = decoded
    return result


def _decode(value: Any, type_name: str, key: str, path: str, unknown: list[str]) -> Any:
    container, inner = split_type(type_name)
    if container == "list":
        if not isinstance(value, list):
            raise _wrong(value, path, f"[]{_go_type(inner)}")
        return [_decode_item(item, inner, key, f"{path}[{i}]", unknown) for i, item in enumerate(value)]
    if container == "dict":
        if not isinstance(value, dict):
            raise _wrong(value, path, f"map[string]{_go_type(inner)}")
        if inner == "str" and key in _QUANTITY_MAPS:
            return {name: _quantity(item, f"{path}.{name}") for name, item in value.items()}
        return {name: _decode_item(item, inner, key, f"{path}.{name}", unknown) for name, item in value.items()}
    if simple := _SIMPLE.get(type_name):
        return simple(value, key, path)
    return _decode_model(value, type_name, path, unknown)


def _decode_item(value: Any, inner: str, key: str, path: str, unknown: list[str]) -> Any:
    if value is None:  # a null among items is Go's zero value
        return {"str": "", "int": 0, "bool": False, "bytes": "", "float": 0}.get(inner, {})
    return _decode(value, inner, key, path, unknown)


def _text(value: Any, key: str, path: str) -> Any:
    if key in _QUANTITIES:
        return _quantity(value, path)
    if not isinstance(value, str):
        raise _wrong(value, path, "string")
    return value


def _integer(value: Any, _key: str, path: str) -> Any:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(value, path, "int32")
    if not -(2**63) <= value < 2**63:
        raise WrongType(f"json: cannot unmarshal number {str(value)[:40]} into Go struct field {path} of type int64")
    return value


def _boolean(value: Any, _key: str, path: str) -> Any:
    if not isinstance(value, bool):
        raise _wrong(value, path, "bool")
    return value


def _float(value: Any, _key: str, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(value, path, "float64")
    return value


def _bytes(value: Any, _key: str, path: str) -> Any:
    if not isinstance(value, str):
        raise _wrong(value, path, "[]uint8")
    try:
        base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        at = next((i for i, c in enumerate(value) if not re.match(r"[A-Za-z0-9+/=\r\n]", c)), len(value))
        raise WrongType(f"illegal base64 data at input byte {at}") from None
    return value


def _datetime(value: Any, _key: str, path: str) -> Any:
    if not isinstance(value, str):
        raise _wrong(value, path, "Time")
    try:
        if not _TIME.fullmatch(value):
            raise ValueError
        datetime.fromisoformat(value[:19])
    except ValueError:
        raise WrongType(f'parsing time {json.dumps(value)} as "2006-01-02T15:04:05Z07:00": cannot parse it') from None
    return value


def _anything(value: Any, key: str, path: str) -> Any:
    if key in _INT_OR_STRING and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise _wrong(value, path, "intstr.IntOrString")
    return value


_SIMPLE: dict[str, Callable[[Any, str, str], Any]] = {
    "str": _text,
    "int": _integer,
    "bool": _boolean,
    "float": _float,
    "bytes": _bytes,
    "datetime": _datetime,
    "date": _datetime,
    "object": _anything,
}


def _quantity(value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _wrong(value, path, "resource.Quantity")
    text = str(value).strip()
    if not _QUANTITY.fullmatch(text):
        pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
        raise WrongType(f"quantities must match the regular expression '{pattern}'")
    return text


def _go_type(type_name: str) -> str:
    return {"str": "string", "int": "int32"}.get(type_name, type_name.removeprefix("V1"))


def _wrong(value: Any, path: str, wanted: str) -> WrongType:
    if isinstance(value, bool):
        word = "bool"
    else:
        words = {str: "string", list: "array", dict: "object", int: "number", float: "number"}
        word = words.get(type(value), "null")
    return WrongType(f"json: cannot unmarshal {word} into Go struct field {path} of type {wanted}")
