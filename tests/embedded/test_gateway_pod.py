"""The ingress gateway as a pod of a whole cluster, reached from the machine with plain curl."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.installers import install
from labkit.installers.gateway import install_gateway, uninstall_gateway
from tests.embedded.envoy_world import curl, wait_for

NAME = "frontdoor"
SERVICE = "istio-ingressgateway"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    lifecycle.down(NAME, purge=True)
    cluster = Cluster(NAME, kubeconfig=lifecycle.up(NAME), is_embedded=True)
    try:
        install(cluster)
        install_gateway(cluster)
        yield cluster
    finally:
        cluster.close()
        lifecycle.down(NAME, purge=True)


def door(cluster: Cluster) -> str:
    found = next(one for one in cluster.objects("Service") if one["metadata"]["name"] == SERVICE)
    return str(found["spec"]["clusterIP"])


def gateway(**selector: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "front", "namespace": "default"},
        "spec": {
            "selector": selector,
            "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
        },
    }


def routing(status: int) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "front", "namespace": "default"},
        "spec": {
            "hosts": ["shop.example"],
            "gateways": ["front"],
            "http": [{"directResponse": {"status": status}}],
        },
    }


def test_the_door_opens_with_a_gateway_and_serves_what_is_routed(cluster: Cluster) -> None:
    address = door(cluster)
    assert curl(address, 15021, "/healthz/ready").status == 200
    assert curl(address, 80).status == 0
    cluster.apply([gateway(istio="other")])
    assert curl(address, 80).status == 0
    cluster.apply([gateway(istio="ingressgateway")])
    wait_for("the door to open", lambda: curl(address, 80).status == 404)
    cluster.apply([routing(418)])
    wait_for("the route", lambda: curl(address, 80, "/", "-H", "Host: shop.example").status == 418)
    assert curl(address, 80, "/", "-H", "Host: other.example").status == 404


def test_a_removed_gateway_is_gone(cluster: Cluster) -> None:
    uninstall_gateway(cluster)
    assert all(one["metadata"]["name"] != SERVICE for one in cluster.objects("Service"))
