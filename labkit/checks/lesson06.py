"""The checks of lesson 06: what clients send to two versions of name, and to a server without a sidecar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.checks.evidence import CALLER, LOOKS, OUTSIDE, RETURNED, gateway_door, told
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.observe.declared import mode_of
from labkit.observe.mesh import mesh_status
from labkit.observe.objects import take_snapshot
from labkit.observe.traffic import probe
from labkit.outcomes import Observation, Outcome

NAME = "http://name.sentences:5000/"


def _version(cluster: Cluster, version: str, client: str = CALLER) -> Observation:
    """A request for one version. Before there is a route, the answer tells who gave it, so it is asked again."""
    seen = probe(cluster, client, NAME, headers={"x-version": version})
    for _ in range(20):
        if seen.http_status != 200 or _version_of(seen) == version:
            break
        seen = probe(cluster, client, NAME, headers={"x-version": version})
    return seen


def _version_of(seen: Observation) -> str:
    """v2 answers with whole names, v1 with first names."""
    return "v2" if " " in seen.body.strip() else "v1"


def _both(cluster: Cluster) -> tuple[Any, ...]:
    return _version(cluster, "v1"), _version(cluster, "v2")


def _rule_and_both(cluster: Cluster) -> tuple[Any, ...]:
    return cluster.find("DestinationRule", "name", "sentences"), *_both(cluster)


def _mesh_mode(cluster: Cluster) -> tuple[Any, ...]:
    return mode_of(take_snapshot(cluster), "default"), probe(cluster, OUTSIDE, NAME)


def _mode_and_both(cluster: Cluster) -> tuple[Any, ...]:
    return mode_of(take_snapshot(cluster), "default"), *_both(cluster)


def _echo(cluster: Cluster) -> tuple[Any, ...]:
    return (probe(cluster, OUTSIDE, gateway_door(cluster)), *_both(cluster))


def _expect(words: str, good: Callable[..., bool], hint: str) -> Callable[..., Judgement]:
    """A judge of a request to v1 and one to v2."""

    def judge(v1: Observation, v2: Observation) -> Judgement:
        return Judgement(good(v1, v2), words, f"v1: {told(v1)}; v2: {told(v2)}", hint)

    return judge


both_encrypted = _expect(
    "200 by mTLS from both versions",
    lambda v1, v2: _is(v1, Outcome.MTLS) and _is(v2, Outcome.MTLS),
    "Is there a DestinationRule or a PeerAuthentication left? lab.reset('06') starts again.",
)
open_towards_v1 = _expect(
    "v1 in plaintext, v2 by mTLS",
    lambda v1, v2: _is(v1, Outcome.PLAINTEXT) and _is(v2, Outcome.MTLS),
    "Apply both: manifests/lessons/06/destination-rule.yaml and virtual-service.yaml.",
)


def subsets_idle(rule: Any, v1: Observation, v2: Observation) -> Judgement:
    """The rule is there, and no route leads to its subsets."""
    expected = "a DestinationRule that says DISABLE for v1, and still 200 by mTLS from both versions"
    observed = f"{'the rule is there' if rule else 'no rule'}; v1: {told(v1)}; v2: {told(v2)}"
    good = _disables_v1(rule) and _is(v1, Outcome.MTLS) and _is(v2, Outcome.MTLS)
    return Judgement(good, expected, observed, "Apply manifests/lessons/06/destination-rule.yaml, and no route yet.")


def mesh_strict(mode: str, outside: Observation) -> Judgement:
    """The mesh's own policy is STRICT, so a stranger is refused in every namespace."""
    good = mode == "STRICT" and outside.exit_code == 56
    hint = "The policy belongs into the mesh's root namespace, has no selector and one place: root/strict.yaml."
    return Judgement(good, "the mesh is STRICT, curl-outside is reset", f"mode {mode}; {told(outside)}", hint)


def sides_disagree(mode: str, v1: Observation, v2: Observation) -> Judgement:
    """The server wants mTLS, its clients send v1 plaintext."""
    good = mode == "STRICT" and v1.http_status == 503 and _is(v2, Outcome.MTLS)
    observed = f"mode {mode}; v1: {told(v1)}; v2: {told(v2)}"
    return Judgement(
        good, "v1: 503; v2: 200 by mTLS", observed, "Subset v1 has to say DISABLE while the mesh is STRICT."
    )


def sides_agree(mode: str, v1: Observation, v2: Observation) -> Judgement:
    """STRICT, and both versions answer."""
    good = mode == "STRICT" and _is(v1, Outcome.MTLS) and _is(v2, Outcome.MTLS)
    observed = f"mode {mode}; v1: {told(v1)}; v2: {told(v2)}"
    hint = "Apply manifests/lessons/06/both-versions.yaml: the same subsets without a tls block."
    return Judgement(good, "mode STRICT, both versions 200 by mTLS", observed, hint)


def echo_through_gateway(echo: Observation, v1: Observation, v2: Observation) -> Judgement:
    """A server without a sidecar answers through the gateway."""
    hint = "Apply manifests/lessons/06/echo-gateway.yaml, and delete root/mutual-everywhere.yaml if it is there."
    return Judgement(echo.http_status == 200, "200 from echoserver through the gateway", told(echo), hint)


def echo_lost(echo: Observation, v1: Observation, v2: Observation) -> Judgement:
    """The gateway sends mTLS to a server that cannot read it; the others go on."""
    good = echo.http_status == 503 and _is(v1, Outcome.MTLS) and _is(v2, Outcome.MTLS)
    observed = f"echoserver: {told(echo)}; v1: {told(v1)}; v2: {told(v2)}"
    hint = "Apply manifests/lessons/06/root/mutual-everywhere.yaml, in the mesh's root namespace."
    return Judgement(good, "echoserver: 503; name: 200 by mTLS", observed, hint)


def one_exception(_attempt: Any, rule: Any, echo: Observation, v1: Observation, v2: Observation) -> Judgement:
    """mTLS everywhere but to echoserver."""
    good = bool(rule) and echo.http_status == 200 and _is(v1, Outcome.MTLS) and _is(v2, Outcome.MTLS)
    everywhere = "the mesh-wide rule is there" if rule else "the mesh-wide rule is gone"
    observed = f"{everywhere}; echoserver: {told(echo)}; v1: {told(v1)}"
    hint = "echoserver has no sidecar, so it reads plaintext alone. Which mode sends that?"
    return Judgement(good, "the mesh-wide rule stays, and echoserver answers 200", observed, hint)


def _exception(cluster: Cluster) -> tuple[Any, ...]:
    return cluster.find("DestinationRule", "default", mesh_status(cluster).namespace), *_echo(cluster)


def _disables_v1(rule: Any) -> bool:
    subsets = ((rule or {}).get("spec") or {}).get("subsets") or ()
    modes = {one.get("name"): ((one.get("trafficPolicy") or {}).get("tls") or {}).get("mode") for one in subsets}
    return modes.get("v1") == "DISABLE"


def _is(seen: Observation, outcome: Outcome) -> bool:
    return seen.http_status == 200 and seen.outcome is outcome


CHECKS = (
    Check("06-both-encrypted", LOOKS, both_encrypted, _both),
    Check("06-subsets-idle", LOOKS, subsets_idle, _rule_and_both),
    Check("06-open-towards-v1", LOOKS, open_towards_v1, _both),
    Check("06-mesh-strict", LOOKS, mesh_strict, _mesh_mode),
    Check("06-sides-disagree", LOOKS, sides_disagree, _mode_and_both),
    Check("06-sides-agree", LOOKS, sides_agree, _mode_and_both),
    Check("06-echo-through-gateway", LOOKS, echo_through_gateway, _echo),
    Check("06-echo-lost", LOOKS, echo_lost, _echo),
    Check("06-one-exception", RETURNED, one_exception, _exception, exercise=True),
)
