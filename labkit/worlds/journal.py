"""The way back: what was changed since a lab was opened, and how each change is undone, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from labkit.cluster import MANAGED_BY_LABEL, MANAGER, Cluster
from labkit.cluster.cluster import Change
from labkit.cluster.kinds import DEPLOYMENT, NAMESPACE, POD, Kind
from labkit.errors import LabError
from labkit.observe.objects import labels_of, name_of


def wait_until_gone(cluster: Cluster, changes: Iterable[Change]) -> None:
    """Wait for deleted namespaces with all they held, and for the pods of deleted Deployments."""
    changes = list(changes)
    cluster.wait_until_gone(changes)
    for change in changes:
        if change.kind == DEPLOYMENT and change.before and change.action == "deleted":
            selector = change.before["spec"]["selector"].get("matchLabels") or {}
            cluster.wait_until(
                POD,
                lambda pods: ", ".join(name_of(pod) for pod in pods),
                what=f"the pods of {change.name} to be gone",
                namespace=change.namespace,
                labels=selector,
            )


@dataclass(frozen=True)
class Undo:
    """One step back, in the past tense. `owner` is the namespace that takes the object along when it goes itself."""

    what: str
    run: Callable[[], object]  # a Change is waited for
    owner: str | None = None


class Journal:
    """What was changed since the lab was opened, so that it can be put back, newest first."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._steps: list[Undo] = []
        self._made: set[str] = set()  # namespaces

    def record(self, changes: Iterable[Change]) -> None:
        """Remember changes that were made through the cluster."""
        for change in changes:
            if change.action == "created":
                if change.kind == NAMESPACE:
                    self._made.add(change.name)
                self.add(
                    Undo(f"removed {change.kind.resource}/{change.name}", self._deletion(change), change.namespace)
                )
            elif change.action in ("configured", "deleted") and change.before is not None:
                self.add(
                    Undo(f"restored {change.kind.resource}/{change.name}", self._restoring(change), change.namespace)
                )

    def record_labels(self, change: Change, labels: Iterable[str]) -> None:
        """Remember the labels of a namespace as they were."""
        if change.action == "configured" and change.before is not None:
            old = labels_of(change.before)
            before = {key: old.get(key) for key in labels}

            def restore() -> Change | None:
                if self._cluster.find(NAMESPACE, change.name) is None:
                    return None
                return self._cluster.label(NAMESPACE, change.name, before)

            self.add(Undo(f"restored the labels of namespace {change.name}", restore, change.name))

    def add(self, step: Undo) -> None:
        """Remember one step back."""
        self._steps.append(step)

    def has_made(self, what: str) -> bool:
        """Whether an object, "namespace/shop", is one that was not there before."""
        return any(step.what == f"removed {what}" for step in self._steps)

    def undo(self) -> tuple[list[str], list[str]]:
        """Go all the way back. Returns what was put back, and what could not be, which the next time tries again."""
        undone: dict[tuple[str, str | None], str] = {}  # of an object that changed twice, the end counts
        failed: list[tuple[Undo, str]] = []
        gone = []
        while self._steps:
            step = self._steps.pop()
            if step.owner in self._made:
                continue  # goes with its namespace
            try:
                change = step.run()
            except LabError as error:
                failed.append((step, f"not {step.what}: {error.what}"))
                continue
            if isinstance(change, Change) and change.action == "absent":
                continue
            subject = step.what.partition(" ")[2], step.owner
            undone.pop(subject, None)
            undone[subject] = step.what
            if isinstance(change, Change):
                gone.append(change)
        wait_until_gone(self._cluster, gone)
        self._made.clear()
        self._steps = [step for step, _ in reversed(failed)]
        return list(undone.values()), [why for _, why in failed]

    def _deletion(self, change: Change) -> Callable[[], Change]:
        def delete() -> Change:
            absent = Change("absent", change.kind, change.name, change.namespace)
            if not self._serves(change.kind):
                return absent
            found = self._cluster.find(change.kind, change.name, change.namespace)
            if found is None or labels_of(found).get(MANAGED_BY_LABEL) != MANAGER:
                return absent  # somebody made another one since
            return self._cluster.delete(change.kind, change.name, change.namespace)

        return delete

    def _restoring(self, change: Change) -> Callable[[], Change | None]:
        def restore() -> Change | None:
            home_is_gone = change.namespace and self._cluster.find(NAMESPACE, change.namespace) is None
            if change.before is None or home_is_gone or not self._serves(change.kind):
                return Change("absent", change.kind, change.name, change.namespace)
            self._cluster.restore(change.before, change.kind)
            return None

        return restore

    def _serves(self, kind: Kind) -> bool:
        # A kind of the mesh is gone when the mesh is.
        return self._cluster.serves(kind)
