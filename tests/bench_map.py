"""How quickly the encryption map is made and repainted: rows of `make bench`."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from labkit.observe.objects import Snapshot
from labkit.views import layout
from labkit.views.drawing import draw_map
from labkit.views.map import Counts, EdgeState, MapModel
from labkit.views.model import Call, make_map

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


if __name__ == "__main__":
    for what, seconds, to_reach, runs in rows():
        print(f"{what:60} {seconds * 1000:8.1f} ms   to reach {to_reach * 1000:.0f} ms   ({runs} runs)")
