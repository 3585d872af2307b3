"""What objects declare: the verdict for one call, with both sides and every reason, and for all calls at once.

The objects may come from a cluster, or from files alone; then Deployments and the like count as the pods that they
will create, with or without a sidecar as the labels say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from labkit.errors import InputError
from labkit.outcomes import Outcome, Probe, RequestKind, Verdict
from labkit.policy.declared.answers import Answer
from labkit.policy.declared.groups import Group
from labkit.policy.declared.judging import Asked, Judge
from labkit.policy.declared.registry import Registry, Target, is_system
from labkit.policy.declared.routing import request_of
from labkit.policy.declared.rules import Rules
from labkit.policy.declared.settings import MeshSettings
from labkit.policy.modes import MutualTLSMode

Object = Mapping[str, Any]

KINDS_READ = (
    *("Namespace", "Pod", "Service", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"),
    *("PeerAuthentication", "DestinationRule", "AuthorizationPolicy", "VirtualService", "Sidecar", "Gateway"),
    *("ServiceEntry", "WorkloadEntry"),
)
"""The kinds whose objects decide about an edge."""


Key = tuple[str, str, str]
"""Kind, namespace, name."""

CLUSTER_SCOPED = frozenset({"Namespace", "Node", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"})


def key_of(obj: Object) -> Key:
    """Who an object is."""
    kind, metadata = str(obj.get("kind")), obj.get("metadata") or {}
    namespace = "" if kind in CLUSTER_SCOPED else str(metadata.get("namespace") or "default")
    return kind, namespace, str(metadata.get("name") or "")


@dataclass(frozen=True, slots=True)
class EdgeVerdict:
    """One row of the table of all calls."""

    client: Group
    target: Target
    answer: Answer

    @property
    def key(self) -> tuple[str, str]:
        """(`namespace/client`, `namespace/server:port`)"""
        return self.client.name, self.target.label

    @property
    def outcome(self) -> Outcome:
        return self.answer.outcome

    def __str__(self) -> str:
        return f"{self.client.name} -> {self.target.label}: {self.outcome}"


@dataclass(frozen=True)
class Explanation:
    """The verdict for one call, and why."""

    client: Group
    target: Target
    request: RequestKind
    answer: Answer

    @property
    def outcome(self) -> Outcome:
        return self.answer.outcome

    def verdict(self, probe: Probe | None = None) -> Verdict:
        """The same as a verdict for one probe. What the caller sees is told only where all ways come to the same."""
        ways = self.answer.ways
        alike = len({(way.http_status, way.exit_code, way.error) for way in ways}) == 1
        some = self.answer.partly
        return Verdict(
            self.outcome,
            tuple(f"{one.said[:1].upper()}{one.said[1:]}." for one in self.answer.because),
            self.answer.decided_by,
            self.answer.sends,
            self.answer.accepts,
            ways[0].http_status if alike and not some else None,
            ways[0].exit_code if alike and not some else None,
            ways[0].error if alike else "",
            probe,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        answer = self.answer
        return {
            "client": self.client.name,
            "server": self.target.label,
            "host": self.target.host,
            "port": self.target.port,
            "protocol": str(self.target.protocol),
            "request": str(self.request),
            "verdict": str(answer.outcome),
            "why": answer.why,
            "client_sends": answer.sends,
            "server_accepts": answer.accepts,
            "caller_sees": answer.caller_sees,
            "some_requests_refused_by": answer.partly.object if answer.partly else "",
            "because": [{**one.as_dict(), "side": one.rule.side} for one in answer.because],
            "ways": [
                {
                    "server": way.server,
                    "container_port": way.port or None,
                    "share": round(way.share, 4),
                    "when": way.when,
                    "verdict": str(way.outcome),
                    "client_sends": way.sends,
                    "server_accepts": way.accepts,
                    "because": [str(one.said) for one in way.because],
                }
                for way in answer.ways
            ],
            "does_not_decide": [
                {"policy": f"{one.policy.namespace}/{one.policy.name}", "why": one.sentence} for one in answer.ignored
            ],
        }


class DeclaredMesh:
    """All that the objects of one moment say. Answers are remembered, so asking again costs nothing."""

    def __init__(self, objects: Iterable[Object], settings: MeshSettings | None = None) -> None:
        # Of two objects with one name the later one counts, as it would after being applied.
        self.objects = tuple({key_of(one): one for one in objects if one.get("kind") in KINDS_READ}.values())
        self.settings = settings or MeshSettings()
        self.rules = Rules(self.objects, self.settings)
        self.registry = Registry(self.objects, self.settings, self.rules.service_entries, self.rules.workload_entries)
        self.judge = Judge(self.rules, self.registry)

    # -- one call

    def explain(
        self,
        client: str,
        server: str,
        port: int = 0,
        request: RequestKind | None = None,
        asked: Asked | None = None,
    ) -> Explanation:
        """The verdict for calls of a client to a port of a server; 0 is its only port. `asked` tells of one request."""
        caller = self.registry.group(client)
        target = self.registry.target(server, port, caller.namespace)
        answer = self.judge.answer(caller, target, request, asked)
        if not answer.calls:
            raise InputError(
                f"{caller} has no way to {target}.",
                meaning="A gateway calls only where a VirtualService leads that names its Gateway.",
                next_step="Write a VirtualService, or ask for a workload with a sidecar.",
            )
        return Explanation(caller, target, request or request_of(target.protocol), answer)

    # -- all calls

    @cached_property
    def clients(self) -> list[Group]:
        """Everybody who may call: all workloads but Kubernetes' and the mesh's own."""
        return sorted((one for one in self.registry.groups if self._is_shown(one)), key=lambda one: one.name)

    @cached_property
    def servers(self) -> list[Target]:
        """Everything that may be called: the ports of Services and of hosts outside."""
        hidden = self.settings.root_namespace
        shown = [
            one
            for one in self.registry.targets
            if not is_system(one.namespace)
            and (one.namespace, one.name) != ("default", "kubernetes")
            and (one.namespace != hidden or any(group.gateway for group, _ in one.endpoints))
        ]
        return sorted(shown, key=lambda one: (one.label.rpartition(":")[0], one.port))

    def edges(
        self, clients: Callable[[Group], bool] | None = None, servers: Callable[[Target], bool] | None = None
    ) -> Iterator[EdgeVerdict]:
        """The verdicts of all pairs, but for what a workload would call of itself alone."""
        callers = [one for one in self.clients if clients is None or clients(one)]
        for target in self.servers:
            if servers is None or servers(target):
                for client in callers:
                    answer = self.answer(client, target)
                    if answer is not None:
                        yield EdgeVerdict(client, target, answer)

    def answer(self, client: Group, target: Target) -> Answer | None:
        """The verdict of one pair; None where there is no way, or where a workload would call itself alone."""
        if len(target.endpoints) == 1 and target.endpoints[0][0] is client:
            return None
        found = self.judge.answer(client, target)
        return found if found.ways else None

    def modes(self) -> list[tuple[Group, MutualTLSMode, Mapping[int, MutualTLSMode]]]:
        """What every workload with a sidecar accepts: in general, and on ports that have a mode of their own."""
        found = []
        for group in self.registry.groups:
            if group.injected and not group.gateway:
                effective = self.rules.effective(group.workload)
                found.append((group, effective.mode, effective.per_port))
        return found

    def _is_shown(self, group: Group) -> bool:
        own = group.namespace == self.settings.root_namespace and not group.gateway
        return not is_system(group.namespace) and not own
