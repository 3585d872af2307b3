"""EndpointSlices for Endpoints that somebody wrote by hand.

A Service without a selector leads where its Endpoints say: to a server outside the cluster, for example. The node
proxy and the mesh read slices only, so such Endpoints are mirrored, as Kubernetes does.
https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#mirroring
"""

from __future__ import annotations

import asyncio

from labkit.embedded.apiclient import ENDPOINTS, ENDPOINTSLICES, SERVICES, Object, key_of
from labkit.embedded.controllers.caches import Caches, Expectations, in_namespace
from labkit.embedded.controllers.endpoint_sets import MANAGED_BY, SERVICE_LABEL, same_content
from labkit.embedded.controllers.objects import controller_reference, labels_of
from labkit.embedded.controllers.queue import ReconcileQueue

CONTROLLER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"


def is_mirrored(service: Object | None, endpoints: Object) -> bool:
    """Are these Endpoints written by hand, for a Service that is there and has no selector?"""
    meta = endpoints["metadata"]
    if (meta.get("namespace"), meta["name"]) == ("default", "kubernetes"):
        return False  # the API server's own
    return bool(
        service
        and not service["spec"].get("selector")
        and service["spec"].get("type") != "ExternalName"
        and labels_of(endpoints).get(SKIP) != "true"
    )


def mirror_slices(endpoints: Object) -> list[Object]:
    """One slice for each subset."""
    meta = endpoints["metadata"]
    return [
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "generateName": f"{meta['name']}-",
                "namespace": meta["namespace"],
                "labels": {**labels_of(endpoints), SERVICE_LABEL: meta["name"], MANAGED_BY: CONTROLLER},
                "ownerReferences": [controller_reference(endpoints)],
            },
            "addressType": "IPv4",
            "endpoints": [
                *(_endpoint(address, ready=True) for address in subset.get("addresses") or []),
                *(_endpoint(address, ready=False) for address in subset.get("notReadyAddresses") or []),
            ],
            "ports": [{**port, "name": port.get("name", "")} for port in subset.get("ports") or []],
        }
        for subset in endpoints.get("subsets") or []
    ]


def _endpoint(address: Object, *, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "nodeName", "targetRef"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint


class MirrorController:
    """Follows Endpoints and Services."""

    def __init__(self, caches: Caches) -> None:
        self._api = caches.api
        self._caches = caches
        self._services = caches.informer(SERVICES)
        self._endpoints = caches.informer(ENDPOINTS)
        self._slices = caches.informer(ENDPOINTSLICES)
        self._expectations = Expectations(self._slices)
        self.queue = ReconcileQueue("mirror", self._reconcile)
        self._services.on_change(lambda _, obj: self.queue.add(key_of(obj)))
        self._endpoints.on_change(lambda _, obj: self.queue.add(key_of(obj)))

    async def _reconcile(self, key: str) -> None:
        endpoints = self._endpoints.objects.get(key)
        if endpoints is None:
            return  # its slices have it as their owner, and go with it
        uid, namespace = endpoints["metadata"]["uid"], endpoints["metadata"]["namespace"]
        mirrored = is_mirrored(self._services.objects.get(key), endpoints)
        wanted = mirror_slices(endpoints) if mirrored else []
        present = [
            s
            for s in [*in_namespace(self._slices, namespace), *self._expectations.unseen(uid)]
            if labels_of(s).get(MANAGED_BY) == CONTROLLER
            and labels_of(s).get(SERVICE_LABEL) == endpoints["metadata"]["name"]
            and not self._expectations.is_deleting(s)
        ]
        # Subsets have no names: what is equal stays, the rest is written anew.
        keep = []
        for each in present:
            equal = next((w for w in wanted if same_content(each, w, ["endpoints", "ports"])), None)
            if equal:
                wanted.remove(equal)
                keep.append(each)
        await asyncio.gather(
            *(self._create(uid, each) for each in wanted),
            *(self._delete(each) for each in present if each not in keep),
        )

    async def _create(self, owner: str, endpoint_slice: Object) -> None:
        self._expectations.created(owner, await self._api.create(ENDPOINTSLICES, endpoint_slice))

    async def _delete(self, endpoint_slice: Object) -> None:
        meta = endpoint_slice["metadata"]
        await self._api.delete(ENDPOINTSLICES, meta["name"], meta["namespace"])
        self._expectations.deleting(endpoint_slice)
