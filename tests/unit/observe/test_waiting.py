"""What a Deployment still lacks, by the rules of kubectl rollout status."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.observe.waiting import missing_deployments, missing_in_deployment, missing_pods, unknown_image
from tests.unit.observe.builders import deployment, pod


@pytest.mark.parametrize(
    ("status", "missing"),
    [
        pytest.param({}, "", id="complete"),
        pytest.param({"observedGeneration": 0}, "not seen yet", id="the controller has not looked"),
        pytest.param({"updatedReplicas": 1}, "1 of 2 pods are of the new template", id="half replaced"),
        pytest.param({"replicas": 3}, "1 old pods are still there", id="an old pod left"),
        pytest.param({"readyReplicas": 1}, "1 of 2 pods are ready", id="one not ready"),
        pytest.param({"availableReplicas": 0}, "pods are ready", id="not available"),
    ],
)
def test_a_deployment_says_what_it_lacks(status: dict[str, int], missing: str) -> None:
    text = missing_in_deployment(deployment(**status))
    assert missing in text
    assert bool(text) is bool(missing)


def test_a_deployment_that_is_not_there_is_named() -> None:
    assert missing_deployments(frozenset({"x"}))([deployment()]) == "x: not there"


def test_only_the_named_deployments_count() -> None:
    assert missing_deployments(frozenset({"a"}))([deployment("a"), deployment("b", readyReplicas=0)]) == ""


def test_a_pod_that_ends_or_is_not_ready_is_missing() -> None:
    ending = pod("old-1")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert missing_pods([pod()]) == ""
    assert "old-1 is Terminating" in missing_pods([pod(), ending])
    assert "new-1" in missing_pods([pod("new-1", ready=False)])


def stuck(reason: str) -> dict[str, Any]:
    waiting = pod("stuck-1", ready=False)
    waiting["status"]["containerStatuses"][0] |= {"image": "nosuch:1", "state": {"waiting": {"reason": reason}}}
    return waiting


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_is_not_in_the_catalogue_is_named(reason: str) -> None:
    error = unknown_image([pod(), stuck(reason)])
    assert error is not None and "nosuch:1" in error.what and "lab.events" in error.next_step


def test_no_other_reason_ends_a_wait_early() -> None:
    assert unknown_image([pod(), stuck("CrashLoopBackOff"), stuck("ContainerCreating")]) is None
    leaving = stuck("ImagePullBackOff")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert unknown_image([leaving]) is None
