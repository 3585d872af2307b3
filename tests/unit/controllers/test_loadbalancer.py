"""Which Services get an address."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.embedded.controllers.loadbalancer import balancer_status


@pytest.mark.parametrize(
    ("spec", "address"),
    [
        ({"type": "LoadBalancer", "clusterIP": "127.64.0.11"}, "127.64.0.11"),
        ({"type": "ClusterIP", "clusterIP": "127.64.0.11"}, None),
        ({"type": "LoadBalancer", "clusterIP": "127.64.0.11", "loadBalancerClass": "example.com/other"}, None),
        ({"type": "LoadBalancer", "clusterIP": "None"}, None),
        ({"type": "LoadBalancer"}, None),
    ],
)
def test_a_load_balancer_without_a_class_gets_its_cluster_ip(spec: dict[str, Any], address: str | None) -> None:
    assert balancer_status({"spec": spec}) == ({"ingress": [{"ip": address, "ipMode": "VIP"}]} if address else {})
