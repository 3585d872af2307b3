"""A gateway may have another name, and stand in another namespace: as the platforms' do."""

from __future__ import annotations

import pytest

from labkit.installers.gateway import gateway_label, gateway_manifest


# manifests/charts/gateway/templates/_helpers.tpl: the label `istio` is the release's name without `istio-`.
@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("istio-ingressgateway", "ingressgateway"),
        ("istio-ingress", "ingress"),
        ("aks-istio-ingressgateway-external", "aks-istio-ingressgateway-external"),
    ],
)
def test_objects_labels_and_selectors_carry_the_name(name: str, label: str) -> None:
    account, deployment, service = gateway_manifest("front", name)
    assert gateway_label(name) == label
    assert {one["metadata"]["namespace"] for one in (account, deployment, service)} == {"front"}
    assert [one["metadata"]["name"] for one in (deployment, service)] == [name, name]
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"]["istio"] == label
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
