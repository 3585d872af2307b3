"""Routes as `istioctl proxy-config routes` shows them. Pure.

istioctl/pkg/writer/envoy/configdump/route.go of istio/istio: a line for each route of a virtual host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from labkit.observe.dumps.dump import Config, Dump, made_by, name_of_path
from labkit.observe.dumps.filters import Wanted

COLUMNS = ("NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE")

NO_DESTINATION = "404"
"""What istioctl writes for a route to nowhere."""


def select(dump: Dump, wanted: Wanted) -> list[Config]:
    """The route configurations that are asked for; those with numbers for names first."""
    named = [one for one in dump.routes() if wanted.name in ("", one.get("name"))]
    return sorted(named, key=lambda one: _order(str(one.get("name") or "")))


def _order(name: str) -> tuple[bool, int, bool, str]:
    # Those without a name are of the proxy itself; istioctl lists them last, too.
    return (not name.isdigit(), int(name) if name.isdigit() else 0, not name, name)


def rows(configs: Iterable[Config]) -> Iterator[tuple[str, str, str, str, str]]:
    """The cells of COLUMNS."""
    for one in configs:
        for host in one.get("virtual_hosts") or ():
            for route in host.get("routes") or ():
                match = describe_match(route.get("match") or {})
                namespace, service = name_of_path(made_by(route))
                where = f"{service}.{namespace}" if service else _nowhere(route)
                yield str(one.get("name") or ""), str(host.get("name", "")), _domains(host), match, where


def _nowhere(route: Mapping[str, Any]) -> str:
    action = route.get("route") or {}
    return NO_DESTINATION if action.get("cluster") == "BlackHoleCluster" else ""


def _domains(host: Mapping[str, Any]) -> str:
    """At most three, as istioctl does: the rest is the same host once more."""
    domains = [str(one) for one in host.get("domains") or ()]
    if len(domains) <= 3:
        return ", ".join(domains)
    return f"{', '.join(domains[:3])} + {len(domains) - 3} more..."


def describe_match(match: Mapping[str, Any]) -> str:
    """`/prefix*`, `/path`, `regex ...`."""
    said = []
    if match.get("prefix"):
        said.append(f"{match['prefix']}*")
    if match.get("path_separated_prefix"):
        said.append(f"PathPrefix:{match['path_separated_prefix']}")
    if match.get("path"):
        said.append(str(match["path"]))
    if expression := match.get("safe_regex"):
        said.append(f"regex {expression.get('regex', '')}")
    return " ".join(said)
