"""What a client asks before it asks for anything: groups, versions, kinds, OpenAPI, health."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.world import Api


def test_core_kinds_are_listed(api: Api) -> None:
    found = {r["name"]: r for r in api.get("/api/v1").expect(200)["resources"]}
    assert found["pods"]["shortNames"] == ["po"]
    assert "all" in found["pods"]["categories"]
    assert found["namespaces"]["namespaced"] is False
    assert {"pods/log", "pods/exec", "pods/status", "services/proxy"} <= set(found)


def test_groups_are_listed(api: Api) -> None:
    groups = {g["name"]: g["preferredVersion"]["groupVersion"] for g in api.get("/apis").expect(200)["groups"]}
    assert groups["apps"] == "apps/v1"
    assert api.get("/apis/apps").expect(200)["preferredVersion"]["version"] == "v1"
    names = {r["name"] for r in api.get("/apis/apps/v1").expect(200)["resources"]}
    assert {"deployments", "deployments/scale", "deployments/status", "replicasets"} <= names


@pytest.mark.parametrize("path", ["/apis/nothing.example.com", "/apis/apps/v9", "/api/v2", "/api/v1/unicorns"])
def test_what_is_not_served_is_not_found(api: Api, path: str) -> None:
    assert api.get(path).status == 404


def test_aggregated_discovery_tells_all_at_once(api: Api) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    found = api.request("GET", "/apis", headers={"Accept": accept}).expect(200)
    if found["kind"] == "APIGroupList":
        pytest.skip("this cluster is too old for aggregated discovery v2")
    apps = next(item for item in found["items"] if item["metadata"]["name"] == "apps")
    names = {r["resource"] for v in apps["versions"] for r in v["resources"]}
    assert "deployments" in names


def test_version_and_health(api: Api) -> None:
    assert api.get("/version").expect(200)["major"] == "1"
    for path in ("/healthz", "/livez", "/readyz"):
        assert api.get(path).raw == b"ok"


def _schema(api: Api, path: str, kind: str) -> Any:
    index = api.get("/openapi/v3").expect(200)["paths"]
    document = api.get(index[path]["serverRelativeURL"]).expect(200)
    schemas = document["components"]["schemas"]
    group, _, version = path.removeprefix("apis/").removeprefix("api/").rpartition("/")
    mark = {"group": group, "version": version, "kind": kind}
    return next(s for s in schemas.values() if mark in s.get("x-kubernetes-group-version-kind", [])), document


def test_openapi_describes_a_kind_and_how_its_lists_merge(api: Api) -> None:
    schema, document = _schema(api, "api/v1", "Pod")
    assert "spec" in schema["properties"]
    pod_spec = next(v for k, v in document["components"]["schemas"].items() if k.endswith(".PodSpec"))
    containers = pod_spec["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-patch-strategy"] == "merge"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]


def test_openapi_says_that_patches_validate_fields(api: Api) -> None:
    _, document = _schema(api, "apis/apps/v1", "Deployment")
    operation = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert "fieldValidation" in {parameter["name"] for parameter in operation["parameters"]}


def test_reviews_are_answered(api: Api) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    attributes = {"verb": "create", "resource": "pods", "namespace": "default"}
    assert api.post(path, {"spec": {"resourceAttributes": attributes}}).expect(201)["status"]["allowed"] is True
    api.get(path).expect(405, "MethodNotAllowed")
