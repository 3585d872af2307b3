"""Who may call whom: what AuthorizationPolicies mean, and the decision for one request.

https://istio.io/latest/docs/reference/config/security/authorization-policy/
Conditions about the caller (principals, namespaces, service accounts, trust domains) are read from the certificate
that it shows. In plaintext there is none: such a condition then never matches, and its `not` twin always does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from labkit.errors import InputError
from labkit.outcomes import DecidingPolicy, Scope
from labkit.policy.claims import claim_path, claim_texts, principal_matches
from labkit.policy.configs import Meta, read_meta
from labkit.policy.identity import TRUST_DOMAIN, principals_meant, trust_domains_meant
from labkit.policy.peer_authentication import ROOT_NAMESPACE
from labkit.policy.selection import selected, selector_labels
from labkit.policy.workload import Workload

DRY_RUN_ANNOTATION = "istio.io/dry-run"


class Action(StrEnum):
    """What a match means. ALLOW is the default."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


# What a condition looks at. Fields of `from` and `to` that mean the same as a key of `when` have that key's name.
SOURCE_FIELDS = {
    "principals": "source.principal",
    "requestPrincipals": "request.auth.principal",
    "namespaces": "source.namespace",
    "serviceAccounts": "source.serviceAccount",
    "trustDomains": "source.trustDomain",
    "ipBlocks": "source.ip",
    "remoteIpBlocks": "remote.ip",
}
OPERATION_FIELDS = {
    "hosts": "operation.host",
    "ports": "destination.port",
    "methods": "operation.method",
    "paths": "operation.path",
}
WHEN_KEYS = frozenset(
    {
        *("source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount"),
        *("source.trustDomain", "request.auth.principal", "request.auth.audiences", "request.auth.presenter"),
        *("destination.ip", "destination.port", "connection.sni"),
    }
)
_HTTP_ONLY = ("operation.host", "operation.method", "operation.path", "request.headers[", "request.auth.")


@dataclass(frozen=True)
class Condition:
    """`key` is one of `values`, if there are any, and none of `not_values`."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()

    @property
    def http_only(self) -> bool:
        return self.key.startswith(_HTTP_ONLY)

    @property
    def header(self) -> str:
        """The header's name, for `request.headers[name]`."""
        return self.key.removeprefix("request.headers[").removesuffix("]") if self.key.startswith("request.h") else ""

    @property
    def claims(self) -> tuple[str, ...]:
        """The path to a claim of the caller's token, for keys that name one."""
        return claim_path(self.key)


@dataclass(frozen=True)
class Rule:
    """One source, and one operation, and all of `when`. Without sources anybody; without operations anything."""

    sources: tuple[tuple[Condition, ...], ...] = ()
    operations: tuple[tuple[Condition, ...], ...] = ()
    when: tuple[Condition, ...] = ()

    def without_http(self, action: Action) -> Rule | None:
        """The rule for a connection that is not read as HTTP; None when it can never match there.

        In ALLOW a rule with a condition about HTTP is dropped, so fewer are allowed; in DENY and AUDIT only the
        condition is dropped, so more are denied (pilot/pkg/security/authz/model, forTCP).
        """
        everything = (*self.sources, *self.operations, self.when)
        if not any(one.http_only for group in everything for one in group):
            return self
        if action is Action.ALLOW:
            return None
        kept = [
            tuple(tuple(c for c in group if not c.http_only) for group in part)
            for part in (self.sources, self.operations)
        ]
        return Rule(kept[0], kept[1], tuple(c for c in self.when if not c.http_only))


@dataclass(frozen=True)
class AuthorizationPolicy:
    """One parsed policy. `rules` is empty for `spec: {}`, which as ALLOW allows nothing."""

    meta: Meta
    action: Action = Action.ALLOW
    selector: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    provider: str = ""

    @property
    def dry_run(self) -> bool:
        return self.meta.annotations.get(DRY_RUN_ANNOTATION) == "true"

    def scope(self, root_namespace: str) -> Scope:
        """The level at which it stands."""
        if self.selector:
            return Scope.WORKLOAD
        return Scope.MESH if self.meta.namespace == root_namespace else Scope.NAMESPACE

    def __str__(self) -> str:
        return f"AuthorizationPolicy {self.meta}"


def parse_authorization_policy(obj: Mapping[str, Any]) -> AuthorizationPolicy:
    """Read an AuthorizationPolicy. Raises InputError for a key of `when` that does not exist."""
    meta, spec = read_meta(obj, kind="AuthorizationPolicy"), obj.get("spec") or {}
    return AuthorizationPolicy(
        meta=meta,
        action=Action(spec.get("action") or Action.ALLOW),
        selector=selector_labels(spec),
        rules=tuple(_rule(rule or {}, meta) for rule in spec.get("rules") or ()),
        provider=str((spec.get("provider") or {}).get("name") or ""),
    )


def _rule(written: Mapping[str, Any], meta: Meta) -> Rule:
    sources = ((one.get("source") or {}) for one in written.get("from") or ())
    operations = ((one.get("operation") or {}) for one in written.get("to") or ())
    return Rule(
        sources=tuple(_conditions(one, SOURCE_FIELDS, meta) for one in sources),
        operations=tuple(_conditions(one, OPERATION_FIELDS, meta) for one in operations),
        when=tuple(_when(one, meta) for one in written.get("when") or ()),
    )


def _conditions(written: Mapping[str, Any], fields: Mapping[str, str], meta: Meta) -> tuple[Condition, ...]:
    found = []
    for name, key in fields.items():
        opposite = f"not{name[0].upper()}{name[1:]}"
        values, not_values = written.get(name) or (), written.get(opposite) or ()
        if values or not_values:
            found.append(_condition(key, values, not_values, meta))
    return tuple(found)


def _when(written: Mapping[str, Any], meta: Meta) -> Condition:
    key = str(written.get("key") or "")
    known = key in WHEN_KEYS or re.fullmatch(r"request\.(headers|auth\.claims)(\[[^\]]+\])+", key)
    if not known and not key.startswith("experimental."):
        raise InputError(
            f"AuthorizationPolicy {meta} has a condition on {key!r}, which does not exist.",
            next_step="Known keys: request.headers[NAME], source.ip, source.namespace, source.principal, "
            "request.auth.principal, request.auth.claims[NAME], destination.ip, destination.port, connection.sni.",
            field="spec.rules.when.key",
        )
    return _condition(key, written.get("values") or (), written.get("notValues") or (), meta)


def _condition(key: str, values: Iterable[Any], not_values: Iterable[Any], meta: Meta) -> Condition:
    def qualified(value: Any) -> str:
        # A service account without a namespace is one of the policy's own.
        text = str(value)
        return f"{meta.namespace}/{text}" if key == "source.serviceAccount" and "/" not in text else text

    return Condition(key, tuple(map(qualified, values)), tuple(map(qualified, not_values)))


# The decision


@dataclass(frozen=True)
class Request:
    """What a server's proxy knows of a request. `principal` is `trust-domain/ns/x/sa/y`, or empty in plaintext."""

    principal: str = ""
    source_ip: str = ""
    host: str = ""
    method: str = "GET"
    path: str = "/"
    port: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    sni: str = ""
    destination_ip: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What the caller's token says, if it has one that was accepted."""
    http: bool = True
    trust_domains: tuple[str, ...] = (TRUST_DOMAIN,)
    """The mesh's own, and its aliases."""


@dataclass(frozen=True)
class Decision:
    """Whether a request is let in, who decided, and why. `policy` is None when none was for the workload."""

    allowed: bool
    reason: str
    policy: AuthorizationPolicy | None = None

    def decider(self, root_namespace: str = ROOT_NAMESPACE) -> DecidingPolicy:
        """The policy as a verdict names it."""
        if self.policy is None:
            return DecidingPolicy(kind="AuthorizationPolicy")
        meta = self.policy.meta
        return DecidingPolicy(self.policy.scope(root_namespace), meta.namespace, meta.name, "AuthorizationPolicy")


# https://istio.io/latest/docs/concepts/security/#implicit-enablement ; pilot/pkg/security/authz/builder
def authorize(
    policies: Iterable[AuthorizationPolicy],
    workload: Workload,
    request: Request,
    root_namespace: str = ROOT_NAMESPACE,
) -> Decision:
    """Whether a workload lets a request in. The rules:

    1. A CUSTOM policy asks a provider; there is none here, so it denies.
    2. A DENY policy that matches denies.
    3. Without any ALLOW policy for the workload, it is allowed.
    4. If any ALLOW policy matches, it is allowed; else denied.

    AUDIT and dry-run policies decide nothing. A selector in the root namespace matches workloads everywhere.
    """
    mine = [one for one in selected(policies, workload, root_namespace) if not one.dry_run]
    for action, reason in (
        (Action.CUSTOM, "asks a provider that does not exist, so it denies"),
        (Action.DENY, "denies it"),
    ):
        for policy in (one for one in mine if one.action is action):
            if action is Action.CUSTOM or policy_matches(policy, request):
                return Decision(False, f"{policy} {reason}", policy)
    allowing = [one for one in mine if one.action is Action.ALLOW]
    for policy in allowing:
        if policy_matches(policy, request):
            return Decision(True, f"{policy} allows it", policy)
    if not allowing:
        return Decision(True, "no AuthorizationPolicy allows anything, so everything is allowed")
    names = ", ".join(str(one.meta) for one in allowing)
    secret = "" if request.principal else " The caller shows no certificate, so it has no principal."
    return Decision(False, f"no rule of {names} allows it.{secret}".removesuffix("."), allowing[0])


def policy_matches(policy: AuthorizationPolicy, request: Request) -> bool:
    """Whether one of the policy's rules matches."""
    rules = policy.rules
    if not request.http:
        rules = tuple(one for rule in rules if (one := rule.without_http(policy.action)))
    return any(_matches(rule, request) for rule in rules)


def _matches(rule: Rule, request: Request) -> bool:
    return (
        _any_group(rule.sources, request)
        and _any_group(rule.operations, request)
        and all(condition_holds(one, request) for one in rule.when)
    )


def _any_group(groups: tuple[tuple[Condition, ...], ...], request: Request) -> bool:
    return not groups or any(all(condition_holds(one, request) for one in group) for group in groups)


def condition_holds(condition: Condition, request: Request) -> bool:
    """Whether one condition holds for a request."""
    test = _test(condition, request)
    if condition.values and not any(test(value) for value in condition.values):
        return False
    return not any(test(value) for value in condition.not_values)


def _test(condition: Condition, request: Request) -> Callable[[str], bool]:
    key = condition.key
    identity = re.fullmatch(r"([^/]+)/ns/([^/]+)/sa/([^/]+)", request.principal)
    domain, namespace, account = identity.groups() if identity else ("", "", "")
    if key in ("source.ip", "remote.ip", "destination.ip"):
        address = request.destination_ip if key == "destination.ip" else request.source_ip
        return lambda value: in_block(address, value)
    found = {
        "source.principal": request.principal,
        "source.namespace": namespace,
        "source.serviceAccount": f"{namespace}/{account}" if account else "",
        "source.trustDomain": domain,
        "operation.host": request.host.lower(),
        "operation.method": request.method,
        "operation.path": request.path.partition("?")[0],
        "destination.port": str(request.port),
        "connection.sni": request.sni,
    }.get(key, "")
    if condition.header:
        found = {name.lower(): value for name, value in request.headers.items()}.get(condition.header.lower(), "")
    if key == "request.auth.principal":
        return lambda value: principal_matches(value, request.claims)
    if condition.claims:
        texts = claim_texts(request.claims, condition.claims)
        return lambda value: any(text_matches(value, one) for one in texts)
    if key == "operation.host":
        return lambda value: text_matches(value.lower(), found)
    if key == "operation.path":
        return lambda value: path_matches(value, found)
    if key == "source.principal":
        known = request.trust_domains
        return lambda value: any(text_matches(one, found) for one in principals_meant(value, known))
    if key == "source.trustDomain":
        return lambda value: any(text_matches(one, found) for one in trust_domains_meant(value, request.trust_domains))
    return lambda value: text_matches(value, found)


def text_matches(pattern: str, text: str) -> bool:
    """`x` exactly, `x*` at the beginning, `*x` at the end, `*` anything but nothing."""
    if pattern == "*":
        return bool(text)
    if pattern.startswith("*"):
        return bool(text) and text.endswith(pattern[1:])
    if pattern.endswith("*"):
        return bool(text) and text.startswith(pattern[:-1])
    return text == pattern


def is_path_template(pattern: str) -> bool:
    """Whether a path is written as a template: `{*}` for one segment, `{**}` for any number of them."""
    return "{*}" in pattern or "{**}" in pattern


# pilot/pkg/security/authz/matcher/template.go ; Envoy's UriTemplateMatchConfig
def path_matches(pattern: str, path: str) -> bool:
    """Whether a path matches a text with `*` at one end, or a template."""
    if not is_path_template(pattern):
        return text_matches(pattern, path)
    parts = re.split(r"(\{\*\*?\})", pattern)
    steps = {"{*}": "[^/]+", "{**}": ".*"}
    return re.fullmatch("".join(steps.get(part) or re.escape(part) for part in parts), path) is not None


def in_block(address: str, block: str) -> bool:
    """Whether an address is in a block, such as 10.0.0.0/8, or is that address."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False
