"""Istio's formats of access logs, https://istio.io/latest/docs/tasks/observability/logs/access-log/. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STANDARD_OUTPUT = "/dev/stdout"

TEXT_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% '
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    '"%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% '
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" '
    '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)

JSON_FIELDS: tuple[tuple[str, str], ...] = (
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
)


@dataclass(frozen=True)
class FileLog:
    """An access log in a file: lines of `text`, or JSON objects of `fields` when there are any."""

    name: str
    path: str = STANDARD_OUTPUT
    text: str = TEXT_FORMAT
    fields: tuple[tuple[str, str], ...] = ()


def default_log(values: Mapping[str, Any], name: str) -> FileLog:
    """The log of the mesh's settings accessLogFile, accessLogEncoding and accessLogFormat."""
    path = str(values.get("accessLogFile") or STANDARD_OUTPUT)
    written = str(values.get("accessLogFormat") or "")
    if values.get("accessLogEncoding") != "JSON":
        return FileLog(name, path, _line(written) if written else TEXT_FORMAT)
    return FileLog(name, path, fields=_fields(written) or JSON_FIELDS)


def read_providers(values: Mapping[str, Any]) -> tuple[FileLog, ...]:
    """The extensionProviders that write files (envoyFileAccessLog)."""
    found = []
    for one in values.get("extensionProviders") or ():
        settings = one.get("envoyFileAccessLog")
        if settings is None:
            continue
        log_format = settings.get("logFormat") or {}
        text, labels = log_format.get("text"), log_format.get("labels")
        fields = tuple((str(key), str(value)) for key, value in (labels or {}).items())
        if "labels" in log_format and not fields:
            fields = JSON_FIELDS  # an empty `labels: {}` asks for Istio's own fields
        path = str(settings.get("path") or STANDARD_OUTPUT)
        found.append(FileLog(str(one.get("name") or ""), path, _line(str(text)) if text else TEXT_FORMAT, fields))
    return tuple(found)


def _line(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _fields(written: str) -> tuple[tuple[str, str], ...]:
    try:
        found = json.loads(written) if written else {}
    except ValueError:
        return ()
    return tuple((str(key), str(value)) for key, value in found.items()) if isinstance(found, dict) else ()
