"""A machine that has no Prometheus: what is said, how soon, and that nothing is left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import labkit
from labkit.cluster.opening import embedded_lifecycle
from labkit.errors import MachineError, MeshError
from labkit.lab import Lab

CLUSTER = "no-prometheus"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A cluster whose pods find every program of this machine but one."""
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).iterdir() if Path(directory).is_dir() else ():
            place = tmp_path / program.name
            if program.name != "prometheus" and not place.is_symlink():
                place.symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    with labkit.open(f"embedded:{CLUSTER}", narrate=lambda _: None) as lab:
        lab.install_mesh()
        yield lab
    embedded_lifecycle().down(CLUSTER, purge=True)


def test_the_message_comes_at_once_and_says_what_there_is_instead(lab: Lab) -> None:
    started = time.monotonic()
    with pytest.raises(MachineError) as told:
        lab.install_prometheus()
    assert time.monotonic() - started < 30  # and not after the whole time that a pull may take
    assert "no program 'prometheus'" in told.value.what
    assert "apt-get install prometheus" in told.value.next_step and "lab.metrics()" in told.value.next_step
    assert lab.cluster.find("deployments", "prometheus", "istio-system") is None
    assert lab.cluster.find("clusterroles", "prometheus") is None
    with pytest.raises(MeshError, match="There is no Prometheus"):
        lab.prometheus()
