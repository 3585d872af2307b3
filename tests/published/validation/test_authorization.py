"""AuthorizationPolicy: TestValidateAuthorizationPolicy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.published.validation.rows import Row, check, parameters

LABELS = "selector: {matchLabels: {app: httpbin, version: v1}}"
GATEWAY = "{group: gateway.networking.k8s.io, kind: Gateway, name: foo}"
NAMELESS = "{group: gateway.networking.k8s.io, kind: Gateway}"
ELSEWHERE = "{group: gateway.networking.k8s.io, kind: Gateway, name: foo, namespace: bar}"
DENIED = (
    "action: DENY, rules: [{from: [{source: {principals: [temp]}}], "
    "to: [{operation: {ports: ['8080'], methods: [GET, DELETE]}}]}]"
)
PROVIDER = "provider: {name: my-custom-authz}"
NO_RULES = "action without `rules` is meaningless as it will never be triggered, add an empty rule `{}` if you want it"
TCP_TOO = "will deny all traffic to TCP ports under its scope due to the use of only HTTP attributes in a DENY rule"
TARGETS = (
    "targetRef must be to one of [core/v1/Service networking.istio.io/v1/ServiceEntry "
    "gateway.networking.k8s.io/v1/Gateway gateway.networking.k8s.io/v1/GatewayClass] but was "
)
ONE_TARGET = "only one of targetRefs or workloadSelector can be set"
SOURCE_FIELDS = (
    *("principals", "notPrincipals", "requestPrincipals", "notRequestPrincipals", "namespaces", "notNamespaces"),
    *("serviceAccounts", "ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"),
)
OPERATION_FIELDS = ("hosts", "notHosts", "ports", "notPorts", "methods", "notMethods", "paths", "notPaths")


def title(field: str) -> str:
    return field[0].upper() + field[1:]


def when(condition: str) -> str:
    return f"{LABELS}, rules: [{{when: [{condition}]}}]"


ROWS: list[Row] = [
    (
        "good",
        f"{LABELS}, rules: [{{from: [{{source: {{principals: [sa1]}}}}, {{source: {{principals: [sa2]}}}}], "
        "to: [{operation: {methods: [GET]}}, {operation: {methods: [POST]}}], "
        "when: [{key: source.ip, values: [1.2.3.4, 5.6.7.0/24]}, "
        "{key: 'request.headers[:authority]', values: [v1, v2]}]}]",
        "",
        "",
    ),
    (
        "good serviceAccounts",
        "rules: [{from: [{source: {serviceAccounts: [ns1/sa1, ns2/sa2]}}, {source: {principals: [sa2]}}]}]",
        "",
        "",
    ),
    (
        "serviceAccounts and namespaces",
        "rules: [{from: [{source: {serviceAccounts: [ns1/sa1], namespaces: [ns]}}]}]",
        "invalid policy foo.bar: cannot set serviceAccounts with namespaces or principals, found at rule 0",
        "",
    ),
    ("custom-good", f"action: CUSTOM, {PROVIDER}, rules: [{{}}]", "", ""),
    (
        "custom-empty-provider",
        "action: CUSTOM, provider: {name: ''}, rules: [{}]",
        "`provider.name` must not be empty",
        "",
    ),
    ("custom-nil-provider", "action: CUSTOM, rules: [{}]", "`provider.name` must not be empty", ""),
    *(
        (
            f"custom-invalid-rule: {field}",
            f"action: CUSTOM, {PROVIDER}, rules: [{{from: [{{source: {{{field}: [a]}}}}]}}]",
            f"From.{title(field)} is currently not supported with CUSTOM action",
            "",
        )
        for field in (*SOURCE_FIELDS[:6],)
    ),
    *(
        (
            f"custom-invalid-rule: {key}",
            f"action: CUSTOM, {PROVIDER}, rules: [{{when: [{{key: '{key}', values: [a], notValues: [b]}}]}}]",
            f"{key} is currently not supported with CUSTOM action",
            "",
        )
        for key in ("source.namespace", "source.principal", "request.auth.claims[a]")
    ),
    (
        "provider-wrong-action",
        "action: ALLOW, provider: {name: ''}, rules: [{}]",
        "`provider` must not be with non CUSTOM action, found ALLOW",
        "",
    ),
    ("allow-rules-nil", "action: ALLOW", "", ""),
    ("deny-rules-nil", "action: DENY", f"invalid policy foo.bar: DENY {NO_RULES}", ""),
    ("custom-rules-nil", f"action: CUSTOM, {PROVIDER}", f"CUSTOM {NO_RULES}", ""),
    ("selector-empty-value", "selector: {matchLabels: {app: '', version: v1}}", "", ""),
    ("selector-empty-key", "selector: {matchLabels: {'': v1}}", 'empty key is not supported in selector: "=v1"', ""),
    ("selector-empty-labels", "selector: {}", "", "workload selector specified without labels"),
    ("selector-wildcard-value", "selector: {matchLabels: {app: 'httpbin-*'}}", "wildcard is not supported", ""),
    ("selector-wildcard-key", "selector: {matchLabels: {'app-*': httpbin}}", "wildcard is not supported", ""),
    ("target-ref-good", f"targetRef: {GATEWAY}, {DENIED}", "", ""),
    ("target-refs-good", f"targetRefs: [{GATEWAY}], {DENIED}", "", ""),
    ("target-refs-good-service", f"targetRefs: [{{kind: Service, name: foo}}], {DENIED}", "", ""),
    (
        "target-ref-non-empty-namespace",
        f"targetRef: {ELSEWHERE}, {DENIED}",
        "targetRef namespace must not be set; cross namespace referencing is not supported",
        "",
    ),
    ("target-ref-empty-name", f"targetRef: {NAMELESS}, {DENIED}", "targetRef name must be set", ""),
    (
        "target-ref-wrong-group",
        f"targetRef: {{group: wrong-group, kind: Gateway, name: foo}}, {DENIED}",
        f"{TARGETS}wrong-group/Gateway",
        "",
    ),
    (
        "target-ref-wrong-kind",
        f"targetRef: {{group: gateway.networking.k8s.io, kind: wrong-kind, name: foo}}, {DENIED}",
        f"{TARGETS}gateway.networking.k8s.io/wrong-kind",
        "",
    ),
    ("target-ref and selector", f"targetRef: {GATEWAY}, {LABELS}, {DENIED}", ONE_TARGET, ""),
    ("target-refs and selector", f"targetRefs: [{GATEWAY}], {LABELS}, {DENIED}", ONE_TARGET, ""),
    ("from-empty", "rules: [{from: []}]", "`from` must not be empty, found at rule 0", ""),
    ("source-nil", "rules: [{from: [{}]}]", "`from.source` must not be nil, found at rule 0", ""),
    ("source-empty", "rules: [{from: [{source: {}}]}]", "`from.source` must not be empty, found at rule 0", ""),
    ("to-empty", "rules: [{to: []}]", "`to` must not be empty, found at rule 0", ""),
    ("operation-nil", "rules: [{to: [{}]}]", "`to.operation` must not be nil, found at rule 0", ""),
    ("operation-empty", "rules: [{to: [{operation: {}}]}]", "`to.operation` must not be empty, found at rule 0", ""),
    *(
        (
            f"{title(field)}-empty",
            f"rules: [{{from: [{{source: {{{field}: ['1.2.3.4', '']}}}}]}}]",
            f"empty value not allowed, found in {title(field)}",
            "",
        )
        for field in SOURCE_FIELDS
    ),
    *(
        (
            f"{title(field)}-empty",
            f"rules: [{{to: [{{operation: {{{field}: ['80', '']}}}}]}}]",
            f"empty value not allowed, found in {title(field)}",
            "",
        )
        for field in OPERATION_FIELDS
    ),
    (
        "value-empty",
        "rules: [{when: [{key: 'request.headers[:authority]', values: [v1, '']}]}]",
        "invalid `value` for `key` request.headers[:authority]: empty value not allowed",
        "",
    ),
    *(
        (
            f"invalid ip in {field}",
            f"rules: [{{from: [{{source: {{{field}: [1.2.3.4, ip1]}}}}]}}]",
            "bad IP address (ip1)",
            "",
        )
        for field in ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")
    ),
    *(
        (
            f"invalid port in {field}",
            f"rules: [{{to: [{{operation: {{{field}: ['80', port1]}}}}]}}]",
            "bad port (port1)",
            "",
        )
        for field in ("ports", "notPorts")
    ),
    ("condition-key-missing", when("{values: [v1, v2]}"), "`key` must not be empty", ""),
    ("condition-key-empty", when("{key: '', values: [v1, v2]}"), "`key` must not be empty", ""),
    (
        "condition-value-missing",
        when("{key: source.principal}"),
        "at least one of `values` or `notValues` must be set for key source.principal",
        "",
    ),
    (
        "condition-value-invalid",
        when("{key: source.ip, values: [a.b.c.d]}"),
        "invalid `value` for `key` source.ip: bad IP address (a.b.c.d)",
        "",
    ),
    (
        "condition-notValue-invalid",
        when("{key: source.ip, notValues: [a.b.c.d]}"),
        "invalid `notValue` for `key` source.ip: bad IP address (a.b.c.d)",
        "",
    ),
    ("condition-unknown", when("{key: key1, values: [v1]}"), "unknown attribute: key1", ""),
    (
        "L7DenyWithFrom",
        "action: DENY, rules: [{from: [{source: {requestPrincipals: [example.com/sub-1]}}]}]",
        "",
        TCP_TOO,
    ),
    ("L7DenyWithTo", "action: DENY, rules: [{to: [{operation: {methods: [GET, DELETE]}}]}]", "", TCP_TOO),
    (
        "L7DenyWithFromAndTo",
        "action: DENY, rules: [{from: [{source: {principals: [temp]}}], to: [{operation: {methods: [GET]}}]}]",
        "",
        TCP_TOO,
    ),
    ("L7DenyWithFromAndToWithPort", DENIED, "", ""),
    # not in the table: what else pkg/config/security/security.go says
    ("deprecated attribute", when("{key: destination.name, values: [a]}"), "only supported in v1alpha1", ""),
    ("replaced attribute", when("{key: destination.namespace, values: [a]}"), "replaced by the metadata.namespace", ""),
    ("header without name", when("{key: request.headers, values: [a]}"), "should have format a[b]", ""),
    ("path template", "rules: [{to: [{operation: {paths: ['/{*}/foo/{**}']}}]}]", "", ""),
    ("unsupported path template", "rules: [{to: [{operation: {paths: ['/{*}/foo/{bar}']}}]}]", "path template", ""),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(ROWS))
def test_authorization_policies(spec: str, error: str, warning: str) -> None:
    check("AuthorizationPolicy", f"{{{spec}}}", error, warning)


DRY_RUN = [
    ("dry-run-valid-allow", "true", {"action": "ALLOW"}, ""),
    ("dry-run-valid-deny", "false", {"action": "DENY", "rules": [{}]}, ""),
    ("dry-run-invalid-value", "foo", {"action": "ALLOW"}, "has annotation istio.io/dry-run with invalid value (foo)"),
    ("dry-run-invalid-action-custom", "true", {"action": "CUSTOM"}, "currently only supports action ALLOW/DENY"),
    ("dry-run-invalid-action-audit", "true", {"action": "AUDIT"}, "currently only supports action ALLOW/DENY"),
]


@pytest.mark.parametrize(("value", "spec", "error"), [pytest.param(*row[1:], id=row[0]) for row in DRY_RUN])
def test_dry_run(value: str, spec: dict[str, Any], error: str) -> None:
    check("AuthorizationPolicy", spec, error, "", annotations={"istio.io/dry-run": value})


# TestValidateRequestAuthentication: "dry run annotation not supported"
@pytest.mark.parametrize("kind", ["RequestAuthentication", "PeerAuthentication"])
def test_dry_run_is_for_authorization_alone(kind: str) -> None:
    error = "bar/foo has unsupported annotation istio.io/dry-run, please remove the annotation"
    check(kind, {}, error, "", annotations={"istio.io/dry-run": "true"})
