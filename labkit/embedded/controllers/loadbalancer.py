"""Gives Services of type LoadBalancer an address, as a cloud's controller does.

The address is the Service's ClusterIP: it is one of this machine's own, so whoever sits at the machine reaches it. On
the wire ports below 1024 are moved up by 20000 (see `labkit.embedded.addresses`).
https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

from labkit.embedded.apiclient import SERVICES, ApiError, Object, key_of
from labkit.embedded.controllers.caches import Caches
from labkit.embedded.controllers.queue import ReconcileQueue


def balancer_status(service: Object) -> Object:
    """What `status.loadBalancer` should be; empty for Services that want no address."""
    spec = service["spec"]
    address = spec.get("clusterIP")
    if spec.get("type") != "LoadBalancer" or spec.get("loadBalancerClass") or not address or address == "None":
        return {}
    return {"ingress": [{"ip": address, "ipMode": "VIP"}]}


class LoadBalancerController:
    """Follows Services."""

    def __init__(self, caches: Caches) -> None:
        self._api = caches.api
        self._services = caches.informer(SERVICES)
        self.queue = ReconcileQueue("loadbalancer", self._reconcile)
        self._services.on_change(lambda _, obj: self.queue.add(key_of(obj)))

    async def _reconcile(self, key: str) -> None:
        service = self._services.objects.get(key)
        if service is None or service["spec"].get("type") in ("ExternalName", None):
            return
        wanted = balancer_status(service)
        found = (service.get("status") or {}).get("loadBalancer") or {}
        # A class of its own means that somebody else gives the address.
        if found == wanted or service["spec"].get("loadBalancerClass"):
            return
        metadata = service["metadata"]
        patch = {"status": {"loadBalancer": wanted or None}}
        try:
            await self._api.patch(
                SERVICES, metadata["name"], patch, namespace=metadata["namespace"], subresource="status"
            )
        except ApiError as error:
            if error.status != 404:  # deleted meanwhile
                raise
