"""Asking a sidecar itself, with `pilot-agent request` in its container: the same words on every cluster."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from labkit.cluster import Cluster, Obj
from labkit.errors import MeshError
from labkit.observe.objects import PROXY, find_workload, is_injected, name_of, namespace_of
from labkit.pki import CertificateFacts, describe_chain


def ask_proxy(cluster: Cluster, workload: str, path: str, *, method: str = "GET") -> str:
    """The answer of the admin interface of the workload's proxy. Raises MeshError when it has no sidecar."""
    reference = find_workload(cluster, workload)
    return ask_pod(cluster, reference.ready_pod(), path, method=method, known_as=str(reference))


def ask_pod(cluster: Cluster, pod: Obj, path: str, *, method: str = "GET", known_as: str = "") -> str:
    """The same for one pod, ready or not."""
    namespace = namespace_of(pod)
    known_as = known_as or f"{namespace}/{name_of(pod)}"
    if not is_injected(pod):
        raise MeshError(
            f"{known_as} has no sidecar.",
            meaning="It is outside the mesh: no proxy, no certificate.",
            next_step=f"Label its namespace and restart it: lab.label_namespace({namespace!r}, ...).",
            workload=known_as,
        )
    command = ["pilot-agent", "request", method, path]
    result = cluster.execute(name_of(pod), namespace, command, container=PROXY)
    if not result.ok:
        raise MeshError(
            f"The proxy of {known_as} did not answer {path!r}: {result.stderr.strip() or result.stdout.strip()}",
            next_step=f"Look at its log: lab.logs({known_as!r}, container='istio-proxy').",
            workload=known_as,
            exit_code=result.exit_code,
        )
    return result.stdout


def config_dump(cluster: Cluster, workload: str) -> dict[str, Any]:
    """The proxy's whole configuration as it runs, endpoints included."""
    dump: dict[str, Any] = json.loads(ask_proxy(cluster, workload, "config_dump?include_eds"))
    return dump


def stats(cluster: Cluster, workload: str, pattern: str) -> dict[str, int]:
    """The proxy's counters and gauges whose names match the regular expression `pattern`."""
    answer = json.loads(ask_proxy(cluster, workload, f"stats?format=json&filter={pattern}"))
    return {item["name"]: item["value"] for item in answer["stats"] if isinstance(item.get("value"), int)}


def server_facts(cluster: Cluster, pod: Obj) -> tuple[str, str, int]:
    """Envoy's version, its state, and how many worker threads it was started with."""
    info = json.loads(ask_pod(cluster, pod, "server_info"))
    version = str(info["version"]).split("/")
    return version[1] if len(version) > 1 else version[0], info["state"], info["command_line_options"]["concurrency"]


def certificate(cluster: Cluster, workload: str) -> CertificateFacts:
    """The workload certificate that the proxy presents, read out of the proxy (secret `default`)."""
    chain = certificate_chain(config_dump(cluster, workload))
    if chain:
        return chain[0]
    found = certificate_from_certs(json.loads(ask_proxy(cluster, workload, "certs")))
    if found is None:
        raise MeshError(
            f"The proxy of {workload} has no workload certificate yet.",
            meaning="It asks the control plane for one when it starts.",
            next_step=f"Look at lab.mesh_status() and lab.logs({workload!r}, container='istio-proxy').",
            workload=workload,
        )
    return found


def certificate_chain(dump: dict[str, Any]) -> tuple[CertificateFacts, ...]:
    """The certificates of the secret `default` in a config dump, leaf first; none when the dump holds no bytes."""
    for secret in _secrets(dump):
        chain = secret.get("secret", {}).get("tls_certificate", {}).get("certificate_chain", {})
        if secret.get("name") == "default" and (data := _bytes_of(chain)):
            return describe_chain(data)
    return ()


def certificate_from_certs(answer: dict[str, Any]) -> CertificateFacts | None:
    """The facts of Envoy's `/certs` for the first certificate with a SPIFFE ID: fewer than the certificate holds.

    https://www.envoyproxy.io/docs/envoy/latest/api-v3/admin/v3/certs.proto
    """
    for pair in answer.get("certificates", []):
        for item in pair.get("cert_chain", []):
            names = [name["uri"] for name in item.get("subject_alt_names", []) if "uri" in name]
            if names:
                return CertificateFacts(
                    subject="",
                    issuer="",
                    not_before=read_time(item["valid_from"]),
                    not_after=read_time(item["expiration_time"]),
                    serial=item.get("serial_number", ""),
                    fingerprint="",
                    uri_names=tuple(names),
                )
    return None


def _secrets(dump: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in dump.get("configs", []):
        if part.get("@type", "").endswith("SecretsConfigDump"):
            yield from part.get("dynamic_active_secrets", [])
            yield from part.get("static_secrets", [])


def _bytes_of(source: dict[str, Any]) -> bytes:
    if "inline_bytes" in source:
        return base64.b64decode(source["inline_bytes"])
    return str(source.get("inline_string", "")).encode()


def read_time(text: str) -> datetime:
    """A time as Envoy and Kubernetes write it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
