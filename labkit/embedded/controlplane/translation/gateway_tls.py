"""TLS of a gateway's servers: what is presented, what is asked of clients, where the certificates come from. Pure.

pilot/pkg/networking/core/gateway.go buildGatewayListenerTLSContext and pilot/pkg/security/model/authentication.go of
istio/istio. Certificates come by SDS, from Secrets and from files alike, so that a change is in force without a new
listener, and what is missing or broken concerns one server alone: the port stays open and cuts every handshake.

A file's path is one of the machine, see the README. If it cannot be read, Envoy refuses the secret (an event on the
Gateway has its words) and asks again once the Gateway names another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from labkit.embedded.controlplane.translation import tls
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.controlplane.translation.tls import ca_secret, certificate_secret, credential_sds
from labkit.embedded.envoy_messages import SECRET_TYPE, TYPE, Config, discovery_response
from labkit.policy.credentials import Credential
from labkit.policy.destination_rule import client_credentials
from labkit.policy.gateway import Server, Serves, gateways_for
from labkit.policy.inbound import SERVER_ALPN_HTTP, SERVER_ALPN_TCP

_ASKS = frozenset({"MUTUAL", "OPTIONAL_MUTUAL"})
_VERSIONS = {f"TLSV1_{minor}": f"TLSv1_{minor}" for minor in range(4)}

# pkg/config/security/security.go ValidCipherSuites: what else is written is left out, for Envoy would refuse it.
CIPHER_SUITES = frozenset(
    {
        *(
            f"ECDHE-{kind}-{cipher}"
            for kind in ("ECDSA", "RSA")
            for cipher in (
                *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA"),
            )
        ),
        *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA"),
    }
)


def server_context(snapshot: Snapshot, directory: Path, server: Server) -> Config:
    """The transport socket of a server that terminates."""
    mesh_own = server.tls_mode == "ISTIO_MUTUAL"
    alpn = SERVER_ALPN_TCP if mesh_own and server.serves is Serves.TCP else SERVER_ALPN_HTTP
    if mesh_own:
        # The mesh's own certificates; the trust domain is not looked at (subjectAltNames only).
        common = tls.common_context(directory, alpn)
    else:
        names = [*map(certificate_secret, server.credential_names), *(name for name, _ in _file_certificates(server))]
        common = {
            "alpn_protocols": list(alpn),
            "tls_certificate_sds_secret_configs": [credential_sds(name) for name in names],
        }
    if mesh_own or server.tls_mode in _ASKS:
        asked = common.setdefault("combined_validation_context", {})
        asked["default_validation_context"] = _expected(server)
        if not mesh_own:
            asked["validation_context_sds_secret_config"] = credential_sds(_ca_name(server))
    if limits := _limits(server):
        common["tls_params"] = limits
    return {
        "name": tls.TLS_SOCKET,
        "typed_config": {
            "@type": f"{TYPE}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": server.tls_mode in ("MUTUAL", "ISTIO_MUTUAL"),
            "common_tls_context": common,
        },
    }


def _expected(server: Server) -> Config:
    """What a client's certificate must be, beyond its authority."""
    names = [
        {"san_type": kind, "matcher": {"exact": name}} for name in server.subject_alt_names for kind in ("DNS", "URI")
    ]
    found = {
        "match_typed_subject_alt_names": names,
        "verify_certificate_spki": list(server.spki_pins),
        "verify_certificate_hash": list(server.hash_pins),
    }
    return {name: value for name, value in found.items() if value}


def _limits(server: Server) -> Config:
    found = {
        "tls_minimum_protocol_version": _VERSIONS.get(server.min_version),
        "tls_maximum_protocol_version": _VERSIONS.get(server.max_version),
        "cipher_suites": list(dict.fromkeys(one for one in server.cipher_suites if one in CIPHER_SUITES)),
    }
    return {name: value for name, value in found.items() if value}


def _ca_name(server: Server) -> str:
    if server.ca_credential:
        return ca_secret(server.ca_credential)
    if server.credential_names:
        return ca_secret(server.credential_names[0])
    return _file_name("ca", server.ca_file, server.crl_file)


def _file_certificates(server: Server) -> Iterator[tuple[str, tuple[str, str]]]:
    # Istio calls them file-cert:<certificate>~<key>; here the name is part of a path.
    for pair in () if server.credential_names else server.certificate_files:
        yield _file_name("cert", *pair), pair


def _file_name(kind: str, *paths: str) -> str:
    return f"file-{kind}-{sha256('~'.join(paths).encode()).hexdigest()[:16]}"


def credentials_of(snapshot: Snapshot, proxy: Sidecar) -> list[str]:
    """The credentials that a proxy needs, by name: those of a gateway's servers, and those of DestinationRules."""
    names = client_credentials(snapshot.destination_rules, proxy.workload, gateway=proxy.gateway)
    if not proxy.gateway:
        return sorted(names)
    names |= {
        name
        for one in _servers(snapshot, proxy)
        for name in (*one.credential_names, one.ca_credential if one.tls_mode in _ASKS else "")
    }
    return sorted(names - {""})


def certificates_of(snapshot: Snapshot, proxy: Sidecar) -> set[str]:
    """Of these credentials, those that a certificate and its key are asked of by servers."""
    return {name for one in _servers(snapshot, proxy) for name in one.credential_names}


def _servers(snapshot: Snapshot, proxy: Sidecar) -> Iterable[Server]:
    gateways = gateways_for(snapshot.gateways, proxy.workload) if proxy.gateway else ()
    return [server for gateway in gateways for server in gateway.servers if server.terminates]


def file_secrets(snapshot: Snapshot, proxy: Sidecar) -> dict[str, Config]:
    """The SDS documents of certificates that are files, by SDS name. Envoy reads the files, and watches them."""
    documents = {}
    for server in _servers(snapshot, proxy):
        for name, (certificate, key) in _file_certificates(server):
            pair = {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
            documents[name] = _document({"name": name, "tls_certificate": pair})
        if server.ca_file and server.tls_mode in _ASKS and not (server.ca_credential or server.credential_names):
            trusted: Config = {"trusted_ca": {"filename": server.ca_file}}
            if server.crl_file:
                trusted["crl"] = {"filename": server.crl_file}
            documents[_ca_name(server)] = _document({"name": _ca_name(server), "validation_context": trusted})
    return documents


def secret_files(name: str, credential: Credential) -> dict[str, Config]:
    """The SDS documents of a credential, by SDS name; only what is there."""
    files = {}
    if credential.complete:
        secret = {
            "name": certificate_secret(name),
            "tls_certificate": {
                "certificate_chain": {"inline_string": credential.certificate},
                "private_key": {"inline_string": credential.key},
            },
        }
        files[certificate_secret(name)] = _document(secret)
    if credential.ca:
        trusted: Config = {"trusted_ca": {"inline_string": credential.ca}}
        if credential.crl:
            trusted["crl"] = {"inline_string": credential.crl}
        files[ca_secret(name)] = _document({"name": ca_secret(name), "validation_context": trusted})
    return files


def _document(secret: Config) -> Config:
    return discovery_response(SECRET_TYPE, "", [secret])
