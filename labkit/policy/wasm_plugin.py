"""What a WasmPlugin says: which module runs in whose proxy, and at which place among the HTTP filters.

https://istio.io/latest/docs/reference/config/proxy_extensions/wasm-plugin/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.errors import InputError
from labkit.policy.configs import Meta, read_meta
from labkit.policy.selection import selected, selector_labels
from labkit.policy.workload import Workload

UNSPECIFIED_PHASE = "UNSPECIFIED_PHASE"


@dataclass(frozen=True)
class TrafficMatch:
    """Where it runs: CLIENT (what the workload sends), SERVER (what it receives) or both; ports, or all."""

    mode: str = "CLIENT_AND_SERVER"
    ports: frozenset[int] = frozenset()


@dataclass(frozen=True)
class WasmPlugin:
    """One parsed WasmPlugin. `path` is the module's file; `configuration` is what the plugin is given, as JSON."""

    meta: Meta
    path: str
    selector: Mapping[str, str] = field(default_factory=dict)
    phase: str = UNSPECIFIED_PHASE
    priority: int = 0
    root_id: str = ""
    configuration: str = ""
    fail_open: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    host_environment: tuple[str, ...] = ()
    match: tuple[TrafficMatch, ...] = ()

    @property
    def name(self) -> str:
        """The filter's name in the proxy, as Istio forms it."""
        return f"extensions.istio.io/wasmplugin/{self.meta.namespace}.{self.meta.name}"

    def runs(self, *, server: bool, port: int = 0) -> bool:
        """Whether it runs on one side, for one port (0: not told apart)."""
        modes = ("CLIENT_AND_SERVER", "UNDEFINED", "SERVER" if server else "CLIENT")
        return not self.match or any(
            one.mode in modes and (not one.ports or not port or port in one.ports) for one in self.match
        )


def parse_wasm_plugin(obj: Mapping[str, Any]) -> WasmPlugin:
    """Read a WasmPlugin. Raises InputError when its module is not a local file: there is no registry here."""
    meta, spec = read_meta(obj, kind="WasmPlugin"), obj.get("spec") or {}
    url = str(spec.get("url") or "")
    if not url.startswith("file://"):
        raise InputError(
            f"WasmPlugin {meta} names the module {url!r}.",
            meaning="The embedded cluster has no network, so it loads modules from files alone.",
            next_step="Put the module on this machine and write url: file:///path/to/module.wasm",
            field="spec.url",
        )
    variables = (spec.get("vmConfig") or {}).get("env") or ()
    config = spec.get("pluginConfig")
    return WasmPlugin(
        meta=meta,
        path=url.removeprefix("file://"),
        selector=selector_labels(spec),
        phase=str(spec.get("phase") or UNSPECIFIED_PHASE),
        priority=int(spec.get("priority") or 0),
        root_id=str(spec.get("pluginName") or ""),
        configuration="" if config is None else json.dumps(config, separators=(",", ":")),
        fail_open=spec.get("failStrategy") == "FAIL_OPEN",
        environment={one["name"]: str(one.get("value") or "") for one in variables if one.get("valueFrom") != "HOST"},
        host_environment=tuple(one["name"] for one in variables if one.get("valueFrom") == "HOST"),
        match=tuple(_traffic(one) for one in spec.get("match") or ()),
    )


def plugins_of_phase(
    plugins: Iterable[WasmPlugin], workload: Workload, root_namespace: str, phase: str
) -> list[WasmPlugin]:
    """The plugins of one phase for a workload: the highest priority first, then the oldest."""
    # pilot/pkg/model/push_context.go WasmPlugins: sorted by priority, descending, then by creation time
    mine = (one for one in selected(plugins, workload, root_namespace) if one.phase == phase)
    return sorted(mine, key=lambda one: (-one.priority, one.meta.age_order))


def _traffic(entry: Mapping[str, Any]) -> TrafficMatch:
    ports = frozenset(int(one["number"]) for one in entry.get("ports") or ())
    return TrafficMatch(str(entry.get("mode") or "CLIENT_AND_SERVER"), ports)
