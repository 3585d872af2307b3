"""Expectations of a running mesh, ready to be judged: this client is answered, that one is refused, this mode holds.

Each function returns a question to a cluster. What a request does is found out by sending it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from labkit.checks.evidence import LOOKS, told
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.errors import LabError
from labkit.observe.declared import mode_of
from labkit.observe.objects import labels_of, take_snapshot
from labkit.observe.traffic import probe
from labkit.outcomes import Observation, Outcome

Expectation = Callable[[Cluster], Judgement]


def answered(
    client: str,
    url: str,
    *,
    status: int = 200,
    by: Outcome | None = None,
    data: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Expectation:
    """The client's request gets this status, and (`by`) travels so."""

    def expect(cluster: Cluster) -> Judgement:
        how = f" by {by}" if by else ""
        expected = f"{client} calls {url}: {status}{how}"
        seen = _send(cluster, client, url, data, headers)
        if isinstance(seen, str):
            return Judgement(False, expected, seen)
        good = seen.http_status == status and by in (None, seen.outcome)
        return Judgement(good, expected, told(seen))

    return expect


def refused(client: str, url: str, *, data: Any = None) -> Expectation:
    """The client's connection is refused before there is an answer."""

    def expect(cluster: Cluster) -> Judgement:
        expected = f"{client} calls {url}: refused"
        seen = _send(cluster, client, url, data, None)
        if isinstance(seen, str):
            return Judgement(False, expected, seen)
        return Judgement(seen.http_status is None and seen.outcome is Outcome.REFUSED, expected, told(seen))

    return expect


def has_mode(namespace: str, mode: str) -> Expectation:
    """The namespace's effective mTLS mode."""

    def expect(cluster: Cluster) -> Judgement:
        seen = mode_of(take_snapshot(cluster), namespace)
        return Judgement(seen == mode, f"namespace {namespace} is {mode}", f"it is {seen}")

    return expect


def exists(
    kind: str, name: str, namespace: str | None = None, *, labels: Mapping[str, str] | None = None
) -> Expectation:
    """An object that must stay is still there, with these labels."""

    def expect(cluster: Cluster) -> Judgement:
        where = f" in {namespace}" if namespace else ""
        expected = f"{kind} {name}{where} is there"
        found = cluster.find(cluster.kind(kind), name, namespace)
        if found is None:
            return Judgement(False, expected, "it is gone")
        missing = {k: v for k, v in (labels or {}).items() if labels_of(found).get(k) != v}
        return Judgement(not missing, expected, f"without {missing}" if missing else "it is there")

    return expect


def keeps(kind: str, name: str, namespace: str, *path: str | int) -> Expectation:
    """An object still says something at this place of it: what it was made for."""
    names = [step for step in path if isinstance(step, str)]

    def expect(cluster: Cluster) -> Judgement:
        expected = f"{kind} {name} in {namespace} keeps its {names[-1] if names else 'place'}"
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


def check_of(name: str, expectation: Expectation, hint: str) -> Check:
    """A check that needs no evidence: it asks the running mesh, and gives this hint when the answer is another."""

    def collect(cluster: Cluster) -> tuple[Any, ...]:
        return (expectation(cluster),)

    def judge(judgement: Judgement) -> Judgement:
        if not isinstance(judgement, Judgement):
            raise TypeError("this check looks for itself")
        return replace(judgement, hint=judgement.hint or hint)

    return Check(name, LOOKS, judge, collect)


def _send(cluster: Cluster, client: str, url: str, data: Any, headers: Mapping[str, str] | None) -> Observation | str:
    try:
        return probe(cluster, client, url, data=data, headers=headers)
    except LabError as error:
        return error.what
