"""Which changes get a mark on the timeline, and which do not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from labkit.cluster.kinds import NAMESPACE, PEER_AUTHENTICATION, POD, SERVICE
from labkit.live.changes import describe_change, is_policy
from tests.unit.observe.builders import namespace, peer_authentication, pod


def restarted(name: str) -> dict[str, Any]:
    after = copy.deepcopy(pod(injected=True))
    for state in after["status"]["containerStatuses"]:
        state["restartCount"] = 1 if state["name"] == name else 0
    return after


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, peer_authentication("STRICT"), "PeerAuthentication azureopenai/default created: STRICT"),
        (
            peer_authentication("STRICT"),
            peer_authentication("DISABLE"),
            "PeerAuthentication azureopenai/default changed: DISABLE",
        ),
        (peer_authentication("STRICT"), None, "PeerAuthentication azureopenai/default deleted"),
        (peer_authentication("STRICT"), peer_authentication("STRICT"), ""),
    ],
)
def test_a_policy_is_told_by_what_it_says_now(before: Any, after: Any, words: str) -> None:
    assert describe_change(PEER_AUTHENTICATION, before, after) == words


def test_a_label_that_injects_is_told_and_another_is_not() -> None:
    plain, labelled = namespace("foo"), namespace("foo", **{"istio.io/rev": "default"})
    assert describe_change(NAMESPACE, plain, labelled) == "Namespace foo labelled istio.io/rev=default"
    assert describe_change(NAMESPACE, labelled, plain) == "Namespace foo labelled istio.io/rev removed"
    assert describe_change(NAMESPACE, plain, namespace("foo", team="a")) == ""


def test_a_sidecar_that_ended_is_told() -> None:
    told = describe_change(POD, pod(injected=True), restarted("istio-proxy"))
    assert told == "The sidecar of azureopenai/chatbackend-abc-1 was restarted"
    assert "The app of" in describe_change(POD, pod(injected=True), restarted("app"))
    assert describe_change(POD, None, pod()) == ""


def test_what_decides_is_a_policy() -> None:
    assert is_policy(PEER_AUTHENTICATION)
    assert not is_policy(SERVICE) and not is_policy(POD)
