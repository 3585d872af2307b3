"""VirtualService: TestValidateVirtualService, TestValidateHTTPRoute and the tests of its parts in validation_test.go;
TestValidateChainingVirtualService, TestValidateRootHTTPRoute, TestValidateDelegateHTTPRoute in virtualservice_test.go.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.published.validation.rows import Row, check, parameters

TO = "route: [{destination: {host: foo.baz}}]"
HTTP = f"http: [{{{TO}}}]"
SNI = "outbound_.15010_._.istiod.istio-system.svc.cluster.local"
ISTIOD = "istio.istio-system.svc.cluster.local"

# TestValidateVirtualService
WHOLE: list[Row] = [
    ("simple", f"{{hosts: [foo.bar], {HTTP}}}", "", ""),
    (
        "allow sni based domains",
        f"{{hosts: [{SNI}], gateways: [ns1/gateway], "
        f"tls: [{{match: [{{sniHosts: [{SNI}]}}], route: [{{destination: {{host: {ISTIOD}}}}}]}}]}}",
        "",
        "",
    ),
    ("duplicate hosts", f"{{hosts: ['*.foo.bar', '*.bar'], {HTTP}}}", "duplicate hosts in virtual service", ""),
    ("with no destination", "{hosts: [foo.bar], http: [{route: [{}]}]}", "destination is required", ""),
    (
        "destination without hosts",
        "{hosts: [foo.bar], http: [{route: [{destination: {}}]}]}",
        "empty domain name not allowed",
        "",
    ),
    ("delegate with no hosts", f"{{{HTTP}}}", "", ""),
    ("bad host", f"{{hosts: [foo.ba!r], {HTTP}}}", 'domain name "ba!r" invalid (label "ba!r" invalid)', ""),
    ("no tcp or http routing", "{hosts: [foo.bar]}", "http, tcp or tls must be provided in virtual service", ""),
    ("bad gateway", f"{{hosts: [foo.bar], gateways: ['b@dgateway'], {HTTP}}}", 'label "b@dgateway" invalid', ""),
    (
        "FQDN for gateway",
        f"{{hosts: [foo.bar], gateways: [gateway.example.com], {HTTP}}}",
        "",
        'prefer the <namespace>/<name> format: "example/gateway"',
    ),
    ("namespace/name for gateway", f"{{hosts: [foo.bar], gateways: [ns1/gateway], {HTTP}}}", "", ""),
    ("namespace/* for gateway", f"{{hosts: [foo.bar], gateways: ['ns1/*'], {HTTP}}}", "invalid value for gateway", ""),
    ("*/name for gateway", f"{{hosts: [foo.bar], gateways: ['*/gateway'], {HTTP}}}", "invalid value for namespace", ""),
    (
        "wildcard for mesh gateway",
        f"{{hosts: ['*'], {HTTP}}}",
        "wildcard host * is not allowed for virtual services bound to the mesh gateway",
        "",
    ),
    ("wildcard for non-mesh gateway", f"{{hosts: ['*'], gateways: [somegateway], {HTTP}}}", "", ""),
    ("missing tcp route", "{hosts: [foo.bar], tcp: [{match: [{port: 999}]}]}", "TCP route is required", ""),
    (
        "missing tls route",
        "{hosts: [foo.bar], tls: [{match: [{port: 999, sniHosts: [foo.bar]}]}]}",
        "TLS route is required",
        "",
    ),
    (
        "deprecated mirror",
        f"{{hosts: [foo.bar], gateways: [ns1/gateway], http: [{{mirrorPercent: 5, {TO}}}]}}",
        "",
        'using deprecated setting "mirrorPercent", use "mirrorPercentage" instead',
    ),
    (
        "set authority",
        f"{{hosts: [foo.bar], http: [{{headers: {{request: {{set: {{':authority': foo}}}}}}, {TO}}}]}}",
        "",
        "",
    ),
    (
        "set authority in destination",
        "{hosts: [foo.bar], http: [{route: "
        "[{destination: {host: foo.baz}, headers: {request: {set: {':authority': foo}}}}]}]}",
        "",
        "",
    ),
    (
        "set authority in rewrite and header",
        f"{{hosts: [foo.bar], http: [{{headers: {{request: {{set: {{':authority': foo}}}}}}, "
        f"rewrite: {{authority: bar}}, {TO}}}]}}",
        'authority header cannot be set multiple times: have "bar", attempting to set "foo"',
        "",
    ),
    (
        "non-method-get",
        f"{{hosts: [foo.bar], http: [{{{TO}, match: [{{uri: {{prefix: /api/v1/product}}}}, "
        "{uri: {prefix: /api/v1/products}, method: {exact: GET}}]}]}",
        "",
        "virtualService rule #0 match #1 of prefix /api/v1/products is not used (duplicate/overlapping match in rule "
        "#0 of prefix /api/v1/product on #0)",
    ),
    (
        "uri-with-prefix-exact",
        f"{{hosts: [foo.bar], http: [{{{TO}, match: [{{uri: {{prefix: /}}}}, "
        "{uri: {exact: /}, method: {exact: GET}}]}]}",
        "",
        "",
    ),
    (
        "jwt claim route without gateway",
        f"{{hosts: [foo.bar], gateways: [mesh], http: [{{{TO}, match: "
        "[{uri: {prefix: /}, headers: {'@request.auth.claims.foo': {exact: bar}}}]}]}",
        "JWT claim based routing (key: @request.auth.claims.foo) is only supported for gateway, found no gateways: "
        "[mesh]",
        "",
    ),
    (
        "ip address as sni host",
        f"{{hosts: [foo.bar], tls: [{{{TO}, match: [{{port: 999, sniHosts: [1.1.1.1]}}]}}]}}",
        "",
        'using an IP address ("1.1.1.1") goes against SNI spec and most clients do not support this',
    ),
    (
        "invalid wildcard as sni host",
        f"{{hosts: [foo.bar], tls: [{{{TO}, match: [{{port: 999, sniHosts: ['foo.*.com']}}]}}]}}",
        'label "*" invalid',
        "",
    ),
]
# TestValidateChainingVirtualService
DELEGATES: list[Row] = [
    ("root simple", "{hosts: [foo.bar], gateways: [gw], http: [{delegate: {name: test, namespace: test}}]}", "", ""),
    (
        "root with delegate and destination in one route",
        f"{{hosts: [foo.bar], http: [{{delegate: {{name: test, namespace: test}}, {TO}}}]}}",
        "root HTTP route  must not specify route",
        "",
    ),
    (
        "redirect and delegate conflict",
        "{hosts: [foo.bar], http: [{delegate: {name: test}, redirect: {uri: /lerp, authority: foo.biz}}]}",
        "root HTTP route  must not specify redirect",
        "",
    ),
    ("delegate with no destination", "{http: [{}]}", "HTTP route, redirect or direct_response is required", ""),
    (
        "delegate with delegate",
        "{http: [{delegate: {name: test, namespace: test}}]}",
        "delegate HTTP route cannot contain delegate",
        "",
    ),
    (
        "delegate with TCP route",
        f"{{tcp: [{{{TO}}}]}}",
        "must have no tcp route specified",
        "",
    ),
    ("delegate with gateway", f"{{gateways: [test], {HTTP}}}", "must have no gateways specified", ""),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters([*WHOLE, *DELEGATES]))
def test_virtual_services(spec: str, error: str, warning: str) -> None:
    check("VirtualService", spec, error, warning)


def changed(where: str, what: str, values: str) -> str:
    return f"route: [{{destination: {{host: foo.baz}}, headers: {{{where}: {{{what}: {values}}}}}}}]"


EMPTY, UNESCAPED = "header name cannot be empty", "Un-terminated variable expression 'abcd%oijasodifj'"
# TestValidateHTTPRoute: the fields of one route
ROUTES: list[Row] = [
    ("empty", "", "HTTP route, redirect or direct_response is required", ""),
    ("simple", TO, "", ""),
    ("no destination", "route: [{}]", "destination is required", ""),
    ("weighted", "route: [{destination: {host: a}, weight: 25}, {destination: {host: b}, weight: 75}]", "", ""),
    (
        "total weight > 100",
        "route: [{destination: {host: a}, weight: 550}, {destination: {host: b}, weight: 9}]",
        "",
        "",
    ),
    (
        "total weight < 100",
        "route: [{destination: {host: a}, weight: 49}, {destination: {host: b}, weight: 5}]",
        "",
        "",
    ),
    ("simple redirect", "redirect: {uri: /lerp, authority: foo.biz}", "", ""),
    (
        "conflicting redirect and route",
        f"{TO}, redirect: {{uri: /lerp, authority: foo.biz}}",
        "HTTP route cannot contain both route and redirect",
        "",
    ),
    (
        "valid headers",
        "route: [{destination: {host: foo.baz}, headers: {request: {add: {name: ''}, set: {name: ''}, remove: [name]}, "
        "response: {add: {name: ''}, set: {name: ''}, remove: [name]}}}]",
        "",
        "",
    ),
    *(
        (f"empty header name - {side} {what}", changed(side, what, "{'': value}"), EMPTY, "")
        for side in ("request", "response")
        for what in ("add", "set")
    ),
    *(
        (f"empty header name - {side} remove", changed(side, "remove", "['']"), EMPTY, "")
        for side in ("request", "response")
    ),
    ("envoy escaped % set", changed("response", "set", "{i-love-istio: '100%%'}"), "", ""),
    ("envoy variable set", changed("response", "set", "{name: '%HOSTNAME%'}"), "", ""),
    ("envoy unescaped % set", changed("response", "set", "{name: 'abcd%oijasodifj'}"), UNESCAPED, ""),
    ("envoy escaped % add", changed("response", "add", "{i-love-istio: '100%% and more'}"), "", ""),
    ("envoy variable add", changed("response", "add", "{name: 'hello %HOSTNAME%'}"), "", ""),
    ("envoy unescaped % add", changed("response", "add", "{name: 'abcd%oijasodifj'}"), UNESCAPED, ""),
    ("null header match", f"{TO}, match: [{{headers: {{header: null}}}}]", "header match header cannot be null", ""),
    (
        "empty prefix header match",
        f"{TO}, match: [{{headers: {{emptyprefix: {{prefix: ''}}}}}}]",
        '"headers": prefix string match should not be empty',
        "",
    ),
    (
        "invalid mirror percent",
        f"{TO}, mirrorPercent: 101",
        "mirror_percent must have a max value of 100 (it has 101)",
        "deprecated setting",
    ),
    (
        "invalid mirror percentage",
        f"{TO}, mirrorPercentage: {{value: 101}}",
        "mirror_percentage must have a max value of 100 (it has 101.000000)",
        "",
    ),
    ("valid mirror percentage", f"{TO}, mirrorPercentage: {{value: 1}}", "", ""),
    (
        "negative mirror percentage",
        f"{TO}, mirrorPercentage: {{value: -1}}",
        "mirror_percentage must have a min value of 0 (it has -1.000000)",
        "",
    ),
    ("mirrors without destination", f"{TO}, mirrors: [{{}}]", "destination is required for mirrors", ""),
    (
        "mirrors invalid mirror percentage",
        f"{TO}, mirrors: [{{destination: {{host: a}}}}, {{destination: {{host: a}}, percentage: {{value: 101}}}}]",
        "mirror percentage must have a max value of 100 (it has 101.000000)",
        "",
    ),
    (
        "mirrors valid mirror percentage",
        f"{TO}, mirrors: [{{destination: {{host: a}}, percentage: {{value: 1}}}}]",
        "",
        "",
    ),
    (
        "mirrors negative mirror percentage",
        f"{TO}, mirrors: [{{destination: {{host: a}}, percentage: {{value: -1}}}}]",
        "mirror percentage must have a min value of 0",
        "",
    ),
    (
        "conflicting mirror and mirrors",
        f"{TO}, mirror: {{host: a}}, mirrors: [{{destination: {{host: b}}}}]",
        "HTTP route cannot contain both mirror and mirrors",
        "",
    ),
]


def on_route(name: str, *rows: tuple[str, str, str]) -> list[Row]:
    """Rows about one field of a route that has a destination."""
    return [(f"{name}: {label}", f"{TO}, {name}: {value}", error, "") for label, value, error in rows]


RANGE, PERCENT = "is not in range 200-599", "is neither 0.0, nor in range [0.0001, 100.0]"
MS, TINY = "only durations to ms precision are supported", "duration must be greater than 1ms"
# TestValidateHTTPFaultInjectionAbort, TestValidateHTTPFaultInjectionDelay
FAULTS = on_route(
    "fault",
    ("abort valid", "{abort: {percentage: {value: 20}, httpStatus: 200}}", ""),
    ("abort valid default", "{abort: {httpStatus: 200}}", ""),
    ("abort invalid http status", "{abort: {percentage: {value: 20}, httpStatus: 9000}}", f"HTTP status 9000 {RANGE}"),
    ("abort invalid low http status", "{abort: {percentage: {value: 20}, httpStatus: 100}}", RANGE),
    ("abort valid percentage", "{abort: {percentage: {value: 0.001}, httpStatus: 200}}", ""),
    ("abort fractional", "{abort: {percentage: {value: -10.0}, httpStatus: 200}}", f"percentage -10 {PERCENT}"),
    ("grpc valid", "{abort: {percentage: {value: 20}, grpcStatus: DEADLINE_EXCEEDED}}", ""),
    ("grpc invalid status", "{abort: {grpcStatus: BAD_STATUS}}", 'gRPC status "BAD_STATUS" is not supported'),
    ("grpc valid percentage", "{abort: {percentage: {value: 0.001}, grpcStatus: INTERNAL}}", ""),
    ("delay valid fixed", "{delay: {percentage: {value: 20}, fixedDelay: 3s}}", ""),
    ("delay valid default", "{delay: {fixedDelay: 3s}}", ""),
    ("delay invalid percent", "{delay: {percentage: {value: 101}, fixedDelay: 3s}}", f"percentage 101 {PERCENT}"),
    ("delay invalid delay", "{delay: {percentage: {value: 20}, fixedDelay: 3.000000042s}}", MS),
    ("delay valid fractional", "{delay: {percentage: {value: 0.001}, fixedDelay: 3s}}", ""),
    ("delay invalid fractional", "{delay: {percentage: {value: -10.0}, fixedDelay: 3s}}", PERCENT),
    ("nothing", "{}", "HTTP fault injection must have an abort and/or a delay"),
)
DISABLED = "http retry policy configured when attempts are set to 0 (disabled)"
# TestValidateHTTPRetry
RETRIES = on_route(
    "retries",
    ("valid", "{attempts: 10, perTryTimeout: 2s, retryOn: '5xx,gateway-error'}", ""),
    ("disable retries", "{attempts: 0}", ""),
    ("policy without attempts", "{attempts: 0, perTryTimeout: 2s, retryOn: '5xx,gateway-error'}", DISABLED),
    ("valid default", "{attempts: 10}", ""),
    ("valid http status", "{attempts: 10, perTryTimeout: 2s, retryOn: '503,connect-failure'}", ""),
    ("invalid attempts", "{attempts: -1, perTryTimeout: 2s}", "attempts cannot be negative"),
    ("invalid timeout", "{attempts: 10, perTryTimeout: 2.000000001s}", MS),
    ("timeout too small", "{attempts: 10, perTryTimeout: 999ns}", TINY),
    ("invalid backoff", "{attempts: 10, backoff: 999ns}", TINY),
    (
        "invalid policy",
        "{attempts: 10, retryOn: '5xx,invalid policy'}",
        '"invalid policy" is not a valid retryOn',
    ),
    ("invalid http status", "{attempts: 10, retryOn: '600,connect-failure'}", '"600" is not a valid retryOn policy'),
    ("remote localities without attempts", "{attempts: 0, retryRemoteLocalities: false}", DISABLED),
)
REGEX = r"{match: '^/service/([^/]+)(/.*)$', rewrite: '\2/instance/\1'}"
# TestValidateHTTPRewrite, TestValidateUriRegexRewrite
REWRITES = on_route(
    "rewrite",
    ("uri and authority", "{uri: /path/to/resource, authority: foobar.org}", ""),
    ("uri", "{uri: /path/to/resource}", ""),
    ("authority", "{authority: foobar.org}", ""),
    ("regex", f"{{uriRegexRewrite: {REGEX}}}", ""),
    ("regex and authority", f"{{authority: foobar.org, uriRegexRewrite: {REGEX}}}", ""),
    ("regex and uri", f"{{uri: /path, uriRegexRewrite: {REGEX}}}", "may only contain one of URI or UriRegexRewrite"),
    ("nothing", "{}", "rewrite must specify at least one of URI, UriRegexRewrite, or authority"),
    ("regex without match", r"{uriRegexRewrite: {rewrite: '\2'}}", "requires both Rewrite and Match fields"),
    ("regex without rewrite", "{uriRegexRewrite: {match: '^/a'}}", "requires both Rewrite and Match fields"),
    ("invalid regex", "{uriRegexRewrite: {match: '[', rewrite: '['}}", "error parsing regexp: missing closing ]: `[`"),
)
# TestValidateCORSPolicy
CORS = on_route(
    "corsPolicy",
    ("valid", "{allowMethods: [GET, POST], allowHeaders: [header1], exposeHeaders: [header3], maxAge: 2s}", ""),
    ("bad method", "{allowMethods: [GET, PUTT]}", '"PUTT" is not a supported HTTP method'),
    ("bad header", "{exposeHeaders: ['']}", EMPTY),
    ("bad max age", "{maxAge: 2.000000042s}", "max_age duration is accurate only to seconds precision"),
    ("empty origins", "{allowOrigins: [{exact: ''}, {prefix: ''}, {regex: ''}]}", "is not a valid match type for CORS"),
    ("origins", "{allowOrigins: [{exact: exact}, {prefix: prefix}, {regex: regex}]}", ""),
)
# TestValidateHTTPRedirect, TestValidateHTTPDirectResponse: instead of a destination
ANSWERS: list[Row] = [
    ("empty uri and authority", "redirect: {uri: '', authority: ''}", "redirect must specify URI, authority", ""),
    (
        "too small redirect code",
        "redirect: {uri: t, redirectCode: 299}",
        "299 is not a valid redirect code",
        "",
    ),
    ("too large redirect code", "redirect: {uri: t, redirectCode: 400}", "400 is not a valid redirect code", ""),
    ("empty authority", "redirect: {uri: t, authority: ''}", "", ""),
    ("empty uri", "redirect: {uri: '', authority: t}", "", ""),
    ("empty redirect code", "redirect: {uri: t, authority: t, redirectCode: 0}", "", ""),
    ("normal redirect", "redirect: {uri: t, authority: t, redirectCode: 308}", "", ""),
    ("status 200", "directResponse: {status: 200}", "", ""),
    ("status 199", "directResponse: {status: 199}", RANGE, ""),
    ("status 601", "directResponse: {status: 601}", RANGE, ""),
    ("with string body", "directResponse: {status: 200, body: {string: hello}}", "", ""),
    (
        "body over 100kb",
        f"directResponse: {{status: 200, body: {{string: {'a' * 101 * 1024}}}}}",
        "",
        "large direct_responses may impact control plane performance",
    ),
    (
        "body over 1mb",
        f"directResponse: {{status: 200, body: {{string: {'a' * 2**21}}}}}",
        "must be less than 1MB",
        "",
    ),
]


@pytest.mark.parametrize(
    ("route", "error", "warning"),
    parameters([*ROUTES, *FAULTS, *RETRIES, *REWRITES, *CORS, *ANSWERS]),
)
def test_http_routes(route: str, error: str, warning: str) -> None:
    check("VirtualService", f"{{hosts: [foo.bar], http: [{{{route}}}]}}", error, warning)


# TestValidateRouteDestination: the hosts and weights of a TCP route
DESTINATIONS = [
    ("simple", "[{destination: {host: foo.baz}}]", ""),
    ("wildcard dash", "[{destination: {host: '*-foo.baz'}}]", ""),
    ("wildcard prefix", "[{destination: {host: '*foo.baz'}}]", ""),
    ("wildcard", "[{destination: {host: '*'}}]", "invalid destination host *"),
    ("bad wildcard", "[{destination: {host: 'foo.*'}}]", 'label "*" invalid'),
    ("bad fqdn", "[{destination: {host: default/baz}}]", 'label "default/baz" invalid'),
    ("no destination", "[{}]", "destination is required"),
    ("weight < 0", "[{destination: {host: a}, weight: 5}, {destination: {host: b}, weight: -1}]", "weight -1 < 0"),
    ("total weight = 100", "[{destination: {host: a}, weight: 100}, {destination: {host: b}, weight: 0}]", ""),
    ("weight = 0", "[{destination: {host: a}, weight: 0}]", ""),
    ("total weight = 0", "[{destination: {host: a}}, {destination: {host: b}}]", "total destination weight = 0"),
    # TestValidateDestination
    ("empty", "[{destination: {}}]", "empty domain name not allowed"),
    ("full", "[{destination: {host: foo.bar, subset: shiny, port: {number: 5000}}}]", ""),
    (
        "unnumbered-selector",
        "[{destination: {host: foo.bar, subset: shiny, port: {}}}]",
        "port number 0 must be",
    ),
]


@pytest.mark.parametrize(("route", "error"), [pytest.param(*row[1:], id=row[0]) for row in DESTINATIONS])
def test_destinations(route: str, error: str) -> None:
    check("VirtualService", f"{{hosts: [foo.bar], tcp: [{{route: {route}}}]}}", error, "")


# TestValidateHTTPHeaderValue
@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("foo", True),
        ("%HOSTNAME%", True),
        ("100%%", True),
        ("prefix %HOSTNAME% suffix", True),
        ("%DOWNSTREAM_PEER_CERT_V_END(%b %d %H:%M:%S %Y %Z)%", True),
        ("%DYNAMIC_METADATA(com.test.my_filter)%", True),
        ("%START_TIME%%", False),
        ("abc%123", False),
    ],
)
def test_header_values(value: str, valid: bool) -> None:
    route: dict[str, Any] = yaml.safe_load(f"{{{TO}}}")
    route["headers"] = {"request": {"set": {"a": value}}}
    spec = {"hosts": ["foo.bar"], "http": [route]}
    check("VirtualService", spec, "" if valid else "header value configuration", "")


# TestValidateHTTPHeaderName
@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("header1", True),
        ("X-Requested-With", True),
        (":authority", True),
        ("funky!$#_", True),
        ("", False),
        ("::", False),
        ('illegal"char', False),
    ],
)
def test_names_of_matched_headers(name: str, valid: bool) -> None:
    route: dict[str, Any] = yaml.safe_load(f"{{{TO}}}")
    route["match"] = [{"headers": {name: {"exact": "a"}}}]
    check("VirtualService", {"hosts": ["foo.bar"], "http": [route]}, "" if valid else "header name", "")


# agent/validation_test.go TestValidateWildcardDomainForVirtualServiceBoundToGateway, TestParseAutoGeneratedSNIDomain
@pytest.mark.parametrize(
    ("host", "error"),
    [
        ("outbound_.80_._.e2e.foobar.mesh", ""),
        ("outbound.com", ""),
        ("neverbound_.80_._.e2e.foobar.mesh", 'label "neverbound_" invalid'),
        ("outbound_.thisIsNotAPort_._.e2e.foobar.mesh", "should follow outbound_.<PORT>_._.<HOSTNAME> format"),
        ("outbound_.80_._", "should follow outbound_.<PORT>_._.<HOSTNAME> format"),
        ("*.bar.com", ""),
        ("*foo.bar.com", ""),
        ("*-foo.bar.com", ""),
        ("foo.*.com", 'label "*" invalid'),
        ("foo*.bar.com", 'label "foo*" invalid'),
        ("x" * 256, "too long (max 255)"),
        ("x" * 63, ""),
    ],
)
def test_hosts_at_gateways_that_route_by_sni(host: str, error: str) -> None:
    tls = [{"match": [{"sniHosts": [host]}], "route": [{"destination": {"host": "a"}}]}]
    check("VirtualService", {"hosts": [host], "gateways": ["ns1/gateway"], "tls": tls}, error, "")
