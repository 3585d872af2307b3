"""The mesh on a whole cluster: installed, used, broken, removed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.embedded.paths import ClusterPaths
from labkit.errors import InputError, MeshError
from labkit.installers import install, uninstall
from labkit.installers.embedded import Installation, wait_until_ready
from tests.embedded.manifests import one_pod

NAME = "mesh"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster with the mesh and, in `shop`, a client and a server; `legacy` is outside of the mesh."""
    lifecycle.down(NAME, purge=True)
    cluster = Cluster(NAME, kubeconfig=lifecycle.up(NAME), is_embedded=True)
    try:
        install(cluster)
        cluster.create_namespace("shop", {"istio.io/rev": "default"})
        cluster.create_namespace("legacy")
        cluster.apply(
            [deployment("server", "shop"), deployment("client", "shop"), SERVICE, deployment("client", "legacy")]
        )
        wait_for_deployments(cluster)
        yield cluster
    finally:
        cluster.close()
        lifecycle.down(NAME, purge=True)


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "server", "namespace": "shop"},
    "spec": {"selector": {"app": "server"}, "ports": [{"port": 5000}]},
}


def deployment(name: str, namespace: str, **pod: Any) -> dict[str, Any]:
    """One pod of the chat application's backend: it answers GET /healthz on port 5000."""
    container = {
        "name": "app",
        "image": "chatbackend",
        "ports": [{"containerPort": 5000}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 5000}, "periodSeconds": 1},
    }
    return one_pod(name, namespace, container, **pod)


def policy(mode: str, namespace: str = "shop", name: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"mtls": {"mode": mode}, **spec},
    }


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def wait_for_deployments(cluster: Cluster) -> None:
    def missing(deployments: list[Any]) -> str:
        return ", ".join(
            d["metadata"]["name"]
            for d in deployments
            if d.get("status", {}).get("observedGeneration") != d["metadata"]["generation"]
            or d["status"].get("availableReplicas", 0) < 1
            or d["status"].get("replicas") != d["status"].get("updatedReplicas")
        )

    cluster.wait_until("Deployment", missing, what="the deployments", limit=30)


def pod_of(cluster: Cluster, app: str, namespace: str) -> dict[str, Any]:
    """The ready pod of a Deployment with one replica; not one that is on its way out."""

    def ready() -> list[dict[str, Any]]:
        return [
            pod
            for pod in cluster.objects("Pod", namespace, labels={"app": app})
            if "deletionTimestamp" not in pod["metadata"]
            and all(status["ready"] for status in pod.get("status", {}).get("containerStatuses") or [{"ready": False}])
        ]

    wait_for(f"a pod of {app} in {namespace}", lambda: bool(ready()))
    return ready()[0]


def others(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    """The clients in `shop` beside one that is going, ready or not."""
    clients = cluster.objects("Pod", "shop", labels={"app": "client"})
    return [pod for pod in clients if pod["metadata"]["name"] != name]


def ask(cluster: Cluster, namespace: str) -> tuple[int, str]:
    """curl from the client of a namespace to the server: exit code, and status or error."""
    name = pod_of(cluster, "client", namespace)["metadata"]["name"]
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://server.shop:5000/healthz"]
    done = cluster.execute(name, namespace, command, container="app")
    return done.exit_code, done.stdout if done.exit_code == 0 else done.stderr.strip()


REFUSED = (56, "curl: (56) Recv failure: Connection reset by peer")
ANSWERED = (0, "200")


@pytest.fixture
def permissive(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster without any policy, before and after."""
    yield cluster
    for item in cluster.objects("PeerAuthentication"):
        cluster.delete("PeerAuthentication", item["metadata"]["name"], item["metadata"]["namespace"])
    wait_for("peace", lambda: ask(cluster, "legacy") == ANSWERED == ask(cluster, "shop"))


def test_injected_pods_have_a_proxy_and_others_have_none(cluster: Cluster) -> None:
    injected, naked = pod_of(cluster, "client", "shop"), pod_of(cluster, "client", "legacy")
    assert [c["name"] for c in injected["spec"]["containers"]] == ["app", "istio-proxy"]
    assert [c["name"] for c in injected["spec"]["initContainers"]] == ["istio-init"]
    assert all(status["ready"] for status in injected["status"]["containerStatuses"])
    assert injected["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio"
    assert [c["name"] for c in naked["spec"]["containers"]] == ["app"]


def test_strict_refuses_the_naked_client_and_lets_the_injected_one_pass(permissive: Cluster) -> None:
    assert ask(permissive, "legacy") == ANSWERED
    permissive.apply(policy("STRICT"))
    wait_for("the refusal", lambda: ask(permissive, "legacy") == REFUSED)
    assert ask(permissive, "shop") == ANSWERED


@pytest.mark.parametrize("wide", ["shop", "istio-system"])
def test_a_policy_holds_for_its_namespace_or_from_the_root_for_all(permissive: Cluster, wide: str) -> None:
    permissive.apply(policy("STRICT", wide))
    wait_for("the refusal", lambda: ask(permissive, "legacy") == REFUSED)
    permissive.apply(policy("PERMISSIVE", "shop", "narrower", selector={"matchLabels": {"app": "server"}}))
    wait_for("the narrower policy", lambda: ask(permissive, "legacy") == ANSWERED)


def test_a_disabled_port_of_a_strict_workload_takes_plaintext_from_everybody(permissive: Cluster) -> None:
    selector = {"matchLabels": {"app": "server"}}
    permissive.apply(policy("STRICT"))
    wait_for("the refusal", lambda: ask(permissive, "legacy") == REFUSED)
    permissive.apply(policy("STRICT", name="one", selector=selector, portLevelMtls={"5000": {"mode": "DISABLE"}}))
    wait_for("the opening", lambda: ask(permissive, "legacy") == ANSWERED == ask(permissive, "shop"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"mtls": {"mode": "SOMETIMES"}}, 'Unsupported value: "SOMETIMES"'),
        ({"portLevelMtls": {"80": {"mode": "STRICT"}}}, "cannot have port level mTLS"),
        ({"selector": {"matchLabels": {"a": "*"}}}, "wildcard is not supported in selector"),
    ],
)
def test_what_istio_would_refuse_is_refused_and_changes_nothing(
    permissive: Cluster, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        permissive.apply({**policy("STRICT"), "spec": spec})
    assert message in str(refused.value)
    assert not permissive.objects("PeerAuthentication", "shop")


def test_envoy_itself_says_what_it_demands(permissive: Cluster) -> None:
    """Read from the proxy's own dump, through exec, as on any cluster."""
    permissive.apply(policy("STRICT"))
    name = pod_of(permissive, "server", "shop")["metadata"]["name"]
    command = ["pilot-agent", "request", "GET", "config_dump?resource=dynamic_listeners"]

    def transports() -> set[str]:
        done = permissive.execute(name, "shop", command, container="istio-proxy")
        listeners = [entry["active_state"]["listener"] for entry in json.loads(done.stdout)["configs"]]
        inbound = next(each for each in listeners if each["name"] == "virtualInbound")
        chains = [chain for chain in inbound["filter_chains"] if chain["name"] == "0.0.0.0_5000"]
        assert all(
            chain["transport_socket"]["typed_config"]["require_client_certificate"]
            for chain in chains
            if "transport_socket" in chain
        )
        return {chain["filter_chain_match"]["transport_protocol"] for chain in chains}

    wait_for("STRICT in the proxy", lambda: transports() == {"tls"})


def test_metrics_are_read_through_the_api_server_under_strict(permissive: Cluster) -> None:
    permissive.apply(policy("STRICT"))
    name = pod_of(permissive, "server", "shop")["metadata"]["name"]
    text = permissive.proxy_get(name, "shop", 15090, "/stats/prometheus")
    assert "envoy_listener_manager_lds_update_success" in text


@pytest.mark.parametrize("container", ["app", "istio-proxy"])
def test_the_proxys_admin_port_is_at_localhost_in_every_container(cluster: Cluster, container: str) -> None:
    name = pod_of(cluster, "client", "shop")["metadata"]["name"]

    def inside(*options: str, url: str = "localhost:15000/config_dump") -> tuple[int, str]:
        done = cluster.execute(name, "shop", ["curl", "-sS", *options, url], container=container)
        return done.exit_code, done.stdout

    assert "outbound|5000||server.shop.svc.cluster.local" in inside()[1]
    assert "  upstream: debug" in inside("-XPOST", url="localhost:15000/logging?level=debug")[1]
    assert inside("-XPOST", url="127.0.0.1:15000/logging?level=warning")[0] == 0
    legacy = pod_of(cluster, "client", "legacy")["metadata"]["name"]
    done = cluster.execute(legacy, "legacy", ["curl", "-sS", "localhost:15000/config_dump"], container="app")
    assert done.exit_code == 7, "without a proxy nobody is there"


def test_every_namespace_has_the_root_certificate_even_after_somebody_deletes_it(cluster: Cluster) -> None:
    wait_for("the copies", lambda: cluster.find("ConfigMap", "istio-ca-root-cert", "legacy") is not None)
    cluster.delete("ConfigMap", "istio-ca-root-cert", "legacy")
    wait_for("the repair", lambda: cluster.find("ConfigMap", "istio-ca-root-cert", "legacy") is not None)


def test_a_new_namespace_gets_the_root_certificate_and_a_changed_copy_is_put_right(cluster: Cluster) -> None:
    root = cluster.get("ConfigMap", "istio-ca-root-cert", "shop")["data"]
    assert root["root-cert.pem"].startswith("-----BEGIN CERTIFICATE-----")
    cluster.create_namespace("fresh")

    def copy() -> dict[str, str] | None:
        found = cluster.find("ConfigMap", "istio-ca-root-cert", "fresh")
        return found and found["data"]

    wait_for("the copy", lambda: copy() == root)
    forged = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio-ca-root-cert", "namespace": "fresh"},
        "data": {"root-cert.pem": "somebody else's"},
    }
    cluster.apply(forged)
    wait_for("the repair", lambda: copy() == root)
    cluster.delete("Namespace", "fresh")
    wait_for("its end", lambda: cluster.find("Namespace", "fresh") is None)


def test_installing_again_changes_nothing_and_another_revision_is_refused(cluster: Cluster) -> None:
    assert {change.action for change in install(cluster)} == {"unchanged"}
    with pytest.raises(MeshError, match="already installed in istio-system"):
        install(cluster, namespace="aks-istio-system", revision="asm-1-24")
    assert cluster.find("Namespace", "aks-istio-system") is None


def test_a_crashed_istiod_comes_back_with_the_same_root_and_meanwhile_traffic_goes_on(permissive: Cluster) -> None:
    root = permissive.get("ConfigMap", "istio-ca-root-cert", "shop")["data"]
    permissive.apply(policy("STRICT"))
    wait_for("the refusal", lambda: ask(permissive, "legacy") == REFUSED)
    process = istiod_process()
    os.kill(process.pid, signal.SIGKILL)
    assert ask(permissive, "shop") == ANSWERED
    assert ask(permissive, "legacy") == REFUSED
    wait_for("another istiod", lambda: (new := istiod_process()) is not None and new.pid != process.pid)
    wait_until_ready(permissive, Installation())
    assert permissive.get("ConfigMap", "istio-ca-root-cert", "shop")["data"] == root
    permissive.delete("PeerAuthentication", "default", "shop")
    wait_for("the new istiod to act", lambda: ask(permissive, "legacy") == ANSWERED)


def istiod_process() -> psutil.Process:
    """The process of the cluster's istiod."""
    home = str(ClusterPaths(NAME).node_dir)
    while True:
        for process in psutil.process_iter():
            try:
                if "labkit.embedded.controlplane" in process.cmdline() and home in process.environ().get(
                    "POD_ROOT", ""
                ):
                    return process
            except psutil.Error:
                continue
        time.sleep(0.02)


def test_istiod_is_small_and_idles(cluster: Cluster) -> None:
    process = istiod_process()
    assert process.memory_full_info().pss < 60 * 2**20, "45 MB on a quiet machine"
    began = sum(process.cpu_times()[:2])
    time.sleep(1)
    assert sum(process.cpu_times()[:2]) - began < 0.05


def test_the_files_of_a_deleted_pod_go_with_it(cluster: Cluster) -> None:
    pod = pod_of(cluster, "client", "shop")["metadata"]["name"]
    files = ClusterPaths(NAME).node_dir / "hostfs/var/run/istio/xds/shop" / pod
    assert files.is_dir()
    cluster.delete("Pod", pod, "shop")
    wait_for("the files to go", lambda: not files.exists())
    wait_for("another pod", lambda: pod_of(cluster, "client", "shop")["metadata"]["name"] != pod)


def test_uninstalling_leaves_nothing_but_the_running_sidecars_which_go_on(cluster: Cluster) -> None:
    cluster.apply(policy("STRICT"))
    wait_for("the refusal", lambda: ask(cluster, "legacy") == REFUSED)
    # A client that is just starting gets what it needs before its control plane goes.
    first = pod_of(cluster, "client", "shop")["metadata"]["name"]
    cluster.delete("Pod", first, "shop")
    wait_for("another client", lambda: bool(others(cluster, first)))
    uninstall(cluster)
    assert cluster.find("Namespace", "istio-system") is None
    for kind in ("CustomResourceDefinition", "MutatingWebhookConfiguration"):
        assert not cluster.objects(kind)
    assert not [c for c in cluster.objects("ConfigMap") if c["metadata"]["name"] == "istio-ca-root-cert"]
    assert cluster.get("Namespace", "shop")["metadata"]["labels"]["istio.io/rev"] == "default"
    assert ask(cluster, "shop") == ANSWERED
    assert ask(cluster, "legacy") == REFUSED
    assert uninstall(cluster) == []


def test_it_can_be_installed_as_the_aks_add_on_has_it(cluster: Cluster) -> None:
    """After the one above: under another name, with another root; pods join it when they are made anew."""
    install(cluster, namespace="aks-istio-system", revision="asm-1-24")
    cluster.label("Namespace", "shop", {"istio.io/rev": "asm-1-24"})
    for name in ("server", "client"):
        cluster.delete("Pod", pod_of(cluster, name, "shop")["metadata"]["name"], "shop")
    wait_for_deployments(cluster)
    pod = pod_of(cluster, "server", "shop")
    assert pod["metadata"]["annotations"]["istio.io/rev"] == "asm-1-24"
    cluster.apply(policy("STRICT", "aks-istio-system"))
    wait_for("the refusal", lambda: ask(cluster, "legacy") == REFUSED)
    wait_for("mTLS", lambda: ask(cluster, "shop") == ANSWERED)
    uninstall(cluster)
