"""CustomResourceDefinitions: endpoints that come and go, schemas that check, prune and fill in."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.world import APPLY_PATCH, STRATEGIC_PATCH, Api, Watcher, crd, wait_until

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

SCHEMA = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10},
        "mode": {"type": "string", "enum": ["ON", "OFF"], "default": "OFF"},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "ports": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"mode": {"type": "string", "enum": ["ON", "OFF"]}},
            },
        },
        "items": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["key"],
            "items": {
                "type": "object",
                "required": ["key"],
                "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
            },
        },
        "either": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


class Widgets:
    """A served kind `Widget`, and its URLs."""

    def __init__(self, api: Api, namespace: str, group: str) -> None:
        self.api, self.group = api, group
        self.path = f"/apis/{group}/v1/namespaces/{namespace}/widgets"
        self.definition = f"{CRDS}/widgets.{group}"

    def widget(self, name: str, /, **spec: Any) -> dict[str, Any]:
        return {"apiVersion": f"{self.group}/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}

    def create(self, name: str, /, **spec: Any) -> Any:
        return self.api.post(self.path, self.widget(name, **spec))

    def served(self) -> bool:
        return self.api.get(self.path).status == 200


def _install(api: Api, namespace: str, **options: Any) -> Iterator[Widgets]:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    api.post(CRDS, crd(group, **options)).expect(201)
    widgets = Widgets(api, namespace, group)
    wait_until(widgets.served)
    yield widgets
    api.delete(widgets.definition)


@pytest.fixture
def widgets(api: Api, namespace: str) -> Iterator[Widgets]:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Mode", "type": "string", "jsonPath": ".spec.mode"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    yield from _install(
        api,
        namespace,
        schema=SCHEMA,
        versions=("v1", "v1beta1"),
        additionalPrinterColumns=columns,
        subresources={"status": {}, "scale": scale},
    )


def test_an_unknown_kind_is_not_found(api: Api, namespace: str) -> None:
    assert api.get(f"/apis/nobody.example.com/v1/namespaces/{namespace}/widgets").status == 404


def test_a_definition_makes_endpoints_and_discovery(api: Api, widgets: Widgets) -> None:
    (resource, *_) = api.get(f"/apis/{widgets.group}/v1").expect(200)["resources"]
    assert (resource["name"], resource["kind"], resource["shortNames"]) == ("widgets", "Widget", ["wd"])
    conditions = {c["type"]: c["status"] for c in api.get(widgets.definition).json["status"]["conditions"]}
    assert conditions["Established"] == "True"


def test_deleting_the_definition_takes_objects_and_endpoints_along(api: Api, widgets: Widgets) -> None:
    widgets.create("a", size=1).expect(201)
    version = api.get(widgets.path).json["metadata"]["resourceVersion"]
    watcher = Watcher(api, widgets.path, resourceVersion=version)
    api.delete(widgets.definition).expect(200)
    wait_until(lambda: not widgets.served())
    assert [kind for kind, _ in watcher.wait_for(1)] == ["DELETED"]
    assert api.get(f"/apis/{widgets.group}/v1").status == 404


def test_all_served_versions_show_the_same_object(api: Api, widgets: Widgets) -> None:
    widgets.create("a", size=1).expect(201)
    other = api.get(f"{widgets.path.replace('/v1/', '/v1beta1/')}/a").expect(200)
    assert other["apiVersion"] == f"{widgets.group}/v1beta1"
    assert other["spec"]["size"] == 1


def test_a_watch_shows_the_version_it_asked_for(api: Api, widgets: Widgets) -> None:
    path = widgets.path.replace("/v1/", "/v1beta1/")
    watcher = Watcher(api, path, resourceVersion=api.get(path).json["metadata"]["resourceVersion"])
    widgets.create("a", size=1).expect(201)
    ((_, obj),) = watcher.wait_for(1)
    assert obj["apiVersion"] == f"{widgets.group}/v1beta1"


def test_defaults_are_filled_in_and_unknown_fields_dropped(widgets: Widgets) -> None:
    made = widgets.create("a", size=1, nonsense=True, free={"anything": 1}).expect(201)
    assert made["spec"] == {"size": 1, "mode": "OFF", "free": {"anything": 1}}
    assert made["metadata"]["generation"] == 1


def test_strict_validation_names_unknown_fields(api: Api, widgets: Widgets) -> None:
    refused = api.post(widgets.path, widgets.widget("a", size=1, nonsense=True), fieldValidation="Strict")
    refused.expect(400, "BadRequest")
    assert 'strict decoding error: unknown field "spec.nonsense"' in refused.message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec.size: Required value"),
        ({"size": "1"}, 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"'),
        ({"size": 0}, "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ({"size": 11}, "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10"),
        ({"size": 1, "mode": "X"}, 'spec.mode: Unsupported value: "X": supported values: "ON", "OFF"'),
        ({"size": 1, "name": "A"}, "spec.name in body should match '^[a-z]+$'"),
        ({"size": 1, "name": "abcdef"}, "spec.name: Too long: may not be more than 5"),
        ({"size": 1, "ports": {"80": {"mode": "X"}}}, 'spec.ports.80.mode: Unsupported value: "X"'),
        ({"size": 1, "items": [{"value": "x"}]}, "spec.items[0].key: Required value"),
        ({"size": 1, "items": [{"key": "x"}, {"key": "x"}]}, 'spec.items[1]: Duplicate value: {"key":"x"}'),
        ({"size": 1, "either": 1.5}, "spec.either in body must be of type integer,string"),
    ],
    ids=["required", "type", "minimum", "maximum", "enum", "pattern", "length", "map", "item", "duplicate", "either"],
)
def test_the_schema_refuses_in_kubernetes_words(widgets: Widgets, spec: Any, words: str) -> None:
    refused = widgets.create("a", **spec)
    refused.expect(422, "Invalid")
    assert words in refused.message, refused.message
    assert refused.message.startswith("Widget." + widgets.group) or refused.message.startswith("The Widget")


def test_status_is_written_through_its_subresource_alone(api: Api, widgets: Widgets) -> None:
    body = widgets.widget("a", size=1) | {"status": {"size": 5}}
    made = api.post(widgets.path, body).expect(201)
    assert "status" not in made
    made["status"] = {"size": 5}
    assert "status" not in api.put(f"{widgets.path}/a", made).expect(200)
    after = api.put(f"{widgets.path}/a/status", made | {"spec": {"size": 9}}).expect(200)
    assert (after["status"], after["spec"]["size"]) == ({"size": 5}, 1)
    assert after["metadata"]["generation"] == 1


def test_generation_counts_the_spec(api: Api, widgets: Widgets) -> None:
    widgets.create("a", size=1).expect(201)
    assert api.patch(f"{widgets.path}/a", {"spec": {"size": 2}}).expect(200)["metadata"]["generation"] == 2


def test_scale_reads_and_writes_the_paths_of_the_definition(api: Api, widgets: Widgets) -> None:
    widgets.create("a", size=1).expect(201)
    scale = api.get(f"{widgets.path}/a/scale").expect(200)
    assert scale["spec"]["replicas"] == 1
    scale["spec"]["replicas"] = 3
    assert api.put(f"{widgets.path}/a/scale", scale).expect(200)["spec"]["replicas"] == 3
    assert api.get(f"{widgets.path}/a").json["spec"]["size"] == 3
    api.patch(f"{widgets.path}/a/scale", {"spec": {"replicas": 99}}).expect(422, "Invalid")


def test_printer_columns_make_the_table(api: Api, widgets: Widgets) -> None:
    widgets.create("a", size=3, mode="ON").expect(201)
    (row,) = api.table(widgets.path)
    assert (row["Name"], row["Size"], row["Mode"]) == ("a", 3, "ON")
    assert row["Age"].endswith("s")


def test_a_strategic_patch_is_for_built_in_kinds(api: Api, widgets: Widgets) -> None:
    widgets.create("a", size=1).expect(201)
    api.patch(f"{widgets.path}/a", {"spec": {"size": 2}}, STRATEGIC_PATCH).expect(415, "UnsupportedMediaType")


def test_apply_merges_lists_by_the_keys_of_the_schema(api: Api, widgets: Widgets) -> None:
    def applied(manager: str, **spec: Any) -> Any:
        answer = api.patch(f"{widgets.path}/a", widgets.widget("a", **spec), APPLY_PATCH, fieldManager=manager)
        assert answer.status in (200, 201), answer.raw
        return answer.json["spec"].get("items")

    applied("one", size=1, items=[{"key": "a", "value": "1"}])
    assert applied("two", items=[{"key": "b", "value": "2"}]) == [
        {"key": "a", "value": "1"},
        {"key": "b", "value": "2"},
    ]
    assert applied("two", size=1) == [{"key": "a", "value": "1"}]


def test_openapi_describes_the_custom_kind(api: Api, widgets: Widgets) -> None:
    path = f"apis/{widgets.group}/v1"
    wait_until(lambda: path in api.get("/openapi/v3").json["paths"])
    document = api.get(api.get("/openapi/v3").json["paths"][path]["serverRelativeURL"]).expect(200)
    schema = next(s for name, s in document["components"]["schemas"].items() if name.endswith(".v1.Widget"))
    assert schema["properties"]["spec"]["properties"]["mode"]["enum"] == ["ON", "OFF"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metadata": {"name": "wrong.example.com"}}, 'must be spec.names.plural+"."+spec.group'),
        ({"scope": "Everywhere"}, 'spec.scope: Unsupported value: "Everywhere"'),
        ({"versions": []}, "spec.versions"),
    ],
    ids=["name", "scope", "versions"],
)
def test_definitions_that_make_no_sense_are_refused(api: Api, change: Any, words: str) -> None:
    body = crd(f"g{uuid.uuid4().hex[:8]}.example.com")
    body["metadata"] |= change.pop("metadata", {})
    body["spec"] |= change
    refused = api.post(CRDS, body)
    refused.expect(422, "Invalid")
    assert words in refused.message


def test_a_definition_needs_one_storage_version_and_a_schema(api: Api) -> None:
    body = crd(f"g{uuid.uuid4().hex[:8]}.example.com", versions=("v1", "v2"))
    body["spec"]["versions"][1]["storage"] = True
    assert "exactly one version" in api.post(CRDS, body).message
    body["spec"]["versions"] = [{"name": "v1", "served": True, "storage": True}]
    assert "schemas are required" in api.post(CRDS, body).message
