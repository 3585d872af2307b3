"""What istiod wants a proxy to run against what it runs: `istioctl proxy-status POD`. Pure.

Both sides are dumps of the same form, but not to the letter: istiod may write names in camel case, and defaults that
Envoy leaves out. istioctl/pkg/writer/compare, pilot/pkg/xds/debug.go ConfigDump of istio/istio.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.observe.dumps.dump import Config, Dump

CONTEXT = 7
"""Lines around a difference, as many as istioctl shows."""

_CAMEL = re.compile(r"[a-z0-9]+([A-Z][a-z0-9]*)+")
_SECONDS = re.compile(r"\d+(\.\d+)?s")
# The first value of an enumeration is the one that nobody writes.
_FIRST_OF = {
    "action": "ALLOW",
    "codec_type": "AUTO",
    "dns_lookup_family": "AUTO",
    "lb_policy": "ROUND_ROBIN",
    "path_with_escaped_slashes_action": "IMPLEMENTATION_SPECIFIC_DEFAULT",
    "priority": "DEFAULT",
    "protocol": "TCP",
    "protocol_selection": "USE_CONFIGURED_PROTOCOL",
    "server_header_transformation": "OVERWRITE",
    "traffic_direction": "UNSPECIFIED",
    "type": "STATIC",
}


@dataclass(frozen=True)
class Compared:
    """One kind of resource: `difference` is empty where both sides are the same."""

    kind: str
    difference: str
    loaded: str = ""
    """When Envoy took the newest of them; only of routes, as istioctl tells it."""

    @property
    def matches(self) -> bool:
        return not self.difference


def compare(istiod: Mapping[str, Any], envoy: Mapping[str, Any]) -> tuple[Compared, ...]:
    """Clusters, listeners and routes of two answers of `config_dump`."""
    wanted, runs = Dump.of(plain(istiod)), Dump.of(plain(envoy))
    loaded = [
        str(one.get("last_updated") or "") for one in runs.part("RoutesConfigDump").get("dynamic_route_configs") or ()
    ]
    return (
        Compared("Clusters", _difference("Clusters", _clusters(wanted), _clusters(runs))),
        Compared("Listeners", _difference("Listeners", _listeners(wanted), _listeners(runs))),
        Compared("Routes", _difference("Routes", _routes(wanted), _routes(runs)), max(loaded, default="")),
    )


def plain(value: Any, field: str = "") -> Any:
    """The same with names in snake case, without what says nothing, and with numbers and times in one form."""
    if isinstance(value, Mapping):
        pairs = ((_snake(str(name)), one) for name, one in value.items())
        cleaned = {name: plain(one, name) for name, one in pairs}
        return {name: one for name, one in sorted(cleaned.items()) if not _says_nothing(one)}
    if isinstance(value, list | tuple):
        return [plain(one, field) for one in value]
    if isinstance(value, str):
        if value == _FIRST_OF.get(field):
            return ""
        if _SECONDS.fullmatch(value):
            return f"{float(value[:-1]):g}s"
        return int(value) if value.isdecimal() and value.isascii() and len(value) < 20 else value
    return value


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name) if _CAMEL.fullmatch(name) else name


def _says_nothing(value: Any) -> bool:
    return value is None or value is False or value in (0, "", [], {})


def _clusters(dump: Dump) -> list[Config]:
    entries = dump.part("ClustersConfigDump").get("dynamic_active_clusters") or ()
    return [one.get("cluster") or {} for one in entries]


def _listeners(dump: Dump) -> list[Config]:
    entries = dump.part("ListenersConfigDump").get("dynamic_listeners") or ()
    return [one["active_state"].get("listener") or {} for one in entries if one.get("active_state")]


def _routes(dump: Dump) -> list[Config]:
    entries = dump.part("RoutesConfigDump").get("dynamic_route_configs") or ()
    return [one.get("route_config") or {} for one in entries]


def _difference(kind: str, wanted: Iterable[Config], runs: Iterable[Config]) -> str:
    lines = difflib.unified_diff(_text(wanted), _text(runs), f"Istiod {kind}", f"Envoy {kind}", n=CONTEXT, lineterm="")
    return "\n".join(lines)


def _text(resources: Iterable[Config]) -> list[str]:
    named = sorted(resources, key=lambda one: str(one.get("name") or ""))
    # Envoy says the type of each, and one side may say it where the other does not.
    bare = [{name: value for name, value in one.items() if name != "@type"} for one in named]
    return json.dumps(bare, indent=3).splitlines() if bare else []
