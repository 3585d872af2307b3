"""The part of `make bench` that is about the control plane: how fast a changed policy is in force, and how safely.

The pure rows and the fleet of a hundred Envoys feed istiod's own State and Pusher by hand; the others use a cluster.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import labkit
from labkit.embedded import addresses
from labkit.embedded.controlplane.authority import Certificates
from labkit.embedded.controlplane.delivery import Delivery, as_text
from labkit.embedded.controlplane.pushing import Pusher
from labkit.embedded.controlplane.state import State
from labkit.embedded.controlplane.translation.model import MeshConfig
from labkit.embedded.controlplane.translation.proxy import make_proxy_config
from labkit.lab import Lab
from labkit.observe.objects import is_ready
from labkit.pki import CertificateAuthority
from tests.bench import NAMESPACE, Loops, Measure, cluster, install_chat, milliseconds, pod_addresses, timed
from tests.embedded.envoy_world import Mesh, wait_for
from tests.unit.controlplane.objects import make_pod, make_policy, make_service, make_slice

FLEET = "fleet"
PORT = 5000
SECONDS = float(os.environ.get("LABKIT_BENCH_SECONDS", "60"))
"""How long policies are changed at random; issue: 600 s."""

Object = dict[str, Any]


# -- translation


def large_state(services: int = 1000, policies: int = 200, namespaces: int = 50) -> State:
    """A mesh with one pod behind each service; every policy selects one of the pods."""
    state = State(MeshConfig())
    for number in range(services):
        name, namespace = f"s{number}", f"ns{number % namespaces}"
        pod = make_pod(name, namespace)
        pod["status"]["podIP"] = f"127.99.{number // 250 + 1}.{number % 250 + 1}"
        service = make_service(name, namespace, column=number % 250 + 2)
        for handle, obj in (
            (state.on_pod, pod),
            (state.on_service, service),
            (state.on_slice, make_slice(service, pod)),
        ):
            handle("ADDED", obj)
    for number in range(policies):
        state.on_policy("ADDED", one_policy(number, namespaces, "STRICT" if number % 2 else "PERMISSIVE"))
    return state


def one_policy(number: int, namespaces: int, mode: str) -> Object:
    return make_policy(mode, f"ns{number % namespaces}", f"p{number}", selector={"app": f"s{number}"})


def measure_translation(runs: int = 10) -> list[Measure]:
    """One proxy of a large mesh from the beginning, and after one policy changed; each with its text."""
    state = large_state()
    sidecar = state.sidecars["ns0", "s0"]

    def translate() -> None:
        config = make_proxy_config(state.snapshot(), sidecar, Path("/xds/ns0/s0"))
        as_text(config.clusters_file()), as_text(config.listeners_file())

    state._effective.clear()
    first = timed(translate)
    again = [timed(translate) for _ in range(runs)]
    told, seconds = recompute(state, runs)
    shape = "1,000 services, 200 policies"
    return [
        Measure(f"translation for one proxy, {shape}", milliseconds([first, *again]), "250 ms", runs + 1),
        Measure(f"one policy changed there, {told} proxy told", milliseconds(seconds), "50 ms", runs),
    ]


def recompute(state: State, runs: int) -> tuple[int, list[float]]:
    """How many proxies a changed policy concerns, and the seconds from the change to their documents."""
    with tempfile.TemporaryDirectory() as directory:
        # All thousand proxies would be 3 GB of documents; ten of them are enough to see who is told.
        for key in sorted(state.sidecars)[10:]:
            if key != ("ns0", "s0"):
                del state.sidecars[key]
        delivery = Delivery(Path(directory))
        certificates = Certificates(CertificateAuthority.self_signed(), delivery, timedelta(hours=24))
        pusher = Pusher(state, delivery, certificates)

        async def scenario() -> tuple[int, list[float]]:
            await pusher.push(state.take_dirt())
            seconds, told = [], 0
            for number in range(runs):
                state.on_policy("MODIFIED", one_policy(0, 50, "PERMISSIVE" if number % 2 else "STRICT"))
                told = len(state.affected(state.dirt))
                began = time.perf_counter()
                await pusher.push(state.take_dirt())
                seconds.append(time.perf_counter() - began)
            return told, seconds

        return asyncio.run(scenario())


# -- in force everywhere


def answers_plaintext(address: str, port: int = PORT) -> bool:
    """Whether a plaintext request gets any HTTP answer; a STRICT port closes the connection."""
    try:
        with socket.create_connection((address, addresses.listen_port(port)), timeout=5) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return bool(connection.recv(1024))
    except OSError:
        return False


def until_all(pods: list[str], accept: bool) -> None:
    """Until each pod answers plaintext, or each refuses it. Who is seen once to do so is not asked again."""
    deadline = time.monotonic() + 20
    for address in pods:
        while answers_plaintext(address) != accept:
            if time.monotonic() > deadline:
                raise SystemExit(f"{address} did not follow a policy within 20 s")


def in_force(pods: list[str], set_mode: Callable[[str], None], count: int) -> list[float]:
    """Seconds from STRICT's being applied to the last pod's refusing plaintext."""
    seconds = []
    for _ in range(count):
        set_mode("PERMISSIVE")
        until_all(pods, accept=True)
        time.sleep(0.2)
        began = time.perf_counter()
        set_mode("STRICT")
        until_all(pods, accept=False)
        seconds.append(time.perf_counter() - began)
    return seconds


@contextmanager
def envoys(count: int) -> Iterator[Mesh]:
    """So many sidecars without applications: who gets through is answered 503 by the proxy."""
    mesh = Mesh(FLEET)
    try:
        for number in range(count):
            mesh.pod(f"pod-{number}", ports=(PORT,), wait=False)
            if number % 5 == 4:  # two cores start five at a time faster than a hundred
                mesh.wait_ready(f"pod-{number}")
        for number in range(count):
            mesh.wait_ready(f"pod-{number}")
        yield mesh
    finally:
        mesh.close()


def measure_fleet(count: int = 100, flips: int = 15) -> list[Measure]:
    """Mesh-wide STRICT at raw Envoys, with istiod's parts in this process."""
    with envoys(count) as mesh:
        pods = [mesh.ip(name) for name in mesh.sidecars]
        seconds = in_force(pods, lambda mode: mesh.policy(mode, namespace="istio-system"), flips)
    name = f"mesh-wide STRICT in force at {count} proxies (raw Envoys)"
    return [Measure(name, milliseconds(seconds), "p99 1 s", flips)]


def measure_replicas(lab: Lab, count: int = 20, flips: int = 40) -> Measure:
    """One policy and all its pods on a cluster, from the request to the API on."""
    lab.cluster.create_namespace(FLEET, {"istio.io/rev": "default"})
    container = {"name": "app", "image": "chatbackend", "ports": [{"containerPort": PORT}]}
    labels = {"app": FLEET}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": FLEET, "namespace": FLEET},
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    lab.apply(deployment)
    wait_for("the fleet", lambda: [*map(is_ready, lab.cluster.objects("Pod", FLEET))] == [True] * count, seconds=120)
    pods = [pod["status"]["podIP"] for pod in lab.cluster.objects("Pod", FLEET)]
    lab.set_mtls_mode("PERMISSIVE", FLEET)
    seconds = in_force(pods, lambda mode: patch_mode(lab, mode), flips)
    lab.cluster.delete("Namespace", FLEET)
    return Measure(
        f"one policy in force at {count} injected pods", milliseconds(seconds), "p50 30 ms, p99 150 ms", flips
    )


def patch_mode(lab: Lab, mode: str) -> None:
    path = f"/apis/security.istio.io/v1/namespaces/{FLEET}/peerauthentications/default"
    body = {"spec": {"mtls": {"mode": mode}}}
    kind = "application/merge-patch+json"
    lab.cluster.transport.request("PATCH", path, action="Switching the mode", body=body, content_type=kind)


# -- safely


def random_policy(chance: random.Random) -> Object:
    """A valid object that allows mTLS from the frontend to the backend, at any level, in one of many forms."""
    namespace, selector = chance.choice(
        (("istio-system", {}), (NAMESPACE, {}), (NAMESPACE, {"selector": {"matchLabels": {"app": "chatbackend"}}}))
    )
    if chance.random() < 0.6:
        spec: Object = {**selector, "mtls": {"mode": chance.choice(("STRICT", "PERMISSIVE", "UNSET"))}}
        if selector and chance.random() < 0.5:
            spec["portLevelMtls"] = {5000: {"mode": chance.choice(("STRICT", "PERMISSIVE"))}}
        return _object("security.istio.io/v1", "PeerAuthentication", namespace, spec, selected=bool(selector))
    if chance.random() < 0.5:
        source = {"source": {"principals": [f"cluster.local/ns/{NAMESPACE}/sa/*"]}}
        operation = {"operation": {"ports": ["5000"]}}
        rules: list[Object] = chance.choice(([{"from": [source]}], [{"from": [source], "to": [operation]}], [{}]))
        spec = {**selector, "action": "ALLOW", "rules": rules}
        return _object("security.istio.io/v1", "AuthorizationPolicy", namespace, spec, selected=bool(selector))
    balancer = {"loadBalancer": {"simple": chance.choice(("ROUND_ROBIN", "RANDOM", "LEAST_REQUEST"))}}
    policy = {"tls": {"mode": "ISTIO_MUTUAL"}, **balancer}
    host = f"chatbackend-service.{NAMESPACE}.svc.cluster.local"
    spec = {"host": host, "trafficPolicy": policy}
    return _object("networking.istio.io/v1", "DestinationRule", NAMESPACE, spec, selected=False)


def _object(version: str, kind: str, namespace: str, spec: Object, *, selected: bool) -> Object:
    name = "random-one" if selected else "random"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def measure_safety(lab: Lab, seconds: float = SECONDS) -> Measure:
    """mTLS requests that failed while policies were changed at random."""
    chance = random.Random(4)
    service = lab.cluster.get("Service", "chatbackend-service", NAMESPACE)["spec"]["clusterIP"]
    captured = addresses.captured_ip(pod_addresses(lab, "chatfrontend")[0], service)
    present: dict[tuple[str, str, str], Object] = {}
    changes = 0
    with Loops(captured, 5000, 4) as loops:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if present and chance.random() < 0.3:
                kind, name, namespace = chance.choice(sorted(present))
                del present[kind, name, namespace]
                lab.cluster.delete(kind, name, namespace)
            else:
                obj = random_policy(chance)
                metadata = obj["metadata"]
                lab.cluster.apply(obj)
                present[obj["kind"], metadata["name"], metadata["namespace"]] = obj
            changes += 1
            time.sleep(chance.choice((0.0, 0.02, 0.1, 0.3)))
    for kind, name, namespace in present:
        lab.cluster.delete(kind, name, namespace)
    value = f"{len(loops.failures)} of {loops.sent} in {changes} changes"
    if loops.failures:
        value += f" ({', '.join(sorted(set(loops.failures))[:3])})"
    return Measure(f"requests failed in {seconds:.0f} s of random valid policies", value, "0", loops.sent)


def measure_mesh() -> list[Measure]:
    """All rows of the control plane."""
    rows = measure_translation()
    with cluster("bench-mesh"):
        lab = labkit.open("embedded:bench-mesh", narrate=lambda _: None)
        lab.install_mesh()
        rows.append(measure_replicas(lab))
        install_chat(lab)
        rows.append(measure_safety(lab))
    return [*rows, *measure_fleet()]
