"""The table of Istio's own integration test of reachability: who is let in under which manifests, and whether by mTLS.

tests/integration/security/reachability_test.go, TestReachability, with the manifests of testdata/reachability. Left
out are virtual machines, several clusters and networks, and headless Services (see "What is simplified" in
labkit/README.md). It is run through the pure rules (test_reachability_rows.py here) and with real traffic
(tests/embedded/test_reachability_rows.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

HTTP, HTTPS, TCP = 8001, 8443, 9001
CREATED = "2026-01-01T00:00:00Z"
ROOT = "istio-system"
LOCAL = "*.local"


@dataclass(frozen=True)
class Call:
    """From whom to whom. `path` leads to a subset of the application that is being migrated."""

    source: str
    target: str
    path: str = "/"


A_B, A_NAKED, NAKED_B = Call("a", "b"), Call("a", "naked"), Call("naked", "b")
CALLS = (A_B, A_NAKED, NAKED_B)
WITH, WITHOUT = Call("a", "migration", "/vistio"), Call("a", "migration", "/vlegacy")


def always(_: Call) -> bool:
    return True


def never(_: Call) -> bool:
    return False


def not_naked(call: Call) -> bool:
    return "naked" not in (call.source, call.target)


def not_from_naked(call: Call) -> bool:
    return call.source != "naked"


def not_to_naked(call: Call) -> bool:
    return call.target != "naked"


def to_istio_subset(call: Call) -> bool:
    return call.path == "/vistio"


def to_legacy_subset(call: Call) -> bool:
    return call.path == "/vlegacy"


# The manifests


def obj(kind: str, name: str, spec: Object, namespace: str = "foo") -> Object:
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": CREATED},
        "spec": spec,
    }


def global_peer_authentication(mode: str, namespace: str = ROOT) -> Object:
    return obj("PeerAuthentication", "default", {"mtls": {"mode": mode}}, namespace)


def global_rule(mode: str) -> Object:
    return obj("DestinationRule", "default", {"host": LOCAL, "trafficPolicy": {"tls": {"mode": mode}}}, ROOT)


def of_each_workload(mode: str, ports: Object | None = None) -> list[Object]:
    found = []
    for app in ("a", "b", "naked"):
        spec: Object = {"selector": {"matchLabels": {"app": app}}, "mtls": {"mode": mode}}
        found.append(obj("PeerAuthentication", app, {**spec, **({"portLevelMtls": ports} if ports else {})}))
    return found


def rule_of_each_service(mode: str) -> list[Object]:
    spec = {"trafficPolicy": {"tls": {"mode": mode}}}
    return [
        obj("DestinationRule", app, {"host": f"{app}.foo.svc.cluster.local", **spec}) for app in ("a", "b", "naked")
    ]


def migration(mode: str) -> list[Object]:
    host = "migration.foo.svc.cluster.local"
    policy: Object = {"trafficPolicy": {"tls": {"mode": mode}}} if mode else {}
    subsets = [{"name": name, "labels": {"version": name}, **policy} for name in ("vistio", "vlegacy")]
    routes = [
        {"match": [{"uri": {"prefix": "/vistio"}}], "route": [{"destination": {"host": host, "subset": "vistio"}}]},
        {"route": [{"destination": {"host": host, "subset": "vlegacy"}}]},
    ]
    return [
        obj("VirtualService", "migration", {"hosts": [host], "http": routes}),
        obj("DestinationRule", "migration", {"host": host, "subsets": subsets, **policy}),
    ]


PASSTHROUGH = obj(
    "DestinationRule", "passthrough", {"host": "*", "trafficPolicy": {"loadBalancer": {"simple": "PASSTHROUGH"}}}, ROOT
)


DISABLED_PORTS = {str(port): {"mode": "DISABLE"} for port in (HTTP, HTTPS, TCP)}

Condition = Callable[[Call], bool]

# name, manifests, who is let in, whether it is by mTLS
CASES: list[tuple[str, list[Object], Condition, Condition]] = [
    ("global mtls strict", [global_peer_authentication("STRICT"), global_rule("ISTIO_MUTUAL")], not_naked, not_naked),
    (
        "global mtls permissive",
        [global_peer_authentication("PERMISSIVE"), global_rule("ISTIO_MUTUAL")],
        not_to_naked,
        not_naked,
    ),
    ("global mtls disabled", [global_peer_authentication("DISABLE"), global_rule("DISABLE")], always, never),
    (
        "global plaintext to mtls permissive",
        [global_peer_authentication("PERMISSIVE"), global_rule("DISABLE")],
        always,
        never,
    ),
    ("global automtls strict", [global_peer_authentication("STRICT")], not_from_naked, not_naked),
    ("global automtls disable", [global_peer_authentication("DISABLE")], always, never),
    ("global automtls passthrough", [PASSTHROUGH], always, not_naked),
    ("global no peer authn", [global_rule("ISTIO_MUTUAL")], not_to_naked, not_naked),
    ("mtls strict", [*of_each_workload("STRICT"), *rule_of_each_service("ISTIO_MUTUAL")], not_naked, not_naked),
    (
        "mtls permissive",
        [*of_each_workload("PERMISSIVE"), *rule_of_each_service("ISTIO_MUTUAL")],
        not_to_naked,
        not_naked,
    ),
    ("mtls disabled", [*of_each_workload("DISABLE"), *rule_of_each_service("DISABLE")], always, never),
    ("mtls port override", of_each_workload("STRICT", DISABLED_PORTS), always, never),
]
MIGRATION_CASES: list[tuple[str, list[Object], Condition, Condition]] = [
    ("migration no tls", [global_peer_authentication("STRICT", "foo"), *migration("")], always, to_istio_subset),
    (
        "migration tls disabled",
        [global_peer_authentication("STRICT", "foo"), *migration("DISABLE")],
        to_legacy_subset,
        never,
    ),
    (
        "migration tls mutual",
        [global_peer_authentication("STRICT", "foo"), *migration("ISTIO_MUTUAL")],
        to_istio_subset,
        to_istio_subset,
    ),
]
