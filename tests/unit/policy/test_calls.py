"""Which edges a host and a port mean."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy import Workload
from labkit.policy.calls import predict_call, resolve_call, service_name
from tests.published.objects import peer_authentication, pod, service

WEB = {**pod("foo", "web", port=8080), "status": {"podIP": "127.64.1.1"}}
OTHER = {**pod("foo", "other", port=8080), "status": {"podIP": "127.64.2.1"}}
SERVICE = service("foo", "web", 80, 8080)
SERVICE["spec"]["clusterIP"] = "127.64.0.10"
CLIENT = Workload("bar", "curl", {"security.istio.io/tlsMode": "istio"}, injected=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("web", ("foo", "web")),
        ("web.bar", ("bar", "web")),
        ("web.bar.svc", ("bar", "web")),
        ("web.bar.svc.cluster.local", ("bar", "web")),
    ],
)
def test_a_short_name_means_the_callers_namespace(host: str, expected: tuple[str, str]) -> None:
    assert service_name(host, "foo") == expected


@pytest.mark.parametrize(
    ("host", "port", "namespace", "expected"),
    [
        pytest.param("web", 80, "foo", ("web", 8080, True), id="short name at home"),
        pytest.param("web", 80, "bar", None, id="short name elsewhere"),
        pytest.param("web.foo", 80, "bar", ("web", 8080, True), id="with its namespace"),
        pytest.param("127.64.0.10", 80, "bar", ("web", 8080, True), id="ClusterIP"),
        pytest.param("127.64.2.1", 80, "bar", ("other", 80, False), id="a pod's address, on the port as it is"),
        pytest.param("web.foo", 8080, "bar", None, id="a port that the Service has not"),
        pytest.param("example.org", 80, "bar", None, id="a name outside"),
        pytest.param("", 80, "foo", None, id="nothing"),
    ],
)
def test_resolving(host: str, port: int, namespace: str, expected: tuple[str, int, bool] | None) -> None:
    unscheduled = pod("foo", "later")  # no address yet: it must not answer to an empty host
    call = resolve_call(host, port, namespace, [SERVICE], [unscheduled, WEB, OTHER])
    found = call and (call.endpoints[0].workload.labels["app"], call.endpoints[0].port, call.by_service)
    assert found == expected


def test_a_call_to_a_pods_address_is_predicted_in_plaintext() -> None:
    strict: list[dict[str, Any]] = [peer_authentication("foo", "default", "STRICT")]
    outcomes = []
    for host in ("web.foo", "127.64.1.1"):
        call = resolve_call(host, 80 if "web" in host else 8080, "bar", [SERVICE], [WEB])
        assert call is not None
        outcomes.append(predict_call(CLIENT, call, strict).outcome)
    assert outcomes == ["mTLS", "refused"]


def test_named_target_ports_are_looked_up_in_each_pod() -> None:
    pods = []
    for number in (8080, 9090):
        one = pod("foo", "web", port=number)
        one["spec"]["containers"][0]["ports"][0]["name"] = "main"
        pods.append(one)
    call = resolve_call("web.foo", 80, "bar", [service("foo", "web", 80, "main")], pods)
    assert call is not None
    assert [endpoint.port for endpoint in call.endpoints] == [8080, 9090]
