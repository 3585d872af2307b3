"""The checks of lesson 01."""

from __future__ import annotations

from typing import Any

from labkit.checks import judging
from labkit.checks.evidence import PODS, RETURNED, STATUS, mesh, pods_of
from labkit.checks.results import Check
from labkit.cluster import Cluster
from labkit.observe.declared import mode_of
from labkit.observe.objects import take_snapshot


def _mode_of_default(cluster: Cluster) -> tuple[Any, ...]:
    return (mode_of(take_snapshot(cluster), "default"),)


CHECKS = (
    Check("01-kind-unknown", STATUS, judging.kind_unknown, mesh),
    Check("01-pods-plain", PODS, judging.pods_plain, pods_of("default")),
    Check("01-mesh-installed", STATUS, judging.mesh_installed, mesh),
    Check("01-kinds-served", STATUS, judging.kinds_served, mesh),
    Check("01-webhook-registered", STATUS, judging.webhook_registered, mesh),
    Check("01-first-policy", RETURNED, judging.first_policy_strict, _mode_of_default, exercise=True),
)
