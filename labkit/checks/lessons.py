"""The checks of the lessons by name: what evidence each takes, who judges it, and how it is collected if left out."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from labkit.checks import judging
from labkit.checks.judging import APP
from labkit.checks.results import Check
from labkit.cluster import Cluster
from labkit.cluster.kinds import NAMESPACE, NODE, POD
from labkit.errors import InputError, LabError, WaitTimeoutError
from labkit.observe.declared import EFFECTIVE_COLUMNS, effective_rows, mode_of
from labkit.observe.mesh import mesh_status
from labkit.observe.objects import condition, take_snapshot
from labkit.observe.proxy import certificate
from labkit.observe.traffic import probe
from labkit.observe.waiting import wait_until_ready

OUTSIDE = "default/curl-outside"
BACKEND_URL = f"http://chatbackend-service.{APP}:5000/chat"
FRONTEND_URL = f"http://chatfrontend-service.{APP}:80/healthz"
MESSAGE = {"message": "hello from a check"}
NODE_SECONDS = 10.0
EXERCISE_SECONDS = 20.0  # a learner's pod that does not start shall not hold up the lesson


def _cluster(cluster: Cluster) -> tuple[Any, ...]:
    def missing(nodes: list[Any]) -> str:
        return "" if any(condition(node, "Ready") for node in nodes) else "no node is Ready"

    try:  # an embedded cluster's API answers a moment before its node has registered
        nodes = cluster.wait_until(NODE, missing, what="a node to be Ready", limit=NODE_SECONDS)
    except WaitTimeoutError:
        nodes = cluster.objects(NODE)
    return cluster.version(), nodes


def _mesh(cluster: Cluster) -> tuple[Any, ...]:
    return (mesh_status(cluster),)


def _pods_of_app(cluster: Cluster) -> tuple[Any, ...]:
    return (cluster.objects(POD, APP),)


def _pods_of_default(cluster: Cluster) -> tuple[Any, ...]:
    return (cluster.objects(POD, "default"),)


def _app_namespace(cluster: Cluster) -> tuple[Any, ...]:
    return (cluster.get(NAMESPACE, APP),)


def _effective(cluster: Cluster) -> tuple[Any, ...]:
    rows = effective_rows(take_snapshot(cluster), APP)
    return ([dict(zip(EFFECTIVE_COLUMNS, row, strict=True)) for row in rows],)


def _certificate(cluster: Cluster) -> tuple[Any, ...]:
    return (certificate(cluster, f"{APP}/chatbackend"),)


def _mode_of_default(cluster: Cluster) -> tuple[Any, ...]:
    return (mode_of(take_snapshot(cluster), "default"),)


def _when_ready(cluster: Cluster, workload: str) -> list[Any]:
    try:
        wait_until_ready(cluster, workload, limit=EXERCISE_SECONDS)
    except LabError:  # the check itself says what is missing
        return cluster.objects(POD, APP)
    return cluster.objects(POD, APP)


def _inside(cluster: Cluster) -> tuple[Any, ...]:
    return (_when_ready(cluster, f"{APP}/curl-inside"),)


def _opted_out(cluster: Cluster) -> tuple[Any, ...]:
    pods = _when_ready(cluster, f"{APP}/curl-plain")
    try:
        seen = probe(cluster, f"{APP}/curl-plain", BACKEND_URL, data=MESSAGE)
    except LabError:
        seen = None
    return pods, seen


def _one_port(cluster: Cluster) -> tuple[Any, ...]:
    return probe(cluster, OUTSIDE, BACKEND_URL, data=MESSAGE), probe(cluster, OUTSIDE, FRONTEND_URL)


_OBSERVATION = "what lab.probe() returned"
_PODS = "a table of lab.pods()"
_STATUS = "what lab.mesh_status() returned"
_RETURNED = "what lab.attempt() returned"

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        Check("00-cluster-answers", "nothing", judging.cluster_answers, _cluster),
        Check("00-no-mesh", _STATUS, judging.mesh_absent, _mesh),
        Check("00-count-containers", "a number", judging.counts_one_container, lambda _: (), exercise=True),
        Check("01-kind-unknown", _STATUS, judging.kind_unknown, _mesh),
        Check("01-pods-plain", _PODS, judging.pods_plain, _pods_of_default),
        Check("01-mesh-installed", _STATUS, judging.mesh_installed, _mesh),
        Check("01-kinds-served", _STATUS, judging.kinds_served, _mesh),
        Check("01-webhook-registered", _STATUS, judging.webhook_registered, _mesh),
        Check("01-first-policy", _RETURNED, judging.first_policy_strict, _mode_of_default, exercise=True),
        Check("02-plain-pods", _PODS, judging.chat_pods_plain, _pods_of_app),
        Check("02-namespace-labelled", "the namespace", judging.namespace_labelled, _app_namespace),
        Check("02-running-pods-unchanged", _PODS, judging.running_pods_unchanged, _pods_of_app),
        Check("02-injected-pods", _PODS, judging.pods_injected, _pods_of_app),
        Check("02-inside-the-pod", "the pods", judging.inside_the_pod, _pods_of_app),
        Check("02-outside-not-injected", _PODS, judging.outside_not_injected, _pods_of_default),
        Check("02-mesh-request", _OBSERVATION, judging.mesh_request),
        Check("02-inside-client", _RETURNED, judging.client_inside, _inside, exercise=True),
        Check("03-permissive", "what lab.effective_mtls() returned", judging.permissive_by_default, _effective),
        Check("03-plaintext-accepted", _OBSERVATION, judging.plaintext_accepted),
        Check("03-mesh-client-accepted", _OBSERVATION, judging.mesh_client_accepted),
        Check("03-certificate", "what lab.certificate_of() returned", judging.certificate_names_workload, _certificate),
        Check("03-opt-out", _RETURNED, judging.client_opted_out, _opted_out, exercise=True),
        Check("04-strict-declared", "what lab.effective_mtls() returned", judging.strict_declared, _effective),
        Check("04-plaintext-refused", _OBSERVATION, judging.plaintext_refused),
        Check("04-mesh-client-accepted", _OBSERVATION, judging.mesh_client_accepted),
        Check("04-prediction", "a verdict and an observation", judging.prediction_holds),
        Check("04-one-port", _RETURNED, judging.one_port_open, _one_port, exercise=True),
    )
}


def find_check(name: str) -> Check:
    """The check by name. Raises InputError, which lists the names."""
    if name in CHECKS:
        return CHECKS[name]
    near = get_close_matches(str(name), CHECKS, n=1)
    raise InputError(
        f"There is no check {name!r}.",
        meaning=f"Checks: {', '.join(CHECKS)}.",
        next_step=f"Did you mean {near[0]!r}?" if near else "Take one of these names.",
        name=name,
    )
