"""What PeerAuthentication objects mean for one workload. Knows neither files nor the API: objects come as dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from labkit.errors import InputError
from labkit.outcomes import DecidingPolicy, Scope
from labkit.policy.modes import MutualTLSMode, parse_mode
from labkit.policy.workload import Workload, labels_match

KIND = "PeerAuthentication"
ROOT_NAMESPACE = "istio-system"

UNSET = MutualTLSMode.UNSET

# A manifest that is not applied yet will be younger than everything that exists.
_NOT_YET_CREATED = datetime.max.replace(tzinfo=UTC)


# https://istio.io/latest/docs/reference/config/security/peer_authentication/
@dataclass(frozen=True)
class PeerAuthentication:
    """One parsed policy. `selector` holds the matchLabels; `port_modes` is keyed by container port."""

    namespace: str
    name: str
    mode: MutualTLSMode = UNSET
    selector: Mapping[str, str] = field(default_factory=dict)
    port_modes: Mapping[int, MutualTLSMode] = field(default_factory=dict)
    created: datetime | None = None

    @property
    def age_order(self) -> tuple[datetime, str, str]:
        """Sort key, oldest first. creationTimestamp has a resolution of 1 s, so ties are common."""
        # pilot/pkg/model/config.go configCompareByCreationTime: time, then name, then namespace
        return (self.created or _NOT_YET_CREATED, self.name, self.namespace)

    def scope(self, root_namespace: str = ROOT_NAMESPACE) -> Scope | None:
        """The level at which this policy stands; None if it stands nowhere.

        - without a selector, or with empty matchLabels: mesh-wide in the root namespace, else namespace-wide;
        - with labels to match: workload-specific, but in the root namespace it is ignored completely, even for
          workloads that live there. (The field's own documentation still says that it matches all namespaces.)
        """
        # pilot/pkg/model/authentication.go, pilot/pkg/security/authn/policy_applier.go
        in_root = self.namespace == root_namespace
        if not self.selector:
            return Scope.MESH if in_root else Scope.NAMESPACE
        return None if in_root else Scope.WORKLOAD

    def reference(self, scope: Scope) -> DecidingPolicy:
        return DecidingPolicy(scope=scope, namespace=self.namespace, name=self.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class WhyIgnored(StrEnum):
    """Why a policy that matches a workload does not decide its mode."""

    SELECTOR_IN_ROOT = "selector in the root namespace"
    YOUNGER = "younger"
    SAME_AGE = "same age, later name"
    IS_UNSET = "UNSET"
    NARROWER_DECIDES = "a narrower scope decides"
    PORTS_WITHOUT_SELECTOR = "portLevelMtls without a selector"


@dataclass(frozen=True)
class IgnoredPolicy:
    """A policy that matches the workload and does not decide, and why not, as a word and as a sentence."""

    policy: DecidingPolicy
    why: WhyIgnored
    sentence: str

    def __str__(self) -> str:
        return f"{self.policy.namespace}/{self.policy.name}: {self.sentence}"


@dataclass(frozen=True)
class EffectiveMTLS:
    """What one workload accepts, who decided it, and which matching policies did not.

    `mode` holds for every port that is not in `per_port`. `matching` names all policies that match the workload,
    the root namespace's first, as `istioctl x describe` lists them.
    """

    mode: MutualTLSMode = MutualTLSMode.PERMISSIVE
    per_port: Mapping[int, MutualTLSMode] = field(default_factory=dict)
    decided_by: DecidingPolicy = field(default_factory=DecidingPolicy)
    port_decided_by: Mapping[int, DecidingPolicy] = field(default_factory=dict)
    ignored: tuple[IgnoredPolicy, ...] = ()
    matching: tuple[DecidingPolicy, ...] = ()

    def mode_for_port(self, port: int) -> MutualTLSMode:
        """The mode of a container port."""
        return self.per_port.get(port, self.mode)

    def decided_by_for_port(self, port: int) -> DecidingPolicy:
        """Who decided the mode of a container port."""
        return self.port_decided_by.get(port, self.decided_by)

    def explain(self, port: int | None = None) -> str:
        """One sentence: the mode and who decided it."""
        mode = self.mode if port is None else self.mode_for_port(port)
        decider = self.decided_by if port is None else self.decided_by_for_port(port)
        what = "The workload" if port is None else f"Port {port}"
        return f"{what} is {mode} (accepts {mode.accepts}), by {decider}."


def parse_peer_authentication(obj: Mapping[str, Any]) -> PeerAuthentication:
    """Read a PeerAuthentication object; absent, null and empty fields mean the same."""
    metadata = obj.get("metadata") or {}
    spec = obj.get("spec") or {}
    selector = (spec.get("selector") or {}).get("matchLabels") or {}
    ports = spec.get("portLevelMtls") or {}
    return PeerAuthentication(
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name") or "",
        mode=parse_mode((spec.get("mtls") or {}).get("mode"), "spec.mtls.mode"),
        selector=MappingProxyType({str(key): str(value) for key, value in selector.items()}),
        port_modes=MappingProxyType({_port(key): _port_mode(key, value) for key, value in ports.items()}),
        created=_timestamp(metadata.get("creationTimestamp")),
    )


def _port(key: object) -> int:
    try:
        return int(str(key))
    except ValueError:
        raise InputError(
            f"spec.portLevelMtls has the key {key!r}, which is no port number.",
            next_step="Name a container port by its number; the Service's port and port names do not count here.",
            field="spec.portLevelMtls",
        ) from None


def _port_mode(port: object, value: Mapping[str, Any] | None) -> MutualTLSMode:
    return parse_mode((value or {}).get("mode"), f"spec.portLevelMtls[{port}].mode")


def _timestamp(value: object) -> datetime | None:
    if not value:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    # YAML readers hand out naive times for UTC.
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# pilot/pkg/security/authn/policy_applier.go ComposePeerAuthentication, pilot/pkg/model/authentication.go
# https://istio.io/latest/docs/concepts/security/#peer-authentication
def compose_peer_authentication(
    policies: Iterable[PeerAuthentication | Mapping[str, Any]],
    workload: Workload,
    root_namespace: str = ROOT_NAMESPACE,
) -> EffectiveMTLS:
    """Merge all policies of a cluster into what `workload` accepts. The rules:

    1. Only policies of the workload's own namespace and of the root namespace count.
    2. Start with PERMISSIVE. The mesh-wide, then the namespace-wide, then the workload-specific policy overwrite
       the mode, each only if it is not UNSET: the narrowest level that says something wins.
    3. Of several policies at one level the oldest counts, of equally old ones the one whose name sorts first. The
       others are dropped whole: they fill no gaps, not even when the oldest is UNSET. That holds for two different
       selectors that match one workload as well: nothing is merged, and more labels do not weigh more.
    4. A policy with labels to match in the root namespace is ignored (see `PeerAuthentication.scope`).
    5. portLevelMtls is read only from the workload-specific policy that counts. A port there that is UNSET takes
       the workload's mode. Its numbers are container ports, whether or not a Service has them.
    """
    matching = _matching(policies, workload, root_namespace)
    ignored = [_selector_in_root(policy) for policy in matching if policy.scope(root_namespace) is None]
    effective, decided_by = MutualTLSMode.PERMISSIVE, DecidingPolicy()
    counting: dict[Scope, PeerAuthentication] = {}
    for scope in (Scope.MESH, Scope.NAMESPACE, Scope.WORKLOAD):
        level = [policy for policy in matching if policy.scope(root_namespace) is scope]
        if not level:
            continue
        oldest, *dropped = level
        counting[scope] = oldest
        ignored += [_dropped(policy, oldest, scope) for policy in dropped]
        if oldest.mode is not UNSET:
            effective, decided_by = oldest.mode, oldest.reference(scope)
    ignored += _undeciding(counting, decided_by)
    per_port, port_decided_by = _ports(counting.get(Scope.WORKLOAD), effective, decided_by)
    return EffectiveMTLS(
        mode=effective,
        per_port=per_port,
        decided_by=decided_by,
        port_decided_by=port_decided_by,
        ignored=tuple(ignored),
        matching=tuple(
            policy.reference(policy.scope(root_namespace) or Scope.WORKLOAD)
            for policy in sorted(matching, key=lambda policy: policy.namespace != root_namespace)
        ),
    )


# pilot/pkg/model/authentication.go GetNamespaceMutualTLSMode
def namespace_mode(
    policies: Iterable[PeerAuthentication | Mapping[str, Any]],
    namespace: str,
    root_namespace: str = ROOT_NAMESPACE,
) -> MutualTLSMode | None:
    """The mode of a namespace as clients look it up; None stands for Istio's UNKNOWN. The rules:

    1. A namespace-wide policy decides; if it is UNSET, the mesh-wide one does, or else it is PERMISSIVE.
    2. Without one the mesh-wide policy decides; UNSET counts as PERMISSIVE there.
    3. With neither it is unknown, which callers treat as PERMISSIVE.

    Workload-specific and port-level settings have no part in it.
    """
    wide = sorted((policy for policy in _parsed(policies) if not policy.selector), key=lambda policy: policy.age_order)
    mesh = next((policy for policy in wide if policy.namespace == root_namespace), None)
    own = next((policy for policy in wide if policy.namespace == namespace), None)
    if own and own.mode is not UNSET:
        return own.mode
    if mesh and mesh.mode is not UNSET:
        return mesh.mode
    return MutualTLSMode.PERMISSIVE if own or mesh else None


def _parsed(policies: Iterable[PeerAuthentication | Mapping[str, Any]]) -> list[PeerAuthentication]:
    return [
        policy if isinstance(policy, PeerAuthentication) else parse_peer_authentication(policy) for policy in policies
    ]


def _matching(
    policies: Iterable[PeerAuthentication | Mapping[str, Any]], workload: Workload, root_namespace: str
) -> Sequence[PeerAuthentication]:
    """The policies that could concern the workload, oldest first."""
    near = [policy for policy in _parsed(policies) if policy.namespace in (workload.namespace, root_namespace)]
    return sorted(
        (policy for policy in near if labels_match(policy.selector, workload.labels)),
        key=lambda policy: policy.age_order,
    )


def _ports(
    policy: PeerAuthentication | None, mode: MutualTLSMode, decided_by: DecidingPolicy
) -> tuple[Mapping[int, MutualTLSMode], Mapping[int, DecidingPolicy]]:
    """The modes of the ports that `policy` lists, in the order of their numbers, and who decided each."""
    if policy is None:
        return {}, {}
    modes = {port: policy.port_modes[port] for port in sorted(policy.port_modes)}
    own = policy.reference(Scope.PORT)
    return (
        {port: mode if own_mode is UNSET else own_mode for port, own_mode in modes.items()},
        {port: decided_by if own_mode is UNSET else own for port, own_mode in modes.items()},
    )


def _selector_in_root(policy: PeerAuthentication) -> IgnoredPolicy:
    return IgnoredPolicy(
        policy.reference(Scope.WORKLOAD),
        WhyIgnored.SELECTOR_IN_ROOT,
        f"It has a selector and stands in the root namespace {policy.namespace}: Istio ignores such a policy.",
    )


def _dropped(policy: PeerAuthentication, oldest: PeerAuthentication, scope: Scope) -> IgnoredPolicy:
    same_age = policy.created == oldest.created
    why = WhyIgnored.SAME_AGE if same_age else WhyIgnored.YOUNGER
    because = "is as old and its name sorts first" if same_age else "is older"
    sentence = f"Of several {scope} policies only one counts: {oldest} {because}. This one is dropped whole."
    return IgnoredPolicy(policy.reference(scope), why, sentence)


def _undeciding(counting: Mapping[Scope, PeerAuthentication], decided_by: DecidingPolicy) -> list[IgnoredPolicy]:
    """Those that count at their level and still do not decide, and wide ones whose ports are not read."""
    ignored: list[IgnoredPolicy] = []
    for scope, policy in counting.items():
        reference = policy.reference(scope)
        if policy.mode is UNSET:
            sentence = f"Its mode is UNSET, so the mode comes from {decided_by}."
            ignored.append(IgnoredPolicy(reference, WhyIgnored.IS_UNSET, sentence))
        elif reference != decided_by:
            sentence = f"The narrower {decided_by} decides."
            ignored.append(IgnoredPolicy(reference, WhyIgnored.NARROWER_DECIDES, sentence))
        if policy.port_modes and scope is not Scope.WORKLOAD:
            sentence = "Its portLevelMtls is not read: only a policy with a selector can set the mode of a port."
            ignored.append(IgnoredPolicy(reference, WhyIgnored.PORTS_WITHOUT_SELECTOR, sentence))
    return ignored
