"""Who the server is and whom it serves: the cluster's CA, the server's certificate, the token, the kubeconfig.

Whoever has the bearer token is the administrator; whoever has a client certificate of the cluster's CA is who the
certificate says. Both may do everything. All files are private (0600) and lie in the cluster's own directory (0700).
The CA signs for this cluster alone; the mesh has another one.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from labkit.embedded.apiserver.reviews import User
from labkit.embedded.paths import ClusterPaths
from labkit.pki import CertificateAuthority

LIFETIME = timedelta(days=365)  # a workshop's cluster lives for hours; renewed when less than half is left


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, all or nothing."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    aside.replace(path)


def ensure_certificates(paths: ClusterPaths, address: str) -> None:
    """Make `ca.crt`, `ca.key`, `apiserver.crt`, `apiserver.key` unless good ones are there."""
    wanted = [paths.pki_dir / name for name in ("ca.crt", "ca.key", "apiserver.crt", "apiserver.key")]
    if all(path.exists() for path in wanted) and _still_good(paths.pki_dir / "apiserver.crt", address):
        return
    authority = CertificateAuthority.self_signed(f"labkit-{paths.name}-ca", organization="labkit", ttl=LIFETIME)
    leaf = authority.issue(
        dns_names=[f"kubernetes{rest}" for rest in ("", ".default", ".default.svc", ".default.svc.cluster.local")],
        ip_addresses=[address],
        common_name="kube-apiserver",
        ttl=LIFETIME,
        client=False,
    )
    contents = (authority.cert_pem, authority.key_pem, leaf.chain_pem, leaf.key_pem)
    for path, content in zip(wanted, contents, strict=True):
        write_private(path, content)


def _still_good(certificate: Path, address: str) -> bool:
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    fresh = leaf.not_valid_after_utc - datetime.now(UTC) > LIFETIME / 2
    return fresh and ip_address(address) in names.get_values_for_type(x509.IPAddress)


def ensure_token(path: Path) -> str:
    """The secret in `path`, made when it is missing."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32).encode())
    return path.read_text().strip()


def server_tls(paths: ClusterPaths) -> ssl.SSLContext:
    """The server's side of TLS. Only HTTP/1.1 is spoken, and said so in ALPN."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(paths.pki_dir / "apiserver.crt", paths.pki_dir / "apiserver.key")
    # Clients may show a certificate. OpenSSL refuses, in the handshake, one that the cluster's CA did not issue for
    # clients or whose time is over; whoever shows none is asked for the token.
    context.load_verify_locations(paths.pki_dir / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def certificate_user(certificate: Any, moment: float) -> User | None:
    """Whom a verified certificate (as `SSLSocket.getpeercert` gives it) stands for at a time in Unix seconds.

    The common name is the user, each organization is a group
    (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
    """
    if not certificate:
        return None
    pairs = [pair for names in certificate.get("subject", ()) for pair in names]
    name = next((value for key, value in pairs if key == "commonName"), "")
    # A connection may outlive the certificate that opened it.
    if not name or ssl.cert_time_to_seconds(certificate["notAfter"]) < moment:
        return None
    return User(name, tuple(value for key, value in pairs if key == "organizationName"))


def _chosen_namespace(kubeconfig: Path, name: str) -> str:
    """What `kubectl config set-context --current --namespace` has written: it outlives a restart of the cluster."""
    try:
        contexts = yaml.safe_load(kubeconfig.read_text())["contexts"]
        return next(str(one["context"].get("namespace") or "") for one in contexts if one["name"] == name)
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, StopIteration):
        return ""


def write_kubeconfig(paths: ClusterPaths, address: str, port: int, token: str) -> None:
    """The file that kubectl and every other client are given. JSON, which is YAML too."""
    name = f"labkit-{paths.name}"
    context = {"cluster": name, "user": name}
    if namespace := _chosen_namespace(paths.kubeconfig, name):
        context["namespace"] = namespace
    ca = base64.b64encode((paths.pki_dir / "ca.crt").read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": f"https://{address}:{port}", "certificate-authority-data": ca}}
        ],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    write_private(paths.kubeconfig, json.dumps(config, indent=2).encode())
