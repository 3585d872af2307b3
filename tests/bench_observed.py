"""The part of `make bench` that is about what proxies observed: how long it takes to read all of them into a frame."""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import labkit
from labkit.lab import Lab
from labkit.observe.metrics import proxied_pods
from labkit.observe.objects import name_of
from tests.bench import Measure, cluster, timed
from tests.embedded.envoy_world import wait_for

Object = dict[str, Any]

NAMESPACE, SERVICES, REPLICAS = "shop", 4, 5
PROXIES = SERVICES * REPLICAS


def service_and_pods(number: int) -> list[Object]:
    """One Service before some pods that count their visitors."""
    name = f"visits{number}"
    labels = {"app": name}
    container = {
        "name": "app",
        "image": "mtlslab/apps:1.0",
        "args": ["visits"],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    selector = {"matchLabels": labels}
    ports = [{"name": "http", "port": 8080}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"selector": labels, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"replicas": REPLICAS, "selector": selector, "template": template},
        },
    ]


def everybody_calls_everybody(lab: Lab) -> None:
    """So that each proxy has something to tell of each Service, as client and as server."""
    urls = [f"http://visits{number}:8080/" for number in range(SERVICES)]
    quiet = [part for url in urls for _ in range(REPLICAS) for part in (url, "-o", "/dev/null")]

    def call(pod: Object) -> None:
        # Connections of their own, so that all pods of a Service get some.
        lab.cluster.execute(
            name_of(pod), NAMESPACE, ["curl", "-sS", "-H", "Connection: close", *quiet], container="app"
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, proxied_pods(lab.cluster, (NAMESPACE,))))


def measure_observed(runs: int = 30) -> list[Measure]:
    """A cluster of twenty proxies, read again and again."""
    with cluster("bench-observed"), labkit.open("embedded:bench-observed", narrate=lambda _: None) as lab:
        lab.install_mesh()
        lab.create_namespace(NAMESPACE, labels={"istio.io/rev": "default"})
        for number in range(SERVICES):
            lab.apply(service_and_pods(number))
        lab.wait_until_ready(NAMESPACE)
        everybody_calls_everybody(lab)
        wait_for("all proxies to count", lambda: lab.metrics().proxies == PROXIES)
        first = timed(lambda: lab.metrics().requests)
        seconds = [timed(lambda: lab.metrics().requests) for _ in range(runs)]
        found = lab.metrics()
        whole = [timed(lambda: lab.metrics(durations=True).latency()) for _ in range(5)]
        refused = [timed(lambda: lab.refusals().frame) for _ in range(5)]
    rows = f"{len(found.lines)} lines, {len(found.requests)} rows"
    ordered = sorted(seconds)
    spread = f"p50 {statistics.median(seconds) * 1000:.0f} ms, worst {ordered[-1] * 1000:.0f} ms"
    return [
        Measure(f"scrape of {PROXIES} proxies into a frame ({rows})", spread, "300 ms", runs),
        Measure("the same, the very first time", f"{first * 1000:.0f} ms", "", 1),
        Measure(
            "the same with durations, and their quantiles", f"{statistics.median(whole) * 1000:.0f} ms", "", len(whole)
        ),
        Measure(
            f"refusals of {PROXIES} proxies, logs too", f"{statistics.median(refused) * 1000:.0f} ms", "", len(refused)
        ),
    ]


if __name__ == "__main__":
    for measure in measure_observed():
        print(f"{measure.name:75} {measure.value:35} {measure.to_reach}")
