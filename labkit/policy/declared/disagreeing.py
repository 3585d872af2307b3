"""Where what was seen is not what is declared: which calls, and the likeliest cause. Pure.

Both views are right about what they look at: the objects say what new connections are to meet once every proxy has
heard of it; what was seen happened at its time, to its connection, at the address that was called. So where they
differ something stands between: a connection that is older than the rules, counters that are, a proxy that has not
got them, a pod without a sidecar among others with one, a call past the Service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from labkit.outcomes import Outcome
from labkit.policy.declared.answers import Answer
from labkit.policy.declared.changing import NOBODY_KNOWN
from labkit.policy.declared.groups import Group
from labkit.policy.declared.mesh import DeclaredMesh, Key, key_of
from labkit.policy.declared.reasons import Rule
from labkit.policy.declared.registry import Target
from labkit.policy.declared.traffic import UNKNOWN
from labkit.policy.protocols import Protocol

DRAIN_SECONDS = 45.0
"""How long connections of before may live on after a change (meshConfig.defaultConfig.drainDuration)."""


class Cause(StrEnum):
    """What may stand between the views."""

    NOT_SYNCED = "proxy not synced"
    EARLIER = "seen before the change"
    STALE = "stale connection"
    UNINJECTED = "uninjected pod"
    BYPASS = "called past the Service"
    OUTSIDE = "a caller that no object tells of"
    UNDECLARED = "port not named"
    APPLICATION = "the application itself"
    UNTOLD = "not told by the objects"


NEXT: Mapping[Cause, str] = {
    Cause.NOT_SYNCED: "lab.proxy_status() shows what it runs and what it refused; its log says why.",
    Cause.EARLIER: "Count anew: lab.rates() looks only at the next seconds.",
    Cause.STALE: "Open connections keep their rules until they are drained; wait, or restart the client.",
    Cause.UNINJECTED: "Restart its Deployment: lab.restart(...); lab.sidecars() shows who has none.",
    Cause.BYPASS: "Call the Service by its name: calls of pods' own addresses are passed on as they are.",
    Cause.OUTSIDE: "The server's access log shows the address; probes, monitoring and other clusters come so.",
    Cause.UNDECLARED: "Name the Service's port by its protocol (tcp-db, http-web), or set appProtocol.",
    Cause.APPLICATION: "Look at lab.logs(...) of the server, and at its port.",
    Cause.UNTOLD: "Look for a NetworkPolicy, an EnvoyFilter, or an expired certificate: lab.certificate_of(...).",
}
"""What to do about each."""


@dataclass(frozen=True)
class Seen:
    """One call as it was seen. `server` is a Service (`namespace/name`, with or without its port), or a workload."""

    client: str
    server: str
    outcome: Outcome
    per_minute: float | None = None
    by: str = "metrics"
    seconds: float | None = None
    """For how long it was looked at, up to now; None if nobody knows."""
    past_service: bool = False
    """Whether it was called by a pod's own address."""


@dataclass(frozen=True)
class Circumstances:
    """What is known of the moment: proxies that run something else than they shall, and what time it is."""

    unsynced: Mapping[str, str] = field(default_factory=dict)
    """By workload or pod (`namespace/name`), the reason."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Disagreement:
    """One call on which the views differ."""

    client: str
    server: str
    declared: str
    seen: Seen
    cause: Cause
    why: str
    others: tuple[Cause, ...] = ()
    """What else it may be, the likelier first."""

    @property
    def next_step(self) -> str:
        return NEXT[self.cause]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "client": self.client,
            "server": self.server,
            "declared": self.declared,
            "observed": str(self.seen.outcome),
            "by": self.seen.by,
            "requests_per_minute": self.seen.per_minute,
            "cause": str(self.cause),
            "why": self.why,
            "next_step": self.next_step,
            "or": [str(one) for one in self.others],
        }


def disagreements(
    mesh: DeclaredMesh, seen: Iterable[Seen], circumstances: Circumstances | None = None
) -> list[Disagreement]:
    """The calls that were seen otherwise than they are declared, the busiest first."""
    looking = _Looking(mesh, circumstances or Circumstances())
    found = [one for each in seen if (one := looking.at(each))]
    return sorted(found, key=lambda one: (-(one.seen.per_minute or 0.0), one.client, one.server))


class _Looking:
    """Holds single calls against the mesh."""

    def __init__(self, mesh: DeclaredMesh, around: Circumstances) -> None:
        self.mesh, self.around = mesh, around
        self.ages = {key_of(one): changed for one in mesh.objects if (changed := last_change(one))}

    def at(self, seen: Seen) -> Disagreement | None:
        """The disagreement about one call; None where the views agree, or where nothing is declared."""
        if seen.outcome is Outcome.UNKNOWN:
            return None
        pairs = [(client, target) for target in self._targets(seen.server) for client in self._clients(seen.client)]
        answers = [(client, target, self.mesh.judge.answer(client, target)) for client, target in pairs]
        told = [one for one in answers if one[2].calls]
        if not told or any(_allows(answer, seen.outcome) for _, _, answer in told):
            return None
        client, target, answer = told[0]
        causes = self._causes(seen, client, target, answer)
        (cause, why), *others = causes
        return Disagreement(
            seen.client, target.label, str(answer.outcome), seen, cause, why, tuple(one for one, _ in others)
        )

    # -- who is meant

    def _clients(self, name: str) -> list[Group]:
        if name == UNKNOWN:
            naked = [one for one in self.mesh.clients if not one.injected]
            return [*naked, NOBODY_KNOWN]
        return [one for one in self.mesh.registry.groups if name in (one.name, f"{one.namespace}/{one.workload.name}")]

    def _targets(self, name: str) -> list[Target]:
        named = [one for one in self.mesh.servers if name in (one.label, one.label.rpartition(":")[0], one.host)]
        return named or [one for one in self.mesh.servers if any(_name(group) == name for group, _ in one.endpoints)]

    # -- why

    def _causes(self, seen: Seen, client: Group, target: Target, answer: Answer) -> list[tuple[Cause, str]]:
        """All that it may be, the likeliest first."""
        found = [*self._unsynced(client, target), *self._by_age(seen, answer)]
        if seen.outcome is Outcome.PLAINTEXT:
            found += self._plaintext(seen, client, target)
        elif seen.outcome is Outcome.REFUSED:
            found += self._refused(target, answer)
        elif seen.outcome is Outcome.MTLS:
            found.append((Cause.STALE, "a connection of before is still used: it keeps what it was made with"))
        found.append((Cause.UNTOLD, "what decides stands in none of the objects that were read"))
        return list(dict(found).items())

    def _unsynced(self, client: Group, target: Target) -> Iterable[tuple[Cause, str]]:
        names = [client, *(group for group, _ in target.endpoints)]
        for group in names:
            for name, why in self.around.unsynced.items():
                namespace, _, pod = name.partition("/")
                own = group.workload.name
                if namespace == group.namespace and (pod == own or pod.startswith(f"{own}-")):
                    yield Cause.NOT_SYNCED, f"the proxy of {name} does not run what it shall: {why}"

    def _by_age(self, seen: Seen, answer: Answer) -> Iterable[tuple[Cause, str]]:
        """Whether the rules are younger than what was seen."""
        for one in answer.because:
            if not one.by_object or one.by is None:
                continue
            changed = self.ages.get((one.by.kind, one.by.namespace, one.by.name))
            if changed is None:
                continue
            age = max((self.around.now - changed).total_seconds(), 0.0)
            if seen.seconds is None or seen.seconds > age:
                if seen.by == "metrics":
                    yield (
                        Cause.EARLIER,
                        f"{one.object} was changed {_ago(age)} ago, and part of this was counted before",
                    )
            elif age < DRAIN_SECONDS:
                said = f"{one.object} was changed {_ago(age)} ago, and connections of before may live on"
                yield Cause.STALE, f"{said} for {DRAIN_SECONDS:.0f} s"

    def _plaintext(self, seen: Seen, client: Group, target: Target) -> Iterable[tuple[Cause, str]]:
        if seen.client == UNKNOWN:
            yield Cause.OUTSIDE, "the server's proxy met a caller without a certificate"
        same_name = [one for one in self.mesh.registry.groups if _name(one) == _name(client)]
        if any(not one.injected for one in same_name) and any(one.injected for one in same_name):
            yield Cause.UNINJECTED, f"some pods of {_name(client)} have no sidecar"
        elif not client.injected and seen.client != UNKNOWN:
            yield Cause.UNINJECTED, f"{_name(client)} has no sidecar"
        mixed = [group for group, _ in target.endpoints if not group.injected]
        if mixed and len(mixed) < len(target.endpoints):
            yield Cause.UNINJECTED, f"{_name(mixed[0])}, one of those behind {target}, has no sidecar"
        if target.headless:
            yield Cause.BYPASS, f"{target} is headless: its pods are met at their own addresses"
        elif seen.past_service or client.injected:
            yield Cause.BYPASS, "a call of a pod's own address is passed on as it is"
        if client.injected:
            yield Cause.STALE, "a connection of before is still used: it keeps what it was made with"

    def _refused(self, target: Target, answer: Answer) -> Iterable[tuple[Cause, str]]:
        if target.protocol is Protocol.UNDECLARED:
            said = f"port {target.port} does not say what it speaks: where the server speaks first, both sides wait"
            yield Cause.UNDECLARED, said
        if any(one.rule is Rule.NO_SERVER_SIDECAR for one in answer.because) or answer.outcome is not Outcome.REFUSED:
            yield Cause.APPLICATION, "nothing that is declared refuses it: the application may not listen there"


def _allows(answer: Answer, seen: Outcome) -> bool:
    """Whether something that was seen can be by what is declared."""
    outcomes = {way.outcome for way in answer.ways}
    return seen in outcomes or Outcome.UNKNOWN in outcomes or (seen is Outcome.REFUSED and answer.partly is not None)


def last_change(obj: Mapping[str, Any]) -> datetime | None:
    """When an object was last written, as far as it tells; None for one from a file."""
    metadata = obj.get("metadata") or {}
    times: Sequence[Any] = [
        one.get("time") for one in metadata.get("managedFields") or () if not one.get("subresource")
    ]
    known = [_time(one) for one in (*times, metadata.get("creationTimestamp")) if one]
    return max((one for one in known if one), default=None)


def _time(written: Any) -> datetime | None:
    try:
        moment = written if isinstance(written, datetime) else datetime.fromisoformat(str(written))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _name(group: Group) -> str:
    return f"{group.namespace}/{group.workload.name}"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


__all__ = ["Cause", "Circumstances", "Disagreement", "Key", "Seen", "disagreements"]
