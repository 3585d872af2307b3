"""Server-side apply: owners of fields, conflicts, what happens to fields that are no longer named.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.world import Api, configmap, deployment


@pytest.fixture
def path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/a"


def _manager(obj: Any, name: str) -> Any:
    return next(e for e in obj["metadata"]["managedFields"] if e["manager"] == name)


def test_apply_creates_and_then_changes(api: Api, path: str) -> None:
    assert api.apply(path, configmap("a", x="1"), "one").expect(201)["data"] == {"x": "1"}
    assert api.apply(path, configmap("a", x="2"), "one").expect(200)["data"] == {"x": "2"}


def test_apply_without_a_manager_is_refused(api: Api, path: str) -> None:
    assert api.patch(path, configmap("a"), "application/apply-patch+yaml").status in (400, 422)


def test_apply_takes_yaml(api: Api, path: str) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {when: 2024-01-01T00:00:00Z}\n"
    headers = {"Content-Type": "application/apply-patch+yaml"}
    made = api.request("PATCH", f"{path}?fieldManager=one", text, headers=headers).expect(201)
    assert made["data"] == {"when": "2024-01-01T00:00:00Z"}


def test_the_manager_owns_what_it_applied(api: Api, path: str) -> None:
    entry = _manager(api.apply(path, configmap("a", x="1"), "one").expect(201), "one")
    assert entry["operation"] == "Apply"
    assert entry["fieldsV1"] == {"f:data": {"f:x": {}}}


def test_applying_the_same_again_changes_nothing(api: Api, path: str) -> None:
    first = api.apply(path, configmap("a", x="1"), "one").expect(201)
    again = api.apply(path, configmap("a", x="1"), "one").expect(200)
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_two_managers_with_different_fields_do_not_meet(api: Api, path: str) -> None:
    api.apply(path, configmap("a", x="1"), "one").expect(201)
    assert api.apply(path, configmap("a", y="2"), "two").expect(200)["data"] == {"x": "1", "y": "2"}


def test_another_value_for_anothers_field_is_a_conflict(api: Api, path: str) -> None:
    api.apply(path, configmap("a", x="1"), "one").expect(201)
    refused = api.apply(path, configmap("a", x="2"), "two")
    status = refused.expect(409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.x'
    assert status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.x"}
    ]
    assert api.get(path).json["data"] == {"x": "1"}


def test_the_same_value_is_shared(api: Api, path: str) -> None:
    api.apply(path, configmap("a", x="1"), "one").expect(201)
    both = api.apply(path, configmap("a", x="1"), "two").expect(200)
    assert _manager(both, "one")["fieldsV1"] == _manager(both, "two")["fieldsV1"]


def test_force_takes_the_field_over(api: Api, path: str) -> None:
    api.apply(path, configmap("a", x="1"), "one").expect(201)
    taken = api.apply(path, configmap("a", x="2"), "two", force=True).expect(200)
    assert taken["data"] == {"x": "2"}
    assert [e["manager"] for e in taken["metadata"]["managedFields"]] == ["two"]


def test_a_field_no_longer_applied_is_removed(api: Api, path: str) -> None:
    api.apply(path, configmap("a", x="1", y="2"), "one").expect(201)
    assert api.apply(path, configmap("a", x="1"), "one").expect(200)["data"] == {"x": "1"}


def test_a_field_that_another_also_applied_stays(api: Api, path: str) -> None:
    api.apply(path, configmap("a", x="1", y="2"), "one").expect(201)
    api.apply(path, configmap("a", y="2"), "two").expect(200)
    assert api.apply(path, configmap("a", x="1"), "one").expect(200)["data"] == {"x": "1", "y": "2"}


def test_an_update_takes_ownership_and_makes_the_next_apply_conflict(api: Api, path: str) -> None:
    api.apply(path, configmap("a", x="1"), "one").expect(201)
    changed = api.patch(path, {"data": {"x": "2"}}, fieldManager="hand").expect(200)
    assert _manager(changed, "hand")["operation"] == "Update"
    refused = api.apply(path, configmap("a", x="1"), "one")
    refused.expect(409, "Conflict")
    assert 'conflict with "hand" using v1: .data.x' in refused.message


def test_list_items_are_owned_by_their_keys(api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    api.apply(path, deployment("web", 0), "one").expect(201)
    sidecar = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "helper", "image": "busybox"}]}}},
    }
    both = api.apply(path, sidecar, "two").expect(200)
    assert [c["name"] for c in both["spec"]["template"]["spec"]["containers"]] == ["main", "helper"]
    owned = _manager(both, "two")["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert owned == {'k:{"name":"helper"}': {".": {}, "f:image": {}, "f:name": {}}}
    sidecar["spec"]["template"]["spec"] = {}
    alone = api.apply(path, sidecar, "two").expect(200)
    assert [c["name"] for c in alone["spec"]["template"]["spec"]["containers"]] == ["main"]


def test_a_wrong_name_is_refused(api: Api, path: str) -> None:
    assert api.apply(path, configmap("b"), "one").status == 400


def test_managed_fields_are_not_for_the_client(api: Api, path: str) -> None:
    body = configmap("a")
    body["metadata"]["managedFields"] = [{"manager": "me", "operation": "Apply", "fieldsV1": {}}]
    assert api.apply(path, body, "one").status in (400, 422)
