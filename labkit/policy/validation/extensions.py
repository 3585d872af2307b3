"""What is asked of EnvoyFilter, WasmPlugin, Telemetry and ProxyConfig, in Istio's words.

pkg/config/validation/envoyfilter/envoyfilter.go, and ValidateWasmPlugin, ValidateTelemetry, ValidateProxyConfig of
pkg/config/validation/validation.go.
"""

from __future__ import annotations

import re
from typing import Any

from labkit.policy.validation.common import long_enough, regex_error, selector, targets, workload_selector
from labkit.policy.validation.findings import Findings, Object, Remark, block, items, present, quoted

EXPOSES = (
    "EnvoyFilter exposes internal implementation details that may change at any time. Prefer other APIs if possible, "
    "and exercise extreme caution, especially around upgrades."
)
HTTP_MANAGER = "envoy.filters.network.http_connection_manager"

_LISTENERS = ("LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER")
_ROUTES = ("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE")
_MATCHES = ("listener", "routeConfiguration", "cluster", "waypoint")

# pkg/config/xds/deprecation.go
_OLD_NAMES = {
    "envoy.cors": "envoy.filters.http.cors",
    "envoy.fault": "envoy.filters.http.fault",
    "envoy.ext_authz": "envoy.filters.http.ext_authz",
    "envoy.router": "envoy.filters.http.router",
    "envoy.lua": "envoy.filters.http.lua",
    "envoy.gzip": "envoy.filters.http.gzip",
    "envoy.buffer": "envoy.filters.http.buffer",
    "envoy.rate_limit": "envoy.filters.http.ratelimit",
    "envoy.http_connection_manager": HTTP_MANAGER,
    "envoy.tcp_proxy": "envoy.filters.network.tcp_proxy",
    "envoy.ratelimit": "envoy.filters.network.ratelimit",
    "envoy.mongo_proxy": "envoy.filters.network.mongo_proxy",
    "envoy.redis_proxy": "envoy.filters.network.redis_proxy",
}


def envoy_filter(obj: Object) -> Findings:
    """A whole EnvoyFilter. What stands in the patches is judged by Envoy."""
    yield Remark(EXPOSES)
    spec = block(obj, "spec")
    if present(spec, "workloadSelector") and present(spec, "targetRefs"):  # a rule of the definition, in CEL
        yield "only one of targetRefs or workloadSelector can be set"
    errors, remarks = workload_selector(spec, "Envoy filter")
    if errors:
        yield from errors
        return
    yield from remarks
    for patch in items(spec, "configPatches"):
        for finding in _patch(patch or {}):
            yield Remark(f"Envoy filter: {finding}") if isinstance(finding, Remark) else f"Envoy filter: {finding}"
        yield from map(Remark, _old_names(patch or {}))


def _patch(patch: Object) -> Findings:
    """The first mistake of a patch counts."""
    apply_to, change, match = str(patch.get("applyTo") or "INVALID"), block(patch, "patch"), block(patch, "match")
    version = str(block(match, "proxy").get("proxyVersion") or "")
    operation = change.get("operation") or "INVALID"
    if apply_to == "INVALID":
        yield "missing applyTo"
    elif not present(patch, "patch"):
        yield "missing patch"
    elif operation == "INVALID":
        yield "missing patch operation"
    elif operation != "REMOVE" and not present(change, "value"):
        yield "missing patch value for non-remove operation"
    elif version and (why := regex_error(version)):
        yield f"invalid regex for proxy version, [{why}]"
    else:
        yield from _match(apply_to, match)


def _match(apply_to: str, match: Object) -> Findings:
    written = [one for one in _MATCHES if present(match, one)]
    if not written:
        return
    if apply_to in _LISTENERS:
        if "listener" not in written:
            yield "applyTo for listener class objects cannot have non listener match"
        else:
            yield from _filter(apply_to, block(block(match, "listener"), "filterChain").get("filter"))
    elif apply_to in _ROUTES and "routeConfiguration" not in written:
        yield "applyTo for http route class objects cannot have non route configuration match"
    elif apply_to == "CLUSTER" and "cluster" not in written:
        yield "applyTo for cluster class objects cannot have non cluster match"


def _filter(apply_to: str, wanted: Object | None) -> Findings:
    if wanted is None:
        return
    if apply_to in ("LISTENER", "FILTER_CHAIN"):
        yield Remark(f"filter match has no effect when used with {apply_to}")
    if not wanted.get("name"):
        yield "filter match has no name to match on"
    elif present(wanted, "subFilter"):
        if apply_to != "HTTP_FILTER":
            yield "subfilter match can be used with applyTo HTTP_FILTER only"
        elif wanted["name"] not in (HTTP_MANAGER, "envoy.http_connection_manager"):
            yield f"subfilter match requires filter match with {HTTP_MANAGER}"
        elif not wanted["subFilter"].get("name"):
            yield "subfilter match has no name to match on"


def _old_names(patch: Object) -> Findings:
    wanted = block(block(block(block(patch, "match"), "listener"), "filterChain"), "filter")
    if patch.get("applyTo") in _LISTENERS:
        for name in (wanted.get("name"), block(wanted, "subFilter").get("name")):
            if name in _OLD_NAMES:
                yield f"using deprecated filter name {quoted(name)}; use {quoted(_OLD_NAMES[name])} instead"


def wasm_plugin(obj: Object) -> Findings:
    """A whole WasmPlugin."""
    spec = block(obj, "spec")
    yield from targets(spec)
    yield from _url(str(spec.get("url") or ""))
    yield from _checksum(str(spec.get("sha256") or ""))
    if len(spec.get("imagePullSecret") or "") > 253:
        yield "imagePullSecret field must be less than 253 characters long"
    if len(spec.get("pluginName") or "") > 256:
        yield "pluginName field must be less than 255 characters long"
    yield from list(_environment(items(spec.get("vmConfig"), "env")))[:1]
    for index, one in enumerate(items(spec, "match")):
        for position, port in enumerate(items(one, "ports")):
            number = int(port.get("number") or 0)
            if not 0 < number <= 65535:
                yield f"spec.Match[{index}].Ports[{position}] is out of range: {number}"
                return


def _url(url: str) -> Findings:
    scheme = found[1].lower() if (found := re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)) else ""
    if not url:
        yield "url field needs to be set"
    elif scheme not in ("", "file", "http", "https", "oci") and "://" in url:
        yield f"url contains unsupported scheme: {scheme}"


def _checksum(text: str) -> Findings:
    if text and len(text) != 64:
        yield "sha256 field must be 64 characters long"
    elif text and not re.fullmatch(r"[a-f0-9]{64}", text):
        yield "sha256 field must match [a-f0-9]{64} pattern"


def _environment(variables: list[Object]) -> Findings:
    names = set()
    for one in variables:
        name = str(one.get("name") or "")
        if not name:
            yield "spec.vmConfig.env invalid"
        if len(name) > 256:
            yield "env.name field must be less than 255 characters long"
        if name in names:
            yield "duplicate env"
        names.add(name)
        if one.get("valueFrom") not in (None, "INLINE") and one.get("value"):
            yield "value may only be set when valueFrom is INLINE"


def proxy_config(obj: Object) -> Findings:
    """A whole ProxyConfig."""
    spec = block(obj, "spec")
    yield from selector(spec.get("selector"))
    if (spec.get("concurrency") or 0) < 0:
        yield "concurrency must be greater than or equal to 0"


def telemetry(obj: Object) -> Findings:
    """A whole Telemetry."""
    spec = block(obj, "spec")
    yield from targets(spec)
    for one in items(spec, "metrics"):
        yield from _providers(one)
        yield from long_enough(one.get("reportingInterval"), "reportingInterval")
        for override in items(one, "overrides"):
            yield from _override(override)
    yield from _tracing(items(spec, "tracing"))
    for one in items(spec, "accessLogging"):
        if present(one, "filter"):
            yield from _filter_expression(str(one["filter"].get("expression") or ""))
        yield from _providers(one)


def _providers(one: Object) -> Findings:
    if not all((provider or {}).get("name") for provider in items(one, "providers")):
        yield "providers.name may not be empty"


def _override(override: Object) -> Findings:
    for name, tag in block(override, "tagOverrides").items():
        if not name:
            yield Remark("tagOverrides.name may not be empty")
        if tag is None:
            yield "tagOverrides may not be null"
        elif (tag.get("operation") or "UPSERT") == "UPSERT":
            if not tag.get("value"):
                yield "tagOverrides.value must be set when operation is UPSERT"
        elif tag.get("value"):
            yield "tagOverrides.value may only be set when operation is UPSERT"
    if block(override, "match").get("customMetric") == "":
        yield "customMetric may not be empty"


def _tracing(entries: list[Object]) -> Findings:
    if len(entries) > 1:
        yield Remark("multiple tracing is not currently supported")
    for one in entries:
        if len(items(one, "providers")) > 1:
            yield Remark("multiple providers is not currently supported")
        yield from _providers(one)
        if not 0 <= float(one.get("randomSamplingPercentage") or 0) <= 100:
            yield "randomSamplingPercentage must be in range [0.0, 100.0]"
        for name, tag in block(one, "customTags").items():
            yield from _custom_tag(name, tag)


def _custom_tag(name: str, tag: Any) -> Findings:
    if not name:
        yield "tag name may not be empty"
    if tag is None:
        yield f"tag '{name}' may not have a nil value"
    elif present(tag, "literal") and not tag["literal"].get("value"):
        yield "literal tag value may not be empty"
    elif present(tag, "header") and not tag["header"].get("name"):
        yield "header tag name may not be empty"
    elif present(tag, "environment") and not tag["environment"].get("name"):
        yield "environment tag name may not be empty"


_TOKEN = re.compile(
    r"""\s*(?:
    (?P<operand>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[0-9][0-9A-Za-z.]*|[A-Za-z_]\w*)
    |(?P<open>[(\[{]) |(?P<close>[)\]}])
    |(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>?:.,!])
    )""",
    re.VERBOSE,
)


def _filter_expression(text: str) -> Findings:
    """CEL, as far as brackets and operators go; whether its names exist, Envoy knows."""
    if why := _cel_error(text):
        yield f"must be a valid CEL expression, ERROR: <input>:1:1: Syntax error: {why}"


def _cel_error(text: str) -> str:
    position, opened, before = 0, "", ""
    while position < len(text.rstrip()):
        token = _TOKEN.match(text, position)
        if not token:
            return f"token recognition error at: '{text[position:].strip()[:1]}'"
        kind, value = str(token.lastgroup), token[0].strip()
        if kind == "close":
            if not opened or "([{".index(opened[-1]) != ")]}".index(value):
                return f"extraneous input '{value}'"
            opened = opened[:-1]
        opened += value if kind == "open" else ""
        if kind == "sign" and before in ("", "sign") and value not in ("!", "-", "."):
            return f"mismatched input '{value}'"
        before, position = kind, token.end()
    if before in ("", "sign") or opened:
        return "mismatched input '<EOF>'"
    return ""
