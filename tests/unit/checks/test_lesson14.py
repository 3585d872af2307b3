"""The exercises of lesson 14: each judge passes on what its exercise asks for, and fails on all else."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.checks import find_check
from labkit.outcomes import Observation, Probe


def got(status: int = 200, **headers: str) -> Observation:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Observation(probe=Probe("callers/curl", "visits/visits", 8080), http_status=status, headers=named)


ASKED_FOR = [got(403), got(404), got(401), got(200)]


@pytest.mark.parametrize(
    ("name", "evidence", "passes"),
    [
        ("14-demand", ASKED_FOR, True),
        ("14-demand", [got(404), *ASKED_FOR[1:]], False),
        ("14-demand", [got(403), got(403), *ASKED_FOR[2:]], False),
        ("14-demand", [*ASKED_FOR[:2], got(404), got(200)], False),
        ("14-demand", [*ASKED_FOR[:3], got(403)], False),
        ("14-not-found", [False, True], True),
        ("14-not-found", [True, True], False),
        ("14-not-found", [False, False], False),
        ("14-say-server", [got(x_served_by="visits")], True),
        ("14-say-server", [got()], False),
        ("14-greeting", [got(x_wasm_plugin='{"greeting":"good morning"}')], True),
        ("14-greeting", [got(x_wasm_plugin='{"greeting":"hello from Wasm"}')], False),
        ("14-greeting", [got()], False),
        ("14-four-threads", [4, ["four-threads"]], True),
        ("14-four-threads", [1, ["four-threads"]], False),
        ("14-four-threads", [4, []], False),
    ],
)
def test_an_exercise_is_judged_by_its_effect(name: str, evidence: list[Any], passes: bool) -> None:
    result = find_check(name).result(None, *evidence)
    assert result.passed is passes, str(result)
    assert bool(result.hint) is not passes
    assert "cannot be judged" not in result.observed
