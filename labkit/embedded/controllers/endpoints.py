"""Endpoints and EndpointSlices: kept equal to what `endpoint_sets` says about each Service."""

from __future__ import annotations

import asyncio

from labkit.embedded.apiclient import ENDPOINTS, ENDPOINTSLICES, PODS, SERVICES, ApiError, Object, key_of
from labkit.embedded.controllers.caches import Caches, Expectations, in_namespace
from labkit.embedded.controllers.endpoint_sets import (
    CONTROLLER,
    MANAGED_BY,
    SERVICE_LABEL,
    Ports,
    make_endpoints,
    make_slices,
    same_content,
    slice_ports,
)
from labkit.embedded.controllers.objects import labels_of
from labkit.embedded.controllers.queue import ReconcileQueue


class EndpointsController:
    """Follows Services and pods. A Service without a selector is left to whoever made it."""

    def __init__(self, caches: Caches) -> None:
        self._api = caches.api
        self._caches = caches
        self._services = caches.informer(SERVICES)
        self._pods = caches.informer(PODS)
        self._endpoints = caches.informer(ENDPOINTS)
        self._slices = caches.informer(ENDPOINTSLICES)
        self._expectations = Expectations(self._slices)
        # The labels that a pod had when it was last seen: a relabelled pod leaves its former Services.
        self._former: dict[str, dict[str, str]] = {}
        self.queue = ReconcileQueue("endpoints", self._reconcile)
        self._services.on_change(lambda _, obj: self.queue.add(key_of(obj)))
        self._endpoints.on_change(lambda _, obj: self.queue.add(key_of(obj)))
        self._slices.on_change(self._slice_changed)
        self._pods.on_change(self._pod_changed)

    def _slice_changed(self, _kind: str, endpoint_slice: Object) -> None:
        labels = labels_of(endpoint_slice)
        if labels.get(MANAGED_BY) == CONTROLLER:
            self.queue.add(f"{endpoint_slice['metadata']['namespace']}/{labels.get(SERVICE_LABEL)}")

    def _pod_changed(self, kind: str, pod: Object) -> None:
        meta = pod["metadata"]
        labels = dict(labels_of(pod))
        former = self._former.pop(meta["uid"], labels)
        if kind != "DELETED":
            self._former[meta["uid"]] = labels
        if not pod.get("status", {}).get("podIP"):
            return
        for service in in_namespace(self._services, meta["namespace"]):
            selector = (service["spec"].get("selector") or {}).items()
            if selector and (selector <= labels.items() or selector <= former.items()):
                self.queue.add(key_of(service))

    async def _reconcile(self, key: str) -> None:
        service = self._services.objects.get(key)
        namespace, name = key.split("/")
        if service is None:
            await self._service_gone(namespace, name)
            return
        if not service["spec"].get("selector") or service["spec"].get("type") == "ExternalName":
            return
        pods = in_namespace(self._pods, namespace)
        # The slices first: they are what the node proxy and the mesh read.
        await self._write_slices(service, make_slices(service, pods))
        await self._write_endpoints(key, make_endpoints(service, pods))

    async def _service_gone(self, namespace: str, name: str) -> None:
        # The slices have an owner and go with it. Endpoints have none; we delete them when they were made by us,
        # which the slices tell: who writes Endpoints by hand has none of ours.
        endpoints = self._endpoints.objects.get(f"{namespace}/{name}")
        if endpoints and _made_here(endpoints):
            await self._api.delete(ENDPOINTS, name, namespace)

    async def _write_slices(self, service: Object, wanted: dict[Ports, Object]) -> None:
        meta = service["metadata"]
        unseen = self._expectations.unseen(meta["uid"])
        existing = [
            s
            for s in [*in_namespace(self._slices, meta["namespace"]), *unseen]
            if labels_of(s).get(SERVICE_LABEL) == meta["name"]
            and labels_of(s).get(MANAGED_BY) == CONTROLLER
            and not self._expectations.is_deleting(s)
        ]
        writes = []
        spare = []
        for endpoint_slice in existing:
            target = wanted.pop(slice_ports(endpoint_slice), None)
            if target is None:
                spare.append(endpoint_slice)
            elif not same_content(endpoint_slice, target, ["endpoints", "ports"]):
                writes.append(self._replace(endpoint_slice, target))
        for target in wanted.values():
            if spare:  # its ports changed: the same slice with other ports
                writes.append(self._replace(spare.pop(), target))
            else:
                writes.append(self._create(meta["uid"], target))
        writes += [self._delete(endpoint_slice) for endpoint_slice in spare]
        await asyncio.gather(*writes)

    async def _create(self, owner: str, target: Object) -> None:
        self._expectations.created(owner, await self._api.create(ENDPOINTSLICES, target))

    async def _replace(self, present: Object, target: Object) -> None:
        meta = {**present["metadata"], "labels": target["metadata"]["labels"]}
        updated = await self._api.replace(ENDPOINTSLICES, {**present, **target, "metadata": meta})
        self._caches.remember(ENDPOINTSLICES, updated)

    async def _delete(self, endpoint_slice: Object) -> None:
        meta = endpoint_slice["metadata"]
        await self._api.delete(ENDPOINTSLICES, meta["name"], meta["namespace"])
        self._expectations.deleting(endpoint_slice)

    async def _write_endpoints(self, key: str, wanted: Object) -> None:
        wanted["metadata"]["labels"][MANAGED_ENDPOINTS] = ENDPOINTS_CONTROLLER
        present = self._endpoints.objects.get(key)
        if present is None:
            try:
                await self._api.create(ENDPOINTS, wanted)
            except ApiError as error:
                if error.status != 409:  # made by us a moment ago; its event brings us back here
                    raise
        elif not same_content(present, wanted, ["subsets"]):
            meta = {**present["metadata"], "labels": wanted["metadata"]["labels"]}
            updated = await self._api.replace(ENDPOINTS, {**wanted, "metadata": meta})
            self._caches.remember(ENDPOINTS, updated)


# Kubernetes 1.33 and later mark the Endpoints that the controller writes with this label.
MANAGED_ENDPOINTS = "endpoints.kubernetes.io/managed-by"
ENDPOINTS_CONTROLLER = "endpoint-controller"


def _made_here(endpoints: Object) -> bool:
    return labels_of(endpoints).get(MANAGED_ENDPOINTS) == ENDPOINTS_CONTROLLER
