"""What is asked of the routes of a VirtualService, in Istio's words.

pkg/config/validation/virtualservice.go validateHTTPRoute and what it calls in pkg/config/validation/validation.go.
"""

from __future__ import annotations

from http import HTTPStatus

from labkit.policy.validation.common import (
    duration,
    expression,
    fqdn,
    is_dns_label,
    labels,
    milliseconds,
    port_number,
    wildcard_domain,
)
from labkit.policy.validation.destination_rule import subset_name
from labkit.policy.validation.findings import Findings, Object, Remark, block, errors_of, items, number, present, quoted
from labkit.policy.validation.headers import cors_name, is_authority, matched_name, operations


def http_route(route: Object, *, delegate: bool) -> Findings:
    """One entry of `http`; `delegate` where the VirtualService has no hosts and is included by another."""
    yield from _conflicts(route, delegate=delegate)
    yield from errors_of(_matches(route))
    yield from operations(route.get("headers"))
    yield from _cors(route.get("corsPolicy"))
    yield from errors_of(_fault(route.get("fault")))
    yield from _mirrors(route)
    yield from _redirect(route.get("redirect"))
    yield from _direct_response(route.get("directResponse"))
    yield from _retries(route.get("retries"))
    yield from _rewrite(route.get("rewrite"))
    yield from _authority(route)
    yield from destinations(items(route, "route"))
    yield from duration(route.get("timeout"))


def _conflicts(route: Object, *, delegate: bool) -> Findings:
    if present(route, "delegate") and not delegate:
        for name in ("redirect", "route"):
            if present(route, name):
                yield f"root HTTP route {route.get('name') or ''} must not specify {name}"
        return
    if present(route, "delegate"):
        yield "delegate HTTP route cannot contain delegate"
    redirect, answer = present(route, "redirect"), present(route, "directResponse")
    if redirect or answer:
        other = "redirect" if redirect else "direct_response"
        if items(route, "route"):
            yield f"HTTP route cannot contain both route and {other}"
        if present(route, "fault"):
            yield f"HTTP route cannot contain both fault and {other}"
        if present(route, "rewrite"):
            yield f"HTTP route rule cannot contain both rewrite and {other}"
        if redirect and answer:
            yield "HTTP route rule cannot contain both direct_response and redirect"
    elif not items(route, "route"):
        yield "HTTP route, redirect or direct_response is required"
    if present(route, "mirror") and items(route, "mirrors"):
        yield "HTTP route cannot contain both mirror and mirrors"


def _matches(route: Object) -> Findings:
    matches = [one for one in items(route, "match") if one is not None]
    for one in matches:
        for name, header in (one.get("headers") or {}).items():
            if header is None:
                yield f"header match {name} cannot be null"
            yield from matched_name(name)
            yield from _string_match(header, "headers")
        for name, header in (one.get("withoutHeaders") or {}).items():
            yield from matched_name(name)
            if (header or {}).get("regex") != "*":  # which means: there at all
                yield from _string_match(header, "withoutHeaders")
        yield from _regex(one.get("uri"), "uri")
        for name in ("scheme", "method", "authority"):
            yield from _string_match(one.get(name), name)
        for parameter in (one.get("queryParams") or {}).values():
            yield from _string_match(parameter, "queryParams")
    for one in matches:
        yield from source(one)
        namespace = str(one.get("sourceNamespace") or "")
        if namespace and not is_dns_label(namespace):
            yield f"sourceNamespace match {namespace} is invalid"


def source(match: Object) -> Findings:
    """Port, labels and gateways of a match."""
    if match.get("port"):
        yield from port_number(match["port"])
    yield from labels(match.get("sourceLabels"))
    yield from gateway_names(items(match, "gateways"))


def gateway_names(names: list[str]) -> Findings:
    """`name` or `namespace/name`. Istio stops at the first one without a namespace."""
    for name in names:
        namespace, slash, rest = name.partition("/")
        if not slash:
            if "." in name:
                owner, of = (*name.split("."), "")[:2]
                yield Remark(
                    f"using legacy gatewayName format {quoted(name)}; prefer the <namespace>/<name> format: "
                    f"{quoted(f'{of}/{owner}')}"
                )
            yield from fqdn(name)
            return
        if not namespace or not rest:
            yield "config namespace and gateway name cannot be empty"
        if not is_dns_label(namespace):
            yield f"invalid value for namespace: {quoted(namespace)}"
        if not is_dns_label(rest):
            yield f"invalid value for gateway name: {quoted(rest)}"


def _string_match(match: Object | None, where: str) -> Findings:
    if match is not None and match.get("prefix") == "":
        yield f"{quoted(where)}: prefix string match should not be empty"
    yield from _regex(match, where)


def _regex(match: Object | None, where: str) -> Findings:
    pattern = (match or {}).get("regex")
    if pattern == "":
        yield f"{quoted(where)}: regex string match should not be empty"
    elif pattern is not None:
        yield from expression(str(pattern), where)


_METHODS = frozenset({*("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"), "*"})


def _cors(policy: Object | None) -> Findings:
    if policy is None:
        return
    for origin in items(policy, "allowOrigins"):
        if not any(origin.get(one) for one in ("exact", "prefix", "regex")):
            yield "'' is not a valid match type for CORS allow origins"
        else:
            yield from _regex(origin, "corsPolicy.allowOrigins")
    for method in items(policy, "allowMethods"):
        if method not in _METHODS:
            yield f"{quoted(method)} is not a supported HTTP method"
    for name in (*items(policy, "allowHeaders"), *items(policy, "exposeHeaders")):
        yield from cors_name(str(name))
    yield from duration(policy.get("maxAge"))
    if policy.get("maxAge") is not None and milliseconds(policy["maxAge"]) % 1000:
        yield "max_age duration is accurate only to seconds precision"


_GRPC = frozenset(
    [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ]
)


def _fault(fault: Object | None) -> Findings:
    if fault is None:
        return
    if not present(fault, "abort") and not present(fault, "delay"):
        yield "HTTP fault injection must have an abort and/or a delay"
    yield from _abort(fault.get("abort"))
    yield from _delay(fault.get("delay"))


def _abort(abort: Object | None) -> Findings:
    if abort is None:
        return
    yield from _percentage(abort.get("percentage"))
    status = abort.get("grpcStatus")
    if status is not None and status not in _GRPC:
        yield (
            f"gRPC status {quoted(status)} is not supported. See "
            "https://github.com/grpc/grpc/blob/master/doc/statuscodes.md for a list of supported codes, for example "
            "'NOT_FOUND'"
        )
    elif status is None and abort.get("http2Error") is not None:
        yield "HTTP/2 abort fault injection not supported yet"
    elif status is None and abort.get("httpStatus") is not None:
        yield from _status(abort["httpStatus"])
    elif status is None:
        yield Remark("abort configured, but error type not set")


def _delay(delay: Object | None) -> Findings:
    if delay is None:
        return
    yield from _percentage(delay.get("percentage"))
    yield from duration(delay.get("fixedDelay"))
    if delay.get("exponentialDelay") is not None:
        yield from duration(delay["exponentialDelay"])
        yield "exponentialDelay not supported yet"


def _percentage(percentage: Object | None) -> Findings:
    value = float((percentage or {}).get("value") or 0)
    if not 0 <= value <= 100 or 0 < value < 0.0001:
        yield f"percentage {number(value)} is neither 0.0, nor in range [0.0001, 100.0]"


def _status(status: object) -> Findings:
    if not 200 <= int(str(status)) <= 600:  # Istio lets 600 pass, and says otherwise
        yield f"HTTP status {status} is not in range 200-599"


def _mirrors(route: Object) -> Findings:
    percent = route.get("mirrorPercent")
    if percent is not None:
        if percent > 100:
            yield f"mirror_percent must have a max value of 100 (it has {percent})"
        yield Remark('using deprecated setting "mirrorPercent", use "mirrorPercentage" instead')
    yield from _share(route.get("mirrorPercentage"), "mirror_percentage")
    yield from destination(route.get("mirror"))
    for one in items(route, "mirrors"):
        if not present(one, "destination"):
            yield "destination is required for mirrors"
            continue
        yield from destination(one["destination"])
        yield from _share(one.get("percentage"), "mirror percentage")


def _share(percentage: Object | None, words: str) -> Findings:
    value = float((percentage or {}).get("value") or 0)
    if value > 100:
        yield f"{words} must have a max value of 100 (it has {value:f})"
    if value < 0:
        yield f"{words} must have a min value of 0 (it has {value:f})"


def _redirect(redirect: Object | None) -> Findings:
    """The first mistake counts."""
    if redirect is None:
        return
    code, scheme, port = redirect.get("redirectCode"), redirect.get("scheme"), redirect.get("port")
    anywhere = any(redirect.get(one) for one in ("uri", "authority", "scheme"))
    if not anywhere and port is None and redirect.get("derivePort") is None:
        yield "redirect must specify URI, authority, scheme, or port"
    elif code and not 300 <= code <= 399:
        yield f"{code} is not a valid redirect code, must be 3xx"
    elif scheme and scheme not in ("http", "https"):
        yield 'invalid redirect scheme, must be "http" or "https"'
    elif port:
        yield from port_number(port)


def _direct_response(answer: Object | None) -> Findings:
    if answer is None:
        return
    body = block(answer, "body")
    size = len(str(body.get("string") or "").encode()) or len(str(body.get("bytes") or "")) * 3 // 4
    if size > 1024 * 1024:
        yield "large direct_responses may impact control plane performance, must be less than 1MB"
    elif size > 100 * 1024:
        yield Remark("large direct_responses may impact control plane performance")
    yield from _status(answer.get("status") or 0)


_RETRY_ON = frozenset(
    [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    ]
)
_CODES = frozenset(str(one.value) for one in HTTPStatus)


def _retries(retries: Object | None) -> Findings:
    if retries is None:
        return
    attempts = int(retries.get("attempts") or 0)
    if attempts < 0:
        yield "attempts cannot be negative"
    more = retries.get("retryOn") or any(present(retries, one) for one in ("perTryTimeout", "retryRemoteLocalities"))
    if not attempts and more:
        yield "http retry policy configured when attempts are set to 0 (disabled)"
    yield from duration(retries.get("perTryTimeout"))
    for condition in str(retries.get("retryOn") or "").split(",") if retries.get("retryOn") else ():
        if condition not in _RETRY_ON | _CODES:
            yield f"{quoted(condition)} is not a valid retryOn policy"
    yield from duration(retries.get("backoff"))


def _rewrite(rewrite: Object | None) -> Findings:
    if rewrite is None:
        return
    uri, regex = rewrite.get("uri"), rewrite.get("uriRegexRewrite")
    if uri and regex is not None:
        yield "rewrite may only contain one of URI or UriRegexRewrite"
    elif not uri and regex is None and not rewrite.get("authority"):
        yield (
            "rewrite must specify at least one of URI, UriRegexRewrite, or authority. Only one of URI or "
            "UriRegexRewrite may be specified"
        )
    elif regex is not None and (why := next(_regex_rewrite(regex), "")):
        yield f"UriRegexRewrite has errors\n{why}"


def _regex_rewrite(regex: Object) -> Findings:
    if not regex.get("match") or not regex.get("rewrite"):
        yield "UriRegexRewrite requires both Rewrite and Match fields to be specified"
    else:
        yield from expression(str(regex["match"]), "HTTPRewrite.UriRegexRewrite.Match")


def _authority(route: Object) -> Findings:
    """The host that the server sees is set in one place."""
    current = str(block(route, "rewrite").get("authority") or "")
    request = block(block(route, "headers"), "request")
    for what in ("set", "add"):
        for name, value in block(request, what).items():
            if not is_authority(name):
                continue
            if current:
                yield (
                    f"authority header cannot be set multiple times: have {quoted(current)}, attempting to set "
                    f"{quoted(value)}"
                )
                return
            current = str(value)


def destinations(entries: list[Object]) -> Findings:
    """Where a route sends, and with what weights: they need not make 100."""
    for one in entries:
        if not present(one, "destination"):
            yield "destination is required"
        yield from operations(one.get("headers"))
        yield from destination(one.get("destination"))
        if (one.get("weight") or 0) < 0:
            yield f"weight {one['weight']} < 0"
    if len(entries) > 1 and not sum(one.get("weight") or 0 for one in entries):
        yield "total destination weight = 0"


def destination(one: Object | None) -> Findings:
    """A host, and a subset and a port of it."""
    if one is None:
        return
    host = str(one.get("host") or "")
    if host == "*":
        yield f"invalid destination host {host}"
    else:
        yield from wildcard_domain(host)
    if one.get("subset"):
        yield from subset_name(str(one["subset"]))
    if present(one, "port"):
        yield from port_number(one["port"].get("number"))
