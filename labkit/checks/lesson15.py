"""The checks of lesson 15: a migration that nobody noticed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.checks.evidence import (
    CALLER,
    LOOKS,
    MESSAGE,
    OUTSIDE,
    RETURNED,
    gateway_door,
    pods_of,
    ready_of,
    ready_words,
)
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.observe import metrics
from labkit.observe.declared import mode_of
from labkit.observe.exposition import Sample
from labkit.observe.forwarded import ask_through_forward
from labkit.observe.objects import take_snapshot
from labkit.observe.traffic import probe
from labkit.outcomes import Observation, Outcome

SENTENCES, NAME = "http://sentences.sentences:5000/", "http://name.sentences:5000/"
CHAT, BACKEND = "azureopenai", "http://chatbackend-service.azureopenai:5000/chat"
WORKLOADS = ("age", "name-v1", "name-v2", "sentences")
ENOUGH = 20


def _door(cluster: Cluster) -> tuple[Any, ...]:
    return (probe(cluster, OUTSIDE, gateway_door(cluster)),)


def _counted(cluster: Cluster) -> tuple[Any, ...]:
    probe(cluster, CALLER, SENTENCES)  # so that there is something to count
    return (metrics.scrape(cluster, ("sentences",)).samples,)


def _closed(cluster: Cluster) -> tuple[Any, ...]:
    mode = mode_of(take_snapshot(cluster), "sentences")
    return mode, *_door(cluster), probe(cluster, CALLER, SENTENCES), probe(cluster, OUTSIDE, SENTENCES)


def _chat(cluster: Cluster) -> tuple[Any, ...]:
    forwarded = ask_through_forward(cluster, f"{CHAT}/chatfrontend", 80, "/chat", data=MESSAGE)
    inside = probe(cluster, f"{CHAT}/chatfrontend", BACKEND, data=MESSAGE)
    return forwarded, inside, probe(cluster, OUTSIDE, BACKEND, data=MESSAGE)


def _one_week(cluster: Cluster) -> tuple[Any, ...]:
    return tuple(probe(cluster, OUTSIDE, url) for url in (SENTENCES, NAME))


def door_open(seen: Observation) -> Judgement:
    """Sentences come through the gateway."""
    good = seen.http_status == 200 and "years old" in seen.body
    return Judgement(good, "200 and a sentence", seen.seen, "Apply manifests/lessons/15/gateway.yaml.")


def injected(pods: Any) -> Judgement:
    """Four pods, each with a sidecar."""
    ready = ready_of(pods, WORKLOADS)
    hint = "Label the namespace, then apply the files of manifests/apps/sentences/sidecar, callers first."
    return Judgement(
        ready == dict.fromkeys(WORKLOADS, "2/2"), "four pods of sentences, each 2/2", ready_words(ready), hint
    )


def all_mtls(samples: Iterable[Sample]) -> Judgement:
    """The sidecars of sentences have served requests, and all of them came by mTLS."""
    found: dict[str, float] = {}
    for one in samples:
        if one.name == metrics.REQUESTS and one.labels.get("reporter") == "destination":
            policy = str(one.labels.get("connection_security_policy"))
            found[policy] = found.get(policy, 0) + one.value
    observed = ", ".join(f"{policy}: {count:.0f}" for policy, count in sorted(found.items())) or "nothing was counted"
    hint = "Callers first: sentences, then name and age. lab.metrics('sentences').plaintext() names who is left."
    return Judgement(set(found) == {"mutual_tls"}, "requests by mutual_tls, and no others", observed, hint)


def no_failed_request(traffic: Any) -> Judgement:
    """What was sent all the time was answered all the time."""
    sent, failed = int(sum(traffic["SENT"])), int(sum(traffic["FAILED"]))
    hint = "Did a pod go before its successor was ready, or before its callers knew? Look at preStop and readiness."
    good = sent >= ENOUGH and not failed
    return Judgement(good, f"at least {ENOUGH} requests, none failed", f"{sent} sent, {failed} failed", hint)


def strict(mode: str, door: Observation, caller: Observation, outside: Observation) -> Judgement:
    """STRICT: the door and mesh clients go on, a stranger is reset."""
    known = door.http_status == 200 and caller.http_status == 200 and caller.outcome is Outcome.MTLS
    observed = f"mode {mode}; gateway: {door.seen}; callers/curl: {caller.seen}; curl-outside: {outside.seen}"
    hint = "Apply manifests/lessons/15/strict.yaml when every service has a sidecar."
    good = mode == "STRICT" and known and outside.exit_code == 56
    return Judgement(good, "STRICT; gateway and callers/curl: 200; curl-outside: reset", observed, hint)


def chat_through_forward(forwarded: Observation, inside: Observation, outside: Observation) -> Judgement:
    """The page answers through a port-forward, its call to the backend is mTLS, a stranger is reset."""
    good = forwarded.http_status == 200 and inside.outcome is Outcome.MTLS and outside.exit_code == 56
    observed = f"port-forward: {forwarded.seen}; frontend -> backend: {inside.outcome}; curl-outside: {outside.seen}"
    hint = "Apply manifests/lessons/15/chat-strict.yaml."
    return Judgement(good, "port-forward: 200; frontend -> backend: mTLS; curl-outside: reset", observed, hint)


def one_week(_attempt: Any, sentences: Observation, name: Observation) -> Judgement:
    """The old job reaches sentences, and nothing behind it."""
    good = sentences.http_status == 200 and name.exit_code == 56
    observed = f"sentences: {sentences.seen}; name: {name.seen}"
    hint = "Which workload does the job call? Its pods have the label app with that name."
    return Judgement(good, "curl-outside: 200 from sentences, reset by name", observed, hint)


CHECKS = (
    Check("15-open", LOOKS, door_open, _door),
    Check("15-injected", LOOKS, injected, pods_of("sentences")),
    Check("15-all-mtls", LOOKS, all_mtls, _counted),
    Check("15-no-failed-request", "a table of lab.traffic()", no_failed_request),
    Check("15-strict", LOOKS, strict, _closed),
    Check("15-chat-through-forward", LOOKS, chat_through_forward, _chat),
    Check("15-one-week", RETURNED, one_week, _one_week, exercise=True),
)
