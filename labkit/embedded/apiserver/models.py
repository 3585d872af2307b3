"""What fields a built-in kind has, read from the source text of the `kubernetes` package.

The package's models are complete and current, but importing them costs 50 MB, so their literal tables
(`openapi_types`, `attribute_map`) are read as text, one model at a time, when an object first needs it.
Both styles of that package are understood: plain classes (to version 34) and pydantic models (since 35).
"""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

_TYPES = re.compile(r"^    openapi_types\b[^={]*= (\{.*?^    \})", re.M | re.S)
_NAMES = re.compile(r"^    attribute_map\b[^={]*= (\{.*?^    \})", re.M | re.S)
_FIELD = re.compile(r"^    (\w+): (.+?)(?: = (.*))?$", re.M)
_OLD_REQUIRED = re.compile(r"client_side_validation and (?:self\.)?_?(\w+) is None")
_DESCRIPTION = re.compile(r'description=("(?:[^"\\]|\\.)*")')
_OLD_DESCRIPTION = re.compile(r'"""Gets the (\w+) of this \w+\.[^\n]*\n\n(.*?)  # noqa', re.S)
_CLASS_TEXT = re.compile(r'^class \w+[^\n]*:\n    """\n?(.*?)(?:\n\n|""")', re.M | re.S)


@dataclass(frozen=True, slots=True)
class Model:
    """The fields of one model: JSON name -> type, in the package's notation (`list[V1Container]`, `dict[str, str]`)."""

    name: str
    fields: dict[str, str]
    required: frozenset[str]


@lru_cache(maxsize=1)
def _directory() -> Path:
    spec = importlib.util.find_spec("kubernetes")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package 'kubernetes' is not installed")
    return Path(spec.submodule_search_locations[0]) / "client" / "models"


def _file_of(name: str) -> Path:
    snake = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    snake = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", snake).lower()
    return _directory() / f"{snake}.py"


def model(name: str) -> Model | None:
    """The model `V1Pod`, or None when the installed package does not have it."""
    return _load(name)


@cache
def _load(name: str) -> Model | None:
    try:
        text = _file_of(name).read_text()
    except OSError:
        return None
    types, names = _TYPES.search(text), _NAMES.search(text)
    if not types or not names:
        return None
    python_types: dict[str, str] = ast.literal_eval(types[1])
    json_names: dict[str, str] = ast.literal_eval(names[1])
    fields = {json_names[key]: _modern(value) for key, value in python_types.items()}
    return Model(name, fields, frozenset(json_names[key] for key in _required(text) if key in json_names))


def _required(text: str) -> set[str]:
    if "(BaseModel)" not in text:
        return set(_OLD_REQUIRED.findall(text))
    return {
        name
        for name, annotation, value in _FIELD.findall(_fields_part(text))
        if not annotation.startswith("Optional[") and "default=" not in (value or "")
    }


def _fields_part(text: str) -> str:
    types = _TYPES.search(text)
    start = text.find("\nclass ")
    return text[start : types.start()] if types else ""


def _modern(type_name: str) -> str:
    # `dict(str, str)` in the older style, `Dict[str, str]` in the newer one
    type_name = re.sub(r"dict\((\w+), (.+)\)$", r"dict[\1, \2]", type_name)
    return type_name.replace("List[", "list[").replace("Dict[", "dict[")


def descriptions(name: str) -> tuple[str, dict[str, str]]:
    """The text about a model and about each of its fields, for `kubectl explain`. Not kept in memory."""
    known = model(name)
    if known is None:
        return "", {}
    text = _file_of(name).read_text()
    names = _NAMES.search(text)
    json_names: dict[str, str] = ast.literal_eval(names[1]) if names else {}
    about = _CLASS_TEXT.search(text)
    summary = " ".join(about[1].split()) if about and "NOTE: This class" not in about[1] else ""
    found: dict[str, str] = {}
    for attribute, _, value in _FIELD.findall(_fields_part(text)):
        described = _DESCRIPTION.search(value or "")
        if attribute in json_names and described:
            found[json_names[attribute]] = ast.literal_eval(described[1])
    for attribute, described_by in _OLD_DESCRIPTION.findall(text):
        if attribute in json_names:
            found.setdefault(json_names[attribute], " ".join(described_by.split()))
    return summary, found


def split_type(type_name: str) -> tuple[str, str]:
    """`("list", "V1Container")`, `("dict", "str")` or `("", "str")`."""
    if type_name.startswith("list["):
        return "list", type_name[5:-1]
    if type_name.startswith("dict["):
        return "dict", type_name[5:-1].split(", ", 1)[1]
    return "", type_name
