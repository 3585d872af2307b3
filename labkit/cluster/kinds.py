"""Kinds of the Kubernetes API, and asking a cluster which kinds it serves.

The `kubernetes` package's discovery reads every group at the start and keeps a file below /tmp, so it is slow and
does not see a CustomResourceDefinition that is installed later. Here one group and version is one small request,
made when it is first needed, and made again when a kind is not in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]
"""A Kubernetes object as JSON."""


@dataclass(frozen=True)
class Kind:
    """One kind that the API serves: `Kind("apps/v1", "Deployment", "deployments")`."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of one object, or of a subresource."""
        parts = [group_path(self.api_version)]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)

    @property
    def resource(self) -> str:
        """What kubectl calls it: `deployment`, `peerauthentication`."""
        return self.kind.lower()


def group_path(api_version: str) -> str:
    """`/api/v1` for the core group, `/apis/<group>/<version>` for all others."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODE = Kind("v1", "Node", "nodes", namespaced=False)
CONFIGMAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
SERVICEACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
EVENT = Kind("v1", "Event", "events")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
ENDPOINTSLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
MUTATING_WEBHOOK = Kind(
    "admissionregistration.k8s.io/v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    namespaced=False,
)
AUTHORIZATION_POLICY = Kind("security.istio.io/v1", "AuthorizationPolicy", "authorizationpolicies")
DESTINATION_RULE = Kind("networking.istio.io/v1", "DestinationRule", "destinationrules")
GATEWAY = Kind("networking.istio.io/v1", "Gateway", "gateways")
PEER_AUTHENTICATION = Kind("security.istio.io/v1", "PeerAuthentication", "peerauthentications")
SERVICE_ENTRY = Kind("networking.istio.io/v1", "ServiceEntry", "serviceentries")
VIRTUAL_SERVICE = Kind("networking.istio.io/v1", "VirtualService", "virtualservices")

# Kinds that every cluster serves need no question.
_BUILT_IN = {
    (kind.api_version, kind.kind): kind
    for kind in (
        POD,
        SERVICE,
        NAMESPACE,
        NODE,
        CONFIGMAP,
        SECRET,
        SERVICEACCOUNT,
        DEPLOYMENT,
        ENDPOINTSLICE,
        CRD,
        MUTATING_WEBHOOK,
    )
}


class Discovery:
    """Which kinds a cluster serves, asked group by group and remembered.

    `fetch` takes a path and returns JSON, or None when the path is not served.
    """

    def __init__(self, fetch: Callable[[str], Obj | None]) -> None:
        self._fetch = fetch
        self._known: dict[str, list[Obj]] = {}

    def find(self, api_version: str, kind: str) -> Kind | None:
        """The kind of a manifest, or None when the cluster does not serve it (any more, or yet)."""
        if built_in := _BUILT_IN.get((api_version, kind)):
            return built_in
        for ask_again in (False, True):
            for resource in self._resources(api_version, ask_again=ask_again):
                if resource["kind"] == kind:
                    return _kind_of(api_version, resource)
        return None

    def find_by_name(self, name: str) -> Kind | None:
        """The kind for a word as one types it after `kubectl get`: plural, singular, short name or kind."""
        wanted = name.lower()
        for kind in _BUILT_IN.values():
            if wanted in (kind.kind.lower(), kind.plural):
                return kind
        for api_version in self._versions():
            for resource in self._resources(api_version, ask_again=True):
                names = {resource["name"], resource["kind"].lower(), resource.get("singularName", "")}
                if wanted in names | set(resource.get("shortNames") or ()):
                    return _kind_of(api_version, resource)
        return None

    def forget(self, api_version: str) -> None:
        """Ask anew next time, because an answer showed that the memory is stale."""
        self._known.pop(api_version, None)

    def _versions(self) -> Iterator[str]:
        yield "v1"
        groups = (self._fetch("/apis") or {}).get("groups", [])
        preferred = [group["preferredVersion"]["groupVersion"] for group in groups]
        yield from preferred
        # Some kinds are not served in their group's preferred version: EnvoyFilter in v1alpha3 alone.
        every = (version["groupVersion"] for group in groups for version in group.get("versions", []))
        yield from (version for version in every if version not in preferred)

    def _resources(self, api_version: str, *, ask_again: bool) -> list[Obj]:
        if ask_again or api_version not in self._known:
            answer = self._fetch(group_path(api_version)) or {}
            resources = answer.get("resources", [])
            self._known[api_version] = [item for item in resources if "/" not in item["name"]]
        return self._known[api_version]


def _kind_of(api_version: str, resource: Obj) -> Kind:
    return Kind(api_version, resource["kind"], resource["name"], bool(resource["namespaced"]))
