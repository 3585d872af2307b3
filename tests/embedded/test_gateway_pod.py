"""The ingress gateway as a pod of a whole cluster, reached from the machine with plain curl."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.errors import InputError, MeshError
from labkit.installers import install
from labkit.installers.gateway import gateway_address, install_gateway, uninstall_gateway
from labkit.pki import CertificateAuthority
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


def test_its_service_has_an_address_that_works_from_the_machine(cluster: Cluster) -> None:
    wait_for("the address", lambda: _address(cluster) == door(cluster))
    found = gateway_address(cluster)
    assert found.url("http", "/x") == f"http://{door(cluster)}:20080/x"
    cluster.apply([gateway(istio="ingressgateway"), routing(418)])

    def status() -> int:
        request = Request(found.url(), headers={"Host": "shop.example"})
        try:
            with urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code
        except OSError:
            return 0

    wait_for("the route", lambda: status() == 418)
    with pytest.raises(InputError, match="no port for 'ftp'"):
        found.url("ftp")
    with pytest.raises(MeshError, match="no gateway default/other"):
        gateway_address(cluster, namespace="default", name="other")


def test_a_secret_in_the_cluster_makes_it_a_door_with_mutual_tls(cluster: Cluster, tmp_path: Path) -> None:
    authority = CertificateAuthority.self_signed("our CA")
    server, client = authority.issue(dns_names=["shop.example"]), authority.issue(common_name="client")
    pems = {"cert": server.chain_pem, "key": server.key_pem, "cacert": authority.root_pem}
    credential = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "door-certs", "namespace": "istio-system"},
        "type": "Opaque",
        "data": {name: base64.b64encode(pem).decode() for name, pem in pems.items()},
    }
    secured = gateway(istio="ingressgateway")
    port = {"number": 443, "name": "https", "protocol": "HTTPS"}
    tls = {"mode": "MUTUAL", "credentialName": "door-certs"}
    secured["spec"]["servers"] = [{"port": port, "hosts": ["shop.example"], "tls": tls}]
    cluster.apply([credential, secured, routing(418)])
    (tmp_path / "ca.pem").write_bytes(authority.root_pem)
    (tmp_path / "client.pem").write_bytes(client.chain_pem + client.key_pem)
    command = ["curl", "-q", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", "ca.pem"]
    command += ["--resolve", f"shop.example:20443:{door(cluster)}", "https://shop.example:20443/"]

    def status(*options: str) -> str:
        return subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True).stdout

    wait_for("the door", lambda: status("--cert", "client.pem") == "418")
    assert status() == "000"
    cluster.delete("Secret", "door-certs", "istio-system")


def _address(cluster: Cluster) -> str:
    status = cluster.get("Service", SERVICE, "istio-system")["status"]
    return str(((status.get("loadBalancer") or {}).get("ingress") or [{}])[0].get("ip", ""))


def test_a_removed_gateway_is_gone(cluster: Cluster) -> None:
    uninstall_gateway(cluster)
    assert all(one["metadata"]["name"] != SERVICE for one in cluster.objects("Service"))
