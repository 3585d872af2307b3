"""How quickly the encryption map is made and repainted: rows of `make bench`."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING, Any

import psutil

import labkit
from labkit.observe.objects import Snapshot
from labkit.views import layout
from labkit.views.drawing import draw_map
from labkit.views.map import Counts, EdgeState, MapModel
from labkit.views.model import Call, make_map

if TYPE_CHECKING:
    from labkit.lab import Lab
    from tests.bench import Measure

Obj = dict[str, Any]


def a_mesh(workloads: int, edges: int, namespaces: int = 8) -> tuple[Snapshot, list[Call]]:
    """A snapshot with so many workloads, each behind a Service, and as many calls among them."""
    names = [(f"team-{i % namespaces}", f"app-{i}") for i in range(workloads)]
    policies = [_policy(f"team-{i}", mode) for i, mode in enumerate(("STRICT", "PERMISSIVE", "DISABLE"))]
    snapshot = Snapshot(
        namespaces=tuple({"metadata": {"name": f"team-{i}", "labels": {}}} for i in range(namespaces)),
        pods=tuple(_pod(*name, injected=i % 5 > 0) for i, name in enumerate(names)),
        services=tuple(_service(*name) for name in names),
        peer_authentications=tuple(policies),
        mesh_installed=True,
        shown=tuple(f"team-{i}" for i in range(namespaces)),
    )
    dice = random.Random(7)
    calls: set[Call] = set()
    while len(calls) < edges:
        (a, b), (c, d) = dice.choice(names), dice.choice(names)
        if (a, b) != (c, d):
            calls.add(Call(f"{a}/{b}", f"{c}/{d}", 80))
    return snapshot, sorted(calls)


def _pod(namespace: str, name: str, *, injected: bool) -> Obj:
    labels = {"app": name, **({"security.istio.io/tlsMode": "istio"} if injected else {})}
    owner = {"kind": "ReplicaSet", "name": name}
    containers = [{"name": n} for n in (["app", "istio-proxy"] if injected else ["app"])]
    metadata = {"name": f"{name}-1", "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": metadata, "spec": {"containers": containers}, "status": status}


def _service(namespace: str, name: str) -> Obj:
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {**spec, "clusterIP": "10.0.0.1"}}


def _policy(namespace: str, mode: str) -> Obj:
    return {"metadata": {"name": "default", "namespace": namespace}, "spec": {"mtls": {"mode": mode}}}


def whole(snapshot: Snapshot, calls: list[Call]) -> MapModel:
    """Model, layout and SVG, with no layout in the cache."""
    layout._CACHE.clear()
    model = make_map(snapshot, calls=calls)
    draw_map(model, standalone=False)
    return model


def _median(act: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _turned(model: MapModel, state: EdgeState, number: int) -> MapModel:
    counts = Counts(mtls=number, window=30)
    return replace(model, edges=tuple(replace(edge, state=state, counts=counts) for edge in model.edges))


def rows() -> list[tuple[str, float, float, int]]:
    """(what, seconds, to reach, runs)"""
    return [*_rows_of(12, 16, 0.060, 0.010, 9), *_rows_of(500, 2000, 3.0, 0.150, 3)]


def _rows_of(
    workloads: int, edges: int, first: float, again: float, runs: int
) -> Iterator[tuple[str, float, float, int]]:
    snapshot, calls = a_mesh(workloads, edges)
    name = f"map of {workloads} workloads, {edges:,} edges"
    yield f"{name}: model, layout, SVG", _median(lambda: whole(snapshot, calls), runs), first, runs
    model = whole(snapshot, calls)
    painted = iter([_turned(model, EdgeState.REFUSED, number) for number in range(runs)])
    seconds = _median(lambda: draw_map(next(painted), standalone=False), runs)
    yield f"{name}: repainted without layout", seconds, again, runs


def clicks(lab: Lab, times: int) -> tuple[list[float], list[float]]:
    """Seconds from the call that a press makes to the picture that shows STRICT: declared, and tried."""
    outside = "default/curl-outside|azureopenai/chatbackend|5000|call"
    live = lab.live_map("azureopenai", "default")
    said, tried = [], []

    def edge() -> dict[str, str]:
        found: dict[str, str] = live.styles["edges"][outside]
        return found

    live.start()
    try:
        for _ in range(times):
            lab.set_mtls_mode("PERMISSIVE", "azureopenai")
            _until(lambda: edge()["word"] == "plaintext" and edge()["second"] == "HTTP 200")
            presser = Thread(target=lab.set_mtls_mode, args=("STRICT", "azureopenai"))
            started = time.perf_counter()
            presser.start()
            said.append(_until(lambda: edge()["word"] == "refused") - started)
            tried.append(_until(lambda: "curl exit 56" in edge()["second"]) - started)
            presser.join()
    finally:
        live.close()
    return said, tried


def _until(reached: Callable[[], bool], limit: float = 20) -> float:
    end = time.perf_counter() + limit
    while not reached():
        assert time.perf_counter() < end, "the picture did not change"
        time.sleep(0.002)
    return time.perf_counter()


def idle_share(lab: Lab, seconds: float) -> float:
    """Per cent of one core that a live map costs its kernel while nothing changes."""
    live = lab.live_map("azureopenai", "default")
    live.start()
    time.sleep(3)
    process, started = psutil.Process(), time.monotonic()
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    live.close()
    return 100 * (after.user + after.system - before.user - before.system) / (time.monotonic() - started)


def measure_map(times: int = 20, idle_seconds: float = 20) -> list[Measure]:
    """All rows of the encryption map: drawing alone, then on a cluster with the chat application."""
    from tests.bench import Measure, cluster

    drawn = [Measure(what, f"{1000 * took:.1f} ms", f"{1000 * goal:.0f} ms", runs) for what, took, goal, runs in rows()]
    with cluster("bench-map"), labkit.open("embedded:bench-map", narrate=lambda _: None) as lab:
        lab.world("03")
        said, tried = clicks(lab, times)
        idle = idle_share(lab, idle_seconds)

    def told(seconds: list[float]) -> str:
        return f"{1000 * statistics.median(seconds):.0f} ms (worst {1000 * max(seconds):.0f})"

    return [
        *drawn,
        Measure("STRICT pressed to the picture showing it", told(said), "p50 250 ms", times),
        Measure("the same until the plaintext client was tried and refused", told(tried), "-", times),
        Measure("a live map while nothing changes, of one core", f"{idle:.1f} %", "5 %", 1),
    ]


if __name__ == "__main__":
    for row in measure_map():
        print(f"{row.name:62} {row.value:>26}   to reach {row.to_reach}")
