"""What a pod looks like after injection."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import jsonpatch
import pytest

from labkit.embedded.controlplane.injection import (
    CONFIG_ANNOTATION,
    InjectionSettings,
    inject,
    injection_settings,
    make_patch,
)
from labkit.errors import InputError
from labkit.policy.proxy_config import ProxyConfig, parse_proxy_config, read_proxy_settings

SETTINGS = InjectionSettings("default")


def plain_pod(**metadata: Any) -> dict[str, Any]:
    """A pod as a ReplicaSet makes it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "web-5d4f-",
            "labels": {"app": "shop", "pod-template-hash": "5d4f"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "controller": True}
            ],
            **metadata,
        },
        "spec": {
            "containers": [
                {
                    "name": "web",
                    "image": "chatfrontend",
                    "ports": [{"containerPort": 80, "name": "http"}],
                    "readinessProbe": {"httpGet": {"path": "/ok", "port": "http"}, "periodSeconds": 5},
                    "livenessProbe": {"exec": {"command": ["true"]}},
                },
                {"name": "db", "image": "python", "livenessProbe": {"tcpSocket": {"port": 5432}, "timeoutSeconds": 4}},
            ],
            "initContainers": [{"name": "prepare", "image": "busybox"}],
        },
    }


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    spec = pod["spec"]
    return next(c for c in [*spec["initContainers"], *spec["containers"]] if c["name"] == name)


def environment(pod: dict[str, Any]) -> dict[str, Any]:
    return {e["name"]: e.get("value") for e in container(pod, "istio-proxy")["env"]}


def test_the_proxy_comes_last_and_the_redirection_after_the_pods_own_preparation() -> None:
    pod = inject(plain_pod(), "foo", SETTINGS)
    assert [c["name"] for c in pod["spec"]["initContainers"]] == ["prepare", "istio-init"]
    assert [c["name"] for c in pod["spec"]["containers"]] == ["web", "db", "istio-proxy"]


def test_labels_and_annotations_are_those_of_istio() -> None:
    metadata = inject(plain_pod(), "foo", InjectionSettings("asm-1-24"))["metadata"]
    assert metadata["labels"] == {
        "app": "shop",
        "pod-template-hash": "5d4f",
        "security.istio.io/tlsMode": "istio",
        "service.istio.io/canonical-name": "shop",
        "service.istio.io/canonical-revision": "latest",
    }
    annotations = metadata["annotations"]
    assert annotations["istio.io/rev"] == "asm-1-24"
    assert annotations["kubectl.kubernetes.io/default-container"] == "web"
    assert annotations["prometheus.io/port"] == "15020"
    status = json.loads(annotations["sidecar.istio.io/status"])
    assert (status["initContainers"], status["containers"]) == (["istio-init"], ["istio-proxy"])
    assert status["revision"] == "asm-1-24"


def test_labels_that_the_pod_has_are_kept() -> None:
    """Twin of the one above: a preset tlsMode is how a user says that clients must not use mTLS."""
    pod = plain_pod(labels={"security.istio.io/tlsMode": "disabled", "version": "v2", "app.kubernetes.io/name": "n"})
    labels = inject(pod, "foo", SETTINGS)["metadata"]["labels"]
    assert labels["security.istio.io/tlsMode"] == "disabled"
    assert labels["service.istio.io/canonical-name"] == "n"
    assert labels["service.istio.io/canonical-revision"] == "v2"


def test_probes_ask_the_proxy_which_knows_where_to_ask() -> None:
    pod = inject(plain_pod(), "foo", SETTINGS)
    assert container(pod, "web")["readinessProbe"] == {
        "httpGet": {"path": "/app-health/web/readyz", "port": 15020, "scheme": "HTTP"},
        "periodSeconds": 5,
    }
    assert container(pod, "db")["livenessProbe"]["httpGet"]["path"] == "/app-health/db/livez"
    assert json.loads(environment(pod)["ISTIO_KUBE_APP_PROBERS"]) == {
        "/app-health/web/readyz": {"httpGet": {"path": "/ok", "port": 80}, "timeoutSeconds": 1},
        "/app-health/db/livez": {"tcpSocket": {"port": 5432}, "timeoutSeconds": 4},
    }


def test_exec_probes_stay_as_they_are() -> None:
    pod = inject(plain_pod(), "foo", SETTINGS)
    assert container(pod, "web")["livenessProbe"] == {"exec": {"command": ["true"]}}


def test_rewriting_of_probes_can_be_refused() -> None:
    pod = inject(plain_pod(annotations={"sidecar.istio.io/rewriteAppHTTPProbers": "false"}), "foo", SETTINGS)
    assert container(pod, "web")["readinessProbe"]["httpGet"] == {"path": "/ok", "port": "http"}
    assert "ISTIO_KUBE_APP_PROBERS" not in environment(pod)


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ({}, "web"),
        ({"ownerReferences": [], "generateName": "", "name": "alone"}, "alone"),
        ({"ownerReferences": [{"kind": "Job", "name": "j", "apiVersion": "batch/v1", "controller": True}]}, "j"),
    ],
)
def test_a_workload_is_named_after_what_made_it(metadata: dict[str, Any], name: str) -> None:
    pod = inject(plain_pod(**metadata), "foo", SETTINGS)
    assert environment(pod)["ISTIO_META_WORKLOAD_NAME"] == name


def test_the_redirection_spares_the_proxys_ports_and_those_that_the_pod_names() -> None:
    pod = inject(plain_pod(annotations={"traffic.sidecar.istio.io/excludeInboundPorts": "9090, 9091"}), "foo", SETTINGS)
    args = container(pod, "istio-init")["args"]
    assert args[args.index("-d") + 1] == "15090,15021,15020,9090,9091"
    assert args[args.index("-x") + 1] == ""


def test_the_log_level_of_one_proxy_can_be_set_on_its_pod() -> None:
    pod = inject(plain_pod(annotations={"sidecar.istio.io/logLevel": "debug"}), "foo", SETTINGS)
    assert "--proxyLogLevel=debug" in container(pod, "istio-proxy")["args"]


def test_the_patch_makes_the_injected_pod_from_the_original() -> None:
    original = plain_pod()
    injected = inject(original, "foo", SETTINGS)
    assert jsonpatch.apply_patch(original, make_patch(original, injected)) == injected


def test_injecting_does_not_change_what_it_was_given() -> None:
    original = plain_pod()
    kept = copy.deepcopy(original)
    inject(original, "foo", SETTINGS)
    assert original == kept


def test_a_pod_without_labels_and_lists_can_be_injected() -> None:
    bare = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a", "image": "pause"}]}}
    injected = inject(bare, "foo", SETTINGS)
    assert jsonpatch.apply_patch(bare, make_patch(bare, injected)) == injected
    assert [c["name"] for c in injected["spec"]["initContainers"]] == ["istio-init"]


def test_the_injectors_values_choose_image_and_log_level() -> None:
    values = {"global": {"proxy": {"image": "registry/proxyv2:9", "logLevel": "info"}}}
    settings = injection_settings(values, revision="r")
    assert (settings.image, settings.log_level, settings.revision) == ("registry/proxyv2:9", "info", "r")
    assert injection_settings({}, revision="r").image == SETTINGS.image


def mesh_settings(**config: Any) -> InjectionSettings:
    return dataclasses.replace(SETTINGS, proxy=read_proxy_settings(config))


def test_the_proxy_comes_first_and_holds_the_others_back_if_the_mesh_wants_it() -> None:
    pod = inject(plain_pod(), "foo", mesh_settings(holdApplicationUntilProxyStarts=True))
    assert [c["name"] for c in pod["spec"]["containers"]] == ["istio-proxy", "web", "db"]
    hook = container(pod, "istio-proxy")["lifecycle"]["postStart"]["exec"]["command"]
    assert hook == ["pilot-agent", "wait"]
    default = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"]
    assert default == "web", "kubectl exec still goes to the application"
    assert "lifecycle" not in container(inject(plain_pod(), "foo", SETTINGS), "istio-proxy")


def test_the_pods_annotation_overrides_the_mesh_and_keeps_what_it_does_not_name() -> None:
    mesh = mesh_settings(concurrency=2, proxyMetadata={"A": "mesh", "B": "mesh"})
    pod = inject(plain_pod(annotations={CONFIG_ANNOTATION: "proxyMetadata: {B: pod}"}), "foo", mesh)
    assert environment(pod)["A"] == "mesh"
    assert environment(pod)["B"] == "pod"
    assert json.loads(environment(pod)["PROXY_CONFIG"])["concurrency"] == 2
    args = container(pod, "istio-proxy")["args"]
    assert args[args.index("--concurrency") + 1] == "2"


def test_an_annotation_that_is_no_yaml_is_refused_with_its_name() -> None:
    with pytest.raises(InputError, match=r"proxy\.istio\.io/config"):
        inject(plain_pod(annotations={CONFIG_ANNOTATION: "{"}), "foo", SETTINGS)


def config(namespace: str, name: str, *, labels: dict[str, str] | None = None, **spec: Any) -> ProxyConfig:
    if labels:
        spec["selector"] = {"matchLabels": labels}
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-0{len(name)}T00:00:00Z"}
    return parse_proxy_config({"metadata": metadata, "spec": spec})


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ((), 7),
        ((config("istio-system", "a", concurrency=1),), 1),
        ((config("istio-system", "a", concurrency=1), config("foo", "a", concurrency=2)), 2),
        ((config("foo", "a", concurrency=2), config("foo", "a", labels={"app": "shop"}, concurrency=3)), 3),
        ((config("foo", "a", labels={"app": "other"}, concurrency=3),), 7),
        ((config("bar", "a", concurrency=3),), 7),
        ((config("istio-system", "a", labels={"app": "shop"}, concurrency=3),), 7),
        ((config("foo", "bb", concurrency=4), config("foo", "a", concurrency=5)), 5),
        ((config("foo", "a", environmentVariables={"X": "y"}),), 7),
        ((config("foo", "a", concurrency=0),), 0),
    ],
    ids=[
        "none",
        "of the mesh",
        "of the namespace",
        "of the workload",
        "of another workload",
        "of another namespace",
        "a selector in the root namespace is ignored",
        "the oldest",
        "one that does not speak of it",
        "zero is a value",
    ],
)
def test_the_narrowest_proxyconfig_that_speaks_decides(configs: tuple[ProxyConfig, ...], expected: int) -> None:
    settings = dataclasses.replace(mesh_settings(concurrency=7), proxy_configs=configs)
    pod = inject(plain_pod(), "foo", settings)
    assert json.loads(environment(pod)["PROXY_CONFIG"])["concurrency"] == expected


MERGED = {"prometheus.io/scrape": "true", "prometheus.io/port": "15020", "prometheus.io/path": "/stats/prometheus"}


@pytest.mark.parametrize(
    ("own", "afterwards", "told"),
    [
        ({}, MERGED, None),
        (
            {"prometheus.io/scrape": "true", "prometheus.io/port": "80", "prometheus.io/path": "/m"},
            MERGED,
            {"scrape": "true", "port": "80", "path": "/m"},
        ),
        ({"prometheus.io/port": "80"}, MERGED, {"port": "80"}),
        ({"prometheus.io/scrape": "false"}, {"prometheus.io/scrape": "false"}, None),
        (
            {"prometheus.io/port": "80", "prometheus.istio.io/merge-metrics": "false"},
            {"prometheus.io/port": "80"},
            None,
        ),
    ],
)
def test_the_applications_metrics_are_merged_unless_it_wants_none(
    own: dict[str, str], afterwards: dict[str, str], told: dict[str, str] | None
) -> None:
    pod = inject(plain_pod(annotations=own), "foo", SETTINGS)
    annotations = pod["metadata"]["annotations"]
    assert {name: value for name, value in annotations.items() if name.startswith("prometheus.io/")} == afterwards
    written = environment(pod).get("ISTIO_PROMETHEUS_ANNOTATIONS")
    assert (json.loads(written) if written else None) == told


# Gateways


def gateway_pod(**container: Any) -> dict[str, Any]:
    """What Helm's chart `gateway` writes."""
    own = {"name": "istio-proxy", "image": "auto", "ports": [{"containerPort": 15090, "name": "http-envoy-prom"}]}
    return {
        "metadata": {
            "labels": {"app": "door", "istio": "door", "sidecar.istio.io/inject": "true"},
            "annotations": {
                "inject.istio.io/templates": "gateway",
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "15020",
                "prometheus.io/path": "/stats/prometheus",
            },
        },
        "spec": {"serviceAccountName": "door", "containers": [{**own, **container}]},
    }


def test_a_gateways_proxy_stands_alone() -> None:
    pod = inject(gateway_pod(), "edge", SETTINGS)
    (proxy,) = pod["spec"]["containers"]
    assert "initContainers" not in pod["spec"]
    assert proxy["image"] == SETTINGS.image
    assert proxy["args"][:2] == ["proxy", "router"]
    assert proxy["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}
    assert [port["containerPort"] for port in proxy["ports"]] == [15090]
    labels = pod["metadata"]["labels"]
    assert "security.istio.io/tlsMode" not in labels, "nobody speaks mTLS to its own ports"
    assert (labels["istio.io/rev"], labels["service.istio.io/canonical-name"]) == ("default", "door")
    variables = {one["name"] for one in proxy["env"]}
    assert {"POD_NAME", "INSTANCE_IP"} <= variables
    assert "ISTIO_PROMETHEUS_ANNOTATIONS" not in variables, "port 15020 is the proxy's own already"


def test_what_the_pod_says_of_its_proxy_goes_before_the_template() -> None:
    own = {
        "env": [{"name": "ISTIO_META_X", "value": "1"}, {"name": "TRUST_DOMAIN", "value": "mine"}],
        "resources": {"limits": {"cpu": "1"}},
        "readinessProbe": {"periodSeconds": 1},
        "securityContext": {"runAsUser": 1337},
    }
    (proxy,) = inject(gateway_pod(**own), "edge", SETTINGS)["spec"]["containers"]
    values = {one["name"]: one.get("value") for one in proxy["env"]}
    assert (values["ISTIO_META_X"], values["TRUST_DOMAIN"]) == ("1", "mine")
    assert proxy["resources"] == own["resources"]
    assert proxy["readinessProbe"]["periodSeconds"] == 1
    assert proxy["readinessProbe"]["httpGet"]["port"] == 15021
    assert inject(gateway_pod(image="mine:1"), "edge", SETTINGS)["spec"]["containers"][0]["image"] == "mine:1"


def test_a_sidecar_can_be_customized_in_the_same_way() -> None:
    pod = plain_pod()
    pod["spec"]["containers"].append({"name": "istio-proxy", "image": "auto", "resources": {"limits": {"cpu": "3"}}})
    injected = inject(pod, "foo", SETTINGS)
    assert [one["name"] for one in injected["spec"]["containers"]] == ["web", "db", "istio-proxy"]
    proxy = container(injected, "istio-proxy")
    assert proxy["image"] == SETTINGS.image
    assert proxy["resources"] == {
        "requests": {"cpu": "100m", "memory": "128Mi"},
        "limits": {"cpu": "3", "memory": "1Gi"},
    }
    assert proxy["args"][:2] == ["proxy", "sidecar"]


def test_a_template_that_does_not_exist_is_refused_in_istios_words() -> None:
    pod = gateway_pod()
    pod["metadata"]["annotations"]["inject.istio.io/templates"] = "gateway,mine"
    with pytest.raises(InputError, match='requested template "mine" not found; have gateway, sidecar'):
        inject(pod, "edge", SETTINGS)
