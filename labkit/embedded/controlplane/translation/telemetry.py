"""Gives the chains of a proxy their access logs and metrics: the last step before EnvoyFilters. Pure.

What Telemetry objects say is in `policy.telemetry`, the metrics are in `standard_metrics`, the logs in `access_logs`.
One place does it for all listeners, so that whoever makes a chain need not think of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from labkit.embedded.controlplane.translation import access_logs, standard_metrics
from labkit.embedded.controlplane.translation.filters import HCM, TCP_PROXY
from labkit.embedded.controlplane.translation.model import Service, Sidecar, Snapshot, target_port
from labkit.embedded.envoy_messages import Config
from labkit.policy.telemetry import telemetry_for


def instrument(snapshot: Snapshot, proxy: Sidecar, listeners: Sequence[Config]) -> tuple[Config, ...]:
    """The listeners with logs and metrics, where they carry an application's traffic: those that have a direction."""
    work = _Instruments(snapshot, proxy)
    return tuple(work.listener(one) if "traffic_direction" in one else one for one in listeners)


class _Instruments:
    """What the chains of one proxy are given."""

    def __init__(self, snapshot: Snapshot, proxy: Sidecar) -> None:
        self.snapshot, self.workload = snapshot, proxy.workload
        mesh = snapshot.mesh
        self.effective = telemetry_for(
            snapshot.telemetries, proxy.workload, mesh.root_namespace, mesh.default_access_logs
        )

    def listener(self, listener: Config) -> Config:
        server = listener["traffic_direction"] == "INBOUND"
        result = {**listener, "access_log": access_logs.of_refusals(self._files(server=server))}
        if "filter_chains" in listener:
            result["filter_chains"] = [self._chain(one, server=server) for one in listener["filter_chains"]]
        if "default_filter_chain" in listener:
            result["default_filter_chain"] = self._chain(listener["default_filter_chain"], server=server)
        return result

    def _chain(self, chain: Config, *, server: bool) -> Config:
        mutual = "transport_socket" in chain
        return {**chain, "filters": [self._filter(one, server=server, mutual=mutual) for one in chain["filters"]]}

    def _filter(self, network_filter: Config, *, server: bool, mutual: bool) -> Config:
        settings = network_filter.get("typed_config", {})
        if network_filter["name"] == HCM:
            settings = self._received(settings, mutual=mutual) if server else self._sent(settings)
        elif network_filter["name"] == TCP_PROXY:
            settings = self._bytes(settings, server=server, mutual=mutual)
        else:
            return network_filter
        return {**network_filter, "typed_config": settings}

    def _received(self, settings: Config, *, mutual: bool) -> Config:
        service = self._services.get(settings["route_config"]["name"])
        labels = standard_metrics.server_labels(self.workload, service, mutual=mutual, http=True)
        logs = [*self._files(server=True), *standard_metrics.http_loggers(self.effective, labels, server=True)]
        before = [standard_metrics.peer_filter(), *settings["http_filters"]]
        return {**settings, "http_filters": before, "access_log": logs}

    def _sent(self, settings: Config) -> Config:
        labels = standard_metrics.client_labels(self.workload, http=True)
        logs = [*self._files(server=False), *standard_metrics.http_loggers(self.effective, labels, server=False)]
        routes = settings["route_config"]
        service = self.snapshot.service_named(routes.get("name", "").rpartition(":")[0])
        if service is None or not service.mesh_external:  # who calls is nobody's business outside
            added = [*routes.get("request_headers_to_add", ()), standard_metrics.announcement(self.workload)]
            routes = {**routes, "request_headers_to_add": added}
        return {**settings, "route_config": routes, "access_log": logs}

    def _bytes(self, settings: Config, *, server: bool, mutual: bool) -> Config:
        if server:
            service = self._services.get(settings.get("cluster", ""))
            labels = standard_metrics.server_labels(self.workload, service, mutual=mutual, http=False)
        else:
            labels = standard_metrics.client_labels(self.workload, http=False)
        counted = standard_metrics.tcp_loggers(self.effective, labels, server=server)
        result = {**settings, "access_log": [*self._files(server=server, tcp=True), *counted]}
        if counted:  # then the loggers are told of the beginning, too
            result["access_log_options"] = {"flush_access_log_on_connected": True}
        if counted and server and mutual:  # who calls is known after the handshake; then the beginning is counted
            result |= {"upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE", "max_early_data_bytes": 65536}
        return result

    def _files(self, *, server: bool, tcp: bool = False) -> list[Config]:
        mesh = self.snapshot.mesh
        return access_logs.file_logs(mesh, self.effective.logs(server=server), tcp=tcp)

    @cached_property
    def _services(self) -> dict[str, Service]:
        """The services behind `inbound|<port>||`; of several the oldest says what is behind it."""
        found: dict[str, Service] = {}
        for service in self.snapshot.services_of(self.workload):
            for port in service.ports:
                found.setdefault(f"inbound|{target_port(port, self.workload)}||", service)
        return found
