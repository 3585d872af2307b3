"""Istio's table of reachability through the pure rules; the same with real traffic is in tests/embedded."""

from __future__ import annotations

import pytest

from labkit.outcomes import Outcome, Probe
from labkit.policy import World
from tests.published.objects import pod
from tests.published.reachability import CALLS, CASES, HTTP, HTTPS, TCP, Call, Condition, Object

PORTS = {"http": HTTP, "https": HTTPS, "tcp": TCP}


def application(name: str, *, sidecar: bool) -> list[Object]:
    made = pod("foo", name, sidecar=sidecar)
    made["spec"]["containers"][0]["ports"] = [{"containerPort": port} for port in PORTS.values()]
    ports = [{"name": kind, "port": port} for kind, port in PORTS.items()]
    spec = {"selector": {"app": name}, "ports": ports, "clusterIP": "10.0.0.1"}
    return [made, {"kind": "Service", "metadata": {"namespace": "foo", "name": name}, "spec": spec}]


BASE = [one for name in ("a", "b", "naked") for one in application(name, sidecar=name != "naked")]
ROWS = [
    pytest.param(objects, call, port, let_in, mtls, id=f"{name}: {call.source} to {call.target} ({kind})")
    for name, objects, let_in, mtls in CASES
    for call in CALLS
    for kind, port in PORTS.items()
]


@pytest.mark.parametrize(("objects", "call", "port", "let_in", "mtls"), ROWS)
def test_what_is_predicted(objects: list[Object], call: Call, port: int, let_in: Condition, mtls: Condition) -> None:
    probe = Probe(f"foo/{call.source}", f"foo/{call.target}", port)
    verdict = World.of([*BASE, *objects]).predict(probe)
    assert verdict.refused is not let_in(call)
    if let_in(call):
        assert verdict.outcome is (Outcome.MTLS if mtls(call) else Outcome.PLAINTEXT)
