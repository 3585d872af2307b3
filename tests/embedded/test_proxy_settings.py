"""Settings of new proxies on a whole cluster: ProxyConfig, mesh config and the pod's annotation."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.installers import install
from labkit.policy.workload import is_ready

NAME = "settings"
CONFIG_ANNOTATION = "proxy.istio.io/config"

# Prints whether the pod's own proxy was there when the application began. The address is the pod's, so the port is
# not redirected; without the proxy the connection is refused.
LOOK = """
import os, socket, time
try:
    socket.create_connection((os.environ["POD_IP"], 15021), 2).close()
    print("the proxy was there", flush=True)
except OSError as error:
    print("the proxy was not there", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A mesh and an injected namespace."""
    lifecycle.down(NAME, purge=True)
    cluster = Cluster(NAME, kubeconfig=lifecycle.up(NAME), is_embedded=True)
    try:
        install(cluster)
        cluster.create_namespace("shop", {"istio-injection": "enabled"})
        yield cluster
    finally:
        cluster.close()
        lifecycle.down(NAME, purge=True)


def pod(name: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    container = {"name": "app", "image": "python:3.12", "command": ["python", "-c", LOOK], "env": [address]}
    metadata = {"name": name, "namespace": "shop", "labels": {"app": name}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def start(cluster: Cluster, *pods: dict[str, Any]) -> None:
    """Apply pods and wait until they are ready."""
    cluster.apply(list(pods))
    names = {one["metadata"]["name"] for one in pods}

    def missing(found: list[dict[str, Any]]) -> str:
        ready = {one["metadata"]["name"] for one in found if is_ready(one)}
        return ", ".join(sorted(names - ready))

    cluster.wait_until("Pod", missing, what="the pods to be ready", namespace="shop")


def printed(cluster: Cluster, name: str) -> str:
    deadline = time.monotonic() + 10
    while not (text := cluster.logs(name, "shop", container="app")):
        assert time.monotonic() < deadline, f"{name} printed nothing"
        time.sleep(0.02)
    return text


def test_an_application_that_is_held_back_meets_its_proxy(cluster: Cluster) -> None:
    start(cluster, pod("held", {CONFIG_ANNOTATION: "holdApplicationUntilProxyStarts: true"}), pod("eager"))
    assert printed(cluster, "held") == "the proxy was there\n"
    assert printed(cluster, "eager") == "the proxy was not there\n"


def server_info(cluster: Cluster, name: str) -> dict[str, Any]:
    command = ["pilot-agent", "request", "GET", "server_info"]
    return dict(json.loads(cluster.execute(name, "shop", command, container="istio-proxy").stdout))


def test_a_proxyconfig_gives_new_proxies_an_environment_and_threads(cluster: Cluster) -> None:
    spec = {"selector": {"matchLabels": {"app": "tuned"}}, "concurrency": 2, "environmentVariables": {"MOOD": "calm"}}
    config = {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "ProxyConfig",
        "metadata": {"name": "tuned", "namespace": "shop"},
        "spec": spec,
    }
    cluster.apply([config])
    start(cluster, pod("tuned"), pod("plain"))
    for name, threads, mood in (("tuned", 2, "calm\n"), ("plain", 1, "none\n")):
        assert server_info(cluster, name)["command_line_options"]["concurrency"] == threads
        told = cluster.execute(name, "shop", ["sh", "-c", "echo ${MOOD:-none}"], container="istio-proxy")
        assert told.stdout == mood
