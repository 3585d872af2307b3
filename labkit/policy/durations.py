"""Durations as Kubernetes and Istio write them."""

from __future__ import annotations

import re

from labkit.errors import InputError

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 0.000001, "ns": 0.000000001}


def seconds(text: str, where: str = "a duration") -> float:
    """The seconds of a duration as Go writes it, such as 1h30m or 500ms. Raises InputError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InputError(
            f"{where} is {text!r}, which is no duration.", next_step="Write it as 5s, 500ms or 1h30m.", field=where
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def as_protobuf(text: str, where: str = "a duration") -> str:
    """The same as protobuf's JSON writes it: 5.5s."""
    return f"{seconds(text, where):.9f}".rstrip("0").rstrip(".") + "s"
