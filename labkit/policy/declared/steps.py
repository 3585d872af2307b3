"""The words of a plan: what its steps do, where namespaces stand, and the lines that do it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from labkit.policy.declared.changing import Change, EdgeChange
from labkit.policy.declared.mesh import Object, key_of


class Act(StrEnum):
    """What a step does."""

    STRICT_NOW = "STRICT now"
    AUTO_MTLS = "switch auto mTLS on"
    OPEN = "PERMISSIVE for now"
    RULE = "change a DestinationRule"
    INJECT = "inject"
    STRICT = "STRICT"
    HOLD = "hold back"
    EXCEPTION = "close an exception"
    MESH = "STRICT for the mesh"


@dataclass(frozen=True)
class Step:
    """One step: what to do, why, and whom it would break where it stands in the plan."""

    act: Act
    what: str
    why: str
    change: Change = field(default_factory=Change, repr=False)
    commands: tuple[str, ...] = ()
    breaks: tuple[EdgeChange, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "act": str(self.act),
            "what": self.what,
            "why": self.why,
            "commands": list(self.commands),
            "apply": list(self.change.apply),
            "delete": [list(key) for key in self.change.delete],
            "breaks": [one.as_dict() for one in self.breaks],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class NamespaceState:
    """Where a namespace stands."""

    name: str
    mode: str
    workloads: int
    injected: int
    plaintext_in: int
    """Calls that reach its sidecars in plaintext."""
    state: str

    def row(self) -> tuple[str, ...]:
        return self.name, self.mode, f"{self.injected}/{self.workloads}", str(self.plaintext_in), self.state


@dataclass(frozen=True)
class Plan:
    """The steps in their order, and where each namespace stands now."""

    steps: tuple[Step, ...] = ()
    namespaces: tuple[NamespaceState, ...] = ()
    notes: tuple[str, ...] = ()
    complete: bool = False
    """Whether after the last step every sidecar is STRICT, and nobody was cut off."""
    watched: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "complete": self.complete,
            "by_observed_traffic": self.watched,
            "namespaces": [one.__dict__ for one in self.namespaces],
            "steps": [{"number": number, **one.as_dict()} for number, one in enumerate(self.steps, 1)],
            "notes": list(self.notes),
        }


def without_tls(spec: Any) -> Any:
    """The spec of a DestinationRule with every `tls` taken out of its traffic policies."""
    if isinstance(spec, Mapping):
        kept = {name: without_tls(value) for name, value in spec.items() if name != "tls"}
        return {name: value for name, value in kept.items() if not (name == "trafficPolicy" and not value)}
    if isinstance(spec, list | tuple):
        return [without_tls(one) for one in spec]
    return spec


def apply_mode(change: Change) -> str:
    """The kubectl line for a policy that is applied with a mode."""
    (policy,) = change.apply
    _, namespace, name = key_of(policy)
    mode = policy["spec"]["mtls"]["mode"]
    if (policy.get("metadata") or {}).get("creationTimestamp"):
        patch = f'{{"spec":{{"mtls":{{"mode":"{mode}"}}}}}}'
        return f"kubectl patch peerauthentication {name} -n {namespace} --type merge -p '{patch}'"
    metadata = f"{{name: {name}, namespace: {namespace}}}"
    who = f"apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {metadata}"
    return f"echo '{{{who}, spec: {{mtls: {{mode: {mode}}}}}}}' | kubectl apply -f -"


def modes_said(rule: Object) -> str:
    """What the tls of a rule says, wherever it stands in it."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                if name == "tls" and isinstance(inner, Mapping):
                    found.append(str(inner.get("mode") or "DISABLE"))
                else:
                    look(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                look(inner)

    look(rule.get("spec") or {})
    words = {
        "DISABLE": "plaintext (DISABLE)",
        "SIMPLE": "TLS of their own (SIMPLE)",
        "MUTUAL": "TLS of their own (MUTUAL)",
    }
    return " and ".join(dict.fromkeys(words[one] for one in found if one in words)) or "something else than mTLS"
