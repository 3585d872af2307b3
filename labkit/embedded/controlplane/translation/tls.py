"""TLS settings of the mesh: what a server side demands, what a client side offers and checks. Pure.

Both sides take their certificate (`default`) and the mesh's root (`ROOTCA`) over SDS, from istiod.

Server side, pilot/pkg/security/authn/utils/utils.go and security/model/authentication.go of istio/istio:
1. TLS 1.2 to 1.3; Istio's cipher list for 1.2.
2. A client certificate is required, in PERMISSIVE mode too.
3. Its URI SAN begins with `spiffe://<trust domain>/`, for the trust domain or one of its aliases. Namespace and
   service account are not looked at here; that is AuthorizationPolicy's work.
4. ALPN offered: `h2, http/1.1` before HTTP, `istio-peer-exchange, h2, http/1.1` before TCP; never `istio`.

Client side, pilot/pkg/networking/core/cluster_tls.go:
1. SNI `outbound_.<port>_.<subset>_.<host>`.
2. The server's URI SAN is one of the identities of the service's endpoints; if none is known, any of this mesh.
3. ALPN offered: `istio-peer-exchange, istio`; for HTTP an HTTP filter changes it, see `filters.http_alpn`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from labkit.embedded.controlplane.translation.model import MeshConfig
from labkit.embedded.envoy_messages import TYPE, Config, rest_source
from labkit.policy.destination_rule import ClientTLSMode, ClientTLSSettings
from labkit.policy.identity import trust_domain_san_prefixes
from labkit.policy.inbound import CIPHER_SUITES, MAX_TLS_VERSION, MESH_TCP_ALPN

TLS_SOCKET = "envoy.transport_sockets.tls"
_TLS_TYPES = f"{TYPE}envoy.extensions.transport_sockets.tls.v3"

WORKLOAD_SECRET = "default"  # noqa: S105 - Istio's name of the workload certificate's SDS secret
ROOT_SECRET = "ROOTCA"  # noqa: S105 - Istio's name of the trust anchor's SDS secret


# Where systems keep the certificates of public authorities; pkg/security/security.go GetOSRootFilePath of istio/istio.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
SYSTEM_AUTHORITIES = next((one for one in _BUNDLES if Path(one).exists()), "")
"""Of this machine, which all pods are on. Envoy's own `system_root_certs` is for gRPC: it verifies nothing by it."""
SYSTEM = "system"
"""What `caCertificates` says to mean them."""


def secret_file(directory: Path, name: str) -> Path:
    """Where the SDS secret `name` of a proxy is kept. One secret per document: Envoy rejects one with two."""
    return directory / "sds" / f"{name}.json"


def server_socket(mesh: MeshConfig, directory: Path, alpn: Iterable[str]) -> Config:
    """The transport socket of an inbound filter chain that terminates mTLS."""
    prefixes = trust_domain_san_prefixes(mesh.trust_domain, mesh.trust_domain_aliases)
    names = [_uri_name({"prefix": prefix}) for prefix in prefixes]
    context = _common(directory, alpn, names)
    context["tls_params"] = {
        "tls_minimum_protocol_version": mesh.minimum_tls,
        "tls_maximum_protocol_version": MAX_TLS_VERSION,
        "cipher_suites": list(mesh.cipher_suites or CIPHER_SUITES),
    }
    return {
        "name": TLS_SOCKET,
        "typed_config": {
            "@type": f"{_TLS_TYPES}.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": context,
        },
    }


def client_socket(mesh: MeshConfig, directory: Path, sni: str, identities: Iterable[str]) -> Config:
    """The transport socket `ISTIO_MUTUAL` towards a service whose endpoints have these SPIFFE IDs."""
    names = [_uri_name({"exact": identity}) for identity in identities]
    context = _common(directory, MESH_TCP_ALPN, names)
    context["tls_params"] = {
        "tls_minimum_protocol_version": mesh.minimum_tls,
        "tls_maximum_protocol_version": MAX_TLS_VERSION,
    }
    return {
        "name": TLS_SOCKET,
        "typed_config": {
            "@type": f"{_TLS_TYPES}.UpstreamTlsContext",
            "sni": sni,
            "common_tls_context": context,
        },
    }


def origination_socket(settings: ClientTLSSettings, *, sni: str, http2: bool) -> Config:
    """The transport socket SIMPLE or MUTUAL: TLS that has nothing to do with the mesh.

    Without `caCertificates` the system's authorities are trusted, so the certificate of a sidecar is not accepted
    (cluster_tls.go, VERIFY_CERTIFICATE_AT_CLIENT: on by default since Istio 1.21).
    Certificates are files on the machine, or with `credentialName` in a Secret of the proxy's namespace.
    """
    context: Config = {"alpn_protocols": ["h2"] if http2 else []}
    if settings.credential_name:
        _by_name(context, settings)
        return _upstream(context, sni)
    # No certificate is better than one without a file, for which Envoy would refuse the whole cluster.
    if settings.mode is ClientTLSMode.MUTUAL and settings.client_certificate:
        context["tls_certificates"] = [
            {
                "certificate_chain": {"filename": settings.client_certificate},
                "private_key": {"filename": settings.private_key},
            }
        ]
    if not settings.insecure_skip_verify:
        said = settings.ca_certificates
        trusted = SYSTEM_AUTHORITIES if said in ("", SYSTEM) else said
        validation: Config = {"trusted_ca": {"filename": trusted}} if trusted else {"system_root_certs": {}}
        if trusted and settings.ca_crl:
            validation["crl"] = {"filename": settings.ca_crl}
        context["validation_context"] = {**validation, **_expected_names(settings)}
    return _upstream(context, sni)


# pilot/pkg/security/model/authentication.go ApplyCustomSDSToClientCommonTLSContext
def _by_name(context: Config, settings: ClientTLSSettings) -> None:
    """Take certificates from a Secret: the client's own for MUTUAL, and the authority that the server is held to."""
    name = settings.credential_name
    if settings.mode is ClientTLSMode.MUTUAL:
        context["tls_certificate_sds_secret_configs"] = [credential_sds(certificate_secret(name))]
    if not settings.insecure_skip_verify:
        context["combined_validation_context"] = {
            "default_validation_context": _expected_names(settings),
            "validation_context_sds_secret_config": credential_sds(ca_secret(name)),
        }


def _expected_names(settings: ClientTLSSettings) -> Config:
    names = [
        {"san_type": kind, "matcher": {"exact": name}}
        for name in settings.subject_alt_names
        for kind in ("DNS", "URI", "IP_ADDRESS")
    ]
    return {"match_typed_subject_alt_names": names} if names else {}


def certificate_secret(credential: str) -> str:
    """The SDS name of a credential's certificate; Kubernetes' names are safe in paths."""
    return f"credential-{credential}"


def ca_secret(credential: str) -> str:
    """The SDS name of what peers' certificates are verified with."""
    return f"credential-{credential}-cacert"


def credential_sds(name: str) -> Config:
    """Where a credential comes from. Without a limit everything would wait for a Secret that nobody has made."""
    return {"name": name, "sds_config": {**rest_source(), "initial_fetch_timeout": "1s"}}


def _upstream(context: Config, sni: str) -> Config:
    result: Config = {"@type": f"{_TLS_TYPES}.UpstreamTlsContext", "common_tls_context": context}
    if sni:
        result["sni"] = sni
    return {"name": TLS_SOCKET, "typed_config": result}


def raw_socket() -> Config:
    """No TLS."""
    return {
        "name": "envoy.transport_sockets.raw_buffer",
        "typed_config": {"@type": f"{TYPE}envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
    }


def unverified_socket() -> Config:
    """TLS that trusts any certificate, as the kubelet does when a probe says `scheme: HTTPS`."""
    return {"name": TLS_SOCKET, "typed_config": {"@type": f"{_TLS_TYPES}.UpstreamTlsContext"}}


def workload_secret(chain_pem: str, key_pem: str) -> Config:
    """The SDS secret with a proxy's certificate chain and key."""
    return {
        "name": WORKLOAD_SECRET,
        "tls_certificate": {
            "certificate_chain": {"inline_string": chain_pem},
            "private_key": {"inline_string": key_pem},
        },
    }


def root_secret(root_pem: str) -> Config:
    """The SDS secret with the certificates that a proxy trusts."""
    return {"name": ROOT_SECRET, "validation_context": {"trusted_ca": {"inline_string": root_pem}}}


def common_context(directory: Path, alpn: Iterable[str]) -> Config:
    """The mesh's certificate and roots, whoever the peer is."""
    return _common(directory, alpn, [])


def _common(directory: Path, alpn: Iterable[str], names: list[Config]) -> Config:
    return {
        "alpn_protocols": list(alpn),
        "tls_certificate_sds_secret_configs": [_sds(directory, WORKLOAD_SECRET)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": _sds(directory, ROOT_SECRET),
        },
    }


def _sds(directory: Path, name: str) -> Config:
    return {"name": name, "sds_config": rest_source()}


def _uri_name(matcher: Config) -> Config:
    return {"san_type": "URI", "matcher": matcher}
