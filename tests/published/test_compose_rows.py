"""How Istio merges PeerAuthentications into one workload's mode.

The rows and their ids follow pilot/pkg/security/authn/policy_applier_test.go, TestComposePeerAuthentication (its
workload has the label app=foo); those about other namespaces and about the mode of a namespace follow
pilot/pkg/model/authentication.go.
"""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy import Workload, compose_peer_authentication, namespace_mode
from tests.published.objects import ROOT, peer_authentication

APP = {"app": "foo"}
WORKLOAD = Workload("my-ns", "foo-1", {"app": "foo", "version": "v1"})

mesh = lambda mode=None, name="default", **more: peer_authentication(ROOT, name, mode, **more)  # noqa: E731
space = lambda mode=None, name="default", **more: peer_authentication("my-ns", name, mode, **more)  # noqa: E731
work = lambda mode=None, name="foo", **more: peer_authentication("my-ns", name, mode, labels=APP, **more)  # noqa: E731

# id, policies, mode, modes of listed ports, name of the deciding policy
ROWS: list[tuple[str, list[dict[str, Any]], str, dict[int, str], str]] = [
    ("no config", [], "PERMISSIVE", {}, ""),
    ("mesh only", [mesh("STRICT")], "STRICT", {}, "istio-system/default"),
    ("mesh vs namespace", [mesh("STRICT"), space("PERMISSIVE")], "PERMISSIVE", {}, "my-ns/default"),
    (
        "ignore non-empty selector in root namespace",
        [peer_authentication(ROOT, "default", "STRICT", labels=APP)],
        "PERMISSIVE",
        {},
        "",
    ),
    (
        "empty matchLabels is wide",
        [peer_authentication(ROOT, "default", "STRICT", labels={})],
        "STRICT",
        {},
        "istio-system/default",
    ),
    ("workload vs namespace config", [work("STRICT"), space("PERMISSIVE")], "STRICT", {}, "my-ns/foo"),
    ("workload vs mesh config", [work("STRICT"), mesh("PERMISSIVE")], "STRICT", {}, "my-ns/foo"),
    (
        "multiple mesh policy: oldest",
        [mesh("PERMISSIVE", "now"), mesh("DISABLE", "second", age=1), mesh("STRICT", "third", age=2)],
        "STRICT",
        {},
        "istio-system/third",
    ),
    (
        "multiple namespace policy: oldest",
        [space("STRICT", "second", age=1), space("PERMISSIVE", "oldest", age=2)],
        "PERMISSIVE",
        {},
        "my-ns/oldest",
    ),
    (
        "multiple workload policy: oldest",
        [work("STRICT", "second", age=1), work("PERMISSIVE", "oldest", age=2)],
        "PERMISSIVE",
        {},
        "my-ns/oldest",
    ),
    ("equal age: smallest name", [space("STRICT", "b"), space("DISABLE", "a")], "DISABLE", {}, "my-ns/a"),
    (
        "an older UNSET blocks a newer STRICT",
        [space("UNSET", "old", age=1), space("STRICT", "new")],
        "PERMISSIVE",
        {},
        "",
    ),
    ("inheritance: default mesh", [mesh("UNSET")], "PERMISSIVE", {}, ""),
    ("inheritance: mesh to workload", [mesh("STRICT"), work("UNSET")], "STRICT", {}, "istio-system/default"),
    ("inheritance: namespace to workload", [space("STRICT"), work("UNSET")], "STRICT", {}, "my-ns/default"),
    (
        "inheritance: mesh to namespace to workload",
        [mesh("STRICT"), space("UNSET"), work("UNSET")],
        "STRICT",
        {},
        "istio-system/default",
    ),
    ("mtls absent is UNSET", [mesh("STRICT"), space(None)], "STRICT", {}, "istio-system/default"),
    (
        "port level",
        [work("STRICT", ports={80: "DISABLE", 90: "UNSET", 100: None})],
        "STRICT",
        {80: "DISABLE", 90: "STRICT", 100: "STRICT"},
        "my-ns/foo",
    ),
    (
        "port level on an UNSET workload inherits the namespace",
        [space("STRICT"), work(None, ports={80: "PERMISSIVE", 90: "UNSET"})],
        "STRICT",
        {80: "PERMISSIVE", 90: "STRICT"},
        "my-ns/default",
    ),
    (
        "port level of a namespace policy is not read",
        [space("STRICT", ports={80: "DISABLE"})],
        "STRICT",
        {},
        "my-ns/default",
    ),
    (
        "port level of a losing workload policy is not read",
        [work("STRICT", "old", age=1), work("DISABLE", "new", ports={80: "DISABLE"})],
        "STRICT",
        {},
        "my-ns/old",
    ),
    (
        "two selectors on one workload: age, not number of labels",
        [
            work("PERMISSIVE", "one-label", age=1),
            peer_authentication("my-ns", "two-labels", "STRICT", labels={"app": "foo", "version": "v1"}),
        ],
        "PERMISSIVE",
        {},
        "my-ns/one-label",
    ),
    ("another namespace", [peer_authentication("other", "default", "STRICT")], "PERMISSIVE", {}, ""),
    ("another workload", [peer_authentication("my-ns", "x", "STRICT", labels={"app": "bar"})], "PERMISSIVE", {}, ""),
]


@pytest.mark.parametrize(("policies", "mode", "ports", "decider"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
@pytest.mark.parametrize("turn", [1, -1], ids=["as listed", "reversed"])
def test_merge(turn: int, policies: list[dict[str, Any]], mode: str, ports: dict[int, str], decider: str) -> None:
    effective = compose_peer_authentication(policies[::turn], WORKLOAD)
    decided_by = effective.decided_by
    named = f"{decided_by.namespace}/{decided_by.name}" if decided_by.name else ""
    assert (effective.mode, dict(effective.per_port), named) == (mode, ports, decider)


def test_a_selector_in_the_root_namespace_is_ignored_even_for_workloads_that_live_there() -> None:
    policy = peer_authentication(ROOT, "x", "STRICT", labels=APP)
    assert compose_peer_authentication([policy], Workload(ROOT, "foo-1", APP)).mode == "PERMISSIVE"


NAMESPACE_ROWS = [
    ("nothing is unknown", [], None),
    ("mesh", [mesh("STRICT")], "STRICT"),
    ("mesh UNSET counts as PERMISSIVE", [mesh("UNSET")], "PERMISSIVE"),
    ("namespace before mesh", [mesh("STRICT"), space("DISABLE")], "DISABLE"),
    ("namespace UNSET takes the mesh's", [mesh("STRICT"), space("UNSET")], "STRICT"),
    ("namespace UNSET without mesh", [space("UNSET")], "PERMISSIVE"),
    ("workload policies have no part", [work("STRICT")], None),
    ("oldest namespace policy", [space("STRICT", "new"), space("DISABLE", "old", age=1)], "DISABLE"),
]


@pytest.mark.parametrize(("policies", "mode"), [pytest.param(*row[1:], id=row[0]) for row in NAMESPACE_ROWS])
def test_namespace_mode(policies: list[dict[str, Any]], mode: str | None) -> None:
    assert namespace_mode(policies, "my-ns") == mode
