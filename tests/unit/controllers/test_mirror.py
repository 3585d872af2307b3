"""EndpointSlices made from Endpoints that somebody wrote by hand."""

import pytest

from labkit.embedded.controllers.mirror import is_mirrored, mirror_slices

ENDPOINTS = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": {"name": "outside", "namespace": "default", "uid": "e1", "labels": {"team": "a"}},
    "subsets": [
        {
            "addresses": [{"ip": "10.0.0.1"}],
            "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"port": 80, "protocol": "TCP"}],
        }
    ],
}


@pytest.mark.parametrize(
    ("service", "labels", "mirrored"),
    [
        pytest.param({"spec": {}}, {}, True, id="no selector"),
        pytest.param({"spec": {"selector": {"app": "a"}}}, {}, False, id="a selector"),
        pytest.param({"spec": {"type": "ExternalName"}}, {}, False, id="external name"),
        pytest.param(None, {}, False, id="no Service"),
        pytest.param({"spec": {}}, {"endpointslice.kubernetes.io/skip-mirror": "true"}, False, id="told to skip"),
    ],
)
def test_what_is_mirrored(service, labels, mirrored):
    assert is_mirrored(service, {"metadata": {"name": "outside", "labels": labels}}) is mirrored


def test_the_api_servers_own_endpoints_are_not_mirrored():
    assert not is_mirrored({"spec": {}}, {"metadata": {"name": "kubernetes", "namespace": "default"}})
    assert is_mirrored({"spec": {}}, {"metadata": {"name": "kubernetes", "namespace": "other"}})


def test_a_slice_says_what_the_endpoints_say():
    (made,) = mirror_slices(ENDPOINTS)
    assert [(e["addresses"], e["conditions"]["ready"]) for e in made["endpoints"]] == [
        (["10.0.0.1"], True),
        (["10.0.0.2"], False),
    ]
    assert made["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    assert made["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "outside",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == "e1"


def test_endpoints_without_addresses_have_no_slices():
    assert mirror_slices({**ENDPOINTS, "subsets": None}) == []
