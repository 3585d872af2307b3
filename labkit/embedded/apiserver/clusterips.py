"""Which Service has which ClusterIP and node port. What is taken is read from the stored Services themselves."""

from __future__ import annotations

from typing import Any

from labkit.embedded.addresses import FIRST_SERVICE, LAST_SERVICE, cluster_ip, node_ip
from labkit.embedded.apiserver.failures import Cause, StatusError, invalid, invalid_object
from labkit.embedded.apiserver.resources import SERVICES
from labkit.embedded.apiserver.storage import Change, Record, Storage

Object = dict[str, Any]

FIRST_NODE_PORT, LAST_NODE_PORT = 30000, 32767  # as in Kubernetes


class ClusterIPs:
    """Hands out addresses and node ports. Call `assign` right before a Service is stored, with no await between."""

    def __init__(self, storage: Storage, block: int) -> None:
        self.block = block
        self._taken: dict[str, str] = {}
        self._ports: dict[int, str] = {}
        for record in storage.records(SERVICES):
            self._remember(record)
        storage.listen(SERVICES, self._on_change)

    def _on_change(self, change: Change) -> None:
        if change.before:
            self._taken = {ip: uid for ip, uid in self._taken.items() if uid != change.before.uid}
            self._ports = {port: uid for port, uid in self._ports.items() if uid != change.before.uid}
        if change.after:
            self._remember(change.after)

    def _remember(self, record: Record) -> None:
        spec = record.load().get("spec") or {}
        if spec.get("clusterIP") not in (None, "", "None"):
            self._taken[spec["clusterIP"]] = record.uid
        for port in spec.get("ports") or []:
            if port.get("nodePort"):
                self._ports[port["nodePort"]] = record.uid

    def assign(self, service: Object, old: Object | None) -> None:
        """Give the Service what it lacks and keep what it has. Raises 422."""
        spec = service["spec"]
        before = (old or {}).get("spec") or {}
        if spec["type"] == "ExternalName":
            for key in ("clusterIP", "clusterIPs"):
                spec.pop(key, None)
            return
        had = before.get("clusterIP")
        address = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0] or had
        if had and address != had:
            raise _refused(service, invalid("spec.clusterIPs[0]", [address], "may not change once set"))
        if not address:
            address = self._free_address(service)
        elif address not in ("None", had):
            self._check(service, address)
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
        self._assign_ports(service, before)

    def _free_address(self, service: Object) -> str:
        for column in range(FIRST_SERVICE, LAST_SERVICE + 1):
            if (address := cluster_ip(self.block, column)) not in self._taken:
                return address
        why = f"failed to allocate a serviceIP: range is full ({LAST_SERVICE - FIRST_SERVICE + 1} Services)"
        raise _refused(service, invalid("spec.clusterIPs", None, why))

    def _check(self, service: Object, address: str) -> None:
        uid = service["metadata"]["uid"]
        if self._taken.get(address, uid) != uid:
            why = "failed to allocate IP: provided IP is already allocated"
            raise _refused(service, invalid("spec.clusterIPs", [address], why))
        valid = {cluster_ip(self.block, column) for column in range(FIRST_SERVICE, LAST_SERVICE + 1)}
        if address not in valid | {node_ip(self.block)}:
            first, last = cluster_ip(self.block, FIRST_SERVICE), cluster_ip(self.block, LAST_SERVICE)
            why = f"failed to allocate IP {address}: the provided IP is not in the valid range. "
            raise _refused(
                service, invalid("spec.clusterIPs", [address], f"{why}The range of valid IPs is {first}-{last}")
            )

    def _assign_ports(self, service: Object, before: Object) -> None:
        spec, uid = service["spec"], service["metadata"]["uid"]
        if spec["type"] not in ("NodePort", "LoadBalancer"):
            if before.get("type") in ("NodePort", "LoadBalancer"):
                for port in spec.get("ports") or []:
                    port.pop("nodePort", None)
            return
        had = {(p.get("port"), p.get("protocol")): p.get("nodePort") for p in before.get("ports") or []}
        chosen: set[int] = set()
        for i, port in enumerate(spec.get("ports") or []):
            number = port.get("nodePort") or had.get((port.get("port"), port.get("protocol")))
            if not number:
                every = range(FIRST_NODE_PORT, LAST_NODE_PORT + 1)
                number = next(n for n in every if n not in self._ports and n not in chosen)
            elif self._ports.get(number, uid) != uid:
                where = f"spec.ports[{i}].nodePort"
                raise _refused(service, invalid(where, number, "provided port is already allocated"))
            elif not FIRST_NODE_PORT <= number <= LAST_NODE_PORT:
                why = "provided port is not in the valid range. The range of valid ports is 30000-32767"
                raise _refused(service, invalid(f"spec.ports[{i}].nodePort", number, why))
            port["nodePort"] = number
            chosen.add(number)


def _refused(service: Object, cause: Cause) -> StatusError:
    return invalid_object("Service", "", service["metadata"]["name"], [cause])
