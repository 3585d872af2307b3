"""The checks of lesson 02."""

from __future__ import annotations

from typing import Any

from labkit.checks import judging
from labkit.checks.evidence import (
    OBSERVATION,
    PODS,
    RETURNED,
    asked_from_frontend,
    pods_of,
    pods_of_app,
    pods_when_ready,
)
from labkit.checks.judging import APP
from labkit.checks.results import Check
from labkit.cluster import Cluster
from labkit.cluster.kinds import NAMESPACE


def _app_namespace(cluster: Cluster) -> tuple[Any, ...]:
    return (cluster.get(NAMESPACE, APP),)


def _inside(cluster: Cluster) -> tuple[Any, ...]:
    return (pods_when_ready(cluster, f"{APP}/curl-inside"),)


CHECKS = (
    Check("02-plain-pods", PODS, judging.chat_pods_plain, pods_of_app),
    Check("02-namespace-labelled", "the namespace", judging.namespace_labelled, _app_namespace),
    Check("02-running-pods-unchanged", PODS, judging.running_pods_unchanged, pods_of_app),
    Check("02-injected-pods", PODS, judging.pods_injected, pods_of_app),
    Check("02-inside-the-pod", "the pods", judging.inside_the_pod, pods_of_app),
    Check("02-outside-not-injected", PODS, judging.outside_not_injected, pods_of("default")),
    Check("02-mesh-request", OBSERVATION, judging.mesh_request, asked_from_frontend),
    Check("02-inside-client", RETURNED, judging.client_inside, _inside, exercise=True),
)
