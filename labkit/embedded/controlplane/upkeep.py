"""Objects in the API that the control plane keeps right: the root certificate in every namespace, its webhooks' CA.

Both are needed by others before they can trust this istiod, so they are repaired whenever somebody changes them.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from labkit.embedded.apiclient import (
    CONFIGMAPS,
    NAMESPACES,
    SECRETS,
    ApiClient,
    ApiError,
    Informer,
    Resource,
    namespace_of,
)
from labkit.embedded.controlplane.authority import PLUGGED_IN_NAME, SECRET_NAME, MeshTrust, trust_from_secret
from labkit.embedded.controlplane.injection import ROOT_CONFIGMAP
from labkit.errors import InputError

log = logging.getLogger(__name__)

Object = dict[str, Any]

MUTATING = Resource("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", namespaced=False)
VALIDATING = Resource("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", namespaced=False)

# istio.io/config marks the ConfigMap in Istio, too (pkg/kube/inject, security/pkg/k8s/configutil).
_ROOT_LABELS = {"istio.io/config": "true", "app.kubernetes.io/managed-by": "labkit"}


class RootCertificates:
    """Keeps ConfigMap `istio-ca-root-cert` in every namespace; Istio's NamespaceController."""

    def __init__(self, api: ApiClient, root_pem: str) -> None:
        self._api = api
        self._data = {"root-cert.pem": root_pem}
        self.namespaces = Informer(api, NAMESPACES, self._on_namespace)
        self._copies = Informer(api, CONFIGMAPS, self._on_copy, labelSelector="istio.io/config=true")
        self.informers = (self.namespaces, self._copies)

    async def change(self, root_pem: str) -> None:
        """Other roots: write them everywhere."""
        self._data = {"root-cert.pem": root_pem}
        for namespace in list(self.namespaces.objects.values()):
            await self._on_namespace("MODIFIED", namespace)

    async def _on_namespace(self, event: str, namespace: Object) -> None:
        if event != "DELETED" and not namespace["metadata"].get("deletionTimestamp"):
            await self._ensure(namespace["metadata"]["name"])

    async def _on_copy(self, event: str, copy: Object) -> None:
        namespace = namespace_of(copy) or ""
        known = self.namespaces.objects.get(namespace)
        if copy["metadata"]["name"] != ROOT_CONFIGMAP or known is None or known["metadata"].get("deletionTimestamp"):
            return
        if event == "DELETED" or copy.get("data") != self._data:
            await self._ensure(namespace)

    async def _ensure(self, namespace: str) -> None:
        copy = self._copies.objects.get(f"{namespace}/{ROOT_CONFIGMAP}")
        if copy and copy.get("data") == self._data:
            return
        metadata = {"name": ROOT_CONFIGMAP, "namespace": namespace, "labels": _ROOT_LABELS}
        wanted = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": self._data}
        try:
            await _create_or_replace(self._api, CONFIGMAPS, wanted)
        except ApiError as error:
            # The namespace is on its way out, or somebody else was writing; the next event tells.
            log.info("the root certificate is not written to %s: %s", namespace, error.what)


async def _create_or_replace(api: ApiClient, resource: Resource, obj: Object) -> None:
    try:
        await api.create(resource, obj)
    except ApiError as error:
        if error.status != 409:
            raise
        await api.replace(resource, obj)


class TrustSecrets:
    """Watches the Secrets that hold the authority, and tells when another one stands there.

    `cacerts` comes first as long as it is there. Secrets that are deleted change nothing: what istiod knows stays in
    force until it is started anew, as in Istio.
    """

    def __init__(
        self, api: ApiClient, namespace: str, trust: MeshTrust, on_change: Callable[[MeshTrust], Awaitable[None]]
    ) -> None:
        self._trust = trust
        self._on_change = on_change
        self._plugged_in, self._own = (
            Informer(api, SECRETS, self._on_secret, namespace=namespace, fieldSelector=f"metadata.name={name}")
            for name in (PLUGGED_IN_NAME, SECRET_NAME)
        )
        self.informers = (self._plugged_in, self._own)

    async def _on_secret(self, event: str, secret: Object) -> None:
        if event == "DELETED" or (secret["metadata"]["name"] == SECRET_NAME and self._plugged_in.objects):
            return
        try:
            trust = trust_from_secret(secret)
        except InputError as error:
            log.warning("the secret %s changes nothing: %s %s", secret["metadata"]["name"], error.what, error.meaning)
            return
        if (trust.issuer.cert_pem, trust.roots) != (self._trust.issuer.cert_pem, self._trust.roots):
            self._trust = trust
            log.info("the secret %s holds another authority: %d roots", secret["metadata"]["name"], len(trust.roots))
            await self._on_change(trust)


class WebhookCertificates:
    """Writes the CA's certificate into the webhook configurations of this revision.

    Until then the API server cannot verify this istiod and refuses to create what the webhooks select.
    """

    def __init__(self, api: ApiClient, root_pem: bytes, revision: str) -> None:
        self._api = api
        self._bundle = base64.b64encode(root_pem).decode()
        selector = f"istio.io/rev={revision}"
        self.informers = tuple(
            Informer(api, resource, self._handler(resource), labelSelector=selector)
            for resource in (MUTATING, VALIDATING)
        )

    async def change(self, root_pem: bytes) -> None:
        """Other roots: write them into the configurations."""
        self._bundle = base64.b64encode(root_pem).decode()
        for resource, informer in zip((MUTATING, VALIDATING), self.informers, strict=True):
            for configuration in list(informer.objects.values()):
                await self._patch(resource, configuration)

    def _handler(self, resource: Resource) -> Callable[[str, Object], Awaitable[None]]:
        async def on_change(event: str, configuration: Object) -> None:
            if event != "DELETED":
                await self._patch(resource, configuration)

        return on_change

    async def _patch(self, resource: Resource, configuration: Object) -> None:
        wrong = [
            index
            for index, webhook in enumerate(configuration.get("webhooks") or ())
            if webhook["clientConfig"].get("caBundle") != self._bundle
        ]
        if not wrong:
            return
        patch = [
            {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": self._bundle} for index in wrong
        ]
        name = configuration["metadata"]["name"]
        await self._api.patch(resource, name, patch, content_type="application/json-patch+json")
        log.info("wrote the CA's certificate into %s %s", resource.plural, name)
