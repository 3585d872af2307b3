"""What a ReplicaSet makes, whom it gives up first, and what it reports."""

from datetime import UTC, datetime, timedelta

import pytest

from labkit.embedded.controllers.objects import timestamp
from labkit.embedded.controllers.replicaset import deletion_rank, make_pod, status_of

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def pod(name="p", *, node="n", phase="Running", ready=True, since=NOON, restarts=0, made=NOON, cost=None, labels=None):
    return {
        "metadata": {
            "name": name,
            "labels": labels or {"app": "web"},
            "creationTimestamp": timestamp(made),
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost} if cost else {},
        },
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "conditions": [
                {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": timestamp(since)}
            ],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


REPLICASET = {
    "apiVersion": "apps/v1",
    "kind": "ReplicaSet",
    "metadata": {"name": "web-abc", "namespace": "shop", "uid": "u1", "generation": 3},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}, "annotations": {"note": "x"}, "creationTimestamp": None},
            "spec": {"containers": [{"name": "a", "image": "app:1"}]},
        },
    },
}


def test_a_pod_has_the_templates_labels_and_its_owner():
    made = make_pod(REPLICASET)
    assert made["metadata"] == {
        "labels": {"app": "web"},
        "annotations": {"note": "x"},
        "generateName": "web-abc-",
        "namespace": "shop",
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web-abc",
                "uid": "u1",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    made["spec"]["containers"][0]["image"] = "changed"
    assert REPLICASET["spec"]["template"]["spec"]["containers"][0]["image"] == "app:1", "a copy, not the template"


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(pod(node=None, phase="Pending"), pod(), id="not bound before bound"),
        pytest.param(pod(phase="Pending"), pod(phase="Running"), id="pending before running"),
        pytest.param(pod(ready=False), pod(ready=True), id="not ready before ready"),
        pytest.param(pod(cost="-5"), pod(), id="cheaper before dearer"),
        pytest.param(pod(since=NOON), pod(since=NOON - HOUR), id="ready for a shorter time before longer"),
        pytest.param(pod(restarts=3), pod(restarts=0), id="more restarts before fewer"),
        pytest.param(pod(made=NOON), pod(made=NOON - HOUR), id="newer before older"),
    ],
)
def test_whom_a_smaller_replicaset_gives_up_first(first, second):
    assert sorted([second, first], key=deletion_rank) == [first, second]
    assert sorted([first, second], key=deletion_rank) == [first, second]


def test_status_counts_pods():
    status, again = status_of(REPLICASET, [pod("a"), pod("b", ready=False)], None, NOON)
    assert status == {
        "replicas": 2,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 3,
    }
    assert again is None


def test_a_pod_is_available_only_after_min_ready_seconds():
    replicaset = {**REPLICASET, "spec": {**REPLICASET["spec"], "minReadySeconds": 10}}
    early, again = status_of(replicaset, [pod(since=NOON)], None, NOON + timedelta(seconds=4))
    assert "availableReplicas" not in early
    assert again == pytest.approx(6)
    late, again = status_of(replicaset, [pod(since=NOON)], None, NOON + timedelta(seconds=10))
    assert late["availableReplicas"] == 1
    assert again is None


def test_a_refused_creation_becomes_a_condition_and_a_success_removes_it():
    refused, _ = status_of(REPLICASET, [], 'admission webhook "x" denied the request: no', NOON)
    (condition,) = refused["conditions"]
    assert condition == {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": 'admission webhook "x" denied the request: no',
        "lastTransitionTime": "2026-01-01T12:00:00Z",
    }
    mended, _ = status_of({**REPLICASET, "status": refused}, [pod()], None, NOON)
    assert "conditions" not in mended
