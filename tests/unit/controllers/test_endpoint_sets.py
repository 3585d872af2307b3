"""Which pods stand behind a Service, in Endpoints and in EndpointSlices."""

import pytest

from labkit.embedded.controllers.endpoint_sets import make_endpoints, make_slices, selected_pods, slice_ports


def service(*, selector=None, ports=None, **spec):
    return {
        "metadata": {"name": "web", "namespace": "shop", "uid": "s1", "labels": {"team": "a"}},
        "spec": {
            "selector": {"app": "web"} if selector is None else selector,
            "ports": ports if ports is not None else [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
            "clusterIP": "127.80.0.10",
            **spec,
        },
    }


def pod(
    name="p1", *, ip="127.80.1.1", ready=True, leaving=False, phase="Running", namespace="shop", ports=(), **labels
):
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": labels or {"app": "web"},
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {}),
        },
        "spec": {"nodeName": "node", "containers": [{"name": "a", "ports": list(ports)}]},
        "status": {
            "phase": phase,
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


@pytest.mark.parametrize(
    ("candidate", "chosen"),
    [
        pytest.param(pod(), True, id="labels match"),
        pytest.param(pod(app="web", tier="x"), True, id="more labels than asked for"),
        pytest.param(pod(app="other"), False, id="another value"),
        pytest.param(pod(namespace="elsewhere"), False, id="another namespace"),
        pytest.param(pod(ip=None), False, id="no address yet"),
        pytest.param(pod(phase="Succeeded"), False, id="finished"),
        pytest.param(pod(phase="Failed"), False, id="failed"),
        pytest.param(pod(ready=False), True, id="not ready is listed"),
    ],
)
def test_pods_behind_a_service(candidate, chosen):
    assert bool(selected_pods(service(), [candidate])) is chosen


def test_a_service_without_selector_selects_nothing():
    assert selected_pods(service(selector={}), [pod()]) == []


@pytest.mark.parametrize(
    ("spec", "candidate", "conditions"),
    [
        pytest.param({}, pod(), (True, True, False), id="ready"),
        pytest.param({}, pod(ready=False), (False, False, False), id="not ready"),
        pytest.param({}, pod(leaving=True), (False, True, True), id="leaving, still serving"),
        pytest.param(
            {"publishNotReadyAddresses": True}, pod(ready=False), (True, True, False), id="published though not ready"
        ),
    ],
)
def test_conditions_of_an_endpoint(spec, candidate, conditions):
    (endpoint_slice,) = make_slices(service(**spec), [candidate]).values()
    (endpoint,) = endpoint_slice["endpoints"]
    assert tuple(endpoint["conditions"][key] for key in ("ready", "serving", "terminating")) == conditions


def test_a_slice_is_found_by_label_and_goes_with_its_service():
    (made,) = make_slices(service(), [pod()]).values()
    assert made["metadata"]["generateName"] == "web-"
    assert made["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["metadata"]["ownerReferences"][0]["uid"] == "s1"
    assert made["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert made["endpoints"][0]["targetRef"] == {"kind": "Pod", "name": "p1", "namespace": "shop", "uid": "uid-p1"}


def test_a_service_without_pods_has_an_empty_slice():
    (made,) = make_slices(service(), []).values()
    assert (made["endpoints"], made["ports"]) == ([], [])


def test_a_named_target_port_is_looked_up_in_each_pod():
    named = service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    pods = [
        pod("p1", ip="127.80.1.1", ports=[{"name": "web", "containerPort": 8080}]),
        pod("p2", ip="127.80.2.1", ports=[{"name": "web", "containerPort": 9090}]),
        pod("p3", ip="127.80.3.1", ports=[{"name": "other", "containerPort": 7070}]),
    ]
    slices = make_slices(named, pods)
    assert {ports[0][:2]: [e["addresses"] for e in s["endpoints"]] for ports, s in slices.items()} == {
        ("http", 8080): [["127.80.1.1"]],
        ("http", 9090): [["127.80.2.1"]],
    }
    assert all(slice_ports(made) == ports for ports, made in slices.items())
    assert [subset["ports"][0]["port"] for subset in make_endpoints(named, pods)["subsets"]] == [8080, 9090]


def test_a_target_port_defaults_to_the_port():
    (made,) = make_slices(service(ports=[{"port": 5000}]), [pod()]).values()
    assert made["ports"][0]["port"] == 5000


def test_endpoints_separate_the_ready_from_the_rest_and_leave_out_the_leaving():
    pods = [pod("p1", ip="1"), pod("p2", ip="2", ready=False), pod("p3", ip="3", leaving=True)]
    (subset,) = make_endpoints(service(), pods)["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["1"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["2"]
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]


def test_endpoints_without_pods_have_no_subsets():
    assert "subsets" not in make_endpoints(service(), [])


def test_a_headless_service_is_marked():
    headless = service(clusterIP="None")
    assert "service.kubernetes.io/headless" in make_endpoints(headless, [])["metadata"]["labels"]
    assert "service.kubernetes.io/headless" not in make_endpoints(service(), [])["metadata"]["labels"]


def test_the_order_of_pods_changes_nothing():
    pods = [pod("p1", ip="1"), pod("p2", ip="2")]
    assert make_slices(service(), pods) == make_slices(service(), pods[::-1])
