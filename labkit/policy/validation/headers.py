"""What is asked of names and values of headers, in Istio's words.

pkg/config/validation/validation.go ValidateHTTPHeaderName and its neighbours; header_value_validator.go, which follows
Envoy's source/common/router/header_parser.cc; pkg/jwt.
"""

from __future__ import annotations

import re

from labkit.policy.validation.findings import Findings, Object, block, items, quoted

CLAIMS = "@request.auth.claims"
"""Under this name a VirtualService of a gateway routes by what a token says."""

_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
# The characters of a token: RFC 9110, section 5.6.2.
_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile("[^\u0000-\u0008\u000a-\u001f\u007f]*")


def is_claim(name: str) -> bool:
    """Whether a name of a header means a claim of a token: with .name, or [name] after it."""
    if not name.lower().startswith(CLAIMS):
        return False
    rest = name[len(CLAIMS) :]
    return (rest.startswith(".") and len(rest) > 1) or (rest[:1] == "[" and rest[-1:] == "]" and len(rest) > 2)


def matched_name(name: str) -> Findings:
    """A header that a route asks for."""
    if not name:
        yield "header name cannot be empty"
    elif not is_claim(name) and name not in _PSEUDO and not _NAME.fullmatch(name):
        yield f"header name {name} is not a valid header name"


def strict_name(name: str) -> Findings:
    """A header that only has letters, digits, - and _."""
    if not name:
        yield "header name cannot be empty"
    elif not re.fullmatch(r"[-_A-Za-z0-9]+", name):
        yield f"header name {name} is not a valid header name"


def cors_name(name: str) -> Findings:
    """A header of CORS; `*` stands for all."""
    if not name:
        yield "header name cannot be empty"
    elif not _NAME.fullmatch(name):
        yield f"header name {name} is not a valid header name"


def is_authority(name: str) -> bool:
    """Whether a header is the host that the server sees."""
    return name.lower() in (":authority", "host")


def _set_name(name: str) -> Findings:
    if not name:
        yield "header name cannot be empty"
    elif name.startswith(":") and not is_authority(name):
        yield f'invalid header {quoted(name)}: header cannot have ":" prefix'


def _changed_name(name: str) -> Findings:
    if not name:
        yield "header name cannot be empty"
    elif name.lower() == "host":
        yield f"invalid header {quoted(name)}: cannot set Host header"
    elif name.startswith(":"):
        yield f'invalid header {quoted(name)}: header cannot have ":" prefix'


def operations(headers: Object | None) -> Findings:
    """What is added, set and removed, in requests and responses."""
    for side, named in (("request", _set_name), ("response", _changed_name)):
        written = block(headers, side)
        for what in ("add", "set"):
            for name, value in block(written, what).items():
                yield from named(name)
                yield from value_of(str(value if value is not None else ""))
        for name in items(written, "remove"):
            yield from _changed_name(str(name))


_BROKEN = "header value configuration: invalid header configuration. "


def value_of(value: str) -> Findings:
    """A value, in which %NAME% and %NAME(...)% stand for what Envoy knows, and %% for a percent sign."""
    if not _VALUE.fullmatch(value):
        yield f"header value configuration {value} is invalid"
    elif why := _variables(value):
        yield _BROKEN + why


def _variables(value: str) -> str:
    """Why the variables in a value cannot be read; empty if they can."""
    position = 0
    while (start := value.find("%", position)) >= 0:
        if start + 1 == len(value):
            return "Un-escaped %"
        if value[start + 1] == "%":
            position = start + 2
            continue
        position, why = _after_variable(value, start + 1)
        if why:
            return why
    return ""


def _after_variable(value: str, position: int) -> tuple[int, str]:
    """Where the variable that begins here ends, or why it does not."""
    unfinished = f"Un-terminated variable expression '{value}'"
    name = re.compile(r"[^%(]*").match(value, position)
    assert name
    position = name.end()
    if position == len(value):
        return position, unfinished
    if value[position] == "%":
        return position + 1, ""
    arguments = re.compile(r'\( *(?:\[(?: *"(?:[^"\\)]|\\.)*" *,?)*\] *|(?:[^\\)]|\\.)*)\) *').match(value, position)
    if not arguments or arguments.end() == len(value):
        return position, unfinished
    if value[arguments.end()] != "%":
        return position, "Expecting '%' or whitespace after"
    return arguments.end() + 1, ""
