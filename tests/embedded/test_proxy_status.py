"""Which configuration each proxy runs, on a whole cluster, and what is said of one that Envoy rejects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

import labkit
from labkit.cli import main
from labkit.cluster import Cluster
from labkit.embedded import lifecycle
from labkit.errors import MeshError
from labkit.installers import install
from labkit.observe import istiod
from labkit.observe.proxies import ProxyStatus, proxy_statuses
from tests.embedded.test_controlplane import SERVICE, deployment, wait_for

NAME = "status"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    lifecycle.down(NAME, purge=True)
    made = Cluster(NAME, kubeconfig=lifecycle.up(NAME), is_embedded=True)
    try:
        with pytest.raises(MeshError, match="No mesh"):
            proxy_statuses(made)
        install(made)
        made.create_namespace("shop", {"istio.io/rev": "default"})
        made.apply([deployment("server", "shop"), deployment("client", "shop"), SERVICE])
        wait_for("both proxies", lambda: [one.synced for one in proxy_statuses(made)] == [True, True])
        yield made
    finally:
        made.close()
        lifecycle.down(NAME, purge=True)


def envoy_filter(name: str = "bad") -> dict[str, Any]:
    """A filter that no Envoy has, for the server alone."""
    patch = {
        "applyTo": "NETWORK_FILTER",
        "match": {"context": "SIDECAR_INBOUND"},
        "patch": {"operation": "INSERT_FIRST", "value": {"name": "no.such.filter"}},
    }
    return {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"workloadSelector": {"labels": {"app": "server"}}, "configPatches": [patch]},
    }


def status_of(cluster: Cluster, app: str) -> ProxyStatus:
    return next(one for one in proxy_statuses(cluster) if one.name.startswith(app))


def when_it_succeeds(*command: str) -> Result:
    """The result of a command that ends with 0 as soon as all is quiet."""
    done: list[Result] = []

    def succeeded() -> bool:
        done.append(CliRunner().invoke(main, list(command)))
        return done[-1].exit_code == 0

    wait_for("labkit " + " ".join(command), succeeded)
    return done[-1]


def test_the_command_and_the_notebook_say_the_same(cluster: Cluster) -> None:
    # Both may have been told of each other's endpoints just now.
    done = when_it_succeeds("proxy-status", "--cluster", f"embedded:{NAME}")
    with labkit.open(f"embedded:{NAME}", narrate=lambda _: None) as lab:
        table = lab.proxy_status()
    assert list(table.columns) == ["NAME", "CLUSTER", "CDS", "LDS", "SDS", "ISTIOD", "VERSION"]
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["NAME", *table["NAME"]]
    assert all(name.endswith(".shop") for name in table["NAME"])
    assert all(cell.startswith("SYNCED (") for kind in ("CDS", "LDS", "SDS") for cell in table[kind])


def test_a_rejected_update_is_an_error_an_event_and_nothing_else(cluster: Cluster) -> None:
    cluster.apply(envoy_filter())
    try:
        wait_for("the words", lambda: bool(status_of(cluster, "server").errors))
        assert status_of(cluster, "server").statuses["LDS"] == "ERROR"
        assert "no.such.filter" in status_of(cluster, "server").errors["LDS"]
        assert status_of(cluster, "client").synced
        wait_for("the event", lambda: bool(events(cluster)))
        (event,) = events(cluster)
        assert event["involvedObject"]["kind"] == "EnvoyFilter"
        assert event["involvedObject"]["uid"] == cluster.get("EnvoyFilter", "bad", "shop")["metadata"]["uid"]
        assert "no.such.filter" in event["message"]
        done = CliRunner().invoke(main, ["proxy-status", "--cluster", f"embedded:{NAME}"])
        assert done.exit_code == 1
        assert "no.such.filter" in done.stdout
        done = CliRunner().invoke(main, ["proxy-status", "server", "-n", "shop", "--cluster", f"embedded:{NAME}"])
        assert done.exit_code == 1
        assert done.stdout.startswith(
            "Clusters Match\nListeners Don't Match\n--- Istiod Listeners\n+++ Envoy Listeners\n"
        )
        assert '-                  "name": "no.such.filter"' in done.stdout
    finally:
        cluster.delete("EnvoyFilter", "bad", "shop")
    wait_for("peace", lambda: status_of(cluster, "server").synced)


def test_what_istiod_wants_is_what_the_proxy_runs(cluster: Cluster) -> None:
    done = when_it_succeeds("proxy-status", "deploy/client", "-n", "shop", "--cluster", f"embedded:{NAME}")
    assert done.stdout == "Clusters Match\nListeners Match\nRoutes Match\n"


def test_an_istiod_that_the_service_does_not_lead_to_is_asked_by_a_port_forward(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(istiod, "by_service", lambda *_: (401, ""))  # as Istio's own
    wait_for("both proxies", lambda: [one.synced for one in proxy_statuses(cluster)] == [True, True])
    assert all(one.istiod.startswith("istiod-") for one in proxy_statuses(cluster))
    (found,) = cluster.objects("Deployment", labels={"app": "istiod"})
    with pytest.raises(MeshError, match="does not answer") as raised:
        istiod.ask_istiod(cluster, found, "config_dump", {"proxyID": "nobody.shop"})
    assert "404 Proxy not connected" in str(raised.value.meaning)


def events(cluster: Cluster) -> list[dict[str, Any]]:
    return [one for one in cluster.objects("Event", "shop") if one["reason"] == "RejectedByProxy"]
