"""Which control plane injects which pod: operator/cmd/mesh/manifest-generate_test.go, TestWebhookSelector.

Two control planes stand side by side, of the revisions `default` and `canary`.
"""

from __future__ import annotations

import pytest

from labkit.policy import injection_decision

REV = {"istio.io/rev": "canary"}
ENABLED = {"istio-injection": "enabled"}
DISABLED = {"istio-injection": "disabled"}
INJECT = {"sidecar.istio.io/inject": "true"}
REFUSE = {"sidecar.istio.io/inject": "false"}

PODS = {"none": {}, "rev": REV, "inject": INJECT, "inject+rev": {**INJECT, **REV}, "false": REFUSE}
# namespace: the revision that injects a pod with the labels of each column of PODS
TABLE = {
    "none": ({}, ("", "canary", "default", "canary", "")),
    "rev=canary": (REV, ("canary", "canary", "canary", "canary", "")),
    "enabled": (ENABLED, ("default", "default", "default", "default", "")),
    "enabled+rev=canary": ({**ENABLED, **REV}, ("default", "default", "default", "default", "")),
    "disabled": (DISABLED, ("", "", "", "", "")),
    "disabled+rev=canary": ({**DISABLED, **REV}, ("", "", "", "", "")),
    "rev=default": ({"istio.io/rev": "default"}, ("default", "default", "default", "default", "")),
}
CELLS = [
    pytest.param(namespace, pod, expected, id=f"{row} x {column}")
    for row, (namespace, line) in TABLE.items()
    for (column, pod), expected in zip(PODS.items(), line, strict=True)
]


@pytest.mark.parametrize(("namespace", "pod", "expected"), CELLS)
def test_selection(namespace: dict[str, str], pod: dict[str, str], expected: str) -> None:
    injecting = [
        revision for revision in ("default", "canary") if injection_decision(namespace, pod, revision=revision).inject
    ]
    assert injecting == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("namespace", "pod", "injected"),
    [
        pytest.param("app", {}, True, id="unlabelled"),
        pytest.param("kube-system", {}, False, id="kube-system"),
        pytest.param("local-path-storage", {}, False, id="local-path-storage"),
        pytest.param("app", REFUSE, False, id="pod refuses"),
    ],
)
def test_enable_namespaces_by_default(namespace: str, pod: dict[str, str], injected: bool) -> None:
    decision = injection_decision({}, pod, namespace=namespace, enable_namespaces_by_default=True)
    assert decision.inject is injected


# istioctl/pkg/checkinject: the column REASON
REASONS = [
    ("default", ENABLED, {}, "Namespace label istio-injection=enabled matches"),
    ("default", {}, INJECT, "Pod label sidecar.istio.io/inject=true matches"),
    ("asm-1-24", {"istio.io/rev": "asm-1-24"}, {}, "Namespace label istio.io/rev=asm-1-24 matches"),
    (
        "default",
        ENABLED,
        INJECT,
        "Namespace label istio-injection=enabled matches, and pod label sidecar.istio.io/inject=true matches",
    ),
    ("default", ENABLED, REFUSE, "Pod has sidecar.istio.io/inject=false label, preventing injection"),
    ("default", DISABLED, INJECT, "Namespace has istio-injection=disabled label, preventing injection"),
    (
        "default",
        {},
        {},
        "No matching namespace labels (istio.io/rev=default, istio-injection=enabled) "
        "or pod labels (istio.io/rev=default, sidecar.istio.io/inject=true)",
    ),
]


@pytest.mark.parametrize(("revision", "namespace", "pod", "reason"), REASONS)
def test_reason(revision: str, namespace: dict[str, str], pod: dict[str, str], reason: str) -> None:
    assert injection_decision(namespace, pod, revision=revision).reason == reason
