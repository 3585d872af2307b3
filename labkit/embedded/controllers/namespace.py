"""Namespaces: what each one holds from the start, and how one ends.

A new namespace gets the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`, and gets them back when they
are deleted. A namespace that is being deleted keeps its finalizer `kubernetes` until everything in it is gone.
https://kubernetes.io/docs/tasks/administer-cluster/namespaces/#deleting-a-namespace
"""

from __future__ import annotations

import asyncio

from labkit.embedded.apiclient import (
    CONFIGMAPS,
    NAMESPACES,
    PODS,
    SERVICEACCOUNTS,
    ApiError,
    Object,
    Resource,
    namespace_of,
)
from labkit.embedded.controllers.caches import Caches
from labkit.embedded.controllers.discovery import Kind, discover
from labkit.embedded.controllers.objects import now, with_condition
from labkit.embedded.controllers.queue import ReconcileQueue

FINALIZER = "kubernetes"
ROOT_CA = "kube-root-ca.crt"

# Objects with finalizers and pods with a grace period take a while. Pods tell us when they are gone; for the rest
# we look again.
LOOK_AGAIN = 0.25


def root_ca_configmap(namespace: str, ca: str) -> Object:
    """The ConfigMap with which a pod verifies the API server."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": ROOT_CA,
            "namespace": namespace,
            "annotations": {
                "kubernetes.io/description": "Contains a CA bundle that can be used to verify the API server."
            },
        },
        "data": {"ca.crt": ca},
    }


def default_service_account(namespace: str) -> Object:
    """The identity of pods that name none."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}}


def is_ending(namespace: Object) -> bool:
    """Is the namespace being deleted?"""
    return "deletionTimestamp" in namespace["metadata"]


def remaining_condition(remaining: dict[str, int]) -> Object:
    """The condition that tells a waiting learner what is still there, as Kubernetes words it."""
    listed = ", ".join(f"{plural} has {count} resource instances" for plural, count in sorted(remaining.items()))
    return {
        "type": "NamespaceContentRemaining",
        "status": "True" if remaining else "False",
        "reason": "SomeResourcesRemain" if remaining else "ContentRemoved",
        "message": f"Some resources are remaining: {listed}" if remaining else "All content successfully removed",
    }


class NamespaceController:
    """Fills new namespaces and empties ending ones."""

    def __init__(self, caches: Caches, ca: str) -> None:
        self._api = caches.api
        self._caches = caches
        self._ca = ca
        self._namespaces = caches.informer(NAMESPACES)
        self._accounts = caches.informer(SERVICEACCOUNTS)
        self._configmaps = caches.informer(CONFIGMAPS)
        self._pods = caches.informer(PODS)
        self.queue = ReconcileQueue("namespace", self._reconcile)
        self._namespaces.on_change(self._namespace_changed)
        for informer in (self._accounts, self._configmaps):
            informer.on_change(self._content_changed)
        self._pods.on_change(self._pod_changed)

    def _namespace_changed(self, kind: str, namespace: Object) -> None:
        if kind != "DELETED":
            self.queue.add(namespace["metadata"]["name"])

    def _content_changed(self, _kind: str, obj: Object) -> None:
        if obj["metadata"]["name"] in ("default", ROOT_CA):
            self.queue.add(str(namespace_of(obj)))

    def _pod_changed(self, kind: str, pod: Object) -> None:
        namespace = self._namespaces.objects.get(str(namespace_of(pod)))
        if kind == "DELETED" and namespace and is_ending(namespace):
            self.queue.add(namespace["metadata"]["name"])

    async def _reconcile(self, name: str) -> float | None:
        namespace = self._namespaces.objects.get(name)
        if namespace is None:
            return None
        if is_ending(namespace):
            return await self._finalize(namespace)
        await asyncio.gather(self._ensure_account(name), self._ensure_root_ca(name))
        return None

    async def _ensure_account(self, name: str) -> None:
        if f"{name}/default" not in self._accounts.objects:
            await self._create(SERVICEACCOUNTS, default_service_account(name))

    async def _ensure_root_ca(self, name: str) -> None:
        present = self._configmaps.objects.get(f"{name}/{ROOT_CA}")
        wanted = root_ca_configmap(name, self._ca)
        if present is None:
            await self._create(CONFIGMAPS, wanted)
        elif present.get("data") != wanted["data"]:
            await self._api.replace(CONFIGMAPS, {**present, "data": wanted["data"]})

    async def _create(self, resource: Resource, obj: Object) -> None:
        try:
            await self._api.create(resource, obj)
        except ApiError as error:
            # 409: made a moment ago. 403 and 404: the namespace began to end meanwhile.
            if error.status not in (403, 404, 409):
                raise

    async def _finalize(self, namespace: Object) -> float | None:
        name = namespace["metadata"]["name"]
        finalizers = namespace.get("spec", {}).get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        remaining = await self._empty(name)
        if remaining:
            await self._tell_remaining(namespace, remaining)
            return LOOK_AGAIN
        spec = {**namespace.get("spec", {}), "finalizers": [f for f in finalizers if f != FINALIZER]}
        try:
            await self._api.replace(NAMESPACES, {**namespace, "spec": spec}, subresource="finalize")
        except ApiError as error:
            if error.status != 404:
                raise
        return None

    async def _empty(self, name: str) -> dict[str, int]:
        """Delete everything in the namespace; what is left afterwards, by plural name."""
        kinds = [kind for kind in await discover(self._api) if kind.resource.namespaced]
        kinds = [kind for kind in kinds if {"list", "delete"} <= kind.verbs]
        counts = {kind.resource.plural: await self._empty_kind(kind, name) for kind in kinds}
        return {plural: count for plural, count in counts.items() if count}

    async def _empty_kind(self, kind: Kind, namespace: str) -> int:
        try:
            items = (await self._api.list(kind.resource, namespace))["items"]
            if not items:
                return 0
            for item in items:
                if "deletionTimestamp" not in item["metadata"]:
                    await self._api.delete(kind.resource, item["metadata"]["name"], namespace, _BACKGROUND)
            return len((await self._api.list(kind.resource, namespace))["items"])
        except ApiError as error:
            if error.status in (404, 405):  # its CustomResourceDefinition went away, or it cannot be listed
                return 0
            raise

    async def _tell_remaining(self, namespace: Object, remaining: dict[str, int]) -> None:
        before = namespace.get("status", {})
        old = [c for c in before.get("conditions") or [] if c["type"] == "NamespaceContentRemaining"]
        condition = remaining_condition(remaining)
        if old and old[0]["message"] == condition["message"]:
            return
        conditions = with_condition([c for c in before.get("conditions") or [] if c not in old], condition, now())
        updated = await self._api.replace(
            NAMESPACES, {**namespace, "status": {**before, "conditions": conditions}}, subresource="status"
        )
        self._caches.remember(NAMESPACES, updated)


_BACKGROUND: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
