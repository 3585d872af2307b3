"""A host outside of the cluster, called by its name from pods: with and without a ServiceEntry, with both modes of
`outboundTrafficPolicy`. The whole way: names, proxies, the mesh's settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.installers import install
from tests.embedded.echoes import EchoHTTP, running
from tests.embedded.test_controlplane import deployment, pod_of, wait_for, wait_for_deployments

NAME = "outside"
HOST = "api.outside.test"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    lifecycle.down(NAME, purge=True)
    cluster = Cluster(NAME, kubeconfig=lifecycle.up(NAME), is_embedded=True)
    try:
        install(cluster)
        cluster.create_namespace("shop", {"istio.io/rev": "default"})
        cluster.create_namespace("legacy")
        cluster.apply([deployment("client", "shop"), deployment("client", "legacy")])
        wait_for_deployments(cluster)
        yield cluster
    finally:
        cluster.close()
        lifecycle.down(NAME, purge=True)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server of this machine, outside of every cluster."""
    with running(ThreadingHTTPServer(("127.0.0.1", 0), EchoHTTP)) as port:
        yield port


def entry(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {
            "hosts": [HOST],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": port}],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "endpoints": [{"address": "127.0.0.1"}],
        },
    }


def run(cluster: Cluster, namespace: str, *command: str) -> Any:
    name = pod_of(cluster, "client", namespace)["metadata"]["name"]
    return cluster.execute(name, namespace, list(command), container="app")


def curl(cluster: Cluster, namespace: str, url: str) -> tuple[int, str]:
    """curl's exit code, and what it printed: the body and the status."""
    done = run(cluster, namespace, "curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}", url)
    return done.exit_code, done.stdout


def test_a_service_entry_makes_a_name_reachable_for_pods_of_the_mesh(cluster: Cluster, port: int) -> None:
    url = f"http://{HOST}/hello"
    assert curl(cluster, "shop", url)[0] == 6  # could not resolve host
    cluster.apply(entry(port))
    wait_for("the host", lambda: curl(cluster, "shop", url)[1].endswith("\n200"))
    told = json.loads(curl(cluster, "shop", url)[1].rpartition("\n")[0])
    assert told["path"] == "/hello" and told["headers"]["host"] == HOST and "x-request-id" in told["headers"]
    script = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=5).status)"
    assert run(cluster, "shop", "python", "-c", script).stdout == "200\n"
    assert curl(cluster, "legacy", url)[0] == 6  # without a proxy there is nobody who knows


def test_under_registry_only_what_has_no_entry_is_refused(cluster: Cluster, port: int) -> None:
    cluster.apply(entry(port))
    wait_for("the host", lambda: curl(cluster, "shop", f"http://{HOST}/")[1].endswith("\n200"))
    unknown = "http://unknown.outside.test/"
    assert curl(cluster, "shop", unknown)[0] == 6
    configmap = cluster.get("ConfigMap", "istio", "istio-system")
    before = configmap["data"]["mesh"]
    patched = {**configmap["data"], "mesh": before + "\noutboundTrafficPolicy:\n  mode: REGISTRY_ONLY\n"}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"}}
    cluster.apply({**body, "data": patched})
    wait_for("502", lambda: curl(cluster, "shop", unknown)[1].endswith("502"))
    assert curl(cluster, "shop", "https://unknown.outside.test/")[0] in (35, 56)  # the handshake is cut
    assert curl(cluster, "shop", f"http://{HOST}/")[1].endswith("\n200")
    assert curl(cluster, "legacy", unknown)[0] == 6
    cluster.apply({**body, "data": {**patched, "mesh": before}})
    wait_for("ALLOW_ANY", lambda: curl(cluster, "shop", unknown)[0] == 6)
