"""A proxy's `/config_dump` as plain resources. Pure: it reads what Envoy said, wherever that came from.

In a real pod clusters, listeners, routes and secrets are dynamic resources (xDS), routes mostly by RDS. In an embedded
one routes stand inside listeners, as inbound ones do everywhere.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/admin/v3/config_dump.proto
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]

REDACTED = "[redacted]"
_HIDDEN = frozenset({"private_key", "password", "generic_secret", "session_ticket_keys"})


@dataclass(frozen=True)
class Secret:
    """One entry of the SecretsConfigDump; `status` is istioctl's word for where it stands."""

    name: str
    status: str
    content: Config


@dataclass(frozen=True)
class Dump:
    """What one proxy runs."""

    configs: tuple[Config, ...]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Dump:
        """The dump as Envoy's JSON says it, without private keys."""
        return cls(tuple(without_keys(answer.get("configs") or [])))

    def part(self, name: str) -> Config:
        """One of the dump's parts, such as `ListenersConfigDump`; empty where there is none."""
        return next((one for one in self.configs if str(one.get("@type", "")).endswith(f".{name}")), {})

    def listeners(self) -> list[Config]:
        """The listeners that are open, the static ones behind the others."""
        part = self.part("ListenersConfigDump")
        active = [(one.get("active_state") or {}).get("listener") for one in part.get("dynamic_listeners") or ()]
        static = [one.get("listener") for one in part.get("static_listeners") or ()]
        return [one for one in (*active, *static) if one]

    def clusters(self) -> list[Config]:
        """The Envoy clusters, the static ones behind the others."""
        part = self.part("ClustersConfigDump")
        entries = [*(part.get("dynamic_active_clusters") or ()), *(part.get("static_clusters") or ())]
        return [one["cluster"] for one in entries if one.get("cluster")]

    def cluster(self, name: str) -> Config | None:
        """The Envoy cluster of this name."""
        return next((one for one in self.clusters() if one.get("name") == name), None)

    def routes(self) -> list[Config]:
        """The route configurations: those of RDS, then those that stand in listeners, each said once.

        The dump lists the latter as static ones, too, but with those of listeners that are only draining.
        """
        part = self.part("RoutesConfigDump")
        found: list[Config] = []
        by_rds = (entry.get("route_config") for entry in part.get("dynamic_route_configs") or ())
        for config in (*by_rds, *self._inline_routes()):
            if config and config not in found:  # a listener has one for each of its filter chains
                found.append(config)
        return found

    def _inline_routes(self) -> Iterator[Config | None]:
        for listener in self.listeners():
            default = listener.get("default_filter_chain")
            for chain in (*(listener.get("filter_chains") or ()), *([default] if default else ())):
                for one in chain.get("filters") or ():
                    yield (one.get("typed_config") or {}).get("route_config")

    def secrets(self) -> list[Secret]:
        """The secrets that it has, and those that it waits for."""
        part = self.part("SecretsConfigDump")
        return [
            *_secrets(part.get("dynamic_active_secrets"), "ACTIVE"),
            *_secrets(part.get("dynamic_warming_secrets"), "WARMING"),
            *_secrets(part.get("static_secrets"), "ACTIVE"),
        ]

    def bootstrap(self) -> Config:
        """What the proxy was started with."""
        return self.part("BootstrapConfigDump")


def _secrets(entries: Any, status: str) -> Iterator[Secret]:
    for one in entries or ():
        content = one.get("secret") or {}
        yield Secret(str(one.get("name") or content.get("name") or ""), status, content)


def without_keys(value: Any) -> Any:
    """The same without private keys. Envoy hides them itself; what a person sees does not rest on that."""
    cleaned = copy.deepcopy(value)
    _hide(cleaned)
    return cleaned


def _hide(value: Any) -> None:
    if isinstance(value, list):
        for one in value:
            _hide(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name in _HIDDEN and not (isinstance(one, dict) and set(one) == {"filename"}):
                value[name] = {"inline_string": REDACTED} if isinstance(one, dict | list) else REDACTED
            else:
                _hide(one)


def made_by(resource: Mapping[str, Any]) -> str:
    """The path of the object behind a cluster or a route, as Istio notes it; empty where there is none."""
    metadata = (resource.get("metadata") or {}).get("filter_metadata") or {}
    return str((metadata.get("istio") or {}).get("config") or "")


def name_of_path(path: str) -> tuple[str, str]:
    """(namespace, name) of `/apis/networking.istio.io/v1/namespaces/shop/destination-rule/server`."""
    parts = path.split("/")
    if len(parts) < 4 or parts[-4] != "namespaces":
        return "", ""
    return parts[-3], parts[-1]
