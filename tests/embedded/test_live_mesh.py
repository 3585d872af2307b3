"""The live map on a whole cluster: what it sees while modes change, traffic flows and pods come and go."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.embedded import lifecycle
from labkit.errors import InputError
from labkit.lab import Lab, open
from labkit.live.sender import Orders
from labkit.observe.objects import find_workload
from labkit.observe.settling import wait_until_settled
from labkit.views.map import EdgeState, MapEdge
from labkit.widgets.live_map import LiveMap

NAME = "live"
CLIENT, SERVER, OUTSIDE = "mesh/client", "mesh/server", "default/outside"
URL = "http://server.mesh:8080/"

WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - name: app
          image: {image}
          command: {command}
          env: [{{name: CALLS, value: "http://server.mesh:8080"}}]
          ports: [{{containerPort: 8080}}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: server, namespace: mesh}
spec: {selector: {app: server}, ports: [{name: http, port: 8080, targetPort: 8080}]}
"""
SERVE = '["python3", "-m", "http.server", "8080"]'
SLEEP = '["sleep", "infinity"]'


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lifecycle.down(NAME, purge=True)
    with open(f"embedded:{NAME}", narrate=lambda _: None) as lab:
        lab.install_mesh()
        lab.create_namespace("mesh", {"istio.io/rev": "default"})
        lab.apply(SERVICE)
        for name, namespace, command in (
            ("server", "mesh", SERVE),
            ("client", "mesh", SLEEP),
            ("outside", "default", SLEEP),
        ):
            image = "python:3.12-slim" if name == "server" else "curlimages/curl:8.10.1"
            lab.apply(WORKLOAD.format(name=name, namespace=namespace, command=command, image=image))
        for name in (SERVER, CLIENT, OUTSIDE):
            lab.wait_until_ready(name)
        yield lab
    lifecycle.down(NAME, purge=True)


@pytest.fixture(scope="module")
def live(lab: Lab) -> Iterator[LiveMap]:
    shown = lab.live_map("mesh", "default", special=False)
    shown.start()
    yield shown
    shown.close()


@pytest.fixture(autouse=True)
def _permissive(lab: Lab, live: LiveMap) -> None:
    lab.stop_traffic()
    lab.reset_knobs()
    lab.set_mtls_mode("PERMISSIVE", "mesh")
    wait_for(lambda: edge(live, OUTSIDE).observed is EdgeState.PLAINTEXT and not edge(live, OUTSIDE).disagrees)
    wait_for(lambda: edge(live, CLIENT).observed is EdgeState.MTLS)


def wait_for(reached: Callable[[], Any], limit: float = 20) -> float:
    started = time.monotonic()
    while not reached():
        assert time.monotonic() - started < limit, "it did not come about"
        time.sleep(0.01)  # the widget's traits have no watch of their own here
    return time.monotonic() - started


def edge(live: LiveMap, client: str) -> MapEdge:
    return next(one for one in live.view.model.edges if (one.client, one.server) == (client, SERVER))


def word(live: LiveMap, client: str) -> str:
    return str(live.styles["edges"][edge(live, client).id]["word"])


def test_strict_is_seen_declared_and_observed_and_the_layout_stays(lab: Lab, live: LiveMap) -> None:
    picture = live.svg
    lab.set_mtls_mode("STRICT", "mesh")
    wait_for(lambda: word(live, OUTSIDE) == "refused")
    wait_for(lambda: edge(live, OUTSIDE).observed is EdgeState.REFUSED)
    assert "curl exit 56" in edge(live, OUTSIDE).seen and "mesh/default" in edge(live, OUTSIDE).decided_by
    wait_for(lambda: edge(live, CLIENT).observed is EdgeState.MTLS)
    assert not edge(live, OUTSIDE).disagrees and live.svg == picture
    wait_for(lambda: "PeerAuthentication mesh/default changed: STRICT" in live.timeline)


def test_a_port_is_opened_while_the_namespace_is_strict(lab: Lab, live: LiveMap) -> None:
    lab.set_mtls_mode("STRICT", "mesh")
    wait_for(lambda: edge(live, OUTSIDE).observed is EdgeState.REFUSED)
    done = lab.set_mtls_mode("DISABLE", "mesh", workload="server", port=8080)
    assert "portLevelMtls" in done.manifest and "selector" in done.manifest
    wait_for(lambda: edge(live, OUTSIDE).observed is EdgeState.PLAINTEXT)
    lab.delete("peerauthentication/server", "mesh")
    wait_for(lambda: edge(live, OUTSIDE).observed is EdgeState.REFUSED)


def test_a_port_without_a_workload_is_refused(lab: Lab) -> None:
    with pytest.raises(InputError, match="set for a workload"):
        lab.set_mtls_mode("DISABLE", "mesh", port=8080)
    with pytest.raises(InputError, match="Did you mean 'STRICT'"):
        lab.set_mtls_mode("strict", "mesh")


def test_a_client_that_is_told_plaintext_is_refused_by_strict(lab: Lab, live: LiveMap) -> None:
    lab.set_mtls_mode("STRICT", "mesh")
    lab.set_client_tls("DISABLE", "mesh/server")
    wait_for(lambda: edge(live, CLIENT).observed is EdgeState.REFUSED)
    assert "503" in edge(live, CLIENT).seen
    lab.set_client_tls("", "mesh/server")
    wait_for(lambda: edge(live, CLIENT).observed is EdgeState.MTLS)


def test_traffic_is_counted_by_how_it_is_carried(lab: Lab, live: LiveMap) -> None:
    for client in (CLIENT, OUTSIDE):
        lab.start_traffic(client, URL, rps=10)
    wait_for(lambda: edge(live, OUTSIDE).counts.plaintext >= 20)
    wait_for(lambda: edge(live, CLIENT).counts.mtls >= 20)
    assert edge(live, OUTSIDE).counts.state is EdgeState.PLAINTEXT and edge(live, CLIENT).counts.success == 1.0
    lab.set_mtls_mode("STRICT", "mesh")
    wait_for(lambda: edge(live, OUTSIDE).counts.refused >= 10)
    assert edge(live, OUTSIDE).counts.plaintext == 0  # nothing of before the change
    assert len(lab.traffic()) == 2
    lab.stop_traffic()
    wait_for(lambda: not edge(live, OUTSIDE).counts.total, limit=30)
    assert len(lab.traffic()) == 0


def test_traffic_that_nobody_can_send_is_refused(lab: Lab) -> None:
    with pytest.raises(InputError, match="no Deployment or pod"):
        lab.start_traffic("mesh/nobody", URL)
    with pytest.raises(InputError, match="cannot be sent"):
        lab.live.start_traffic(Orders(CLIENT, URL, rps=0))


def test_the_side_panel_asks_both_proxies(live: LiveMap) -> None:
    live.select(CLIENT, SERVER)
    wait_for(lambda: live.panel.count("spiffe://cluster.local/ns/mesh/sa/default") == 2)
    assert "TLSv1.3" in live.panel and "HTTP 200" in live.panel
    live.selected = ""


def test_the_side_panel_tells_what_response_flags_mean(lab: Lab, live: LiveMap) -> None:
    def asked() -> bool:
        live.selected = ""
        live.select(CLIENT, SERVER)
        wait_for(lambda: "Ask yourself" in live.panel)
        return "Response flags" in live.panel

    lab.set_mtls_mode("STRICT", "mesh")
    lab.set_client_tls("DISABLE", "mesh/server")
    wait_for(lambda: edge(live, CLIENT).observed is EdgeState.REFUSED)
    wait_for(asked)  # a proxy's page of metrics follows its answers by a moment
    assert "UC ×" in live.panel and "plaintext at a STRICT port" in live.panel
    live.selected = ""


def test_a_pod_on_its_way_out_is_not_waited_for(lab: Lab) -> None:
    def never(*_: object) -> str:
        return "a mode that nobody runs"

    pods = find_workload(lab.cluster, CLIENT).pods
    assert wait_until_settled(lab.cluster, pods, never, limit=0.5) != []
    lab.restart(CLIENT)
    assert wait_until_settled(lab.cluster, pods, never, limit=0.5) == []


def test_a_sidecar_is_taken_and_given_back(lab: Lab, live: LiveMap) -> None:
    picture = live.svg
    lab.set_injection(False, "mesh", workload="client")
    wait_for(lambda: edge(live, CLIENT).observed is EdgeState.PLAINTEXT)
    node = next(one for one in live.view.model.nodes if one.id == CLIENT)
    assert node.injected is False
    lab.set_injection(True, "mesh", workload="client")
    wait_for(lambda: edge(live, CLIENT).observed is EdgeState.MTLS)
    assert live.svg == picture  # the workload stays where it is


def test_the_controls_follow_and_turn(lab: Lab, live: LiveMap) -> None:
    panel = lab.controls("mesh", "default")
    panel.start()
    buttons, _ = panel._knobs["mode", "mesh", "", None]
    try:
        lab.set_mtls_mode("STRICT", "mesh")
        wait_for(lambda: buttons.value == "STRICT")
        buttons.value = "PERMISSIVE"
        wait_for(lambda: edge(live, OUTSIDE).observed is EdgeState.PLAINTEXT)
        assert lab.mtls_mode("mesh") == "PERMISSIVE" and "mode: PERMISSIVE" in panel.result.value
    finally:
        panel.close()


def test_it_follows_again_after_a_restart_of_the_cluster(lab: Lab, live: LiveMap) -> None:
    lifecycle.down(NAME)
    wait_for(lambda: live.lost)
    lifecycle.up(NAME)
    wait_for(lambda: not live.lost, limit=30)
    wait_for(lambda: edge(live, CLIENT).observed is EdgeState.MTLS, limit=40)
    lab.wait_until_ready(SERVER)


def test_what_the_metrics_cannot_name_is_unknown_when_asked_for(lab: Lab, live: LiveMap) -> None:
    lab.start_traffic(OUTSIDE, URL, rps=10)
    live.resolve = False
    try:
        wait_for(lambda: any(one.client == "unknown" and one.counts.plaintext for one in live.view.model.edges))
    finally:
        live.resolve = True
    wait_for(lambda: all(one.client != "unknown" for one in live.view.model.edges))
    seen = live.view.mesh.counted()  # type: ignore[attr-defined]
    assert seen[OUTSIDE, SERVER].plaintext > 0


def test_the_map_and_the_modes_from_a_shell(lab: Lab, tmp_path: Path) -> None:
    def run(*arguments: str, ends: int = 0) -> str:
        answer = CliRunner().invoke(main, [*arguments, "--cluster", f"embedded:{NAME}"])
        assert answer.exit_code == ends, answer.output
        return answer.output

    assert "mode: STRICT" in run("mode", "strict", "mesh")
    shown = json.loads(run("map", "mesh", "default", "--json"))
    states = {(edge["client"], edge["server"]): edge["state"] for edge in shown["edges"]}
    assert states == {(CLIENT, SERVER): "mTLS", (OUTSIDE, SERVER): "refused"}
    assert {edge["seen"] for edge in shown["edges"]} == {"-"}
    metered = json.loads(run("map", "mesh", "default", "--counted", "--json"))
    inside = next(edge for edge in metered["edges"] if edge["client"] == CLIENT)
    assert re.search(r"\d+ mTLS", inside["seen"])
    assert "unknown" not in {edge["client"] for edge in metered["edges"]}
    bare = json.loads(run("map", "mesh", "default", "--counted", "--as-metrics-see", "--json"))
    assert "unknown" in {edge["client"] for edge in bare["edges"]}
    picture = tmp_path / "map.png"
    assert "Written to" in run("map", "mesh", "--output", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("map", "mesh", "--dot").startswith("digraph")
    assert "set for a workload" in run("mode", "strict", "mesh", "--port", "8080", ends=2)
    run("mode", "bent", "mesh", ends=2)
