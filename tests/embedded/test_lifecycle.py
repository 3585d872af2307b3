"""Up, down, status: one supervisor per cluster, adopted, ended exactly."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from labkit.embedded import lifecycle
from labkit.embedded.addresses import node_ip
from labkit.embedded.blocks import API_PORT
from labkit.embedded.paths import ClusterPaths
from labkit.errors import InputError, MachineError


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 15) -> None:
    """Poll until the condition holds, or fail naming what was awaited."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a cluster that is gone after the test."""
    name = f"t{zlib.crc32(request.node.name.encode()):08x}"
    yield name
    lifecycle.down(name, purge=True)


def test_up_answers_with_a_kubeconfig_that_only_its_owner_reads(name: str) -> None:
    kubeconfig = lifecycle.up(name)
    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
    assert stat.S_IMODE(kubeconfig.parent.stat().st_mode) == 0o700
    server = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    assert server.startswith("https://127.")


def test_up_is_idempotent(name: str) -> None:
    first = lifecycle.up(name)
    pid = lifecycle.status(name).pid
    assert lifecycle.up(name) == first
    assert lifecycle.status(name).pid == pid


def test_two_clusters_run_side_by_side(name: str) -> None:
    other = name + "b"
    try:
        lifecycle.up(name)
        lifecycle.up(other)
        one, two = lifecycle.status(name), lifecycle.status(other)
        assert one.running and two.running
        assert one.server != two.server
        lifecycle.down(other)
        assert lifecycle.status(name).running
    finally:
        lifecycle.down(other, purge=True)


def test_down_ends_every_process_that_was_started(name: str) -> None:
    lifecycle.up(name)
    members = lifecycle.processes(name)
    assert members
    lifecycle.down(name)
    assert not [p for p in members if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not lifecycle.status(name).running


def test_down_of_a_cluster_that_does_not_exist_does_nothing() -> None:
    assert lifecycle.down("never-started") == 0


def test_the_cluster_ends_with_the_process_it_was_told_to_follow(name: str) -> None:
    leader = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lifecycle.up(name, until_pid=leader.pid)
    assert lifecycle.status(name).running
    leader.communicate(b"\n")
    wait_for("the cluster to end with its leader", lambda: not lifecycle.status(name).running)
    assert not lifecycle.processes(name)


def test_an_unused_cluster_ends_after_its_idle_time(name: str) -> None:
    lifecycle.up(name, idle_seconds=1.5)
    wait_for("the idle cluster to end", lambda: not lifecycle.status(name).running)
    assert not lifecycle.processes(name)


def test_after_a_kill_the_next_up_starts_anew_and_keeps_the_address(name: str) -> None:
    lifecycle.up(name)
    before = lifecycle.status(name)
    assert before.pid
    os.kill(before.pid, signal.SIGKILL)
    wait_for("the killed supervisor to be gone", lambda: not lifecycle.status(name).running)
    lifecycle.up(name)
    after = lifecycle.status(name)
    assert after.pid != before.pid
    assert after.server == before.server


def test_after_a_kill_down_ends_what_was_left(name: str) -> None:
    lifecycle.up(name)
    members = lifecycle.processes(name)
    pid = lifecycle.status(name).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    lifecycle.down(name)
    assert not [p for p in members if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_a_recorded_pid_that_now_belongs_to_another_process_is_left_alone(name: str) -> None:
    paths = ClusterPaths(name).make()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    paths.pid_file.write_text(json.dumps({"pid": bystander.pid, "create_time": 1.0, "block": 70}))
    lifecycle.down(name)
    assert bystander.poll() is None
    bystander.communicate(b"\n")


def test_a_taken_port_is_one_clear_error(name: str) -> None:
    paths = ClusterPaths(name).make()
    (paths.state_dir / "block").write_text("253")
    with socket.create_server((node_ip(253), API_PORT)), pytest.raises(MachineError) as caught:
        lifecycle.up(name)
    assert str(API_PORT) in caught.value.what
    assert caught.value.next_step
    assert not lifecycle.processes(name)


def test_a_name_that_no_cluster_can_have_is_refused() -> None:
    with pytest.raises(InputError):
        lifecycle.up("No Such Name")


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({"idle_seconds": -1.0}, id="an idle time below zero"),
        pytest.param({"idle_seconds": float("nan")}, id="an idle time that is no number"),
        pytest.param({"until_pid": 2**22 + 1}, id="a process that does not run"),
    ],
)
def test_a_cluster_that_would_end_at_once_is_not_started(name: str, wish: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        lifecycle.up(name, **wish)
    assert not lifecycle.status(name).running


def test_a_state_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        os.chown(foreign, 12345, 12345)
    else:
        foreign = Path("/usr")  # a directory of root
    monkeypatch.setenv("LABKIT_HOME", str(foreign / "clusters" if os.getuid() else foreign))
    if os.getuid() == 0:
        (foreign / "clusters" / "x").mkdir(parents=True)
        os.chown(foreign / "clusters" / "x", 12345, 12345)
    with pytest.raises(MachineError) as caught:
        lifecycle.up("x")
    assert "LABKIT_HOME" in caught.value.next_step
