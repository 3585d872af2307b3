"""Rows of pkg/config/validation/validation_test.go (istio/istio), as short as a table.

A row: its id there, the object's spec as YAML, words of an error, words of a warning; empty where there is none.
Istio's tests often say no more than "invalid"; the words are then those of validation.go. What a protobuf message can
hold and YAML cannot (nil in a list) is left out, and so is what is the same again for IPv6.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from labkit.policy.validation import validate

Row = tuple[str, str, str, str]


def parameters(rows: list[Row]) -> list[Any]:
    """The rows for pytest, with their ids."""
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


def check(kind: str, spec: str | dict[str, Any], error: str, warning: str, **metadata: Any) -> None:
    """Istio's verdict on an object foo of the namespace bar is this one."""
    written = yaml.safe_load(spec) if isinstance(spec, str) else spec
    obj = {"kind": kind, "metadata": {"name": "foo", "namespace": "bar", **metadata}, "spec": written}
    said = validate(kind, obj)
    assert said.valid is not bool(error), said
    assert error in "\n".join(said.errors)
    assert bool(said.warnings) is bool(warning), said
    assert warning in "\n".join(said.warnings)
