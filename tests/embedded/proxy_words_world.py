"""A small mesh for the words of proxies: `shop` is injected (client, server), `legacy` is not (old)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import labkit
from labkit.cluster.opening import embedded_lifecycle
from labkit.lab import Lab
from tests.embedded.test_controlplane import deployment, policy

Object = dict[str, Any]


def service(name: str, namespace: str, **port: Any) -> Object:
    ports = [{"name": "http", "port": 5000, **port}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def istio(kind: str, name: str, spec: Object, namespace: str = "shop") -> Object:
    group = "security" if kind in ("PeerAuthentication", "AuthorizationPolicy") else "networking"
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


RULE = istio(
    "DestinationRule",
    "server",
    {
        "host": "server",
        "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}, "tls": {"mode": "ISTIO_MUTUAL"}},
        "subsets": [{"name": "v1", "labels": {"app": "server"}}, {"name": "v2", "labels": {"version": "v2"}}],
    },
)
ROUTING = istio(
    "VirtualService",
    "server",
    {
        "hosts": ["server", "shop.example"],
        "gateways": ["mesh", "front"],
        "http": [
            {
                "match": [{"uri": {"prefix": "/healthz"}}],
                "route": [{"destination": {"host": "server", "subset": "v1"}, "weight": 100}],
            },
            {"route": [{"destination": {"host": "server", "subset": "v2"}}]},
        ],
    },
)
GATEWAY = istio(
    "Gateway",
    "front",
    {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
    },
)


@contextmanager
def small_mesh(name: str, *, gateway: bool = False) -> Iterator[Lab]:
    """The mesh, up while the block lasts."""
    embedded_lifecycle().down(name, purge=True)
    try:
        with labkit.open(f"embedded:{name}", narrate=lambda _: None) as lab:
            lab.install_mesh()
            lab.create_namespace("shop", {"istio.io/rev": "default"})
            lab.create_namespace("legacy")
            if gateway:
                lab.install_gateway()
            apps = [deployment("server", "shop"), deployment("client", "shop"), deployment("old", "legacy")]
            lab.apply([*apps, service("server", "shop"), service("old", "legacy")])
            lab.wait_until_ready("shop")
            lab.wait_until_ready("legacy")
            yield lab
    finally:
        embedded_lifecycle().down(name, purge=True)


__all__ = ["GATEWAY", "ROUTING", "RULE", "istio", "policy", "service", "small_mesh"]
