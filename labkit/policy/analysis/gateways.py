"""Gateways: pods and Services behind them, conflicts between them, certificates.

pkg/config/analysis/analyzers/gateway of istio/istio.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.policy.analysis.mesh import Mesh, Object, full_name_of, hosts_meet, name_of, selector_text
from labkit.policy.analysis.messages import Message, found, go_list
from labkit.policy.configs import namespace_of
from labkit.policy.credentials import CA_SUFFIX, PAIRS
from labkit.policy.workload import labels_match


def _servers(gateway: Object) -> list[Mapping[str, Any]]:
    return list((gateway.get("spec") or {}).get("servers") or ())


def _selector(gateway: Object) -> dict[str, str]:
    return dict((gateway.get("spec") or {}).get("selector") or {})


def _port(server: Mapping[str, Any]) -> int:
    return int((server.get("port") or {}).get("number") or 0)


# analyzers/gateway/gateway.go; https://istio.io/latest/docs/reference/config/analysis/ist0101/ and ist0162
def workloads(mesh: Mesh) -> Iterator[Message]:
    """IST0101: no pod has the labels. IST0162: no Service of the pods leads to the port."""
    for one in mesh.every("Gateway"):
        selector = _selector(one)
        pods = list(mesh.selected(selector))
        if not pods:
            yield found("IST0101", one, "selector", selector_text(selector), path="spec.selector")
            continue
        offered = {number for pod in pods for service in mesh.selecting(pod) for number in _numbers(service)}
        for index, server in enumerate(_servers(one)):
            number = _port(server)
            if number and number not in offered:
                path = f"spec.servers[{index}].port.number"
                yield found("IST0162", one, number, selector_text(selector), path=path)


def _numbers(service: Object) -> Iterator[int]:
    """The ports of a Service, and where they lead: Istio serves a server's port at either."""
    for port in (service.get("spec") or {}).get("ports") or ():
        if str(port.get("protocol") or "TCP") == "TCP":
            yield int(port.get("port") or 0)
            if str(port.get("targetPort") or "").isdigit():
                yield int(port["targetPort"])


# analyzers/gateway/conflictinggateway.go
def conflicts(mesh: Mesh) -> Iterator[Message]:
    """IST0145: two Gateways for the same pods open one port for one host."""
    for one in mesh.every("Gateway"):
        selector = selector_text(_selector(one))
        for index, server in enumerate(_servers(one)):
            hosts, number = [str(host) for host in server.get("hosts") or ()], _port(server)
            others = [
                full_name_of(other)
                for other in mesh.every("Gateway")
                if other is not one and selector_text(_selector(other)) == selector
                if any(_same(hosts, theirs) for theirs in _servers(other) if _port(theirs) == number)
            ]
            if others and number:
                path = f"spec.servers[{index}]"
                yield found("IST0145", one, ",".join(others), selector, number, ",".join(hosts), path=path)


def _same(hosts: list[str], server: Mapping[str, Any]) -> bool:
    return any(hosts_meet(host, str(other)) for host in hosts for other in server.get("hosts") or ())


# analyzers/gateway/certificate.go
def shared_certificates(mesh: Mesh) -> Iterator[Message]:
    """IST0138: with one certificate on two Gateways a browser reuses a connection, and meets a 404."""
    for one in mesh.every("Gateway"):
        for other in mesh.every("Gateway"):
            if other is one or not labels_match(_selector(one), _selector(other)):
                continue
            for server in _servers(one):
                for theirs in _servers(other):
                    if _one_certificate(server.get("tls") or {}, theirs.get("tls") or {}):
                        names = go_list([full_name_of(one), full_name_of(other)])
                        yield found("IST0138", one, names, path="metadata.name")


def _one_certificate(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.get("credentialName") and other.get("credentialName"):
        return bool(one["credentialName"] == other["credentialName"])
    if one.get("credentialName") or other.get("credentialName"):
        return False
    return all(one.get(name) and one.get(name) == other.get(name) for name in ("serverCertificate", "privateKey"))


# analyzers/gateway/secret.go
def credentials(mesh: Mesh) -> Iterator[Message]:
    """IST0101: the Secret is not in the namespace of the gateway's pods. IST0161: it holds no certificate and key."""
    if not mesh.secrets_known:
        return
    for one in mesh.every("Gateway"):
        pod = next(mesh.selected(_selector(one)), None)
        if pod is None:
            continue  # said already: no pod has the labels
        for index, server in enumerate(_servers(one)):
            name = str((server.get("tls") or {}).get("credentialName") or "")
            if not name:
                continue
            secret = mesh.find("Secret", pod.namespace, name)
            if secret is None:
                path = f"spec.servers[{index}].tls.credentialName"
                yield found("IST0101", one, "credentialName", name, path=path)
            elif not _holds_certificate(secret):
                path = f"spec.servers[{index}].tls.credentialName"
                yield found("IST0161", one, name_of(one), namespace_of(one), path=path)


def _holds_certificate(secret: Object) -> bool:
    if name_of(secret).endswith(CA_SUFFIX):
        return True
    text = {str(key): str(value).encode() for key, value in (secret.get("stringData") or {}).items()}
    for key, value in (secret.get("data") or {}).items():
        try:
            text[str(key)] = base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError):
            return False
    certificate, key = next(((text[a], text[b]) for a, b in PAIRS if text.get(a) and text.get(b)), (b"", b""))
    return b"BEGIN CERTIFICATE" in certificate and b"PRIVATE KEY" in key
