"""What istiod writes into the status of an object of Istio, in the form of IstioStatus.

Three conditions, and each is there only while it has something to say, so that an object which works has no status, as
on a mesh of Istio that leaves PILOT_ENABLE_STATUS off:

Supported: "False"        a part of it has no effect on the embedded mesh (`support`)
PassedAnalysis: "False"   it got past the webhook, which refuses such objects
Reconciled: "False"       a proxy rejects the configuration that follows from it

meta/v1alpha1/status.proto and analysis/v1alpha1/message.proto of istio/api;
https://istio.io/latest/docs/reference/config/config-status/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.policy.injection import DEFAULT_REVISION

Object = Mapping[str, Any]

SUPPORTED, ANALYSED, RECONCILED = "Supported", "PassedAnalysis", "Reconciled"
NOT_ACTED_ON, ERRORS_FOUND, REJECTED = "NotActedOn", "errorsFound", "RejectedByProxy"

MESSAGE_LIMIT = 1024

# Name and code of a message in validationMessages. IST0106 is Istio's; the others are ours, and so is their prefix.
_MESSAGES = {
    SUPPORTED: ("NotActedOn", "LAB0001", "WARNING"),
    ANALYSED: ("SchemaValidationError", "IST0106", "ERROR"),
    RECONCILED: ("RejectedByProxy", "LAB0002", "ERROR"),
}

_GENERATION = "observedGeneration"

_REFERENCE = "https://istio.io/latest/docs/reference/config"
_PAGES = {
    "AuthorizationPolicy": "security/authorization-policy",
    "DestinationRule": "networking/destination-rule",
    "EnvoyFilter": "networking/envoy-filter",
    "Gateway": "networking/gateway",
    "PeerAuthentication": "security/peer_authentication",
    "ProxyConfig": "networking/proxy-config",
    "RequestAuthentication": "security/request_authentication",
    "ServiceEntry": "networking/service-entry",
    "Sidecar": "networking/sidecar",
    "Telemetry": "telemetry",
    "VirtualService": "networking/virtual-service",
    "WasmPlugin": "proxy_extensions/wasm-plugin",
    "WorkloadEntry": "networking/workload-entry",
    "WorkloadGroup": "networking/workload-group",
}


@dataclass(frozen=True)
class Condition:
    """One condition that is not met. `base` is its type without the revision."""

    base: str
    reason: str
    message: str
    type: str = ""

    @property
    def shown(self) -> str:
        return self.type or self.base


def reconciled_type(revision: str) -> str:
    """The type in which a control plane says what its own proxies think: each revision has its own."""
    return RECONCILED if revision == DEFAULT_REVISION else f"{revision}/{RECONCILED}"


def unsupported(sentences: Sequence[str]) -> list[Condition]:
    """What of an object has no effect."""
    return [Condition(SUPPORTED, NOT_ACTED_ON, _short("; ".join(sentences)))] if sentences else []


def wrong(errors: Sequence[str]) -> list[Condition]:
    """Why the webhook would refuse an object that is stored."""
    return [Condition(ANALYSED, ERRORS_FOUND, _short("; ".join(errors)))] if errors else []


def rejected(messages: Sequence[str], revision: str) -> list[Condition]:
    """What the proxies say who reject what follows from an object."""
    if not messages:
        return []
    further = f" (and {len(messages) - 1} more)" if len(messages) > 1 else ""
    text = _short(messages[0], MESSAGE_LIMIT - len(further)) + further
    return [Condition(RECONCILED, REJECTED, text, reconciled_type(revision))]


def standing(obj: Object, type_: str) -> Object | None:
    """A condition of the object as it is now that says "False"; none, if the object was changed since."""
    status = obj.get("status") or {}
    if status.get(_GENERATION) != (obj.get("metadata") or {}).get("generation"):
        return None
    return next(
        (one for one in status.get("conditions") or () if one.get("type") == type_ and one.get("status") == "False"),
        None,
    )


def status_for(obj: Object, found: Iterable[Condition], *, revision: str, now: str) -> dict[str, Any] | None:
    """The status that an object is to have; None when it is there already.

    What others wrote there stays: conditions of other types, messages of other codes.
    """
    before: Object = obj.get("status") or {}
    wanted = list(found)
    mine = {SUPPORTED, ANALYSED, reconciled_type(revision)}
    known = {str(one.get("type")): one for one in before.get("conditions") or ()}
    theirs = [one for type_, one in known.items() if type_ not in mine]
    conditions = [*theirs, *(_condition(one, known.get(one.shown), now) for one in wanted)]
    messages = _messages(before, theirs, [_message(one, str(obj.get("kind") or "")) for one in wanted])
    written = {"conditions": conditions, "validationMessages": messages}
    status = {key: value for key, value in before.items() if key not in (*written, _GENERATION)}
    status |= {key: value for key, value in written.items() if value}
    generation = (obj.get("metadata") or {}).get("generation") if wanted else before.get(_GENERATION)
    if generation and conditions:
        status[_GENERATION] = generation
    return None if status == before else status


def _messages(before: Object, theirs: Sequence[Object], wanted: list[dict[str, Any]]) -> list[Any]:
    """Those of others, and ours. A message does not say whose it is: that of a rejection stays while another
    revision's condition does."""
    kept = {RECONCILED} if any(str(one.get("type")).endswith(RECONCILED) for one in theirs) else set()
    ours = {code for base, (_, code, _) in _MESSAGES.items() if base not in kept}
    found = before.get("validationMessages") or ()
    return [*(one for one in found if _code(one) not in ours and one not in wanted), *wanted]


def _condition(one: Condition, before: Object | None, now: str) -> dict[str, Any]:
    since = (before or {}).get("lastTransitionTime") if (before or {}).get("status") == "False" else None
    return {
        "type": one.shown,
        "status": "False",
        "reason": one.reason,
        "message": one.message,
        "lastTransitionTime": since or now,
    }


def _message(one: Condition, kind: str) -> dict[str, Any]:
    name, code, level = _MESSAGES[one.base]
    page = f"{_REFERENCE}/{_PAGES[kind]}/" if kind in _PAGES else f"{_REFERENCE}/"
    return {"type": {"name": name, "code": code}, "level": level, "documentationUrl": page}


def _code(message: Object) -> Any:
    return (message.get("type") or {}).get("code")


def _short(text: str, limit: int = MESSAGE_LIMIT) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
