"""Which kinds exist: /api, /apis, the lists per group and version, and all of it at once (aggregated discovery).

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from __future__ import annotations

from typing import Any

from labkit.embedded.apiserver.resources import Catalogue, Kind

Object = dict[str, Any]

# The version of Kubernetes whose API this server follows: that of the models in the `kubernetes` package it reads.
VERSION: Object = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+labkit",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2025-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "cpython",
    "platform": "linux/amd64",
}

_STREAM_VERBS: dict[str, tuple[str, ...]] = {
    "exec": ("create", "get"),
    "attach": ("create", "get"),
    "portforward": ("create", "get"),
    "log": ("get",),
    "binding": ("create",),
    "eviction": ("create",),
    "token": ("create",),
    "finalize": ("update",),
    "proxy": ("create", "delete", "get", "patch", "update"),
    "status": ("get", "patch", "update"),
    "scale": ("get", "patch", "update"),
    "ephemeralcontainers": ("get", "patch", "update"),
}
# Subresources whose objects are of another kind: (group, version, kind)
_OTHER_KIND: dict[str, tuple[str, str, str]] = {
    "scale": ("autoscaling", "v1", "Scale"),
    "eviction": ("policy", "v1", "Eviction"),
    "binding": ("", "v1", "Binding"),
    "exec": ("", "v1", "PodExecOptions"),
    "attach": ("", "v1", "PodAttachOptions"),
    "portforward": ("", "v1", "PodPortForwardOptions"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
}
_PROXY_KINDS = {"pods": "PodProxyOptions", "services": "ServiceProxyOptions", "nodes": "NodeProxyOptions"}


def subresource_kind(kind: Kind, subresource: str) -> tuple[str, str, str]:
    """(group, version, kind) of the objects of a subresource."""
    if subresource == "proxy":
        return ("", "v1", _PROXY_KINDS[kind.plural])
    return _OTHER_KIND.get(subresource, (kind.group, kind.version, kind.kind))


def api_versions(server_address: str) -> Object:
    """/api"""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def api_group(catalogue: Catalogue, group: str) -> Object | None:
    """/apis/<group>"""
    versions = catalogue.groups().get(group)
    if not versions:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}


def api_groups(catalogue: Catalogue) -> Object:
    """/apis"""
    groups = [_group(group, versions) for group, versions in catalogue.groups().items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _group(group: str, versions: list[str]) -> Object:
    entries = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def api_resources(catalogue: Catalogue, group: str, version: str) -> Object | None:
    """/api/v1 or /apis/<group>/<version>"""
    kinds = [kind for kind in catalogue.of_group(group) if kind.version == version]
    if not kinds:
        return None
    resources: list[Object] = []
    for kind in sorted(kinds, key=lambda kind: kind.plural):
        entry: Object = {
            "name": kind.plural,
            "singularName": kind.singular_name,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        resources += [_subresource(kind, name) for name in kind.subresources]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _subresource(kind: Kind, name: str) -> Object:
    group, version, kind_name = subresource_kind(kind, name)
    entry: Object = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
    if (group, version) != (kind.group, kind.version):
        entry |= {"group": group, "version": version}
    return entry | {"kind": kind_name, "verbs": list(_STREAM_VERBS[name])}


def aggregated(catalogue: Catalogue, version: str, *, core: bool) -> Object:
    """/api or /apis for a client that accepts APIGroupDiscoveryList: everything in one answer."""
    groups = {"": ["v1"]} if core else catalogue.groups()
    items = []
    for group, versions in groups.items():
        entries = [
            {"version": v, "freshness": "Current", "resources": _aggregated_resources(catalogue, group, v)}
            for v in versions
        ]
        items.append({"metadata": {"name": group, "creationTimestamp": None}, "versions": entries})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_resources(catalogue: Catalogue, group: str, version: str) -> list[Object]:
    kinds = [kind for kind in catalogue.of_group(group) if kind.version == version]
    return [_aggregated_resource(kind) for kind in sorted(kinds, key=lambda kind: kind.plural)]


def _aggregated_resource(kind: Kind) -> Object:
    entry: Object = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular_name,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subresources:
        entry["subresources"] = []
        for name in kind.subresources:
            group, version, kind_name = subresource_kind(kind, name)
            response = {"group": group, "version": version, "kind": kind_name}
            entry["subresources"].append(
                {"subresource": name, "responseKind": response, "verbs": list(_STREAM_VERBS[name])}
            )
    return entry


def paths(catalogue: Catalogue) -> Object:
    """/"""
    found = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
    for group, versions in catalogue.groups().items():
        found += [f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)]
    return {"paths": sorted(found)}
