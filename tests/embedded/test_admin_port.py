"""Port 15000 of a pod: Envoy's admin interface, for whoever is inside of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from labkit.embedded.addresses import inside_ip
from labkit.embedded.controlplane import agent
from labkit.embedded.controlplane.translation.bootstrap import ADMIN_PORT, ADMIN_REFUSAL, inside_of
from tests.embedded.envoy_world import Curled, Mesh, curl, wait_for


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    """A sidecar and a gateway."""
    with Mesh("admin") as mesh:
        mesh.pod("web", ports=(8001,))
        mesh.pod("door", gateway=True)
        yield mesh


def admin(mesh: Mesh, path: str, *options: str, pod: str = "web") -> Curled:
    return curl(inside_ip(mesh.ip(pod)), ADMIN_PORT, path, *options)


def test_the_bootstrap_knows_the_address_plan() -> None:
    assert inside_of("127.64.7.1") == inside_ip("127.64.7.1")


@pytest.mark.parametrize("pod", ["web", "door"])
def test_everything_can_be_read(mesh: Mesh, pod: str) -> None:
    dump = json.loads(admin(mesh, "/config_dump?resource=dynamic_listeners", pod=pod).body)
    assert dump == json.loads(mesh.sidecars[pod].admin("config_dump?resource=dynamic_listeners"))
    assert "server.uptime" in admin(mesh, "/stats", pod=pod).body
    assert admin(mesh, "/ready", pod=pod).body.strip() == "LIVE"
    assert admin(mesh, "/server_info", "-I", pod=pod).status == 200


def test_no_private_key_is_shown(mesh: Mesh) -> None:
    everything = admin(mesh, "/config_dump?include_eds").body
    assert "BEGIN CERTIFICATE" in everything
    assert "PRIVATE KEY" not in everything


def test_log_levels_can_be_changed_and_counters_reset(mesh: Mesh) -> None:
    assert "upstream: debug" in admin(mesh, "/logging?upstream=debug", "-X", "POST").body
    assert "upstream: warning" in admin(mesh, "/logging?upstream=warning", "-X", "POST").body
    assert admin(mesh, "/reset_counters", "-X", "POST").body.strip() == "OK"


@pytest.mark.parametrize("path", ["/quitquitquit", "/healthcheck/fail", "/drain_listeners", "/runtime_modify?a=b"])
def test_nothing_that_stops_the_proxy_is_let_through(mesh: Mesh, path: str) -> None:
    refused = admin(mesh, path, "-X", "POST")
    assert (refused.status, refused.body.strip()) == (403, ADMIN_REFUSAL)
    assert admin(mesh, path).status in (400, 405), "Envoy itself asks for POST"
    assert mesh.sidecars["web"].process.poll() is None
    assert curl(mesh.ip("web"), 15021, "/healthz/ready").status == 200


def test_other_pods_do_not_reach_it_at_the_pods_address(mesh: Mesh) -> None:
    assert curl(mesh.ip("web"), ADMIN_PORT, "/config_dump").exit_code == 7
    assert curl(mesh.ip("door"), ADMIN_PORT, "/config_dump").exit_code == 7


def test_inside_of_the_pod_the_agent_can_do_what_the_port_cannot(mesh: Mesh) -> None:
    """`pilot-agent request POST` goes to the admin socket itself."""
    mesh.pod("brief")
    environment = mesh.sidecars["brief"].environment
    assert agent.main(["request", "POST", "healthcheck/fail"], environment) == 0
    wait_for("the proxy to be unready", lambda: curl(mesh.ip("brief"), 15021, "/healthz/ready").status == 503)
    assert agent.main(["request", "POST", "healthcheck/ok"], environment) == 0
    wait_for("it to be ready", lambda: curl(mesh.ip("brief"), 15021, "/healthz/ready").status == 200)
    assert agent.main(["request", "GET", "no/such/page"], environment) == 1
