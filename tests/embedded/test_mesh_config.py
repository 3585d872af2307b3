"""The settings of the mesh on a whole cluster, as an IstioOperator gives them, and changed while it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.installers import install, uninstall
from labkit.lab import Lab
from labkit.policy.workload import is_ready
from tests.embedded.test_controlplane import SERVICE, deployment, policy, wait_for, wait_for_deployments

NAME = "configured"
OPERATOR: dict[str, Any] = {
    "apiVersion": "install.istio.io/v1alpha1",
    "kind": "IstioOperator",
    "spec": {
        "profile": "minimal",
        "meshConfig": {
            "trustDomain": "corp.example",
            "accessLogFile": "",
            "defaultConfig": {"proxyMetadata": {"MOOD": "calm"}, "holdApplicationUntilProxyStarts": True},
        },
        "components": {"pilot": {"k8s": {"env": [{"name": "DEFAULT_WORKLOAD_CERT_TTL", "value": "1h"}]}}},
    },
}


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def cluster(said: list[str]) -> Iterator[Cluster]:
    """A mesh that was installed with an IstioOperator; a client and a server in it."""
    lifecycle.down(NAME, purge=True)
    cluster = Cluster(NAME, kubeconfig=lifecycle.up(NAME), is_embedded=True)
    try:
        install(cluster, values=OPERATOR, on_progress=said.append)
        cluster.create_namespace("shop", {"istio.io/rev": "default"})
        cluster.apply([deployment("server", "shop"), deployment("client", "shop"), SERVICE])
        wait_for_deployments(cluster)
        yield cluster
    finally:
        cluster.close()
        lifecycle.down(NAME, purge=True)


def operator(**mesh: Any) -> dict[str, Any]:
    """The same installation with other settings of the mesh."""
    spec = {**OPERATOR["spec"], "meshConfig": {**OPERATOR["spec"]["meshConfig"], **mesh}}
    return {**OPERATOR, "spec": spec}


def pods(cluster: Cluster, app: str, namespace: str = "shop") -> list[dict[str, Any]]:
    found = cluster.objects("Pod", namespace, labels={"app": app})
    return [one for one in found if "deletionTimestamp" not in one["metadata"] and is_ready(one)]


def inside(cluster: Cluster, app: str, *command: str, container: str = "istio-proxy") -> str:
    (pod,) = pods(cluster, app)
    return cluster.execute(pod["metadata"]["name"], "shop", list(command), container=container).stdout


def ask(cluster: Cluster) -> str:
    url = "http://server.shop:5000/healthz"
    return inside(cluster, "client", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url, container="app")


def holds(what: str, is_so: Callable[[], bool]) -> None:
    wait_for(what, is_so)
    assert is_so(), "it does not only pass by"


def test_certificates_have_the_trust_domain_and_the_life_that_were_asked_for(cluster: Cluster) -> None:
    certificates = json.loads(inside(cluster, "client", "pilot-agent", "request", "GET", "certs"))["certificates"]
    chains = [one for certificate in certificates for one in certificate["cert_chain"]]
    names = {name["uri"] for chain in chains for name in chain["subject_alt_names"]}
    assert names == {"spiffe://corp.example/ns/shop/sa/default"}
    for chain in chains:
        left = datetime.fromisoformat(chain["expiration_time"]) - datetime.now(UTC)
        assert timedelta(minutes=25) <= left <= timedelta(hours=1)
    assert ask(cluster) == "200"


def test_new_proxies_are_started_with_the_default_configuration(cluster: Cluster) -> None:
    assert inside(cluster, "client", "sh", "-c", "echo $MOOD") == "calm\n"
    (pod,) = pods(cluster, "client")
    assert [one["name"] for one in pod["spec"]["containers"]] == ["istio-proxy", "app"], "held back until it is there"


def logged(cluster: Cluster) -> int:
    (pod,) = pods(cluster, "server")
    return cluster.logs(pod["metadata"]["name"], "shop", container="istio-proxy").count("GET /healthz")


def test_the_access_log_is_switched_on_while_the_proxies_run(cluster: Cluster) -> None:
    assert ask(cluster) == "200"
    assert logged(cluster) == 0
    install(cluster, values=operator(accessLogFile="/dev/stdout"))
    wait_for("a line for a request", lambda: ask(cluster) == "200" and logged(cluster) > 0)
    install(cluster, values=operator())

    def silent() -> bool:
        before = logged(cluster)
        return ask(cluster) == "200" and logged(cluster) == before

    holds("silence", silent)


def test_without_auto_mtls_clients_send_plaintext_which_strict_refuses(cluster: Cluster) -> None:
    cluster.apply(policy("STRICT"))
    try:
        assert ask(cluster) == "200"
        install(cluster, values=operator(enableAutoMtls=False))
        holds("plaintext", lambda: ask(cluster) == "503")
        install(cluster, values=operator())
        holds("mTLS", lambda: ask(cluster) == "200")
    finally:
        cluster.delete("PeerAuthentication", "default", "shop")


def test_the_request_after_a_change_of_settings_meets_them_and_leaving_puts_them_back(cluster: Cluster) -> None:
    lab = Lab(cluster)
    before = lab.mesh_config()
    cluster.apply(policy("STRICT"))
    try:
        wait_for("mTLS", lambda: ask(cluster) == "200")
        done = lab.configure_mesh(operator(), set=["meshConfig.enableAutoMtls=false", "meshConfig.dnsRefreshRate=60s"])
        assert ask(cluster) == "503"
        assert lab.mesh_config() == {**before, "enableAutoMtls": False, "dnsRefreshRate": "60s"}
        assert any("/istio configured" in line for line in done.lines)
        assert done.warnings == ("meshConfig.dnsRefreshRate has no effect on the embedded mesh",)
        assert done.kubectl == (
            "istioctl install -f operator.yaml --set meshConfig.enableAutoMtls=false "
            "--set meshConfig.dnsRefreshRate=60s -y",
        )
        lab.leave()
        assert lab.mesh_config() == before
        wait_for("mTLS again", lambda: ask(cluster) == "200")
        lab.configure_mesh(operator())
        assert "so already" in str(lab.configure_mesh(operator()))
    finally:
        cluster.delete("PeerAuthentication", "default", "shop")


def test_a_shell_does_the_same(cluster: Cluster) -> None:
    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(main, ["mesh", *arguments, "--cluster", f"embedded:{NAME}", "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    trust = ("--set", "meshConfig.trustDomain=corp.example")
    changed = run("configure", *trust, "--set", "meshConfig.accessLogFile=/dev/null")
    assert any("/istio configured" in line for line in changed["changes"])
    assert run("config")["accessLogFile"] == "/dev/null"
    gone = [line for line in changed["changes"] if "not named any more" in line]
    assert any("proxyMetadata.MOOD=calm" in line for line in gone), "the operator's own"
    assert not any("accessLogFile" in line or "trustDomain" in line for line in gone), "they are named"
    again = run("configure", *trust, "--set", "meshConfig.accesslogfile=/dev/null")
    (said,) = [line for line in again["changes"] if "not named any more" in line]
    assert said == "meshConfig.accessLogFile=/dev/null is not named any more, so it is at its default"
    assert "did you mean meshConfig.accessLogFile?" in again["warnings"][0]
    install(cluster, values=operator())
    assert run("config")["accessLogFile"] == ""


def test_namespaces_without_a_label_can_be_injected_by_default(cluster: Cluster) -> None:
    cluster.create_namespace("plain")

    def proxies() -> list[bool]:
        found = cluster.objects("Pod", "plain", labels={"app": "web"})
        return [len(one["spec"]["containers"]) == 2 for one in found if "deletionTimestamp" not in one["metadata"]]

    cluster.apply(deployment("web", "plain"))
    wait_for("a pod without a proxy", lambda: proxies() == [False])
    webhook = {"sidecarInjectorWebhook": {"enableNamespacesByDefault": True}}
    install(cluster, values={**operator(), "spec": {**operator()["spec"], "values": webhook}})
    for pod in cluster.objects("Pod", "plain", labels={"app": "web"}):
        cluster.delete("Pod", pod["metadata"]["name"], "plain")
    wait_for("a pod with a proxy", lambda: proxies() == [True])


def test_what_has_no_effect_is_said_and_the_rest_is_not(cluster: Cluster, said: list[str]) -> None:
    assert not [line for line in said if "no effect" in line]
    install(cluster, values=operator(dnsRefreshRate="60s"), on_progress=said.append)
    assert [line for line in said if "no effect" in line] == [
        "meshConfig.dnsRefreshRate has no effect on the embedded mesh."
    ]


def test_a_mesh_that_was_installed_so_is_gone_after_leaving_with_its_gateway(cluster: Cluster) -> None:
    uninstall(cluster)
    lab = Lab(cluster)
    lab.configure_mesh(set=["profile=default", "meshConfig.trustDomain=other.example"])
    assert lab.mesh_config()["trustDomain"] == "other.example"
    assert cluster.find("Deployment", "istio-ingressgateway", "istio-system") is not None
    lab.leave()
    assert cluster.find("Namespace", "istio-system") is None
    assert not cluster.objects("CustomResourceDefinition")
