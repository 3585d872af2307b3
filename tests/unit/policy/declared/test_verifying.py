"""Wishes held against what is declared."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.outcomes import Outcome
from labkit.policy.declared import DeclaredMesh
from labkit.policy.declared.changing import Change, preview
from labkit.policy.declared.verifying import (
    BREAKS,
    INVALID,
    PLAINTEXT,
    REFUSED,
    UNEXPECTED,
    findings_of,
    read_expectations,
    verify,
)
from tests.unit.policy.declared.objects import CLIENT, WEB, WORLD, istio, peers

MESH = DeclaredMesh(WORLD)


def test_plaintext_is_found_by_client_and_reason() -> None:
    found = verify(MESH)
    assert [(one.rule, one.edges) for one in found.findings] == [
        (PLAINTEXT, (("foo/client", "bar/naked:8080"),)),
        (PLAINTEXT, (("foo/web", "bar/naked:8080"),)),
        (PLAINTEXT, (("bar/naked", "foo/client:8080"), ("bar/naked", "foo/web:8080"))),
    ]
    assert found.findings[2].objects[0] == ("Deployment", "bar", "naked"), "where to look first"
    assert sum(bool(case.wrong) for case in found.cases) == 4
    assert verify(DeclaredMesh([*WEB, *CLIENT])).passed


def test_refusals_are_found_when_they_are_forbidden() -> None:
    mesh = DeclaredMesh([*WORLD, peers("STRICT")])
    (finding,) = verify(mesh, [Outcome.REFUSED]).findings
    assert (finding.rule, finding.objects[0]) == (REFUSED, ("PeerAuthentication", "foo", "default"))
    assert verify(MESH, [Outcome.REFUSED]).passed


def test_some_refused_requests_count_as_refusals() -> None:
    only_get = istio("AuthorizationPolicy", "foo", "get", rules=[{"to": [{"operation": {"methods": ["GET"]}}]}])
    found = verify(DeclaredMesh([*WEB, *CLIENT, only_get]), [Outcome.REFUSED])
    assert [one.rule for one in found.findings] == [REFUSED, REFUSED]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [(["bar/naked"], 0), (["bar/*"], 0), (["bar/naked -> foo/web"], 3), (["foo/web:8080"], 3), (["nobody/*"], 4)],
)
def test_exemptions(patterns: list[str], left: int) -> None:
    found = verify(MESH, excepted=patterns)
    assert sum(len(one.edges) for one in found.findings) == left


def test_only_calls_into_some_namespaces() -> None:
    assert {case.group for case in verify(MESH, namespaces=["bar"]).cases} == {"bar/naked:8080"}


def test_expectations() -> None:
    wanted = [
        {"client": "foo/client", "server": "foo/web", "port": 8080, "verdict": "mTLS"},
        {"client": "bar/naked", "server": "foo/web", "verdict": "refused"},
        {"client": "foo/client", "server": "foo/nobody", "port": 1, "verdict": "mtls"},
    ]
    found = verify(MESH, (), read_expectations(wanted))
    assert [bool(case.wrong) for case in found.cases] == [False, True, True]
    assert [one.rule for one in found.findings] == [UNEXPECTED, UNEXPECTED]
    assert "it is plaintext" in found.findings[0].message
    assert verify(DeclaredMesh([*WORLD, peers("STRICT")]), (), read_expectations({"edges": wanted[:2]})).passed


@pytest.mark.parametrize(
    "wrong",
    [
        "mTLS",
        {"client": "x"},
        ["text"],
        [{"client": "a", "server": "b", "verdict": "good"}],
        [{"client": "a", "verdict": "mTLS"}],
        [{"client": "a", "server": "b", "port": "http", "verdict": "mTLS"}],
    ],
)
def test_expectations_that_cannot_be_read(wrong: Any) -> None:
    with pytest.raises(InputError) as error:
        read_expectations(wrong)
    assert error.value.next_step


def test_a_preview_as_findings() -> None:
    found = findings_of(preview(MESH, Change([peers("STRICT")])))
    (finding,) = found.findings
    assert (finding.rule, len(finding.edges)) == (BREAKS, 2)
    assert findings_of(preview(MESH, Change([peers("PERMISSIVE")]))).passed
    wrong = peers("STRICT", portLevelMtls={"1": {"mode": "STRICT"}})
    assert INVALID in [one.rule for one in findings_of(preview(MESH, Change([wrong]))).findings]
