"""What a VirtualService's route does beside choosing a destination: retries, faults, CORS, headers. Pure.

pilot/pkg/networking/core/route/route.go and route/retry/retry.go of istio/istio.

1. `attempts` says how often a request is tried again; absent or 0, it is not. Without `retries` it is, twice.
2. A fault without a share hits nobody.
3. CORS and faults are done by filters before the router, which every route switches on for itself.
4. `Host` and `:authority` are no headers to be set, but the authority of the request; other pseudo headers stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from labkit.embedded.controlplane.translation.filters import typed
from labkit.embedded.envoy_messages import TYPE, Config
from labkit.policy.durations import as_protobuf, seconds

RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled"
_BY_CODE = "retriable-status-codes"

_OTHER_HOSTS: Config = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": {"@type": f"{TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
}

# pilot/pkg/networking/core/route/retry/retry.go DefaultPolicy
RETRIES: Config = {
    "retry_on": RETRY_ON,
    "num_retries": 2,
    "retry_host_predicate": [_OTHER_HOSTS],
    "host_selection_retry_max_attempts": "5",
}

FAULT, CORS = "envoy.filters.http.fault", "envoy.filters.http.cors"
_FAULT_MESSAGE = "envoy.extensions.filters.http.fault.v3.HTTPFault"
_CORS_MESSAGE = "envoy.extensions.filters.http.cors.v3.CorsPolicy"

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
GRPC_STATUS = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)


_STATUS_CODES = frozenset(str(one.value) for one in HTTPStatus)


def route_filters(routes: Iterable[Config]) -> list[Config]:
    """The filters that routes need before the router."""
    used = {name for route in routes for name in route.get("typed_per_filter_config", ())}
    messages = {FAULT: _FAULT_MESSAGE, CORS: "envoy.extensions.filters.http.cors.v3.Cors"}
    return [typed(name, message) for name, message in messages.items() if name in used]


def per_filter(fault: Mapping[str, Any] | None, cors: Mapping[str, Any] | None) -> Config:
    """What a route says to these filters."""
    result: Config = {}
    if fault and (asked := _fault(fault)):
        result[FAULT] = {"@type": f"{TYPE}{_FAULT_MESSAGE}", **asked}
    if cors:
        result[CORS] = {"@type": f"{TYPE}{_CORS_MESSAGE}", **_cors(cors)}
    return result


def retry_policy(written: Mapping[str, Any] | None, *, stays: bool = False) -> Config | None:
    """How a route tries again; None when it does not. `stays`: balanced by a hash, so other hosts are no choice."""
    result: Config = {key: value for key, value in RETRIES.items() if not stays or key != "retry_host_predicate"}
    if written is None:
        return result
    attempts = int(written.get("attempts") or 0)
    if attempts <= 0:
        return None
    result["num_retries"] = attempts
    if written.get("retryOn"):
        conditions = [one.strip() for one in str(written["retryOn"]).split(",") if one.strip()]
        codes = [int(one) for one in conditions if one in _STATUS_CODES]
        named = [one for one in conditions if one not in _STATUS_CODES]
        result["retry_on"] = ",".join([*named, *([_BY_CODE] if codes and _BY_CODE not in named else [])])
        if codes:
            result["retriable_status_codes"] = codes
    if written.get("perTryTimeout"):
        result["per_try_timeout"] = as_protobuf(written["perTryTimeout"], "perTryTimeout")
    if written.get("backoff"):
        result["retry_back_off"] = {"base_interval": as_protobuf(written["backoff"], "backoff")}
    if written.get("retryIgnorePreviousHosts") is not None:
        result["retry_host_predicate"] = [_OTHER_HOSTS] if written["retryIgnorePreviousHosts"] else []
    return result


def percent(share: float) -> Config:
    """A share of requests, 0 to 100."""
    return {"numerator": round(share * 10_000), "denominator": "MILLION"}


def _fault(written: Mapping[str, Any]) -> Config:
    result: Config = {}
    if delay := written.get("delay"):
        share = (delay.get("percentage") or {}).get("value", delay.get("percent"))
        result["delay"] = {
            "fixed_delay": as_protobuf(str(delay.get("fixedDelay") or "0s"), "fixedDelay"),
            "percentage": percent(float(share or 0)),
        }
    if abort := written.get("abort"):
        status: Config = {"http_status": int(abort.get("httpStatus") or 503)}
        if abort.get("grpcStatus") in GRPC_STATUS:
            status = {"grpc_status": GRPC_STATUS.index(abort["grpcStatus"])}
        share = (abort.get("percentage") or {}).get("value")
        result["abort"] = {**status, "percentage": percent(float(share or 0))}
    return result


# pilot/pkg/networking/core/route/route.go TranslateCORSPolicy
def _cors(written: Mapping[str, Any]) -> Config:
    """`unmatchedPreflights: IGNORE` answers those of foreign origins itself; else they reach the application."""
    origins = [dict(one) for one in written.get("allowOrigins") or ()]
    origins = origins or [{"exact": one} for one in written.get("allowOrigin") or ()]
    result: Config = {
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        "allow_origin_string_match": [
            {"safe_regex": {"regex": one["regex"]}} if "regex" in one else one for one in origins
        ],
        "forward_not_matching_preflights": written.get("unmatchedPreflights") != "IGNORE",
    }
    for ours, envoys in (
        ("allowMethods", "allow_methods"),
        ("allowHeaders", "allow_headers"),
        ("exposeHeaders", "expose_headers"),
    ):
        if written.get(ours):
            result[envoys] = ",".join(written[ours])
    if written.get("maxAge"):
        result["max_age"] = str(int(seconds(str(written["maxAge"]), "maxAge")))
    if written.get("allowCredentials") is not None:
        result["allow_credentials"] = bool(written["allowCredentials"])
    return result


# Headers


def header_operations(target: Config, written: Mapping[str, Any]) -> None:
    """Bring `headers` into a route or a weighted cluster, after what is there."""
    for side in ("request", "response"):
        operation = written.get(side) or {}
        changed = _changes(operation.get("set"), "OVERWRITE_IF_EXISTS_OR_ADD")
        changed += _changes(operation.get("add"), "APPEND_IF_EXISTS_OR_ADD")
        removed = [str(name) for name in operation.get("remove") or () if not _internal(str(name))]
        for field, values in ((f"{side}_headers_to_add", changed), (f"{side}_headers_to_remove", removed)):
            if values:
                target[field] = [*target.get(field, ()), *values]


def authority(written: Mapping[str, Any]) -> str:
    """The host that the request is to name, if `headers` say so; what is set goes before what is added."""
    request = written.get("request") or {}
    for operation in ("set", "add"):
        for name, value in (request.get(operation) or {}).items():
            if name.lower() in ("host", ":authority"):
                return str(value)
    return ""


def _changes(headers: Mapping[str, Any] | None, action: str) -> list[Config]:
    return [
        {"header": {"key": name, "value": str(value)}, "append_action": action}
        for name, value in sorted((headers or {}).items())
        if not _internal(name)
    ]


def _internal(name: str) -> bool:
    return name.startswith(":") or name.lower() == "host"
