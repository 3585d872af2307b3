"""The checks of lesson 13: what proxies and istiod say, and whether it is so."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.checks.evidence import LOOKS, OUTSIDE, RETURNED, counted_in, ready_of
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.cluster.kinds import DEPLOYMENT, POD
from labkit.observe import metrics, proxy_log
from labkit.observe.describe import Description, describe_pod
from labkit.observe.exposition import Sample
from labkit.observe.objects import PROXY, find_workload, name_of
from labkit.observe.proxies import ProxyStatus, proxy_statuses
from labkit.observe.traffic import probe
from labkit.outcomes import Observation

APP, FRONTEND = "workshop", "http://frontend.workshop:9000/"
WORKLOADS = ("catalogdetail", "catalogdetail2", "frontend", "productcatalog")
ANSWER_SECONDS = 3.0
"""So long proxies may take for their answers."""


def _pods(cluster: Cluster) -> tuple[Any, ...]:
    return cluster.objects(DEPLOYMENT, APP), cluster.objects(POD, APP)


def _described(cluster: Cluster) -> tuple[Any, ...]:
    pod = find_workload(cluster, f"{APP}/productcatalog").ready_pod()
    return (describe_pod(cluster, pod),)


def _statuses(cluster: Cluster) -> tuple[Any, ...]:
    """What istiod says, once the answers that are on their way have come."""
    until = time.monotonic() + ANSWER_SECONDS
    found = proxy_statuses(cluster)
    while not synced(found).passed and time.monotonic() < until:
        time.sleep(0.1)  # istiod has no watch for it
        found = proxy_statuses(cluster)
    return (found,)


def _outsider(cluster: Cluster) -> tuple[Any, ...]:
    return (probe(cluster, OUTSIDE, FRONTEND),)


def _level(cluster: Cluster) -> tuple[Any, ...]:
    return (proxy_log.read_levels(cluster, find_workload(cluster, f"{APP}/frontend").ready_pod()),)


def _log(cluster: Cluster) -> tuple[Any, ...]:
    pod = find_workload(cluster, f"{APP}/frontend").ready_pod()
    return (cluster.logs(name_of(pod), APP, container=PROXY, tail=5000),)


def injected(deployments: list[Any], pods: list[Any]) -> Judgement:
    """Templates with one container, pods with two."""
    templates = {name_of(one): len(one["spec"]["template"]["spec"]["containers"]) for one in deployments}
    ready = ready_of(pods, WORKLOADS)
    good = templates == dict.fromkeys(WORKLOADS, 1) and ready == dict.fromkeys(WORKLOADS, "2/2")
    observed = ", ".join(
        f"{name}: template {templates.get(name, 0)}, pod {ready.get(name, 'none')}" for name in WORKLOADS
    )
    hint = "lab.reset('13') makes the workshop anew, with sidecars."
    return Judgement(good, "four workloads, one container in each template, 2/2 in each pod", observed, hint)


def synced(statuses: Iterable[ProxyStatus]) -> Judgement:
    """Every proxy of the workshop has registered with istiod, and runs what it was sent."""
    found = {name: one for name in WORKLOADS for one in statuses if one.name.startswith(f"{name}-")}
    observed = ", ".join(f"{name}: {_status(found.get(name))}" for name in WORKLOADS)
    good = len(found) == len(WORKLOADS) and all(one.synced for one in found.values())
    hint = "A proxy that is missing never connected; one that is late shows what it waits for: lab.proxy_status()."
    return Judgement(good, "four proxies, each in step with istiod", observed, hint)


def _status(one: ProxyStatus | None) -> str:
    if one is None:
        return "not registered"
    return "in step" if one.synced else ", ".join(f"{kind} {status}" for kind, status in one.late.items())


def described_permissive(told: Description) -> Judgement:
    """Nobody has written a policy, so the pod is PERMISSIVE."""
    hint = "A policy is left somewhere: lab.describe('workshop/productcatalog') names it."
    return Judgement(
        told.mode == "PERMISSIVE" and not told.policies, "PERMISSIVE, no policy applied", _mode(told), hint
    )


def described_strict(told: Description) -> Judgement:
    """The mesh's own policy makes it STRICT."""
    good = told.mode == "STRICT" and any(name.startswith("default.") for name in told.policies)
    hint = "Apply manifests/lessons/13/root/strict.yaml into the mesh's root namespace."
    return Judgement(good, "STRICT, by the policy default of the root namespace", _mode(told), hint)


def _mode(told: Description) -> str:
    return f"{told.mode}, applied: {', '.join(told.policies) or 'no policy'}"


def edges_locked(samples: Iterable[Sample]) -> Judgement:
    """Inside the workshop every edge that was used is mTLS, as the servers' proxies counted it."""
    edges = {
        (str(one.labels.get("source_workload")), str(one.labels.get("destination_workload")))
        for one in samples
        if one.name == metrics.REQUESTS
        and one.labels.get("reporter") == "destination"
        and one.labels.get("connection_security_policy") == "mutual_tls"
    }
    wanted = {("frontend", "productcatalog"), ("productcatalog", "catalogdetail")}
    observed = ", ".join(f"{source} -> {server}" for source, server in sorted(edges)) or "no edge"
    hint = "Send a few requests to the frontend first: they go on to the other services."
    return Judgement(wanted <= edges, "mutual_tls: frontend -> productcatalog -> catalogdetail", observed, hint)


def outsider_reset(seen: Observation) -> Judgement:
    """A client without a sidecar is reset."""
    hint = "The policy has to stand in the root namespace, without a selector."
    return Judgement(seen.exit_code == 56, "curl-outside: reset, exit code 56", seen.seen, hint)


def log_level(levels: Mapping[str, str]) -> Judgement:
    """The logger for upstreams is turned up, the others are not."""
    others = {level for name, level in levels.items() if name != "upstream"}
    good = levels.get("upstream") == "debug" and "debug" not in others
    observed = f"upstream: {levels.get('upstream')}; others: {', '.join(sorted(others))}"
    return Judgement(good, "upstream: debug", observed, "lab.proxy_log('workshop/frontend', 'upstream:debug')")


def log_names_socket(log: str) -> Judgement:
    """The proxy says which socket it chose for an endpoint."""
    found = [line for line in log.splitlines() if "transport socket match" in line and "tlsMode-istio" in line]
    observed = found[-1][:160] if found else "no such line"
    hint = "It is written when endpoints change: restart workshop/productcatalog, with the level at debug."
    return Judgement(bool(found), "transport socket match, socket tlsMode-istio selected", observed, hint)


def named_port(_attempt: Any, told: Description) -> Judgement:
    """describe knows the port's protocol by its name."""
    lines = [line.strip() for line in told.lines if line.strip().startswith("Port: http-catalog 5000/")]
    hint = "A port's name is protocol, hyphen, anything: http-..., tcp-..., grpc-..."
    return Judgement(
        any("/HTTP " in line for line in lines),
        "Port: http-catalog 5000/HTTP",
        "; ".join(lines) or "no such port",
        hint,
    )


CHECKS = (
    Check("13-injected", LOOKS, injected, _pods),
    Check("13-synced", LOOKS, synced, _statuses),
    Check("13-described-permissive", LOOKS, described_permissive, _described),
    Check("13-edges-locked", LOOKS, edges_locked, counted_in(APP)),
    Check("13-described-strict", LOOKS, described_strict, _described),
    Check("13-outsider-reset", "what lab.probe() returned", outsider_reset, _outsider),
    Check("13-log-level", LOOKS, log_level, _level),
    Check("13-log-names-socket", LOOKS, log_names_socket, _log),
    Check("13-named-port", RETURNED, named_port, _described, exercise=True),
)
