"""WasmPlugin as HTTP filters. Pure: Envoy itself reads the module's file.

Istio delivers plugins by ECDS, so that a broken one is refused alone. Here they stand in the listener, so a module
that Envoy cannot load makes it refuse the listener: it keeps the last good one, and says why.
"""

from __future__ import annotations

from labkit.embedded.controlplane.translation.filters import typed
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.envoy_messages import TYPE, Config
from labkit.policy.wasm_plugin import WasmPlugin, plugins_of_phase


def wasm_filters(snapshot: Snapshot, proxy: Sidecar, phase: str, *, server: bool) -> list[Config]:
    """The filters of one phase (AUTHN, AUTHZ, STATS, UNSPECIFIED_PHASE) on one side of a proxy."""
    plugins = plugins_of_phase(snapshot.wasm_plugins, proxy.workload, snapshot.mesh.root_namespace, phase)
    return [_filter(one) for one in plugins if one.runs(server=server)]


def _filter(plugin: WasmPlugin) -> Config:
    virtual_machine: Config = {
        # One machine for each plugin: what one keeps, another does not see.
        "vm_id": plugin.name,
        "runtime": "envoy.wasm.runtime.v8",
        "code": {"local": {"filename": plugin.path}},
    }
    environment: Config = {}
    if plugin.environment:
        environment["key_values"] = dict(plugin.environment)
    if plugin.host_environment:
        environment["host_env_keys"] = list(plugin.host_environment)
    if environment:
        virtual_machine["environment_variables"] = environment
    config: Config = {
        "name": plugin.name,
        "root_id": plugin.root_id,
        "failure_policy": "FAIL_OPEN" if plugin.fail_open else "FAIL_CLOSED",
        "vm_config": virtual_machine,
    }
    if plugin.configuration:
        config["configuration"] = {"@type": f"{TYPE}google.protobuf.StringValue", "value": plugin.configuration}
    return typed(plugin.name, "envoy.extensions.filters.http.wasm.v3.Wasm", config=config)
