"""Create, read, replace, delete: what every client builds on."""

from __future__ import annotations

import re

import pytest

from tests.contract.world import Api, configmap, deployment, pod


def test_a_created_object_gets_what_the_server_owns(api: Api, namespace: str) -> None:
    created = api.post(f"/api/v1/namespaces/{namespace}/configmaps", configmap("a", x="y")).expect(201)
    metadata = created["metadata"]
    assert metadata["namespace"] == namespace
    assert re.fullmatch(r"[0-9a-f-]{36}", metadata["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert metadata["resourceVersion"].isdigit()
    assert api.get(f"/api/v1/namespaces/{namespace}/configmaps/a").expect(200) == created


def test_a_name_is_taken_only_once(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(path, configmap("a")).expect(201)
    again = api.post(path, configmap("a"))
    again.expect(409, "AlreadyExists")
    assert again.message == 'configmaps "a" already exists'


def test_generate_name_makes_a_new_name_each_time(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    names = {api.post(path, {"metadata": {"generateName": "many-"}}).expect(201)["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(re.fullmatch(r"many-[a-z0-9]{5}", name) for name in names)


def test_no_name_at_all_is_invalid(api: Api, namespace: str) -> None:
    refused = api.post(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {}})
    refused.expect(422, "Invalid")
    assert "name or generateName is required" in refused.message


def test_a_missing_object_is_not_found(api: Api, namespace: str) -> None:
    missing = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/nobody")
    status = missing.expect(404, "NotFound")
    assert status["message"] == 'deployments.apps "nobody" not found'
    assert status["details"] == {"name": "nobody", "group": "apps", "kind": "deployments"}


def test_a_missing_namespace_is_named(api: Api) -> None:
    refused = api.post("/api/v1/namespaces/nowhere-at-all/configmaps", configmap("a"))
    refused.expect(404, "NotFound")
    assert refused.message == 'namespaces "nowhere-at-all" not found'


def test_the_namespace_of_body_and_url_must_agree(api: Api, namespace: str) -> None:
    body = configmap("a")
    body["metadata"]["namespace"] = "default"
    api.post(f"/api/v1/namespaces/{namespace}/configmaps", body).expect(400, "BadRequest")


def test_the_kind_of_body_and_url_must_agree(api: Api, namespace: str) -> None:
    body = configmap("a") | {"kind": "Secret"}
    api.post(f"/api/v1/namespaces/{namespace}/configmaps", body).expect(400, "BadRequest")


def test_replacing_with_the_current_version_works_and_with_an_old_one_conflicts(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = api.post(path, configmap("a", x="1")).expect(201)
    second = api.put(f"{path}/a", first | {"data": {"x": "2"}}).expect(200)
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    late = api.put(f"{path}/a", first | {"data": {"x": "3"}})
    late.expect(409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in late.message
    assert api.get(f"{path}/a").json["data"] == {"x": "2"}


def test_replacing_without_a_version_overwrites(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(path, configmap("a", x="1")).expect(201)
    assert api.put(f"{path}/a", configmap("a", y="2")).expect(200)["data"] == {"y": "2"}


def test_a_write_that_changes_nothing_keeps_the_version(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = api.post(path, configmap("a", x="1")).expect(201)
    same = api.put(f"{path}/a", first).expect(200)
    assert same["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_what_the_server_owns_cannot_be_changed(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    first = api.post(path, configmap("a")).expect(201)
    api.patch(f"{path}/a", {"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z"}, "data": {"a": "b"}})
    now = api.get(f"{path}/a").expect(200)
    assert now["metadata"]["creationTimestamp"] == first["metadata"]["creationTimestamp"]
    assert now["data"] == {"a": "b"}
    api.patch(f"{path}/a", {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}}).expect(409, "Conflict")


def test_generation_counts_changes_of_the_spec_only(api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert api.post(path, deployment("web", 0)).expect(201)["metadata"]["generation"] == 1
    labelled = api.patch(f"{path}/web", {"metadata": {"labels": {"a": "b"}}}).expect(200)
    assert labelled["metadata"]["generation"] == 1
    scaled = api.patch(f"{path}/web", {"spec": {"paused": True}}).expect(200)
    assert scaled["metadata"]["generation"] == 2


def test_dry_run_answers_and_changes_nothing(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert api.post(path, configmap("a", x="y"), dryRun="All").expect(201)["data"] == {"x": "y"}
    api.get(f"{path}/a").expect(404)
    api.post(path, configmap("b", x="y")).expect(201)
    api.patch(f"{path}/b", {"data": {"x": "z"}}, dryRun="All").expect(200)
    api.delete(f"{path}/b", dryRun="All").expect(200)
    assert api.get(f"{path}/b").expect(200)["data"] == {"x": "y"}


def test_dry_run_takes_only_all(api: Api, namespace: str) -> None:
    assert api.post(f"/api/v1/namespaces/{namespace}/configmaps", configmap("a"), dryRun="Some").status in (400, 422)


# Defaults.


def test_a_pod_gets_the_defaults_people_rely_on(api: Api, namespace: str) -> None:
    spec = api.post(f"/api/v1/namespaces/{namespace}/pods", pod("p"), dryRun="All").expect(201)["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["serviceAccountName"] == "default"
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert spec["containers"][0]["terminationMessagePath"] == "/dev/termination-log"


def test_a_deployment_gets_the_defaults_people_rely_on(api: Api, namespace: str) -> None:
    body = deployment("web")
    del body["spec"]["replicas"]
    spec = api.post(f"/apis/apps/v1/namespaces/{namespace}/deployments", body, dryRun="All").expect(201)["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)


def test_replicas_zero_is_not_a_missing_value(api: Api, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    assert api.post(path, deployment("web", 0)).expect(201)["spec"]["replicas"] == 0


def test_secret_text_is_stored_as_base64(api: Api, namespace: str) -> None:
    body = {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
    secret = api.post(f"/api/v1/namespaces/{namespace}/secrets", body).expect(201)
    assert secret["data"] == {"password": "aHVudGVyMg=="}
    assert secret["type"] == "Opaque"
    assert "stringData" not in secret


# Services.


def _service(name: str, **spec: object) -> dict[str, object]:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"app": name}} | spec}


def test_services_get_addresses_of_their_own(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    one = api.post(path, _service("one")).expect(201)["spec"]
    two = api.post(path, _service("two")).expect(201)["spec"]
    assert one["clusterIP"] != two["clusterIP"]
    assert one["clusterIPs"] == [one["clusterIP"]]
    assert one["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]


def test_the_address_of_a_service_stays(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    service = api.post(path, _service("web")).expect(201)
    changed = api.patch(f"{path}/web", {"spec": {"ports": [{"port": 81}]}}).expect(200)
    assert changed["spec"]["clusterIP"] == service["spec"]["clusterIP"]
    api.patch(f"{path}/web", {"spec": {"clusterIP": "10.99.99.99", "clusterIPs": ["10.99.99.99"]}}).expect(
        422, "Invalid"
    )


def test_a_headless_service_has_no_address(api: Api, namespace: str) -> None:
    service = api.post(f"/api/v1/namespaces/{namespace}/services", _service("web", clusterIP="None")).expect(201)
    assert service["spec"]["clusterIP"] == "None"


def test_a_taken_address_is_refused(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    taken = api.post(path, _service("one")).expect(201)["spec"]["clusterIP"]
    refused = api.post(path, _service("two", clusterIP=taken))
    refused.expect(422, "Invalid")
    assert "provided IP is already allocated" in refused.message


def test_the_address_of_a_deleted_service_is_free_again(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    address = api.post(path, _service("one")).expect(201)["spec"]["clusterIP"]
    api.delete(f"{path}/one").expect(200)
    api.post(path, _service("two", clusterIP=address)).expect(201)


def test_a_node_port_service_gets_a_port_in_range(api: Api, namespace: str) -> None:
    spec = api.post(f"/api/v1/namespaces/{namespace}/services", _service("web", type="NodePort")).expect(201)["spec"]
    assert 30000 <= spec["ports"][0]["nodePort"] <= 32767


# Metadata.


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "dot.", "a" * 254, "a/b"])
def test_bad_names_are_refused(api: Api, namespace: str, name: str) -> None:
    refused = api.post(f"/api/v1/namespaces/{namespace}/configmaps", configmap(name))
    refused.expect(422, "Invalid")
    assert refused.json["details"]["causes"][0]["field"] == "metadata.name"


def test_bad_labels_are_refused(api: Api, namespace: str) -> None:
    body = configmap("a")
    body["metadata"]["labels"] = {"ok": "not ok"}
    refused = api.post(f"/api/v1/namespaces/{namespace}/configmaps", body)
    refused.expect(422, "Invalid")
    assert 'metadata.labels: Invalid value: "not ok": a valid label must be' in refused.message
