"""Wishes held against what is declared: no plaintext, nobody refused, these calls so and not otherwise. Pure.

What falls short is a Finding. Edges that fall short for one reason, with one client, are one finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from labkit.errors import InputError, LabError
from labkit.outcomes import Outcome
from labkit.policy.declared.answers import Answer
from labkit.policy.declared.changing import EdgeChange, Preview
from labkit.policy.declared.groups import Group
from labkit.policy.declared.mesh import DeclaredMesh, Key
from labkit.policy.declared.reasons import DOCS, Because, Rule
from labkit.policy.declared.registry import Target

PLAINTEXT, REFUSED, UNKNOWN, TLS, MTLS = "plaintext", "refused", "depends", "own-tls", "mtls"
UNEXPECTED, BREAKS, INVALID = "unexpected", "breaks", "invalid"

RULES: Mapping[str, tuple[str, str]] = {
    PLAINTEXT: ("A call crosses the network in plaintext.", f"{DOCS}concepts/security/#mutual-tls-authentication"),
    REFUSED: ("A call is refused.", f"{DOCS}ops/common-problems/network-issues/"),
    UNKNOWN: ("How a call is carried depends on the endpoint or the request.", f"{DOCS}concepts/security/"),
    TLS: (
        "A call is carried by TLS of the application, which the mesh cannot authenticate.",
        f"{DOCS}ops/configuration/traffic-management/tls-configuration/",
    ),
    MTLS: ("A call is carried by mTLS.", f"{DOCS}concepts/security/#mutual-tls-authentication"),
    UNEXPECTED: ("A call is not carried as it was said to be.", f"{DOCS}concepts/security/"),
    BREAKS: (
        "A change makes a client lose its server.",
        f"{DOCS}tasks/security/authentication/mtls-migration/",
    ),
    INVALID: ("An object would be refused by Istio's webhook.", f"{DOCS}ops/common-problems/validation/"),
}
"""What can be found: in one sentence, and Istio's page."""

_BY_OUTCOME = {
    Outcome.PLAINTEXT: PLAINTEXT,
    Outcome.REFUSED: REFUSED,
    Outcome.UNKNOWN: UNKNOWN,
    Outcome.TLS: TLS,
    Outcome.MTLS: MTLS,
}


@dataclass(frozen=True)
class Expectation:
    """A call that is to be so; port 0 is the server's only one."""

    client: str
    server: str
    port: int
    verdict: Outcome

    def __str__(self) -> str:
        return f"{self.client} -> {self.server}{f':{self.port}' if self.port else ''} is {self.verdict}"


@dataclass(frozen=True)
class Finding:
    """Something that falls short. `objects` are where to look, the likeliest first."""

    rule: str
    message: str
    objects: tuple[Key, ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    because: Because | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rule": self.rule,
            "message": self.message,
            "decided_by": self.because.object if self.because and self.because.by_object else "",
            "link": self.because.rule.link if self.because else RULES[self.rule][1],
            "edges": [list(edge) for edge in self.edges],
        }


@dataclass(frozen=True)
class Case:
    """One thing that was looked at: its name, to what it belongs, and what was wrong (empty: nothing)."""

    group: str
    name: str
    wrong: str = ""


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what fell short."""

    cases: tuple[Case, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.findings


def read_expectations(written: Any) -> list[Expectation]:
    """Expectations from a list of mappings with client, server, port and verdict. Raises InputError."""
    entries = written.get("edges") if isinstance(written, Mapping) else written
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise InputError("Expectations are a list.", next_step=_FORM)
    return [_expectation(one) for one in entries]


_FORM = "Write entries such as {client: shop/web, server: shop/db, port: 5432, verdict: mTLS}."


def _expectation(entry: Any) -> Expectation:
    words = {one.value.lower(): one for one in Outcome}
    if not isinstance(entry, Mapping) or not entry.get("client") or not entry.get("server"):
        raise InputError(f"{entry!r} is no expectation.", next_step=_FORM)
    verdict = words.get(str(entry.get("verdict")).lower())
    if verdict is None:
        known = ", ".join(one.value for one in Outcome)
        raise InputError(f"{entry.get('verdict')!r} is no verdict.", next_step=f"Write one of {known}.")
    port = entry.get("port") or 0
    if isinstance(port, bool) or not isinstance(port, int):
        raise InputError(f"{port!r} is no port.", next_step=_FORM)
    return Expectation(str(entry["client"]), str(entry["server"]), port, verdict)


def verify(
    mesh: DeclaredMesh,
    forbidden: Iterable[Outcome] = (Outcome.PLAINTEXT,),
    expected: Iterable[Expectation] = (),
    excepted: Iterable[str] = (),
    namespaces: Iterable[str] = (),
) -> Verification:
    """Hold wishes against a mesh. `excepted` are patterns for a client, a server, or `client -> server`, that are let
    be; of `namespaces` only calls into them are looked at.
    """
    bad, spared, into = frozenset(forbidden), tuple(excepted), frozenset(namespaces)
    cases, short = [], []
    for edge in mesh.edges(servers=lambda one: not into or one.namespace in into) if bad else ():
        client, server = edge.key
        if _is_spared(client, server, spared):
            continue
        wrong = edge.outcome in bad or (Outcome.REFUSED in bad and edge.answer.partly is not None)
        cases.append(Case(server, client, edge.answer.why if wrong else ""))
        if wrong:
            short.append((edge.client, edge.target, edge.answer))
    findings = [*_grouped(short)]
    for expectation in expected:
        case, finding = _held(mesh, expectation)
        cases.append(case)
        findings += [finding] if finding else []
    return Verification(tuple(cases), tuple(findings))


def findings_of(preview: Preview) -> Verification:
    """A preview as a verification: nobody may break, and nothing may be refused by the webhook."""
    findings = [Finding(INVALID, one) for one in preview.refused]
    groups: dict[tuple[str, Because | None], list[EdgeChange]] = {}
    for change in preview.breaking:
        decider = change.after.deciders[0] if change.after and change.after.deciders else None
        groups.setdefault((change.client, decider), []).append(change)
    for (client, decider), some in groups.items():
        servers = [one.server for one in some]
        message = f"{client} would no longer reach {listed(servers)}: {_lower(some[0].why)}"
        edges = tuple((client, server) for server in servers)
        findings.append(Finding(BREAKS, message, _object_of(decider), edges, decider))
    cases = [Case(one.server, one.client, one.why if one.breaks else "") for one in preview.changes]
    cases += [Case("validation", one.partition(":")[0], one) for one in preview.refused]
    return Verification(tuple(cases), tuple(findings))


def _is_spared(client: str, server: str, patterns: Sequence[str]) -> bool:
    host = server.rpartition(":")[0]
    names = (client, server, host, f"{client} -> {server}", f"{client} -> {host}")
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _grouped(short: Iterable[tuple[Group, Target, Answer]]) -> Iterable[Finding]:
    """Findings, one for each client and reason."""
    groups: dict[tuple[str, str, Because | None], list[tuple[Group, Target, Answer]]] = {}
    for client, target, answer in short:
        rule = REFUSED if answer.partly and answer.outcome is not Outcome.REFUSED else _BY_OUTCOME[answer.outcome]
        decider = answer.partly or (answer.deciders[0] if answer.deciders else None)
        groups.setdefault((rule, client.name, decider), []).append((client, target, answer))
    words = {PLAINTEXT: "sends plaintext to", REFUSED: "is refused by", TLS: "speaks TLS of its own to"}
    words |= {UNKNOWN: "may or may not speak mTLS to", MTLS: "speaks mTLS to"}
    for (rule, name, decider), some in groups.items():
        servers = [target.label for _, target, _ in some]
        said = some[0][2].why
        verb = "is refused some requests by" if some[0][2].partly else words[rule]
        places = (*_object_of(decider), *_workload(decider, *some[0][:2]))
        edges = tuple((name, server) for server in servers)
        yield Finding(rule, f"{name} {verb} {listed(servers)}: {_lower(said)}", places, edges, decider)


def _held(mesh: DeclaredMesh, wanted: Expectation) -> tuple[Case, Finding | None]:
    try:
        found = mesh.explain(wanted.client, wanted.server, wanted.port)
    except LabError as error:
        return Case("expected", str(wanted), error.what), Finding(UNEXPECTED, f"{wanted}, it was said: {error.what}")
    if found.outcome is wanted.verdict:
        return Case("expected", str(wanted)), None
    decider = found.answer.deciders[0] if found.answer.deciders else None
    wrong = f"It was said that {wanted}, and it is {found.outcome}: {_lower(found.answer.why)}"
    places = (*_object_of(decider), *_workload(decider, found.client, found.target))
    edge = (found.client.name, found.target.label)
    return Case("expected", str(wanted), wrong), Finding(UNEXPECTED, wrong, places, (edge,), decider)


def _object_of(decider: Because | None) -> tuple[Key, ...]:
    if decider is None or decider.by is None or decider.by.is_default:
        return ()
    return ((decider.by.kind, decider.by.namespace, decider.by.name),)


def _workload(decider: Because | None, client: Group, target: Target) -> tuple[Key, ...]:
    """Where to look when no policy decided: at whom the rule is about."""
    service = ("Service" if target.service else "ServiceEntry", target.namespace, target.name)
    caller = (client.kind, client.namespace, client.workload.name)
    served = tuple((one.kind, one.namespace, one.workload.name) for one, _ in target.endpoints[:1])
    if decider and decider.rule in (Rule.NO_CLIENT_SIDECAR, Rule.PASSED_ON):
        return (caller, service)
    return (*served, service, caller)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _lower(sentence: str) -> str:
    return f"{sentence[:1].lower()}{sentence[1:]}"
