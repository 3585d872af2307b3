"""Admission reviews in, responses out; and the settings of an istiod."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonpatch
import pytest

from labkit.embedded.controlplane.injection import InjectionSettings
from labkit.embedded.controlplane.settings import duration, settings_from
from labkit.embedded.controlplane.translation.model import mesh_config
from labkit.embedded.controlplane.webhooks import Counters, Webhooks, in_one_text
from labkit.errors import InputError
from tests.unit.controlplane.objects import make_policy


@pytest.fixture
def webhooks() -> Webhooks:
    return Webhooks(lambda: InjectionSettings("default"), Counters())


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"generateName": "x-", "labels": {}}, "spec": {"containers": [{"name": "a"}], **spec}}


def test_a_selected_pod_gets_a_patch_that_applies(webhooks: Webhooks) -> None:
    original = pod()
    answer = webhooks.review_injection({"object": original, "namespace": "foo"})
    assert answer["allowed"] and answer["patchType"] == "JSONPatch"
    patched = jsonpatch.apply_patch(original, json.loads(base64.b64decode(answer["patch"])))
    assert [container["name"] for container in patched["spec"]["containers"]] == ["a", "istio-proxy"]


def test_a_proxy_without_an_image_is_completed_and_an_unknown_template_refused(webhooks: Webhooks) -> None:
    original = pod(containers=[{"name": "istio-proxy", "image": "auto"}])
    original["metadata"]["annotations"] = {"inject.istio.io/templates": "gateway"}
    answer = webhooks.review_injection({"object": original, "namespace": "foo"})
    patched = jsonpatch.apply_patch(original, json.loads(base64.b64decode(answer["patch"])))
    (proxy,) = patched["spec"]["containers"]
    assert proxy["image"] != "auto"
    original["metadata"]["annotations"] = {"inject.istio.io/templates": "mine"}
    refused = webhooks.review_injection({"object": original, "namespace": "foo"})
    assert not refused["allowed"]
    assert 'requested template "mine" not found' in refused["status"]["message"]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"object": pod(hostNetwork=True), "namespace": "foo"}, "host network"),
        ({"object": pod(), "namespace": "kube-system"}, "a namespace of Kubernetes"),
        ({"object": pod(containers=[{"name": "istio-proxy"}]), "namespace": "foo"}, "injected already"),
        (
            {
                "object": {"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}, "spec": pod()["spec"]},
                "namespace": "foo",
            },
            "refused by annotation",
        ),
    ],
)
def test_a_pod_may_be_left_as_it_is(webhooks: Webhooks, request_: dict[str, Any], why: str) -> None:
    assert webhooks.review_injection(request_) == {"allowed": True}, why


def review(obj: dict[str, Any], operation: str = "CREATE") -> dict[str, Any]:
    return {"object": obj, "operation": operation, "kind": {"kind": "PeerAuthentication"}}


def test_a_valid_policy_passes(webhooks: Webhooks) -> None:
    assert webhooks.review_validation(review(make_policy("STRICT"))) == {"allowed": True}


def test_an_invalid_policy_is_refused_in_istios_words(webhooks: Webhooks) -> None:
    answer = webhooks.review_validation(review(make_policy("STRICT", ports={8080: "DISABLE"})))
    assert not answer["allowed"]
    assert answer["status"]["message"] == (
        "configuration is invalid: mesh/namespace peer authentication cannot have port level mTLS"
    )


def test_a_selector_without_labels_passes_with_a_warning(webhooks: Webhooks) -> None:
    policy = {**make_policy("STRICT"), "spec": {"selector": {}}}
    answer = webhooks.review_validation(review(policy))
    assert answer == {"allowed": True, "warnings": ["workload selector specified without labels"]}


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
def test_deleting_is_never_refused(webhooks: Webhooks, operation: str) -> None:
    invalid = make_policy("STRICT", ports={8080: "DISABLE"})
    assert webhooks.review_validation(review(invalid, operation)) == {"allowed": True}


def test_several_errors_are_listed_as_istio_lists_them() -> None:
    assert in_one_text(("one",)) == "one"
    assert in_one_text(("one", "two")) == "2 errors occurred:\n\t* one\n\t* two\n\n"


@pytest.mark.parametrize(("text", "hours"), [("24h", 24), ("90m", 1.5), ("1h30m", 1.5), ("3600s", 1), ("0.5h", 0.5)])
def test_durations_are_written_as_go_writes_them(text: str, hours: float) -> None:
    assert duration(text, "TTL") == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "24", "h", "1d", "24h ", "0s", "-1h"])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="TTL"):
        duration(text, "TTL")


ENVIRONMENT = {
    "POD_NAMESPACE": "istio-system",
    "POD_IP": "127.1.2.3",
    "KUBECONFIG": "/k",
    "POD_ROOT": "/root",
    "POD_RUN": "/run/p/3",
}


def test_an_istiod_reads_its_environment() -> None:
    settings = settings_from({**ENVIRONMENT, "REVISION": "asm-1-24", "ISTIOD_SERVICE": "istiod-asm-1-24"})
    assert settings.xds_root == Path("/root/var/run/istio/xds")
    assert settings.xds_socket == Path("/run/p/xds.sock")
    assert settings.mesh_config_name == "istio-asm-1-24"
    assert settings.service_names[0] == "istiod-asm-1-24.istio-system.svc"
    assert settings_from(ENVIRONMENT).mesh_config_name == "istio"


def test_an_istiod_outside_of_a_pod_says_what_it_lacks() -> None:
    with pytest.raises(InputError, match="KUBECONFIG"):
        settings_from({"POD_NAMESPACE": "x", "POD_IP": "y"})


def test_the_mesh_settings_have_istios_defaults() -> None:
    mesh = mesh_config({}, root_namespace="aks-istio-system")
    assert (mesh.root_namespace, mesh.trust_domain, mesh.auto_mtls) == ("aks-istio-system", "cluster.local", True)
    assert mesh.minimum_tls == "TLSv1_2"


def test_the_mesh_settings_can_be_changed() -> None:
    values = {
        "trustDomain": "example.org",
        "trustDomainAliases": ["old"],
        "enableAutoMtls": False,
        "meshMTLS": {"minProtocolVersion": "TLSV1_3"},
        "accessLogFile": "",
    }
    mesh = mesh_config(values, root_namespace="r")
    assert (mesh.trust_domain, mesh.trust_domain_aliases, mesh.auto_mtls) == ("example.org", ("old",), False)
    assert (mesh.minimum_tls, mesh.access_log_file) == ("TLSv1_3", "")
