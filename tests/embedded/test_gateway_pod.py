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


def test_its_admin_port_is_at_its_localhost(cluster: Cluster) -> None:
    (pod,) = cluster.objects("Pod", "istio-system", labels={"istio": "ingressgateway"})
    command = ["curl", "-sS", "localhost:15000/server_info"]
    done = cluster.execute(pod["metadata"]["name"], "istio-system", command, container="istio-proxy")
    assert '"state": "LIVE"' in done.stdout
    assert curl(pod["status"]["podIP"], 15000, "/server_info").exit_code == 7


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


def from_helm(inject: str = "true") -> list[dict[str, Any]]:
    """What Helm's chart `gateway` installs as far as it matters here: a proxy whose image injection fills in."""
    labels = {"app": "edge", "istio": "edge"}
    proxy = {
        "name": "istio-proxy",
        "image": "auto",
        "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsUser": 1337, "runAsNonRoot": True},
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "128Mi"}},
    }
    template = {
        "metadata": {
            "labels": {**labels, "sidecar.istio.io/inject": inject},
            "annotations": {"inject.istio.io/templates": "gateway", "prometheus.io/port": "15020"},
        },
        "spec": {
            "serviceAccountName": "edge",
            "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
            "containers": [proxy],
        },
    }
    metadata = {"name": "edge", "namespace": "default", "labels": labels}
    ports = [{"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 80}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"type": "LoadBalancer", "selector": labels, "ports": ports},
        },
    ]


def edge_pods(cluster: Cluster) -> list[dict[str, Any]]:
    found = cluster.objects("Pod", "default", labels={"app": "edge"})
    return [one for one in found if "deletionTimestamp" not in one["metadata"]]


def waits_for(pod: dict[str, Any]) -> str:
    (status,) = pod.get("status", {}).get("containerStatuses") or [{}]
    return str(((status.get("state") or {}).get("waiting") or {}).get("reason", ""))


def test_a_gateway_is_made_by_injection_as_helms_chart_has_it(cluster: Cluster) -> None:
    cluster.apply(from_helm(inject="false"))
    wait_for("a pod", lambda: bool(edge_pods(cluster)))
    wait_for("an image that nobody filled in", lambda: "Image" in waits_for(edge_pods(cluster)[0]), seconds=20)
    cluster.apply([*from_helm(), gateway(istio="edge"), routing(418)])
    address = cluster.get("Service", "edge", "default")["spec"]["clusterIP"]
    wait_for(
        "the door", lambda: curl(address, 80, "/", "-H", "Host: shop.example").status == 418, seconds=30
    )  # the pod that has no image ends first
    wait_for("the first pod to go", lambda: len(edge_pods(cluster)) == 1, seconds=30)
    (pod,) = edge_pods(cluster)
    assert [one["name"] for one in pod["spec"]["containers"]] == ["istio-proxy"]
    assert not pod["spec"].get("initContainers")
    assert curl(address, 80, "/", "-H", "Host: other.example").status == 404
    for kind in ("Deployment", "Service", "ServiceAccount"):
        cluster.delete(kind, "edge", "default")


def test_a_removed_gateway_is_gone(cluster: Cluster) -> None:
    uninstall_gateway(cluster)
    assert all(one["metadata"]["name"] != SERVICE for one in cluster.objects("Service"))
