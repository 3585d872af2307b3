"""What Kiali says of mutual TLS: PeerAuthentications and DestinationRules that belong together.

business/checkers/destinationrules, peerauthentications, meshpolicies; util/mtls/status.go of kiali/kiali. Most of it is
from before auto mTLS, and says nothing where that is on (as it is by default).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.policy.analysis.mesh import Mesh, Object
from labkit.policy.analysis.messages import Message, found
from labkit.policy.configs import namespace_of
from labkit.policy.destination_rule import CLUSTER_DOMAIN

MESH_WIDE = "*.local"
_MUTUAL = ("ISTIO_MUTUAL", "MUTUAL")

ENABLED, DISABLED, PARTIALLY, NOT_ENABLED = "ENABLED", "DISABLED", "PARTIALLY", "NOT_ENABLED"


def rule_mode(rule: Object) -> str:
    """The TLS mode of a DestinationRule's traffic policy; empty where it says nothing."""
    tls = ((rule.get("spec") or {}).get("trafficPolicy") or {}).get("tls")
    return "" if tls is None else str(tls.get("mode") or "DISABLE")


def _host(rule: Object) -> str:
    return str((rule.get("spec") or {}).get("host") or "")


def namespace_wide(namespace: str) -> str:
    """The host of a rule for all of a namespace."""
    return f"*.{namespace}.svc.{CLUSTER_DOMAIN}"


def _wide_mode(mesh: Mesh, host: str) -> str:
    """The mode of the first rule for exactly this pattern that speaks of TLS."""
    return mesh.remember("modes of patterns", lambda: _modes_of_patterns(mesh)).get(host, "")


def _modes_of_patterns(mesh: Mesh) -> dict[str, str]:
    said = ((_host(one), rule_mode(one)) for one in reversed(mesh.every("DestinationRule")))
    return {host: mode for host, mode in said if mode and host.startswith("*")}


def _policy_mode(mesh: Mesh, namespace: str) -> str:
    """The mode of a namespace's first PeerAuthentication without a selector; empty without one."""
    for one in mesh.here("PeerAuthentication", namespace):
        spec = one.get("spec") or {}
        if not (spec.get("selector") or {}).get("matchLabels") and spec.get("mtls"):
            return str(spec["mtls"].get("mode") or "UNSET")
    return ""


# -- PeerAuthentications


def peer_authentications(mesh: Mesh) -> Iterator[Message]:
    """KIA0401, KIA0501 without auto mTLS; KIA0505, KIA0506: clients send mTLS to those that take plaintext only."""
    everywhere = _wide_mode(mesh, MESH_WIDE)
    for one in mesh.every("PeerAuthentication"):
        spec, namespace = one.get("spec") or {}, namespace_of(one)
        if (spec.get("selector") or {}).get("matchLabels"):
            continue
        mode = str((spec.get("mtls") or {}).get("mode") or "")
        here = _wide_mode(mesh, namespace_wide(namespace))
        if mode == "STRICT" and not mesh.settings.auto_mtls:
            if namespace == mesh.root and everywhere != "ISTIO_MUTUAL":
                yield found("KIA0401", one, path="spec.mtls")
            elif namespace != mesh.root and "ISTIO_MUTUAL" not in (here, everywhere):
                yield found("KIA0501", one, path="spec.mtls")
        elif mode == "DISABLE":
            if namespace == mesh.root:
                if everywhere in _MUTUAL:
                    yield found("KIA0506", one, path="spec.mtls")
            elif here in _MUTUAL or (here != "DISABLE" and everywhere in _MUTUAL):
                yield found("KIA0505", one, path="spec.mtls")


# -- DestinationRules


def destination_rules(mesh: Mesh) -> Iterator[Message]:
    """KIA0205, KIA0206 without auto mTLS; KIA0207, KIA0208: clients send plaintext to those that take mTLS only."""
    at_root = _policy_mode(mesh, mesh.root)
    for one in mesh.every("DestinationRule"):
        host, mode, namespace = _host(one), rule_mode(one), namespace_of(one)
        path = "spec.trafficPolicy.tls.mode"
        here = _policy_mode(mesh, namespace)
        if host == MESH_WIDE:
            if mode == "ISTIO_MUTUAL" and not mesh.settings.auto_mtls and at_root not in ("STRICT", "PERMISSIVE"):
                yield found("KIA0205", one, path=path)
            elif mode == "DISABLE" and at_root == "STRICT":
                yield found("KIA0208", one, path=path)
        elif host == namespace_wide(namespace):
            accepting = ("STRICT", "PERMISSIVE")
            if mode == "ISTIO_MUTUAL" and not mesh.settings.auto_mtls:
                if here not in accepting and at_root not in accepting:
                    yield found("KIA0206", one, path=path)
            elif mode == "DISABLE" and here == "STRICT":
                yield found("KIA0207", one, path=path)
            elif mode == "DISABLE" and at_root == "STRICT" and here not in ("PERMISSIVE", "DISABLE"):
                yield found("KIA0208", one, path=path)


# business/checkers/destinationrules/traffic_policy_checker.go
def overriding_rules(mesh: Mesh) -> Iterator[Message]:
    """KIA0204: a narrower rule without TLS hides the TLS of a wider one."""
    rules = mesh.every("DestinationRule")
    mutual = [one for one in rules if rule_mode(one) == "ISTIO_MUTUAL"]
    for one in rules if mutual else ():
        policy = (one.get("spec") or {}).get("trafficPolicy") or {}
        if policy.get("tls") is not None or any(
            port.get("tls") is not None for port in policy.get("portLevelSettings") or ()
        ):
            continue
        if any(other is not one and _hides(one, other) for other in mutual):
            yield found("KIA0204", one, path="spec.trafficPolicy")


def _hides(one: Object, wider: Object) -> bool:
    if rule_mode(wider) != "ISTIO_MUTUAL":
        return False
    name, namespace = _service(_host(one), namespace_of(one))
    theirs = _host(wider)
    if theirs == MESH_WIDE or theirs == namespace_wide(namespace):
        return True
    return bool(name) and _service(theirs, namespace_of(wider)) == (name, namespace)


def _service(host: str, namespace: str) -> tuple[str, str]:
    """(name, namespace) of a Service's host; the name is empty for what is none."""
    parts = host.split(".")
    if host.startswith("*"):
        return "", parts[1] if len(parts) > 2 and parts[2] == "svc" else ""
    if len(parts) == 1:
        return host, namespace
    return (parts[0], parts[1]) if parts[2:3] in ([], ["svc"]) else ("", "")


# -- AuthorizationPolicies that need certificates


_KEYS = ("source.namespace", "source.principal", "connection.sni")
_FIELDS = ("principals", "notPrincipals", "namespaces", "notNamespaces")


# business/checkers/authorization/mtls_enabled_checker.go
def authorization_needs(mesh: Mesh) -> Iterator[Message]:
    """KIA0105: a rule about who the caller is, where nobody shows a certificate."""
    for one in mesh.every("AuthorizationPolicy"):
        if _is_mutual(mesh, namespace_of(one)):
            continue
        for index, rule in enumerate((one.get("spec") or {}).get("rules") or ()):
            written: Mapping[str, Any] = rule or {}
            for number, source in enumerate(written.get("from") or ()):
                for field in _FIELDS:
                    if (source.get("source") or {}).get(field):
                        path = f"spec.rules[{index}].from[{number}].source.{field}"
                        yield found("KIA0105", one, path=path)
            for number, condition in enumerate(written.get("when") or ()):
                if condition.get("key") in _KEYS:
                    yield found("KIA0105", one, path=f"spec.rules[{index}].when[{number}]")


def _is_mutual(mesh: Mesh, namespace: str) -> bool:
    """Whether Kiali takes a namespace for one with mTLS; PERMISSIVE counts, and so does nothing with auto mTLS."""
    auto = mesh.settings.auto_mtls
    here = mtls_status(_policy_mode(mesh, namespace), _wide_mode(mesh, namespace_wide(namespace)), auto)
    everywhere = mtls_status(_policy_mode(mesh, mesh.root), _wide_mode(mesh, MESH_WIDE), auto)
    overall = here if here != NOT_ENABLED else everywhere
    return overall == ENABLED or (overall == NOT_ENABLED and auto)


def mtls_status(policy: str, rule: str, auto: bool) -> str:
    """The status that a policy and a rule make together (util/mtls/status.go finalStatus); PERMISSIVE is enough."""
    enabling = policy in ("STRICT", "PERMISSIVE")
    if enabling and (rule in _MUTUAL or (not rule and auto)):
        return ENABLED
    if policy in ("DISABLE", "") and rule == "DISABLE":
        return DISABLED
    if policy == "DISABLE" and not rule and auto:
        return DISABLED
    if not policy and not rule:
        return NOT_ENABLED
    if not policy and rule in _MUTUAL and auto:
        return ENABLED
    return PARTIALLY
