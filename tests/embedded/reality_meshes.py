"""Random meshes: policies at all levels, rules of clients, who may call, what is routed where. From a seed, so that
each can be made again.
"""

from __future__ import annotations

from random import Random
from typing import Any

Object = dict[str, Any]

ROOT = "istio-system"
NAMESPACES = ("foo", "bar")
TRUST_DOMAIN = "cluster.local"
MODES = ("STRICT", "STRICT", "PERMISSIVE", "DISABLE", "UNSET")
TIMES = tuple(f"2026-01-0{day}T00:00:00Z" for day in (1, 1, 2, 3))


class Generator:
    """Makes the Istio objects of one mesh. `workloads` and `services` are (namespace, name); `ports` are those of the
    containers, `more_ports` those that only Services have, and at `http_ports` applications speak HTTP.
    """

    def __init__(
        self,
        seed: int,
        workloads: list[tuple[str, str]],
        ports: list[int],
        services: list[tuple[str, str]] | None = None,
        more_ports: list[int] | None = None,
        http_ports: list[int] | None = None,
    ) -> None:
        self.random = Random(seed)
        self.workloads, self.ports = workloads, ports
        self.services = services or workloads
        self.service_ports = [*ports, *(more_ports or [])]
        self.http_ports = http_ports or ports

    def objects(self) -> list[Object]:
        """All objects of the mesh."""
        made = [*self.peer_authentications(), *self.destination_rules(), *self.authorization_policies()]
        if self.maybe(0.25):
            made += self.virtual_services()
        if self.maybe(0.2):
            made += self.sidecars()
        return made

    def exports(self) -> dict[tuple[str, str], str]:
        """Services that are not for everybody, and for whom they are."""
        chosen = [one for one in self.services if self.maybe(0.15)] if self.maybe(0.3) else []
        return {one: self.random.choice((".", "*", "foo", "bar", "foo,bar")) for one in chosen}

    def maybe(self, chance: float) -> bool:
        return self.random.random() < chance

    def some(self, most: int) -> int:
        """A number, small ones more often."""
        return min(int(self.random.expovariate(0.8)), most)

    def _object(self, kind: str, namespace: str, number: int, spec: Object) -> Object:
        metadata = {
            "name": f"{self.random.choice('abxyz')}{number}",
            "namespace": namespace,
            "creationTimestamp": self.random.choice(TIMES),
        }
        return {"kind": kind, "metadata": metadata, "spec": spec}

    # -- servers

    def peer_authentications(self) -> list[Object]:
        made = []
        for number in range(self.some(5) + self.maybe(0.8)):
            namespace = self.random.choice((ROOT, *NAMESPACES, *NAMESPACES))
            spec: Object = {} if self.maybe(0.05) else {"mtls": {"mode": self.random.choice(MODES)}}
            if self.maybe(0.5):
                _, name = self.random.choice(self.workloads)
                labels = {"app": name} if self.maybe(0.8) else {"tier": self.random.choice(("front", "back"))}
                spec["selector"] = {"matchLabels": labels}
                if self.maybe(0.5):
                    chosen = self.random.sample(self.ports, self.random.randint(1, 3))
                    spec["portLevelMtls"] = {str(port): {"mode": self.random.choice(MODES)} for port in chosen}
            made.append(self._object("PeerAuthentication", namespace, number, spec))
        return made

    def authorization_policies(self) -> list[Object]:
        made = []
        for number in range(self.some(3)):
            namespace = self.random.choice((ROOT, *NAMESPACES, *NAMESPACES))
            spec: Object = {"action": self.random.choice(("ALLOW", "ALLOW", "DENY"))}
            if self.maybe(0.6):
                spec["selector"] = {"matchLabels": {"app": self.random.choice(self.workloads)[1]}}
            rules = [self._rule() for _ in range(self.random.randint(0 if spec["action"] == "ALLOW" else 1, 2))]
            if rules:
                spec["rules"] = rules
            made.append(self._object("AuthorizationPolicy", namespace, number, spec))
        return made

    def _rule(self) -> Object:
        rule: Object = {}
        if self.maybe(0.7):
            rule["from"] = [{"source": self._source()} for _ in range(self.random.randint(1, 2))]
        if self.maybe(0.3):
            field = self.random.choice(("ports", "notPorts"))
            rule["to"] = [{"operation": {field: [str(port) for port in self.random.sample(self.ports, 3)]}}]
        if self.maybe(0.2):
            rule["when"] = [self._when()]
        return rule

    def _source(self) -> Object:
        namespace, name = self.random.choice(self.workloads)
        no = "not" if self.maybe(0.3) else ""
        field, value = self.random.choice(
            (
                ("principals", f"{TRUST_DOMAIN}/ns/{namespace}/sa/{name}"),
                ("principals", "*"),
                ("principals", f"{TRUST_DOMAIN}/ns/{namespace}/*"),
                ("namespaces", namespace),
                ("namespaces", f"{namespace[:2]}*"),
            )
        )
        return {f"not{field.capitalize()}" if no else field: [value]}

    def _when(self) -> Object:
        namespace, name = self.random.choice(self.workloads)
        key, value = self.random.choice(
            (
                ("source.namespace", namespace),
                ("source.principal", f"*/sa/{name}"),
                ("destination.port", str(self.random.choice(self.ports))),
            )
        )
        return {"key": key, self.random.choice(("values", "values", "notValues")): [value]}

    # -- clients

    def destination_rules(self) -> list[Object]:
        made = []
        for number in range(self.some(4)):
            namespace = self.random.choice((*NAMESPACES, *NAMESPACES, ROOT))
            spec: Object = {"host": self._host(namespace)}
            policy: Object = {}
            if self.maybe(0.75):
                policy["tls"] = self._tls()
            if self.maybe(0.25):
                policy["connectionPool"] = {"tcp": {"maxConnections": 100}}
            if self.maybe(0.25):
                policy["portLevelSettings"] = [
                    self._port_settings(port) for port in self.random.sample(self.service_ports, 2)
                ]
            if self.maybe(0.3):
                spec["subsets"] = [self._subset(tier) for tier in ("front", "back")]
            if policy:
                spec["trafficPolicy"] = policy
            if self.maybe(0.2):
                spec["exportTo"] = [self.random.choice((".", "*", *NAMESPACES))]
            if self.maybe(0.15) and namespace != ROOT:
                spec["workloadSelector"] = {"matchLabels": {"app": self.random.choice(self.workloads)[1]}}
                spec["exportTo"] = ["."]
            made.append(self._object("DestinationRule", namespace, number, spec))
        return made

    def _subset(self, tier: str) -> Object:
        subset: Object = {"name": tier, "labels": {"tier": tier}}
        if self.maybe(0.6):
            subset["trafficPolicy"] = {"tls": self._tls()}
            if self.maybe(0.3):
                subset["trafficPolicy"]["portLevelSettings"] = [self._port_settings(self.random.choice(self.ports))]
        return subset

    def _host(self, namespace: str) -> str:
        where, name = self.random.choice(self.services)
        full = f"{name}.{where}.svc.cluster.local"
        near = next((name for place, name in self.services if place == namespace), "")
        return self.random.choice((full, full, full, near or full, f"*.{where}.svc.cluster.local", "*.local", "*"))

    def _tls(self) -> Object:
        mode = self.random.choice(("ISTIO_MUTUAL", "ISTIO_MUTUAL", "DISABLE", "DISABLE", "SIMPLE"))
        tls: Object = {"mode": mode}
        if mode == "ISTIO_MUTUAL" and self.maybe(0.2):
            namespace, name = self.random.choice(self.workloads)
            tls["subjectAltNames"] = [f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/sa/{name}"]
        return tls

    def _port_settings(self, port: int) -> Object:
        settings: Object = {"port": {"number": port}, "connectionPool": {"tcp": {"maxConnections": 100}}}
        if self.maybe(0.6):
            settings["tls"] = self._tls()
        return settings

    def virtual_services(self) -> list[Object]:
        made = []
        for number in range(1 + self.some(2)):
            namespace, name = self.random.choice(self.services)
            host = self.random.choice((f"{name}.{namespace}.svc.cluster.local", name))
            kind = self.random.choice(("http", "http", "tcp"))
            routes = [self._route(kind) for _ in range(self.random.randint(1, 2))]
            spec: Object = {"hosts": [host], kind: routes}
            if self.maybe(0.15):
                spec["exportTo"] = ["."]
            made.append(self._object("VirtualService", self.random.choice((namespace, *NAMESPACES)), number, spec))
        return made

    def _route(self, kind: str) -> Object:
        destinations = [self._destination(kind) for _ in range(self.random.choice((1, 1, 2)))]
        if len(destinations) > 1:
            weight = self.random.choice((0, 30, 100))
            destinations[0]["weight"], destinations[1]["weight"] = weight, 100 - weight
        route: Object = {"route": destinations}
        if self.maybe(0.4):
            match: Object = {}
            if kind == "http" and self.maybe(0.5):
                match["sourceNamespace"] = self.random.choice(NAMESPACES)
            if self.maybe(0.4):
                match["sourceLabels"] = {"app": self.random.choice(self.workloads)[1]}
            if self.maybe(0.4):
                match["port"] = self.random.choice(self.ports[:3])
            if match:
                route["match"] = [match]
        return route

    def _destination(self, kind: str) -> Object:
        namespace, name = self.random.choice(self.workloads)
        destination: Object = {"host": f"{name}.{namespace}.svc.cluster.local"}
        if self.maybe(0.25):
            destination["subset"] = self.random.choice(("front", "back"))
        if self.maybe(0.2) and kind == "http":
            destination["port"] = {"number": self.random.choice(self.http_ports)}
        return {"destination": destination}

    def sidecars(self) -> list[Object]:
        namespace = self.random.choice(NAMESPACES)
        hosts = [self.random.choice(("./*", f"{other}/*")) for other in NAMESPACES if self.maybe(0.5)]
        spec: Object = {"egress": [{"hosts": hosts or ["./*"]}]}
        if self.maybe(0.5):
            spec["outboundTrafficPolicy"] = {"mode": "REGISTRY_ONLY"}
        return [self._object("Sidecar", namespace, 0, spec)]
