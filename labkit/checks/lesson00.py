"""The checks of lesson 00."""

from __future__ import annotations

from typing import Any

from labkit.checks import judging
from labkit.checks.evidence import STATUS, mesh
from labkit.checks.results import Check
from labkit.cluster import Cluster
from labkit.cluster.kinds import NODE, POD
from labkit.errors import WaitTimeoutError
from labkit.observe.objects import condition

NODE_SECONDS = 10.0


def _cluster(cluster: Cluster) -> tuple[Any, ...]:
    def missing(nodes: list[Any]) -> str:
        return "" if any(condition(node, "Ready") for node in nodes) else "no node is Ready"

    try:  # an embedded cluster's API answers a moment before its node has registered
        nodes = cluster.wait_until(NODE, missing, what="a node to be Ready", limit=NODE_SECONDS)
    except WaitTimeoutError:
        nodes = cluster.objects(NODE)
    return cluster.version(), nodes


def _outside(cluster: Cluster) -> tuple[Any, ...]:
    return (cluster.objects(POD, "default", labels={"app": "curl-outside"}),)


CHECKS = (
    Check("00-cluster-answers", "nothing", judging.cluster_answers, _cluster),
    Check("00-no-mesh", STATUS, judging.mesh_absent, mesh),
    Check("00-first-pod", "a table of lab.pods()", judging.outside_not_injected, _outside),
    Check("00-count-containers", "a number", judging.counts_one_container, lambda _: (), exercise=True),
)
