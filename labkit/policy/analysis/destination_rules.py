"""DestinationRules: hosts and subsets that nobody is in, TLS that verifies nobody.

pkg/config/analysis/analyzers/destinationrule of istio/istio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.policy.analysis.mesh import Mesh, full_name_of
from labkit.policy.analysis.messages import Message, found
from labkit.policy.configs import namespace_of
from labkit.policy.workload import labels_match

_ONE_WAY = ("SIMPLE", "MUTUAL")


# analyzers/destinationrule/ca-certificates.go; https://istio.io/latest/docs/reference/config/analysis/ist0128/
def unverified_servers(mesh: Mesh) -> Iterator[Message]:
    """IST0128, IST0129: TLS without a CA encrypts towards whoever answers.

    A credentialName counts for clients that a workloadSelector selects, because only they are given the Secret.
    """
    for one in mesh.every("DestinationRule"):
        spec = one.get("spec") or {}
        policy = spec.get("trafficPolicy") or {}
        names, host = (full_name_of(one), namespace_of(one)), spec.get("host") or ""
        selected = bool(spec.get("workloadSelector"))
        if mode := _unverified(policy.get("tls"), selected):
            yield found("IST0128", one, *names, mode, host, path="spec.trafficPolicy.tls")
        for index, port in enumerate(policy.get("portLevelSettings") or ()):
            if mode := _unverified(port.get("tls"), selected):
                number = f"number:{(port.get('port') or {}).get('number', 0)}"
                path = f"spec.trafficPolicy.portLevelSettings[{index}].tls"
                yield found("IST0129", one, *names, mode, host, number, path=path)


def _unverified(tls: Mapping[str, Any] | None, selected: bool) -> str:
    written = tls or {}
    mode = str(written.get("mode") or "")
    if mode not in _ONE_WAY or written.get("caCertificates") or (selected and written.get("credentialName")):
        return ""
    return mode


# analyzers/destinationrule/subset.go
def hosts_and_subsets(mesh: Mesh) -> Iterator[Message]:
    """IST0174: a host that nobody has. IST0173: a subset that no pod is in."""
    for one in mesh.every("DestinationRule"):
        spec = one.get("spec") or {}
        written = str(spec.get("host") or "")
        host = mesh.host(written, namespace_of(one), spec.get("exportTo") or ())
        if host is None:
            yield found("IST0174", one, written, path="spec.host")
            continue
        service = host.selector if (host.obj or {}).get("kind") == "ServiceEntry" else {}
        for index, subset in enumerate(spec.get("subsets") or ()):
            wanted = {**(service or {}), **_without_topology(subset.get("labels") or {})}
            if not any(labels_match(wanted, pod.labels) for pod in mesh.workloads):
                yield found("IST0173", one, subset.get("name") or "", path=f"spec.subsets[{index}].labels")


def _without_topology(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of nodes are given to endpoints by istiod; pods do not carry them."""
    return {
        key: value
        for key, value in labels.items()
        if not key.startswith("topology.") and key != "kubernetes.io/hostname"
    }
