"""What istiod's webhook says of an object that is applied: errors refuse it, warnings are shown.

One module for each kind, in Istio's words (`findings` and `common` are what they share). The rows that Istio's own
tests print are in tests/published.
"""

from __future__ import annotations

from labkit.policy.validation import extensions, service_entry
from labkit.policy.validation.authorization import authorization_policy
from labkit.policy.validation.destination_rule import destination_rule
from labkit.policy.validation.findings import Check, Findings, Object, Validation, judge
from labkit.policy.validation.gateway import gateway
from labkit.policy.validation.peer_authentication import validate_peer_authentication, validate_schema
from labkit.policy.validation.request_authentication import request_authentication
from labkit.policy.validation.sidecar import sidecar
from labkit.policy.validation.virtual_service import virtual_service

CHECKS: dict[str, Check] = {
    "AuthorizationPolicy": authorization_policy,
    "DestinationRule": destination_rule,
    "EnvoyFilter": extensions.envoy_filter,
    "Gateway": gateway,
    "ProxyConfig": extensions.proxy_config,
    "RequestAuthentication": request_authentication,
    "ServiceEntry": service_entry.service_entry,
    "Sidecar": sidecar,
    "Telemetry": extensions.telemetry,
    "VirtualService": virtual_service,
    "WasmPlugin": extensions.wasm_plugin,
    "WorkloadEntry": service_entry.workload_entry,
    "WorkloadGroup": service_entry.workload_group,
}

_DRY_RUN = "istio.io/dry-run"
_ALWAYS_REJECT = "internal.istio.io/webhook-always-reject"


def validate(kind: str, obj: Object) -> Validation:
    """What Istio says of an object of one of its kinds; nothing, of a kind that is not known here."""
    if kind == "PeerAuthentication" and not list(_metadata(kind, obj)):
        return validate_peer_authentication(obj)
    return judge(_findings(kind, obj))


def _findings(kind: str, obj: Object) -> Findings:
    wrong = list(_metadata(kind, obj))
    yield from wrong
    if kind in CHECKS and not wrong:
        yield from CHECKS[kind](obj)


# pkg/config/validation/validation.go validateMetadata, checkDryRunAnnotation
def _metadata(kind: str, obj: Object) -> Findings:
    metadata = obj.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if kind != "AuthorizationPolicy" and _DRY_RUN in annotations:
        where = f"{metadata.get('namespace') or 'default'}/{metadata.get('name') or ''}"
        yield f"{where} has unsupported annotation {_DRY_RUN}, please remove the annotation"
    elif _ALWAYS_REJECT in annotations:
        yield f'"{_ALWAYS_REJECT}" annotation found, rejecting'


__all__ = ["CHECKS", "Validation", "validate", "validate_peer_authentication", "validate_schema"]
