"""What is asked of an AuthorizationPolicy, in Istio's words.

pkg/config/validation/validation.go ValidateAuthorizationPolicy, pkg/config/security/security.go ValidateAttribute.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from labkit.policy.validation.common import targets
from labkit.policy.validation.findings import Findings, Object, Remark, block, items, present, quoted

DRY_RUN = "istio.io/dry-run"

_WITHOUT_RULES = (
    "{} action without `rules` is meaningless as it will never be triggered, "
    "add an empty rule `{{}}` if you want it be triggered for every request"
)
_DENIES_TCP = (
    "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to the use of only HTTP "
    "attributes in a DENY rule; it is recommended to explicitly specify the port"
)


def authorization_policy(obj: Object) -> Findings:
    """A whole policy; each error names it."""
    metadata = obj.get("metadata") or {}
    if wrong := list(_dry_run(obj)):
        yield from wrong
        return
    name = f"{metadata.get('name') or ''}.{metadata.get('namespace') or 'default'}"
    for one in _policy(block(obj, "spec")):
        yield one if isinstance(one, Remark) else f"invalid policy {name}: {one}"


def _dry_run(obj: Object) -> Findings:
    metadata = obj.get("metadata") or {}
    value = (metadata.get("annotations") or {}).get(DRY_RUN)
    action = block(obj, "spec").get("action") or "ALLOW"
    where = f"{metadata.get('namespace') or 'default'}/{metadata.get('name') or ''}"
    if value is None:
        return
    if action not in ("ALLOW", "DENY"):
        yield f"the annotation {DRY_RUN} currently only supports action ALLOW/DENY, found action {action} in {where}"
    elif value not in ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"):
        why = f"strconv.ParseBool: parsing {quoted(value)}: invalid syntax"
        yield f"{where} has annotation {DRY_RUN} with invalid value ({value}): {why}"


def _policy(spec: Object) -> Findings:
    action = str(spec.get("action") or "ALLOW")
    rules = items(spec, "rules")
    yield from targets(spec)
    if action == "CUSTOM":
        yield from _custom(spec, rules)
    elif present(spec, "provider"):
        yield f"`provider` must not be with non CUSTOM action, found {action}"
    if action == "DENY" and not rules:
        yield _WITHOUT_RULES.format(action)
    for index, rule in enumerate(rules):
        yield from _rule(rule or {}, index)
        if action == "DENY" and _http_alone(rule or {}):
            yield Remark(_DENIES_TCP)


_NOT_CUSTOM = {
    "namespaces": "From.Namespaces",
    "notNamespaces": "From.NotNamespaces",
    "serviceAccounts": "From.ServiceAccounts",
    "notServiceAccounts": "From.NotServiceAccounts",
    "principals": "From.Principals",
    "notPrincipals": "From.NotPrincipals",
    "requestPrincipals": "From.RequestPrincipals",
    "notRequestPrincipals": "From.NotRequestPrincipals",
}


def _custom(spec: Object, rules: list[Object]) -> Findings:
    if not rules:
        yield _WITHOUT_RULES.format("CUSTOM")
    elif not block(spec, "provider").get("name"):
        yield "`provider.name` must not be empty"
    for rule in rules:
        for source in (block(one, "source") for one in items(rule, "from")):
            for field, name in _NOT_CUSTOM.items():
                if source.get(field):
                    yield f"{name} is currently not supported with CUSTOM action"
        for key in (str(one.get("key") or "") for one in items(rule, "when")):
            identity = ("source.namespace", "source.serviceAccount", "source.principal")
            if key in identity or key.startswith("request.auth."):
                yield f"{key} is currently not supported with CUSTOM action"


_ADDRESSES = ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")
_ACCOUNTS = ("serviceAccounts", "notServiceAccounts")
_NAMED = ("principals", "notPrincipals", "namespaces", "notNamespaces")
_SOURCE = (*_NAMED, *_ACCOUNTS, *_ADDRESSES, "requestPrincipals", "notRequestPrincipals")
_PORTS = ("ports", "notPorts")
_OPERATION = (*_PORTS, "methods", "notMethods", "paths", "notPaths", "hosts", "notHosts")


def _rule(rule: Object, index: int) -> Findings:
    at = f"found at rule {index}"
    for name, inner, check in (("from", "source", _source), ("to", "operation", _operation)):
        if rule.get(name) is not None and not rule[name]:
            yield f"`{name}` must not be empty, {at}"
        for entry in items(rule, name):
            if not present(entry, inner):
                yield f"`{name}.{inner}` must not be nil, {at}"
            else:
                yield from check(entry[inner], at)
    for condition in items(rule, "when"):
        yield from _condition(condition)


def _source(source: Object, at: str) -> Findings:
    if any(source.get(one) for one in _NAMED) and any(source.get(one) for one in _ACCOUNTS):
        yield f"cannot set serviceAccounts with namespaces or principals, {at}"
    if not any(source.get(one) for one in _SOURCE):
        yield f"`from.source` must not be empty, {at}"
    for name in _ADDRESSES:
        yield from _blocks(items(source, name))
    for name in _SOURCE:
        check = _service_accounts if name in _ACCOUNTS else _not_empty
        yield from check(name[0].upper() + name[1:], items(source, name))


def _operation(operation: Object, at: str) -> Findings:
    if not any(operation.get(one) for one in _OPERATION):
        yield f"`to.operation` must not be empty, {at}"
    for name in _PORTS:
        yield from _port_numbers(items(operation, name))
    for name in _OPERATION:
        yield from _not_empty(name[0].upper() + name[1:], items(operation, name))
    for name in ("paths", "notPaths"):
        yield from _path_templates(name[0].upper() + name[1:], items(operation, name))


def _not_empty(name: str, values: Iterable[str]) -> Findings:
    if "" in values:
        yield f"empty value not allowed, found in {name}"


def _service_accounts(name: str, values: list[str]) -> Findings:
    """The first mistake counts."""
    if len(values) > 16:
        yield "may not have more than 16 values"
        return
    for value in values:
        if not value:
            yield f"empty value not allowed, found in {name}"
        elif "*" in value:
            yield f"wildcard not allowed, found in {name}"
        elif value.count("/") > 1:
            expected = "expected format 'serviceAccount' or 'namespace/serviceAccount'"
            yield f"{expected}, found {quoted(value)} in {name}"
        elif len(value) > 320:
            yield f"value cannot exceed 320 characters, found {quoted(value)} in {name}"
        else:
            continue
        return


_UNSUPPORTED_PATH = re.compile(r"/\{\w+=\*\*?\}|\{\w*\}|/\*\*?|\*\*?/")


def _path_templates(name: str, paths: Iterable[str]) -> Findings:
    if any(("{*}" in path or "{**}" in path) and _UNSUPPORTED_PATH.search(path) for path in paths):
        yield f"invalid or unsupported path template, found in {name}"


def _blocks(values: Iterable[str]) -> Findings:
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            what = f'bad CIDR range ({value}): netip.ParsePrefix("{value}")' if "/" in value else ""
            yield what or f"bad IP address ({value})"


def _port_numbers(values: Iterable[str]) -> Findings:
    for value in map(str, values):
        if not value.isdigit():
            yield f"bad port ({value}): strconv.ParseUint: parsing {quoted(value)}: invalid syntax"
        elif int(value) > 65535:
            yield f"bad port ({value}): <nil>"


def _condition(condition: Object) -> Findings:
    key = str(condition.get("key") or "")
    values, others = items(condition, "values"), items(condition, "notValues")
    if not key:
        yield "`key` must not be empty"
    elif not values and not others:
        yield f"at least one of `values` or `notValues` must be set for key {key}"
    else:
        for what, written in (("value", values), ("notValue", others)):
            if why := next(_attribute(key, written), ""):
                yield f"invalid `{what}` for `key` {key}: {why}"


_FREE = frozenset(
    {
        *("source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain", "connection.sni"),
        *("request.auth.principal", "request.auth.audiences", "request.auth.presenter"),
    }
)


def _attribute(key: str, values: list[str]) -> Findings:
    yield from _not_empty(key, values)
    if key.startswith(("request.headers", "request.auth.claims", "experimental.envoy.filters.")):
        opened = key.find("[")
        if not (key.endswith("]") and 0 < opened < len(key) - 2):
            yield f"bad key ({key}): should have format a[b]"
    elif key in ("source.ip", "remote.ip", "destination.ip"):
        yield from _blocks(values)
    elif key == "destination.port":
        yield from _port_numbers(values)
    elif key == "destination.namespace":
        yield f"attribute {key} is replaced by the metadata.namespace"
    elif key.startswith("destination.labels"):
        yield f"attribute {key} is replaced by the workload selector"
    elif key in ("destination.name", "destination.user"):
        yield f"deprecated attribute {key}: only supported in v1alpha1"
    elif key not in _FREE:
        yield f"unknown attribute: {key}"


_TCP_SOURCE = (*_NAMED, *_ACCOUNTS, *_ADDRESSES)


def _http_alone(rule: Object) -> bool:
    """Whether nothing of a rule is left on a port that is not HTTP, so that as DENY it denies everything there."""
    sources = [block(one, "source") for one in items(rule, "from") if present(one, "source")]
    operations = [block(one, "operation") for one in items(rule, "to") if present(one, "operation")]
    tcp_source = any(one.get(field) is not None for one in sources for field in _TCP_SOURCE)
    tcp_operation = any(one.get(field) is not None for one in operations for field in _PORTS)
    return bool((sources and not operations and not tcp_source) or (operations and not tcp_operation))
