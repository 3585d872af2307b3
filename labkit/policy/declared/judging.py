"""The verdict for one call of one client, from both sides: what its proxy sends, and what the server makes of it.

The two decisions are those of `labkit.policy.client_tls` and `labkit.policy.prediction`; here they are asked for every
way that a call takes, and each gets its reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from labkit.outcomes import Outcome, RequestKind, Scope, Verdict
from labkit.policy.authorization import AuthorizationPolicy, Request
from labkit.policy.client_tls import ClientTLS, ServiceRule, tls_towards
from labkit.policy.declared.access import MAYBE, NO, access
from labkit.policy.declared.answers import Answer, Way
from labkit.policy.declared.ends import ended, nobody, outside, why_received
from labkit.policy.declared.groups import Group
from labkit.policy.declared.reasons import Because, Rule, an_object
from labkit.policy.declared.registry import Registry, Target
from labkit.policy.declared.routing import Branch, Router, request_of
from labkit.policy.declared.rules import Rules
from labkit.policy.destination_rule import DestinationRule
from labkit.policy.gateway import gateways_for, servers_by_port
from labkit.policy.identity import spiffe_id
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import EffectiveMTLS
from labkit.policy.prediction import UNCAPTURED_PORTS, Edge, chain_of, predict_edge
from labkit.policy.protocols import Protocol
from labkit.policy.workload import Workload, labels_match


@dataclass(frozen=True)
class _Guard:
    """What a server's proxy asks about a call: its policies, and what is known of the request but for the caller."""

    policies: tuple[AuthorizationPolicy, ...]
    request: Request
    identified: bool
    """Whether the caller shows a certificate there."""


@dataclass(frozen=True)
class Asked:
    """What one HTTP request asks."""

    path: str = "/"
    method: str = "GET"


TOLD = frozenset({"operation.path", "operation.method"})
"""The conditions that can then be judged."""

_Step = tuple[Way, _Guard | None]


class _Met:
    """The ways of a class of clients, up to the servers' doors."""

    def __init__(self, ways: tuple[_Step, ...], answer: Answer) -> None:
        self.ways, self.answer = ways, answer
        self.guarded = any(guard for _, guard in ways)


class Judge:
    """Answers for the objects of one moment. Clients that no rule tells apart share their answers."""

    def __init__(self, rules: Rules, registry: Registry) -> None:
        self.rules, self.registry = rules, registry
        self.router = Router(rules, registry)
        self._met: dict[tuple[object, ...], _Met] = {}
        self._answers: dict[tuple[object, ...], Answer] = {}
        self._telling: dict[int, tuple[frozenset[str], frozenset[str]]] = {}

    def answer(
        self, client: Group, target: Target, request: RequestKind | None = None, asked: Asked | None = None
    ) -> Answer:
        """What happens to calls of a client to a target; without a `request`, to what its port is declared for. Of one
        request it may be told what it asks.
        """
        known = (self._class(client, target), id(target), request)
        met = self._met.get(known)
        if met is None:
            ways = tuple(self._ways(client, target, request or request_of(target.protocol)))
            met = self._met[known] = _Met(ways, Answer(way for way, _ in ways))
        if not met.guarded:
            return met.answer
        caller = (id(met), self._caller(client), asked)
        found = self._answers.get(caller)
        if found is None:
            ways = tuple(met.ways)
            found = Answer(self._guarded(way, client, guard, asked) if guard else way for way, guard in ways)
            self._answers[caller] = found
        return found

    # -- who is like whom

    def _class(self, client: Group, target: Target) -> object:
        """By what the rules of clients tell them apart."""
        if client.gateway:
            return id(client)
        if not client.injected:
            return False
        telling = self._telling.get(id(target))
        if telling is None:
            namespaces, keys = self.rules.tell_apart(target.host)
            if self.registry.client_namespaces:
                namespaces |= self.registry.client_namespaces
            telling = self._telling[id(target)] = (namespaces, keys)
        namespaces, keys = telling
        if not namespaces and not keys:
            return True
        workload = client.workload
        own = tuple((key, workload.labels[key]) for key in keys if key in workload.labels) if keys else ()
        return (workload.namespace if workload.namespace in namespaces else "", own)

    def _caller(self, client: Group) -> object:
        """By what AuthorizationPolicies tell clients apart."""
        address = client.workload.address if self.rules.ask_for_addresses else ""
        if not client.injected:
            return address
        return (client.workload.namespace, client.workload.service_account, address)

    # -- ways

    def _ways(self, client: Group, target: Target, request: RequestKind) -> Iterator[_Step]:
        """Each way up to the server's door, and what is asked there, if anything is."""
        if target.protocol is Protocol.UDP:
            why = Because(Rule.PROTOCOL, "sidecars do not capture UDP, so it passes as the application sends it")
            yield Way(Outcome.UNKNOWN, (why,), sends="UDP", accepts="UDP"), None
            return
        for branch in self.router.branches(client, target, request):
            if branch.target is None:
                if branch.when or branch.status is not None or branch.refuses:
                    yield ended(branch), None
            else:
                yield from self._to(client, branch, branch.target, target, request)

    def _to(
        self, client: Group, branch: Branch, target: Target, called: Target, request: RequestKind
    ) -> Iterator[_Step]:
        rule = self._rule(client, branch, target)
        endpoints = list(target.endpoints)
        if branch.subset and not branch.passed_on:
            subset = rule.subset(branch.subset) if rule else None
            if subset is None:
                why = Because(Rule.SUBSET, f"no DestinationRule that counts here defines the subset {branch.subset}")
                yield nobody(client, branch, request, why), None
                return
            endpoints = [one for one in endpoints if labels_match(subset.labels, one[0].workload.labels)]
        if not endpoints:
            why = Because(Rule.NO_ENDPOINT, f"no pod stands behind {target}")
            yield nobody(client, branch, request, why), None
            return
        total = sum(max(group.pods, 1) for group, _ in endpoints)
        for group, port in endpoints:
            share = branch.share * max(group.pods, 1) / total
            yield self._meet(client, branch, target, called, rule, group, port, request, share)

    def _rule(self, client: Group, branch: Branch, target: Target) -> DestinationRule | None:
        if not client.injected or branch.passed_on:
            return None
        return self.rules.destination_rule(client.workload, target.namespace, target.host)

    def _meet(
        self,
        client: Group,
        branch: Branch,
        target: Target,
        called: Target,
        rule: DestinationRule | None,
        group: Group,
        port: int,
        request: RequestKind,
        share: float,
    ) -> _Step:
        """The way to one workload. The client's proxy reads what the port is declared for that is called, wherever a
        route then leads.
        """
        server, effective = group.workload, self.rules.effective(group.workload)
        sent, why_sent = self._sent(client, branch, target, rule, server, port, effective)
        edge = Edge(
            client.workload,
            server,
            port,
            called.protocol,
            request,
            by_service=not branch.passed_on,
            arrives_as=self.registry.arrives_as(group, port),
            captured=port not in group.excluded_ports,
        )
        verdict = predict_edge(edge, sent, effective)
        if group.gateway:
            verdict, whys = self._at_gateway(group, target, port, sent, request, verdict)
        else:
            whys = why_received(group, edge, sent, effective, verdict)
        because = (*branch.because, why_sent, *whys)
        verdict, wrong_name = self._named_right(verdict, sent, rule, target.port, branch.subset, server)
        if wrong_name:
            because = (*because, wrong_name)
        if target.mesh_external and sent.own_tls and verdict.outcome is Outcome.UNKNOWN:
            verdict, twice = outside(verdict, request)
            because = (*because, *twice)
        way = Way(
            verdict.outcome,
            because,
            share,
            branch.when,
            server=group.name,
            port=port,
            sends=verdict.client_sends,
            accepts=verdict.server_accepts,
            http_status=verdict.http_status,
            exit_code=verdict.exit_code,
            error=verdict.error,
            ignored=effective.ignored if group.injected and not group.gateway else (),
        )
        return way, None if group.gateway else self._guard(way, group, called, edge, sent, effective)

    # -- the client's side

    def _sent(
        self,
        client: Group,
        branch: Branch,
        target: Target,
        rule: DestinationRule | None,
        server: Workload,
        port: int,
        effective: EffectiveMTLS,
    ) -> tuple[ClientTLS, Because]:
        if not client.injected:
            said = "the client has no sidecar, so it sends what its application sends"
            return ClientTLS(False, said), Because(Rule.NO_CLIENT_SIDECAR, said)
        if branch.passed_on:
            said = "the client's proxy passes the call on as it is, without mTLS"
            rules = Rule.PASSED_ON if target.by_address else Rule.SIDECAR_SCOPE
            return ClientTLS(False, said), Because(rules, said)
        tls = rule.traffic_policy(target.port, branch.subset).tls if rule else None
        endpoint_tls = rule.endpoint_tls(target.port, branch.subset) if rule else None
        said_by = ServiceRule(tls, rule.decider, bool(rule.selector), endpoint_tls) if rule else None
        mode = self.rules.namespace_mode(target.namespace)
        headless = tuple(group.workload for group, _ in target.endpoints) if target.headless else None
        sent = tls_towards(
            client.workload,
            server,
            port,
            mode,
            effective,
            enable_auto_mtls=self.rules.settings.auto_mtls,
            mesh_external=target.mesh_external,
            original_destination=headless,
            rule=said_by,
        )
        return sent, self._why_sent(sent, target, mode, rule, tls is not None, port, server, effective)

    def _why_sent(
        self,
        sent: ClientTLS,
        target: Target,
        mode: MutualTLSMode | None,
        rule: DestinationRule | None,
        by_rule: bool,
        port: int,
        server: Workload,
        effective: EffectiveMTLS,
    ) -> Because:
        settings = self.rules.settings
        if rule and (by_rule or sent.decided_by):
            return Because(Rule.DESTINATION_RULE, sent.reason, rule.decider)
        if not settings.auto_mtls:
            by = an_object("ConfigMap", settings.root_namespace, settings.config_map, Scope.MESH)
            return Because(Rule.AUTO_MTLS_OFF, "auto mTLS is switched off, so the client sends plaintext", by)
        if target.mesh_external:
            return Because(Rule.SERVICE_ENTRY, f"{target.host} is outside of the mesh, so the client sends plaintext")
        if mode is MutualTLSMode.DISABLE:
            by = self.rules.effective(Workload(namespace=target.namespace)).decided_by
            said = f"the mode of namespace {target.namespace} is DISABLE, so clients send plaintext to all of it"
            return Because(Rule.NAMESPACE_DISABLED, said, by)
        if target.headless:
            return Because(Rule.HEADLESS, f"{sent.reason}, so clients send {sent.sends}")
        if not sent.mtls and effective.mode_for_port(port) is MutualTLSMode.DISABLE and server.injected:
            by = effective.decided_by_for_port(port)
            said = f"port {port} of the server is DISABLE, and clients are told so: they send plaintext"
            return Because(Rule.AUTO_MTLS, said, by)
        what = "a sidecar" if sent.mtls else "no sidecar"
        return Because(Rule.AUTO_MTLS, f"the server has {what}, so auto mTLS chooses {sent.sends}")

    def _named_right(
        self,
        verdict: Verdict,
        sent: ClientTLS,
        rule: DestinationRule | None,
        port: int,
        subset: str,
        server: Workload,
    ) -> tuple[Verdict, Because | None]:
        """subjectAltNames of a DestinationRule replace the identities that a client knows from the endpoints."""
        tls = rule.traffic_policy(port, subset).tls if rule and sent.mtls else None
        names = tls.subject_alt_names if tls else ()
        own = spiffe_id(self.rules.settings.trust_domain, server.namespace, server.service_account)
        if not names or own in names or verdict.outcome is not Outcome.MTLS or rule is None:
            return verdict, None
        said = f"its subjectAltNames do not name {own}, so the client breaks the handshake off"
        why = Because(Rule.IDENTITY, said, rule.decider)
        error = "TLS error: the certificate's name is not expected"
        verdict = replace(verdict, outcome=Outcome.REFUSED, http_status=503, exit_code=None, error=error)
        return verdict, why

    # -- the server's side

    def _at_gateway(
        self, group: Group, target: Target, port: int, sent: ClientTLS, request: RequestKind, verdict: Verdict
    ) -> tuple[Verdict, tuple[Because, ...]]:
        """A gateway answers as its Gateways' servers say, with plaintext or with TLS of its own."""
        servers = servers_by_port(gateways_for(self.rules.gateways, group.workload)).get(port, [])
        if port in UNCAPTURED_PORTS:  # health and statistics: the proxy's own, without any Gateway
            why = Because(Rule.NOT_CAPTURED, f"port {port} is the proxy's own, and answers in plaintext")
            plain = request is not RequestKind.TLS and not sent.mtls and not sent.own_tls
            own = replace(verdict, outcome=Outcome.PLAINTEXT if plain else Outcome.REFUSED, server_accepts="plaintext")
            return replace(own, http_status=None, exit_code=None, error="" if plain else "connection closed"), (why,)
        if not servers:
            why = Because(Rule.GATEWAY_SERVER, f"no Gateway opens port {port} there")
            closed = replace(verdict, outcome=Outcome.REFUSED, server_accepts="nothing", error="connection refused")
            return replace(closed, http_status=None, exit_code=None), (why,)
        gateway, server = servers[0]
        by = an_object("Gateway", gateway.meta.namespace, gateway.meta.name)
        closed_tls = bool(server.tls_mode)
        arrives_tls = request is RequestKind.TLS or sent.mtls or sent.own_tls
        accepts = f"TLS ({server.tls_mode})" if closed_tls else "plaintext"
        fits = arrives_tls == closed_tls and not (sent.mtls and server.tls_mode != "ISTIO_MUTUAL")
        why = Because(Rule.GATEWAY_SERVER, f"port {port} there opens {accepts}", by)
        if not fits:
            wrong = replace(verdict, outcome=Outcome.REFUSED, server_accepts=accepts, exit_code=None, http_status=None)
            return replace(wrong, error="connection closed"), (why,)
        outcome = Outcome.MTLS if sent.mtls else Outcome.TLS if arrives_tls else Outcome.PLAINTEXT
        passed = replace(verdict, outcome=outcome, server_accepts=accepts, http_status=None, exit_code=None, error="")
        return passed, (why,)

    def _guard(
        self, way: Way, group: Group, target: Target, edge: Edge, sent: ClientTLS, effective: EffectiveMTLS
    ) -> _Guard | None:
        """What the server's proxy asks of a call that came so far, if it asks anything."""
        asked = way.outcome in (Outcome.MTLS, Outcome.PLAINTEXT, Outcome.TLS)
        if not asked or not group.injected or not edge.captured or edge.port in UNCAPTURED_PORTS:
            return None
        policies = self.rules.guards(group.workload)
        chain = chain_of(edge, sent, effective.mode_for_port(edge.port)) if policies else None
        if chain is None:
            return None
        request = Request(host=target.host, port=edge.port, destination_ip=group.workload.address, http=chain.http)
        return _Guard(tuple(policies), request, sent.mtls and chain.terminates)

    def _guarded(self, way: Way, client: Group, guard: _Guard, asked: Asked | None) -> Way:
        """The way after the server's proxy has asked who calls."""
        caller, settings = client.workload, self.rules.settings
        identity = ""
        if guard.identified:
            identity = spiffe_id(settings.trust_domain, caller.namespace, caller.service_account)
        request = replace(
            guard.request,
            principal=identity.removeprefix("spiffe://"),
            source_ip=caller.address,
            trust_domains=(settings.trust_domain, *settings.trust_domain_aliases),
        )
        if asked:
            request = replace(request, method=asked.method, path=asked.path)
        http = request.http
        found = access(guard.policies, request, TOLD if asked else frozenset())
        if found.policy is None:
            return way
        meta, root = found.policy.meta, self.rules.settings.root_namespace
        by = an_object("AuthorizationPolicy", meta.namespace, meta.name, found.policy.scope(root))
        why = Because(Rule.AUTHORIZATION, found.reason, by)
        if found.answer == MAYBE:
            return replace(way, because=(*way.because, why), partly=why)
        if found.answer != NO:
            return replace(way, because=(*way.because, why))
        return replace(
            way,
            outcome=Outcome.REFUSED,
            because=(*way.because, why),
            http_status=403 if http else None,
            exit_code=0 if http else None,
            error="RBAC: access denied" if http else "connection closed",
        )
