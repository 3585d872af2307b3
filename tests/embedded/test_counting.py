"""What proxies counted outlives a change of their configuration, and is counted once for all listeners."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.embedded.envoy_world import Mesh, curl, wait_for
from tests.embedded.test_metrics import HTTP, count, from_the_mesh


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Mesh("counting") as mesh:
        mesh.server("httpbin", http=(HTTP,))
        mesh.pod("sleep")
        mesh.push()
        wait_for("the service", lambda: from_the_mesh(mesh).status == 200)
        yield mesh


def protected(mesh: Mesh, policy: str) -> float:
    return count(mesh, "httpbin", reporter="destination", connection_security_policy=policy)


def test_a_change_of_policy_loses_no_count(mesh: Mesh) -> None:
    assert curl(mesh.ip("httpbin"), HTTP, "/").status == 200
    wait_for("the plaintext request", lambda: protected(mesh, "none") == 1)
    encrypted = protected(mesh, "mutual_tls")
    mesh.policy("STRICT")
    mesh.settled("httpbin", lambda listener: "raw_buffer" not in json.dumps(listener))
    assert curl(mesh.ip("httpbin"), HTTP, "/").exit_code == 56
    for number in range(1, 4):
        assert from_the_mesh(mesh).status == 200
        wait_for("the request over mTLS", lambda number=number: protected(mesh, "mutual_tls") == encrypted + number)
    # Connections of before are drained by now; what their filters counted is still there.
    wait_for(
        "the old filters to go",
        lambda: not any(mesh.sidecars["httpbin"].counters("listener_manager.total_.*_draining").values()),
        60,
    )
    assert (protected(mesh, "none"), protected(mesh, "mutual_tls")) == (1, encrypted + 3)
    mesh.no_policy()
    wait_for("plaintext again", lambda: curl(mesh.ip("httpbin"), HTTP, "/").status == 200)
    wait_for("both counts", lambda: protected(mesh, "none") >= 2)


def test_a_restarted_proxy_begins_at_zero(mesh: Mesh) -> None:
    assert protected(mesh, "mutual_tls") > 0
    mesh.sidecars["httpbin"].process.terminate()
    mesh.sidecars["httpbin"].process.wait(10)
    mesh.restart_proxy("httpbin")
    assert protected(mesh, "mutual_tls") == 0
