"""The lab's last step: the frontend through `kubectl port-forward` while its namespace is STRICT, with real Envoys."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

import labkit
from labkit.cluster.opening import embedded_lifecycle
from labkit.lab import Lab
from tests.programs import program

CLUSTER = "chatforward"

pytestmark = pytest.mark.timeout(120)


class World:
    """A STRICT namespace with the chat application, and kubectl."""

    def __init__(self, lab: Lab, kubeconfig: str, program: str) -> None:
        self.lab, self.program = lab, program
        self.env = os.environ | {"KUBECONFIG": kubeconfig}

    def kubectl(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.program, *args], env=self.env, capture_output=True, text=True, timeout=30)

    def pod(self, app: str) -> str:
        return self.kubectl("-n", "azureopenai", "get", "pods", "-l", f"app={app}", "-o", "name").stdout.split()[0]

    def handshakes(self) -> int:
        """TLS handshakes that the backend's sidecars saw."""
        pods = self.kubectl("-n", "azureopenai", "get", "pods", "-l", "app=chatbackend", "-o", "name").stdout.split()
        total = 0
        for pod in pods:
            command = ["-c", "istio-proxy", "--", "pilot-agent", "request", "GET", "stats"]
            stats = self.kubectl("-n", "azureopenai", "exec", pod, *command).stdout
            total += sum(map(int, re.findall(r"^listener\..*_15006\.ssl\.handshake: (\d+)$", stats, re.MULTILINE)))
        return total


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    kubectl = program("kubectl", "the lab's port-forward was not tried")
    with labkit.open(f"embedded:{CLUSTER}", narrate=lambda _: None) as lab:
        lab.world("03")
        lab.set_mtls_mode("STRICT", "azureopenai")
        yield World(lab, str(embedded_lifecycle().up(CLUSTER)), kubectl)
    embedded_lifecycle().down(CLUSTER, purge=True)


@pytest.fixture
def frontend(world: World) -> Iterator[str]:
    """The frontend's address on this machine, as the lab opens it."""
    command = [world.program, "port-forward", "deployment/chatfrontend", ":80", "-n", "azureopenai"]
    with subprocess.Popen(command, env=world.env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            match = re.match(r"Forwarding from (127\.0\.0\.1:\d+) -> 80", process.stdout.readline())
            assert match
            yield f"http://{match[1]}"
        finally:
            process.kill()


def test_the_page_is_shown_under_strict(frontend: str) -> None:
    with urllib.request.urlopen(frontend, timeout=20) as answer:
        assert answer.status == 200 and b"<!doctype html>" in answer.read()[:100].lower()


def test_the_chat_answers_and_its_hop_to_the_backend_is_mtls(world: World, frontend: str) -> None:
    before = world.handshakes()
    body = json.dumps({"message": "hello"}).encode()
    request = urllib.request.Request(f"{frontend}/chat", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert json.load(answer)["reply"]
    assert world.handshakes() > before


def test_the_same_frontend_refuses_who_comes_from_outside(world: World) -> None:
    """The twin: what port-forward passes by, everybody else meets."""
    name = world.pod("chatfrontend").removeprefix("pod/")
    refused = world.kubectl("get", "--raw", f"/api/v1/namespaces/azureopenai/pods/{name}:80/proxy/")
    assert refused.returncode == 1 and "connection reset by peer" in refused.stderr
