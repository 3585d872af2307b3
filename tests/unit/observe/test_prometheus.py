"""Which Service is a Prometheus, what its answers become, and what is said when it cannot be asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labkit.errors import ClusterError, InputError, LabError, MachineError, MeshError
from labkit.installers.prometheus import missing
from labkit.observe.prometheus import PrometheusServer, find_prometheus, is_prometheus, seconds_of
from labkit.views.prometheus import Prometheus

Object = dict[str, Any]


def service(name: str, namespace: str = "monitoring", *ports: Object, **labels: str) -> Object:
    found = [*ports] or [{"name": "http", "port": 9090}]
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": {"ports": found}}


class Cluster:
    """A cluster of some Services, behind one of which somebody answers."""

    name = "test"

    def __init__(self, *services: Object, status: int = 200, text: str = "") -> None:
        self.services, self.status, self.text = services, status, text
        self.asked: list[tuple[str, dict[str, str] | None]] = []
        self.transport = self

    def objects(self, _: object) -> list[Object]:
        return list(self.services)

    def get(self, _: object, name: str, namespace: str) -> Object:
        return next(
            s for s in self.services if (s["metadata"]["name"], s["metadata"]["namespace"]) == (name, namespace)
        )

    def reply(self, path: str, params: dict[str, str] | None = None) -> tuple[int, str]:
        self.asked.append((path, params))
        return self.status, self.text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (service("prometheus", "istio-system"), True),
        (service("prometheus-server"), True),
        (service("prometheus-k8s"), True),
        (service("kube-prometheus-stack-prometheus", app="kube-prometheus-stack-prometheus"), True),
        (service("metrics", **{"app.kubernetes.io/name": "prometheus"}), True),
        (service("prometheus-operator"), False),
        (service("prometheus-alertmanager"), False),
        (service("prometheus-prometheus-node-exporter"), False),
        (service("grafana"), False),
    ],
)
def test_a_prometheus_is_told_by_labels_and_name(found: Object, expected: bool) -> None:
    assert is_prometheus(found) is expected


def test_the_one_that_is_there_is_found_and_one_of_several_must_be_named() -> None:
    assert str(find_prometheus(Cluster(service("prometheus-server"), service("grafana")))) == (  # type: ignore[arg-type]
        "monitoring/prometheus-server:9090"
    )
    ports = ({"name": "reloader", "port": 8080}, {"name": "web", "port": 80})
    two = Cluster(service("prometheus", "a"), service("prometheus", "b", *ports))
    with pytest.raises(InputError, match="'a/prometheus', 'b/prometheus'"):
        find_prometheus(two)  # type: ignore[arg-type]
    assert find_prometheus(two, "b/prometheus").port == "80"  # type: ignore[arg-type]
    assert find_prometheus(two, "b/prometheus:reloader").port == "reloader"  # type: ignore[arg-type]
    with pytest.raises(InputError, match="names no Prometheus"):
        find_prometheus(two, "prometheus")  # type: ignore[arg-type]


def test_without_one_the_message_says_what_there_is_instead() -> None:
    with pytest.raises(MeshError) as told:
        find_prometheus(Cluster())  # type: ignore[arg-type]
    assert "lab.metrics()" in str(told.value) and "lab.install_prometheus()" in str(told.value)


def asked(text: object, status: int = 200) -> Prometheus:
    cluster = Cluster(status=status, text=text if isinstance(text, str) else json.dumps(text))
    return Prometheus(PrometheusServer(cluster, "istio-system", "prometheus", "9090"))  # type: ignore[arg-type]


def success(kind: str, result: object) -> Object:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def test_a_vector_a_scalar_and_a_matrix_become_frames() -> None:
    vector = [{"metric": {"b": "1", "a": "2"}, "value": [1.0, "3"]}, {"metric": {"a": "x"}, "value": [1.0, "NaN"]}]
    frame = asked(success("vector", vector)).query("up")
    assert list(frame.columns) == ["a", "b", "value"]
    assert frame.iloc[1][["a", "b"]].tolist() == ["x", ""] and frame["value"].isna().tolist() == [False, True]
    assert asked(success("scalar", [1.0, "2"])).query("1+1")["value"].tolist() == [2.0]
    assert not len(asked(success("vector", [])).query("nothing"))
    matrix = [{"metric": {"job": "a"}, "values": [[10, "1"], [15, "2"]]}]
    frame = asked(success("matrix", matrix)).range("up", minutes=1, step=5)
    assert frame["value"].tolist() == [1.0, 2.0] and str(frame["time"].dtype).startswith("datetime64")
    assert not len(asked(success("matrix", [])).range("up"))


@pytest.mark.parametrize(
    ("written", "seconds"), [("5s", 5), ("1m", 60), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("", 0), ("often", 0)]
)
def test_times_as_prometheus_writes_them(written: str, seconds: float) -> None:
    assert seconds_of(written) == seconds


def test_rates_are_taken_over_four_scrapes() -> None:
    targets = [{"scrapeInterval": "5s"}, {"scrapeInterval": "15s"}]
    found = asked({"status": "success", "data": {"activeTargets": targets}})
    assert found.server.window() == "60s"
    assert asked({"status": "success", "data": {"activeTargets": targets[:1]}}).server.window() == "20s"
    assert asked({"status": "success", "data": {"activeTargets": []}}).server.window() == "60s"


def test_a_range_is_asked_for_in_steps_that_prometheus_answers() -> None:
    found = asked(success("matrix", []))
    found.range("up", minutes=4, end=1000.0)
    [(path, params)] = found.server.cluster.asked  # type: ignore[attr-defined]
    assert path == "/api/v1/namespaces/istio-system/services/prometheus:9090/proxy/api/v1/query_range"
    assert params == {"query": "up", "start": "760.000", "end": "1000.000", "step": "1"}
    for wrong in ({"minutes": 0}, {"minutes": 600, "step": 1}, {"step": -1}):
        with pytest.raises(InputError, match="no range"):
            found.range("up", **wrong)


@pytest.mark.parametrize(
    ("status", "text", "kind", "words"),
    [
        (400, {"status": "error", "errorType": "bad_data", "error": "unclosed"}, InputError, "unclosed"),
        (503, {"kind": "Status", "message": "no endpoints available"}, ClusterError, "no endpoints available"),
        (503, {"kind": "Status", "message": "read: connection reset by peer"}, ClusterError, "portLevelMtls DISABLE"),
        (200, "<html>", ClusterError, "does not answer"),
        (403, {"kind": "Status", "message": "services/proxy is forbidden"}, ClusterError, "forbidden"),
    ],
)
def test_what_goes_wrong_is_said_in_its_own_words(status: int, text: Any, kind: type[LabError], words: str) -> None:
    with pytest.raises(kind) as told:
        asked(text, status).query("sum(")
    assert words in str(told.value)


def state(ready: bool = False, restarts: int = 0, **terminated: Any) -> Object:
    last = {"terminated": terminated} if terminated else {}
    return {
        "metadata": {},
        "status": {"containerStatuses": [{"ready": ready, "restartCount": restarts, "lastState": last}]},
    }


def test_waiting_ends_at_once_when_there_is_no_program() -> None:
    words = "This machine has no program 'prometheus'.\n  What it means: no images here."
    with pytest.raises(MachineError) as told:
        missing([state(restarts=1, exitCode=127, message=words)])
    assert "no program 'prometheus'" in told.value.what and told.value.meaning == "no images here."
    assert "lab.metrics()" in told.value.next_step
    with pytest.raises(MeshError, match="exit code 1, 3 times"):
        missing([state(restarts=3, exitCode=1, message="bad configuration")])


def test_waiting_goes_on_while_it_starts_and_ends_when_it_is_ready() -> None:
    assert missing([]) and missing([state()]) and missing([state(restarts=1, exitCode=1)])
    assert not missing([state(ready=True)])
    leaving = state(ready=True)
    leaving["metadata"]["deletionTimestamp"] = "now"
    assert missing([leaving])
