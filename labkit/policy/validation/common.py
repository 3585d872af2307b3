"""What many kinds have in common: names, addresses, ports, durations, selectors, exportTo.

pkg/config/validation/agent/validation.go, pkg/config/labels/instance.go, pkg/config/visibility/visibility.go and the
shared parts of pkg/config/validation/validation.go of istio/istio.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from labkit.policy.validation.findings import Findings, Object, Remark, items, present, quoted

UNIX_PREFIX = "unix://"

_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_NAME = r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_DNS_LABEL = re.compile(_LABEL)
_WILDCARD_LABEL = re.compile(rf"\*|(?:\*|\*-)?{_LABEL}")
_LABEL_KEY = re.compile(rf"({_LABEL}(?:\.{_LABEL})*/)?({_NAME})")
_LABEL_VALUE = re.compile(rf"(?:{_NAME})?")

HTTP = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
TLS = frozenset({"https", "tls"})
TCP = frozenset({"tcp", "mongo", "redis", "mysql"}) | TLS
PROTOCOLS = HTTP | TCP | {"udp"}


def protocol(port: Object | None) -> str:
    """The protocol that a port declares, in lower case."""
    return str((port or {}).get("protocol") or "").lower()


# Names


def is_dns_label(text: str) -> bool:
    """Whether a text is one part of a name between two dots."""
    return len(text) <= 63 and bool(_DNS_LABEL.fullmatch(text))


def _is_wildcard_label(text: str) -> bool:
    return len(text) <= 63 and bool(_WILDCARD_LABEL.fullmatch(text))


def _domain_length(name: str) -> Findings:
    if len(name) > 255:
        yield f"domain name {quoted(name)} too long (max 255)"
    elif not name:
        yield "empty domain name not allowed"


def _dns_labels(domain: str) -> Findings:
    parts = domain.split(".")
    if re.fullmatch(r"[+-]?\d+", parts[-1]):
        yield f"domain name {quoted(domain)} invalid (top level domain {quoted(parts[-1])} cannot be all-numeric)"
        return
    if parts[-1] == "":  # istio.io. is one that is never completed
        parts.pop()
    wrong = next((one for one in parts if not is_dns_label(one)), None)
    if wrong is not None:
        yield f"domain name {quoted(domain)} invalid (label {quoted(wrong)} invalid)"


def fqdn(name: str) -> Findings:
    """A full name."""
    yield from list(_domain_length(name)) or _dns_labels(name)


def wildcard_domain(domain: str, *, sni: bool = False) -> Findings:
    """A name that may begin with a `*`; as SNI also one that sidecars make up (`outbound_.80_._.host`)."""
    if wrong := list(_domain_length(domain)):
        yield from wrong
        return
    first, dot, rest = domain.partition(".")
    if sni and domain.startswith("outbound_"):
        yield from _made_up_name(domain)
    elif not _is_wildcard_label(first):
        yield f"domain name {quoted(domain)} invalid (label {quoted(first)} invalid)"
    elif dot:
        yield from _dns_labels(rest)


def _made_up_name(domain: str) -> Findings:
    parts = domain.split("_")
    form = "outbound_.<PORT>_._.<HOSTNAME>"
    if len(parts) < 4:
        yield f"domain name {domain} invalid, should follow '{form}' format"
        return
    port, host = parts[1].strip("."), parts[3].strip(".")
    if wrong := [part for part, kind in ((port, "[0-9]"), (host, "[a-zA-Z]")) if not re.search(kind, part)]:
        yield f"domain name {quoted(domain)} invalid (label {quoted(wrong[0])} invalid). should follow {form} format"


def partial_wildcard(host: str) -> Findings:
    """A `*` that stands for less than whole labels."""
    if "*" in host and len(host) != 1 and not host.startswith("*."):
        yield f"partial wildcard {quoted(host)} not allowed"


def namespaced_host(written: str, *, gateway: bool) -> Findings:
    """`namespace/host`, of a Gateway's server (where the namespace may be left out) or of a Sidecar's egress."""
    namespace, slash, host = written.partition("/")
    if not slash:
        if gateway:
            yield from _bound_host(written, gateway=True)
        else:
            yield "host must be of form namespace/dnsName"
        return
    if not namespace or not host:
        yield "config namespace and dnsName in host entry cannot be empty"
    allowed = ("*", ".") if gateway else ("*", ".", "~")
    if namespace not in allowed and not is_dns_label(namespace):
        yield f"invalid namespace value {quoted(namespace)} in {'gateway' if gateway else 'sidecar'}"
    yield from _bound_host(host, gateway=gateway)


def _bound_host(host: str, *, gateway: bool) -> Findings:
    if host != "*" and "." not in host:
        yield "short names (non FQDN) are not allowed"
    wrong = list(wildcard_domain(host))
    if wrong and not gateway:
        yield from wrong
    if wrong and not is_address(host):
        yield from wrong
    yield from partial_wildcard(host)


# Addresses and ports


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def address(text: str) -> Findings:
    """One IP address."""
    if not is_address(text):
        yield f"{text} is not a valid IP"


def subnet(text: str) -> Findings:
    """One address, or a range of them."""
    if text.count("/") != 1:
        yield from address(text)
        return
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        yield f"{text} is not a valid CIDR block"


def unix_address(path: str) -> Findings:
    """A socket: a path, or a name after @."""
    if not path:
        yield "unix address must not be empty"
    elif not path.startswith("@") and (not path.startswith("/") or path.endswith("/")):
        yield f"{path} is not an absolute path to a file"


def port_number(value: Any) -> Findings:
    """A port; what is not written is 0."""
    port = int(value or 0)
    if not 1 <= port <= 65535:
        yield f"port number {port} must be in the range 1..65535"


def port_name(name: str) -> Findings:
    """The name of a port, which is a part of DNS names."""
    if not is_dns_label(name):
        yield f"invalid port name: {name}"


def known_protocol(port: Object) -> Findings:
    """Empty is allowed: the proxy then looks at the first bytes."""
    written = str(port.get("protocol") or "")
    if written and written.lower() not in PROTOCOLS:
        yield f"unsupported protocol: {written}"


# Durations

_UNITS = {
    "h": Fraction(3_600_000),
    "m": Fraction(60_000),
    "s": Fraction(1000),
    "ms": Fraction(1),
    "us": Fraction(1, 1000),
    "µs": Fraction(1, 1000),
    "ns": Fraction(1, 1_000_000),
}


def milliseconds(text: Any) -> Fraction:
    """A duration as protobuf's JSON and Go write it; exact, since finer than a millisecond is an error."""
    written = str(text).strip()
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)", written)
    sign = -1 if written.startswith("-") else 1
    return sign * sum((Fraction(value) * _UNITS[unit] for value, unit in parts), Fraction(0))


def duration(text: Any) -> Findings:
    """At least a millisecond, and whole ones; what is not written is not asked."""
    if text is None:
        return
    exact = milliseconds(text)
    if exact < 1:
        yield "duration must be greater than 1ms"
    elif exact.denominator != 1:
        yield "only durations to ms precision are supported"


def long_enough(text: Any, where: str) -> Findings:
    """What the definitions ask of a duration in CEL, for those that the webhook does not look at."""
    if text is not None and milliseconds(text) < 1:
        yield f"{where}: must be a valid duration greater than 1ms"


# Labels and selectors


def labels(written: Mapping[str, Any] | None) -> Findings:
    """Keys and values as Kubernetes allows them."""
    for key, value in (written or {}).items():
        found = _LABEL_KEY.fullmatch(key)
        if not found:
            yield f"invalid tag key: {quoted(key)}"
        elif len(found[1] or "") > 254:
            yield f"invalid tag key: {quoted(key)} (DNS prefix is too long)"
        elif len(found[2]) > 63:
            yield f"invalid tag key: {quoted(key)} (name is too long)"
        if not _LABEL_VALUE.fullmatch(str(value)):
            yield f"invalid tag value: {quoted(value)}"


def selector(written: Object | None, name: str = "matchLabels") -> Findings:
    """Whom a policy selects."""
    if written is None:
        return
    chosen = written.get(name) or {}
    for key, value in chosen.items():
        pair = quoted(f"{key}={value}")
        if not key:
            yield f"empty key is not supported in selector: {pair}"
        if "*" in key or "*" in str(value):
            yield f"wildcard is not supported in selector: {pair}"
    if not chosen:
        yield Remark("workload selector specified without labels")


def workload_selector(spec: Object, what: str) -> tuple[list[str], list[Remark]]:
    """What is wrong with `workloadSelector`, after which Istio looks at nothing else; and what it warns of."""
    found = list(selector(spec.get("workloadSelector"), "labels"))
    errors = [one for one in found if not isinstance(one, Remark)]
    remarks = [one for one in found if isinstance(one, Remark)]
    return errors, [Remark(f"{what}: {one}, will be applied to all services in namespace") for one in remarks]


def one_kind_of_target(spec: Object) -> Findings:
    """`selector`, `targetRef` or `targetRefs`: one of them."""
    if sum((present(spec, "selector"), present(spec, "targetRef"), bool(items(spec, "targetRefs")))) > 1:
        yield "only one of targetRefs or workloadSelector can be set"


TARGETS = (
    ("core", "v1", "Service"),
    ("networking.istio.io", "v1", "ServiceEntry"),
    ("gateway.networking.k8s.io", "v1", "Gateway"),
    ("gateway.networking.k8s.io", "v1", "GatewayClass"),
)


def target_reference(reference: Object) -> Findings:
    """What a policy is attached to by name."""
    group, kind = str(reference.get("group") or ""), str(reference.get("kind") or "")
    if not reference.get("name"):
        yield "targetRef name must be set"
    if reference.get("namespace"):
        yield "targetRef namespace must not be set; cross namespace referencing is not supported"
    if not any((group or "core", kind) == (known, of) for known, _, of in TARGETS):
        allowed = " ".join("/".join(one) for one in TARGETS)
        yield f"targetRef must be to one of [{allowed}] but was {group}/{kind}"


def targets(spec: Object) -> Findings:
    """Selector and references of a policy."""
    yield from one_kind_of_target(spec)
    yield from selector(spec.get("selector"))
    for one in (spec.get("targetRef"), *items(spec, "targetRefs")):
        if one is not None:
            yield from target_reference(one)


# exportTo


def export_to(obj: Object, *, service_entry: bool = False, selecting_rule: bool = False) -> Findings:
    """Which namespaces see an object. `~` hides a ServiceEntry from all."""
    namespace = (obj.get("metadata") or {}).get("namespace") or "default"
    written = [str(one) for one in items(obj.get("spec"), "exportTo")]
    seen: list[str] = []
    for entry in written:
        key = namespace if entry == "." else entry
        if key in seen:
            if key != entry:
                yield f"duplicate entries in exportTo: . and current namespace {namespace}"
            else:
                yield f"duplicate entries in exportTo for entry {entry}"
        elif wrong := [] if service_entry and entry == "~" else list(_visibility(key)):
            yield from wrong
        else:
            seen.append(key)
    if selecting_rule and seen:
        if namespace not in seen:
            yield "destination rule with workload selector cannot have exportTo beyond current namespace"
        elif len(seen) > 1:
            yield "destination rule with workload selector cannot have multiple entries in exportTo"
    yield from _alone(seen, len(written))


def _visibility(key: str) -> Findings:
    if key == "~":
        yield "exportTo ~ (none) is not allowed for Istio configuration objects"
    elif key not in (".", "*") and not is_dns_label(key):
        yield "only .,*, or a valid DNS 1123 label is allowed as exportTo entry"


def _alone(seen: Iterable[str], count: int) -> Findings:
    if "*" in seen and count > 1:
        yield "cannot have both public (*) and non-public exportTo values for a resource"
    if "~" in seen and count > 1:
        yield "cannot export service entry to no one (~) and someone"


# Regular expressions

_NOT_IN_RE2 = (
    (re.compile(r"\(\?(?:=|!|<=|<!|>)"), "invalid or unsupported Perl syntax"),
    (re.compile(r"\\[1-9]"), "invalid escape sequence"),
    (re.compile(r"[*+][*+]|[*+?]\?[*+?]"), "invalid nested repetition operator"),
)
_LITERAL = re.compile(r"\\[^1-9]|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_GO_SAYS = (
    ("unterminated character set", "missing closing ]"),
    ("missing ), unterminated subpattern", "missing closing )"),
    ("unbalanced parenthesis", "unexpected )"),
    ("nothing to repeat", "missing argument to repetition operator"),
    ("bad escape", "invalid escape sequence"),
)


def expression(pattern: str, where: str) -> Findings:
    """A regular expression that RE2, and so Envoy, understands."""
    if len(pattern) > 1024:
        yield f"{quoted(where)}: regex is too large, max length allowed is 1024"
    elif why := regex_error(pattern):
        yield (
            f"{quoted(where)}: {why}; Istio uses RE2 style regex-based match "
            "(https://github.com/google/re2/wiki/Syntax)"
        )


def regex_error(pattern: str) -> str:
    """Why RE2 cannot read a pattern, as Go says it; empty if it can."""
    bare = _LITERAL.sub("x", pattern)
    for unknown, why in _NOT_IN_RE2:
        if found := unknown.search(bare):
            return f"error parsing regexp: {why}: `{found[0]}`"
    try:
        re.compile(pattern)
    except re.error as error:
        why = next((said for words, said in _GO_SAYS if words in error.msg), error.msg)
        return f"error parsing regexp: {why}: `{pattern[error.pos or 0 :]}`"
    return ""
