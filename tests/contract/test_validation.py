"""What is refused, and in which words: unknown fields, wrong types, values that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.world import MERGE_PATCH, STRATEGIC_PATCH, Api, configmap, deployment, pod


@pytest.fixture
def deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


@pytest.fixture
def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def test_strict_validation_names_the_unknown_field(api: Api, deployments: str) -> None:
    body = deployment("web")
    body["spec"]["foo"] = 1
    refused = api.post(deployments, body, fieldValidation="Strict")
    refused.expect(400, "BadRequest")
    assert 'strict decoding error: unknown field "spec.foo"' in refused.message


def test_an_unknown_field_in_a_list_is_named_with_its_index(api: Api, deployments: str) -> None:
    body = deployment("web")
    body["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    refused = api.post(deployments, body, fieldValidation="Strict")
    assert 'unknown field "spec.template.spec.containers[0].imagee"' in refused.message


def test_without_strictness_the_field_is_dropped_with_a_warning(api: Api, deployments: str) -> None:
    body = deployment("web", 0)
    body["spec"]["foo"] = 1
    answer = api.post(deployments, body, fieldValidation="Warn")
    assert "foo" not in answer.expect(201)["spec"]
    assert 'unknown field \\"spec.foo\\"' in answer.headers["Warning"]


def test_ignored_means_silently_dropped(api: Api, deployments: str) -> None:
    body = deployment("web", 0)
    body["spec"]["foo"] = 1
    answer = api.post(deployments, body, fieldValidation="Ignore")
    assert "foo" not in answer.expect(201)["spec"]
    assert "Warning" not in answer.headers


def test_a_wrong_type_is_a_bad_request(api: Api, deployments: str) -> None:
    body = deployment("web")
    body["spec"]["replicas"] = "three"
    refused = api.post(deployments, body)
    refused.expect(400, "BadRequest")
    assert (
        'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string' in refused.message
    )


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 5000, b'{"a":1e999}', b"1" * 9000]
)
def test_what_is_no_object_is_a_bad_request(api: Api, namespace: str, body: bytes) -> None:
    assert api.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", body).status == 400


def test_selector_and_template_must_agree(api: Api, deployments: str) -> None:
    body = deployment("web")
    body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    refused = api.post(deployments, body)
    refused.expect(422, "Invalid")
    assert 'spec.template.metadata.labels: Invalid value: {"app":"other"}: `selector` does not match' in refused.message


def test_the_selector_of_a_deployment_is_immutable(api: Api, deployments: str) -> None:
    api.post(deployments, deployment("web", 0)).expect(201)
    new = {"matchLabels": {"app": "new"}}
    patch = {"spec": {"selector": new, "template": {"metadata": {"labels": {"app": "new"}}}}}
    refused = api.patch(f"{deployments}/web", patch)
    refused.expect(422, "Invalid")
    assert "field is immutable" in refused.message


def _pod_with(**container: Any) -> dict[str, Any]:
    body = pod("p")
    body["spec"]["containers"][0] |= container
    return body


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"image": ""}, "spec.containers[0].image: Required value"),
        ({"name": "Upper"}, 'spec.containers[0].name: Invalid value: "Upper": a lowercase RFC 1123 label'),
        ({"ports": [{"containerPort": 70000}]}, "spec.containers[0].ports[0].containerPort: Invalid value: 70000"),
        ({"ports": [{"containerPort": 80, "protocol": "HTTP"}]}, 'Unsupported value: "HTTP"'),
        ({"imagePullPolicy": "Sometimes"}, 'supported values: "Always", "IfNotPresent", "Never"'),
        ({"volumeMounts": [{"name": "gone", "mountPath": "/x"}]}, 'volumeMounts[0].name: Not found: "gone"'),
        ({"env": [{"value": "x"}]}, "spec.containers[0].env[0].name: Required value"),
        ({"readinessProbe": {"periodSeconds": 1}}, "readinessProbe: Required value: must specify a handler type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_containers_that_cannot_run_are_refused(api: Api, pods: str, container: Any, words: str) -> None:
    refused = api.post(pods, _pod_with(**container))
    refused.expect(422, "Invalid")
    assert words in refused.message


def test_a_pod_needs_containers(api: Api, pods: str) -> None:
    body = pod("p")
    body["spec"]["containers"] = []
    refused = api.post(pods, body)
    assert refused.message == 'Pod "p" is invalid: spec.containers: Required value'


def test_every_wrong_field_is_listed(api: Api, pods: str) -> None:
    refused = api.post(pods, _pod_with(image="", name="Upper"))
    assert len(refused.json["details"]["causes"]) == 2
    assert refused.message.startswith('Pod "p" is invalid: [')


def test_a_pods_command_cannot_be_changed_but_its_image_can(api: Api, pods: str) -> None:
    body = pod("p")
    body["spec"]["schedulerName"] = "nobody"
    created = api.post(pods, body).expect(201)
    created["spec"]["containers"][0]["image"] = "curlimages/curl:8.11.0"
    changed = api.put(f"{pods}/p", created).expect(200)
    changed["spec"]["containers"][0]["command"] = ["true"]
    refused = api.put(f"{pods}/p", changed)
    refused.expect(422, "Invalid")
    assert "pod updates may not change fields other than" in refused.message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec.ports: Required value"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "spec.ports[0].name: Required value"),
        ({"ports": [{"port": 80}], "type": "Magic"}, 'spec.type: Unsupported value: "Magic"'),
    ],
    ids=["no-ports", "port-zero", "two-without-names", "type"],
)
def test_services_that_make_no_sense_are_refused(api: Api, namespace: str, spec: Any, words: str) -> None:
    refused = api.post(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "s"}, "spec": spec})
    refused.expect(422, "Invalid")
    assert words in refused.message


def test_secret_data_must_be_base64(api: Api, namespace: str) -> None:
    refused = api.post(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "s"}, "data": {"a": "%%%"}})
    refused.expect(400, "BadRequest")
    assert "illegal base64 data at input byte 0" in refused.message


def test_config_keys_are_checked(api: Api, namespace: str) -> None:
    refused = api.post(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "c"}, "data": {"a/b": ""}})
    refused.expect(422, "Invalid")
    assert "a valid config key must consist of" in refused.message


def test_immutable_data_stays(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    api.post(path, configmap("a", x="1") | {"immutable": True}).expect(201)
    api.patch(f"{path}/a", {"data": {"x": "2"}}).expect(422, "Invalid")


def test_quantities_are_checked(api: Api, pods: str) -> None:
    api.post(pods, _pod_with(resources={"limits": {"cpu": "lots"}})).expect(400, "BadRequest")
    numeric = api.post(pods, _pod_with(resources={"limits": {"cpu": 1}}), dryRun="All").expect(201)
    assert numeric["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1"}


def test_a_body_over_the_limit_is_refused(api: Api, namespace: str) -> None:
    big = configmap("a", x="y" * (4 * 1024 * 1024))
    assert api.post(f"/api/v1/namespaces/{namespace}/configmaps", big).status == 413


def test_a_format_that_nobody_reads_is_unsupported(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    answer = api.request("POST", path, b"<xml/>", headers={"Content-Type": "application/xml"})
    answer.expect(415, "UnsupportedMediaType")


def test_yaml_is_read(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    text = b"metadata:\n  name: a\ndata:\n  x: 'yes'\n"
    made = api.request("POST", path, text, headers={"Content-Type": "application/yaml"}).expect(201)
    assert made["data"] == {"x": "yes"}


@pytest.mark.parametrize("key", ["..", ".", "..data", "a/b", "", "x" * 254])
@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
def test_keys_become_names_of_files(api: Api, namespace: str, plural: str, key: str) -> None:
    body = {"metadata": {"name": "keys"}, "data": {key: ""}}
    api.post(f"/api/v1/namespaces/{namespace}/{plural}", body).expect(422, "Invalid")
    body["data"] = {"x" * 253: "", ".hidden": "", "a..b": ""}
    api.post(f"/api/v1/namespaces/{namespace}/{plural}", body, dryRun="All").expect(201)


def test_a_secret_volume_names_its_secret(api: Api, namespace: str) -> None:
    body = pod("p")
    body["spec"]["volumes"] = [{"name": "v", "secret": {}}]
    answer = api.post(f"/api/v1/namespaces/{namespace}/pods", body)
    answer.expect(422, "Invalid")
    assert "spec.volumes[0].secret.secretName: Required value" in answer.message


def test_a_pod_needs_its_service_account(api: Api, namespace: str) -> None:
    body = pod("p")
    body["spec"]["serviceAccountName"] = "nobody"
    answer = api.post(f"/api/v1/namespaces/{namespace}/pods", body)
    answer.expect(403, "Forbidden")
    looked_up = f'error looking up service account {namespace}/nobody: serviceaccount "nobody" not found'
    assert answer.message == f'pods "p" is forbidden: {looked_up}'


def test_the_account_of_a_new_namespace_is_waited_for(api: Api) -> None:
    name = api.post("/api/v1/namespaces", {"metadata": {"generateName": "contract-"}}).expect(201)["metadata"]["name"]
    api.post(f"/api/v1/namespaces/{name}/pods", pod("p")).expect(201)
    api.delete(f"/api/v1/namespaces/{name}").expect(200)


def test_defaults_in_a_reference_to_a_field_are_no_change(api: Api, namespace: str) -> None:
    body = deployment("web", 0)
    container = body["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    first = api.apply(path, body, "me").expect(201)
    assert api.apply(path, body, "me").expect(200)["metadata"]["generation"] == first["metadata"]["generation"]
    for kind in (STRATEGIC_PATCH, MERGE_PATCH):
        again = api.patch(path, {"spec": body["spec"]}, kind).expect(200)
        assert again["metadata"]["generation"] == first["metadata"]["generation"], kind


def test_the_api_servers_service_has_an_endpoint_slice(api: Api) -> None:
    query = {"labelSelector": "kubernetes.io/service-name=kubernetes"}
    items = api.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", **query).expect(200)["items"]
    assert any(port["name"] == "https" for item in items for port in item["ports"])
