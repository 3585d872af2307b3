"""From a cluster's objects to the workloads, endpoints and verdicts of a probe."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.outcomes import Probe, RequestKind
from labkit.policy import World, workload_from_pod
from tests.published.objects import peer_authentication, pod, service

OUTSIDE = pod("default", "curl", sidecar=False)
WEB = pod("foo", "web", port=8080)
STRICT = peer_authentication("foo", "default", "STRICT")
PROBE = Probe("default/curl", "foo/web", 80)


def template(name: str, *, kind: str = "Deployment", annotations: dict[str, str] | None = None) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "kind": kind,
        "metadata": {"namespace": "foo", "name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"containers": [{"name": name, "ports": [{"containerPort": 8080, "name": "web"}]}]},
            },
        },
    }


def namespace(**labels: str) -> dict[str, Any]:
    return {
        "kind": "Namespace",
        "metadata": {"name": "foo", "labels": {k.replace("_", "-"): v for k, v in labels.items()}},
    }


def test_an_edge_is_predicted_from_objects() -> None:
    objects = [OUTSIDE, WEB, service("foo", "web", 80, 8080)]
    assert World.of(objects).predict(PROBE).outcome == "plaintext"
    verdict = World.of([*objects, STRICT]).predict(PROBE)
    assert (verdict.outcome, verdict.exit_code, verdict.probe) == ("refused", 56, PROBE)


def test_before_the_mesh_is_installed_no_policy_counts() -> None:
    objects = [OUTSIDE, WEB, service("foo", "web", 80, 8080), STRICT]
    assert World.of(objects, mesh_installed=False).predict(PROBE).outcome == "plaintext"


@pytest.mark.parametrize(
    ("target", "found"),
    [
        pytest.param(8080, True, id="number"),
        pytest.param("8080", True, id="number as text"),
        pytest.param("web", True, id="name of a container port"),
        pytest.param("nothing", False, id="name that the pod does not declare"),
    ],
)
def test_target_ports(target: int | str, found: bool) -> None:
    world = World.of([OUTSIDE, template("web"), service("foo", "web", 80, target)])
    assert (world.predict(PROBE).outcome == "plaintext") is found


def test_port_level_modes_are_keyed_by_the_container_port_and_not_by_the_services() -> None:
    objects = [OUTSIDE, WEB, service("foo", "web", 80, 8080)]
    by_service_port = peer_authentication("foo", "web", "STRICT", labels={"app": "web"}, ports={80: "DISABLE"})
    by_container_port = peer_authentication("foo", "web", "STRICT", labels={"app": "web"}, ports={8080: "DISABLE"})
    assert World.of([*objects, by_service_port]).predict(PROBE).outcome == "refused"
    assert World.of([*objects, by_container_port]).predict(PROBE).outcome == "plaintext"


INJECTION = [
    ("an unlabelled namespace", {}, None, {}, False),
    ("a labelled one", {"istio_injection": "enabled"}, None, {}, True),
    ("an annotation that refuses", {"istio_injection": "enabled"}, {"sidecar.istio.io/inject": "false"}, {}, False),
    ("a label that this revision does not answer to", {"istio_injection": "enabled"}, None, {"revision": "x"}, False),
    ("no mesh", {"istio_injection": "enabled"}, None, {"mesh_installed": False}, False),
]


@pytest.mark.parametrize(
    ("labels", "annotations", "settings", "injected"), [pytest.param(*row[1:], id=row[0]) for row in INJECTION]
)
def test_what_a_deployment_will_create_is_predicted(
    labels: dict[str, str], annotations: dict[str, str] | None, settings: dict[str, Any], injected: bool
) -> None:
    world = World.of([namespace(**labels), template("web", annotations=annotations)], **settings)
    (planned,) = world.workloads("foo")
    assert (planned.injected, planned.tls_mode == "istio") == (injected, injected)


def test_running_pods_count_and_not_what_their_deployment_would_create_today() -> None:
    world = World.of([namespace(istio_injection="enabled"), template("web"), pod("foo", "web", sidecar=False)])
    assert [one.injected for one in world.workloads("foo")] == [False]


def test_a_replicaset_of_a_deployment_is_not_counted_twice() -> None:
    owned = template("web", kind="ReplicaSet")
    owned["metadata"]["ownerReferences"] = [{"kind": "Deployment", "name": "web", "controller": True}]
    assert len(World.of([template("web"), owned]).workloads("foo")) == 1


NOT_READY = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}}
READY = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
PENDING = {"status": {"phase": "Pending"}}
DELETED = {"metadata": {**WEB["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize("change", [{"status": {"phase": "Succeeded"}}, {"status": {"phase": "Failed"}}, DELETED])
@pytest.mark.parametrize(("client", "seen"), [("default/curl", None), ("foo/client", 503)])
def test_without_a_pod_nobody_answers(change: dict[str, Any], client: str, seen: int | None) -> None:
    world = World.of([OUTSIDE, pod("foo", "client"), {**WEB, **change}, service("foo", "web", 80, 8080)])
    verdict = world.predict(Probe(client, "foo/web", 80))
    assert (verdict.outcome, verdict.http_status) == ("refused", seen)
    assert "No pod stands behind foo/web" in verdict.reason


@pytest.mark.parametrize("status", [NOT_READY, PENDING])
def test_while_no_pod_is_ready_the_policies_are_judged_all_the_same(status: dict[str, Any]) -> None:
    world = World.of([OUTSIDE, {**WEB, **status}, service("foo", "web", 80, 8080), STRICT])
    assert world.predict(PROBE).exit_code == 56


@pytest.mark.parametrize("status", [NOT_READY, PENDING])
def test_once_one_pod_is_ready_the_others_do_not_count(status: dict[str, Any]) -> None:
    naked = pod("foo", "web", port=8080, sidecar=False)
    naked["metadata"]["name"] = "web-naked"
    world = World.of([OUTSIDE, {**WEB, **READY}, {**naked, **status}, service("foo", "web", 80, 8080), STRICT])
    assert world.predict(PROBE).outcome == "refused"


def test_where_endpoints_differ_nothing_is_predicted_and_both_reasons_are_given() -> None:
    old = pod("foo", "web", port=8080, sidecar=False)
    old["metadata"]["name"] = "web-old"
    verdict = World.of([OUTSIDE, WEB, old, service("foo", "web", 80, 8080), STRICT]).predict(PROBE)
    assert verdict.outcome == "unknown"
    assert "1 of 2 plaintext, 1 of 2 refused" in verdict.reason
    assert "foo/default" in verdict.reason


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("foo/web-7d4b9-x2x4z", "web-7d4b9-x2x4z"),
        ("foo/web", "web-7d4b9-x2x4z"),
        ("foo/web-admin", "web-admin-5c8d7-pq2vz"),
        ("foo/shop", "frontend-1-a"),
    ],
)
def test_a_workload_is_found_by_pod_by_deployment_and_by_app(reference: str, name: str) -> None:
    pods = []
    for app, pod_name in (("web-admin", "web-admin-5c8d7-pq2vz"), ("web", "web-7d4b9-x2x4z"), ("shop", "frontend-1-a")):
        one = pod("foo", app)
        one["metadata"]["name"] = pod_name
        pods.append(one)
    assert World.of(pods).workload(reference).name == name


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (Probe("foo/nobody", "foo/web", 80), "web"),
        (Probe("default/curl", "foo/nothing", 80), "web"),
        (Probe("default/curl", "foo/web", 81), "80"),
        (Probe("default/curl", "elsewhere/web", 80), "none"),
    ],
)
def test_a_wrong_name_is_one_error_that_lists_what_there_is(probe: Probe, words: str) -> None:
    world = World.of([OUTSIDE, WEB, service("foo", "web", 80, 8080)])
    with pytest.raises(InputError) as caught:
        world.predict(probe)
    assert words in caught.value.next_step


def test_udp_is_not_predicted() -> None:
    world = World.of([OUTSIDE, WEB, service("foo", "web", 80, 8080, protocol="UDP")])
    assert world.predict(PROBE).outcome == "unknown"


def test_a_service_without_selector_has_no_endpoints() -> None:
    bare = service("foo", "web", 80)
    bare["spec"].pop("selector")
    assert World.of([OUTSIDE, WEB, bare]).predict(PROBE).outcome == "refused"


def test_a_headless_service_is_all_or_nothing() -> None:
    client, headless = pod("bar", "curl"), service("foo", "web", 8080)
    headless["spec"]["clusterIP"] = "None"
    old = pod("foo", "web", port=8080, sidecar=False)
    old["metadata"]["name"] = "web-old"
    probe = Probe("bar/curl", "foo/web", 8080)
    assert World.of([client, WEB, headless]).predict(probe).outcome == "mTLS"
    assert World.of([client, WEB, old, headless]).predict(probe).outcome == "plaintext"


def test_the_kind_of_request_is_the_probes() -> None:
    world = World.of([OUTSIDE, WEB, service("foo", "web", 80, 8080, "tcp")])
    assert world.predict(Probe("default/curl", "foo/web", 80, RequestKind.TLS)).outcome == "tls"


def test_the_effective_mode_of_a_workload_is_at_hand() -> None:
    world = World.of([WEB, STRICT])
    assert world.effective(world.workload("foo/web")).mode == "STRICT"


@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_a_sidecar_is_seen_in_both_lists_of_containers(where: str) -> None:
    spec: dict[str, Any] = {"containers": [{"name": "web", "ports": [{"containerPort": 80}]}]}
    spec[where] = [*spec.get(where, []), {"name": "istio-proxy", "ports": [{"containerPort": 15090}]}]
    workload = workload_from_pod({"metadata": {"namespace": "foo", "name": "x"}, "spec": spec})
    assert workload.injected
    assert [port.number for port in workload.ports] == [80]


def test_a_bare_pod_has_defaults() -> None:
    workload = workload_from_pod({})
    assert (workload.namespace, workload.service_account, workload.injected) == ("default", "default", False)
    assert workload.tls_mode == "disabled"
