"""Which requests a route takes: one entry of a VirtualService's `match` as Envoy's. Pure.

pilot/pkg/networking/core/route/route.go TranslateRouteMatch of istio/istio. Headers stand in the order of their names;
one that must not have a value is also met when it is not there.
"""

from __future__ import annotations

from collections.abc import Mapping

from labkit.embedded.controlplane.translation.jwt import text_claim
from labkit.embedded.envoy_messages import Config
from labkit.policy.claims import routing_claim
from labkit.policy.virtual_service import HttpMatch, StringMatch

_PATHS = {"exact": "path", "prefix": "prefix"}


def route_match(match: HttpMatch) -> Config:
    """An envoy.config.route.v3.RouteMatch."""
    result: Config = {}
    uri = match.uri
    if uri is None or uri.kind == "present":
        result["prefix"] = "/"
    elif uri.kind == "regex":
        result["safe_regex"] = {"regex": uri.value}
    else:
        result[_PATHS[uri.kind]] = uri.value
    if match.ignore_uri_case:
        result["case_sensitive"] = False
    _add_headers(result, match.headers)
    _add_headers(result, match.without_headers, unless=True)
    if match.query:
        result["query_parameters"] = [_named(name, value) for name, value in match.query.items()]
    return result


def _add_headers(result: Config, headers: Mapping[str, StringMatch], *, unless: bool = False) -> None:
    """Headers that are asked for; some names mean what the caller's token says."""
    for name, value in sorted(headers.items()):
        if path := routing_claim(name):
            claim = _claim(path, value)
            result.setdefault("dynamic_metadata", []).append({**claim, "invert": True} if unless else claim)
        else:
            header = _named(name, value)
            result.setdefault("headers", []).append(_unless(header, value) if unless else header)


def _unless(header: Config, value: StringMatch) -> Config:
    # Without that, Envoy takes a header that is absent for one that does not match in either sense.
    missing = {} if value.any_value else {"treat_missing_header_as_empty": True}
    return {**header, "invert_match": True, **missing}


def _claim(path: tuple[str, ...], value: StringMatch) -> Config:
    return text_claim(path, {"safe_regex": {"regex": ".*"}} if value.kind == "present" else _string(value))


def _named(name: str, value: StringMatch) -> Config:
    """A header or a parameter of the query."""
    return {"name": name, "present_match": True} if value.any_value else {"name": name, "string_match": _string(value)}


def _string(value: StringMatch) -> Config:
    if value.kind == "regex":
        return {"safe_regex": {"regex": value.value}}
    return {value.kind: value.value}
