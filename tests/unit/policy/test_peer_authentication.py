"""Composing policies: who decides, who is ignored and why; and properties that hold for any set of policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.errors import InputError
from labkit.outcomes import Scope
from labkit.policy import MutualTLSMode, PeerAuthentication, Workload, compose_peer_authentication
from labkit.policy.peer_authentication import WhyIgnored, namespace_mode, parse_peer_authentication

START = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = "istio-system"
WORKLOAD = Workload("foo", "web-1", {"app": "web", "tier": "front"})
STRICT, DISABLE, PERMISSIVE, UNSET = (MutualTLSMode(m) for m in ("STRICT", "DISABLE", "PERMISSIVE", "UNSET"))


def policy(
    namespace: str,
    name: str,
    mode: MutualTLSMode = UNSET,
    selector: dict[str, str] | None = None,
    ports: dict[int, MutualTLSMode] | None = None,
    second: int | None = 0,
) -> PeerAuthentication:
    created = None if second is None else START + timedelta(seconds=second)
    return PeerAuthentication(namespace, name, mode, selector or {}, ports or {}, created)


WHO_DECIDES = [
    ("nobody", [], None, Scope.DEFAULT, ""),
    ("the mesh-wide policy", [policy(ROOT, "m", STRICT)], None, Scope.MESH, "m"),
    ("the namespace-wide policy", [policy(ROOT, "m", STRICT), policy("foo", "n", DISABLE)], None, Scope.NAMESPACE, "n"),
    (
        "the workload's",
        [policy("foo", "n", STRICT), policy("foo", "w", DISABLE, {"app": "web"})],
        None,
        "workload",
        "w",
    ),
    ("the port's", [policy("foo", "w", STRICT, {"app": "web"}, {80: DISABLE})], 80, Scope.PORT, "w"),
    ("not the port's elsewhere", [policy("foo", "w", STRICT, {"app": "web"}, {80: DISABLE})], 81, Scope.WORKLOAD, "w"),
    (
        "the namespace, for a port that is UNSET",
        [policy("foo", "n", STRICT), policy("foo", "w", UNSET, {"app": "web"}, {80: UNSET})],
        80,
        Scope.NAMESPACE,
        "n",
    ),
]


@pytest.mark.parametrize(("policies", "port", "scope", "name"), [pytest.param(*r[1:], id=r[0]) for r in WHO_DECIDES])
def test_the_one_who_decides_is_named(
    policies: list[PeerAuthentication], port: int | None, scope: str, name: str
) -> None:
    effective = compose_peer_authentication(policies, WORKLOAD)
    decider = effective.decided_by if port is None else effective.decided_by_for_port(port)
    assert (decider.scope.startswith(str(scope)), decider.name) == (True, name)
    assert (name or "default") in effective.explain(port)


WHY = [
    ("in the root namespace with labels", [policy(ROOT, "x", STRICT, {"app": "web"})], WhyIgnored.SELECTOR_IN_ROOT),
    (
        "younger at the same level",
        [policy("foo", "a", STRICT), policy("foo", "x", DISABLE, second=1)],
        WhyIgnored.YOUNGER,
    ),
    ("as old, later in the alphabet", [policy("foo", "a", STRICT), policy("foo", "x", DISABLE)], WhyIgnored.SAME_AGE),
    ("UNSET", [policy("foo", "x", UNSET)], WhyIgnored.IS_UNSET),
    ("a narrower one decides", [policy(ROOT, "x", STRICT), policy("foo", "a", DISABLE)], WhyIgnored.NARROWER_DECIDES),
    (
        "its ports are not read",
        [policy("foo", "x", STRICT, None, {80: DISABLE})],
        WhyIgnored.PORTS_WITHOUT_SELECTOR,
    ),
]


@pytest.mark.parametrize(("policies", "why"), [pytest.param(*row[1:], id=row[0]) for row in WHY])
def test_a_policy_that_does_not_decide_is_listed_with_the_reason(
    policies: list[PeerAuthentication], why: WhyIgnored
) -> None:
    ignored = [(one.policy.name, one.why) for one in compose_peer_authentication(policies, WORKLOAD).ignored]
    assert ("x", why) in ignored
    assert all(str(one).endswith(".") for one in compose_peer_authentication(policies, WORKLOAD).ignored)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(policy("bar", "x", STRICT), id="another namespace"),
        pytest.param(policy("foo", "x", STRICT, {"app": "db"}), id="another workload"),
        pytest.param(policy("foo", "x", STRICT, {"app": "web", "tier": "back"}), id="one label of two matches"),
        pytest.param(policy(ROOT, "x", STRICT, {"app": "db"}), id="the root namespace, another workload"),
    ],
)
def test_what_does_not_match_is_neither_obeyed_nor_listed(other: PeerAuthentication) -> None:
    effective = compose_peer_authentication([other], WORKLOAD)
    assert (effective.mode, effective.ignored, effective.matching) == (PERMISSIVE, (), ())


def test_matching_policies_are_listed_root_namespace_first_with_losers() -> None:
    policies = [
        policy("foo", "w", DISABLE, {"app": "web"}, second=0),
        policy("foo", "n", STRICT, second=1),
        policy(ROOT, "selector", STRICT, {"app": "web"}, second=3),
        policy(ROOT, "m", STRICT, second=2),
    ]
    assert [one.name for one in compose_peer_authentication(policies, WORKLOAD).matching] == ["m", "selector", "w", "n"]


def test_a_workload_in_the_root_namespace_obeys_the_mesh_wide_policy() -> None:
    effective = compose_peer_authentication([policy(ROOT, "m", STRICT)], Workload(ROOT, "gateway"))
    assert (effective.mode, effective.decided_by.scope) == (STRICT, Scope.MESH)


def test_the_root_namespace_is_a_parameter() -> None:
    mine = policy("aks-istio-system", "m", STRICT)
    assert compose_peer_authentication([mine], WORKLOAD, "aks-istio-system").mode is STRICT
    assert compose_peer_authentication([mine], WORKLOAD).mode is PERMISSIVE


def test_a_manifest_that_is_not_applied_yet_is_younger_than_all_that_exists() -> None:
    existing, planned = policy("foo", "z", STRICT, second=99), policy("foo", "a", DISABLE, second=None)
    assert compose_peer_authentication([planned, existing], WORKLOAD).mode is STRICT


@pytest.mark.parametrize("spec", [None, {}, {"mtls": None}, {"mtls": {}}, {"mtls": {"mode": None}}, {"selector": None}])
def test_absent_null_and_empty_mean_unset(spec: dict[str, object] | None) -> None:
    parsed = parse_peer_authentication({"metadata": {"namespace": "foo", "name": "x"}, "spec": spec})
    assert (parsed.mode, dict(parsed.selector), dict(parsed.port_modes)) == (UNSET, {}, {})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"mtls": {"mode": "strict"}}, "spec.mtls.mode"),
        ({"portLevelMtls": {"http": {}}}, "spec.portLevelMtls"),
        ({"portLevelMtls": {"80": {"mode": "ON"}}}, "spec.portLevelMtls[80].mode"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(spec: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_peer_authentication({"metadata": {"name": "x"}, "spec": spec})
    assert caught.value.details["field"] == field
    assert caught.value.next_step


@pytest.mark.parametrize("stamp", ["2026-01-01T00:00:05Z", "2026-01-01T00:00:05+00:00", datetime(2026, 1, 1, 0, 0, 5)])
def test_ages_are_read_from_text_and_from_yaml(stamp: object) -> None:
    parsed = parse_peer_authentication({"metadata": {"name": "x", "creationTimestamp": stamp}})
    assert parsed.created == START + timedelta(seconds=5)


modes = st.sampled_from(list(MutualTLSMode))
selectors = st.sampled_from([{}, {"app": "web"}, {"tier": "front"}, {"app": "web", "tier": "front"}, {"app": "db"}])


@st.composite
def policy_sets(draw: st.DrawFn, namespaces: tuple[str, ...] = ("foo", "bar", ROOT)) -> list[PeerAuthentication]:
    """Policies with different names; the ages may tie."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6))
    return [
        policy(
            draw(st.sampled_from(namespaces)),
            name,
            draw(modes),
            draw(selectors),
            draw(st.dictionaries(st.sampled_from([80, 90]), modes, max_size=2)),
            draw(st.integers(0, 3)),
        )
        for name in names
    ]


# Reproducible, and without a stopwatch: a busy machine is no counterexample.
few = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@few
@given(st.data(), policy_sets())
def test_the_order_in_which_policies_are_listed_does_not_matter(
    data: st.DataObject, policies: list[PeerAuthentication]
) -> None:
    shuffled = data.draw(st.permutations(policies))
    assert compose_peer_authentication(shuffled, WORKLOAD) == compose_peer_authentication(policies, WORKLOAD)


@few
@given(policy_sets(), modes.filter(lambda mode: mode is not UNSET))
def test_a_narrower_policy_that_says_something_wins(policies: list[PeerAuthentication], mode: MutualTLSMode) -> None:
    oldest = policy("foo", "narrow", mode, {"app": "web"}, second=-1)
    effective = compose_peer_authentication([*policies, oldest], WORKLOAD)
    assert (effective.mode, effective.decided_by.name) == (mode, "narrow")


@few
@given(policy_sets(), policy_sets(("bar",)))
def test_policies_of_another_namespace_change_nothing(
    policies: list[PeerAuthentication], others: list[PeerAuthentication]
) -> None:
    assert compose_peer_authentication([*policies, *others], WORKLOAD) == compose_peer_authentication(
        policies, WORKLOAD
    )


@few
@given(policy_sets())
def test_a_mode_after_inheritance_is_never_unset(policies: list[PeerAuthentication]) -> None:
    effective = compose_peer_authentication(policies, WORKLOAD)
    assert UNSET not in (effective.mode, *effective.per_port.values())


@few
@given(policy_sets())
def test_every_matching_policy_decides_a_mode_or_a_port_or_is_explained(policies: list[PeerAuthentication]) -> None:
    effective = compose_peer_authentication(policies, WORKLOAD)
    accounted = {effective.decided_by.name, *(one.policy.name for one in effective.ignored)}
    assert {one.name for one in effective.matching} <= accounted


@few
@given(policy_sets())
def test_a_workload_without_labels_has_the_mode_of_its_namespace(policies: list[PeerAuthentication]) -> None:
    plain = compose_peer_authentication(policies, Workload("foo", "plain"))
    assert plain.mode is (namespace_mode(policies, "foo") or PERMISSIVE)
