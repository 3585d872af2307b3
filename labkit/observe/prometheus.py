"""Asking a Prometheus in the cluster, over its HTTP API and through the API server's service proxy.

https://prometheus.io/docs/prometheus/latest/querying/api/

The same for the pod of `manifests/addons/prometheus.yaml` and for the Prometheus of a real cluster, Istio's add-on or
another: found by its Service, or named. Nothing has to be forwarded or opened.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any

from labkit.cluster import Cluster, Obj, problems
from labkit.cluster.kinds import SERVICE
from labkit.errors import ClusterError, InputError, MeshError
from labkit.observe.objects import labels_of, name_of, namespace_of

PORT = 9090
_PORT_NAMES = ("http", "web", "http-web", "prometheus", "http-prometheus")
_OTHERS = ("operator", "alertmanager", "node-exporter", "kube-state", "pushgateway", "adapter", "blackbox", "headless")
MOST_POINTS = 11_000  # Prometheus' own limit for one series

WITHOUT = (
    "lab.metrics() and lab.rates() read the proxies themselves and answer the same questions about now; "
    "for questions about the past: lab.install_prometheus()."
)


UNDER_STRICT = (
    "The API server calls it in plaintext. If its pod has a sidecar and STRICT holds for it, the sidecar cuts that; "
    "portLevelMtls DISABLE for its port lets it in."
)


@dataclass(frozen=True)
class PrometheusServer:
    """One Prometheus, by its Service."""

    cluster: Cluster
    namespace: str
    service: str
    port: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}:{self.port}"

    def query(self, promql: str, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query: a vector's (or scalar's) samples as {"metric": labels, "value": [time, text]}."""
        params = {"query": promql, **({"time": f"{at:.3f}"} if at is not None else {})}
        data = self.ask("query", params, promql)
        if data["resultType"] in ("scalar", "string"):
            return [{"metric": {}, "value": data["result"]}]
        return list(data["result"])

    def range(self, promql: str, seconds: float, step: float, end: float | None = None) -> list[dict[str, Any]]:
        """A range query up to `end` (now): a matrix' series as {"metric": labels, "values": [[time, text], ...]}."""
        if not (seconds > 0 and step > 0 and seconds / step <= MOST_POINTS):
            raise InputError(
                f"{seconds:g} s in steps of {step:g} s is no range that Prometheus answers.",
                next_step=f"Both must be positive, and give at most {MOST_POINTS} points: range(..., minutes=10).",
            )
        end = time.time() if end is None else end
        params = {"query": promql, "start": f"{end - seconds:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        return list(self.ask("query_range", params, promql)["result"])

    def window(self) -> str:
        """Over what time rates are to be taken: four scrapes, so that one may fail. A minute when it does not say."""
        longest = max((seconds_of(str(one.get("scrapeInterval", ""))) for one in self.targets()), default=0.0)
        return f"{4 * longest:g}s" if longest else "60s"

    def targets(self) -> list[dict[str, Any]]:
        """Whom it scrapes, and how that went last."""
        return list(self.ask("targets", {"state": "active"}, "")["activeTargets"])

    def ask(self, what: str, params: dict[str, str], promql: str) -> Any:
        """One request of the HTTP API; its `data`. Raises InputError with Prometheus' words for a bad query."""
        proxy = f"/api/v1/namespaces/{self.namespace}/services/{self.service}:{self.port}/proxy"
        status, text = self.cluster.transport.reply(f"{proxy}/api/v1/{what}", params)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        if answer.get("status") == "success":
            return answer["data"]
        if "errorType" in answer:
            raise InputError(
                f"Prometheus refuses the query: {answer.get('error')}",
                meaning=f"It was asked: {promql}" if promql else "",
                next_step="PromQL: https://prometheus.io/docs/prometheus/latest/querying/basics/",
                query=promql,
            )
        if status == 503 or answer.get("kind") != "Status":
            raise ClusterError(
                f"Prometheus at {self} does not answer: {answer.get('message') or text[:200] or status}",
                meaning=UNDER_STRICT if "reset" in text else "",
                next_step=f"Look at its pod: kubectl get pods -n {self.namespace}. Meanwhile {WITHOUT}",
                status=status,
            )
        raise problems.from_status(status, answer, action=f"Asking Prometheus at {self}")


def seconds_of(duration: str) -> float:
    """Prometheus' way to write a time: 15s, 1m30s, 500ms. 0 for what is none."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    parts = re.findall(r"(\d+)(ms|s|m|h)", duration)
    return sum(float(number) * units[unit] for number, unit in parts)


def find_prometheus(cluster: Cluster, where: str = "") -> PrometheusServer:
    """The Prometheus of the cluster: `namespace/service` or `namespace/service:port`, or found.

    Raises MeshError when there is none, InputError when several could be meant.
    """
    if where:
        match = re.fullmatch(r"([^/:\s]+)/([^/:\s]+)(?::([^/:\s]+))?", where)
        if not match:
            raise InputError(
                f"{where!r} names no Prometheus.", next_step="Write 'namespace/service' or 'namespace/service:port'."
            )
        service = cluster.get(SERVICE, match[2], match[1])
        return PrometheusServer(cluster, match[1], match[2], match[3] or _port_of(service))
    found = [one for one in cluster.objects(SERVICE) if is_prometheus(one)]
    if not found:
        raise MeshError("There is no Prometheus on this cluster.", meaning=f"It is not needed: {WITHOUT}")
    best = [one for one in found if name_of(one) == "prometheus"] or found
    if len(best) > 1:
        names = ", ".join(f"'{namespace_of(one)}/{name_of(one)}'" for one in best)
        raise InputError(
            f"There are several Prometheus Services: {names}.",
            next_step="Name one: lab.prometheus('namespace/service').",
        )
    return PrometheusServer(cluster, namespace_of(best[0]), name_of(best[0]), _port_of(best[0]))


def is_prometheus(service: Obj) -> bool:
    """Whether a Service stands for a Prometheus: by the labels that charts give it, or by its name."""
    name, labels = name_of(service), labels_of(service)
    if any(other in name for other in _OTHERS):
        return False
    known = {labels.get("app.kubernetes.io/name"), labels.get("app"), name}
    return "prometheus" in known or name.endswith(("-prometheus", "prometheus-server", "prometheus-k8s"))


def _port_of(service: Obj) -> str:
    ports = service["spec"].get("ports") or []
    chosen = next((one for one in ports if one["port"] == PORT), None)
    chosen = chosen or next((one for one in ports if one.get("name") in _PORT_NAMES), None)
    chosen = chosen or (ports[0] if ports else {"port": PORT})
    return str(chosen["port"])
