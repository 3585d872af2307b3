"""The line that configures a mesh the same way elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.installers.values import load_values
from labkit.lab.installing import _elsewhere

OPERATOR = {"kind": "IstioOperator", "spec": {"meshConfig": {"enableAutoMtls": True}}}


@pytest.mark.parametrize(
    ("values", "assignments", "line"),
    [
        ((), [], "istioctl install -y"),
        ((), ["meshConfig.enableAutoMtls=false"], "istioctl install --set meshConfig.enableAutoMtls=false -y"),
        (OPERATOR, [], "istioctl install -f operator.yaml -y"),
        (
            "manifests/lessons/22/root/operator.yaml",
            ["meshConfig.trustDomain=corp"],
            "istioctl install -f manifests/lessons/22/root/operator.yaml --set meshConfig.trustDomain=corp -y",
        ),
        (
            {"meshConfig": {"accessLogFile": ""}},
            [],
            "helm upgrade istiod istio/istiod -n aks-istio-system -f values.yaml",
        ),
    ],
)
def test_operators_are_for_istioctl_and_values_for_helm(values: Any, assignments: list[str], line: str) -> None:
    written = load_values(values, assignments)
    assert _elsewhere(values, assignments, written, "aks-istio-system") == line
