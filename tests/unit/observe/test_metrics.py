"""Reading the pages of all proxies: through the API server, or by exec where that is not allowed; and who is silent."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.cluster import ExecResult
from labkit.errors import ClusterError, LabError, MeshError
from labkit.observe.metrics import REQUESTS, TRAFFIC, proxied_pods, scrape, scrape_istiod

Object = dict[str, Any]
PAGE = f'{REQUESTS}{{reporter="destination"}} 3\nenvoy_server_uptime{{}} 10\n'


def pod(name: str, *containers: str, namespace: str = "shop", **more: Any) -> Object:
    spec = {"containers": [{"name": each} for each in containers]}
    metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Running", **more}}


class Cluster:
    """Pods, and what each page answers: a text, or an error."""

    def __init__(self, *pods: Object, pages: dict[str, str | LabError] | None = None, by_exec: Any = None) -> None:
        self.pods, self.pages, self.by_exec = pods, pages or {}, by_exec or {}
        self.asked: list[tuple[str, int, str]] = []

    def objects(self, kind: object, namespace: str | None = None, **_: object) -> list[Object]:
        return [one for one in self.pods if namespace in (None, one["metadata"]["namespace"])]

    def proxy_get(self, name: str, namespace: str, port: int, path: str) -> str:
        self.asked.append((name, port, path))
        answer = self.pages.get(name, PAGE)
        if isinstance(answer, LabError):
            raise answer
        return answer

    def execute(self, name: str, namespace: str, command: list[str], *, container: str) -> ExecResult:
        assert container == "istio-proxy"
        answer = self.by_exec.get(name)
        if answer is None:
            raise ClusterError("exec is forbidden")
        self.asked.append((name, 0, command[-1]))
        return ExecResult(tuple(command), answer, "no socket" if not answer else "", 0 if answer else 1, 0.0)


FORBIDDEN = ClusterError("GET of pod web-1 was refused: pods/proxy is forbidden")


def read(cluster: Cluster, *namespaces: str, **options: Any) -> Any:
    return scrape(cluster, namespaces, **options)  # type: ignore[arg-type]


def test_every_proxy_is_asked_for_what_matters_alone() -> None:
    cluster = Cluster(pod("web-1", "app", "istio-proxy"), pod("gate-1", "istio-proxy"), pod("old-1", "app"))
    found = read(cluster)
    assert found.pods == ["shop/gate-1", "shop/web-1"] and not found.failed
    assert [(s.pod, s.name, s.value) for s in found.samples if s.name == REQUESTS] == [
        ("shop/web-1", REQUESTS, 3),
        ("shop/gate-1", REQUESTS, 3),
    ]
    assert {port for _, port, _ in cluster.asked} == {15090}
    path = cluster.asked[0][2]
    assert path.startswith("/stats/prometheus?usedonly&filter=istio_%28requests_total")
    assert "(" not in path and TRAFFIC[0] in path
    read(cluster, used=False)
    assert "usedonly" not in cluster.asked[-1][2]


def test_only_some_namespaces() -> None:
    cluster = Cluster(pod("a", "app", "istio-proxy"), pod("b", "app", "istio-proxy", namespace="other"))
    assert read(cluster, "other").pods == ["other/b"]
    with pytest.raises(MeshError, match="No pod in nowhere has a proxy"):
        read(cluster, "nowhere")


def test_who_may_not_use_the_proxy_subresource_asks_by_exec() -> None:
    web = pod("web-1", "app", "istio-proxy")
    cluster = Cluster(web, pages={"web-1": FORBIDDEN}, by_exec={"web-1": f"envoy_{PAGE}"})
    found = read(cluster)
    assert found.samples[0].name == REQUESTS  # without the prefix of Envoy's own page
    assert cluster.asked[-1][2].startswith("stats/prometheus?usedonly&filter=")


@pytest.mark.parametrize("by_exec", [{}, {"web-1": ""}])
def test_a_proxy_that_does_not_answer_is_named_and_the_others_count(by_exec: dict[str, str]) -> None:
    pods = (pod("web-1", "app", "istio-proxy"), pod("web-2", "app", "istio-proxy"))
    found = read(Cluster(*pods, pages={"web-1": FORBIDDEN}, by_exec=by_exec))
    assert dict(found.failed) == {"shop/web-1": FORBIDDEN.what}
    assert found.pods == ["shop/web-2"] and {s.pod for s in found.samples} == {"shop/web-2"}


def test_pods_that_end_or_have_ended_are_left_alone() -> None:
    going = pod("going", "app", "istio-proxy", metadata={"deletionTimestamp": "now"})
    done = pod("done", "app", "istio-proxy", phase="Succeeded")
    cluster = Cluster(going, done, pod("web", "app", "istio-proxy"))
    assert [one["metadata"]["name"] for one in proxied_pods(cluster)] == ["web"]  # type: ignore[arg-type]


def test_without_a_control_plane_nobody_can_be_asked() -> None:
    with pytest.raises(MeshError, match="No mesh is installed"):
        scrape_istiod(Cluster())  # type: ignore[arg-type]
