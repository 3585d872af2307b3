"""How quick the declared view is: verdicts for all pairs, modes of a big mesh, and the preview of one change."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from labkit.policy.analysis import analyze
from labkit.policy.declared import DeclaredMesh
from labkit.policy.declared.changing import Change, preview

Object = dict[str, Any]
Row = tuple[str, str, str, int]

MODES = ("STRICT", "PERMISSIVE", "DISABLE")


def make_objects(workloads: int, policies: int, *, namespaces: int = 20, seed: int = 1) -> list[Object]:
    """Deployments, nine of ten with a sidecar, each behind a Service; and policies of three kinds at all levels."""
    random = Random(seed)
    names = [f"ns-{number}" for number in range(namespaces)]
    objects: list[Object] = [
        {"kind": "Namespace", "metadata": {"name": name, "labels": {"istio-injection": "enabled"}}} for name in names
    ]
    for number in range(workloads):
        namespace, name = names[number % namespaces], f"app-{number}"
        objects += _application(namespace, name, sidecar=random.random() < 0.9)
    for number in range(policies):
        namespace, app = random.choice(names), f"app-{random.randrange(workloads)}"
        made = random.choice((_peers, _peers, _rule, _guard))(random, namespace, app)
        kind, spec = made
        metadata = {"name": f"policy-{number}", "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z"}
        objects.append({"kind": kind, "metadata": metadata, "spec": spec})
    return objects


def _application(namespace: str, name: str, *, sidecar: bool) -> Iterator[Object]:
    labels = {"app": name, **({} if sidecar else {"sidecar.istio.io/inject": "false"})}
    template = {"metadata": {"labels": labels}, "spec": {"serviceAccountName": name, "containers": [{"name": "app"}]}}
    selector = {"app": name}
    metadata = {"name": name, "namespace": namespace}
    yield {
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": selector}, "template": template},
    }
    ports = [{"name": "http", "port": 8080}]
    yield {"kind": "Service", "metadata": metadata, "spec": {"selector": selector, "ports": ports}}


def _peers(random: Random, namespace: str, app: str) -> tuple[str, Object]:
    spec: Object = {"mtls": {"mode": random.choice(MODES)}}
    if random.random() < 0.8:
        spec["selector"] = {"matchLabels": {"app": app}}
        spec["portLevelMtls"] = {"8080": {"mode": random.choice(MODES)}}
    return "PeerAuthentication", spec


def _rule(random: Random, namespace: str, app: str) -> tuple[str, Object]:
    tls = {"mode": random.choice(("ISTIO_MUTUAL", "DISABLE"))}
    return "DestinationRule", {"host": f"{app}.{namespace}.svc.cluster.local", "trafficPolicy": {"tls": tls}}


def _guard(random: Random, namespace: str, app: str) -> tuple[str, Object]:
    allowed = {"source": {"namespaces": [namespace, f"ns-{random.randrange(20)}"]}}
    return "AuthorizationPolicy", {"selector": {"matchLabels": {"app": app}}, "rules": [{"from": [allowed]}]}


def _median(act: Callable[[], object], runs: int) -> str:
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    return f"{statistics.median(seconds) * 1000:.0f} ms"


def measure(runs: int = 5) -> list[Row]:
    """(name, value, to reach, runs)"""
    small, big = make_objects(200, 100), make_objects(10_000, 1_000, namespaces=100)
    strict = {"kind": "PeerAuthentication", "metadata": {"name": "a", "namespace": "ns-1"}}
    change = Change([{**strict, "spec": {"mtls": {"mode": "STRICT"}}}])
    known = DeclaredMesh(small)
    list(known.edges())  # what is known already of the mesh as it is counts for a lab that asks again
    edges = len(list(known.edges()))
    return [
        (
            f"verdicts for all {edges} pairs of 200 workloads, 100 policies",
            _median(lambda: list(DeclaredMesh(small).edges()), runs),
            "500 ms",
            runs,
        ),
        (
            "10,000 workloads, 1,000 policies: all effective server modes",
            _median(lambda: DeclaredMesh(big).modes(), max(runs // 2, 1)),
            "1000 ms",
            max(runs // 2, 1),
        ),
        (
            "preview of one change in the 200-workload mesh",
            _median(lambda: preview(DeclaredMesh(small), change), runs),
            "1000 ms",
            runs,
        ),
        (
            "analyze 200 workloads with 1,000 policies: istioctl's and Kiali's codes",
            _median(lambda: analyze(make_objects(200, 1_000)), runs),
            "1000 ms",
            runs,
        ),
    ]


if __name__ == "__main__":
    for row in measure():
        print(*row, sep=" | ")
