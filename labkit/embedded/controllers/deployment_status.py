"""The status of a Deployment: counts and the conditions Available, Progressing, ReplicaFailure. Pure.

`kubectl rollout status` and `kubectl wait` read these, so reasons and messages are Kubernetes' own
(kubernetes/pkg/controller/deployment/progress.go and util/deployment_util.go).
"""

from __future__ import annotations

from datetime import datetime

from labkit.embedded.apiclient import Object
from labkit.embedded.controllers.objects import (
    condition_of,
    find_condition,
    parse_timestamp,
    timestamp,
    with_condition,
    without_condition,
)
from labkit.embedded.controllers.rollout import is_recreate, limits, name_of, replicas_of

COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")
COMPLETE = "NewReplicaSetAvailable"
FOREVER = 2**31 - 1  # the API's way to say: no deadline


def make_status(
    deployment: Object, new: Object | None, old: list[Object], *, created: bool, moment: datetime
) -> Object:
    """The status after a reconciliation; `created` says that `new` was made just now."""
    everything = ([new] if new else []) + old
    before: Object = deployment.get("status", {})
    counts = _counts(everything, new)
    conditions = _with_available(deployment, list(before.get("conditions") or []), counts, moment)
    if _has_deadline(deployment):
        conditions = _with_progressing(deployment, conditions, counts, new, created=created, moment=moment)
    conditions = _with_failure(conditions, everything, moment)
    status: Object = {"observedGeneration": deployment["metadata"].get("generation", 1)}
    status.update({field: counts[field] for field in COUNTS if counts[field]})
    if "collisionCount" in before:
        status["collisionCount"] = before["collisionCount"]
    status["conditions"] = conditions
    return status


def seconds_to_deadline(deployment: Object, status: Object, moment: datetime) -> float | None:
    """When to look again for a rollout that is stuck; None when nothing is under way."""
    progressing = find_condition(status.get("conditions") or [], "Progressing")
    if not _has_deadline(deployment) or not progressing or progressing["status"] == "False":
        return None
    if progressing.get("reason") in (COMPLETE, "DeploymentPaused"):
        return None
    return max(0.0, _deadline(deployment) - _age(progressing, moment)) + 0.01


def _counts(everything: list[Object], new: Object | None) -> dict[str, int]:
    def total(field: str) -> int:
        return sum(int(rs.get("status", {}).get(field, 0)) for rs in everything)

    return {
        "replicas": total("replicas"),
        "updatedReplicas": int(new.get("status", {}).get("replicas", 0)) if new else 0,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
        "unavailableReplicas": max(0, sum(map(replicas_of, everything)) - total("availableReplicas")),
    }


def _with_available(
    deployment: Object, conditions: list[Object], counts: dict[str, int], moment: datetime
) -> list[Object]:
    # limits() says 0 for Recreate, where Kubernetes asks for all replicas, too.
    minimum = replicas_of(deployment) - (0 if is_recreate(deployment) else limits(deployment)[1])
    if counts["availableReplicas"] >= minimum:
        new = _condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        new = _condition(
            "Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
        )
    return _updated(conditions, new, moment)


def _with_progressing(
    deployment: Object,
    conditions: list[Object],
    counts: dict[str, int],
    new: Object | None,
    *,
    created: bool,
    moment: datetime,
) -> list[Object]:
    current = find_condition(conditions, "Progressing")
    what = f'ReplicaSet "{name_of(new)}"' if new else f'Deployment "{name_of(deployment)}"'
    if created and new:
        message = f'Created new replica set "{name_of(new)}"'
        return _updated(
            conditions, _condition("Progressing", "True", "NewReplicaSetCreated", message), moment, refresh=True
        )
    if deployment["spec"].get("paused"):
        return _updated(
            conditions, _condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused"), moment
        )
    wanted = replicas_of(deployment)
    if all(counts[field] == wanted for field in ("replicas", "updatedReplicas", "availableReplicas")):
        message = f"{what} has successfully progressed."
        return _updated(conditions, _condition("Progressing", "True", COMPLETE, message), moment)
    if current and current.get("reason") == COMPLETE and counts["replicas"] == counts["updatedReplicas"]:
        return conditions  # scaled or a pod restarts; the rollout itself was complete before
    if current is None or _progressed(deployment.get("status", {}), counts):
        message = f"{what} is progressing."
        return _updated(
            conditions, _condition("Progressing", "True", "ReplicaSetUpdated", message), moment, refresh=True
        )
    if current["status"] != "False" and _age(current, moment) >= _deadline(deployment):
        message = f"{what} has timed out progressing."
        return _updated(conditions, _condition("Progressing", "False", "ProgressDeadlineExceeded", message), moment)
    return conditions


def _progressed(before: Object, counts: dict[str, int]) -> bool:
    def old(field: str) -> int:
        return int(before.get(field, 0))

    return (
        counts["updatedReplicas"] > old("updatedReplicas")
        or counts["replicas"] - counts["updatedReplicas"] < old("replicas") - old("updatedReplicas")
        or counts["readyReplicas"] > old("readyReplicas")
        or counts["availableReplicas"] > old("availableReplicas")
    )


def _with_failure(conditions: list[Object], everything: list[Object], moment: datetime) -> list[Object]:
    for rs in everything:
        failure = condition_of(rs, "ReplicaFailure")
        if failure and replicas_of(rs):
            new = _condition("ReplicaFailure", failure["status"], failure["reason"], failure["message"])
            return _updated(conditions, new, moment)
    return without_condition(conditions, "ReplicaFailure")


def _updated(conditions: list[Object], new: Object, moment: datetime, *, refresh: bool = False) -> list[Object]:
    """`with_condition`, with the lastUpdateTime that Deployments have; `refresh` moves that even when nothing else."""
    stamped = {**new, "lastUpdateTime": timestamp(moment)}
    result = with_condition(conditions, stamped, moment)
    if refresh and result is conditions:
        same = find_condition(conditions, new["type"])
        result = [{**stamped, "lastTransitionTime": c["lastTransitionTime"]} if c is same else c for c in conditions]
    return result


def _condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _has_deadline(deployment: Object) -> bool:
    return _deadline(deployment) < FOREVER


def _deadline(deployment: Object) -> int:
    return int(deployment["spec"].get("progressDeadlineSeconds", 600))


def _age(condition: Object, moment: datetime) -> float:
    return (moment - parse_timestamp(condition["lastUpdateTime"])).total_seconds()
