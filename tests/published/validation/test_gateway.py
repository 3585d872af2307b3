"""Gateway: TestValidateGateway, TestValidateServer, TestValidateServerPort, TestValidateTlsOptions."""

from __future__ import annotations

import pytest

from tests.published.validation.rows import Row, check, parameters

HTTP = "{number: 7, name: http, protocol: http}"


def one(hosts: str, port: str = HTTP, more: str = "") -> str:
    return f"{{servers: [{{hosts: {hosts}, port: {port}{more}}}]}}"


PORT_RANGE = "must be in the range 1..65535"
# TestValidateGateway
GATEWAYS: list[Row] = [
    ("empty", "{}", "gateway must have at least one server", ""),
    ("happy domain", one("[foo.bar.com]", "{name: name1, number: 7, protocol: http}"), "", ""),
    ("Gateway API without routes", one("['~/foo.bar.com']"), 'invalid namespace value "~" in gateway', ""),
    ("invalid port", one("[foo.bar.com]", "{name: name1, number: 66000, protocol: http}"), PORT_RANGE, ""),
    (
        "duplicate port names",
        "{servers: [{hosts: [foo.bar.com], port: {name: foo, number: 80, protocol: http}}, "
        "{hosts: [scooby.doo.com], port: {name: foo, number: 8080, protocol: http}}]}",
        "port names in servers must be unique: duplicate name foo",
        "",
    ),
    ("invalid domain", one("['foo.*.bar.com']"), 'domain name "*.bar.com" invalid (label "*" invalid)', ""),
    ("valid httpsRedirect", one("[bar.com]", more=", tls: {httpsRedirect: true}"), "", ""),
    (
        "invalid https httpsRedirect",
        one("[bar.com]", "{name: https, number: 80, protocol: https}", ", tls: {httpsRedirect: true}"),
        "",
        "tls.httpsRedirect should only be used with http servers",
    ),
    (
        "invalid partial wildcard",
        one("['*bar.com']", "{name: tls, number: 443, protocol: tls}", ", tls: {mode: ISTIO_MUTUAL}"),
        'partial wildcard "*bar.com" not allowed',
        "",
    ),
]
# TestValidateServer
SERVERS: list[Row] = [
    ("server: no host", "{servers: [{}]}", "server config must contain at least one host", ""),
    ("server: no port", "{servers: [{}]}", "port is required", ""),
    *((f"server: happy {host}", one(f"['{host}']"), "", "") for host in ("foo.bar.com", "1.1.1.1", "ns1/foo.bar.com")),
    *((f"server: happy {host}", one(f"['{host}']"), "", "") for host in ("*/foo.bar.com", "./foo.bar.com")),
    ("server: invalid domain ns/name format", one("['ns1/foo.*.bar.com']"), 'domain name "*.bar.com" invalid', ""),
    ("server: short name", one("[foo]"), "short names (non FQDN) are not allowed", ""),
    ("server: invalid tls options", one("[foo.bar.com]", more=", tls: {mode: SIMPLE}"), "SIMPLE TLS requires", ""),
    (
        "server: no tls on HTTPS",
        one("[foo.bar.com]", "{number: 10000, name: https, protocol: https}"),
        "server must have TLS settings for HTTPS/TLS protocols",
        "",
    ),
    (
        "server: tls on HTTP",
        one("[foo.bar.com]", more=", tls: {mode: SIMPLE}"),
        "server cannot have TLS settings for plain text HTTP ports",
        "",
    ),
    ("server: bind ip", one("[foo.bar.com]", more=", bind: 127.0.0.1"), "", ""),
    (
        "server: bind unix path with invalid port",
        one("[foo.bar.com]", more=", bind: 'unix://@foobar'"),
        'port number must be 0 for unix domain socket: number:7 protocol:"http" name:"http"',
        "",
    ),
    (
        "server: bind unix path",
        one("[foo.bar.com]", "{number: 0, name: http, protocol: http}", ", bind: 'unix://@foobar'"),
        "",
        "",
    ),
    ("server: bind bad ip", one("[foo.bar.com]", more=", bind: foo.bar"), "foo.bar is not a valid IP", ""),
]
# TestValidateServerPort
PORTS: list[Row] = [
    (f"port: {name}", one("[foo.bar.com]", port), error, "")
    for name, port, error in (
        ("no protocol", "{}", 'invalid protocol "", supported protocols are HTTP, HTTP2, GRPC, GRPC-WEB, MONGO'),
        ("no name", "{number: 1, protocol: http}", 'port name must be set: number:1 protocol:"http"'),
        ("happy", "{protocol: http, number: 1, name: Henry}", ""),
        ("invalid protocol", "{protocol: kafka, number: 1, name: Henry}", 'invalid protocol "kafka"'),
        ("invalid number", "{protocol: http, number: 1073741824, name: http}", PORT_RANGE),
        ("name, no number", "{protocol: http, number: 0, name: Henry}", f"port number 0 {PORT_RANGE}"),
    )
]


@pytest.mark.parametrize(("spec", "error", "warning"), parameters([*GATEWAYS, *SERVERS, *PORTS]))
def test_gateways(spec: str, error: str, warning: str) -> None:
    check("Gateway", spec, error, warning)


CERTIFICATE, KEY = "serverCertificate: Picard", "privateKey: Khan"
CA, SDS = "caCertificates: Riker", "credentialName: sds-name"
PAIR = f"{CERTIFICATE}, {KEY}"
NO_CERTIFICATE = f"tlsCertificates: [{{{KEY}}}, {{{PAIR}}}]"
NO_KEY = f"tlsCertificates: [{{{CERTIFICATE}}}, {{{PAIR}}}]"
TWO = f"tlsCertificates: [{{{PAIR}}}, {{{PAIR}}}]"
THREE = f"tlsCertificates: [{{{PAIR}}}, {{{PAIR}}}, {{{PAIR}}}]"
ONE_SOURCE = "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should be"
IGNORED = "PASSTHROUGH mode does not use certificates, they will be ignored"
AES = "ECDHE-ECDSA-AES128-SHA"
# TestValidateTlsOptions
TLS: list[Row] = [
    ("empty", "", "", ""),
    ("simple", f"mode: SIMPLE, {PAIR}", "", ""),
    ("simple with client bundle", f"mode: SIMPLE, {PAIR}, {CA}", "", ""),
    ("simple sds", f"mode: SIMPLE, {SDS}", "", ""),
    ("simple sds with server cert", f"mode: SIMPLE, {PAIR}, {SDS}", ONE_SOURCE, ""),
    ("simple no server cert", f"mode: SIMPLE, {KEY}", "SIMPLE TLS requires a server certificate", ""),
    ("simple no private key", f"mode: SIMPLE, {CERTIFICATE}", "SIMPLE TLS requires a private key", ""),
    ("simple more than 2 certs", f"mode: SIMPLE, {THREE}", "", "SIMPLE TLS can support up to 2 server certificates"),
    ("simple with both", f"mode: SIMPLE, {PAIR}, {TWO}", ONE_SOURCE, ""),
    ("simple 2 certs, one missing", f"mode: SIMPLE, {NO_CERTIFICATE}", "SIMPLE TLS requires a server certificate", ""),
    ("simple 2 certs, key missing", f"mode: SIMPLE, {NO_KEY}", "SIMPLE TLS requires a private key", ""),
    ("simple sds no server cert", f"mode: SIMPLE, {KEY}, {SDS}", "", ""),
    ("simple sds no private key", f"mode: SIMPLE, {CERTIFICATE}, {SDS}", "", ""),
    ("mutual", f"mode: MUTUAL, {PAIR}, {CA}", "", ""),
    ("mutual sds", f"mode: MUTUAL, {CA}, {SDS}", "", ""),
    ("mutual sds and server cert", f"mode: MUTUAL, {PAIR}, {CA}, {SDS}", ONE_SOURCE, ""),
    ("mutual sds and tls certs", f"mode: MUTUAL, {CA}, {TWO}, {SDS}", ONE_SOURCE, ""),
    ("mutual no server cert", f"mode: MUTUAL, {KEY}, {CA}", "MUTUAL TLS requires a server certificate", ""),
    ("mutual no private key", f"mode: MUTUAL, {CERTIFICATE}, {CA}", "MUTUAL TLS requires a private key", ""),
    ("credential names and certificates", f"mode: MUTUAL, {PAIR}, credentialNames: [certs]", ONE_SOURCE, ""),
    ("credential names and tls certificates", f"mode: MUTUAL, {TWO}, credentialNames: [certs]", ONE_SOURCE, ""),
    ("only tls certificates", f"mode: MUTUAL, tlsCertificates: [{{{PAIR}}}], {CA}", "", ""),
    ("mutual sds no server cert", f"mode: MUTUAL, {KEY}, {CA}, {SDS}", "", ""),
    ("mutual no client CA bundle", f"mode: MUTUAL, {PAIR}", "MUTUAL TLS requires a client CA bundle", ""),
    *(
        (f"{mode}, no certs: {part}", f"mode: {mode}", f"MUTUAL TLS requires a {part}", "")
        for mode in ("MUTUAL", "OPTIONAL_MUTUAL")
        for part in ("server certificate", "private key", "client CA bundle")
    ),
    (
        "mutual more than 2 certs",
        f"mode: MUTUAL, {CA}, {THREE}",
        "",
        "MUTUAL TLS can support up to 2 server certificates",
    ),
    ("mutual with both", f"mode: MUTUAL, {CA}, {PAIR}, {TWO}", ONE_SOURCE, ""),
    ("mutual 2 certs, one missing", f"mode: MUTUAL, {CA}, {NO_CERTIFICATE}", "requires a server certificate", ""),
    ("mutual 2 certs, key missing", f"mode: MUTUAL, {CA}, {NO_KEY}", "requires a private key", ""),
    ("mutual 2 certs, CA missing", f"mode: MUTUAL, {TWO}", "requires a client CA bundle", ""),
    ("pass through sds", f"mode: PASSTHROUGH, {SDS}", "", IGNORED),
    ("pass through crl", "mode: PASSTHROUGH, caCrl: scrl", "", IGNORED),
    ("istio_mutual no certs", "mode: ISTIO_MUTUAL", "", ""),
    ("istio_mutual with server cert", f"mode: ISTIO_MUTUAL, {CERTIFICATE}", "cannot have associated server cert", ""),
    ("istio_mutual with client bundle", f"mode: ISTIO_MUTUAL, {PAIR}, {CA}", "cannot have associated CA bundle", ""),
    ("istio_mutual with private key", f"mode: ISTIO_MUTUAL, {KEY}", "cannot have associated private key", ""),
    ("istio_mutual with credential", f"mode: ISTIO_MUTUAL, {SDS}", "cannot have associated credentialName", ""),
    ("invalid ciphers", f"mode: SIMPLE, {SDS}, cipherSuites: [no-cipher]", "", "invalid cipher suites: [no-cipher]"),
    ("valid ciphers", f"mode: SIMPLE, {SDS}, cipherSuites: [{AES}]", "", ""),
    ("cipher operations", f"mode: SIMPLE, {SDS}, cipherSuites: ['-{AES}']", "", ""),
    (
        "duplicate ciphers",
        f"mode: SIMPLE, {SDS}, cipherSuites: [{AES}, {AES}]",
        "",
        f"duplicate cipher suites: [{AES}]",
    ),
    (
        "invalid ciphers, invalid config",
        "mode: SIMPLE, cipherSuites: [no-cipher]",
        "requires a private key",
        "no-cipher",
    ),
    ("crl, SIMPLE", "mode: SIMPLE, caCrl: crl", "CRL is not supported with SIMPLE TLS", ""),
    ("crl, credential", f"mode: SIMPLE, caCrl: crl, {SDS}", "", ""),
    ("with credential names", "mode: MUTUAL, credentialNames: [credential1, credential2]", "", ""),
    # not in the table, but in validateTLSOptions
    (
        "old version without ciphers",
        f"mode: SIMPLE, {SDS}, minProtocolVersion: TLSV1_0",
        "",
        "TLS version below TLSV1_2 require setting compatible ciphers",
    ),
]


@pytest.mark.parametrize(("tls", "error", "warning"), parameters(TLS))
def test_tls_of_servers(tls: str, error: str, warning: str) -> None:
    https = "{number: 443, name: https, protocol: https}"
    check("Gateway", one("[foo.bar.com]", https, f", tls: {{{tls}}}"), error, warning)


def test_names_of_gateways_have_no_dots() -> None:
    check("Gateway", one("[foo.bar.com]"), 'invalid gateway name: "a.b"', "", name="a.b")
