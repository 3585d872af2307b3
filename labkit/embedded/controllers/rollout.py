"""How a Deployment moves from one set of pods to the next: numbers in, numbers out. Pure.

The rules are those of kubernetes/pkg/controller/deployment (rolling.go, util/deployment_util.go):

1. The new ReplicaSet is the one whose template equals the Deployment's; without one, it is created.
2. Rolling update: never more than replicas + maxSurge pods, never fewer than replicas - maxUnavailable available.
   Surge is rounded up, unavailability down; if both come out as 0, one pod may be unavailable.
3. Old pods that are not available are removed first, they cannot make things worse.
4. Recreate: all old pods are gone before the first new one is made.
5. A Deployment that was scaled in the middle of an update (or is paused) is scaled in proportion to what its
   ReplicaSets hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from labkit.embedded.apiclient import Object
from labkit.embedded.controllers.objects import ALPHABET, absolute

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"

Scales = dict[str, int]
"""Name of a ReplicaSet -> the number of replicas that it should get."""


def template_hash(template: Object, collisions: int = 0) -> str:
    """The value of `pod-template-hash`: FNV-1a over the template, in Kubernetes' alphabet.

    Kubernetes hashes Go's memory layout, so the values differ from a real cluster's; nobody may rely on them.
    """
    value = 0x811C9DC5
    for byte in json.dumps([_pruned(template), collisions], sort_keys=True, separators=(",", ":")).encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(ALPHABET[ord(digit) % len(ALPHABET)] for digit in str(value))


def same_template(one: Object, other: Object) -> bool:
    """Are two pod templates equal but for the hash label?"""
    return _without_hash(one) == _without_hash(other)


def _without_hash(template: Object) -> Object:
    meta = {key: value for key, value in (template.get("metadata") or {}).items() if value}
    meta.pop("creationTimestamp", None)
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    return _pruned({**template, "metadata": {**meta, "labels": labels}})  # type: ignore[no-any-return]


def _pruned(value: Any) -> Any:
    """Without empty lists and nulls: to Kubernetes they are the same as a field that is absent.

    Empty objects stay, because `emptyDir: {}` means something.
    """
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item is not None and item != []}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


def find_new(deployment: Object, replicasets: Iterable[Object]) -> Object | None:
    """Rule 1. Of several with the same template, the oldest."""
    template = deployment["spec"]["template"]
    same = [rs for rs in replicasets if same_template(rs["spec"]["template"], template)]
    return min(same, key=_age, default=None)


def revision_of(obj: Object) -> int:
    """The revision annotation as a number; 0 when there is none."""
    try:
        return int((obj["metadata"].get("annotations") or {}).get(REVISION, 0))
    except ValueError:
        return 0


def limits(deployment: Object) -> tuple[int, int]:
    """Rule 2: (surge, unavailable) as numbers of pods; (0, 0) for Recreate."""
    strategy, replicas = deployment["spec"].get("strategy") or {}, replicas_of(deployment)
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    surge = absolute(rolling.get("maxSurge", "25%"), replicas, round_up=True)
    unavailable = absolute(rolling.get("maxUnavailable", "25%"), replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


def is_recreate(deployment: Object) -> bool:
    """Is the strategy Recreate?"""
    return bool((deployment["spec"].get("strategy") or {}).get("type") == "Recreate")


def first_size(deployment: Object, others: list[Object], current: int = 0) -> int:
    """The size of the new ReplicaSet that has `current` replicas now, beside `others`: as much as surge allows."""
    replicas = replicas_of(deployment)
    if is_recreate(deployment):
        return replicas
    room = replicas + limits(deployment)[0] - current - _total(others)
    return current + max(0, min(room, replicas - current)) if current <= replicas else replicas


def rolling_step(deployment: Object, new: Object, old: list[Object]) -> Scales:
    """Rules 2 and 3: the next sizes; empty when nothing is to be done before something else happens."""
    size = first_size(deployment, old, replicas_of(new))
    if size != replicas_of(new):
        return {name_of(new): size}
    return _shrink_old(deployment, new, old)


def _shrink_old(deployment: Object, new: Object, old: list[Object]) -> Scales:
    everything = [new, *old]
    minimum = replicas_of(deployment) - limits(deployment)[1]
    pending = replicas_of(new) - _status(new, "availableReplicas")
    budget = _total(everything) - minimum - pending
    if budget <= 0:
        return {}

    sizes = {name_of(rs): replicas_of(rs) for rs in old}
    for rs in sorted(old, key=_age):  # rule 3
        lame = max(0, replicas_of(rs) - _status(rs, "availableReplicas"))
        removed = min(budget, lame)
        sizes[name_of(rs)] -= removed
        budget -= removed

    spare = sum(_status(rs, "availableReplicas") for rs in everything) - minimum
    for rs in sorted(old, key=_age):
        removed = max(0, min(spare, sizes[name_of(rs)]))
        sizes[name_of(rs)] -= removed
        spare -= removed
    return {name_of(rs): sizes[name_of(rs)] for rs in old if sizes[name_of(rs)] != replicas_of(rs)}


def was_scaled(deployment: Object, replicasets: Iterable[Object]) -> bool:
    """Did somebody change `spec.replicas` since the ReplicaSets were last given their sizes?"""
    for rs in replicasets:
        desired = (rs["metadata"].get("annotations") or {}).get(DESIRED)
        if replicas_of(rs) > 0 and desired is not None and desired != str(replicas_of(deployment)):
            return True
    return False


def proportional_step(deployment: Object, new: Object | None, old: list[Object]) -> Scales:
    """Rule 5: the sizes after a change of `spec.replicas` in the middle of an update, or while paused."""
    replicas = replicas_of(deployment)
    everything = [rs for rs in ([new] if new else []) + old if rs]
    active = [rs for rs in everything if replicas_of(rs) > 0]
    if len(active) <= 1:
        only = active[0] if active else (new or max(old, key=_age, default=None))
        return {name_of(only): replicas} if only and replicas_of(only) != replicas else {}
    if new and replicas_of(new) == replicas == _status(new, "availableReplicas"):
        return {name_of(rs): 0 for rs in old if replicas_of(rs)}
    if is_recreate(deployment):
        return {}

    allowed = replicas + limits(deployment)[0] if replicas else 0
    to_add = allowed - _total(active)
    sizes = {name_of(rs): replicas_of(rs) for rs in active}
    left = to_add
    # The largest first, of equals the newest (when growing) or the oldest (when shrinking).
    ordered = sorted(active, key=lambda rs: (-replicas_of(rs), _age(rs) if to_add < 0 else _Newest(_age(rs))))
    for rs in ordered:
        share = _share(rs, deployment, allowed)
        share = min(share, left) if to_add > 0 else max(share, left)
        if share * to_add > 0:
            sizes[name_of(rs)] += share
            left -= share
    first = name_of(ordered[0])
    sizes[first] = max(0, sizes[first] + left)
    return {name_of(rs): sizes[name_of(rs)] for rs in active if sizes[name_of(rs)] != replicas_of(rs)}


def _share(rs: Object, deployment: Object, allowed: int) -> int:
    if replicas_of(deployment) == 0:
        return -replicas_of(rs)
    before = int((rs["metadata"].get("annotations") or {}).get(MAXIMUM, _status(deployment, "replicas") or 1))
    return int(replicas_of(rs) * allowed / max(before, 1) + 0.5) - replicas_of(rs)


class _Newest(tuple[Any, ...]):
    __slots__ = ()

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        return tuple.__gt__(self, other)


def name_of(obj: Object) -> str:
    """metadata.name."""
    return str(obj["metadata"]["name"])


def replicas_of(obj: Object) -> int:
    """spec.replicas."""
    return int(obj["spec"].get("replicas", 1))


def _age(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("creationTimestamp", ""), name_of(obj)


def _total(replicasets: Iterable[Object]) -> int:
    return sum(replicas_of(rs) for rs in replicasets)


def _status(obj: Object, field: str) -> int:
    return int(obj.get("status", {}).get(field, 0))
