"""Every field of Istio's kinds is acted on, or it is said that it is not: none is ignored silently.

The mesh of `silence` is translated with and without each field. One that changes nothing must stand in
`labkit.policy.support`; and what stands there must change nothing, so that a line goes when its field is acted on.
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy.support import NOT_ACTED_ON, WHOLE, not_acted_on
from tests.unit.controlplane import silence
from tests.unit.controlplane.silence import Base, Trial, obj

Object = dict[str, Any]

OWN_CERTIFICATES = {"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k", "caCertificates": "/ca"}
ROUTE = [{"destination": {"host": "server", "port": {"number": 8000}}}]
TWO_ROUTES = [{"destination": {"host": "server"}, "weight": 1}, {"destination": {"host": "client"}, "weight": 1}]
POOL = {"tcp": {"maxConnections": 7}}
FAULT = {"delay": {"fixedDelay": "1s"}, "abort": {"httpStatus": 503}}


def tls_of_policies(settings: Object) -> Object:
    """A rule that says the same of TLS wherever it can."""
    return in_all_policies("tls", settings)


def in_all_policies(field: str, settings: Object) -> Object:
    """A rule that says the same in each of its policies."""
    policy = {field: settings, "portLevelSettings": [{"port": {"number": 8000}, field: settings}]}
    subsets = [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": policy}]
    return {"host": "server", "trafficPolicy": policy, "subsets": subsets}


def http(**route: Any) -> Object:
    return {"hosts": ["server"], "http": [{"route": ROUTE, **route}]}


def layer4(destinations: list[Object]) -> Object:
    return {
        "tls": [{"match": [{"sniHosts": ["*"], "port": 9443}], "route": destinations}],
        "tcp": [{"match": [{"port": 9000}], "route": destinations}],
    }


def server(protocol: str, number: int, **tls: Any) -> Object:
    port = {"number": number, "name": "port", "protocol": protocol}
    return {"hosts": ["*"], "port": port, **({"tls": tls} if tls else {})}


def gateway(*servers: Object) -> Object:
    return {"selector": {"istio": "ingressgateway"}, "servers": list(servers)}


def patch(apply_to: str, operation: str, value: Object, **match: Any) -> Object:
    return {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value}}


def patches(*found: Object, **spec: Any) -> Object:
    return {"configPatches": list(found), **spec}


def inside(*filters: str) -> Object:
    wanted: Object = {"name": filters[0]}
    if filters[1:]:
        wanted["subFilter"] = {"name": filters[1]}
    return {"filterChain": {"filter": wanted}}


TO_V1 = obj(
    "VirtualService",
    {
        "hosts": ["server"],
        "http": [{"route": [{"destination": {"host": "server", "subset": "v1", "port": {"number": 8000}}}]}],
    },
    name="to-v1",
)
WEB = obj("Gateway", gateway(server("HTTP", 80)), name="web")
CLOSED = obj("Gateway", gateway(server("TLS", 9443, mode="PASSTHROUGH"), server("TCP", 9000)), name="closed")
THROUGH = obj(
    "VirtualService",
    {"hosts": ["*"], "gateways": ["tried"], "http": [{"route": ROUTE}]},
    name="through",
    namespace="foo",
)
ENTRY = {
    "hosts": ["outside.example.com"],
    "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}],
    "resolution": "STATIC",
    "endpoints": [{"address": "192.0.2.1"}],
}
INTERNAL = {**ENTRY, "location": "MESH_INTERNAL", "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}
OF_VMS = obj(
    "ServiceEntry",
    {
        **{key: value for key, value in INTERNAL.items() if key != "endpoints"},
        "workloadSelector": {"labels": {"app": "vm"}},
    },
    name="vms",
)
VM = {"address": "192.0.2.9", "labels": {"app": "vm"}}


def originating(host: str, mode: str) -> Object:
    return obj("DestinationRule", {"host": host, "trafficPolicy": {"tls": {"mode": mode}}}, name="originating")


HCM, ROUTER = "envoy.filters.network.http_connection_manager", "envoy.filters.http.router"
JWKS = '{"keys":[{"kty":"RSA","e":"AQAB","n":"AQAB","kid":"a"}]}'
REQUESTS = {"match": {"metric": "REQUEST_COUNT"}}

TRIALS = (
    Trial(
        "DestinationRule",
        (
            Base(tls_of_policies(OWN_CERTIFICATES), (TO_V1,)),
            Base(
                tls_of_policies({"mode": "SIMPLE"}) | {"workloadSelector": {"matchLabels": {"app": "client"}}}, (TO_V1,)
            ),
            Base(
                {
                    "host": "server",
                    "trafficPolicy": {"portLevelSettings": [{"port": {"number": 8000}, "connectionPool": POOL}]},
                    "subsets": [
                        {
                            "name": "v1",
                            "labels": {"version": "v1"},
                            "trafficPolicy": {"portLevelSettings": [{"port": {"number": 8000}, "connectionPool": {}}]},
                        }
                    ],
                },
                (TO_V1,),
            ),
            Base({"host": "server.foo.svc.cluster.local", "trafficPolicy": {}}, namespace="istio-system"),
            Base(tls_of_policies({"mode": "DISABLE"}), (TO_V1,)),
            Base(in_all_policies("loadBalancer", {"warmup": {"duration": "10s"}}), (TO_V1,)),
        ),
        proxies=("client",),
        special={"spec.exportTo": ("*", "."), "spec.host": ("server", "client")},
    ),
    Trial(
        "VirtualService",
        (
            Base(http(match=[{"uri": {"prefix": "/a"}}], rewrite={"uri": "/b"}, retries={"attempts": 3})),
            Base(http(mirror={"host": "client"}, fault=FAULT, route=TWO_ROUTES)),
            Base(http(mirrors=[{"destination": {"host": "client"}}], corsPolicy={"allowOrigins": [{"exact": "a"}]})),
            Base({"hosts": ["server"], "http": [{"redirect": {"uri": "/x"}}]}),
            Base(http(rewrite={"uriRegexRewrite": {"match": "/a", "rewrite": "/b"}})),
            Base({"hosts": ["server"], **layer4(TWO_ROUTES)}),
            Base({"hosts": ["*"], "gateways": ["web"], "http": [{"route": ROUTE}]}, (WEB,), proxies=("gateway",)),
            Base({"hosts": ["*"], "gateways": ["closed"], **layer4(TWO_ROUTES)}, (CLOSED,), proxies=("gateway",)),
            Base({**http(), "hosts": ["server.foo.svc.cluster.local"]}, namespace="istio-system"),
        ),
        proxies=("client",),
        special={
            "spec.hosts": ("server", "client"),
            "spec.gateways": ("mesh", "web"),
            "spec.exportTo": ("*", "."),
            "spec.http.redirect.redirectCode": (301, 302),
        },
    ),
    Trial(
        "Gateway",
        (
            Base(gateway(server("HTTPS", 443, mode="MUTUAL", credentialName="c")), (THROUGH,)),
            Base(
                gateway(
                    server(
                        "HTTPS",
                        443,
                        mode="MUTUAL",
                        serverCertificate="/c",
                        privateKey="/k",
                        caCertificates="/ca",
                    )
                ),
                (THROUGH,),
            ),
            Base(
                gateway(
                    server(
                        "HTTPS",
                        443,
                        mode="MUTUAL",
                        caCertificates="/ca",
                        tlsCertificates=[{"serverCertificate": "/c", "privateKey": "/k"}],
                    )
                ),
                (THROUGH,),
            ),
            Base(gateway(server("HTTP", 80)), (THROUGH,)),
        ),
        proxies=("gateway",),
        special={
            "spec.servers.hosts": ("a.example.com", "b.example.com"),
            "spec.servers.port.protocol": ("HTTPS", "HTTP"),
            "spec.servers.tls.cipherSuites": ("ECDHE-RSA-AES128-GCM-SHA256",),
        },
    ),
    Trial(
        "ServiceEntry",
        (
            Base(ENTRY, key="tls"),
            Base({**ENTRY, "resolution": "DNS"}),
            Base({**ENTRY, "endpoints": [{"address": "192.0.2.1"}, {"address": "192.0.2.2"}]}),
            Base({**ENTRY, "ports": [{"number": 443, "name": "tls"}]}),
            Base(ENTRY, (originating("outside.example.com", "SIMPLE"),), "bar"),
            Base(INTERNAL, (originating("outside.example.com", "ISTIO_MUTUAL"),)),
            Base({"key": 1} | {k: v for k, v in INTERNAL.items() if k != "endpoints"}, key="app"),
        ),
        proxies=("client",),
        special={
            "spec.hosts": ("x.example.com", "y.example.com"),
            "spec.exportTo": ("*", "."),
            "spec.ports.name": ("http-x", "tcp-x"),
            "spec.ports.protocol": ("HTTP", "TCP"),
            "spec.workloadSelector.labels.*": ("server",),
        },
    ),
    Trial(
        "WorkloadEntry",
        (
            Base(VM, (OF_VMS,), key="http"),
            Base(VM, (OF_VMS, originating("outside.example.com", "ISTIO_MUTUAL"))),
        ),
        proxies=("client",),
        special={"spec.labels.*": ("vm",)},
    ),
    Trial(
        "Sidecar",
        (
            Base({"egress": [{"hosts": ["./*"]}]}),
            Base(
                {
                    "egress": [{"hosts": ["./server.foo.svc.cluster.local"]}],
                    "outboundTrafficPolicy": {"mode": "ALLOW_ANY"},
                }
            ),
            Base({"ingress": [{"port": {"number": 7000, "name": "http", "protocol": "HTTP"}}]}),
            Base({"ingress": [{"port": {"number": 7000, "name": "http"}}], "egress": [{"hosts": ["./client"]}]}),
        ),
        special={
            "spec.egress.hosts": ("*/*", "~/*"),
            "spec.egress.port.number": (8000,),
            "spec.ingress.defaultEndpoint": ("127.0.0.1:1", "127.0.0.1:2"),
            "spec.ingress.port.name": ("http", "tcp"),
        },
    ),
    Trial(
        "EnvoyFilter",
        (
            Base(patches(patch("CLUSTER", "MERGE", {"alt_stat_name": "x"}, context="SIDECAR_OUTBOUND", cluster={}))),
            Base(
                patches(patch("HTTP_ROUTE", "MERGE", {"name": "x"}, context="SIDECAR_OUTBOUND", routeConfiguration={}))
            ),
            Base(patches(patch("LISTENER", "MERGE", {"stat_prefix": "x"}, listener={}))),
            Base(
                patches(
                    patch(
                        "NETWORK_FILTER",
                        "INSERT_BEFORE",
                        {"name": "x"},
                        context="SIDECAR_INBOUND",
                        listener=inside(HCM),
                    )
                ),
                proxies=("server",),
            ),
            Base(
                patches(
                    patch(
                        "HTTP_FILTER",
                        "INSERT_BEFORE",
                        {"name": "x"},
                        context="SIDECAR_INBOUND",
                        listener=inside(HCM, ROUTER),
                    )
                ),
                proxies=("server",),
            ),
            Base(
                patches(
                    patch("LISTENER_FILTER", "INSERT_BEFORE", {"name": "x"}, context="SIDECAR_INBOUND", listener={})
                ),
                proxies=("server",),
            ),
            Base(
                patches(patch("LISTENER", "MERGE", {"stat_prefix": "x"})),
                (
                    obj(
                        "EnvoyFilter",
                        patches(patch("LISTENER", "MERGE", {"stat_prefix": "y"}), priority=1),
                        name="second",
                    ),
                ),
            ),
        ),
        proxies=("client",),
        special={
            "spec.configPatches.match.listener.listenerFilter": ("envoy.filters.listener.tls_inspector",),
            "spec.configPatches.match.routeConfiguration.vhost.domainName": ("server",),
        },
    ),
    Trial(
        "ProxyConfig", (Base(), Base({"selector": {"matchLabels": {"app": "raw"}}, "concurrency": 7}, key="app")), ()
    ),
    Trial(
        "Telemetry",
        (
            Base({"accessLogging": [{"providers": [{"name": "envoy"}]}]}),
            Base({"accessLogging": [{"providers": [{"name": "envoy"}], "disabled": True}]}),
            Base({"metrics": [{"overrides": [{**REQUESTS, "disabled": True}], "providers": [{"name": "prometheus"}]}]}),
            Base(
                {
                    "metrics": [
                        {
                            "providers": [{"name": "prometheus"}],
                            "overrides": [{**REQUESTS, "tagOverrides": {"response_code": {"operation": "REMOVE"}}}],
                        }
                    ]
                }
            ),
            Base(
                {
                    "metrics": [
                        {"overrides": [{"tagOverrides": {"host": {"operation": "UPSERT", "value": "request.host"}}}]}
                    ]
                }
            ),
        ),
        proxies=("server", "client"),
        special={
            "spec.accessLogging.filter.expression": ("response.code >= 400", "response.code >= 500"),
            "spec.accessLogging.providers.name": ("envoy", "other"),
            "spec.metrics.providers.name": ("prometheus", "other"),
        },
    ),
    Trial(
        "WasmPlugin",
        (
            Base({"url": "file:///m.wasm"}),
            Base({"url": "file:///m.wasm", "match": [{"mode": "SERVER"}]}),
            Base(
                {"url": "file:///m.wasm"}, (obj("WasmPlugin", {"url": "file:///n.wasm", "priority": 1}, name="second"),)
            ),
        ),
        proxies=("server", "client"),
        special={"spec.url": ("file:///a", "file:///b"), "spec.match.ports.number": (8080,)},
    ),
    Trial(
        "AuthorizationPolicy",
        (
            Base({"rules": [{"when": [{"key": "source.namespace", "values": ["a"]}]}]}),
            Base({"rules": [{"when": [{"key": "source.namespace", "notValues": ["a"]}]}]}),
            Base({"rules": [{}]}),
        ),
        proxies=("server",),
        special={
            "spec.rules.when.key": ("source.principal", "source.namespace"),
            "spec.rules.to.operation.ports": ("80",),
            "spec.rules.to.operation.notPorts": ("80",),
            "spec.rules.from.source.serviceAccounts": ("foo/a",),
            "spec.rules.from.source.notServiceAccounts": ("foo/a",),
        },
    ),
    Trial(
        "PeerAuthentication",
        (
            Base({"selector": {"matchLabels": {"app": "server"}}, "mtls": {"mode": "STRICT"}}),
            Base({"selector": {"matchLabels": {"app": "server"}}, "portLevelMtls": {"8080": {"mode": "STRICT"}}}),
        ),
        proxies=("server",),
    ),
    Trial(
        "RequestAuthentication",
        (Base({"jwtRules": [{"issuer": "a", "jwks": JWKS}]}), Base({"jwtRules": [{"issuer": "a"}]})),
        proxies=("server",),
    ),
)

ELSEWHERE: dict[str, dict[str, str]] = {
    "AuthorizationPolicy": {"spec.provider.name": "CUSTOM is refused as long as there is no provider"},
    "DestinationRule": {
        f"{policy}.connectionPool.http.maxConcurrentStreams": "counts on ports of HTTP/2: test_destination_rule_limits"
        for policy in (
            "spec.trafficPolicy",
            "spec.trafficPolicy.portLevelSettings",
            "spec.subsets.trafficPolicy",
            "spec.subsets.trafficPolicy.portLevelSettings",
        )
    },
    "Gateway": {
        "spec.servers.name": "must be unique; Istio needs it for nothing else",
        "spec.servers.port.name": "must be unique",
    },
    "Sidecar": {"spec.egress.port.name": "Istio needs it for nothing else than its listener's name"},
    "WasmPlugin": {"spec.type": "NETWORK is said, HTTP is what all are"},
}
"""What is acted on, or without any effect in Istio too, and cannot be seen in a proxy's documents."""


def line_of(kind: str, path: str) -> str:
    """The line of `support` that names a field."""
    return next((one for one in NOT_ACTED_ON.get(kind, {}) if path == one or path.startswith(f"{one}.")), "")


def test_every_kind_is_tried() -> None:
    whole = {kind for kind, lines in NOT_ACTED_ON.items() if WHOLE in lines}
    assert {trial.kind for trial in TRIALS} | whole == silence.schemas().keys()


@pytest.mark.timeout(30)  # a translation for each field, on a machine that may be busy
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.kind)
def test_each_field_is_acted_on_or_named(trial: Trial) -> None:
    elsewhere = ELSEWHERE.get(trial.kind, {})
    silent, stale, matters = [], set(), set()
    for path, acted in trial.fields(silence.schemas()[trial.kind], lambda path: bool(line_of(trial.kind, path))):
        line = line_of(trial.kind, path)
        if not acted and not line and path not in elsewhere:
            silent.append(path)
        if acted:
            stale |= {line} - {""}
            matters.add(path)
    assert silent == [], "ignored, and not said"
    assert stale == set(), "said to have no effect, and it has one"
    assert not matters & elsewhere.keys()


def test_a_line_names_fields_that_exist() -> None:
    for kind, schema in silence.schemas().items():
        known = {silence.dotted(path) for path, _ in silence.leaves(schema)}
        for line in NOT_ACTED_ON.get(kind, {}):
            assert line == WHOLE or any(path == line or path.startswith(f"{line}.") for path in known), (kind, line)


def test_a_field_that_nobody_reads_would_be_found() -> None:
    """The twin: with a field in the schema that the control plane does not know, the test above fails."""
    schema = silence.schemas()["PeerAuthentication"]
    schema = {**schema, "properties": {**schema["properties"], "futile": {"type": "string"}}}
    (trial,) = (one for one in TRIALS if one.kind == "PeerAuthentication")
    found = dict(trial.fields(schema))
    assert not found.pop("spec.futile")
    assert all(found.values())
    assert not_acted_on({"kind": "PeerAuthentication", "spec": {"futile": "x"}}) == ()
