"""EnvoyFilter: envoyfilter/envoyfilter_test.go TestValidateEnvoyFilter; Telemetry, ProxyConfig, WasmPlugin:
TestValidateTelemetry, TestValidateTelemetryFilter, TestValidateProxyConfig, TestValidateWasmPlugin.

What Istio finds in the patches themselves, which it reads with Envoy's protobufs, is left to Envoy here.
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy.validation import validate
from labkit.policy.validation.extensions import EXPOSES, HTTP_MANAGER
from tests.published.validation.rows import Row, check, parameters

REMOVE = "patch: {operation: REMOVE}"


def listener(apply_to: str, wanted: str) -> str:
    match = f"match: {{listener: {{filterChain: {{filter: {wanted}}}}}}}"
    return f"{{configPatches: [{{applyTo: {apply_to}, {match}, {REMOVE}}}]}}"


def proxy(version: str) -> str:
    return f"{{configPatches: [{{applyTo: LISTENER, match: {{proxy: {{proxyVersion: '{version}'}}}}, {REMOVE}}}]}}"


# the test calls validateEnvoyFilter, without the warning that each EnvoyFilter has
FILTERS: list[Row] = [
    ("empty filters", "{}", "", ""),
    (
        "labels not defined in workload selector",
        "{workloadSelector: {}}",
        "",
        "Envoy filter: workload selector specified without labels, will be applied to all services in namespace",
    ),
    ("invalid applyTo", "{configPatches: [{}]}", "Envoy filter: missing applyTo", ""),
    ("nil patch", "{configPatches: [{applyTo: LISTENER}]}", "Envoy filter: missing patch", ""),
    (
        "invalid patch operation",
        "{configPatches: [{applyTo: LISTENER, patch: {}}]}",
        "Envoy filter: missing patch operation",
        "",
    ),
    (
        "nil patch value",
        "{configPatches: [{applyTo: LISTENER, patch: {operation: ADD}}]}",
        "Envoy filter: missing patch value for non-remove operation",
        "",
    ),
    (
        "match with invalid regex",
        proxy("%#@~++==`24c234`"),
        "invalid regex for proxy version, [error parsing regexp: invalid nested repetition operator: `++`]",
        "",
    ),
    (
        "match with valid regex",
        proxy(r"release-1\.2-23434"),
        "",
        "",
    ),
    (
        "listener with invalid match",
        f"{{configPatches: [{{applyTo: LISTENER, match: {{cluster: {{}}}}, {REMOVE}}}]}}",
        "Envoy filter: applyTo for listener class objects cannot have non listener match",
        "",
    ),
    (
        "listener with invalid filter match",
        listener("NETWORK_FILTER", "{}"),
        "Envoy filter: filter match has no name to match on",
        "",
    ),
    (
        "sub filter match and invalid applyTo",
        listener("NETWORK_FILTER", "{name: random, subFilter: {}}"),
        "Envoy filter: subfilter match can be used with applyTo HTTP_FILTER only",
        "",
    ),
    (
        "sub filter match and invalid filter name",
        listener("HTTP_FILTER", "{name: random, subFilter: {}}"),
        f"Envoy filter: subfilter match requires filter match with {HTTP_MANAGER}",
        "",
    ),
    (
        "sub filter match and no sub filter name",
        listener("HTTP_FILTER", f"{{name: {HTTP_MANAGER}, subFilter: {{}}}}"),
        "Envoy filter: subfilter match has no name to match on",
        "",
    ),
    (
        "route configuration with invalid match",
        f"{{configPatches: [{{applyTo: VIRTUAL_HOST, match: {{cluster: {{}}}}, {REMOVE}}}]}}",
        "Envoy filter: applyTo for http route class objects cannot have non route configuration match",
        "",
    ),
    (
        "cluster with invalid match",
        f"{{configPatches: [{{applyTo: CLUSTER, match: {{listener: {{}}}}, {REMOVE}}}]}}",
        "Envoy filter: applyTo for cluster class objects cannot have non cluster match",
        "",
    ),
    (
        "happy config",
        "{configPatches: [{applyTo: CLUSTER, match: {cluster: {}}, patch: {operation: ADD, value: {lb_policy: A}}}, "
        "{applyTo: NETWORK_FILTER, match: {listener: {filterChain: {name: envoy.tcp_proxy}}}, "
        "patch: {operation: INSERT_BEFORE, value: {typed_config: {'@type': a}}}}]}",
        "",
        "",
    ),
    (
        "deprecated type",
        "{configPatches: [{applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: "
        "{name: envoy.http_connection_manager}}}}, patch: {operation: INSERT_FIRST, value: {}}}]}",
        "",
        f'using deprecated filter name "envoy.http_connection_manager"; use "{HTTP_MANAGER}" instead',
    ),
    (
        "a filter match of a listener",
        listener("LISTENER", "{name: a}"),
        "",
        "Envoy filter: filter match has no effect when used with LISTENER",
    ),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(FILTERS))
def test_envoy_filters(spec: str, error: str, warning: str) -> None:
    check("EnvoyFilter", spec, error, f"{EXPOSES}\n{warning}" if warning else EXPOSES)


def test_an_envoy_filter_without_fault_has_one_warning() -> None:
    assert validate("EnvoyFilter", {"spec": {}}).warnings == (EXPOSES,)


GATEWAY = "{group: gateway.networking.k8s.io, kind: Gateway, name: foo}"
TAG = "tracing: [{customTags: {clusterID: {environment: {name: FOO}}}}]"
TO_ONE_OF = "targetRef must be to one of"
ONE_TARGET = "only one of targetRefs or workloadSelector can be set"
SELECTOR = "selector: {matchLabels: {app: httpbin}}"
REFERENCES = [
    ("good targetRef", f"targetRef: {GATEWAY}", ""),
    ("targetRef of a Service", "targetRef: {kind: Service, name: foo}", ""),
    ("empty name", "targetRef: {group: gateway.networking.k8s.io, kind: Gateway}", "targetRef name must be set"),
    ("non-empty namespace", f"targetRef: {GATEWAY[:-1]}, namespace: bar}}", "targetRef namespace must not be set"),
    ("wrong group", "targetRef: {group: wrong-group, kind: Gateway, name: foo}", TO_ONE_OF),
    ("wrong kind", "targetRef: {group: gateway.networking.k8s.io, kind: wrong-kind, name: foo}", TO_ONE_OF),
    ("targetRef and selector", f"targetRef: {GATEWAY}, {SELECTOR}", ONE_TARGET),
]
TELEMETRY: list[Row] = [
    ("empty", "", "", ""),
    (
        "multiple providers",
        "tracing: [{providers: [{name: a}, {name: b}]}]",
        "",
        "multiple providers is not currently supported",
    ),
    ("multiple tracers", "tracing: [{}, {}]", "", "multiple tracing is not currently supported"),
    (
        "bad randomSamplingPercentage",
        "tracing: [{randomSamplingPercentage: 101}]",
        "randomSamplingPercentage must be in range [0.0, 100.0]",
        "",
    ),
    ("tracing with a good custom tag", TAG, "", ""),
    (
        "tracing with a nil custom tag",
        "tracing: [{customTags: {clusterID: null}}]",
        "tag 'clusterID' may not have a nil value",
        "",
    ),
    (
        "bad metrics operation",
        "metrics: [{overrides: [{tagOverrides: {my-tag: {operation: UPSERT, value: ''}}}]}]",
        "tagOverrides.value must be set when operation is UPSERT",
        "",
    ),
    (
        "good metrics operation",
        "metrics: [{overrides: [{tagOverrides: {my-tag: {operation: UPSERT, value: some-cel-expression}}}]}]",
        "",
        "",
    ),
    ("multi-accessloggings", "accessLogging: [{providers: [{name: envoy}]}, {providers: [{name: otel}]}]", "", ""),
    ("multi-accesslogging-providers", "accessLogging: [{providers: [{name: envoy}, {name: otel}]}]", "", ""),
    # not in the table, but in validateTelemetryMetrics, validateTelemetryProviders
    (
        "a value to remove",
        "metrics: [{overrides: [{tagOverrides: {my-tag: {operation: REMOVE, value: a}}}]}]",
        "tagOverrides.value may only be set when operation is UPSERT",
        "",
    ),
    ("a provider without name", "metrics: [{providers: [{}]}]", "providers.name may not be empty", ""),
    *((f"targetRef: {name}", f"{TAG}, {reference}", error, "") for name, reference, error in REFERENCES),
    # TestValidateTelemetryFilter
    *(
        (f"filter {expression}", f'accessLogging: [{{filter: {{expression: "{expression}"}}}}]', error, "")
        for expression, error in (
            ("response.code >= 400", ""),
            ("connection.mtls && request.url_path.contains('v1beta3')", ""),
            ("response.code", ""),
            (")++++", "must be a valid CEL expression"),
            # more of the kind
            ("!has(a.b) || a['x'][0] == -1 ? true : c in [1, 2]", ""),
            ("response.code >=", "must be a valid CEL expression"),
            ("(response.code", "must be a valid CEL expression"),
            ("response.code @ 4", "must be a valid CEL expression"),
        )
    ),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(TELEMETRY))
def test_telemetry(spec: str, error: str, warning: str) -> None:
    check("Telemetry", f"{{{spec}}}", error, warning)


@pytest.mark.parametrize(
    ("spec", "error"),
    [({}, ""), ({"concurrency": -1}, "concurrency must be greater than or equal to 0"), ({"concurrency": 0}, "")],
)
def test_proxy_configs(spec: dict[str, Any], error: str) -> None:
    check("ProxyConfig", spec, error, "")


SHA = "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b"
URL = "url: http://test.com/test"
PLUGINS: list[Row] = [
    ("empty", "", "url field needs to be set", ""),
    ("wrong scheme", "url: ftp://test.com/test", "url contains unsupported scheme: ftp", ""),
    ("valid http", URL, "", ""),
    ("valid http w/ sha", f"{URL}, sha256: {SHA}", "", ""),
    ("short sha", f"{URL}, sha256: 01ba47", "sha256 field must be 64 characters long", ""),
    ("invalid sha", f"{URL}, sha256: test", "sha256 field must be 64 characters long", ""),
    ("invalid sha characters", f"{URL}, sha256: {SHA.replace('b', 'B', 1)}", "must match [a-f0-9]{64} pattern", ""),
    ("valid oci", "url: oci://test.com/test", "", ""),
    ("valid oci no scheme", "url: test.com/test", "", ""),
    (
        "invalid env name",
        "url: test.com/test, vmConfig: {env: [{name: '', valueFrom: HOST}]}",
        "spec.vmConfig.env invalid",
        "",
    ),
    (
        "duplicate env",
        "url: test.com/test, vmConfig: {env: [{name: ENV1, value: VAL1}, {name: ENV1, value: VAL1}]}",
        "duplicate env",
        "",
    ),
    *((f"targetRef: {name}", f"{URL}, {reference}", error, "") for name, reference, error in REFERENCES),
    # not in the table, but in validateWasmPluginMatch
    ("port 0", f"{URL}, match: [{{ports: [{{number: 0}}]}}]", "spec.Match[0].Ports[0] is out of range: 0", ""),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(PLUGINS))
def test_wasm_plugins(spec: str, error: str, warning: str) -> None:
    check("WasmPlugin", f"{{{spec}}}", error, warning)
