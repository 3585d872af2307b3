"""What is asked of a Gateway, in Istio's words: pkg/config/validation/validation.go ValidateGateway, validateServer,
validateTLSOptions, and pkg/config/security/security.go for the ciphers.
"""

from __future__ import annotations

from typing import Any

from labkit.policy.validation.common import (
    HTTP,
    PROTOCOLS,
    TLS,
    UNIX_PREFIX,
    address,
    is_dns_label,
    namespaced_host,
    port_number,
    protocol,
    unix_address,
)
from labkit.policy.validation.findings import Findings, Object, Remark, block, items, quoted

_SUPPORTED = "HTTP, HTTP2, GRPC, GRPC-WEB, MONGO, REDIS, MYSQL, TCP"
_PASSING = ("PASSTHROUGH", "AUTO_PASSTHROUGH")

CIPHERS = frozenset(
    [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
    ]
)


def gateway(obj: Object) -> Findings:
    """A whole Gateway."""
    name = str((obj.get("metadata") or {}).get("name") or "")
    if not is_dns_label(name):
        yield f"invalid gateway name: {quoted(name)}"
    servers = items(obj.get("spec"), "servers")
    if not servers:
        yield "gateway must have at least one server"
    for one in servers:
        yield from server(one)
    yield from _together(servers)


def _together(servers: list[Object]) -> Findings:
    names = set()
    for one in servers:
        port = one.get("port")
        if port is None:
            continue
        name = str(port.get("name") or "")
        if name in names:
            yield f"port names in servers must be unique: duplicate name {name}"
        names.add(name)
        if protocol(port) not in HTTP and block(one, "tls").get("httpsRedirect"):
            yield Remark("tls.httpsRedirect should only be used with http servers")


def server(one: Object) -> Findings:
    """One server: its hosts, its port, and whether its TLS fits to it."""
    hosts = items(one, "hosts")
    if not hosts:
        yield "server config must contain at least one host"
    for host in hosts:
        yield from namespaced_host(str(host), gateway=True)
    bind, tls = str(one.get("bind") or ""), one.get("tls")
    wrong_port = list(server_port(one.get("port"), bind))
    yield from wrong_port
    yield from _bind(one.get("port"), bind)
    yield from server_tls(tls)
    if not wrong_port:
        yield from _fits(protocol(one["port"]), tls)


def _fits(declared: str, tls: Object | None) -> Findings:
    if declared in TLS and tls is None:
        yield "server must have TLS settings for HTTPS/TLS protocols"
    elif declared not in TLS and tls is not None:
        if declared not in HTTP:
            yield "server cannot have TLS settings for non HTTPS/TLS ports"
        elif (tls.get("mode") or "PASSTHROUGH") not in _PASSING or any(
            tls.get(one) for one in ("caCertificates", "privateKey", "serverCertificate")
        ):  # what is left is httpsRedirect
            yield "server cannot have TLS settings for plain text HTTP ports"


def server_port(port: Object | None, bind: str = "") -> Findings:
    """A server's port; on a unix socket it has no number."""
    if port is None:
        yield "port is required"
        return
    number = int(port.get("number") or 0)
    if protocol(port) not in PROTOCOLS:
        written = quoted(port.get("protocol") or "")
        yield f"invalid protocol {written}, supported protocols are {_SUPPORTED}"
    if number > 0 or not bind.startswith(UNIX_PREFIX):
        yield from port_number(number)
    if (port.get("targetPort") or 0) > 0:
        yield "targetPort has no impact on Gateways"
    if not port.get("name"):
        yield f"port name must be set: {_printed(port)}"


def _bind(port: Object | None, bind: str) -> Findings:
    if bind.startswith(UNIX_PREFIX):
        yield from unix_address(bind.removeprefix(UNIX_PREFIX))
        if port is not None and port.get("number"):
            yield f"port number must be 0 for unix domain socket: {_printed(port)}"
    elif bind:
        yield from address(bind)


def _printed(port: Object) -> str:
    fields: list[tuple[str, Any]] = [(name, port.get(name)) for name in ("number", "protocol", "name")]
    return " ".join(f"{name}:{quoted(v) if isinstance(v, str) else v}" for name, v in fields if v)


def server_tls(tls: Object | None) -> Findings:
    """The TLS of a server, or of a Sidecar's ingress listener."""
    if tls is None:
        return
    mode = tls.get("mode") or "PASSTHROUGH"
    yield from _ciphers(tls)
    if mode == "ISTIO_MUTUAL":
        yield from _mesh_certificates(tls)
        return
    if mode in _PASSING and any(tls.get(one) for one in _CERTIFICATES):
        yield Remark(f"{mode} mode does not use certificates, they will be ignored")
    sources = (
        tls.get("serverCertificate") and tls.get("privateKey"),
        *(tls.get(one) for one in ("credentialName", "credentialNames", "tlsCertificates")),
    )
    if sum(map(bool, sources)) > 1:
        yield (
            "only one of credential_name, credential_names, server_certificate/private_key, tls_certificates should "
            "be specified"
        )
    if mode not in _PASSING and (tls.get("credentialName") or tls.get("credentialNames")):
        return
    if mode not in _PASSING:
        yield from _certificates(tls, mode)
    if tls.get("caCrl"):
        if tls.get("credentialName"):
            yield "CRL is not supported with credentialName. CRL has to be specified in the credential"
        if mode == "SIMPLE":
            yield "CRL is not supported with SIMPLE TLS"


_CERTIFICATES = (
    *("caCrl", "serverCertificate", "privateKey", "caCertificates", "tlsCertificates", "credentialName"),
    "credentialNames",
)
_NOT_WITH_THE_MESH = {
    "serverCertificate": "server certificate",
    "privateKey": "private key",
    "caCertificates": "CA bundle",
    "credentialName": "credentialName",
    "credentialNames": "credentialNames",
}


def _mesh_certificates(tls: Object) -> Findings:
    for name, words in _NOT_WITH_THE_MESH.items():
        if tls.get(name):
            yield f"ISTIO_MUTUAL TLS cannot have associated {words}"


def _certificates(tls: Object, mode: str) -> Findings:
    words = "SIMPLE TLS" if mode == "SIMPLE" else "MUTUAL TLS"
    if mode != "SIMPLE" and not tls.get("caCertificates"):
        yield f"{words} requires a client CA bundle"
    several = items(tls, "tlsCertificates")
    if len(several) > 2:
        yield Remark(f"{words} can support up to 2 server certificates")
    for one in several or [tls]:
        if not one.get("serverCertificate"):
            yield f"{words} requires a server certificate"
        if not one.get("privateKey"):
            yield f"{words} requires a private key"


def _ciphers(tls: Object) -> Findings:
    suites = [str(one) for one in items(tls, "cipherSuites")]
    if tls.get("minProtocolVersion") in ("TLSV1_0", "TLSV1_1") and not suites:
        yield Remark(
            "TLS version below TLSV1_2 require setting compatible ciphers as by default they no longer include "
            "compatible ciphers."
        )
    invalid = sorted({one for one in suites if not _known_cipher(one)})
    valid = [one for one in suites if _known_cipher(one)]
    twice = sorted({one for one in valid if valid.count(one) > 1})
    if invalid:
        yield Remark(f"ignoring invalid cipher suites: [{' '.join(invalid)}]")
    if twice:
        yield Remark(f"ignoring duplicate cipher suites: [{' '.join(twice)}]")


def _known_cipher(suite: str) -> bool:
    # What begins with a sign is an operation on the list (-X, +X), of which Istio reads no more.
    return suite in ("", "ALL") or not suite[0].isalnum() or suite in CIPHERS
