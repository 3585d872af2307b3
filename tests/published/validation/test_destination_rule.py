"""DestinationRule: TestValidateDestinationRule, TestValidateTrafficPolicy, TestValidateConnectionPool,
TestValidateLoadBalancer, TestValidateOutlierDetection, Test_validateExportTo in validation_test.go; TestValidateTLS and
TestValidateLocalityLbSetting, TestValidateLocalities in agent/validation_test.go.
"""

from __future__ import annotations

import pytest

from tests.published.validation.rows import Row, check, parameters

V1_V2 = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]"
BALANCED = "loadBalancer: {simple: ROUND_ROBIN}"
POOL = "connectionPool: {tcp: {maxConnections: 7}, http: {http2MaxRequests: 11}}"
VALID = f"{{{BALANCED}, {POOL}, outlierDetection: {{minHealthPercent: 20}}}}"
INVALID = f"{{{BALANCED}, connectionPool: {{}}, outlierDetection: {{minHealthPercent: 20}}}}"
NO_POOL = "connection pool must have at least one field"

# TestValidateDestinationRule
RULES: list[Row] = [
    ("simple", f"{{host: reviews, {V1_V2}}}", "", ""),
    (
        "empty selector labels",
        f"{{host: reviews, {V1_V2}, workloadSelector: {{}}}}",
        "",
        "workload selector specified without labels",
    ),
    ("missing destination name", f"{{host: '', {V1_V2}}}", "empty domain name not allowed", ""),
    (
        "missing subset name",
        "{host: reviews, subsets: [{name: '', labels: {v: v1}}]}",
        "subset name cannot be empty",
        "",
    ),
    (
        "duplicate subset names",
        "{host: reviews, subsets: [{name: foo, labels: {version: v1}}, {name: foo, labels: {version: v2}}]}",
        "duplicate subset names: foo",
        "",
    ),
    ("valid traffic policy, top level", f"{{host: reviews, trafficPolicy: {VALID}, {V1_V2}}}", "", ""),
    ("invalid traffic policy, top level", f"{{host: reviews, trafficPolicy: {INVALID}, {V1_V2}}}", NO_POOL, ""),
    ("valid, subset level", f"{{host: reviews, subsets: [{{name: v1, trafficPolicy: {VALID}}}]}}", "", ""),
    ("invalid, subset level", f"{{host: reviews, subsets: [{{name: v1, trafficPolicy: {INVALID}}}]}}", NO_POOL, ""),
    (
        "valid, both levels",
        f"{{host: reviews, trafficPolicy: {VALID}, subsets: [{{name: v1, trafficPolicy: {VALID}}}]}}",
        "",
        "",
    ),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(RULES))
def test_rules(spec: str, error: str, warning: str) -> None:
    check("DestinationRule", spec, error, warning)


MS = "only durations to ms precision are supported"
PERCENT = "is not in range 0..100"
# TestValidateTrafficPolicy, TestValidateConnectionPool, TestValidateLoadBalancer, TestValidateOutlierDetection
POLICIES: list[Row] = [
    ("valid", VALID, "", ""),
    ("nil entries", "{}", "traffic policy must have at least one field", ""),
    (
        "missing port in port level settings",
        f"{{portLevelSettings: [{VALID}]}}",
        "portTrafficPolicy must have valid port",
        "",
    ),
    ("bad connection pool", INVALID, NO_POOL, ""),
    (
        "bad max connection duration",
        "{connectionPool: {tcp: {maxConnectionDuration: 500ns}}}",
        "duration must be greater than 1ms",
        "",
    ),
    ("panic threshold too low", "{outlierDetection: {minHealthPercent: -1}}", f"percentage -1 {PERCENT}", ""),
    (
        "both upgrade and use client protocol set",
        "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}",
        "use client protocol must not be true when H2UpgradePolicy is UPGRADE",
        "",
    ),
    (
        "pool: tcp and http",
        "{connectionPool: {tcp: {maxConnections: 7, connectTimeout: 2s}, http: {http1MaxPendingRequests: 2, "
        "http2MaxRequests: 11, maxRequestsPerConnection: 5, maxRetries: 4, idleTimeout: 30s}}}",
        "",
        "",
    ),
    (
        "pool: bad max connections",
        "{connectionPool: {tcp: {maxConnections: -1}}}",
        "max connections must be",
        "",
    ),
    ("pool: bad connect timeout", "{connectionPool: {tcp: {connectTimeout: 2.000000005s}}}", MS, ""),
    (
        "pool: bad max pending requests",
        "{connectionPool: {http: {http1MaxPendingRequests: -1}}}",
        "http1 max pending requests must be non-negative",
        "",
    ),
    (
        "pool: bad max requests",
        "{connectionPool: {http: {http2MaxRequests: -1}}}",
        "http2 max requests must be non-negative",
        "",
    ),
    (
        "pool: bad max requests per connection",
        "{connectionPool: {http: {maxRequestsPerConnection: -1}}}",
        "max requests per connection must be non-negative",
        "",
    ),
    ("pool: bad max retries", "{connectionPool: {http: {maxRetries: -1}}}", "max retries must be non-negative", ""),
    ("pool: bad idle timeout", "{connectionPool: {http: {idleTimeout: 30.000000005s}}}", MS, ""),
    ("pool: tcp timeout disabled", "{connectionPool: {tcp: {idleTimeout: 0s}}}", "", ""),
    (
        "pool: bad max concurrent streams",
        "{connectionPool: {http: {maxConcurrentStreams: -1}}}",
        "max concurrent streams must be non-negative",
        "",
    ),
    (
        "balancer: consistent hash",
        "{loadBalancer: {consistentHash: {minimumRingSize: 1024, httpCookie: {name: test, ttl: 3600s}}}}",
        "",
        "consistent hash MinimumRingSize is deprecated",
    ),
    (
        "balancer: cookie without name",
        "{loadBalancer: {consistentHash: {httpCookie: {ttl: 3600s}}}}",
        "name required for HttpCookie",
        "",
    ),
    (
        "balancer: maglev not prime",
        "{loadBalancer: {consistentHash: {maglev: {tableSize: 1000}}}}",
        "tableSize must be a prime number for maglev",
        "",
    ),
    (
        "outliers: valid",
        "{outlierDetection: {interval: 2s, baseEjectionTime: 2s, maxEjectionPercent: 50}}",
        "",
        "",
    ),
    ("outliers: bad interval", "{outlierDetection: {interval: 2.000000005s}}", MS, ""),
    ("outliers: bad base ejection time", "{outlierDetection: {baseEjectionTime: 2.000000005s}}", MS, ""),
    ("outliers: bad max ejection", "{outlierDetection: {maxEjectionPercent: 105}}", f"percentage 105 {PERCENT}", ""),
    ("outliers: threshold too high", "{outlierDetection: {minHealthPercent: 101}}", f"percentage 101 {PERCENT}", ""),
    (
        "outliers: deprecated consecutiveErrors",
        "{outlierDetection: {consecutiveErrors: 101}}",
        "",
        "outlier detection consecutive errors is deprecated",
    ),
    (
        "outliers: local origin failures without the split",
        "{outlierDetection: {consecutiveLocalOriginFailures: 10}}",
        "consecutive local origin failures is specified",
        "",
    ),
    # of what is nested, Istio hands on errors only
    (
        "a warning of a port",
        "{portLevelSettings: [{port: {number: 1}, outlierDetection: {consecutiveErrors: 1}}]}",
        "",
        "",
    ),
]
SAN = "subjectAltNames: [reviews.default.svc]"
SKIP, NO_SKIP = "insecureSkipVerify: true", "insecureSkipVerify: false"
CERTIFICATE = "privateKey: key, clientCertificate: cert"
SIMPLE_SKIPS = "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true"
MUTUAL_SKIPS = "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true"
BOTH = "cannot specify client certificates or CA certificate or CA CRL If credentialName is set"
TLS: list[tuple[str, str, str]] = [
    # TestValidateDestinationRule
    ("simple, CA", f"mode: SIMPLE, caCertificates: test, {SAN}", ""),
    ("simple, credential", f"mode: SIMPLE, credentialName: test, {SAN}", ""),
    ("simple, verified, CA", f"mode: SIMPLE, caCertificates: test, {SAN}, {NO_SKIP}", ""),
    ("simple, verified, credential", f"mode: SIMPLE, credentialName: test, {SAN}, {NO_SKIP}", ""),
    ("simple, skipped, credential", f"mode: SIMPLE, credentialName: test, {SKIP}", SIMPLE_SKIPS),
    ("simple, skipped, CA", f"mode: SIMPLE, caCertificates: test, {SKIP}", SIMPLE_SKIPS),
    ("simple, skipped, SAN", f"mode: SIMPLE, {SAN}, {SKIP}", SIMPLE_SKIPS),
    ("mutual, CA", f"mode: MUTUAL, caCertificates: test, {CERTIFICATE}, {SAN}", ""),
    ("mutual, credential", f"mode: MUTUAL, credentialName: test, {SAN}", ""),
    ("mutual, verified, CA", f"mode: MUTUAL, caCertificates: test, {CERTIFICATE}, {SAN}, {NO_SKIP}", ""),
    ("mutual, verified, credential", f"mode: MUTUAL, credentialName: test, {SAN}, {NO_SKIP}", ""),
    ("mutual, skipped, CA", f"mode: MUTUAL, caCertificates: test, {CERTIFICATE}, {SKIP}", MUTUAL_SKIPS),
    ("mutual, skipped, credential", f"mode: MUTUAL, credentialName: test, {SKIP}", ""),
    ("mutual, skipped, no CA", f"mode: MUTUAL, {CERTIFICATE}, {SKIP}", ""),
    ("mutual, skipped, SAN", f"mode: MUTUAL, {CERTIFICATE}, {SAN}, {SKIP}", MUTUAL_SKIPS),
    # TestValidateTLS
    *(
        (f"{mode}: credential and {more}", f"mode: {mode}, credentialName: credential, {more}: a", BOTH)
        for mode in ("SIMPLE", "MUTUAL")
        for more in ("clientCertificate", "privateKey", "caCertificates")
    ),
    ("MUTUAL: credential and CRL", "mode: MUTUAL, credentialName: credential, caCrl: ca", BOTH),
    ("SIMPLE: credential set correctly", "mode: SIMPLE, credentialName: some credential", ""),
    ("MUTUAL: credential set correctly", "mode: MUTUAL, credentialName: some credential", ""),
    ("MUTUAL: certificate and key", f"mode: MUTUAL, {CERTIFICATE}", ""),
    ("MUTUAL: key missing", "mode: MUTUAL, clientCertificate: cert", "private key required for mutual tls"),
    ("MUTUAL: certificate missing", "mode: MUTUAL, privateKey: key", "client certificate required for mutual tls"),
    # by ValidateTLS: these fields are not looked at
    ("ISTIO_MUTUAL with certificates", f"mode: ISTIO_MUTUAL, {CERTIFICATE}", ""),
    ("nothing, which is DISABLE", "", ""),
]
REGIONS, STAR = (
    "locality lb failover only specify region",
    "locality lb failover region should not contain '*' wildcard",
)
# TestValidateLocalityLbSetting, where outlier detection is there
LOCALITY = [
    (
        "total weight > 100",
        "{distribute: [{from: a/b/c, to: {a/b/c: 80, a/b1: 25}}]}",
        "total locality weight 105 != 100",
    ),
    (
        "total weight < 100",
        "{distribute: [{from: a/b/c, to: {a/b/c: 80, a/b1: 15}}]}",
        "total locality weight 95 != 100",
    ),
    (
        "weight = 0",
        "{distribute: [{from: a/b/c, to: {a/b/c: 0, a/b1: 100}}]}",
        "locality weight must be in range [1, 100]",
    ),
    (
        "both distribute and failover",
        "{distribute: [{from: a/b/c, to: {a/b/c: 80, a/b1: 20}}], failover: [{from: region1, to: region2}]}",
        "can not simultaneously specify 'distribute' and 'failover'",
    ),
    (
        "failover src and dst have same region",
        "{failover: [{from: region1, to: region1}]}",
        "locality lb failover settings must specify different regions",
    ),
    ("failover src contains *", "{failover: [{from: '*', to: region2}]}", STAR),
    ("failover dst contains *", "{failover: [{from: region1, to: '*'}]}", STAR),
    ("failover src contains /", "{failover: [{from: region1/zone1, to: region2}]}", REGIONS),
    ("failover dst contains /", "{failover: [{from: region1, to: region2/zone1}]}", REGIONS),
    (
        "both failoverPriority and region in failover",
        "{failover: [{from: region1, to: region2}], failoverPriority: [topology.kubernetes.io/region]}",
        "can not simultaneously set 'failover' and topology label 'topology.kubernetes.io/region' in",
    ),
]
# TestValidateLocalities, as `from` of distributions
LOCALITIES = [
    ("multi wildcard locality", ["*/zone/*"], "wildcard '*' number can not exceed 1 and must be in the end"),
    ("wildcard not in suffix", ["*/zone"], "wildcard '*' number can not exceed 1 and must be in the end"),
    ("explicit wildcard region", ["*", "a/b/c"], "locality a/b/c overlap with previous specified ones"),
    ("implicit wildcard region", ["a", "a/b/c"], "locality a/b/c overlap with previous specified ones"),
    ("explicit wildcard zone", ["a/*", "a/b/c"], "locality a/b/c overlap with previous specified ones"),
    ("implicit wildcard zone", ["a/b", "a/b/c"], "locality a/b/c overlap with previous specified ones"),
    ("explicit wildcard subzone", ["a/b/*", "a/b/c"], "locality a/b/c overlap with previous specified ones"),
    ("valid localities", ["a1/*", "a2/*", "a3/b3/c3", "a4/b4", "a5/b5/*"], ""),
]
OUTLIERS = "outlierDetection: {interval: 1s}"
NO_OUTLIERS: list[Row] = [
    (
        "failover priority without outlier detection",
        "{loadBalancer: {localityLbSetting: {failoverPriority: [topology.istio.io/network]}}}",
        "",
        "outlier detection policy must be provided for failover",
    ),
    (
        "failover without outlier detection",
        "{loadBalancer: {localityLbSetting: {failover: [{from: us-east, to: eu-west}]}}}",
        "",
        "outlier detection policy must be provided for failover",
    ),
]


@pytest.mark.parametrize(("localities", "error"), [pytest.param(*row[1:], id=row[0]) for row in LOCALITIES])
def test_localities(localities: list[str], error: str) -> None:
    setting = {"distribute": [{"from": one, "to": {"x": 100}} for one in localities]}
    check(
        "DestinationRule", {"host": "a", "trafficPolicy": {"loadBalancer": {"localityLbSetting": setting}}}, error, ""
    )


@pytest.mark.parametrize(
    ("policy", "error", "warning"),
    [
        *parameters(POLICIES),
        *parameters([(f"tls: {name}", f"{{tls: {{{tls}}}}}", error, "") for name, tls, error in TLS]),
        *parameters(NO_OUTLIERS),
        *parameters([(n, f"{{loadBalancer: {{localityLbSetting: {s}}}, {OUTLIERS}}}", e, "") for n, s, e in LOCALITY]),
    ],
)
def test_traffic_policies(policy: str, error: str, warning: str) -> None:
    check("DestinationRule", f"{{host: reviews, trafficPolicy: {policy}}}", error, warning)


TWICE, NOBODY = "duplicate entries in exportTo", "exportTo ~ (none) is not allowed for Istio configuration objects"
PUBLIC = "cannot have both public (*) and non-public exportTo values for a resource"
SELECTOR = "workloadSelector: {matchLabels: {app: a}}"
BEYOND = "destination rule with workload selector cannot have exportTo beyond current namespace"
MULTIPLE = "destination rule with workload selector cannot have multiple entries in exportTo"
# Test_validateExportTo, in the namespace ns5: exportTo, what else stands there, the error
EXPORT_TO = [
    ("empty", "[]", "", ""),
    ("*", "['*']", "", ""),
    (". and ns1", "[., ns1]", "", ""),
    ("bunch of namespaces", "[ns1, ns2, ns5]", "", ""),
    ("~", "['~', ns1]", "", NOBODY),
    (". and *", "[., '*']", "", PUBLIC),
    ("* and ns1", "['*', ns1]", "", PUBLIC),
    (". and same namespace", "[., ns5]", "", f"{TWICE} for entry ns5"),
    ("same namespace and .", "[ns5, .]", "", f"{TWICE}: . and current namespace ns5"),
    ("duplicate namespaces", "[ns1, ns2, ns1]", "", f"{TWICE} for entry ns1"),
    ("invalid name", "[ns1_]", "", "only .,*, or a valid DNS 1123 label is allowed as exportTo entry"),
    ("rule with selector, *", "['*']", SELECTOR, BEYOND),
    ("rule with selector, .", "[.]", SELECTOR, ""),
    ("rule with selector, another namespace", "[somens]", SELECTOR, BEYOND),
    ("rule with selector, . and another", "[., somens]", SELECTOR, MULTIPLE),
]


@pytest.mark.parametrize(("export_to", "more", "error"), [pytest.param(*row[1:], id=row[0]) for row in EXPORT_TO])
def test_export_to(export_to: str, more: str, error: str) -> None:
    check("DestinationRule", f"{{host: reviews, exportTo: {export_to}, {more}}}", error, "", namespace="ns5")
