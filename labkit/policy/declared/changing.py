"""What a change would do to every edge, before it is applied: two sets of objects, held against each other. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from labkit.outcomes import Outcome
from labkit.policy.declared.answers import Answer
from labkit.policy.declared.groups import Group
from labkit.policy.declared.mesh import DeclaredMesh, Key, Object, key_of
from labkit.policy.declared.registry import Target
from labkit.policy.declared.traffic import UNKNOWN, Traffic, rate_of
from labkit.policy.validation import validate
from labkit.policy.workload import Workload, labels_match, workload_from_pod

T = TypeVar("T")

NOBODY_KNOWN = Group(Workload("unknown", UNKNOWN), "nobody known")
"""Who stands for callers that no object tells of: they have no sidecar."""


@dataclass(frozen=True)
class Change:
    """What is applied, what is deleted (objects or keys of them), and whose pods are made anew (`namespace/name`, or
    `namespace/*` for all of a namespace).
    """

    apply: Sequence[Object] = ()
    delete: Sequence[Key] = ()
    restart: Sequence[str] = ()


class Effect(StrEnum):
    """What happens to an edge, the worst first."""

    BREAKS = "breaks"
    BREAKS_SOME = "breaks for some"
    LOSES = "loses mTLS"
    GOES = "goes"
    CHANGES = "changes"
    GAINS = "gains mTLS"
    MENDS = "starts to work"
    APPEARS = "is new"


@dataclass(frozen=True)
class EdgeChange:
    """One edge that is not as it was. `rate` is what was seen on it, in requests per minute; None: nobody looked."""

    client: str
    server: str
    effect: Effect
    before: Answer | None
    after: Answer | None
    rate: float | None = None

    @property
    def breaks(self) -> bool:
        return self.effect in (Effect.BREAKS, Effect.BREAKS_SOME)

    @property
    def was(self) -> str:
        return _outcome(self.before)

    @property
    def becomes(self) -> str:
        return _outcome(self.after)

    @property
    def why(self) -> str:
        """Why it ends up so."""
        if self.after is not None:
            return self.after.why
        return "There is no such host any more." if self.breaks else "The client is gone."

    @property
    def refused_rate(self) -> float | None:
        """How many of the requests that were seen would be refused; None where nobody looked."""
        if self.rate is None or not self.breaks:
            return self.rate and 0.0
        return self.rate * (1.0 if self.after is None else self.after.refused_share)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "client": self.client,
            "server": self.server,
            "effect": str(self.effect),
            "was": self.was,
            "becomes": self.becomes,
            "why": self.why,
            "decided_by": [one.object for one in self.after.deciders if one.by_object] if self.after else [],
            "requests_per_minute": self.rate,
            "refused_per_minute": self.refused_rate,
        }


@dataclass(frozen=True)
class Preview:
    """What a change would do."""

    changes: tuple[EdgeChange, ...] = ()
    unchanged: int = 0
    refused: tuple[str, ...] = ()
    """What Istio's webhook would refuse of the change."""
    notes: tuple[str, ...] = ()
    watched: bool = False
    """Whether observed traffic was at hand."""
    mesh: DeclaredMesh | None = field(default=None, repr=False, compare=False)
    """The mesh as it would be."""

    @property
    def breaking(self) -> tuple[EdgeChange, ...]:
        return tuple(one for one in self.changes if one.breaks)

    @property
    def safe(self) -> bool:
        """Whether the change would be taken, and nobody would be refused who is not refused now."""
        return not self.breaking and not self.refused

    @property
    def broken_clients(self) -> dict[str, list[str]]:
        """Whom each client would lose."""
        found: dict[str, list[str]] = {}
        for one in self.breaking:
            found.setdefault(one.client, []).append(one.server)
        return found

    @property
    def untouched(self) -> list[str]:
        """The clients for which nothing changes."""
        touched = {one.client for one in self.changes}
        return [one.name for one in self.mesh.clients if one.name not in touched] if self.mesh else []

    @property
    def refused_per_minute(self) -> float | None:
        """How many of the requests that were seen would be refused; None where nobody looked."""
        return sum(one.refused_rate or 0.0 for one in self.breaking) if self.watched else None

    @property
    def counts(self) -> dict[str, int]:
        """How many edges each effect has, the worst effect first."""
        counted = Counter(one.effect for one in self.changes)
        return {str(effect): counted[effect] for effect in Effect if counted[effect]}


def preview(before: DeclaredMesh, change: Change, traffic: Traffic | None = None, *, validated: bool = True) -> Preview:
    """Hold the mesh as it is against the mesh as it would be. `traffic` says how much was seen on which edge."""
    refused, notes = _judged(change) if validated else ((), [])
    after = DeclaredMesh(changed(before.objects, change), before.settings)
    notes = [*notes, *_notes(before, change)]
    return compare(before, after, traffic, refused=tuple(refused), notes=tuple(notes))


def compare(
    before: DeclaredMesh,
    after: DeclaredMesh,
    traffic: Traffic | None = None,
    *,
    refused: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    servers: Callable[[Target], bool] = lambda _: True,
) -> Preview:
    """The edges that two meshes answer differently, towards some servers or all."""
    clients = _paired(before.clients, after.clients, lambda one: one.name)
    found, unchanged = [], 0
    known: dict[tuple[int, int], Effect | None] = {}
    targets = _paired(filter(servers, before.servers), filter(servers, after.servers), lambda one: one.label)
    for label, (target, target_after) in targets.items():
        for name, (client, client_after) in clients.items():
            old = before.answer(client, target) if client and target else None
            new = after.answer(client_after, target_after) if client_after and target_after else None
            if old is None and new is None:
                continue
            pair = (id(old), id(new))
            effect: Effect | None
            if old is None or new is None:
                effect = _come_or_gone(old, client_after is not None)
            elif pair in known:
                effect = known[pair]
            else:
                effect = known[pair] = _effect(old, new)
            if effect is None:
                unchanged += 1
            else:
                named = (client or client_after or NOBODY_KNOWN).injected
                found.append(EdgeChange(name, label, effect, old, new, rate_of(traffic, name, label, named=named)))
    order = {effect: number for number, effect in enumerate(Effect)}
    found += _of_the_unnamed(before, after, targets, traffic) if traffic else ()
    found.sort(key=lambda one: (order[one.effect], -(one.rate or 0), one.client, one.server))
    return Preview(tuple(found), unchanged, refused, notes, traffic is not None, after)


def _of_the_unnamed(
    before: DeclaredMesh,
    after: DeclaredMesh,
    targets: Mapping[str, tuple[Target | None, Target | None]],
    traffic: Traffic,
) -> Iterator[EdgeChange]:
    """What happens to callers that the servers' proxies saw and could not name: what happens to a client without a
    sidecar. A rate without a port counts once, for the port that fares worst.
    """
    order = list(Effect)
    for (caller, server), rate in traffic.items():
        worst: EdgeChange | None = None
        for label, (target, target_after) in targets.items() if caller == UNKNOWN else ():
            if server not in (label, label.rpartition(":")[0]) or not rate:
                continue
            old = before.judge.answer(NOBODY_KNOWN, target) if target else None
            new = after.judge.answer(NOBODY_KNOWN, target_after) if target_after else None
            effect = _effect(old, new) if old and new else _come_or_gone(old, True)
            if effect and (worst is None or order.index(effect) < order.index(worst.effect)):
                worst = EdgeChange(UNKNOWN, label, effect, old, new, rate)
        if worst:
            yield worst


def _effect(old: Answer, new: Answer) -> Effect | None:
    if old.is_like == new.is_like:
        return None
    if new.refused_share > old.refused_share:
        return Effect.BREAKS if new.refused_share > 0.999 else Effect.BREAKS_SOME
    if new.partly and not old.partly and old.refused_share < 0.001:
        return Effect.BREAKS_SOME
    if new.refused_share < old.refused_share:
        return Effect.MENDS
    if Outcome.MTLS in (old.outcome, new.outcome):
        return Effect.LOSES if old.outcome is Outcome.MTLS else Effect.GAINS
    return Effect.CHANGES


def _paired(before: Iterable[T], after: Iterable[T], name: Callable[[T], str]) -> dict[str, tuple[T | None, T | None]]:
    """What there is before and after, by name."""
    was, becomes = {name(one): one for one in before}, {name(one): one for one in after}
    return {key: (was.get(key), becomes.get(key)) for key in was | becomes}


def _come_or_gone(old: Answer | None, client_stays: bool) -> Effect:
    if old is None:
        return Effect.APPEARS
    if not client_stays or old.refused_share > 0.999:
        return Effect.GOES
    return Effect.BREAKS


def _outcome(answer: Answer | None) -> str:
    if answer is None:
        return "-"
    if answer.outcome is Outcome.UNKNOWN and len({way.outcome for way in answer.ways}) > 1:
        return answer.shares
    return f"{answer.outcome}{', for some' if answer.partly else ''}"


# -- the objects as they would be


def changed(objects: Iterable[Object], change: Change) -> list[Object]:
    """The objects after a change, as the API server and the controllers would leave them.

    1. What is applied takes the place of what had its name, and keeps its age. A namespace keeps its other labels.
    2. The pods of a template that changed, or is made anew, are gone: what the template creates comes instead.
    3. With a namespace goes all that is in it; with a template its pods go.
    """
    found = {key_of(one): one for one in objects}
    renewed = list(_renewed(found, change))
    for obj in change.apply:
        key = key_of(obj)
        found[key] = _merged(found.get(key), obj)
    gone = {("Namespace", "", name) for kind, _, name in change.delete if kind == "Namespace"}
    emptied = {name for _, _, name in gone}
    deleted = set(change.delete)
    renewed += [one for key, one in found.items() if key in deleted]
    return [
        one
        for key, one in found.items()
        if key not in deleted and key[1] not in emptied and not _of_one_of(one, key, renewed)
    ]


def _renewed(found: Mapping[Key, Object], change: Change) -> Iterable[Object]:
    """The templates whose pods do not stay."""
    for obj in change.apply:
        before = found.get(key_of(obj))
        if before is not None and _creates(before) != _creates(obj):
            yield before
    for name in change.restart:
        namespace, _, wanted = name.rpartition("/")
        for key, obj in found.items():
            if key[1] == (namespace or "default") and wanted in ("*", key[2]) and _template(obj):
                yield obj


def _merged(before: Object | None, obj: Object) -> Object:
    if before is None:
        return obj
    old, new = before.get("metadata") or {}, obj.get("metadata") or {}
    kept = {name: old[name] for name in ("creationTimestamp", "uid") if name in old}
    metadata = {**new, **kept}
    if obj.get("kind") == "Namespace":
        metadata["labels"] = {**(old.get("labels") or {}), **(new.get("labels") or {})}
    return {**obj, "metadata": metadata}


def _template(obj: Object) -> Object:
    template = (obj.get("spec") or {}).get("template")
    return template if isinstance(template, Mapping) else {}


def _creates(obj: Object) -> Any:
    """What distinguishes the pods of a template."""
    template = _template(obj)
    metadata = template.get("metadata") or {}
    known = {"metadata": {**metadata, "namespace": key_of(obj)[1], "name": ""}, "spec": template.get("spec") or {}}
    return workload_from_pod(known), metadata.get("annotations") or {}


def _of_one_of(obj: Object, key: Key, templates: Sequence[Object]) -> bool:
    """Whether a pod (or a ReplicaSet between) belongs to one of the templates."""
    if key[0] not in ("Pod", "ReplicaSet"):
        return False
    labels = (obj.get("metadata") or {}).get("labels") or {}
    for one in templates:
        selector = ((one.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        if selector and _template(one) and key_of(one)[1] == key[1] and labels_match(selector, labels):
            return True
    return False


# -- what there is to say beside the edges


def _judged(change: Change) -> tuple[tuple[str, ...], list[str]]:
    """What Istio's webhook would refuse, and what it would warn of."""
    refused, warned = [], []
    for obj in change.apply:
        kind, namespace, name = key_of(obj)
        found = validate(kind, obj)
        where = f"{kind} {f'{namespace}/' if namespace else ''}{name}"
        refused += [f"{where}: {error}" for error in found.errors]
        warned += [f"{where}: {warning}" for warning in found.warnings]
    return tuple(refused), warned


def _notes(before: DeclaredMesh, change: Change) -> Iterable[str]:
    known = {key_of(one): one for one in before.objects}
    for kind, namespace, name in change.delete:
        if (kind, namespace, name) not in known and kind != "Secret":
            yield f"{kind} {f'{namespace}/' if namespace else ''}{name} does not exist, so deleting it changes nothing."
    for obj in change.apply:
        kind, _, name = key_of(obj)
        old = known.get((kind, "", name))
        if kind != "Namespace" or old is None:
            continue
        was, becomes = ((one.get("metadata") or {}).get("labels") or {} for one in (old, obj))
        restarted = {one.rpartition("/")[0] for one in change.restart}
        if any(was.get(key) != value for key, value in becomes.items()) and name not in restarted:
            yield f"Labels of namespace {name} reach its pods when they are made anew: --restart '{name}/*' shows that."
