"""The way of a whole mesh to STRICT, in an order in which nobody is cut off. Pure.

https://istio.io/latest/docs/tasks/security/authentication/mtls-migration/

Every step is tried on the objects as the steps before it left them (`changing`), so that what a step would break is
known and not guessed. Without observed traffic everybody may call everybody; with it, only calls that were seen count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from labkit.policy.declared.changing import Change, EdgeChange, changed, compare
from labkit.policy.declared.groups import Group
from labkit.policy.declared.injecting import Injection, injections, with_sidecar
from labkit.policy.declared.mesh import DeclaredMesh, Object, key_of
from labkit.policy.declared.registry import Target
from labkit.policy.declared.steps import Act, NamespaceState, Plan, Step, apply_mode, modes_said, without_tls
from labkit.policy.declared.traffic import UNKNOWN, Traffic, rate_of
from labkit.policy.declared.verifying import listed
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import parse_peer_authentication
from labkit.policy.workload import Workload

STRICT, PERMISSIVE, DISABLE = MutualTLSMode.STRICT, MutualTLSMode.PERMISSIVE, MutualTLSMode.DISABLE


def migrate(mesh: DeclaredMesh, traffic: Traffic | None = None) -> Plan:
    """The plan for a mesh as it is."""
    return _Planner(mesh, traffic).plan()


class _Planner:
    """Makes a plan step by step, each on what the steps before it left."""

    def __init__(self, mesh: DeclaredMesh, traffic: Traffic | None) -> None:
        self.start = self.mesh = mesh
        self.traffic = traffic
        self.steps: list[Step] = []
        self.root = mesh.settings.root_namespace
        self.had_naked = any(not group.injected for group in mesh.clients)

    def plan(self) -> Plan:
        safe = [
            name
            for name in self.open_namespaces()
            if self.mode_of(name) is not DISABLE and not self.try_strict(name)[1]
        ]
        states = tuple(self.states(set(safe)))
        for name in safe:
            self.strict(name, Act.STRICT_NOW, "everybody who calls into it sends mTLS already")
        self.auto_mtls()
        self.opened()
        for rule in self.conflicting_rules():
            self.freed(rule)
        for one in self.in_order(injections(self.mesh)):
            self.inject(one)
        for name in sorted(self.open_namespaces(), key=self.callers_of):
            self.close(name)
        self.exceptions()
        self.whole_mesh()
        return Plan(tuple(self.steps), states, tuple(self.remarks()), self.is_complete(), self.traffic is not None)

    # -- trying

    def trial(self, change: Change, into: Iterable[str] | None = None) -> tuple[DeclaredMesh, tuple[EdgeChange, ...]]:
        """The mesh after a change, and who would break; `into` names the namespaces whose callers can be concerned."""
        after = DeclaredMesh(changed(self.mesh.objects, change), self.mesh.settings)
        return after, self.broken(after, into)

    def broken(self, after: DeclaredMesh, into: Iterable[str] | None = None) -> tuple[EdgeChange, ...]:
        named = None if into is None else frozenset(into)

        def concerned(target: Target) -> bool:
            return (
                named is None
                or target.namespace in named
                or any(group.namespace in named for group, _ in target.endpoints)
            )

        found = compare(self.mesh, after, self.traffic, servers=concerned).breaking
        return tuple(
            one
            for one in found
            if (one.rate is None or one.rate > 0) and not (one.client == UNKNOWN and self.is_unknown_injected)
        )

    @property
    def is_unknown_injected(self) -> bool:
        """Whether callers that nobody could name may be those that had no sidecar, and have one by now."""
        return self.had_naked and all(group.injected for group in self.mesh.clients)

    def take(self, step: Step, after: DeclaredMesh) -> None:
        self.steps.append(step)
        self.mesh = after

    # -- STRICT

    def mode_of(self, namespace: str) -> MutualTLSMode:
        return self.mesh.rules.effective(Workload(namespace=namespace)).mode

    def open_namespaces(self) -> list[str]:
        """Namespaces with sidecars in which not all is STRICT by the namespace's or the mesh's own policy."""
        names = {group.namespace for group in self.mesh.clients if group.injected and not group.gateway}
        return sorted(name for name in names if self.mode_of(name) is not STRICT)

    def try_strict(self, namespace: str) -> tuple[DeclaredMesh, tuple[EdgeChange, ...], Change]:
        change = Change([self.policy(namespace, STRICT)])
        return (*self.trial(change, [namespace]), change)

    def strict(self, namespace: str, act: Act, why: str) -> None:
        after, breaks, change = self.try_strict(namespace)
        notes = (*self.entrances(namespace), *self.unnamed_into(namespace))
        step = Step(act, f"namespace {namespace}", why, change, (apply_mode(change),), breaks, notes)
        self.take(step, after)

    def close(self, namespace: str) -> None:
        """STRICT for a namespace, or why that must wait."""
        _, breaks, change = self.try_strict(namespace)
        if not breaks:
            self.strict(namespace, Act.STRICT, "everybody who calls into it sends mTLS by now")
            return
        clients = sorted({one.client for one in breaks})
        who = "callers without a certificate" if clients == [UNKNOWN] else listed(clients)
        why = f"{who} would be cut off. {breaks[0].why}"
        ways = (
            "Give them a sidecar, or keep only the ports that they call PERMISSIVE (portLevelMtls), or show by "
            "observed traffic that they do not call.",
        )
        commands = (apply_mode(change),)
        self.steps.append(Step(Act.HOLD, f"namespace {namespace}", why, change, commands, breaks, ways))

    def policy(self, namespace: str, mode: MutualTLSMode) -> Object:
        """The namespace-wide policy (the mesh-wide one of the root namespace) with this mode: the one that counts now,
        changed, or a new one.
        """
        wide = [
            (parse_peer_authentication(one).age_order, one)
            for one in self.mesh.objects
            if key_of(one)[:2] == ("PeerAuthentication", namespace) and not parse_peer_authentication(one).selector
        ]
        if wide:
            known = min(wide, key=lambda one: one[0])[1]
            return {**known, "spec": {**(known.get("spec") or {}), "mtls": {"mode": str(mode)}}}
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "default", "namespace": namespace},
            "spec": {"mtls": {"mode": str(mode)}},
        }

    def callers_of(self, namespace: str) -> tuple[int, str]:
        """How many may be hurt: the namespaces that fewest call come first."""
        return sum(1 for edge in self.used(self.mesh) if edge.target.namespace == namespace), namespace

    # -- what must be before

    def auto_mtls(self) -> None:
        settings = self.mesh.settings
        if settings.auto_mtls:
            return
        after = DeclaredMesh(self.mesh.objects, type(settings)(**{**settings.__dict__, "auto_mtls": True}))
        line = f"kubectl edit configmap {settings.config_map} -n {settings.root_namespace}    # enableAutoMtls: true"
        what = f"ConfigMap {settings.root_namespace}/{settings.config_map}"
        why = "without it sidecars send mTLS only where a DestinationRule says so"
        self.take(Step(Act.AUTO_MTLS, what, why, Change(), (line,), self.broken(after)), after)

    def opened(self) -> None:
        """From DISABLE the way leads over PERMISSIVE: clients follow a moment later than servers."""
        for namespace in (self.root, *sorted({group.namespace for group in self.mesh.clients})):
            wide = [
                one for one in self.mesh.rules.peer_authentications if one.namespace == namespace and not one.selector
            ]
            first = min(wide, key=lambda one: one.age_order, default=None)
            if first is None or first.mode is not DISABLE:
                continue
            change = Change([self.policy(namespace, PERMISSIVE)])
            after, breaks = self.trial(change)
            why = (
                "under DISABLE clients send plaintext; under PERMISSIVE they begin to send mTLS, and nobody is refused"
            )
            what = "the mesh" if namespace == self.root else f"namespace {namespace}"
            self.take(Step(Act.OPEN, what, why, change, (apply_mode(change),), breaks), after)

    def conflicting_rules(self) -> list[Object]:
        """DestinationRules whose tls keeps sidecars from sending mTLS to servers of the mesh that could answer it."""
        names = set()
        for edge in self.used(self.mesh):
            group = edge.client
            if not group.injected or not any(member.injected for member, _ in edge.target.endpoints):
                continue
            for way in edge.answer.ways:
                if way.sends != "mTLS":
                    names |= {one.by for one in way.because if one.by and one.by.kind == "DestinationRule"}
        keys = sorted({("DestinationRule", one.namespace, one.name) for one in names})
        known = {key_of(one): one for one in self.mesh.objects}
        return [known[key] for key in keys if key in known]

    def freed(self, rule: Object) -> None:
        key = key_of(rule)
        freed = {**rule, "spec": without_tls(rule.get("spec") or {})}
        change = Change([freed])
        after, breaks = self.trial(change)
        why = f"it makes clients send {modes_said(rule)}, which STRICT refuses; without it auto mTLS takes over"
        what = f"remove tls from DestinationRule {key[1]}/{key[2]}"
        line = f"kubectl edit destinationrule {key[2]} -n {key[1]}    # remove every 'tls'"
        self.take(Step(Act.RULE, what, why, change, (line,), breaks), after)

    def in_order(self, found: Iterable[Injection]) -> list[Injection]:
        """First those whose missing sidecars keep the most calls in plaintext."""
        weight: dict[str, float] = defaultdict(float)
        for edge in self.used(self.mesh):
            if not edge.client.injected and any(group.injected for group, _ in edge.target.endpoints):
                weight[edge.client.namespace] += rate_of(self.traffic, *edge.key) or 1.0
        called = {name for one in found for name in [one.namespace]}
        return sorted(
            found,
            key=lambda one: (bool(one.hindrance), -weight[one.namespace], one.namespace not in called, one.namespace),
        )

    def inject(self, one: Injection) -> None:
        members = [group.name for group in one.groups]
        if one.hindrance:
            step = Step(Act.HOLD, f"{listed(members)} without a sidecar", one.hindrance, Change(), (), (), one.notes)
            self.steps.append(step)
            return
        objects = with_sidecar(self.mesh.objects, one)
        after = DeclaredMesh(objects, self.mesh.settings)
        breaks = self.broken(after)
        if breaks and self.mode_of(one.namespace) is STRICT:
            change = Change([self.policy(one.namespace, PERMISSIVE)])
            why = "with sidecars its STRICT will be enforced, and some of its callers still send plaintext"
            opened, _ = self.trial(change, [one.namespace])
            self.take(Step(Act.OPEN, f"namespace {one.namespace}", why, change, (apply_mode(change),)), opened)
            after = DeclaredMesh(with_sidecar(self.mesh.objects, one), self.mesh.settings)
            breaks = self.broken(after)
        change = Change(one.applied)
        why = "without a sidecar they send plaintext, and nothing is enforced before them"
        self.take(Step(Act.INJECT, listed(members), why, change, one.commands, breaks, one.notes), after)

    # -- what comes after

    def exceptions(self) -> None:
        """Workloads and ports with a mode of their own: they stay open whatever the namespace says."""
        for one in sorted(self.mesh.rules.peer_authentications, key=lambda one: str(one)):
            if not one.selector or one.namespace == self.root:
                continue
            ports = {port: mode for port, mode in one.port_modes.items() if mode in (PERMISSIVE, DISABLE)}
            if one.mode not in (PERMISSIVE, DISABLE) and not ports:
                continue
            key = ("PeerAuthentication", one.namespace, one.name)
            after, breaks = self.trial(Change(delete=[key]), [one.namespace])
            said = ", ".join(
                [
                    *([str(one.mode)] if one.mode in (PERMISSIVE, DISABLE) else []),
                    *(f"port {p}: {m}" for p, m in ports.items()),
                ]
            )
            what, line = f"PeerAuthentication {one}", f"kubectl delete peerauthentication {one.name} -n {one.namespace}"
            if breaks:
                clients = sorted({edge.client for edge in breaks})
                why = f"it keeps {said}, and {listed(clients)} would be cut off without it"
                self.steps.append(Step(Act.HOLD, what, why, Change(delete=[key]), (line,), breaks))
            else:
                why = f"it keeps {said}, and nobody needs it any more"
                self.take(Step(Act.EXCEPTION, what, why, Change(delete=[key]), (line,), breaks), after)

    def whole_mesh(self) -> None:
        if self.mode_of(self.root) is STRICT or any(step.act is Act.HOLD for step in self.steps):
            return
        change = Change([self.policy(self.root, STRICT)])
        after, breaks = self.trial(change)
        why = "so that namespaces to come are STRICT, too"
        act = Act.HOLD if breaks else Act.MESH
        step = Step(act, "the mesh", why, change, (apply_mode(change),), breaks)
        if breaks:
            self.steps.append(step)
        else:
            self.take(step, after)

    def is_complete(self) -> bool:
        strict = all(
            mode is STRICT and all(one is STRICT for one in ports.values()) for _, mode, ports in self.mesh.modes()
        )
        injected = all(group.injected for group in self.mesh.clients if not group.gateway)
        hurt = any(step.breaks for step in self.steps)
        return strict and injected and not hurt and not any(step.act is Act.HOLD for step in self.steps)

    # -- what there is to know

    def used(self, mesh: DeclaredMesh) -> Iterator[Any]:
        """The calls that count."""
        for edge in mesh.edges():
            rate = rate_of(self.traffic, *edge.key, named=edge.client.injected)
            if rate is None or rate:
                yield edge

    def states(self, safe: set[str]) -> Iterator[NamespaceState]:
        groups: dict[str, list[Group]] = defaultdict(list)
        for group in self.start.clients:
            if not group.gateway:
                groups[group.namespace].append(group)
        plain: dict[str, int] = defaultdict(int)
        for edge in self.used(self.start):
            ways = [
                way
                for way in edge.answer.ways
                if way.sends == "plaintext" and way.accepts not in ("anything", "nothing")
            ]
            plain[edge.target.namespace] += bool(ways)
        for name in sorted(groups):
            some, mode = groups[name], self.mode_of(name)
            injected = sum(group.injected for group in some)
            if not injected:
                state = "no sidecars: STRICT would enforce nothing"
            elif mode is STRICT:
                state = "STRICT already" if injected == len(some) else "STRICT, but not all have sidecars"
            elif name in safe:
                state = "safe now"
            else:
                state = "not yet"
            yield NamespaceState(name, str(mode), len(some), injected, plain[name], state)

    def entrances(self, namespace: str) -> Iterator[str]:
        """Calls from outside of the cluster that no object tells of."""
        for target in self.mesh.servers:
            open_to = any(group.injected and not group.gateway for group, _ in target.endpoints)
            if target.namespace == namespace and target.outside and open_to:
                yield (
                    f"Service {target} is reached from outside of the cluster: such callers will be refused, unless "
                    "they come through a gateway."
                )

    def unnamed_into(self, namespace: str) -> Iterator[str]:
        """Callers that showed no certificate: whether they have one by now, only counting again will tell."""
        for (client, server), rate in (self.traffic or {}).items():
            if client == UNKNOWN and server.partition("/")[0] == namespace and rate:
                yield f"{server} had {rate:g} requests per minute without a certificate: count again before this step."

    def remarks(self) -> Iterator[str]:
        if self.traffic is None:
            yield (
                "Without observed traffic everybody is taken to call everybody; with it (traffic=, --traffic) only "
                "calls that were seen count."
            )
        headless = [
            one for one in self.mesh.servers if one.headless and len({group.injected for group, _ in one.endpoints}) > 1
        ]
        for target in headless:
            yield f"Headless Service {target} has mTLS only once all of its pods have a sidecar."
