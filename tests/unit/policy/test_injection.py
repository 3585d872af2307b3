"""Injection beyond the published table: inside the webhook, hints, and the selectors as Kubernetes objects."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy import injection_decision, injection_webhooks
from labkit.policy.injection import Requirement, inject_refusal

INJECT = "sidecar.istio.io/inject"
ENABLED = {"istio-injection": "enabled"}
REV = {"istio.io/rev": "asm-1-24"}

INSIDE = [
    ("label true", {INJECT: "true"}, {}, True),
    ("label true beats annotation false", {INJECT: "true"}, {INJECT: "false"}, True),
    ("annotation false", {}, {INJECT: "false"}, False),
    ("annotation true", {}, {INJECT: "true"}, True),
    ("empty label leaves the default and hides the annotation", {INJECT: ""}, {INJECT: "false"}, True),
    ("any other value leaves the default", {INJECT: "maybe"}, {}, True),
    ("nothing", {}, {}, True),
]


@pytest.mark.parametrize(("labels", "annotations", "injected"), [pytest.param(*row[1:], id=row[0]) for row in INSIDE])
def test_the_pods_wish(labels: dict[str, str], annotations: dict[str, str], injected: bool) -> None:
    assert injection_decision(ENABLED, labels, annotations).inject is injected


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"host_network": True}, "host's network"),
        *(({"namespace": ns}, ns) for ns in ("kube-system", "kube-public", "kube-node-lease", "local-path-storage")),
    ],
)
def test_where_nothing_is_injected(where: dict[str, Any], words: str) -> None:
    decision = injection_decision(ENABLED, {}, {}, **where)
    assert (decision.inject, words in decision.reason) == (False, True)
    assert decision.webhook  # it was called, and declined


def test_the_annotation_alone_calls_nobody() -> None:
    decision = injection_decision({}, {}, {INJECT: "true"})
    assert (decision.inject, decision.webhook) == (False, "")
    assert "make it a label" in decision.hint


@pytest.mark.parametrize(
    ("namespace", "pod", "injected", "hint"),
    [
        pytest.param(REV, {}, True, "", id="namespace of this revision"),
        pytest.param({}, REV, True, "", id="pod of this revision"),
        pytest.param(ENABLED, {}, False, "does not answer to istio-injection=enabled", id="injection label"),
        pytest.param({**ENABLED, **REV}, {}, False, "remove that label", id="both labels"),
        pytest.param({}, {INJECT: "true"}, False, "", id="the pod's wish alone"),
        pytest.param({"istio.io/rev": "asm-1-25"}, {}, False, "asks for revision asm-1-25", id="another revision"),
        pytest.param({"istio.io/rev": "default"}, {}, False, "asks for revision default", id="the default revision"),
    ],
)
def test_a_revision_that_is_not_the_default(
    namespace: dict[str, str], pod: dict[str, str], injected: bool, hint: str
) -> None:
    decision = injection_decision(namespace, pod, revision="asm-1-24")
    assert decision.inject is injected
    assert hint in decision.hint and bool(hint) == bool(decision.hint)


def test_the_reason_names_the_labels_that_a_revision_answers_to() -> None:
    reason = "No matching namespace labels (istio.io/rev=asm-1-24) or pod labels (istio.io/rev=asm-1-24)"
    assert injection_decision({}, {}, revision="asm-1-24").reason == reason


def test_an_empty_revision_is_the_default_one() -> None:
    assert injection_webhooks("") == injection_webhooks("default")


def test_selectors_are_written_as_kubernetes_reads_them() -> None:
    by_label = next(one for one in injection_webhooks() if one.name == "namespace.sidecar-injector.istio.io")
    assert by_label.namespace_selector() == {
        "matchExpressions": [{"key": "istio-injection", "operator": "In", "values": ["enabled"]}]
    }
    assert by_label.object_selector() == {
        "matchExpressions": [{"key": INJECT, "operator": "NotIn", "values": ["false"]}]
    }
    absent = injection_webhooks("x")[0].namespace_selector()["matchExpressions"][1]
    assert absent == {"key": "istio-injection", "operator": "DoesNotExist"}


@pytest.mark.parametrize(
    ("operator", "labels", "matches"),
    [
        ("In", {"k": "a"}, True),
        ("In", {"k": "b"}, False),
        ("In", {}, False),
        ("NotIn", {"k": "a"}, False),
        ("NotIn", {"k": "b"}, True),
        ("NotIn", {}, True),
        ("Exists", {"k": ""}, True),
        ("Exists", {}, False),
        ("DoesNotExist", {"k": ""}, False),
        ("DoesNotExist", {}, True),
    ],
)
def test_label_selector_operators(operator: str, labels: dict[str, str], matches: bool) -> None:
    assert Requirement("k", operator, ("a",)).matches(labels) is matches


def test_a_refusal_is_empty_when_the_webhook_injects() -> None:
    assert inject_refusal({}, {}) == ""


def test_the_decision_reads_as_a_line_of_check_inject() -> None:
    assert str(injection_decision(ENABLED, {})) == "✔ Namespace label istio-injection=enabled matches"
    assert str(injection_decision({}, {}, revision="x")).startswith("✘ No matching")
