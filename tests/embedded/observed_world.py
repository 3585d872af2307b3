"""A mesh to be observed: `shop` is injected (a caller, a program with metrics merged, one with metrics of its own);
`legacy` is not (a caller).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import labkit
from labkit.cluster.opening import embedded_lifecycle
from labkit.lab import Lab
from tests.embedded.manifests import one_pod

Object = dict[str, Any]

CALLER, MERGED, OWN, OUTSIDE = "shop/caller", "shop/visits", "shop/own", "legacy/old"
PORT, METRICS = 8080, 9102
URL = f"http://visits.shop:{PORT}/"
WITHOUT_PROMETHEUS = (
    "NOT TRIED: this machine has no program 'prometheus' (Debian and Ubuntu: apt-get install prometheus). "
    "Everything about PromQL, scrape jobs and targets under STRICT is untested in this run."
)
HAS_PROMETHEUS = shutil.which("prometheus") is not None

SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": str(METRICS), "prometheus.io/path": "/metrics"}


def deployment(name: str, namespace: str, container: Object, **annotations: str) -> Object:
    return one_pod(name, namespace, {"name": "app", **container}, annotations=annotations)


LOW = 90
"""A port that needs privileges: on the wire it is 20090."""


def low_port() -> Object:
    """Metrics on a low port, without a sidecar."""
    container = {
        "image": "mtlslab/apps:1.0",
        "args": ["visits"],
        "env": [{"name": "METRICS_PORT", "value": str(LOW)}],
        "ports": [{"name": "http", "containerPort": PORT}, {"name": "http-metrics", "containerPort": LOW}],
    }
    return deployment("low", "legacy", container, **{**SCRAPED, "prometheus.io/port": str(LOW)})


def visits(name: str, **annotations: str) -> list[Object]:
    """A page on 8080, metrics on 9102."""
    ports = [{"name": "http", "containerPort": PORT}, {"name": "http-metrics", "containerPort": METRICS}]
    probe = {"httpGet": {"path": "/healthz", "port": PORT}, "periodSeconds": 1}
    container = {"image": "mtlslab/apps:1.0", "args": ["visits"], "ports": ports, "readinessProbe": probe}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "selector": {"app": name},
            "ports": [{"name": "http", "port": PORT}, {"name": "http-metrics", "port": METRICS}],
        },
    }
    return [deployment(name, "shop", container, **annotations), service]


def policy(mode: str, *, app: str = "", ports: dict[str, str] | None = None) -> Object:
    spec: Object = {"mtls": {"mode": mode}}
    if app:
        spec["selector"] = {"matchLabels": {"app": app}}
    if ports:
        spec["portLevelMtls"] = {port: {"mode": each} for port, each in ports.items()}
    metadata = {"name": app or "default", "namespace": "shop"}
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata, "spec": spec}


@contextmanager
def observed_mesh(name: str) -> Iterator[Lab]:
    """The cluster, gone at the end."""
    sleeps = {"image": "curlimages/curl:8.10.1", "command": ["sleep", "infinity"]}
    try:
        with labkit.open(f"embedded:{name}", narrate=lambda _: None) as lab:
            lab.install_mesh()
            lab.create_namespace("shop", labels={"istio.io/rev": "default"})
            lab.create_namespace("legacy")
            lab.apply(deployment("caller", "shop", sleeps))
            lab.apply(deployment("old", "legacy", sleeps))
            lab.apply(low_port())
            lab.apply(visits("visits", **SCRAPED))
            lab.apply(visits("own", **SCRAPED, **{"prometheus.istio.io/merge-metrics": "false"}))
            for namespace in ("shop", "legacy"):
                lab.wait_until_ready(namespace)
            yield lab
    finally:
        embedded_lifecycle().down(name, purge=True)
