"""How Istio reads the values of AuthorizationPolicies: rows of its own tests, held against the filter and the rules.

pilot/pkg/security/trustdomain/bundle_test.go, pilot/pkg/security/authz/matcher/{string,header,template}_test.go and
pilot/pkg/security/authz/model/generator_test.go of istio/istio. Where Istio has two forms of one matcher (before and
after its own filter `io.istio.peer_principal`), the form is that of a proxy without Istio's filters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.embedded.controlplane.translation.authorization import LAST, authorization_filters
from labkit.embedded.controlplane.translation.model import MeshConfig, read_sidecar
from labkit.policy.authorization import Request, condition_holds, parse_authorization_policy, path_matches
from labkit.policy.claims import Kind, request_principal
from labkit.policy.identity import principals_meant, trust_domains_meant
from tests.unit.controlplane.objects import make_pod, make_state

Object = dict[str, Any]

BAR = "ns/foo/sa/bar"

# TestReplaceTrustDomainAliases: trust domain and aliases, principals, what they mean
ALIAS_ROWS: list[tuple[str, tuple[str, ...], list[str], list[str]]] = [
    ("no aliases", ("cluster.local",), [f"cluster.local/{BAR}"], [f"cluster.local/{BAR}"]),
    ("*", ("cluster.local",), ["*"], ["*"]),
    ("* prefix", ("cluster.local",), [f"*/{BAR}"], [f"*/{BAR}"]),
    ("one alias, one principal", ("td2", "td1"), [f"td1/{BAR}"], [f"td2/{BAR}", f"td1/{BAR}"]),
    (
        "one alias, two principals",
        ("td1", "cluster.local"),
        [f"cluster.local/{BAR}", "cluster.local/ns/yyy/sa/zzz"],
        [f"td1/{BAR}", f"cluster.local/{BAR}", "td1/ns/yyy/sa/zzz", "cluster.local/ns/yyy/sa/zzz"],
    ),
    (
        "principals with * as they are",
        ("td1", "cluster.local"),
        [f"*/{BAR}", "*sa/zzz", "*"],
        [f"*/{BAR}", "*sa/zzz", "*"],
    ),
    (
        "two aliases, two principals",
        ("td2", "td1", "cluster.local"),
        [f"cluster.local/{BAR}", "td1/ns/yyy/sa/zzz"],
        [
            *(f"td2/{BAR}", f"td1/{BAR}", f"cluster.local/{BAR}"),
            *("td2/ns/yyy/sa/zzz", "td1/ns/yyy/sa/zzz", "cluster.local/ns/yyy/sa/zzz"),
        ],
    ),
    (
        "two aliases with * in the trust domain",
        ("td2", "foo-td1", "cluster.local"),
        [f"*-td1/{BAR}"],
        [f"td2/{BAR}", f"*-td1/{BAR}", f"cluster.local/{BAR}"],
    ),
    ("no trust domain of this mesh", ("td1", "td2"), [f"some-td/{BAR}"], [f"some-td/{BAR}"]),
    (
        "one alias matches",
        ("td1", "td2", "some-td"),
        [f"some-td/{BAR}"],
        [f"td1/{BAR}", f"td2/{BAR}", f"some-td/{BAR}"],
    ),
    (
        "one principal matches one alias",
        ("new-td", "td2", "td3"),
        ["td1/ns/some-ns/sa/some-sa", f"td2/{BAR}"],
        ["td1/ns/some-ns/sa/some-sa", f"new-td/{BAR}", f"td2/{BAR}", f"td3/{BAR}"],
    ),
    # bundle.go: cluster.local is a pointer to the local trust domain
    ("cluster.local is the mesh's own", ("td1",), [f"cluster.local/{BAR}"], [f"td1/{BAR}"]),
]


@pytest.mark.parametrize(("known", "written", "meant"), [pytest.param(*row[1:], id=row[0]) for row in ALIAS_ROWS])
def test_principals_and_trust_domain_aliases(known: tuple[str, ...], written: list[str], meant: list[str]) -> None:
    assert [one for principal in written for one in principals_meant(principal, known)] == meant


def test_trust_domains_stand_for_each_other() -> None:
    """bundle.go ExpandTrustDomainAliases."""
    assert trust_domains_meant("td1", ("td2", "td1")) == ("td2", "td1")
    assert trust_domains_meant("other", ("td2", "td1")) == ("other",)


@pytest.mark.parametrize(
    ("caller", "known", "in_"),
    [
        ("td2", ("td2", "td1"), True),
        ("td1", ("td2", "td1"), True),
        ("td3", ("td2", "td1"), False),
        ("cluster.local", ("cluster.local",), False),
    ],
)
def test_the_decision_follows_the_aliases(caller: str, known: tuple[str, ...], in_: bool) -> None:
    (condition,) = conditions({"from": [{"source": {"principals": [f"td1/{BAR}"]}}]})
    request = Request(principal=f"{caller}/{BAR}", trust_domains=known)
    assert condition_holds(condition, request) is in_


# The filter


def conditions(rule: Object) -> list[Any]:
    policy = parse_authorization_policy(policy_of(rule))
    (parsed,) = policy.rules
    return [one for group in (*parsed.sources, *parsed.operations, parsed.when) for one in group]


def policy_of(rule: Object) -> Object:
    metadata = {"name": "a", "namespace": "foo", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"kind": "AuthorizationPolicy", "metadata": metadata, "spec": {"rules": [rule]}}


def filter_of(rule: Object, mesh: MeshConfig | None = None) -> Object:
    """The RBAC filter of a server under a policy with this one rule."""
    pod = make_pod()
    state = make_state(pod, mesh=mesh)
    state.on_config("AuthorizationPolicy", "ADDED", policy_of(rule))
    sidecar = read_sidecar(pod)
    assert sidecar
    (found,) = authorization_filters(state.snapshot(), sidecar, LAST, http=True)
    return found


def parts_of(config: Any) -> Iterator[Any]:
    """Everything that is nested in a configuration, and it itself."""
    yield config
    if isinstance(config, dict):
        for one in config.values():
            yield from parts_of(one)
    elif isinstance(config, list):
        for one in config:
            yield from parts_of(one)


def source(**fields: Any) -> Object:
    return {"from": [{"source": fields}]}


def operation(**fields: Any) -> Object:
    return {"to": [{"operation": fields}]}


def when(key: str, value: str) -> Object:
    return {"when": [{"key": key, "values": [value]}]}


def header(name: str, **match: Any) -> Object:
    return {"header": {"name": name, **match}}


TEMPLATE = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
ADDRESS = {"address_prefix": "1.2.3.4", "prefix_len": 32}

FILTER_ROWS: list[tuple[str, Object, Object]] = [
    # generator_test.go TestGenerator
    ("destIP", when("destination.ip", "1.2.3.4"), {"destination_ip": ADDRESS}),
    ("destPort", when("destination.port", "8080"), {"destination_port": 8080}),
    ("connSNI", when("connection.sni", "exact.com"), {"requested_server_name": {"exact": "exact.com"}}),
    ("srcIP", source(ipBlocks=["1.2.3.4"]), {"direct_remote_ip": ADDRESS}),
    ("remoteIP", source(remoteIpBlocks=["1.2.3.4"]), {"remote_ip": ADDRESS}),
    (
        "srcNamespace",
        source(namespaces=["foo"]),
        {"authenticated": {"principal_name": {"safe_regex": {"regex": ".*/ns/foo/.*"}}}},
    ),
    ("srcPrincipal", source(principals=["foo"]), {"authenticated": {"principal_name": {"exact": "spiffe://foo"}}}),
    (
        "serviceAccount",
        source(serviceAccounts=["my-ns/my-sa"]),
        {
            "authenticated": {
                "principal_name": {"safe_regex": {"regex": "spiffe://.+/ns/my\\-ns/(.+/|)sa/my\\-sa(/.+)?"}}
            }
        },
    ),
    ("requestHeader", when("request.headers[x-foo]", "foo"), header("x-foo", string_match={"exact": "foo"})),
    ("host", operation(hosts=["foo"]), header(":authority", string_match={"exact": "foo", "ignore_case": True})),
    ("path", operation(paths=["/abc"]), {"url_path": {"path": {"exact": "/abc"}}}),
    ("method", operation(methods=["GET"]), header(":method", string_match={"exact": "GET"})),
    # header_test.go TestHeaderMatcher, TestHostMatcher, TestPathMatcher
    ("header prefix", when("request.headers[x]", "/page*"), header("x", string_match={"prefix": "/page"})),
    ("header suffix", when("request.headers[x]", "*/page*"), header("x", string_match={"suffix": "/page*"})),
    ("header *", when("request.headers[x]", "*"), header("x", present_match=True)),
    ("host *", operation(hosts=["*"]), header(":authority", present_match=True)),
    (
        "host suffix",
        operation(hosts=["*.example.com"]),
        header(":authority", string_match={"suffix": ".example.com", "ignore_case": True}),
    ),
    (
        "host prefix",
        operation(hosts=["example.*"]),
        header(":authority", string_match={"prefix": "example.", "ignore_case": True}),
    ),
    ("path prefix", operation(paths=["/prefix*"]), {"url_path": {"path": {"prefix": "/prefix"}}}),
    ("path suffix", operation(paths=["*suffix"]), {"url_path": {"path": {"suffix": "suffix"}}}),
    ("path *", operation(paths=["*"]), {"url_path": {"path": {"safe_regex": {"regex": ".+"}}}}),
    # string_test.go TestStringMatcherWithPrefix, with the prefix of principals
    ("principal *", source(principals=["*"]), {"principal_name": {"safe_regex": {"regex": ".+"}}}),
    ("principal prefix", source(principals=["-prefix-*"]), {"principal_name": {"prefix": "spiffe://-prefix-"}}),
    ("principal suffix", source(principals=["*-suffix"]), {"principal_name": {"suffix": "-suffix"}}),
    # template_test.go TestPathTemplateMatcher
    *(
        (
            f"template {written}",
            operation(paths=[written]),
            {"uri_template": {"name": "uri-template", "typed_config": {"@type": TEMPLATE, "path_template": template}}},
        )
        for written, template in (
            ("/foo/bar/{*}", "/foo/bar/*"),
            ("/foo/{**}/bar.tmp", "/foo/**/bar.tmp"),
            ("/{*}/foo/{**}/bar.tmp", "/*/foo/**/bar.tmp"),
        )
    ),
]


@pytest.mark.parametrize(("rule", "expected"), [pytest.param(*row[1:], id=row[0]) for row in FILTER_ROWS])
def test_what_a_value_becomes(rule: Object, expected: Object) -> None:
    found = list(parts_of(filter_of(rule)))
    assert expected in found
    (name,) = expected
    others = [part for part in found if isinstance(part, dict) and set(part) == {name}]
    assert others == [expected], "this matcher and no other of its kind"


def test_aliases_are_in_the_filter() -> None:
    mesh = MeshConfig(trust_domain="td2", trust_domain_aliases=("td1",))
    found = str(filter_of(source(principals=[f"td1/{BAR}"]), mesh))
    assert f"spiffe://td2/{BAR}" in found
    assert f"spiffe://td1/{BAR}" in found


# generator_test.go TestServiceAccount: an identity, and whether my-ns/my-sa matches it. Envoy matches the whole text.
ACCOUNT_ROWS = [
    ("standard", "spiffe://cluster.local/ns/my-ns/sa/my-sa", True),
    ("suffix attributes", "spiffe://cluster.local/ns/my-ns/sa/my-sa/k/v", True),
    ("prefix attributes", "spiffe://cluster.local/k/v/ns/my-ns/sa/my-sa", True),
    ("middle attributes", "spiffe://cluster.local/ns/my-ns/k/v/sa/my-sa", True),
    ("all attributes", "spiffe://cluster.local/k1/v1/ns/my-ns/k2/v2/sa/my-sa/k3/v3", True),
    ("sa suffix string", "spiffe://cluster.local/ns/my-ns/sa/my-sa-suffix", False),
    ("ns suffix string", "spiffe://cluster.local/ns/my-ns-suffix/sa/my-sa", False),
    ("not spiffe", "cluster.local/ns/my-ns/sa/my-sa", False),
    ("invalid spiffe", "spiffe://ns/my-ns/sa/my-sa", False),
    ("missing sa", "spiffe://cluster.local/ns/my-ns", False),
    ("missing ns", "spiffe://cluster.local/sa/my-sa", False),
    ("weird keys", "spiffe://cluster.local/k/ns/my-ns/something/bar/sa/my-sa/baz", True),
]


@pytest.mark.parametrize(("identity", "matches"), [pytest.param(*row[1:], id=row[0]) for row in ACCOUNT_ROWS])
def test_service_accounts(identity: str, matches: bool) -> None:
    (expression,) = (
        part["regex"]
        for part in parts_of(filter_of(source(serviceAccounts=["my-ns/my-sa"])))
        if isinstance(part, dict) and "regex" in part
    )
    assert (re.fullmatch(expression, identity) is not None) is matches


# generator_test.go TestRequestPrincipal: what is written, then issuer and subject as kinds and texts
PRINCIPAL_ROWS = [
    ("*", (".+", ""), (".+", "")),
    ("foo*", ("prefix", "foo"), (".+", "")),
    ("foo/*", ("exact", "foo"), (".+", "")),
    ("foo/bar*", ("exact", "foo"), ("prefix", "bar")),
    ("*foo", (".+", ""), ("suffix", "foo")),
    ("*/foo", (".+", ""), ("exact", "foo")),
    ("*bar/foo", ("suffix", "bar"), ("exact", "foo")),
    ("foo/bar", ("exact", "foo"), ("exact", "bar")),
]


@pytest.mark.parametrize(("written", "issuer", "subject"), PRINCIPAL_ROWS)
def test_request_principals(written: str, issuer: tuple[str, str], subject: tuple[str, str]) -> None:
    found = [(".+" if one.kind is Kind.ANYTHING else one.kind.value, one.text) for one in request_principal(written)]
    assert found == [issuer, subject]


# https://istio.io/latest/docs/reference/config/security/authorization-policy/#Operation, field paths
@pytest.mark.parametrize(
    ("template", "path", "matches"),
    [
        ("/foo/{*}", "/foo/bar", True),
        ("/foo/{*}", "/foo/bar/baz", False),
        ("/foo/{**}/", "/foo/bar/", True),
        ("/foo/{**}/", "/foo//", True),
        ("/foo/{**}/", "/foo/bar", False),
        ("/{*}/bar/{**}", "/foo/bar/buzz", True),
        ("/{*}/bar/{**}", "/foo/bar/buzz/baz", True),
        ("/{*}/bar/{**}", "/bar/buzz", False),
    ],
)
def test_path_templates(template: str, path: str, matches: bool) -> None:
    assert path_matches(template, path) is matches
