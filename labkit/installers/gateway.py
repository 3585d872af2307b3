"""The ingress gateway of the embedded mesh: a pod of its own, with an account and a Service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from labkit.cluster import Cluster
from labkit.cluster.cluster import Change
from labkit.cluster.kinds import DEPLOYMENT
from labkit.installers.embedded import READY_LIMIT
from labkit.policy.peer_authentication import ROOT_NAMESPACE

NAME = "istio-ingressgateway"
_MANIFEST = Path(__file__).parent / "data" / "gateway.yaml"


def gateway_manifest(namespace: str = ROOT_NAMESPACE) -> list[dict[str, Any]]:
    """ServiceAccount, Deployment and Service."""
    text = _MANIFEST.read_text(encoding="utf-8").replace("$(NAMESPACE)", namespace)
    return list(yaml.safe_load_all(text))


def install_gateway(cluster: Cluster, *, namespace: str = ROOT_NAMESPACE, limit: float = READY_LIMIT) -> list[Change]:
    """Install the ingress gateway beside istiod and wait until it is ready. Raises WaitTimeoutError if it is not."""
    changes = cluster.apply(gateway_manifest(namespace))
    cluster.wait_until(
        DEPLOYMENT,
        lambda found: "" if any(_is_ready(one) for one in found) else "no gateway pod is ready",
        what=f"the ingress gateway (deployment {NAME} in {namespace}) to be ready",
        namespace=namespace,
        labels={"istio": "ingressgateway"},
        limit=limit,
    )
    return changes


def uninstall_gateway(cluster: Cluster, *, namespace: str = ROOT_NAMESPACE) -> list[Change]:
    """Remove it; Gateways stay."""
    return cluster.delete_documents(gateway_manifest(namespace))


def _is_ready(deployment: dict[str, Any]) -> bool:
    return deployment["metadata"]["name"] == NAME and bool((deployment.get("status") or {}).get("availableReplicas"))
