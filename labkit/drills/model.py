"""What a drill is: a mesh that is broken on purpose, for a learner to diagnose and repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from labkit.checks.results import Judgement
from labkit.cluster import Cluster
from labkit.course import Act, World

Expectation = Callable[[Cluster], Judgement]
"""Looks at the running mesh and judges; see `labkit.checks.expecting`."""


@dataclass(frozen=True)
class Drill:
    """One broken mesh.

    `breaks` is done for real in `world`. The drill is healed when every expectation of `healed` holds: the symptom is
    gone, and what was meant to be there is still there, so that removing the policy is no repair. `repair` is the
    shortest one, `shortest` says it in words, with the kubectl line; `cause` explains, once it is healed.
    """

    name: str
    title: str
    story: str
    world: World
    breaks: Act
    healed: tuple[Expectation, ...]
    repair: Act
    shortest: str
    cause: str
    hints: tuple[str, ...] = ()
