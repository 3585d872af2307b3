from __future__ import annotations

import base64
from typing import Any

import pytest

from labkit.embedded.node.environment import (
    ContainerConfigError,
    PodFacts,
    Reference,
    Sources,
    expand,
    field_value,
    quantity,
    references,
    resolve,
    resource_value,
)

POD = {
    "metadata": {
        "name": "chat-1",
        "namespace": "demo",
        "uid": "u-1",
        "labels": {"app": "chat"},
        "annotations": {"note": 'say "hi"'},
    },
    "spec": {"serviceAccountName": "robot"},
}
FACTS = PodFacts(POD, pod_ip="127.64.3.1", host_ip="127.64.0.1", node_name="labkit-node")


def env(*variables: dict[str, Any], sources: Sources | None = None, **container: Any) -> dict[str, str]:
    return resolve({"env": list(variables), **container}, FACTS, sources or Sources(), {"BASE": "b"})


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        pytest.param("$(A)", "1", id="a-name-is-replaced"),
        pytest.param("x$(A)y$(A)", "x1y1", id="everywhere"),
        pytest.param("$(NONE)", "$(NONE)", id="an-unknown-name-stays"),
        pytest.param("$$(A)", "$(A)", id="two-dollars-escape"),
        pytest.param("$$$(A)", "$1", id="an-escape-and-then-a-name"),
        pytest.param("$A ${A}", "$A ${A}", id="a-shells-variables-are-not-ours"),
        pytest.param("$(A", "$(A", id="an-open-parenthesis-stays"),
    ],
)
def test_expansion(text: str, expanded: str):
    assert expand(text, {"A": "1"}) == expanded


def test_a_later_variable_sees_an_earlier_one_and_not_the_reverse():
    found = env({"name": "A", "value": "$(B)"}, {"name": "B", "value": "$(BASE)2"}, {"name": "C", "value": "$(B)3"})
    assert (found["A"], found["B"], found["C"]) == ("$(B)", "b2", "b23")


def test_env_wins_over_env_from_and_env_from_over_the_base():
    sources = Sources(configmaps={"c": {"data": {"BASE": "1", "X": "1"}}})
    found = env({"name": "X", "value": "2"}, sources=sources, envFrom=[{"configMapRef": {"name": "c"}}])
    assert (found["BASE"], found["X"]) == ("1", "2")


def test_env_from_takes_a_prefix_and_skips_keys_that_cannot_be_names():
    sources = Sources(configmaps={"c": {"data": {"A": "1", "b=c": "2"}}})
    found = env(sources=sources, envFrom=[{"prefix": "P_", "configMapRef": {"name": "c"}}])
    assert found == {"BASE": "b", "P_A": "1"}


def test_a_secret_is_decoded():
    sources = Sources(secrets={"s": {"data": {"KEY": base64.b64encode(b"hidden").decode()}}})
    found = env({"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "KEY"}}}, sources=sources)
    assert found["K"] == "hidden"


def test_a_secret_that_is_not_base64_is_refused():
    sources = Sources(secrets={"s": {"data": {"KEY": "!"}}})
    with pytest.raises(ContainerConfigError, match="not base64"):
        env(sources=sources, envFrom=[{"secretRef": {"name": "s"}}])


@pytest.mark.parametrize(
    ("container", "message"),
    [
        pytest.param({"envFrom": [{"configMapRef": {"name": "c"}}]}, 'configmap "c" not found', id="whole-configmap"),
        pytest.param({"envFrom": [{"secretRef": {"name": "s"}}]}, 'secret "s" not found', id="whole-secret"),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "have", "key": "no"}}}]},
            "couldn't find key no in ConfigMap have",
            id="key",
        ),
        pytest.param(
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}}]},
            "unsupported fieldPath: spec.nothing",
            id="field",
        ),
    ],
)
def test_what_is_missing_is_named_and_is_a_config_error(container: dict[str, Any], message: str):
    with pytest.raises(ContainerConfigError, match=message) as raised:
        resolve(container, FACTS, Sources(configmaps={"have": {"data": {}}}), {})
    assert raised.value.reason == "CreateContainerConfigError"


def test_what_is_missing_and_optional_is_left_out():
    reference = {"name": "none", "key": "k", "optional": True}
    found = env(
        {"name": "A", "valueFrom": {"configMapKeyRef": reference}},
        envFrom=[{"secretRef": {"name": "none", "optional": True}}],
    )
    assert found == {"BASE": "b"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "chat-1"),
        ("metadata.namespace", "demo"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "chat"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations", 'note="say \\"hi\\""'),
        ("spec.nodeName", "labkit-node"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "127.64.3.1"),
        ("status.hostIP", "127.64.0.1"),
    ],
)
def test_fields_of_the_pod(path: str, value: str):
    assert field_value(FACTS, path) == value


@pytest.mark.parametrize(("text", "number"), [("2", 2), ("500m", 0.5), ("1Gi", 2**30), ("1.5k", 1500)])
def test_quantities(text: str, number: float):
    assert quantity(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "one", "1Zi", "-1"])
def test_what_is_no_quantity_is_refused(text: str):
    with pytest.raises(ContainerConfigError):
        quantity(text)


def test_a_resource_is_divided_and_rounded_up():
    container = {"resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}
    assert resource_value(container, {"resource": "limits.cpu"}) == "2"
    assert resource_value(container, {"resource": "limits.memory", "divisor": "1Mi"}) == "1024"


def test_without_a_limit_a_resource_is_what_the_node_has():
    assert int(resource_value({}, {"resource": "limits.cpu"})) >= 1
    assert resource_value({}, {"resource": "requests.cpu"}) == "0"


def test_references_name_each_object_once():
    container = {
        "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "s", "optional": True}}],
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            {"name": "B", "value": "1"},
        ],
    }
    assert references(container) == {Reference("ConfigMap", "c"), Reference("Secret", "s", optional=True)}
