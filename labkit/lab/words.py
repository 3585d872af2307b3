"""The proxies' own words: what istioctl shows of a proxy, on every cluster, with its columns and line forms."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit.cluster import Cluster
from labkit.errors import InputError
from labkit.observe import proxies, proxy, proxy_log, references
from labkit.observe.describe import describe_pod, describe_service
from labkit.observe.dumps import KINDS, TAKES, Dump, Wanted, check_filters, known_kind, make_section
from labkit.observe.objects import name_of, namespace_of

if TYPE_CHECKING:
    from labkit.views.described import Described
    from labkit.views.proxy_words import ConfigComparison, LogLevels, ProxyConfig
    from labkit.views.tables import Table


class ProxyWords:
    """What Lab can tell of a single proxy.

    lab.proxy_config("listeners", "shop/server")     listeners, clusters, routes, endpoints, secrets, bootstrap, all;
                                             filters: port=, fqdn=, direction=, subset=, address=, type=, name=,
                                             status=, cluster=; .resources, .json(), .yaml()
    lab.describe("shop/server")              a pod, or "svc/shop/server", with all that the mesh does with it: effective
                                             mode, policies, rules, routes, gateways, warnings
    lab.proxy_info("shop/server")            its version, state and worker threads
    lab.compare_proxy("shop/server")         whether it runs what istiod wants, and the difference
    lab.proxy_log("shop/server", "rbac:debug")       sets the levels of loggers; without a level it shows them
    """

    cluster: Cluster

    if TYPE_CHECKING:

        def _shown(self, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Table: ...

    def proxy_config(self, kind: str, pod: str, **filters: Any) -> ProxyConfig:
        """The configuration that a pod's proxy runs, as `istioctl proxy-config` shows it."""
        from labkit.views.proxy_words import ProxyConfig

        kind, wanted = known_kind(kind), _wanted(filters)
        check_filters(kind, wanted)
        found = references.find_pod(self.cluster, pod)
        kinds = KINDS if kind == "all" else (kind,)
        dump, statuses = Dump(()), {}
        if kinds != ("endpoints",):
            dump = Dump.of(json.loads(proxy.ask_pod(self.cluster, found, "config_dump")))
        if "endpoints" in kinds:
            statuses = json.loads(proxy.ask_pod(self.cluster, found, "clusters?format=json"))
        now = datetime.now(UTC)
        sections = tuple(make_section(one, dump, statuses, now, wanted) for one in kinds)
        command = f"istioctl proxy-config {kind} {name_of(found)}.{namespace_of(found)}"
        return ProxyConfig(f"{namespace_of(found)}/{name_of(found)}", sections, command)

    def compare_proxy(self, pod: str) -> ConfigComparison:
        """What istiod wants a pod's proxy to run against what it runs, as `istioctl proxy-status POD` shows it."""
        from labkit.views.proxy_words import ConfigComparison

        found = references.find_pod(self.cluster, pod)
        name = f"{name_of(found)}.{namespace_of(found)}"
        return ConfigComparison(name, proxies.compare_proxy(self.cluster, found), f"istioctl proxy-status {name}")

    def proxy_info(self, pod: str) -> Table:
        """What a proxy was started with: Envoy's version, its state, and its worker threads."""
        found = references.find_pod(self.cluster, pod)
        facts = proxy.server_facts(self.cluster, found)
        return self._shown(("POD", "ENVOY", "STATE", "THREADS"), [(name_of(found), *facts)])

    def describe(self, what: str, *, home: str = "default", ignore_unmeshed: bool = False) -> Described:
        """A pod or (`svc/shop/server`) a Service in the words of `istioctl x describe`.

        Names of objects outside of the namespace `home` are followed by theirs.
        """
        from labkit.views.described import Described

        if references.names_service(what):
            return Described(describe_service(self.cluster, references.find_service(self.cluster, what), home=home))
        pod = references.find_pod(self.cluster, what)
        return Described(describe_pod(self.cluster, pod, home=home, ignore_unmeshed=ignore_unmeshed))

    def proxy_log(self, pod: str, level: str = "", *, reset: bool = False) -> LogLevels:
        """The levels of a proxy's loggers; `level` sets them: "debug", or "rbac:debug,http:info"."""
        from labkit.views.proxy_words import LogLevels

        wanted = proxy_log.parse_wish(level) if level else {}
        found = references.find_pod(self.cluster, pod)
        name, namespace = name_of(found), namespace_of(found)
        known_as = f"{name}.{namespace}"
        command = f"istioctl proxy-config log {known_as}{' --reset' if reset else ''}"
        if reset:
            wanted = {**proxy_log.started_with(found), **wanted}
        if level:
            command += f" --level {level}"
        if wanted:
            return LogLevels(known_as, proxy_log.set_levels(self.cluster, found, wanted), (command,))
        return LogLevels(known_as, proxy_log.read_levels(self.cluster, found), (command,))


def _wanted(filters: dict[str, Any]) -> Wanted:
    for name in filters:
        if name not in TAKES["all"]:
            raise InputError(f"There is no filter {name!r}.", next_step=f"Filters: {', '.join(TAKES['all'])}.")
    port = filters.get("port")
    if port and not str(port).isdigit():
        raise InputError(f"{port!r} is no port.", next_step="Write a number, such as port=15006.", port=port)
    given: dict[str, Any] = {name: str(value) for name, value in filters.items() if value}
    return Wanted(**given | ({"port": int(port)} if port else {}))
