"""TLS of a gateway's servers: what is presented, what is asked of clients, where the certificates come from. Pure.

pilot/pkg/networking/core/gateway.go buildGatewayListenerTLSContext of istio/istio. Certificates come by SDS under the
name of the credential, so that a changed Secret is in force without a new listener. A Secret that is missing leaves the
port open and cuts every handshake.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from labkit.embedded.controlplane.translation import tls
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import SECRET_TYPE, TYPE, Config, discovery_response, rest_source
from labkit.policy.credentials import Credential
from labkit.policy.gateway import Server, gateways_for

TERMINATING = frozenset({"SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL"})
_ASKS = frozenset({"MUTUAL", "OPTIONAL_MUTUAL"})
_VERSIONS = {f"TLSV1_{minor}": f"TLSv1_{minor}" for minor in range(4)}


def terminates(server: Server) -> bool:
    """Whether the gateway opens the TLS of a server, and finds HTTP in it."""
    return server.protocol == "HTTPS" and server.tls_mode in TERMINATING


def certificate_secret(credential: str) -> str:
    """The SDS name of a credential's certificate; Kubernetes' names are safe in paths."""
    return f"credential-{credential}"


def ca_secret(credential: str) -> str:
    """The SDS name of what clients' certificates are verified with."""
    return f"credential-{credential}-cacert"


def server_context(snapshot: Snapshot, directory: Path, server: Server) -> Config:
    """The transport socket of a server that terminates."""
    alpn = ["h2", "http/1.1"]
    if server.tls_mode == "ISTIO_MUTUAL":
        # The mesh's own certificates; the trust domain is not looked at (subjectAltNames only).
        common = tls.common_context(directory, alpn)
    else:
        common = {
            "alpn_protocols": alpn,
            "tls_certificate_sds_secret_configs": [_sds(certificate_secret(server.credential_name))],
        }
        if server.tls_mode in _ASKS:
            names = [
                {"san_type": kind, "matcher": {"exact": name}}
                for name in server.subject_alt_names
                for kind in ("DNS", "URI")
            ]
            common["combined_validation_context"] = {
                "default_validation_context": {"match_typed_subject_alt_names": names} if names else {},
                "validation_context_sds_secret_config": _sds(ca_secret(server.credential_name)),
            }
    limits = {
        "tls_minimum_protocol_version": _VERSIONS.get(server.min_version),
        "tls_maximum_protocol_version": _VERSIONS.get(server.max_version),
    }
    if any(limits.values()):
        common["tls_params"] = {name: value for name, value in limits.items() if value}
    return {
        "name": tls.TLS_SOCKET,
        "typed_config": {
            "@type": f"{TYPE}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": server.tls_mode in ("MUTUAL", "ISTIO_MUTUAL"),
            "common_tls_context": common,
        },
    }


def _sds(name: str) -> Config:
    # Without a limit the whole listener would wait for a Secret that nobody has made.
    return {"name": name, "sds_config": {**rest_source(), "initial_fetch_timeout": "1s"}}


def credentials_of(snapshot: Snapshot, proxy: Sidecar) -> list[str]:
    """The credentials that a gateway pod needs, by name."""
    servers: Iterable[Server] = (
        server for gateway in gateways_for(snapshot.gateways, proxy.workload) for server in gateway.servers
    )
    return sorted({one.credential_name for one in servers if terminates(one) and one.credential_name})


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
        files[certificate_secret(name)] = discovery_response(SECRET_TYPE, "", [secret])
    if credential.ca:
        trusted = {"name": ca_secret(name), "validation_context": {"trusted_ca": {"inline_string": credential.ca}}}
        files[ca_secret(name)] = discovery_response(SECRET_TYPE, "", [trusted])
    return files
