"""The checks of lesson 04."""

from __future__ import annotations

from typing import Any

from labkit.checks import judging
from labkit.checks.evidence import (
    BACKEND_URL,
    EFFECTIVE,
    FRONTEND_URL,
    MESSAGE,
    OBSERVATION,
    OUTSIDE,
    RETURNED,
    asked_from_frontend,
    asked_from_outside,
    effective,
)
from labkit.checks.results import Check
from labkit.cluster import Cluster
from labkit.observe.traffic import probe


def _one_port(cluster: Cluster) -> tuple[Any, ...]:
    return probe(cluster, OUTSIDE, BACKEND_URL, data=MESSAGE), probe(cluster, OUTSIDE, FRONTEND_URL)


CHECKS = (
    Check("04-strict-declared", EFFECTIVE, judging.strict_declared, effective),
    Check("04-plaintext-refused", OBSERVATION, judging.plaintext_refused, asked_from_outside),
    Check("04-mesh-client-accepted", OBSERVATION, judging.mesh_client_accepted, asked_from_frontend),
    Check("04-prediction", "a verdict and an observation", judging.prediction_holds),
    Check("04-one-port", RETURNED, judging.one_port_open, _one_port, exercise=True),
)
