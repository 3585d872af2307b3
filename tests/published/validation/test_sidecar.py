"""Sidecar: TestValidateSidecar."""

from __future__ import annotations

import pytest

from tests.published.validation.rows import Row, check, parameters

ALL = "egress: [{hosts: ['*/*']}]"
UDS = "{protocol: http, number: 0, name: uds}"
SOCKET = "'unix:///@foo/bar/com'"
EMPTY = "sidecar: empty configuration provided"
UNIQUE = "sidecar: ports on IP bound listeners must be unique"
POOL = "http: {http1MaxPendingRequests: 1024, http2MaxRequests: 1024, maxRequestsPerConnection: 1024, maxRetries: 1024}"
NO_POOL = "connection pool must have at least one field"
PROXY = "egressProxy: {host: foo.bar, subset: shiny"


def egress(hosts: str, more: str = "") -> str:
    return f"egress: [{{hosts: {hosts}{more}}}]"


def ingress(more: str, protocol: str = "http") -> str:
    return f"ingress: [{{port: {{protocol: {protocol}, number: 90, name: foo}}, {more}}}]"


def tls(settings: str, protocol: str = "tcp") -> str:
    return ingress(f"defaultEndpoint: '127.0.0.1:9999', tls: {{{settings}}}", protocol)


ROWS: list[Row] = [
    ("empty ingress and egress", "", EMPTY, ""),
    ("default", ALL, "", ""),
    (
        "workload selector without labels",
        f"{ALL}, workloadSelector: {{}}",
        "",
        "sidecar: workload selector specified without labels, will be applied to all services in namespace",
    ),
    ("import local namespace with wildcard", egress("['./*']"), "", ""),
    ("import local namespace with fqdn", egress("[./foo.com]"), "", ""),
    ("import nothing", egress("['~/*']"), "", ""),
    ("bad egress host 1", egress("['*']"), "host must be of form namespace/dnsName", ""),
    ("bad egress host 2", egress("[/]"), "config namespace and dnsName in host entry cannot be empty", ""),
    ("empty egress host", egress("[]"), "sidecar: egress listener must contain at least one host", ""),
    (
        "multiple wildcard egress",
        "egress: [{hosts: ['*/foo.com']}, {hosts: [ns1/bar.com]}]",
        "sidecar: the egress listener with empty port should be the last listener in the list",
        "",
    ),
    (
        "wildcard egress not in end",
        "egress: [{hosts: ['*/foo.com']}, {port: {protocol: http, number: 8080, name: a}, hosts: [ns1/bar.com]}]",
        "sidecar: the egress listener with empty port should be the last listener in the list",
        "",
    ),
    (
        "invalid Port",
        egress("[ns1/bar.com]", ", port: {protocol: http1, number: 1000000, name: ''}"),
        "unsupported protocol: http1",
        "",
    ),
    ("Port without name", egress("[ns1/bar.com]", ", port: {protocol: http, number: 8080}"), "", ""),
    ("UDS bind in outbound", egress("[ns1/bar.com]", f", port: {UDS}, bind: {SOCKET}"), "", ""),
    (
        "UDS bind in inbound",
        f"ingress: [{{port: {UDS}, bind: {SOCKET}, defaultEndpoint: '127.0.0.1:9999'}}]",
        "unix:///@foo/bar/com is not a valid IP",
        "",
    ),
    ("UDS bind in outbound 2", egress("[ns1/bar.com]", f", port: {UDS}, bind: 'unix:///foo/bar/com'"), "", ""),
    (
        "invalid bind",
        egress("[ns1/bar.com]", f", port: {UDS}, bind: 'foobar:///@foo/bar/com'"),
        "sidecar: ports with 0 value must have a unix domain socket bind address",
        "",
    ),
    (
        "invalid capture mode with uds bind",
        egress("[ns1/bar.com]", f", port: {UDS}, bind: {SOCKET}, captureMode: IPTABLES"),
        "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners",
        "",
    ),
    (
        "duplicate UDS bind",
        f"egress: [{{port: {UDS}, hosts: [a/b.c], bind: {SOCKET}}}, {{port: {UDS}, hosts: [a/b.c], bind: {SOCKET}}}]",
        "sidecar: unix domain socket values for listeners must be unique",
        "",
    ),
    (
        "duplicate ports",
        "egress: [{port: {protocol: http, number: 90}, hosts: [a/b.com]}, "
        "{port: {protocol: tcp, number: 90}, hosts: [b/b.com]}]",
        UNIQUE,
        "",
    ),
    (
        "ingress without port",
        f"ingress: [{{defaultEndpoint: '127.0.0.1:110'}}], {ALL}",
        "sidecar: port is required for ingress listeners",
        "",
    ),
    (
        "ingress with duplicate ports",
        "ingress: [{port: {protocol: http, number: 90}}, {port: {protocol: tcp, number: 90}}]",
        UNIQUE,
        "",
    ),
    ("ingress without default endpoint", f"ingress: [{{port: {{protocol: http, number: 90}}}}], {ALL}", "", ""),
    (
        "ingress with invalid default endpoint in IPv4",
        ingress("defaultEndpoint: '1.1.1.1:90'"),
        "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://",
        "",
    ),
    (
        "ingress with invalid default endpoint in IPv6",
        ingress("defaultEndpoint: '[1:1:1:1:1:1:1:1]:90'"),
        "sidecar: defaultEndpoint must be of form",
        "",
    ),
    (
        "ingress with invalid default endpoint uds",
        ingress("defaultEndpoint: 'unix:///'"),
        "/ is not an absolute path to a file",
        "",
    ),
    (
        "ingress with invalid default endpoint port",
        ingress("defaultEndpoint: '127.0.0.1:hi'"),
        "sidecar: defaultEndpoint port (hi) is not a number",
        "",
    ),
    ("valid ingress and egress in IPv4", ingress("defaultEndpoint: '127.0.0.1:9999'") + f", {ALL}", "", ""),
    ("valid ingress and egress in IPv6", ingress("defaultEndpoint: '[::1]:9999'") + f", {ALL}", "", ""),
    ("valid ingress and empty egress", ingress("defaultEndpoint: '127.0.0.1:9999'"), "", ""),
    ("just outbound traffic policy", "outboundTrafficPolicy: {mode: ALLOW_ANY}", "", ""),
    ("empty protocol", "ingress: [{port: {number: 90, name: foo}}]", "", ""),
    ("ALLOW_ANY with no egress proxy", f"outboundTrafficPolicy: {{mode: ALLOW_ANY}}, {ALL}", "", ""),
    (
        "egress proxy with REGISTRY_ONLY(default)",
        f"outboundTrafficPolicy: {{{PROXY}, port: {{number: 5000}}}}}}",
        "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode",
        "",
    ),
    (
        "egress proxy with ALLOW_ANY",
        f"outboundTrafficPolicy: {{mode: ALLOW_ANY, {PROXY}, port: {{number: 5000}}}}}}",
        "",
        "",
    ),
    (
        "egress proxy, invalid fqdn",
        "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: 'foobar*123', port: {number: 5000}}}",
        'domain name "foobar*123" invalid',
        "",
    ),
    (
        "egress proxy without port",
        f"outboundTrafficPolicy: {{mode: ALLOW_ANY, {PROXY}}}}}",
        "sidecar: egress_proxy port must be non-nil",
        "",
    ),
    (
        "egress only one wildcarded",
        egress("['*/*', test/a.com]"),
        "",
        "`*/*` host select all resources, no other hosts can be added",
    ),
    ("egress wildcarded ns", egress("['*/b.com', test/a.com]"), "", ""),
    ("egress duplicated, same namespace", egress("['test/*', test/a.com]"), "", "duplicated egress host: test/a.com"),
    ("invalid partial wildcard", egress("['test/*a.com']"), 'partial wildcard "*a.com" not allowed', ""),
    ("egress duplicated, same namespace .", egress("['./*', bar/a.com]"), "", "duplicated egress host: bar/a.com"),
    (
        "ingress tls ISTIO_MUTUAL",
        tls("mode: ISTIO_MUTUAL"),
        "cannot set mode to ISTIO_MUTUAL in sidecar ingress tls",
        "",
    ),
    ("ingress tls AUTO_PASSTHROUGH", tls("mode: AUTO_PASSTHROUGH"), "cannot set mode to AUTO_PASSTHROUGH", ""),
    (
        "ingress tls invalid protocol",
        tls("mode: SIMPLE"),
        "server cannot have TLS settings for non HTTPS/TLS ports",
        "",
    ),
    (
        "ingress tls httpsRedirect",
        tls("mode: SIMPLE, httpsRedirect: true"),
        "sidecar: httpsRedirect is not supported",
        "",
    ),
    (
        "ingress tls SAN entries",
        tls("mode: SIMPLE, subjectAltNames: [httpbin.com]"),
        "sidecar: subjectAltNames is not supported in ingress tls",
        "",
    ),
    (
        "ingress tls credentialName",
        tls("mode: SIMPLE, credentialName: secret-name"),
        "sidecar: credentialName is not currently supported",
        "",
    ),
    (
        "ingress tls credentialNames",
        tls("mode: SIMPLE, credentialNames: [secret-name]"),
        "sidecar: credentialNames is not currently supported",
        "",
    ),
    (
        "ingress tls tlsCertificates",
        tls("mode: SIMPLE, tlsCertificates: [{serverCertificate: a, privateKey: b}]"),
        "sidecar: tls_certificates is not currently supported",
        "",
    ),
    ("valid inbound connection pool", f"inboundConnectionPool: {{{POOL}}}", "", ""),
    (
        "port-level pool with default",
        f"{ingress(f'connectionPool: {{{POOL}}}')}, inboundConnectionPool: {{{POOL}}}",
        "",
        "",
    ),
    ("port-level pool without default", ingress(f"connectionPool: {{{POOL}}}"), "", ""),
    (
        "warn http connection settings on tcp port",
        ingress(f"connectionPool: {{{POOL}}}", "tcp"),
        "",
        'HTTP connection pool settings are configured for port 90 ("foo") but its protocol is not HTTP (tcp)',
    ),
    ("invalid top level connection pool", "inboundConnectionPool: {}", NO_POOL, ""),
    ("invalid port-level connection pool", ingress("connectionPool: {}", "tcp"), NO_POOL, ""),
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters(ROWS))
def test_sidecars(spec: str, error: str, warning: str) -> None:
    check("Sidecar", f"{{{spec}}}", error, warning)
