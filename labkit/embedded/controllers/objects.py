"""Small words about Kubernetes objects that several controllers use. Pure; time is a parameter."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from labkit.embedded.apiclient import Object

# No vowels, so that no words appear, and no digits or letters that are easily mixed up.
# https://github.com/kubernetes/apimachinery/blob/master/pkg/util/rand/rand.go
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """A moment as the API writes it, with a resolution of one second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime:
    """A moment from the API, with or without fractions of a second."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def random_suffix(length: int = 5) -> str:
    """Random characters for a name, from Kubernetes' alphabet."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def controller_of(obj: Object) -> Object | None:
    """The owner reference that is marked as the controller."""
    return next((ref for ref in obj["metadata"].get("ownerReferences") or [] if ref.get("controller")), None)


def controller_reference(owner: Object) -> Object:
    """The owner reference that makes `owner` an object's controller."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def labels_of(obj: Object) -> Mapping[str, str]:
    """The labels of an object."""
    return obj["metadata"].get("labels") or {}


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Does a LabelSelector select these labels? None selects nothing, an empty selector everything."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _expression_matches(expression, labels) for expression in selector.get("matchExpressions") or []
    )


def _expression_matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def absolute(value: int | str, total: int, *, round_up: bool) -> int:
    """An IntOrString as a number: `25%` of `total`, or the number itself."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total / 100
        return math.ceil(share) if round_up else math.floor(share)
    return int(value)


def condition_of(obj: Object, kind: str) -> Object | None:
    """The condition of that type in `status.conditions`."""
    return find_condition(obj.get("status", {}).get("conditions") or [], kind)


def find_condition(conditions: Iterable[Object], kind: str) -> Object | None:
    """The condition of that type in a list."""
    return next((c for c in conditions if c["type"] == kind), None)


def with_condition(conditions: list[Object], new: Object, moment: datetime) -> list[Object]:
    """The conditions with `new` in place of the one of its type.

    lastTransitionTime moves only when the status changes; nothing moves when status and reason are the same.
    """
    old = find_condition(conditions, new["type"])
    if old and (old["status"], old.get("reason")) == (new["status"], new.get("reason")):
        return conditions
    kept = old["lastTransitionTime"] if old and old["status"] == new["status"] else timestamp(moment)
    new = {**new, "lastTransitionTime": kept}
    if not old:
        return [*conditions, new]
    return [new if c is old else c for c in conditions]


def without_condition(conditions: list[Object], kind: str) -> list[Object]:
    """The conditions less those of one type."""
    return [c for c in conditions if c["type"] != kind]


# Pods


def is_active(pod: Object) -> bool:
    """Neither finished nor on its way out: what a ReplicaSet counts."""
    return "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") not in (
        "Succeeded",
        "Failed",
    )


def is_ready(pod: Object) -> bool:
    """Is the pod's condition Ready true?"""
    ready = condition_of(pod, "Ready")
    return bool(ready and ready["status"] == "True")


def available_in(pod: Object, min_ready_seconds: int, moment: datetime) -> float | None:
    """Seconds until the pod counts as available: 0 when it does now, None when it is not ready."""
    ready = condition_of(pod, "Ready")
    if not ready or ready["status"] != "True":
        return None
    if not min_ready_seconds or not ready.get("lastTransitionTime"):
        return 0.0
    return max(0.0, min_ready_seconds - (moment - parse_timestamp(ready["lastTransitionTime"])).total_seconds())
