"""The status of a Deployment: what `kubectl rollout status` and `kubectl wait` read."""

from datetime import UTC, datetime, timedelta

import pytest

from labkit.embedded.controllers.deployment_status import make_status, seconds_to_deadline
from labkit.embedded.controllers.objects import condition_of, timestamp

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def deployment(replicas=2, status=None, **spec):
    return {
        "metadata": {"name": "web", "namespace": "default", "generation": 7},
        "spec": {"replicas": replicas, "strategy": {"type": "RollingUpdate"}, **spec},
        "status": status or {},
    }


def replicaset(name="web-1", replicas=2, present=None, ready=None, available=None, conditions=()):
    present = replicas if present is None else present
    ready = present if ready is None else ready
    available = ready if available is None else available
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas},
        "status": {
            "replicas": present,
            "readyReplicas": ready,
            "availableReplicas": available,
            "conditions": list(conditions),
        },
    }


def condition(status, kind):
    found = condition_of({"status": status}, kind)
    return found and (found["status"], found["reason"])


def make(wanted, new, old=(), created=False, moment=NOON):
    return make_status(wanted, new, list(old), created=created, moment=moment)


def test_counts_are_summed_over_new_and_old():
    status = make(deployment(), replicaset(replicas=1, ready=0), [replicaset("web-0", 2)])
    assert {key: status[key] for key in status if key.endswith("eplicas")} == {
        "replicas": 3,
        "updatedReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "unavailableReplicas": 1,
    }
    assert status["observedGeneration"] == 7


def test_counts_of_zero_are_left_out_as_go_does():
    status = make(deployment(0), replicaset(replicas=0))
    assert not [key for key in status if key.endswith("eplicas")]


@pytest.mark.parametrize(
    ("wanted", "available", "expected"),
    [
        (deployment(2), 2, ("True", "MinimumReplicasAvailable")),
        (deployment(2), 1, ("False", "MinimumReplicasUnavailable")),
        (deployment(4), 3, ("True", "MinimumReplicasAvailable")),
        (deployment(4, strategy={"type": "Recreate"}), 3, ("False", "MinimumReplicasUnavailable")),
        (deployment(0), 0, ("True", "MinimumReplicasAvailable")),
    ],
    ids=["all", "one of two missing", "one of four may be missing", "recreate needs all", "none wanted"],
)
def test_available_says_whether_the_minimum_is_there(wanted, available, expected):
    replicas = wanted["spec"]["replicas"]
    assert condition(make(wanted, replicaset(replicas=replicas, available=available)), "Available") == expected


@pytest.mark.parametrize(
    ("wanted", "new", "created", "expected"),
    [
        pytest.param(deployment(), replicaset(present=0), True, ("True", "NewReplicaSetCreated"), id="just created"),
        pytest.param(deployment(), replicaset(ready=1), False, ("True", "ReplicaSetUpdated"), id="on its way"),
        pytest.param(deployment(), replicaset(), False, ("True", "NewReplicaSetAvailable"), id="complete"),
        pytest.param(deployment(paused=True), replicaset(ready=1), False, ("Unknown", "DeploymentPaused"), id="paused"),
    ],
)
def test_progressing_tells_how_far_the_rollout_is(wanted, new, created, expected):
    assert condition(make(wanted, new, created=created), "Progressing") == expected


def test_a_rollout_with_an_old_pod_left_is_not_complete():
    status = make(deployment(), replicaset(), [replicaset("web-0", 1)])
    assert condition(status, "Progressing") == ("True", "ReplicaSetUpdated")


def test_a_rollout_without_progress_times_out_and_one_with_progress_does_not():
    stuck = make(deployment(progressDeadlineSeconds=60), replicaset(ready=1))
    later = NOON + timedelta(seconds=61)
    wanted = deployment(status=stuck, progressDeadlineSeconds=60)
    assert seconds_to_deadline(wanted, stuck, NOON) == pytest.approx(60, abs=0.1)
    assert condition(make(wanted, replicaset(ready=1), moment=later), "Progressing") == (
        "False",
        "ProgressDeadlineExceeded",
    )
    assert condition(make(wanted, replicaset(replicas=2, ready=2, available=1), moment=later), "Progressing") == (
        "True",
        "ReplicaSetUpdated",
    )


def test_a_complete_rollout_has_no_deadline():
    done = make(deployment(), replicaset())
    assert seconds_to_deadline(deployment(status=done), done, NOON + timedelta(days=1)) is None


def test_a_pod_lost_after_the_rollout_does_not_make_it_unfinished():
    done = make(deployment(), replicaset())
    assert condition(make(deployment(status=done), replicaset(ready=1)), "Progressing") == (
        "True",
        "NewReplicaSetAvailable",
    )


def test_nothing_changes_when_nothing_happens():
    first = make(deployment(), replicaset(ready=1))
    assert make(deployment(status=first), replicaset(ready=1), moment=NOON + timedelta(seconds=30)) == first


def test_the_transition_time_moves_with_the_status_alone():
    first = make(deployment(), replicaset(ready=1))
    later = make(deployment(status=first), replicaset(), moment=NOON + timedelta(seconds=30))
    progressing = condition_of({"status": later}, "Progressing")
    assert progressing["lastTransitionTime"] == timestamp(NOON), "True before, True after"
    assert progressing["lastUpdateTime"] == timestamp(NOON + timedelta(seconds=30))
    available = condition_of({"status": later}, "Available")
    assert available["lastTransitionTime"] == timestamp(NOON + timedelta(seconds=30)), "False before, True after"


def test_a_failure_to_create_pods_is_shown_and_goes_away():
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "denied"}
    status = make(deployment(), replicaset(present=0, conditions=[refused]))
    assert condition(status, "ReplicaFailure") == ("True", "FailedCreate")
    assert condition(make(deployment(status=status), replicaset()), "ReplicaFailure") is None
