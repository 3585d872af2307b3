"""What every cluster holds from its first second: four namespaces with their account, and the Service `kubernetes`."""

from __future__ import annotations

from typing import Any

from labkit.embedded.addresses import node_ip
from labkit.embedded.apiserver.registry import Registry, WriteOptions

Object = dict[str, Any]

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


async def plant(registry: Registry, block: int, port: int) -> None:
    """Create what is missing."""
    for name in NAMESPACES:
        await _ensure(registry, "namespaces", "", {"metadata": {"name": name}})
        await _ensure(registry, "serviceaccounts", name, {"metadata": {"name": "default"}})
    labels = {"component": "apiserver", "provider": "kubernetes"}
    spec = {
        "clusterIP": node_ip(block),
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
    }
    service = {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec}
    await _ensure(registry, "services", "default", service)
    subsets = [{"addresses": [{"ip": node_ip(block)}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]
    endpoints: Object = {"metadata": {"name": "kubernetes"}, "subsets": subsets}
    await _ensure(registry, "endpoints", "default", endpoints)
    endpoint_slice = {
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [node_ip(block)], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
    await _ensure(registry, "endpointslices", "default", endpoint_slice, "discovery.k8s.io")


async def _ensure(registry: Registry, plural: str, namespace: str, obj: Object, group: str = "") -> None:
    kind = registry.catalogue.find(group, "v1", plural)
    assert kind is not None
    if not registry.storage.get(kind.resource, namespace, obj["metadata"]["name"]):
        await registry.create(kind, namespace, obj, WriteOptions(field_manager="kube-apiserver"))
