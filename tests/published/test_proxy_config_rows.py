"""What istioctl's own tests print of proxies' dumps: rows of proxy-config, of dumps as Istio's proxies write them.

istioctl/pkg/writer/envoy/configdump and clusters of istio/istio, their tests and testdata.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labkit.observe.dumps import Dump, Section, Wanted, make_section
from labkit.pki import CertificateAuthority

Config = dict[str, Any]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HTTP = "envoy.filters.network.http_connection_manager"
TCP = "envoy.filters.network.tcp_proxy"


def section(
    kind: str, parts: dict[str, Config], wanted: Wanted | None = None, statuses: Config | None = None
) -> Section:
    configs = [{"@type": f"type.googleapis.com/envoy.admin.v3.{name}", **part} for name, part in parts.items()]
    return make_section(kind, Dump.of({"configs": configs}), statuses or {}, NOW, wanted)


def listeners(*found: Config) -> dict[str, Config]:
    return {"ListenersConfigDump": {"dynamic_listeners": [{"active_state": {"listener": one}} for one in found]}}


def listener(address: str = "0.0.0.0", port: int = 80, *chains: Config, **more: Any) -> Config:
    where = {"socket_address": {"address": address, "port_value": port}}
    return {"name": f"{address}_{port}", "address": where, "filter_chains": [*chains], **more}


def chain(*filters: Config, **match: Any) -> Config:
    return {"filters": [*filters], **({"filter_chain_match": match} if match else {})}


def tcp(cluster: str) -> Config:
    return {"name": TCP, "typed_config": {"cluster": cluster}}


# -- listeners: listener_test.go TestListenerFilter_Verify


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (Wanted(), listener(), True),
        (Wanted(address="0.0.0.0"), listener("1.1.1.1"), False),
        (Wanted(port=10), listener(port=11), False),
        (Wanted(type="HTTP"), listener("0.0.0.0", 80, chain({"name": HTTP})), True),
        (Wanted(type="HTTP+TCP"), listener("0.0.0.0", 80, chain({"name": TCP}, {"name": TCP}, {"name": HTTP})), True),
        (Wanted(type="TCP"), listener("0.0.0.0", 80, chain({"name": TCP})), True),
        (Wanted(type="UNKNOWN"), listener("0.0.0.0", 80, chain()), True),
        (Wanted(type="TCP"), listener("0.0.0.0", 80, chain({"name": HTTP})), False),
    ],
)
def test_which_listeners_a_filter_takes(wanted: Wanted, found: Config, expected: bool) -> None:
    assert bool(section("listeners", listeners(found), wanted).resources) is expected


def test_the_chains_of_a_sidecars_inbound_listener() -> None:
    """The forms of configdump/listener.go, for what a STRICT and a PERMISSIVE port have."""
    istio = ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"]
    found = listener(
        "0.0.0.0",
        15006,
        chain(tcp("BlackHoleCluster"), destination_port=15006),
        chain(tcp("inbound|9080||"), destination_port=9080, transport_protocol="tls", application_protocols=istio),
        chain(tcp("inbound|9080||"), destination_port=9080, transport_protocol="raw_buffer"),
        chain(
            {"name": HTTP, "typed_config": {"rds": {"route_config_name": "9080"}}},
            prefix_ranges=[{"address_prefix": "10.0.0.1", "prefix_len": 32}],
            application_protocols=["http/1.0", "http/1.1", "h2c"],
        ),
        traffic_direction="INBOUND",
        default_filter_chain=chain(tcp("InboundPassthroughCluster")),
    )
    made = section("listeners", listeners(found))
    assert made.columns == ("ADDRESSES", "PORT", "MATCH", "DESTINATION")
    assert [row[2:] for row in made.rows] == [
        ("Addr: *:15006", "Non-HTTP/Non-TCP"),
        (f"Trans: tls; App: {','.join(istio)}; Addr: *:9080", "Cluster: inbound|9080||"),
        ("Trans: raw_buffer; Addr: *:9080", "Cluster: inbound|9080||"),
        ("App: HTTP; Addr: 10.0.0.1/32", "Route: 9080"),
        ("ALL", "InboundPassthroughCluster"),
    ]
    assert section("listeners", listeners(found), Wanted(direction="outbound")).rows == ()


# -- clusters: testdata/clustersummary.txt


def test_clusters() -> None:
    policy = "istio-policy.istio-system.svc.cluster.local"
    dynamic = {"cluster": {"name": f"outbound|15004||{policy}", "type": "EDS"}}
    static = {"cluster": {"name": "xds-grpc", "type": "STRICT_DNS"}}
    parts = {"ClustersConfigDump": {"dynamic_active_clusters": [dynamic], "static_clusters": [static]}}
    made = section("clusters", parts)
    assert made.columns[:5] == ("SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE")
    assert [row[:5] for row in made.rows] == [
        (policy, "15004", "-", "outbound", "EDS"),
        ("xds-grpc", "-", "-", "-", "STRICT_DNS"),
    ]
    # testdata/clustersummaryfiltered.txt
    assert [row[0] for row in section("clusters", parts, Wanted(fqdn=policy)).rows] == [policy]
    assert section("clusters", parts, Wanted(port=80)).rows == ()


# -- endpoints: clusters/testdata/clustersummary.txt, clustersummaryfiltered.txt


def endpoint(address: str, port: int, cluster: str, **health: Any) -> Config:
    where = {"socket_address": {"address": address, "port_value": port}}
    return {"name": cluster, "host_statuses": [{"address": where, "health_status": health}]}


REVIEWS = "outbound|9080||reviews.default.svc.cluster.local"
POLICY = "outbound|15014||istio-policy.istio-system.svc.cluster.local"


def test_endpoints() -> None:
    healthy, sick = {"eds_health_status": "HEALTHY"}, {"eds_health_status": "UNHEALTHY"}
    statuses = {
        "cluster_statuses": [
            endpoint("172.17.0.27", 9080, REVIEWS, **healthy),
            endpoint("172.17.0.24", 9080, REVIEWS, **healthy, failed_outlier_check=True),
            endpoint("172.17.0.14", 15014, POLICY, **sick),
            {"name": "BlackHoleCluster"},
        ]
    }
    made = section("endpoints", {}, statuses=statuses)
    assert made.columns == ("ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER")
    assert made.rows == (
        ("172.17.0.14:15014", "UNHEALTHY", "OK", POLICY),
        ("172.17.0.24:9080", "HEALTHY", "FAILED", REVIEWS),
        ("172.17.0.27:9080", "HEALTHY", "OK", REVIEWS),
    )
    filtered = section("endpoints", {}, Wanted(address="172.17.0.14", port=15014), statuses)
    assert [row[0] for row in filtered.rows] == ["172.17.0.14:15014"]
    assert len(section("endpoints", {}, Wanted(status="healthy"), statuses).rows) == 2


# -- routes: testdata/routes/istio-gateway-http-route-prefix


def test_routes_of_a_gateway() -> None:
    made_by = {
        "filter_metadata": {
            "istio": {"config": "/apis/networking.istio.io/v1/namespaces/default/virtual-service/httpbin"}
        }
    }
    route = {
        "match": {"prefix": "/get", "case_sensitive": True},
        "route": {"cluster": "outbound|8000||httpbin.default.svc.cluster.local"},
        "metadata": made_by,
    }
    host = {"name": "httpbin.example.com:80", "domains": ["httpbin.example.com"], "routes": [route]}

    def own(prefix: str) -> Config:
        backend = {"name": "backend", "domains": ["*"], "routes": [{"match": {"prefix": prefix}}]}
        return {"name": HTTP, "typed_config": {"route_config": {"virtual_hosts": [backend]}}}

    parts = {
        "RoutesConfigDump": {
            "dynamic_route_configs": [{"route_config": {"name": "http.8080", "virtual_hosts": [host]}}]
        },
        **listeners(
            listener("0.0.0.0", 15090, chain(own("/stats/prometheus"))),
            listener("0.0.0.0", 15021, chain(own("/healthz/ready"))),
        ),
    }
    made = section("routes", parts)
    assert made.columns == ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")
    assert made.rows == (
        ("http.8080", "httpbin.example.com:80", "httpbin.example.com", "/get*", "httpbin.default"),
        ("", "backend", "*", "/stats/prometheus*", ""),
        ("", "backend", "*", "/healthz/ready*", ""),
    )
    assert [row[0] for row in section("routes", parts, Wanted(name="http.8080")).rows] == ["http.8080"]


# -- secrets: testdata/secret/istio/output


def test_secrets() -> None:
    root = CertificateAuthority.self_signed(organization="cluster.local", not_before=NOW - timedelta(days=30))
    old = root.issue(spiffe_id="spiffe://cluster.local/ns/shop/sa/web", not_before=NOW - timedelta(days=2))
    chain_pem, root_pem = old.chain_pem.decode(), root.root_pem.decode()
    secret = {
        "tls_certificate": {"certificate_chain": {"inline_string": chain_pem}, "private_key": {"inline_string": "x"}}
    }
    parts = {
        "SecretsConfigDump": {
            "dynamic_warming_secrets": [{"name": "configmap://some/thing", "secret": {}}],
            "dynamic_active_secrets": [
                {"name": "default", "secret": secret},
                {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": {"inline_string": root_pem}}}},
            ],
        }
    }
    made = section("secrets", parts)
    rows = {row[0]: row for row in made.rows}
    assert made.columns[:4] == ("RESOURCE NAME", "TYPE", "STATUS", "VALID CERT")
    assert rows["default"][1:4] == ("Cert Chain", "ACTIVE", "false"), "it has expired"
    assert rows["ROOTCA"][1:4] == ("CA", "ACTIVE", "true")
    assert rows["default"][5] == "2025-12-31T00:00:00Z" and rows["default"][7] == "cluster.local"
    assert rows["configmap://some/thing"][2:4] == ("WARMING", "false")
    assert "inline_string': 'x'" not in str(made.resources), "a key is never shown"
