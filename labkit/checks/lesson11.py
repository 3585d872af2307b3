"""The checks of lesson 11: hosts at the gateway, identities at the services."""

from __future__ import annotations

from typing import Any

from labkit.checks.evidence import CALLER, LOOKS, OUTSIDE, RETURNED, gateway_door
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.observe.traffic import probe
from labkit.outcomes import Observation

INSIDE = "sentences/sentences"
NAME, AGE = "http://name.sentences:5000/", "http://age.sentences:5000/"
HOST, OTHER_HOST = "sentences.127.0.0.1.nip.io", "sentences.example.com"


def _door(cluster: Cluster) -> tuple[Any, ...]:
    door = gateway_door(cluster)
    return tuple(probe(cluster, OUTSIDE, door, headers={"Host": host}) for host in (HOST, OTHER_HOST))


def _age(cluster: Cluster) -> tuple[Any, ...]:
    return probe(cluster, INSIDE, AGE), probe(cluster, CALLER, AGE)


def _name(cluster: Cluster) -> tuple[Any, ...]:
    return probe(cluster, CALLER, NAME), probe(cluster, OUTSIDE, NAME)


def _posted(cluster: Cluster) -> tuple[Any, ...]:
    return probe(cluster, CALLER, AGE), probe(cluster, CALLER, AGE, method="POST"), probe(cluster, INSIDE, AGE)


def any_host(nip: Observation, other: Observation) -> Judgement:
    """The gateway answers for every host."""
    observed = f"{HOST}: {nip.seen}; {OTHER_HOST}: {other.seen}"
    hint = "Apply manifests/lessons/11/gateway.yaml; is a policy left at the gateway? lab.reset('11') starts again."
    return Judgement(nip.http_status == other.http_status == 200, "200 for both hosts", observed, hint)


def hosts(nip: Observation, other: Observation) -> Judgement:
    """One family of hosts gets in, the others do not."""
    good = nip.http_status == 200 and _denied(other)
    observed = f"{HOST}: {nip.seen}; {OTHER_HOST}: {other.seen}"
    hint = "The policy selects istio: ingressgateway, in the namespace of the gateway's pod."
    return Judgement(good, f"{HOST}: 200; {OTHER_HOST}: 403, RBAC: access denied", observed, hint)


def identity(inside: Observation, caller: Observation) -> Judgement:
    """sentences may call age, another client of the mesh may not."""
    good = inside.http_status == 200 and _denied(caller)
    observed = f"sentences: {inside.seen}; callers/curl: {caller.seen}"
    hint = "The principal has no spiffe:// before it: cluster.local/ns/sentences/sa/sentences."
    return Judgement(good, "sentences: 200; callers/curl: 403", observed, hint)


def deny_leaks(caller: Observation, outside: Observation) -> Judgement:
    """A DENY by identity stops who shows the certificate, and lets pass who shows none."""
    good = _denied(caller) and outside.http_status == 200
    observed = f"callers/curl: {caller.seen}; curl-outside: {outside.seen}"
    hint = "Apply manifests/lessons/11/name-denies.yaml, while the namespace is still PERMISSIVE."
    return Judgement(good, "callers/curl: 403; curl-outside, without a name: 200", observed, hint)


def no_leak(caller: Observation, outside: Observation) -> Judgement:
    """Under STRICT nobody comes without a name."""
    good = _denied(caller) and outside.exit_code == 56
    observed = f"callers/curl: {caller.seen}; curl-outside: {outside.seen}"
    hint = "Apply manifests/lessons/11/strict.yaml, and keep the DENY policy."
    return Judgement(good, "callers/curl: 403; curl-outside: reset, exit code 56", observed, hint)


def one_more_caller(_attempt: Any, got: Observation, posted: Observation, inside: Observation) -> Judgement:
    """curl in callers may GET, and nothing else; sentences goes on."""
    good = got.http_status == 200 and _denied(posted) and inside.http_status == 200
    observed = f"callers/curl GET: {got.seen}, POST: {posted.seen}; sentences: {inside.seen}"
    hint = "A principal is trust domain, ns, namespace, sa, account: the client's certificate shows it."
    return Judgement(good, "callers/curl GET: 200, POST: 403; sentences: 200", observed, hint)


def _denied(seen: Observation) -> bool:
    return seen.http_status == 403 and "RBAC: access denied" in seen.body


CHECKS = (
    Check("11-any-host", LOOKS, any_host, _door),
    Check("11-hosts", LOOKS, hosts, _door),
    Check("11-identity", LOOKS, identity, _age),
    Check("11-deny-leaks", LOOKS, deny_leaks, _name),
    Check("11-no-leak", LOOKS, no_leak, _name),
    Check("11-one-more-caller", RETURNED, one_more_caller, _posted, exercise=True),
)
