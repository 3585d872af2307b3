"""Deleting: at once, gracefully, behind finalizers, with preconditions, in collections, with dependents."""

from __future__ import annotations

import pytest

from tests.contract.world import JSON_PATCH, Api, configmap, deployment, pod, wait_until


def test_deleting_answers_what_was_deleted(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    created = api.post(path, configmap("a")).expect(201)
    status = api.delete(f"{path}/a").expect(200)
    assert status["status"] == "Success"
    assert status["details"] == {"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]}
    api.get(f"{path}/a").expect(404)
    api.delete(f"{path}/a").expect(404, "NotFound")


def test_a_finalizer_holds_an_object_until_it_is_taken_off(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = configmap("a")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    api.post(path, body).expect(201)
    api.delete(f"{path}/a").expect(200)
    assert "deletionTimestamp" in api.get(f"{path}/a").expect(200)["metadata"]
    api.patch(f"{path}/a", [{"op": "remove", "path": "/metadata/finalizers"}], JSON_PATCH).expect(200)
    api.get(f"{path}/a").expect(404)


def test_finalizers_cannot_be_added_to_what_is_being_deleted(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = configmap("a")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    api.post(path, body).expect(201)
    api.delete(f"{path}/a").expect(200)
    late = api.patch(f"{path}/a", {"metadata": {"finalizers": ["example.com/hold", "example.com/late"]}})
    late.expect(422, "Invalid")
    assert "no new finalizers can be added if the object is being deleted" in late.message
    api.patch(f"{path}/a", {"metadata": {"finalizers": None}}).expect(200)


def test_preconditions_protect_what_is_meant(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    uid = api.post(path, configmap("a")).expect(201)["metadata"]["uid"]
    api.delete(f"{path}/a", {"preconditions": {"uid": "another"}}).expect(409, "Conflict")
    api.delete(f"{path}/a", {"preconditions": {"uid": uid, "resourceVersion": "1"}}).expect(409, "Conflict")
    api.delete(f"{path}/a", {"preconditions": {"uid": uid}}).expect(200)


def test_a_collection_is_deleted_by_selector(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        body = configmap(name)
        body["metadata"]["labels"] = {"set": label}
        api.post(path, body).expect(201)
    api.delete(path, labelSelector="set=x").expect(200)
    left = [item["metadata"]["name"] for item in api.get(path, labelSelector="set").json["items"]]
    assert left == ["c"]


def test_a_pod_without_a_node_is_deleted_at_once(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("p")
    body["spec"]["nodeSelector"] = {"nobody": "has-this"}
    body["spec"]["schedulerName"] = "nobody"
    api.post(path, body).expect(201)
    api.delete(f"{path}/p").expect(200)
    api.get(f"{path}/p").expect(404)


def test_a_running_pod_is_deleted_gracefully(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    body = pod("p", "sh", "-c", "trap 'sleep 1; exit 0' TERM; while true; do sleep 0.1; done")
    body["spec"]["terminationGracePeriodSeconds"] = 20
    api.post(path, body).expect(201)
    wait_until(lambda: api.get(f"{path}/p").json["status"].get("phase") == "Running", 60)
    answer = api.delete(f"{path}/p").expect(200)
    assert answer["metadata"]["deletionGracePeriodSeconds"] == 20
    assert "deletionTimestamp" in answer["metadata"]
    wait_until(lambda: api.get(f"{path}/p").status == 404, 30)


def test_grace_zero_removes_a_pod_now(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    api.post(path, pod("p")).expect(201)
    wait_until(lambda: api.get(f"{path}/p").json["status"].get("phase") == "Running", 60)
    api.delete(f"{path}/p", {"gracePeriodSeconds": 0}).expect(200)
    api.get(f"{path}/p").expect(404)


def test_dependents_go_with_their_owner(api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}"
    api.post(f"{path}/deployments", deployment("web", 0)).expect(201)
    wait_until(lambda: api.get(f"{path}/replicasets").json["items"])
    api.delete(f"{path}/deployments/web", {"propagationPolicy": "Background"}).expect(200)
    wait_until(lambda: not api.get(f"{path}/replicasets").json["items"])


def test_an_owner_deleted_in_the_foreground_waits_for_its_dependents(api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}"
    api.post(f"{path}/deployments", deployment("web", 0)).expect(201)
    (held,) = wait_until(lambda: api.get(f"{path}/replicasets").json["items"])
    hold = {"metadata": {"finalizers": ["example.com/hold"]}}
    held = f"{path}/replicasets/{held['metadata']['name']}"
    api.patch(held, hold).expect(200)
    api.delete(f"{path}/deployments/web", {"propagationPolicy": "Foreground"}).expect(200)
    waiting = api.get(f"{path}/deployments/web").expect(200)["metadata"]
    assert waiting["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in waiting
    wait_until(lambda: "deletionTimestamp" in api.get(held).json["metadata"])
    api.get(f"{path}/deployments/web").expect(200)
    api.patch(held, {"metadata": {"finalizers": None}})
    wait_until(lambda: api.get(f"{path}/deployments/web").status == 404)


def test_background_deletion_takes_back_the_foreground(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = api.post(path, configmap("owner")).expect(201)
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    body = configmap("dependent")
    body["metadata"] |= {
        "ownerReferences": [reference | {"blockOwnerDeletion": True}],
        "finalizers": ["example.com/hold"],
    }
    api.post(path, body).expect(201)
    api.delete(f"{path}/owner", {"propagationPolicy": "Foreground"}).expect(200)
    api.get(f"{path}/owner").expect(200)
    api.delete(f"{path}/owner", {"propagationPolicy": "Background"}).expect(200)
    api.get(f"{path}/owner").expect(404)
    api.patch(f"{path}/dependent", {"metadata": {"finalizers": None}}).expect(200)


def test_orphans_stay(api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}"
    api.post(f"{path}/deployments", deployment("web", 0)).expect(201)
    wait_until(lambda: api.get(f"{path}/replicasets").json["items"])
    api.delete(f"{path}/deployments/web", {"propagationPolicy": "Orphan"}).expect(200)
    wait_until(lambda: api.get(f"{path}/deployments/web").status == 404)
    (left,) = api.get(f"{path}/replicasets").json["items"]
    assert not left["metadata"].get("ownerReferences")


def test_a_deleted_namespace_takes_its_content_along(api: Api) -> None:
    api.post("/api/v1/namespaces", {"metadata": {"generateName": "contract-"}}).expect(201)
    name = api.post("/api/v1/namespaces", {"metadata": {"generateName": "contract-"}}).json["metadata"]["name"]
    path = f"/api/v1/namespaces/{name}"
    api.post(f"{path}/configmaps", configmap("a")).expect(201)
    answer = api.delete(path).expect(200)
    assert answer["status"]["phase"] == "Terminating"
    refused = api.post(f"{path}/configmaps", configmap("late"))
    assert refused.status in (403, 404)
    wait_until(lambda: api.get(path).status == 404)
    api.get(f"{path}/configmaps/a").expect(404)


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_a_namespace_that_the_cluster_needs_is_not_deleted(api: Api, name: str) -> None:
    refused = api.delete(f"/api/v1/namespaces/{name}")
    refused.expect(403, "Forbidden")
    assert "this namespace may not be deleted" in refused.message
    assert "deletionTimestamp" not in api.get(f"/api/v1/namespaces/{name}").expect(200)["metadata"]
