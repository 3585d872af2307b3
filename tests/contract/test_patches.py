"""The three patches that are no apply; each success with the failure beside it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.world import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Api, configmap, deployment


@pytest.fixture
def path(api: Api, namespace: str) -> str:
    """The URL of a ConfigMap with data x=1."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(path, configmap("a", x="1")).expect(201)
    return f"{path}/a"


@pytest.fixture
def web(api: Api, namespace: str) -> str:
    """The URL of a Deployment."""
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    body = deployment("web", 0)
    body["spec"]["template"]["spec"]["containers"].append({"name": "other", "image": "busybox"})
    api.post(path, body).expect(201)
    return f"{path}/web"


def test_json_patch_adds_replaces_removes(api: Api, path: str) -> None:
    patch = [
        {"op": "test", "path": "/data/x", "value": "1"},
        {"op": "add", "path": "/data/y", "value": "2"},
        {"op": "replace", "path": "/data/x", "value": "3"},
    ]
    assert api.patch(path, patch, JSON_PATCH).expect(200)["data"] == {"x": "3", "y": "2"}


def test_json_patch_with_a_failing_test_changes_nothing(api: Api, path: str) -> None:
    patch = [{"op": "replace", "path": "/data/x", "value": "3"}, {"op": "test", "path": "/data/x", "value": "1"}]
    api.patch(path, patch, JSON_PATCH).expect(422, "Invalid")
    assert api.get(path).json["data"] == {"x": "1"}


def test_json_patch_of_a_path_that_is_not_there_is_invalid(api: Api, path: str) -> None:
    api.patch(path, [{"op": "remove", "path": "/data/nothing"}], JSON_PATCH).expect(422, "Invalid")


@pytest.mark.parametrize("patch", [{}, [{}], [{"op": "explode", "path": "/data"}], [1], "text"])
def test_what_is_no_json_patch_is_refused(api: Api, path: str, patch: Any) -> None:
    answer = api.patch(path, patch, JSON_PATCH)
    assert answer.status in (400, 422), answer.raw


def test_merge_patch_merges_maps_and_removes_nulls(api: Api, path: str) -> None:
    assert api.patch(path, {"data": {"x": None, "y": "2"}}, MERGE_PATCH).expect(200)["data"] == {"y": "2"}


def test_merge_patch_replaces_lists(api: Api, web: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "only", "image": "busybox"}]}}}}
    containers = api.patch(web, patch, MERGE_PATCH).expect(200)["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in containers] == ["only"]


def test_strategic_patch_merges_containers_by_name(api: Api, web: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "other", "image": "busybox:2"}]}}}}
    containers = api.patch(web, patch, STRATEGIC_PATCH).expect(200)["spec"]["template"]["spec"]["containers"]
    assert {container["name"]: container["image"] for container in containers}["other"] == "busybox:2"
    assert len(containers) == 2


def test_strategic_patch_deletes_by_directive(api: Api, web: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "other", "$patch": "delete"}]}}}}
    containers = api.patch(web, patch, STRATEGIC_PATCH).expect(200)["spec"]["template"]["spec"]["containers"]
    assert [container["name"] for container in containers] == ["main"]


def test_strategic_patch_needs_the_merge_key(api: Api, web: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"image": "busybox:2"}]}}}}
    assert api.patch(web, patch, STRATEGIC_PATCH).status in (400, 422, 500)


def test_a_patch_with_a_version_conflicts_when_it_is_old(api: Api, path: str) -> None:
    old = api.get(path).json["metadata"]["resourceVersion"]
    api.patch(path, {"data": {"y": "2"}}).expect(200)
    api.patch(path, {"metadata": {"resourceVersion": old}, "data": {"y": "3"}}).expect(409, "Conflict")
    current = api.get(path).json["metadata"]["resourceVersion"]
    api.patch(path, {"metadata": {"resourceVersion": current}, "data": {"y": "3"}}).expect(200)


def test_a_patch_of_no_known_kind_is_unsupported(api: Api, path: str) -> None:
    api.patch(path, {"data": {}}, "application/json").expect(415, "UnsupportedMediaType")


def test_a_patch_of_a_missing_object_is_not_found(api: Api, namespace: str) -> None:
    api.patch(f"/api/v1/namespaces/{namespace}/configmaps/nobody", {"data": {}}).expect(404, "NotFound")


def test_a_patch_may_not_make_an_object_invalid(api: Api, web: str) -> None:
    refused = api.patch(web, {"spec": {"replicas": -1}})
    refused.expect(422, "Invalid")
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in refused.message


def test_a_patch_may_not_rename(api: Api, path: str) -> None:
    api.patch(path, {"metadata": {"name": "b"}}).expect(400, "BadRequest")
