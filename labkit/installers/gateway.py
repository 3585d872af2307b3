"""The ingress gateway of the embedded mesh: a pod of its own, with an account and a Service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster import Cluster
from labkit.cluster.cluster import Change
from labkit.cluster.kinds import DEPLOYMENT, SERVICE
from labkit.errors import InputError, MeshError
from labkit.installers.embedded import READY_LIMIT
from labkit.policy.peer_authentication import ROOT_NAMESPACE

NAME = "istio-ingressgateway"
LOW_PORT_SHIFT = 20000
"""How far the embedded cluster moves ports that need privileges; `labkit.embedded.addresses` says the same."""
_MANIFEST = Path(__file__).parent / "data" / "gateway.yaml"


def gateway_label(name: str = NAME) -> str:
    """The label `istio` of a gateway's pods, which Gateways select: its name without `istio-` at the beginning.

    So Helm's chart has it: manifests/charts/gateway/templates/_helpers.tpl.
    """
    return name.removeprefix("istio-")


def gateway_manifest(namespace: str = ROOT_NAMESPACE, name: str = NAME) -> list[dict[str, Any]]:
    """ServiceAccount, Deployment and Service."""
    text = _MANIFEST.read_text(encoding="utf-8").replace("$(NAMESPACE)", namespace).replace("$(NAME)", name)
    return list(yaml.safe_load_all(text.replace("$(LABEL)", gateway_label(name))))


def install_gateway(
    cluster: Cluster, *, namespace: str = ROOT_NAMESPACE, name: str = NAME, limit: float = READY_LIMIT
) -> list[Change]:
    """Install an ingress gateway, in a namespace that is there, and wait until it is ready.

    Raises WaitTimeoutError if it does not get ready.
    """
    changes = cluster.apply(gateway_manifest(namespace, name))
    cluster.wait_until(
        DEPLOYMENT,
        lambda found: "" if any(_is_ready(one, name) for one in found) else "no gateway pod is ready",
        what=f"the ingress gateway (deployment {name} in {namespace}) to be ready",
        namespace=namespace,
        labels={"istio": gateway_label(name)},
        limit=limit,
    )
    return changes


@dataclass(frozen=True)
class GatewayAddress:
    """Where the gateway is reached from this machine: an address, and per port of its Service the one to call."""

    host: str
    ports: dict[int, int]

    def url(self, scheme: str = "http", path: str = "/") -> str:
        """A URL of the gateway, for `http` (port 80) or `https` (443)."""
        number = {"http": 80, "https": 443}.get(scheme)
        if number not in self.ports:
            raise InputError(
                f"The gateway has no port for {scheme!r}.",
                next_step=f"Its ports: {', '.join(map(str, self.ports))}. Ask for 'http' or 'https'.",
                scheme=scheme,
            )
        called = self.ports[number]
        return f"{scheme}://{self.host}{'' if called == number else f':{called}'}/{path.lstrip('/')}"


def gateway_address(cluster: Cluster, *, namespace: str = ROOT_NAMESPACE, name: str = NAME) -> GatewayAddress:
    """The address of a gateway's Service, as its load balancer says. Raises MeshError while there is none.

    On the embedded cluster a port below 1024 is moved up by 20000, because no process here may bind it.
    """
    service = cluster.find(SERVICE, name, namespace)
    ingress = (((service or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    host = next((one.get("ip") or one.get("hostname") for one in ingress), "")
    if service is None or not host:
        raise MeshError(
            f"The Service {namespace}/{name} has no address."
            if service
            else f"There is no gateway {namespace}/{name}.",
            meaning="Requests from outside come in through the address of a gateway's load balancer.",
            next_step="Install one: lab.install_gateway(). On a cluster without load balancers, use "
            f"kubectl port-forward -n {namespace} service/{name} 8080:80.",
        )
    numbers = [port["port"] for port in service["spec"]["ports"]]
    shift = LOW_PORT_SHIFT if cluster.is_embedded else 0
    return GatewayAddress(host, {number: number + shift if number < 1024 else number for number in numbers})


def uninstall_gateway(cluster: Cluster, *, namespace: str = ROOT_NAMESPACE) -> list[Change]:
    """Remove it; Gateways stay."""
    return cluster.delete_documents(gateway_manifest(namespace))


def _is_ready(deployment: dict[str, Any], name: str) -> bool:
    return deployment["metadata"]["name"] == name and bool((deployment.get("status") or {}).get("availableReplicas"))
