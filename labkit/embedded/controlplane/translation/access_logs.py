"""Access logs as Envoy's file access loggers, in Istio's formats. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from labkit.embedded.controlplane.translation.filters import typed
from labkit.embedded.controlplane.translation.log_formats import FileLog
from labkit.embedded.controlplane.translation.model import MeshConfig
from labkit.embedded.envoy_messages import TYPE, Config
from labkit.policy.telemetry import FILE_PROVIDER, Log


def file_logs(mesh: MeshConfig, wanted: tuple[Log, ...] | None, *, tcp: bool = False) -> list[Config]:
    """The loggers of a chain; `wanted` is what Telemetry objects say, None where they say nothing."""
    if wanted is None:
        wanted = (Log(FILE_PROVIDER),) if mesh.access_log_file else ()
    found = ((_provider(mesh, log.provider), log.expression) for log in wanted)
    return [_file_log(provider, expression, tcp=tcp) for provider, expression in found if provider]


def of_refusals(logs: Iterable[Config]) -> list[Config]:
    """The same logs for a listener: of what none of its chains took, response flag NR."""
    refused = {"response_flag_filter": {"flags": ["NR"]}}
    return [{**log, "filter": _all(log.get("filter"), refused)} for log in logs]


def of_types(*types: str) -> Config:
    """The filter that lets a logger see these moments alone (envoy.data.accesslog.v3.AccessLogType)."""
    return {"log_type_filter": {"types": list(types)}}


def _provider(mesh: MeshConfig, name: str) -> FileLog | None:
    """A provider by its name; one that the mesh's settings do not have writes nothing, as in Istio."""
    own = next((one for one in mesh.log_providers if one.name == name), None)
    return own or (mesh.default_log if name == FILE_PROVIDER else None)


def _file_log(provider: FileLog, expression: str, *, tcp: bool) -> Config:
    if provider.fields:
        log_format: Config = {"json_format": dict(provider.fields)}
    else:
        log_format = {"text_format_source": {"inline_string": provider.text}}
    message = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
    log = typed("envoy.access_loggers.file", message, path=provider.path, log_format=log_format)
    # A TCP proxy that counts tells its loggers of the beginning, too.
    chosen = _all(of_types("TcpConnectionEnd") if tcp else None, _holds(expression) if expression else None)
    return {**log, "filter": chosen} if chosen else log


def _holds(expression: str) -> Config:
    message = f"{TYPE}envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    config = {"@type": message, "expression": expression}
    return {"extension_filter": {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": config}}


def _all(*filters: Config | None) -> Config | None:
    known = [one for one in filters if one]
    return {"and_filter": {"filters": known}} if len(known) > 1 else known[0] if known else None
