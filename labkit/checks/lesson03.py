"""The checks of lesson 03."""

from __future__ import annotations

from typing import Any

from labkit.checks import judging
from labkit.checks.evidence import (
    BACKEND_URL,
    CERTIFICATE,
    EFFECTIVE,
    MESSAGE,
    OBSERVATION,
    RETURNED,
    asked_from_frontend,
    asked_from_outside,
    certificate_of_backend,
    effective,
    pods_when_ready,
)
from labkit.checks.judging import APP
from labkit.checks.results import Check
from labkit.cluster import Cluster
from labkit.errors import LabError
from labkit.observe.traffic import probe


def _opted_out(cluster: Cluster) -> tuple[Any, ...]:
    pods = pods_when_ready(cluster, f"{APP}/curl-plain")
    try:
        seen = probe(cluster, f"{APP}/curl-plain", BACKEND_URL, data=MESSAGE)
    except LabError:
        seen = None
    return pods, seen


CHECKS = (
    Check("03-permissive", EFFECTIVE, judging.permissive_by_default, effective),
    Check("03-plaintext-accepted", OBSERVATION, judging.plaintext_accepted, asked_from_outside),
    Check("03-mesh-client-accepted", OBSERVATION, judging.mesh_client_accepted, asked_from_frontend),
    Check("03-certificate", CERTIFICATE, judging.certificate_names_workload, certificate_of_backend),
    Check("03-opt-out", RETURNED, judging.client_opted_out, _opted_out, exercise=True),
)
