"""AuthorizationPolicies as Envoy's RBAC filters. Pure; what the policies mean is said in `policy.authorization`.

The order is that of pilot/pkg/security/authz/builder of istio/istio: CUSTOM, AUDIT, DENY, ALLOW. A policy that is a
dry run only counts (`shadow_rules`). HTTP is answered 403 with `RBAC: access denied`, any other connection is closed.

What a token says is read from the metadata that the JWT filter leaves (`translation.jwt`). Without
RequestAuthentication there is none, and such conditions never match.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from labkit.embedded import addresses
from labkit.embedded.controlplane.translation.filters import typed
from labkit.embedded.controlplane.translation.jwt import claim, text_claim
from labkit.embedded.controlplane.translation.model import MeshConfig, Sidecar, Snapshot
from labkit.embedded.envoy_messages import Config
from labkit.policy.authorization import Action, AuthorizationPolicy, Condition, Rule, is_path_template
from labkit.policy.claims import Kind, TextPattern, request_principal
from labkit.policy.identity import principals_meant, trust_domains_meant
from labkit.policy.selection import selected

FIRST = (Action.CUSTOM,)
"""Policies that are asked before tokens are checked."""
LAST = (Action.AUDIT, Action.DENY, Action.ALLOW)
"""Policies that are asked after it, and may read what a token says."""

_ANY: Config = {"any": True}
_NOTHING_PERMISSION: Config = {"not_rule": {"any": True}}

_PERMISSIONS = ("operation.", "destination.", "connection.sni")
"""Conditions of these keys become permissions; all others are about who calls, and become principals."""


def authorization_filters(snapshot: Snapshot, proxy: Sidecar, actions: Iterable[Action], *, http: bool) -> list[Config]:
    """The filters of some actions before a workload's application, none if no policy is for it."""
    policies = selected(snapshot.authorization_policies, proxy.workload, snapshot.mesh.root_namespace)
    name = "envoy.filters.http.rbac" if http else "envoy.filters.network.rbac"
    kind = "http" if http else "network"
    message = f"envoy.extensions.filters.{kind}.rbac.v3.RBAC"
    found = []
    for action in actions:
        enforced = _rules(snapshot.mesh, action, [p for p in policies if not p.dry_run], http=http)
        tried = _rules(snapshot.mesh, action, [p for p in policies if p.dry_run], http=http)
        if enforced or tried:
            fields: Config = {} if http else {"stat_prefix": "tcp."}
            if enforced:
                fields["rules"] = enforced
            if tried:
                fields["shadow_rules"] = tried
                fields["shadow_rules_stat_prefix"] = f"istio_dry_run_{action.value.lower()}_"
            found.append(typed(name, message, **fields))
    return found


def _rules(mesh: MeshConfig, action: Action, policies: Iterable[AuthorizationPolicy], *, http: bool) -> Config | None:
    mine = [one for one in policies if one.action is action]
    if not mine:
        return None
    if action is Action.CUSTOM:
        # Istio denies everything when the provider of a CUSTOM policy does not exist.
        denied = {"permissions": [_ANY], "principals": [_ANY]}
        return {"action": "DENY", "policies": {"default-deny-all-due-to-bad-CUSTOM-action": denied}}
    written: Config = {}
    for policy in mine:
        prefix = f"ns[{policy.meta.namespace}]-policy[{policy.meta.name}]-rule"
        if not policy.rules:
            written[f"{prefix}[0]"] = {"permissions": [_NOTHING_PERMISSION], "principals": [_ANY]}
        for index, rule in enumerate(policy.rules):
            usable = rule if http else rule.without_http(action)
            if usable:
                written[f"{prefix}[{index}]"] = _policy(mesh, usable)
    return {"action": {Action.AUDIT: "LOG"}.get(action, action.value), "policies": written}


def _policy(mesh: MeshConfig, rule: Rule) -> Config:
    when_permissions = [_one(mesh, c) for c in rule.when if c.key.startswith(_PERMISSIONS)]
    when_principals = [_one(mesh, c) for c in rule.when if not c.key.startswith(_PERMISSIONS)]
    operations = [[_one(mesh, c) for c in group] for group in rule.operations] or [[]]
    sources = [[_one(mesh, c) for c in group] for group in rule.sources] or [[]]
    return {
        "permissions": [_all([*group, *when_permissions], "rules") for group in operations],
        "principals": [_all([*group, *when_principals], "ids") for group in sources],
    }


def _all(parts: list[Config], kind: str) -> Config:
    if not parts:
        return _ANY
    return parts[0] if len(parts) == 1 else {f"and_{kind}": {kind: parts}}


def _one(mesh: MeshConfig, condition: Condition) -> Config:
    """One condition: any of its values, and none of the others."""
    kind = "rules" if condition.key.startswith(_PERMISSIONS) else "ids"
    parts = []
    if condition.values:
        parts.append(_any_of([m for v in condition.values for m in _matchers(mesh, condition, v)], kind))
    if condition.not_values:
        wrong = _any_of([m for v in condition.not_values for m in _matchers(mesh, condition, v)], kind)
        parts.append({"not_rule" if kind == "rules" else "not_id": wrong})
    return _all(parts, kind)


def _any_of(parts: list[Config], kind: str) -> Config:
    return parts[0] if len(parts) == 1 else {f"or_{kind}": {kind: parts}}


def _matchers(mesh: MeshConfig, condition: Condition, value: str) -> list[Config]:
    """What one value becomes; several where a trust domain has aliases."""
    key = condition.key
    if key == "source.principal":
        meant = principals_meant(value, _trust_domains(mesh))
        return [_authenticated(_text(one, prefix="spiffe://")) for one in meant]
    if key == "source.trustDomain":
        meant = trust_domains_meant(value, _trust_domains(mesh))
        return [_authenticated({"safe_regex": {"regex": f"spiffe://{_words(one)}/.*"}}) for one in meant]
    if key in _IDENTITY:
        return [_authenticated({"safe_regex": {"regex": _IDENTITY[key](value)}})]
    if key in ("source.ip", "remote.ip"):
        return [{"direct_remote_ip" if key == "source.ip" else "remote_ip": _block(value)}]
    if key == "destination.ip":
        return [{"destination_ip": _block(value)}]
    if key == "destination.port":
        return [{"destination_port": addresses.listen_port(int(value))}]
    if key == "connection.sni":
        return [{"requested_server_name": _text(value)}]
    if key == "operation.path" and is_path_template(value):
        return [{"uri_template": _template(value)}]
    if key == "operation.path":
        return [{"url_path": {"path": _text(value)}}]
    if key == "operation.method":
        return [_header(":method", value)]
    if key == "operation.host":
        return [_header(":authority", value, ignore_case=True)]
    if condition.header:
        return [_header(condition.header, value)]
    if condition.claims:
        return [_metadata(text_claim(condition.claims, _text(value)))]
    if key == "request.auth.principal":
        issuer, subject = request_principal(value)
        both = (claim(["iss"], _matching(issuer)), claim(["sub"], _matching(subject)))
        return [_all([_metadata(one) for one in both], "ids")]
    # An attribute of a filter that is not in these proxies (experimental.envoy.filters).
    return [{"not_id": _ANY}]


def _metadata(matcher: Config) -> Config:
    return {"sourced_metadata": {"metadata_matcher": matcher}}


def _matching(pattern: TextPattern) -> Config:
    if pattern.kind is Kind.ANYTHING:
        return {"string_match": {"safe_regex": {"regex": ".+"}}}
    return {"string_match": {pattern.kind.value: pattern.text}}


def _words(value: str) -> str:
    """A value with `*` as a part of a regular expression."""
    return "[^/]*".join(re.escape(part) for part in value.split("*")) if value != "*" else "[^/]+"


_IDENTITY = {
    "source.namespace": lambda value: f".*/ns/{_words(value)}/.*",
    # An identity may have further parts, in between and behind.
    "source.serviceAccount": lambda value: "spiffe://.+/ns/{}/(.+/|)sa/{}(/.+)?".format(
        *(_words(one) for one in value.split("/", 1))
    ),
}


def _trust_domains(mesh: MeshConfig) -> tuple[str, ...]:
    return (mesh.trust_domain, *mesh.trust_domain_aliases)


def _template(path: str) -> Config:
    message = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
    return typed("uri-template", message, path_template=path.replace("{*}", "*").replace("{**}", "**"))


def _authenticated(name: Config) -> Config:
    return {"authenticated": {"principal_name": name}}


def _text(value: str, *, prefix: str = "") -> Config:
    """A StringMatcher for `x`, `x*`, `*x` or `*`."""
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        return {"suffix": value[1:]}
    if value.endswith("*"):
        return {"prefix": prefix + value[:-1]}
    return {"exact": prefix + value}


def _header(name: str, value: str, *, ignore_case: bool = False) -> Config:
    if value == "*":
        return {"header": {"name": name, "present_match": True}}
    matcher = _text(value)
    if ignore_case:
        matcher["ignore_case"] = True
    return {"header": {"name": name, "string_match": matcher}}


def _block(value: str) -> Config:
    network = ipaddress.ip_network(value, strict=False)
    return {"address_prefix": str(network.network_address), "prefix_len": network.prefixlen}
