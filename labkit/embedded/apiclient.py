"""A small asynchronous client of the Kubernetes API for the cluster's own components.

Controllers, the node and the control plane use it, and nothing else, to talk to the API server, so each of them
could run against a real one. It knows URLs, watches and conflicts; it knows no kind by heart.

Why not the `kubernetes` package here: its models cost 50 MB in every process that imports them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

from labkit.errors import ClusterError, InputError

log = logging.getLogger(__name__)

COMPONENT_AGENT = "labkit-component"
"""How user agents of the cluster's own components begin: what they ask is not use by a person."""

Object = dict[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True)
class Resource:
    """One resource of the API: `Resource("apps/v1", "deployments")`."""

    api_version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of one object, or of a subresource."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        parts = [root]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


PODS = Resource("v1", "pods")
SERVICES = Resource("v1", "services")
ENDPOINTS = Resource("v1", "endpoints")
CONFIGMAPS = Resource("v1", "configmaps")
SECRETS = Resource("v1", "secrets")
SERVICEACCOUNTS = Resource("v1", "serviceaccounts")
EVENTS = Resource("v1", "events")
NAMESPACES = Resource("v1", "namespaces", namespaced=False)
NODES = Resource("v1", "nodes", namespaced=False)
DEPLOYMENTS = Resource("apps/v1", "deployments")
REPLICASETS = Resource("apps/v1", "replicasets")
ENDPOINTSLICES = Resource("discovery.k8s.io/v1", "endpointslices")
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)
PEERAUTHENTICATIONS = Resource("security.istio.io/v1", "peerauthentications")
REQUESTAUTHENTICATIONS = Resource("security.istio.io/v1", "requestauthentications")
AUTHORIZATIONPOLICIES = Resource("security.istio.io/v1", "authorizationpolicies")
DESTINATIONRULES = Resource("networking.istio.io/v1", "destinationrules")
VIRTUALSERVICES = Resource("networking.istio.io/v1", "virtualservices")
GATEWAYS = Resource("networking.istio.io/v1", "gateways")
SERVICEENTRIES = Resource("networking.istio.io/v1", "serviceentries")
WORKLOADENTRIES = Resource("networking.istio.io/v1", "workloadentries")
WORKLOADGROUPS = Resource("networking.istio.io/v1", "workloadgroups")
SIDECARS = Resource("networking.istio.io/v1", "sidecars")
ENVOYFILTERS = Resource("networking.istio.io/v1alpha3", "envoyfilters")
PROXYCONFIGS = Resource("networking.istio.io/v1beta1", "proxyconfigs")
TELEMETRIES = Resource("telemetry.istio.io/v1", "telemetries")
WASMPLUGINS = Resource("extensions.istio.io/v1alpha1", "wasmplugins")


class ApiError(ClusterError):
    """The API server answered with a Status that is not a success. `status` is the HTTP code."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message, status=status, reason=reason)
        self.status = status
        self.reason = reason


class ApiClient:
    """A connection pool to one API server, from a kubeconfig. Use as `async with ApiClient(path) as api:`."""

    def __init__(self, kubeconfig: Path, *, name: str = "client") -> None:
        try:
            config = yaml.safe_load(kubeconfig.read_text())
            context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
            cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
            user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
            self.server: str = cluster["server"].rstrip("/")
            ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
            token = user["token"]
        except (OSError, yaml.YAMLError, KeyError, StopIteration, TypeError) as error:
            raise InputError(
                f"{kubeconfig} is not a kubeconfig that the cluster's components can use.",
                next_step="Run 'labkit down' and 'labkit up'.",
            ) from error
        self._ssl = ssl.create_default_context(cadata=ca)
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": f"{COMPONENT_AGENT}/{name}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._ssl, limit=0, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            base_url=self.server,
            connector=connector,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        """One request, one JSON object back. Raises ApiError for a Status that is not a success."""
        assert self._session is not None, "use ApiClient as a context manager"
        data = None if body is None else json.dumps(body).encode()
        async with self._session.request(
            method, path, data=data, params=params, headers={"Content-Type": content_type} if data else None
        ) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400:
                answer = answer if isinstance(answer, dict) else {}
                raise ApiError(response.status, answer.get("reason", ""), answer.get("message", str(response.status)))
            return answer  # type: ignore[no-any-return]

    async def text(self, path: str, **params: str) -> str:
        """What a path answers that is no JSON, such as a log."""
        assert self._session is not None, "use ApiClient as a context manager"
        async with self._session.get(path, params=params) as response:
            answer = await response.text()
            if response.status >= 400:
                raise ApiError(response.status, "", answer[:300])
            return answer

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """One object. Raises ApiError 404."""
        return await self.request("GET", resource.path(namespace, name))

    async def list(self, resource: Resource, namespace: str | None = None, **params: str) -> Object:
        """The list object: `items` and `metadata.resourceVersion`. Params: labelSelector, fieldSelector."""
        return await self.request("GET", resource.path(namespace), params=params or None)

    async def create(self, resource: Resource, obj: Object, namespace: str | None = None) -> Object:
        """Create. Raises ApiError 409 when it exists, 422 when it is invalid."""
        return await self.request("POST", resource.path(namespace or namespace_of(obj)), body=obj)

    async def replace(
        self, resource: Resource, obj: Object, *, namespace: str | None = None, subresource: str | None = None
    ) -> Object:
        """Update; with metadata.resourceVersion set, raises ApiError 409 when somebody else was faster."""
        path = resource.path(namespace or namespace_of(obj), obj["metadata"]["name"], subresource)
        return await self.request("PUT", path, body=obj)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        content_type: str = "application/merge-patch+json",
    ) -> Object:
        """Patch, by default a JSON merge patch."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, body=patch, content_type=content_type)

    async def apply(
        self, resource: Resource, obj: Object, *, manager: str, namespace: str | None = None, force: bool = True
    ) -> Object:
        """Server-side apply under the field manager `manager`."""
        return await self.request(
            "PATCH",
            resource.path(namespace or namespace_of(obj), obj["metadata"]["name"]),
            body=obj,
            params={"fieldManager": manager, "force": str(force).lower()},
            content_type="application/apply-patch+yaml",
        )

    async def delete(
        self, resource: Resource, name: str, namespace: str | None = None, body: Object | None = None
    ) -> None:
        """Delete; an object that is already gone is a success."""
        try:
            await self.request("DELETE", resource.path(namespace, name), body=body)
        except ApiError as error:
            if error.status != 404:
                raise

    async def watch(
        self, resource: Resource, resource_version: str, namespace: str | None = None, **params: str
    ) -> AsyncIterator[tuple[str, Object]]:
        """Events `(type, object)` after `resource_version`; ends when the server closes. Raises ApiError 410."""
        assert self._session is not None, "use ApiClient as a context manager"
        query = {"watch": "1", "resourceVersion": resource_version, "allowWatchBookmarks": "true", **params}
        async with self._session.get(resource.path(namespace), params=query, read_bufsize=2**20) as response:
            if response.status >= 400:
                answer = await response.json(content_type=None)
                raise ApiError(response.status, answer.get("reason", ""), answer.get("message", ""))
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                yield event["type"], event["object"]


def namespace_of(obj: Object) -> str | None:
    """metadata.namespace, or None."""
    return obj.get("metadata", {}).get("namespace")  # type: ignore[no-any-return]


def key_of(obj: Object) -> str:
    """`namespace/name`, or `name` for a cluster-scoped object."""
    namespace, name = namespace_of(obj), obj["metadata"]["name"]
    return f"{namespace}/{name}" if namespace else str(name)


Handler = Callable[[str, Object], Awaitable[None] | None]
"""Called with (event type, object): ADDED, MODIFIED, DELETED."""


class Informer:
    """A local copy of one collection, kept up to date by list and watch, with handlers called on each change.

    `objects` maps `namespace/name` to the object. `synced` is set after the first list was handled.
    A lost connection is taken up again where it broke; after `410 Gone` the collection is listed anew and the
    differences are handed on as events. A resource that does not exist yet (a CRD to come) counts as empty.
    """

    def __init__(
        self, api: ApiClient, resource: Resource, *handlers: Handler, namespace: str | None = None, **params: str
    ) -> None:
        self.api = api
        self.resource = resource
        self.handlers = list(handlers)
        self.namespace = namespace
        self.params = params
        self.objects: dict[str, Object] = {}
        # What the handlers were told last. Not the version in `objects`: an owner may put the answer to a write of
        # its own there, and its handlers still want the event.
        self._told: dict[str, str] = {}
        self.synced = asyncio.Event()

    def on_change(self, handler: Handler) -> None:
        """Add a handler; it is called for objects that are already known, too, if the first list is still to come."""
        self.handlers.append(handler)

    async def run(self) -> None:
        """Follow the collection until cancelled."""
        pause = 0.05
        while True:
            try:
                version = await self._relist()
                self.synced.set()
                pause = 0.05
                while True:
                    version = await self._follow(version)
            except ApiError as error:
                if error.status == 404:  # the kind is not (or no longer) served
                    await self._replace({})
                    self.synced.set()
                    pause = 0.25
                elif error.status != 410:
                    log.warning("watch of %s: %s", self.resource.plural, error.what)
            except (TimeoutError, aiohttp.ClientError, ConnectionError, json.JSONDecodeError) as error:
                log.debug("watch of %s broke: %r", self.resource.plural, error)
            await asyncio.sleep(pause)  # back-off between attempts to reach the API server
            pause = min(pause * 2, 2.0)

    async def _relist(self) -> str:
        answer = await self.api.list(self.resource, self.namespace, **self.params)
        for item in answer["items"]:  # items of a list carry no kind of their own
            item.setdefault("apiVersion", answer.get("apiVersion"))
            item.setdefault("kind", answer.get("kind", "List").removesuffix("List"))
        await self._replace({key_of(item): item for item in answer["items"]})
        return str(answer["metadata"]["resourceVersion"])

    async def _replace(self, new: dict[str, Object]) -> None:
        old = dict(self.objects)
        for key, obj in old.items():
            if key not in new:
                await self._handle("DELETED", obj)
        for key, obj in new.items():
            if key not in old:
                await self._handle("ADDED", obj)
            elif self._told.get(key) != obj["metadata"]["resourceVersion"]:
                await self._handle("MODIFIED", obj)

    async def _follow(self, version: str) -> str:
        async for kind, obj in self.api.watch(self.resource, version, self.namespace, **self.params):
            version = obj["metadata"]["resourceVersion"]
            if kind != "BOOKMARK":
                await self._handle(kind, obj)
        return version

    async def _handle(self, kind: str, obj: Object) -> None:
        key = key_of(obj)
        if kind == "DELETED":
            self.objects.pop(key, None)
            self._told.pop(key, None)
        else:
            self.objects[key] = obj
            self._told[key] = obj["metadata"]["resourceVersion"]
        for handler in self.handlers:
            try:
                result = handler(kind, obj)
                if result is not None:
                    await result
            except Exception:  # one bad object must not stop the others
                log.exception("handling %s of %s %s failed", kind, self.resource.plural, key_of(obj))
