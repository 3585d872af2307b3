"""The checks of lesson 05: sentences, without sidecars, with one, and with all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.checks.evidence import (
    LOOKS,
    OBSERVATION,
    OUTSIDE,
    PODS,
    RETURNED,
    counted_in,
    gateway_door,
    pods_of,
    ready_of,
    ready_words,
)
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.cluster.kinds import POD
from labkit.observe import metrics
from labkit.observe.declared import mode_of
from labkit.observe.exposition import Sample
from labkit.observe.objects import take_snapshot
from labkit.observe.traffic import probe
from labkit.outcomes import Observation, Outcome

APP = "sentences"
WORKLOADS = ("age", "name-v1", "name-v2", "sentences")


def _request(cluster: Cluster) -> Observation:
    return probe(cluster, OUTSIDE, gateway_door(cluster))


def _answer(cluster: Cluster) -> tuple[Any, ...]:
    return (_request(cluster),)


def _mode_and_answer(cluster: Cluster) -> tuple[Any, ...]:
    return mode_of(take_snapshot(cluster), APP), cluster.objects(POD, APP), _request(cluster)


def _locked(cluster: Cluster) -> tuple[Any, ...]:
    return *_mode_and_answer(cluster), *counted_in(APP)(cluster)


def _one_open(cluster: Cluster) -> tuple[Any, ...]:
    return tuple(probe(cluster, OUTSIDE, f"http://{name}.{APP}:5000/") for name in ("name", "age"))


def plain_pods(pods: Any) -> Judgement:
    """Four pods, none with a sidecar."""
    ready = ready_of(pods, WORKLOADS)
    hint = "Apply manifests/apps/sentences/plain, and wait: lab.wait_until_ready('sentences')."
    return Judgement(
        ready == dict.fromkeys(WORKLOADS, "1/1"), "four pods of sentences, each 1/1", ready_words(ready), hint
    )


def answered(seen: Observation) -> Judgement:
    """A sentence comes through the gateway."""
    hint = "Is there a Gateway and a VirtualService? Apply manifests/lessons/05/gateway.yaml."
    good = seen.http_status == 200 and "years old" in seen.body
    return Judgement(good, "200 and a sentence through the gateway", _seen(seen), hint)


def strict_is_idle(mode: str, pods: Any, seen: Observation) -> Judgement:
    """STRICT is declared, nobody enforces it, so requests are answered."""
    ready = ready_of(pods, WORKLOADS)
    good = mode == "STRICT" and seen.http_status == 200 and set(ready.values()) == {"1/1"}
    expected = "mode STRICT, no sidecars, and still 200"
    hint = "Apply manifests/lessons/05/strict.yaml while no pod of sentences has a sidecar."
    return Judgement(good, expected, f"mode {mode}; {ready_words(ready)}; {_seen(seen)}", hint)


def age_refuses(mode: str, pods: Any, seen: Observation) -> Judgement:
    """age alone has a sidecar and is STRICT: what sentences sends is reset."""
    ready = ready_of(pods, WORKLOADS)
    half = ready == {**dict.fromkeys(WORKLOADS, "1/1"), "age": "2/2"}
    reset = seen.http_status == 502 and "age cannot be reached" in seen.body
    expected = "age 2/2, the others 1/1, mode STRICT, and 502 because age cannot be reached"
    hint = "Label the namespace first, then apply manifests/apps/sentences/sidecar/age.yaml."
    return Judgement(
        mode == "STRICT" and half and reset, expected, f"mode {mode}; {ready_words(ready)}; {_seen(seen)}", hint
    )


def permissive_restores(mode: str, pods: Any, seen: Observation) -> Judgement:
    """age has a sidecar and takes plaintext again."""
    ready = ready_of(pods, WORKLOADS)
    good = mode == "PERMISSIVE" and ready.get("age") == "2/2" and seen.http_status == 200
    expected = "mode PERMISSIVE, age 2/2, and 200"
    hint = "Apply manifests/lessons/05/permissive.yaml; it replaces the STRICT one of the same name."
    return Judgement(good, expected, f"mode {mode}; {ready_words(ready)}; {_seen(seen)}", hint)


def _requests(samples: Iterable[Sample], workload: str) -> list[tuple[str, str]]:
    """(source, security policy) of the requests that a workload's own sidecar counted."""
    return sorted(
        {
            (str(one.labels.get("source_workload")), str(one.labels.get("connection_security_policy")))
            for one in samples
            if one.name == metrics.REQUESTS
            and one.labels.get("reporter") == "destination"
            and one.labels.get("destination_workload") == workload
        }
    )


def unknown_source(samples: Iterable[Sample]) -> Judgement:
    """age's sidecar counted requests of somebody whom it cannot name, in plaintext."""
    found = _requests(samples, "age")
    observed = "; ".join(f"source {source}, security {policy}" for source, policy in found) or "no requests counted"
    hint = "Send a few requests through the gateway first: lab.loop('default/curl-outside', door)."
    return Judgement(("unknown", "none") in found, "requests to age of source unknown, security none", observed, hint)


def all_locked(mode: str, pods: Any, seen: Observation, samples: Iterable[Sample]) -> Judgement:
    """All have sidecars, the mode is STRICT, and age knows by mTLS who calls."""
    ready = ready_of(pods, WORKLOADS)
    known = ("sentences", "mutual_tls") in _requests(samples, "age")
    injected = ready == dict.fromkeys(WORKLOADS, "2/2")
    expected = "mode STRICT, four pods 2/2, 200, and age names sentences by mTLS"
    caller = "age names sentences" if known else "age does not know sentences"
    observed = f"mode {mode}; {ready_words(ready)}; {_seen(seen)}; {caller}"
    hint = "Apply manifests/apps/sentences/sidecar and wait, then manifests/lessons/05/strict.yaml."
    return Judgement(mode == "STRICT" and injected and seen.http_status == 200 and known, expected, observed, hint)


def one_open(_attempt: Any, name: Observation, age: Observation) -> Judgement:
    """name takes plaintext, age refuses it."""
    good = name.http_status == 200 and name.outcome is Outcome.PLAINTEXT and age.exit_code == 56
    observed = f"name: {_seen(name)}; age: {_seen(age)}"
    hint = "The selector takes labels of pods. Which label do the pods of name have, and those of age not?"
    return Judgement(good, "curl-outside: 200 from name in plaintext, reset by age", observed, hint)


def _seen(seen: Observation) -> str:
    return " ".join(f"{seen.seen} {seen.body}".split())[:160]


CHECKS = (
    Check("05-plain-pods", PODS, plain_pods, pods_of(APP)),
    Check("05-loop-answered", OBSERVATION, answered, _answer),
    Check("05-strict-is-idle", LOOKS, strict_is_idle, _mode_and_answer),
    Check("05-age-refuses", LOOKS, age_refuses, _mode_and_answer),
    Check("05-permissive-restores", LOOKS, permissive_restores, _mode_and_answer),
    Check("05-unknown-source", LOOKS, unknown_source, counted_in(APP)),
    Check("05-all-locked", LOOKS, all_locked, _locked),
    Check("05-open-one", RETURNED, one_open, _one_open, exercise=True),
)
