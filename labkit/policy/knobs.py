"""Objects that set one thing: a mode, a client's TLS, injection. Pure.

Each takes what is there and changes one field of it, in the object that counts: a second policy at the same level
would be dropped (see `compose_peer_authentication`), and a learner would turn a knob that moves nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.outcomes import Scope
from labkit.policy.modes import MutualTLSMode
from labkit.policy.peer_authentication import ROOT_NAMESPACE, compose_peer_authentication, parse_peer_authentication
from labkit.policy.workload import Workload, labels_match

Object = Mapping[str, Any]

PEER_AUTHENTICATION = ("security.istio.io/v1", "PeerAuthentication")
DESTINATION_RULE = ("networking.istio.io/v1", "DestinationRule")
CLIENT_MODES = ("DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")

# Labels that tell the pods of one workload apart, so that a selector must not name them.
_OF_PODS = frozenset({"pod-template-hash", "controller-revision-hash", "security.istio.io/tlsMode"})


@dataclass(frozen=True)
class Place:
    """Where a mode is set: the mesh (no namespace), a namespace, a workload of it, one port of that."""

    namespace: str = ""
    workload: str = ""
    labels: Mapping[str, str] | None = None
    port: int | None = None

    @property
    def words(self) -> str:
        if not self.namespace:
            return "the mesh"
        if not self.workload:
            return f"namespace {self.namespace}"
        port = f", port {self.port}" if self.port else ""
        return f"{self.namespace}/{self.workload}{port}"


@dataclass(frozen=True)
class Setting:
    """What stands at a place, and what holds there."""

    own: str
    effective: str
    decided_by: str


def setting_at(policies: Iterable[Object], place: Place, root_namespace: str = ROOT_NAMESPACE) -> Setting:
    """The mode that the policy of this place says, UNSET without one, and the mode that holds."""
    policies = list(policies)
    found = _counting(policies, place, root_namespace)
    own = MutualTLSMode.UNSET
    if found is not None:
        parsed = parse_peer_authentication(found)
        own = parsed.mode if place.port is None else parsed.port_modes.get(place.port, MutualTLSMode.UNSET)
    workload = Workload(namespace=place.namespace or root_namespace, name=place.workload, labels=place.labels or {})
    effective = compose_peer_authentication(policies, workload, root_namespace)
    mode, by = effective.mode, effective.decided_by
    if place.port is not None:
        mode, by = effective.mode_for_port(place.port), effective.decided_by_for_port(place.port)
    return Setting(str(own.value), str(mode.value), str(by))


def mode_policy(
    policies: Iterable[Object], place: Place, mode: str, root_namespace: str = ROOT_NAMESPACE, *, name: str = ""
) -> dict[str, Any]:
    """The PeerAuthentication that sets a mode at a place: the one that counts there already, else a new one."""
    found = None if name else _counting(list(policies), place, root_namespace)
    metadata = (found or {}).get("metadata") or {}
    spec = copy.deepcopy(dict((found or {}).get("spec") or {}))
    if place.workload and not spec.get("selector"):
        spec["selector"] = {"matchLabels": selector_of(place.labels or {})}
    if place.port is None:
        spec["mtls"] = {"mode": mode}
    else:
        ports = {str(key): value for key, value in (spec.get("portLevelMtls") or {}).items()}
        ports[str(place.port)] = {"mode": mode}
        if mode == "UNSET":
            del ports[str(place.port)]
        spec["portLevelMtls"] = ports
        if not ports:
            del spec["portLevelMtls"]
    new_name = name or metadata.get("name") or place.workload or "default"
    return _object(PEER_AUTHENTICATION, new_name, place.namespace or root_namespace, spec)


def selector_of(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that name a workload: `app` alone where there is one."""
    if "app" in labels:
        return {"app": labels["app"]}
    return {key: value for key, value in labels.items() if key not in _OF_PODS}


def _counting(policies: Sequence[Object], place: Place, root_namespace: str) -> Object | None:
    """The policy of this place that counts: the oldest."""
    scope = Scope.WORKLOAD if place.workload else Scope.NAMESPACE if place.namespace else Scope.MESH
    parsed = [(parse_peer_authentication(policy), policy) for policy in policies]
    near = [
        (one.age_order, policy)
        for one, policy in parsed
        if one.namespace == (place.namespace or root_namespace)
        and one.scope(root_namespace) is scope
        and (not place.workload or labels_match(one.selector, place.labels or {}))
    ]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def client_tls_of(rules: Iterable[Object], service: str, subset: str = "") -> str:
    """The TLS mode that a DestinationRule gives clients of `namespace/service`; empty when it says none."""
    rule = _rule_of(rules, service)
    holder: Any = (rule or {}).get("spec") or {}
    if subset:
        holder = next((one for one in holder.get("subsets") or [] if one.get("name") == subset), {})
    return str((((holder.get("trafficPolicy") or {}).get("tls")) or {}).get("mode") or "")


def subsets_of(rules: Iterable[Object], service: str) -> list[str]:
    """The subsets that a DestinationRule of the service names."""
    spec = (_rule_of(rules, service) or {}).get("spec") or {}
    return [str(one.get("name")) for one in spec.get("subsets") or []]


def client_tls_rule(rules: Iterable[Object], service: str, mode: str, subset: str = "") -> dict[str, Any]:
    """The DestinationRule that sets the client's TLS towards a Service or a subset; no mode leaves it to the mesh."""
    rule = _rule_of(rules, service)
    namespace, _, name = service.partition("/")
    metadata = (rule or {}).get("metadata") or {}
    spec = copy.deepcopy(dict((rule or {}).get("spec") or {"host": f"{name}.{namespace}.svc.cluster.local"}))
    holder: Any = spec
    if subset:
        holder = next(one for one in spec["subsets"] if one.get("name") == subset)
    policy = dict(holder.get("trafficPolicy") or {})
    if mode:
        policy["tls"] = {"mode": mode}
    else:
        policy.pop("tls", None)
    holder["trafficPolicy"] = policy
    if not policy:
        del holder["trafficPolicy"]
    return _object(DESTINATION_RULE, metadata.get("name") or name, metadata.get("namespace") or namespace, spec)


def _rule_of(rules: Iterable[Object], service: str) -> Object | None:
    namespace, _, name = service.partition("/")
    for rule in rules:
        host = str((rule.get("spec") or {}).get("host") or "")
        where = (rule.get("metadata") or {}).get("namespace") or "default"
        parts = host.split(".")
        if parts[0] == name and (parts[1] if len(parts) > 1 else where) == namespace:
            return rule
    return None


def _object(kind: tuple[str, str], name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, "spec": spec}
