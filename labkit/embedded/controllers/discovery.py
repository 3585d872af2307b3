"""Which resources the API server has: what namespace finalization and garbage collection go through."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.embedded.apiclient import ApiClient, Object, Resource


@dataclass(frozen=True)
class Kind:
    """One kind with the resource to reach it by."""

    resource: Resource
    kind: str
    verbs: frozenset[str]


async def discover(api: ApiClient) -> list[Kind]:
    """Every kind in its group's preferred version, without subresources."""
    groups = (await api.request("GET", "/apis"))["groups"]
    versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
    # One after the other: side by side, each would open a TLS connection, which is dearer than the request.
    return [kind for version in versions for kind in kinds_in(version, await api.request("GET", _root(version)))]


def kinds_in(version: str, answer: Object) -> list[Kind]:
    """The kinds of one APIResourceList."""
    return [
        Kind(Resource(version, entry["name"], entry["namespaced"]), entry["kind"], frozenset(entry["verbs"]))
        for entry in answer["resources"]
        if "/" not in entry["name"]
    ]


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
