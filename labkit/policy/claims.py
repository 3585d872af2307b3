"""What AuthorizationPolicies read in a token: its claims, and the request principal `issuer/subject`. Pure.

https://istio.io/latest/docs/reference/config/security/conditions/
pilot/pkg/security/authz/model/generator.go of istio/istio.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

_CLAIMS = "request.auth.claims"
_ROUTING = "@request.auth.claims"
_NAMED = {"request.auth.audiences": ("aud",), "request.auth.presenter": ("azp",)}


class Kind(Enum):
    """How a text is compared."""

    ANYTHING = "anything"
    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"


@dataclass(frozen=True)
class TextPattern:
    """A text, or the beginning or end of one, or anything but nothing."""

    kind: Kind
    text: str = ""

    def holds(self, found: str) -> bool:
        if self.kind is Kind.ANYTHING:
            return bool(found)
        if self.kind is Kind.PREFIX:
            return found.startswith(self.text)
        return found.endswith(self.text) if self.kind is Kind.SUFFIX else found == self.text


_ANYTHING = TextPattern(Kind.ANYTHING)


def claim_path(key: str) -> tuple[str, ...]:
    """The path to the claim that a key of `when` names: `request.auth.claims[a][b]` is (a, b)."""
    return tuple(re.findall(r"\[([^\]]+)\]", key)) if key.startswith(_CLAIMS) else _NAMED.get(key, ())


def routing_claim(header: str) -> tuple[str, ...]:
    """The path to the claim that a header in a route's match means: `@request.auth.claims.a.b`, or `[a][b]`."""
    # pkg/jwt/routing.go; https://istio.io/latest/docs/tasks/security/authentication/jwt-route/
    rest = header[len(_ROUTING) :] if header.lower().startswith(_ROUTING) else ""
    if rest.startswith(".") and len(rest) > 1:
        return tuple(rest[1:].split("."))
    return tuple(rest[1:-1].split("][")) if len(rest) > 2 and rest[0] == "[" and rest[-1] == "]" else ()


def claim_texts(claims: Mapping[str, Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """The texts of a claim: its own, or those of a list. Numbers and truth values are none."""
    found: Any = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    listed = found if isinstance(found, list | tuple) else [found]
    return tuple(one for one in listed if isinstance(one, str))


def request_principal(pattern: str) -> tuple[TextPattern, TextPattern]:
    """What the claims iss and sub must be for a pattern of request principals.

    The last slash divides, because an issuer is often a URL. A star stands at the beginning or at the end.
    """
    issuer, slash, subject = pattern.rpartition("/") if "/" in pattern else (pattern, "", "")
    if pattern == "*":
        return _ANYTHING, _ANYTHING
    if pattern.startswith("*"):
        if not slash:
            return _ANYTHING, TextPattern(Kind.SUFFIX, pattern[1:])
        ending = _ANYTHING if issuer == "*" else TextPattern(Kind.SUFFIX, issuer[1:])
        return ending, TextPattern(Kind.EXACT, subject)
    if pattern.endswith("*"):
        if not slash:
            return TextPattern(Kind.PREFIX, pattern[:-1]), _ANYTHING
        beginning = _ANYTHING if subject == "*" else TextPattern(Kind.PREFIX, subject[:-1])
        return TextPattern(Kind.EXACT, issuer), beginning
    return TextPattern(Kind.EXACT, issuer), TextPattern(Kind.EXACT, subject)


def principal_matches(pattern: str, claims: Mapping[str, Any]) -> bool:
    """Whether a token has a principal that a pattern means; it takes an issuer and a subject."""
    issuer, subject = request_principal(pattern)
    found = ((issuer, claims.get("iss")), (subject, claims.get("sub")))
    return all(isinstance(text, str) and part.holds(text) for part, text in found)
