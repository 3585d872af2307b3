"""The checks of lesson 16: a symptom, what both sides do, and a repair that takes nothing along."""

from __future__ import annotations

from typing import Any

from labkit.checks.evidence import CALLER, LOOKS, OUTSIDE, RETURNED
from labkit.checks.expecting import answered, has_mode, keeps
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.observe.declared_mesh import read_declared_mesh
from labkit.observe.objects import find_workload, name_of
from labkit.observe.traffic import probe
from labkit.outcomes import Observation, Outcome

PAGE, METRICS = "http://visits.visits:8080/", "http://visits-metrics.visits:9090/metrics"
WALKED = "rule-forgets-tls"
HEALED = (
    answered(CALLER, PAGE, by=Outcome.MTLS),
    has_mode("visits", "STRICT"),
    keeps("destinationrule", "visits", "visits", "spec", "trafficPolicy", "connectionPool"),
)
"""What holds when that drill is healed: nothing that was asked for is gone."""

START = f"Start the drill: lab.drill('{WALKED}')."


def _both_callers(cluster: Cluster) -> tuple[Any, ...]:
    return probe(cluster, CALLER, PAGE), probe(cluster, OUTSIDE, PAGE)


def _log(cluster: Cluster) -> tuple[Any, ...]:
    probe(cluster, CALLER, PAGE)
    pod = find_workload(cluster, CALLER).ready_pod()
    return (cluster.logs(name_of(pod), "callers", container="istio-proxy", tail=1),)


def _sides(cluster: Cluster) -> tuple[Any, ...]:
    answer = read_declared_mesh(cluster).explain(CALLER, "visits/visits", 8080, None, None).answer
    return answer.sends, answer.accepts


def _drill(cluster: Cluster) -> tuple[Any, ...]:
    return (tuple(expect(cluster) for expect in HEALED),)


def _exception(cluster: Cluster) -> tuple[Any, ...]:
    return probe(cluster, OUTSIDE, METRICS), probe(cluster, OUTSIDE, PAGE), probe(cluster, CALLER, PAGE)


def two_symptoms(caller: Observation, outside: Observation) -> Judgement:
    """One cause, two faces: 503 where a proxy stands before the client, a reset where none does."""
    good = caller.http_status == 503 and outside.exit_code == 56
    observed = f"callers/curl: {caller.seen}; curl-outside: {outside.seen}"
    return Judgement(good, "callers/curl: 503; curl-outside: reset, exit code 56", observed, START)


def log_says_who(log: str) -> Judgement:
    """The caller's proxy says that the other side ended the connection."""
    line = log.strip().splitlines()[-1] if log.strip() else ""
    good = " 503 UC " in line
    return Judgement(good, "the newest line has 503 UC", line[:160] or "nothing was logged", START)


def both_sides(sends: str, accepts: str) -> Judgement:
    """The client sends what the server does not take."""
    good = sends == "plaintext" and accepts == "mTLS only"
    observed = f"the client sends {sends}, the server accepts {accepts}"
    return Judgement(good, "the client sends plaintext, the server accepts mTLS only", observed, START)


def healed(judged: tuple[Judgement, ...]) -> Judgement:
    """The symptom is gone, and what was asked for is still there."""
    failed = [one for one in judged if not one.passed]
    observed = "; ".join(f"{one.expected}: {one.observed}" for one in failed) or "all of it"
    hint = "lab.heal() does the shortest repair."
    return Judgement(not failed, "200 by mTLS, STRICT, and the limit for connections", observed, hint)


def exception(_attempt: Any, metrics: Observation, page: Observation, caller: Observation) -> Judgement:
    """One port is open, and no other."""
    good = metrics.http_status == 200 and page.exit_code == 56 and caller.outcome is Outcome.MTLS
    observed = f"metrics: {metrics.seen}; page: {page.seen}; callers/curl: {caller.outcome}"
    hint = "portLevelMtls takes the port on which the container listens: lab.describe('visits/visits')."
    return Judgement(good, "curl-outside: 200 on the metrics, reset on the page; callers/curl by mTLS", observed, hint)


CHECKS = (
    Check("16-two-symptoms", LOOKS, two_symptoms, _both_callers),
    Check("16-log-says-who", LOOKS, log_says_who, _log),
    Check("16-both-sides", LOOKS, both_sides, _sides),
    Check("16-healed", LOOKS, healed, _drill),
    Check("16-exception", RETURNED, exception, _exception, exercise=True),
)
