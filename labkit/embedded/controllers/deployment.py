"""Deployment: a ReplicaSet for the present template, and the way there from the earlier ones."""

from __future__ import annotations

import copy
from typing import Any

from labkit.embedded.apiclient import DEPLOYMENTS, PODS, REPLICASETS, ApiError, Object, key_of
from labkit.embedded.controllers import rollout
from labkit.embedded.controllers.caches import Caches, Expectations, in_namespace
from labkit.embedded.controllers.deployment_status import make_status, seconds_to_deadline
from labkit.embedded.controllers.events import EventRecorder
from labkit.embedded.controllers.objects import (
    controller_of,
    controller_reference,
    is_active,
    labels_of,
    matches,
    now,
)
from labkit.embedded.controllers.queue import ReconcileQueue
from labkit.embedded.controllers.rollout import Scales, name_of, replicas_of

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_NOT_COPIED = {LAST_APPLIED, rollout.REVISION, rollout.DESIRED, rollout.MAXIMUM}


def make_replicaset(deployment: Object, hash_value: str, size: int, revision: int) -> Object:
    """The ReplicaSet for the Deployment's present template."""
    meta, spec = deployment["metadata"], deployment["spec"]
    template = copy.deepcopy(spec["template"])
    template_meta = template.setdefault("metadata", {})
    template_meta["labels"] = {**(template_meta.get("labels") or {}), rollout.HASH_LABEL: hash_value}
    selector = copy.deepcopy(spec["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), rollout.HASH_LABEL: hash_value}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{hash_value}",
            "namespace": meta["namespace"],
            "labels": dict(template_meta["labels"]),
            "annotations": make_annotations(deployment, {}, revision),
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": {
            "replicas": size,
            "selector": selector,
            "template": template,
            **({"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}),
        },
    }


def make_annotations(deployment: Object, present: dict[str, str], revision: int | None) -> dict[str, str]:
    """A ReplicaSet's annotations: the Deployment's, its sizes, and a new revision if one is given."""
    own = {k: v for k, v in (deployment["metadata"].get("annotations") or {}).items() if k not in _NOT_COPIED}
    surge, _ = rollout.limits(deployment)
    result = {
        **present,
        **own,
        rollout.DESIRED: str(replicas_of(deployment)),
        rollout.MAXIMUM: str(replicas_of(deployment) + surge),
    }
    if revision is not None:
        result[rollout.REVISION] = str(revision)
    return result


def superfluous(deployment: Object, old: list[Object]) -> list[Object]:
    """The old ReplicaSets beyond `spec.revisionHistoryLimit`, those with the lowest revisions first."""
    limit = int(deployment["spec"].get("revisionHistoryLimit", 10))
    empty = [
        rs
        for rs in old
        if not replicas_of(rs)
        and not rs.get("status", {}).get("replicas")
        and "deletionTimestamp" not in rs["metadata"]
    ]
    return sorted(empty, key=rollout.revision_of)[: max(0, len(old) - limit)]


class DeploymentController:
    """Keeps the ReplicaSets of every Deployment."""

    def __init__(self, caches: Caches, events: EventRecorder) -> None:
        self._api = caches.api
        self._caches = caches
        self._events = events
        self._deployments = caches.informer(DEPLOYMENTS)
        self._replicasets = caches.informer(REPLICASETS)
        self._pods = caches.informer(PODS)
        self._expectations = Expectations(self._replicasets)
        self.queue = ReconcileQueue("deployment", self._reconcile)
        self._deployments.on_change(lambda _, obj: self.queue.add(key_of(obj)))
        self._replicasets.on_change(self._replicaset_changed)
        self._pods.on_change(self._pod_changed)

    def _replicaset_changed(self, _kind: str, replicaset: Object) -> None:
        owner = controller_of(replicaset)
        if owner and owner["kind"] == "Deployment":
            self.queue.add(f"{replicaset['metadata']['namespace']}/{owner['name']}")

    def _pod_changed(self, kind: str, pod: Object) -> None:
        # Only Recreate waits for pods: for the last old one to be gone.
        if kind != "DELETED":
            return
        for deployment in in_namespace(self._deployments, pod["metadata"]["namespace"]):
            if rollout.is_recreate(deployment) and matches(deployment["spec"]["selector"], labels_of(pod)):
                self.queue.add(key_of(deployment))

    async def _reconcile(self, key: str) -> float | None:
        deployment = self._deployments.objects.get(key)
        if deployment is None:
            return None
        deployment = {**deployment, "metadata": dict(deployment["metadata"])}  # ours to change
        mine = await self._claim(deployment)
        new = rollout.find_new(deployment, mine)
        old = [rs for rs in mine if rs is not new]
        if "deletionTimestamp" in deployment["metadata"]:
            return await self._write_status(deployment, new, old)
        if deployment["spec"].get("paused") or rollout.was_scaled(deployment, mine):
            await self._scale(deployment, mine, rollout.proportional_step(deployment, new, old))
            return await self._write_status(deployment, new, old)

        if rollout.is_recreate(deployment) and self._old_pods_left(old):
            await self._scale(deployment, old, {name_of(rs): 0 for rs in old if replicas_of(rs)})
            return await self._write_status(deployment, new, old)
        created = new is None
        new = await self._create_new(deployment, old) if new is None else await self._renew(deployment, new, old)
        await self._scale(deployment, [new, *old], rollout.rolling_step(deployment, new, old))
        if not created:
            for rs in superfluous(deployment, old):
                await self._api.delete(REPLICASETS, name_of(rs), rs["metadata"]["namespace"])
        return await self._write_status(deployment, new, old, created=created)

    async def _claim(self, deployment: Object) -> list[Object]:
        """The ReplicaSets of this Deployment, adopting matching orphans."""
        uid, selector = deployment["metadata"]["uid"], deployment["spec"]["selector"]
        mine = []
        for rs in in_namespace(self._replicasets, deployment["metadata"]["namespace"]):
            owner = controller_of(rs)
            if owner and owner["uid"] == uid:
                mine.append(rs)
            elif owner is None and matches(selector, labels_of(rs)) and "deletionTimestamp" not in rs["metadata"]:
                owners = [*(rs["metadata"].get("ownerReferences") or []), controller_reference(deployment)]
                mine.append(await self._update(rs, {"ownerReferences": owners}))
        return mine + self._expectations.unseen(uid)

    def _old_pods_left(self, old: list[Object]) -> bool:
        uids = {rs["metadata"]["uid"] for rs in old}
        for pod in self._pods.objects.values():
            owner = controller_of(pod)
            finished = not is_active(pod) and "deletionTimestamp" not in pod["metadata"]
            if owner and owner["uid"] in uids and not finished:
                return True
        return any(replicas_of(rs) for rs in old)

    async def _create_new(self, deployment: Object, old: list[Object]) -> Object:
        meta = deployment["metadata"]
        collisions = int(deployment.get("status", {}).get("collisionCount", 0))
        revision = max(map(rollout.revision_of, old), default=0) + 1
        hash_value = rollout.template_hash(deployment["spec"]["template"], collisions)
        size = rollout.first_size(deployment, old)
        wanted = make_replicaset(deployment, hash_value, size, revision)
        try:
            created = await self._api.create(REPLICASETS, wanted)
        except ApiError as error:
            if error.status != 409:
                raise
            created = await self._resolve_collision(deployment, wanted, error)
        else:
            self._expectations.created(meta["uid"], created)
            if size:
                self._tell_scaled(deployment, created, 0, size)
        await self._set_revision(deployment, revision)
        return created

    async def _resolve_collision(self, deployment: Object, wanted: Object, error: ApiError) -> Object:
        """The name is taken: by our own ReplicaSet that our copy does not show yet, or by a stranger."""
        meta = deployment["metadata"]
        found = await self._api.get(REPLICASETS, name_of(wanted), meta["namespace"])
        owner = controller_of(found)
        same = rollout.same_template(found["spec"]["template"], deployment["spec"]["template"])
        if owner and owner["uid"] == meta["uid"] and same:
            return found
        count = int(deployment.get("status", {}).get("collisionCount", 0)) + 1
        status = {**deployment.get("status", {}), "collisionCount": count}
        await self._api.replace(DEPLOYMENTS, {**deployment, "status": status}, subresource="status")
        raise error

    async def _renew(self, deployment: Object, new: Object, old: list[Object]) -> Object:
        """Give the ReplicaSet the Deployment's annotations, and a new revision if it was an old one until now."""
        newest = max(map(rollout.revision_of, old), default=0) + 1
        revision = newest if rollout.revision_of(new) < newest else None
        present = new["metadata"].get("annotations") or {}
        annotations = make_annotations(deployment, present, revision)
        # The sizes are written together with spec.replicas, else was_scaled could not see a change.
        for key in (rollout.DESIRED, rollout.MAXIMUM):
            if replicas_of(new) and key in present:
                annotations[key] = present[key]
        seconds = deployment["spec"].get("minReadySeconds", 0)
        if annotations != present or new["spec"].get("minReadySeconds", 0) != seconds:
            new = await self._update(new, {"annotations": annotations}, {"minReadySeconds": seconds})
        await self._set_revision(deployment, rollout.revision_of(new))
        return new

    async def _set_revision(self, deployment: Object, revision: int) -> None:
        meta = deployment["metadata"]
        if rollout.revision_of(deployment) != revision:
            patch = {"metadata": {"annotations": {rollout.REVISION: str(revision)}}}
            updated = await self._api.patch(DEPLOYMENTS, meta["name"], patch, namespace=meta["namespace"])
            self._caches.remember(DEPLOYMENTS, updated)
            # The rest of this reconciliation writes the status of this version.
            for field in ("resourceVersion", "annotations"):
                deployment["metadata"][field] = updated["metadata"][field]

    async def _scale(self, deployment: Object, replicasets: list[Object], sizes: Scales) -> None:
        surge, _ = rollout.limits(deployment)
        sized = {
            rollout.DESIRED: str(replicas_of(deployment)),
            rollout.MAXIMUM: str(replicas_of(deployment) + surge),
        }
        for rs in replicasets:
            present = rs["metadata"].get("annotations") or {}
            before, after = replicas_of(rs), sizes.get(name_of(rs), replicas_of(rs))
            if before != after or (after and not sized.items() <= present.items()):
                rs.update(await self._update(rs, {"annotations": {**present, **sized}}, {"replicas": after}))
            if before != after:
                self._tell_scaled(deployment, rs, before, after)

    async def _update(self, rs: Object, meta: dict[str, Any], spec: dict[str, Any] | None = None) -> Object:
        changed = {**rs, "metadata": {**rs["metadata"], **meta}, "spec": {**rs["spec"], **(spec or {})}}
        updated = await self._api.replace(REPLICASETS, changed)
        self._caches.remember(REPLICASETS, updated)
        return updated

    def _tell_scaled(self, deployment: Object, rs: Object, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        message = f"Scaled {way} replica set {name_of(rs)} from {before} to {after}"
        self._events.normal(deployment, "ScalingReplicaSet", message)

    async def _write_status(
        self, deployment: Object, new: Object | None, old: list[Object], *, created: bool = False
    ) -> float | None:
        moment = now()
        status = make_status(deployment, new, old, created=created, moment=moment)
        if status != deployment.get("status"):
            updated = await self._api.replace(DEPLOYMENTS, {**deployment, "status": status}, subresource="status")
            self._caches.remember(DEPLOYMENTS, updated)
        return seconds_to_deadline(deployment, status, moment)
