"""Expectations that drills have beside those of `labkit.checks.expecting`."""

from __future__ import annotations

from typing import Any

from labkit.checks.expecting import Expectation, answered
from labkit.checks.results import Judgement
from labkit.cluster import Cluster
from labkit.cluster.kinds import DEPLOYMENT
from labkit.errors import LabError
from labkit.observe.forwarded import ask_through_forward
from labkit.observe.waiting import missing_in_deployment


def keeps(kind: str, name: str, namespace: str, *path: str | int) -> Expectation:
    """An object still says something at this place of it: what it was made for."""

    def expect(cluster: Cluster) -> Judgement:
        expected = f"{kind} {name} in {namespace} keeps its {path[-1] if path else 'place'}"
        value: Any = cluster.find(cluster.kind(kind), name, namespace)
        if value is None:
            return Judgement(False, expected, "it is gone")
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                value = None
        return Judgement(value is not None, expected, "it is there" if value is not None else "not any more")

    return expect


def answered_each_time(client: str, url: str, times: int) -> Expectation:
    """The same request gets 200 again and again."""
    once = answered(client, url)

    def expect(cluster: Cluster) -> Judgement:
        expected = f"{client} calls {url}: 200, {times} times"
        for count in range(1, times + 1):
            one = once(cluster)
            if not one.passed:
                return Judgement(False, expected, f"the {count}. time {one.observed}")
        return Judgement(True, expected, "200 each time")

    return expect


def rolled_out(deployment: str, namespace: str) -> Expectation:
    """All pods of a Deployment are ready, and of its newest template."""

    def expect(cluster: Cluster) -> Judgement:
        expected = f"deployment {deployment} in {namespace} is rolled out"
        found = cluster.find(DEPLOYMENT, deployment, namespace)
        lacking = missing_in_deployment(found) if found else "it is gone"
        return Judgement(not lacking, expected, lacking or "it is")

    return expect


def forwarded(workload: str, port: int) -> Expectation:
    """`kubectl port-forward` still reaches the application."""

    def expect(cluster: Cluster) -> Judgement:
        expected = f"kubectl port-forward to {workload} {port}: 200"
        try:
            seen = ask_through_forward(cluster, workload, port)
        except LabError as error:
            return Judgement(False, expected, error.what)
        return Judgement(seen.http_status == 200, expected, seen.seen)

    return expect
