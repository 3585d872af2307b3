"""The status that istiod writes: there while it has something to say, and beside what others wrote."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy import conditions
from labkit.policy.conditions import Condition, rejected, status_for, unsupported, wrong

NOW, EARLIER = "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"


def obj(status: Any = None, generation: int = 2) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": "VirtualService", "metadata": {"name": "a", "generation": generation}}
    return {**made, "status": status} if status is not None else made


def status(
    found: list[Condition], before: Any = None, *, now: str = NOW, revision: str = "default"
) -> dict[str, Any] | None:
    return status_for(obj(before), found, revision=revision, now=now)


def test_what_works_has_no_status_and_none_is_written() -> None:
    assert status([]) is None
    assert status([*unsupported(()), *wrong(()), *rejected((), "default")]) is None


def test_the_form_is_that_of_istio_status() -> None:
    assert status(unsupported(["spec.x has no effect: why", "spec.y has none"])) == {
        "conditions": [
            {
                "type": "Supported",
                "status": "False",
                "reason": "NotActedOn",
                "message": "spec.x has no effect: why; spec.y has none",
                "lastTransitionTime": NOW,
            }
        ],
        "validationMessages": [
            {
                "type": {"name": "NotActedOn", "code": "LAB0001"},
                "level": "WARNING",
                "documentationUrl": "https://istio.io/latest/docs/reference/config/networking/virtual-service/",
            }
        ],
        "observedGeneration": 2,
    }


def test_what_stands_there_is_not_written_again_whenever_it_is_looked_at() -> None:
    for found in (unsupported(["a"]), wrong(["a"]), rejected(["a", "b"], "default"), rejected(["a"], "canary")):
        revision = "canary" if found[0].type.startswith("canary") else "default"
        first = status(found, now=EARLIER, revision=revision)
        assert first is not None
        assert status(found, first, revision=revision) is None


def test_the_time_is_that_of_the_transition_and_not_of_another_message() -> None:
    first = status(unsupported(["a"]), now=EARLIER)
    second = status(unsupported(["b"]), first)
    assert second is not None
    assert second["conditions"][0] == {**first["conditions"][0], "message": "b"}  # type: ignore[index]


def test_a_changed_object_is_said_to_have_been_looked_at() -> None:
    first = status(unsupported(["a"]))
    changed = status_for(obj(first, generation=3), unsupported(["a"]), revision="default", now=NOW)
    assert changed == {**first, "observedGeneration": 3}  # type: ignore[dict-item]


def test_when_the_field_has_gone_so_has_the_status() -> None:
    assert status([], status(unsupported(["a"]))) == {}


def test_what_others_wrote_stays() -> None:
    theirs = {
        "conditions": [{"type": "WaypointAccepted", "status": "True"}],
        "validationMessages": [{"type": {"code": "IST0101"}, "level": "ERROR"}],
        "addresses": [{"value": "240.240.0.1"}],
        "observedGeneration": 1,
    }
    both = status(unsupported(["a"]), theirs)
    assert both is not None
    assert [one["type"] for one in both["conditions"]] == ["WaypointAccepted", "Supported"]
    assert [one["type"]["code"] for one in both["validationMessages"]] == ["IST0101", "LAB0001"]
    assert both["addresses"] == theirs["addresses"]
    after = status([], both)
    assert after == {**theirs, "observedGeneration": 2}
    assert status([], theirs) is None


def test_each_revision_speaks_for_its_own_proxies() -> None:
    """Two control planes that see the same object must not take turns in writing and removing."""
    first = status(rejected(["a"], "default"))
    assert status([], first, revision="canary") is None
    both = status(rejected(["b"], "canary"), first, revision="canary")
    assert [one["type"] for one in both["conditions"]] == ["Reconciled", "canary/Reconciled"]  # type: ignore[index]


def test_a_long_message_is_cut_and_more_proxies_are_counted() -> None:
    (one,) = rejected(["x" * 5000, "y", "z"], "default")
    assert len(one.message) == conditions.MESSAGE_LIMIT
    assert one.message.endswith("... (and 2 more)")


@pytest.mark.parametrize(
    ("generation", "type_", "found"),
    [(2, "Reconciled", True), (3, "Reconciled", False), (2, "canary/Reconciled", False)],
)
def test_what_an_istiod_before_wrote_counts_for_the_same_object_alone(generation: int, type_: str, found: bool) -> None:
    written = status(rejected(["a"], "default"))
    assert (conditions.standing(obj(written, generation), type_) is not None) is found
