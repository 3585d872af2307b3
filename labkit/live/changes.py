"""Which changes of objects are worth a mark on the timeline, and in which words. Pure."""

from __future__ import annotations

from labkit.cluster import Obj
from labkit.cluster.kinds import (
    AUTHORIZATION_POLICY,
    DESTINATION_RULE,
    GATEWAY,
    NAMESPACE,
    PEER_AUTHENTICATION,
    POD,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
    Kind,
)
from labkit.observe.objects import PROXY, labels_of, name_of, namespace_of

POLICIES = (PEER_AUTHENTICATION, DESTINATION_RULE, AUTHORIZATION_POLICY, GATEWAY, VIRTUAL_SERVICE, SERVICE_ENTRY)
_INJECTION_LABELS = ("istio-injection", "istio.io/rev", "istio.io/dataplane-mode")


def is_policy(kind: Kind) -> bool:
    """Whether objects of this kind decide how connections are carried."""
    return kind in POLICIES


def describe_change(kind: Kind, before: Obj | None, after: Obj | None) -> str:
    """The words for the mark; empty when nobody needs one."""
    obj = after or before
    if obj is None:
        return ""
    if kind == NAMESPACE:
        return _namespace(obj, before, after)
    if kind == POD:
        return _pod(obj, before, after)
    if (before or {}).get("spec") == (after or {}).get("spec"):
        return ""
    name = f"{kind.kind} {namespace_of(obj)}/{name_of(obj)}"
    if after is None:
        return f"{name} deleted"
    mode = ((after.get("spec") or {}).get("mtls") or {}).get("mode") if kind == PEER_AUTHENTICATION else ""
    return f"{name} {'created' if before is None else 'changed'}{f': {mode}' if mode else ''}"


def _namespace(obj: Obj, before: Obj | None, after: Obj | None) -> str:
    if before is None or after is None:
        return f"Namespace {name_of(obj)} {'created' if before is None else 'deleted'}"
    old, new = labels_of(before), labels_of(after)
    changed = [key for key in _INJECTION_LABELS if old.get(key) != new.get(key)]
    told = ", ".join(f"{key}={new[key]}" if key in new else f"{key} removed" for key in changed)
    return f"Namespace {name_of(obj)} labelled {told}" if changed else ""


def _pod(obj: Obj, before: Obj | None, after: Obj | None) -> str:
    """A container that has ended by itself, the sidecar above all."""
    if before is None or after is None:
        return ""
    old, new = _restarts(before), _restarts(after)
    died = [name for name, count in new.items() if count > old.get(name, 0)]
    what = "sidecar" if died == [PROXY] else ", ".join(died)
    return f"The {what} of {namespace_of(obj)}/{name_of(obj)} was restarted" if died else ""


def _restarts(pod: Obj) -> dict[str, int]:
    status = pod.get("status") or {}
    states = (status.get("containerStatuses") or []) + (status.get("initContainerStatuses") or [])
    return {str(state["name"]): int(state.get("restartCount") or 0) for state in states}
