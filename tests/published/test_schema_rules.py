"""The rules in CEL of Istio's kinds (x-kubernetes-validations of customresourcedefinitions.gen.yaml), one row each.

The embedded API server stores such rules and does not evaluate them. So each of them has to be kept by somebody else:
by istiod's webhook, which says most of it in Istio's own words, or by the rest of the schema. Each row has a neighbour
without the fault, which must pass.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from labkit.embedded.apiserver import customresources
from labkit.embedded.controlplane.webhooks import judge_applied
from labkit.installers.embedded import Installation
from tests.published.schema_fields import VERSIONS

Object = dict[str, Any]

DEFINED = {one.kind: one for definition in Installation().crds() for one in customresources.kinds_of(definition)}

REFERENCE = {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "a"}
ENTRY = {"hosts": ["a.example.com"], "ports": [{"number": 80, "name": "http"}], "resolution": "STATIC"}
SERVER = {"hosts": ["*"], "port": {"number": 443, "name": "https", "protocol": "HTTPS"}}
ROUTE = {"route": [{"destination": {"host": "a"}}]}
JWKS = json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})
UDS = "unix:///run/a.sock"


def gateway(**tls: Any) -> Object:
    return {"servers": [SERVER | {"tls": {"mode": "SIMPLE", **tls}}]}


def entry(**more: Any) -> Object:
    return {**ENTRY, "endpoints": [{"address": "192.0.2.1"}], **more}


def policy(**more: Any) -> Object:
    return {"host": "a", "trafficPolicy": more}


def http(**more: Any) -> Object:
    return {"hosts": ["a"], "http": [{**ROUTE, **more}]}


def override(**more: Any) -> Object:
    return {"metrics": [{"overrides": [{"tagOverrides": {"a": more}}]}]}


def jwt(**more: Any) -> Object:
    return {"jwtRules": [{"issuer": "a", **more}]}


def env(**more: Any) -> Object:
    return {"url": "file:///a", "vmConfig": {"env": [{"name": "A", **more}]}}


# kind, the rule's message, what breaks it, and what does not
ROWS: list[tuple[str, str, Object, Object]] = [
    *(
        row
        for kind, more in (
            ("AuthorizationPolicy", {}),
            ("PeerAuthentication", {}),
            ("RequestAuthentication", {}),
            ("Telemetry", {}),
            ("WasmPlugin", {"url": "file:///a"}),
        )
        for row in (
            (
                kind,
                "wildcard not allowed in label value match",
                {**more, "selector": {"matchLabels": {"a": "*"}}},
                {**more, "selector": {"matchLabels": {"a": "b"}}},
            ),
            (
                kind,
                "wildcard not allowed in label key match",
                {**more, "selector": {"matchLabels": {"a*": "b"}}},
                {**more, "selector": {"matchLabels": {"a": "b"}}},
            ),
            (
                kind,
                "key must not be empty",
                {**more, "selector": {"matchLabels": {"": "b"}}},
                {**more, "selector": {"matchLabels": {"a": "b"}}},
            ),
        )
    ),
    *(
        row
        for kind, more in (
            ("AuthorizationPolicy", {}),
            ("RequestAuthentication", {}),
            ("Telemetry", {}),
            ("WasmPlugin", {"url": "file:///a"}),
        )
        for row in (
            (
                kind,
                "cross namespace referencing is not currently supported",
                {**more, "targetRefs": [REFERENCE | {"namespace": "b"}]},
                {**more, "targetRefs": [REFERENCE]},
            ),
            (
                kind,
                "only one of targetRefs or selector can be set",
                {**more, "targetRefs": [REFERENCE], "selector": {"matchLabels": {"a": "b"}}},
                {**more, "targetRefs": [REFERENCE]},
            ),
        )
    ),
    *(
        (
            kind,
            "wildcard is not supported in selector",
            {**more, "workloadSelector": {"labels": {"a": "*"}}},
            {**more, "workloadSelector": {"labels": {"a": "b"}}},
        )
        for kind, more in (
            ("Sidecar", {"egress": [{"hosts": ["./*"]}]}),
            ("EnvoyFilter", {}),
            ("ServiceEntry", ENTRY | {"location": "MESH_INTERNAL"}),
        )
    ),
    (
        "AuthorizationPolicy",
        "Cannot set serviceAccounts with namespaces or principals",
        {"rules": [{"from": [{"source": {"serviceAccounts": ["a/b"], "namespaces": ["a"]}}]}]},
        {"rules": [{"from": [{"source": {"serviceAccounts": ["a/b"]}}]}]},
    ),
    *(
        ("DestinationRule", f"must be a valid duration greater than 1ms: {path}", policy(**bad), policy(**good))
        for path, bad, good in (
            (
                "connectTimeout",
                {"connectionPool": {"tcp": {"connectTimeout": "1us"}}},
                {"connectionPool": {"tcp": {"connectTimeout": "1ms"}}},
            ),
            (
                "maxConnectionDuration",
                {"connectionPool": {"tcp": {"maxConnectionDuration": "x"}}},
                {"connectionPool": {"tcp": {"maxConnectionDuration": "1s"}}},
            ),
            (
                "tcpKeepalive.time",
                {"connectionPool": {"tcp": {"tcpKeepalive": {"time": "x"}}}},
                {"connectionPool": {"tcp": {"tcpKeepalive": {"time": "1s"}}}},
            ),
            (
                "tcpKeepalive.interval",
                {"connectionPool": {"tcp": {"tcpKeepalive": {"interval": "0s"}}}},
                {"connectionPool": {"tcp": {"tcpKeepalive": {"interval": "1s"}}}},
            ),
            (
                "http.idleTimeout",
                {"connectionPool": {"http": {"idleTimeout": "1"}}},
                {"connectionPool": {"http": {"idleTimeout": "1s"}}},
            ),
            (
                "outlierDetection.interval",
                {"outlierDetection": {"interval": "1us"}},
                {"outlierDetection": {"interval": "1s"}},
            ),
            (
                "outlierDetection.baseEjectionTime",
                {"outlierDetection": {"baseEjectionTime": "1us"}},
                {"outlierDetection": {"baseEjectionTime": "1s"}},
            ),
            (
                "warmupDurationSecs",
                {"loadBalancer": {"simple": "ROUND_ROBIN", "warmupDurationSecs": "1us"}},
                {"loadBalancer": {"simple": "ROUND_ROBIN", "warmupDurationSecs": "1s"}},
            ),
            (
                "warmup.duration",
                {"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "1us"}}},
                {"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "1s"}}},
            ),
        )
    ),
    *(
        ("VirtualService", f"must be a valid duration greater than 1ms: {path}", http(**bad), http(**good))
        for path, bad, good in (
            ("timeout", {"timeout": "1us"}, {"timeout": "1s"}),
            (
                "perTryTimeout",
                {"retries": {"attempts": 1, "perTryTimeout": "1us"}},
                {"retries": {"attempts": 1, "perTryTimeout": "1s"}},
            ),
            ("backoff", {"retries": {"attempts": 1, "backoff": "1us"}}, {"retries": {"attempts": 1, "backoff": "1s"}}),
            ("maxAge", {"corsPolicy": {"maxAge": "x"}}, {"corsPolicy": {"maxAge": "24h"}}),
            (
                "fixedDelay",
                {"fault": {"delay": {"fixedDelay": "1us", "percentage": {"value": 1}}}},
                {"fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 1}}}},
            ),
        )
    ),
    (
        "EnvoyFilter",
        "only support waypointMatch when context is WAYPOINT",
        {
            "configPatches": [
                {
                    "applyTo": "HTTP_ROUTE",
                    "match": {"context": "GATEWAY", "waypoint": {}},
                    "patch": {"operation": "REMOVE"},
                }
            ]
        },
        {
            "configPatches": [
                {
                    "applyTo": "HTTP_ROUTE",
                    "match": {"context": "GATEWAY", "routeConfiguration": {}},
                    "patch": {"operation": "REMOVE"},
                }
            ]
        },
    ),
    (
        "EnvoyFilter",
        "only one of targetRefs or workloadSelector can be set",
        {"targetRefs": [REFERENCE], "workloadSelector": {"labels": {"a": "b"}}},
        {"targetRefs": [REFERENCE]},
    ),
    *(
        (
            "Gateway",
            f"only one of {' or '.join(names)} can be set",
            gateway(**{name: written[name] for name in names}),
            gateway(**{names[0]: written[names[0]]}),
        )
        for written in (
            {
                "credentialName": "a",
                "credentialNames": ["a"],
                "tlsCertificates": [{"serverCertificate": "/a", "privateKey": "/b"}],
            },
        )
        for names in (
            ("credentialNames", "tlsCertificates"),
            ("credentialName", "credentialNames"),
            ("credentialName", "tlsCertificates"),
        )
    ),
    (
        "PeerAuthentication",
        "port must be between 1-65535",
        {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"0": {}}},
        {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {"80": {}}},
    ),
    ("PeerAuthentication", "portLevelMtls requires selector", {"portLevelMtls": {"80": {}}}, {}),
    (
        "RequestAuthentication",
        "url must have scheme http:// or https://",
        jwt(jwksUri="ftp://a/b"),
        jwt(jwksUri="https://a/b"),
    ),
    (
        "RequestAuthentication",
        "only one of jwks or jwksUri can be set",
        jwt(jwksUri="https://a/b", jwks=JWKS),
        jwt(jwks=JWKS),
    ),
    ("RequestAuthentication", "must be a valid duration greater than 1ms", jwt(timeout="1us"), jwt(timeout="5s")),
    ("ServiceEntry", "hostname cannot be wildcard", entry(hosts=["*"]), entry(hosts=["*.example.com"])),
    ("ServiceEntry", "port must be between 1-65535", entry(ports=[{"number": 0, "name": "a"}]), entry()),
    (
        "ServiceEntry",
        "port must be between 1-65535: targetPort",
        entry(ports=[{"number": 80, "name": "a", "targetPort": 65536}]),
        entry(ports=[{"number": 80, "name": "a", "targetPort": 65535}]),
    ),
    (
        "ServiceEntry",
        "port number cannot be duplicated",
        entry(ports=[{"number": 80, "name": "a"}, {"number": 80, "name": "b"}]),
        entry(ports=[{"number": 80, "name": "a"}, {"number": 81, "name": "b"}]),
    ),
    (
        "ServiceEntry",
        "only one of WorkloadSelector or Endpoints can be set",
        entry(workloadSelector={"labels": {"a": "b"}}),
        ENTRY | {"workloadSelector": {"labels": {"a": "b"}}},
    ),
    (
        "ServiceEntry",
        "CIDR addresses are allowed only for NONE/STATIC resolution types",
        entry(resolution="DNS", addresses=["10.0.0.0/8"]),
        entry(addresses=["10.0.0.0/8"]),
    ),
    ("ServiceEntry", "NONE mode cannot set endpoints", entry(resolution="NONE"), ENTRY | {"resolution": "NONE"}),
    (
        "ServiceEntry",
        "DNS_ROUND_ROBIN mode cannot have multiple endpoints",
        entry(resolution="DNS_ROUND_ROBIN", endpoints=[{"address": "a.com"}, {"address": "b.com"}]),
        entry(resolution="DNS_ROUND_ROBIN", endpoints=[{"address": "a.com"}]),
    ),
    (
        "ServiceEntry",
        "Address is required",
        entry(endpoints=[{"labels": {"a": "b"}}]),
        entry(endpoints=[{"address": "192.0.2.1"}]),
    ),
    (
        "ServiceEntry",
        "UDS must be an absolute path or abstract socket",
        entry(endpoints=[{"address": "unix://a"}]),
        entry(endpoints=[{"address": UDS}]),
    ),
    (
        "ServiceEntry",
        "UDS may not be a dir",
        entry(endpoints=[{"address": "unix:///run/"}]),
        entry(endpoints=[{"address": UDS}]),
    ),
    (
        "ServiceEntry",
        "UDS may not include ports",
        entry(endpoints=[{"address": UDS, "ports": {"http": 80}}]),
        entry(endpoints=[{"address": UDS}]),
    ),
    (
        "ServiceEntry",
        "port name must be valid",
        entry(endpoints=[{"address": "192.0.2.1", "ports": {"a b": 80}}]),
        entry(endpoints=[{"address": "192.0.2.1", "ports": {"http": 80}}]),
    ),
    *(
        ("Telemetry", rule, override(**bad), override(**good))
        for rule, bad, good in (
            (
                "value must be set when operation is UPSERT",
                {"operation": "UPSERT"},
                {"operation": "UPSERT", "value": "a"},
            ),
            (
                "value must not be set when operation is REMOVE",
                {"operation": "REMOVE", "value": "a"},
                {"operation": "REMOVE"},
            ),
        )
    ),
    (
        "Telemetry",
        "must be a valid duration greater than 1ms",
        {"metrics": [{"reportingInterval": "1us"}]},
        {"metrics": [{"reportingInterval": "5s"}]},
    ),
    ("WasmPlugin", "url must have schema one of [http, https, file, oci]", {"url": "ftp://a"}, {"url": "file:///a"}),
    (
        "WasmPlugin",
        "value may only be set when valueFrom is INLINE",
        env(valueFrom="HOST", value="a"),
        env(valueFrom="HOST"),
    ),
    ("WorkloadEntry", "Address is required", {"labels": {"a": "b"}}, {"address": "192.0.2.1"}),
    ("WorkloadEntry", "UDS must be an absolute path or abstract socket", {"address": "unix://a"}, {"address": UDS}),
    ("WorkloadEntry", "UDS may not be a dir", {"address": "unix:///run/"}, {"address": UDS}),
    ("WorkloadEntry", "UDS may not include ports", {"address": UDS, "ports": {"a": 80}}, {"address": UDS}),
    (
        "WorkloadEntry",
        "port must be between 1-65535",
        {"address": "192.0.2.1", "ports": {"a": 0}},
        {"address": "192.0.2.1", "ports": {"a": 1}},
    ),
    (
        "WorkloadGroup",
        "scheme must be one of [HTTP, HTTPS]",
        {"template": {}, "probe": {"httpGet": {"port": 80, "scheme": "ftp"}}},
        {"template": {}, "probe": {"httpGet": {"port": 80, "scheme": "HTTP"}}},
    ),
    (
        "WorkloadGroup",
        "port must be between 1-65535: probe",
        {"template": {}, "probe": {"tcpSocket": {"port": 0}}},
        {"template": {}, "probe": {"tcpSocket": {"port": 80}}},
    ),
]


def refusals(kind: str, spec: Object) -> list[str]:
    """Why the API server or istiod refuses an object."""
    group, versions, _ = VERSIONS[kind]
    metadata = {"name": "a", "namespace": "b"}
    obj = {"apiVersion": f"{group}/{versions[0]}", "kind": kind, "metadata": metadata, "spec": deepcopy(spec)}
    by_schema = [str(one) for one in customresources.validate(DEFINED[kind], obj)]
    return [*by_schema, *judge_applied(obj).errors]


@pytest.mark.parametrize(
    ("kind", "broken", "kept"), [pytest.param(kind, bad, good, id=f"{kind}: {rule}") for kind, rule, bad, good in ROWS]
)
def test_each_rule_is_kept_without_cel(kind: str, broken: Object, kept: Object) -> None:
    assert refusals(kind, kept) == []
    assert refusals(kind, broken) != []
