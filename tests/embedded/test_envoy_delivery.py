"""How configuration reaches real Envoys, and what becomes known of what they think of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.embedded.controlplane.rejections import words_of
from labkit.embedded.controlplane.syncz import syncz
from tests.embedded.envoy_world import Mesh, curl, http_status, wait_for

HTTP = 8080
SERVER = ("foo", "httpbin")


@pytest.fixture(scope="module")
def running() -> Iterator[Mesh]:
    with Mesh("delivery") as world:
        world.server("httpbin", http=(HTTP,))
        world.pod("sleep")
        world.push()
        yield world


@pytest.fixture
def mesh(running: Mesh) -> Iterator[Mesh]:
    yield running
    running.no_policy()
    wait_for("plaintext", lambda: curl(running.ip("httpbin"), HTTP).status == 200)


def status_of(mesh: Mesh, pod: str = "httpbin") -> Any:
    return next(one for one in syncz(mesh.xds, mesh.state.sidecars) if one["proxy"] == f"{pod}.foo")["types"]


def statuses(mesh: Mesh, pod: str = "httpbin") -> dict[str, str]:
    return {name: one["status"] for name, one in status_of(mesh, pod).items()}


def inotify_instances(process: int) -> int:
    return sum("inotify" in str(fd.readlink()) for fd in Path(f"/proc/{process}/fd").iterdir())


def spoil(mesh: Mesh, pod: str = "httpbin") -> Any:
    """Write listeners that Envoy must reject; what gives them back."""
    path = mesh.delivery.directory(("foo", pod)) / "lds.json"
    good = mesh.delivery.read(path) or {}
    bad = [{**one, "filter_chains": [{"filters": [{"name": "no.such"}]}]} for one in good["resources"]]
    mesh.delivery.write(path, {**good, "resources": bad})
    return lambda: mesh.delivery.write(path, good)


def test_a_sidecar_watches_no_file(mesh: Mesh) -> None:
    """Each would cost one of the user's inotify instances, of which Linux gives 128."""
    assert {inotify_instances(sidecar.process.pid) for sidecar in mesh.sidecars.values()} == {0}


def test_every_type_is_synced_and_envoy_names_the_same_version(mesh: Mesh) -> None:
    wait_for("every type", lambda: set(statuses(mesh).values()) == {"SYNCED"})
    dump = json.loads(mesh.sidecars["httpbin"].admin("config_dump"))["configs"]
    listeners = next(each for each in dump if each["@type"].endswith("ListenersConfigDump"))
    clusters = next(each for each in dump if each["@type"].endswith("ClustersConfigDump"))
    told = status_of(mesh)
    assert told["LDS"]["acked"] == listeners["version_info"]
    assert told["CDS"]["acked"] == clusters["version_info"]
    assert told["LDS"]["acked_at"] >= told["LDS"]["written_at"]


def test_a_stopped_proxy_is_stale_and_holds_nobody_up(mesh: Mesh) -> None:
    import signal

    process = mesh.sidecars["sleep"].process
    process.send_signal(signal.SIGSTOP)
    try:
        mesh.policy("STRICT")
        wait_for("STRICT", lambda: curl(mesh.ip("httpbin"), HTTP).exit_code == 56, seconds=3)
        assert statuses(mesh, "sleep")["LDS"] == "STALE"
        wait_for("the others", lambda: statuses(mesh)["LDS"] == "SYNCED")
    finally:
        process.send_signal(signal.SIGCONT)
    wait_for("it to catch up", lambda: statuses(mesh, "sleep")["LDS"] == "SYNCED")


def test_what_envoy_rejects_is_an_error_with_its_words_and_the_old_stays_in_force(mesh: Mesh) -> None:
    before = len(mesh.rejections)
    restore = spoil(mesh)
    try:
        wait_for("the error", lambda: statuses(mesh)["LDS"] == "ERROR" and len(mesh.rejections) > before)
        assert mesh.rejections[before:] == [("httpbin", "listeners", ())]
        assert "no.such" in words_of(mesh.sidecars["httpbin"].printed(), "listeners")
        assert words_of(mesh.sidecars["httpbin"].printed(), "clusters") == ""
        assert curl(mesh.ip("httpbin"), HTTP).status == 200
        assert statuses(mesh, "sleep")["LDS"] == "SYNCED"
    finally:
        restore()
    wait_for("peace", lambda: statuses(mesh)["LDS"] == "SYNCED")


def test_what_was_rejected_is_offered_again_and_said_once(mesh: Mesh) -> None:
    """The cause may be outside, such as a port that an application held."""
    before = len(mesh.rejections)
    restore = spoil(mesh)

    def rejected() -> int:
        return mesh.sidecars["httpbin"].counters("lds.update_rejected")["listener_manager.lds.update_rejected"]

    try:
        wait_for("the error", lambda: statuses(mesh)["LDS"] == "ERROR")
        first = rejected()
        wait_for("another offer", lambda: rejected() > first, seconds=4)
        assert len(mesh.rejections) == before + 1
    finally:
        restore()
    wait_for("peace", lambda: statuses(mesh)["LDS"] == "SYNCED")


def test_the_object_whose_change_is_rejected_is_known(mesh: Mesh) -> None:
    """A filter that Envoy does not know, by EnvoyFilter, which the control plane passes on as it stands."""
    patch = {
        "applyTo": "NETWORK_FILTER",
        "match": {"context": "SIDECAR_INBOUND"},
        "patch": {"operation": "INSERT_FIRST", "value": {"name": "no.such.filter"}},
    }
    bad = {
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "bad", "namespace": "foo", "creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u1"},
        "spec": {"workloadSelector": {"labels": {"app": "httpbin"}}, "configPatches": [patch]},
    }
    before = len(mesh.rejections)
    mesh.state.on_config("EnvoyFilter", "ADDED", bad)
    mesh.push()
    try:
        wait_for("the rejection", lambda: len(mesh.rejections) > before)
        pod, kind, because = mesh.rejections[-1]
        assert (pod, kind) == ("httpbin", "listeners")
        (cause,) = because
        assert (cause.kind, cause.namespace, cause.name, cause.uid) == ("EnvoyFilter", "foo", "bad", "u1")
        assert curl(mesh.ip("httpbin"), HTTP).status == 200, "the last good configuration stays"
    finally:
        mesh.state.on_config("EnvoyFilter", "DELETED", bad)
        mesh.push()
    wait_for("peace", lambda: statuses(mesh)["LDS"] == "SYNCED")


def test_without_istiod_proxies_go_on_quietly_and_the_next_one_changes_nothing(mesh: Mesh) -> None:
    process = mesh.sidecars["httpbin"].process.pid
    acked = status_of(mesh)["LDS"]["acked"]
    mesh.istiod_leaves()
    ticks = cpu_ticks(process)
    time.sleep(2)
    assert cpu_ticks(process) - ticks < 40, "a proxy that finds nobody must not ask without a pause"
    assert curl(mesh.ip("httpbin"), HTTP).status == 200
    attempts = mesh.sidecars["httpbin"].counters("lds.update_")
    mesh.istiod_returns()
    wait_for("all to be back", lambda: set(statuses(mesh).values()) == {"SYNCED"})
    assert status_of(mesh)["LDS"]["acked"] == acked
    after = mesh.sidecars["httpbin"].counters("lds.update_")
    assert after["listener_manager.lds.update_success"] == attempts["listener_manager.lds.update_success"]
    mesh.policy("STRICT")
    wait_for("STRICT", lambda: curl(mesh.ip("httpbin"), HTTP).exit_code == 56)


def cpu_ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_proxy_that_starts_while_istiod_is_away_is_alive_and_gets_ready_later(mesh: Mesh) -> None:
    mesh.istiod_leaves()
    pod = mesh.pod("early", wait=False, known=False)
    wait_for("envoy", lambda: http_status(mesh.ip("early"), 15090, "/stats/prometheus") == 200)
    assert http_status(mesh.ip("early"), 15021, "/healthz/ready") == 0
    mesh.state.on_pod("ADDED", pod)
    mesh.istiod_returns()
    mesh.wait_ready("early")
    printed = mesh.sidecars["early"].printed()
    assert printed.count("failed") < 200, "it asks with pauses"


def test_who_is_another_user_or_no_proxy_gets_nothing(mesh: Mesh) -> None:
    import subprocess

    ask = ["curl", "-q", "-s", "--max-time", "3", "--unix-socket", str(mesh.socket), "-w", "%{http_code}"]
    body = ["-H", "content-type: application/json", "-d", "{}", "http://x/v3/discovery:secrets"]
    assert subprocess.run([*ask, *body], capture_output=True, text=True).stdout.endswith("400")
    assert mesh.socket.stat().st_mode & 0o777 == 0o600
    assert mesh.socket.parent.stat().st_mode & 0o777 == 0o700
