"""The lab on a real embedded cluster: worlds, probes, checks, and the way back. Every positive has its twin."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator

import pytest

import labkit
from labkit.checks import CheckResult
from labkit.cluster.opening import embedded_lifecycle
from labkit.errors import InputError, MeshError
from labkit.lab import Lab
from labkit.outcomes import Outcome
from labkit.views.map import EdgeState
from tests.programs import program

pytestmark = pytest.mark.timeout(120)

CLUSTER = "labtest"
URL = "http://chatbackend-service.azureopenai:5000/chat"
OUTSIDE, INSIDE, BACKEND = "default/curl-outside", "azureopenai/chatfrontend", "azureopenai/chatbackend"
MESSAGE = {"message": "hello"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    said: list[str] = []
    with labkit.open(f"embedded:{CLUSTER}", narrate=said.append) as lab:
        assert len(said) <= 4
        yield lab
    embedded_lifecycle().down(CLUSTER, purge=True)


@pytest.fixture
def chat(lab: Lab) -> Lab:
    """The chat application in the mesh, without policies."""
    lab.world("03")
    return lab


def passed(lab: Lab, name: str, *evidence: object) -> bool:
    result = lab.check(name, *evidence)
    assert isinstance(result, CheckResult)
    return result.passed


def contents(lab: Lab) -> set[str]:
    namespaces = {f"namespace/{name}" for name in lab.namespaces()["NAME"]}
    return namespaces | set(lab.pods()["NAME"]) | set(lab.deployments()["NAME"]) | set(lab.mesh_status().kinds)


def test_a_fresh_cluster_answers_and_has_no_mesh(lab: Lab) -> None:
    lab.world("00")
    assert passed(lab, "00-cluster-answers") and passed(lab, "00-no-mesh") and passed(lab, "01-kind-unknown")
    assert not passed(lab, "01-mesh-installed")
    assert "embedded" in repr(lab) or CLUSTER in repr(lab)
    with pytest.raises(MeshError, match="does not know the kind PeerAuthentication"):
        lab.set_mtls_mode("STRICT", "default")


def test_every_world_is_reached_from_every_other_and_left_again(lab: Lab) -> None:
    lab.leave()
    lab.world("00")
    empty = contents(lab)
    for lesson in ("03", "01", "02", "04", "00", "03"):
        lab.world(lesson)
        status = lab.mesh_status()
        assert status.ready is (lesson not in ("00", "01"))
        assert ("namespace/azureopenai" in contents(lab)) is (lesson in ("03", "04"))
    assert "nothing had to be changed" in str(lab.world("03"))
    lab.leave()
    assert contents(lab) == empty


def test_a_world_repairs_what_a_learner_left(chat: Lab) -> None:
    chat.set_mtls_mode("STRICT", "azureopenai")
    chat.label_namespace("azureopenai", {"istio.io/rev": None})
    chat.restart(BACKEND)
    assert set(chat.pods("azureopenai")["READY"]) == {"1/1", "2/2"}
    said = str(chat.world("04"))
    assert "removed peerauthentication" in said and "labelled" in said and "restarted" in said
    assert set(chat.pods("azureopenai")["READY"]) == {"2/2"}
    assert chat.mtls_mode("azureopenai") == "PERMISSIVE"


def test_a_port_that_no_container_declares_is_remarked(chat: Lab) -> None:
    """Mostly it is the Service's port: 80, where the pod listens on 5000."""
    try:
        done = chat.set_mtls_mode("STRICT", "azureopenai", workload="chatbackend", port=80)
        (said,) = done.warnings
        assert "declares no container port 80, only 5000" in said and f"Warning: {said}" in str(done)
        assert not chat.set_mtls_mode("STRICT", "azureopenai", workload="chatbackend", port=5000).warnings
        assert not chat.set_mtls_mode("STRICT", "azureopenai").warnings
    finally:
        chat.reset_knobs()


def test_the_policies_that_a_lesson_found_are_back_after_it(lab: Lab) -> None:
    lab.world("02")
    lab.create_namespace("mine")
    lab.set_mtls_mode("STRICT", "mine")
    lab.set_mtls_mode("DISABLE", "default")
    with labkit.open(f"embedded:{CLUSTER}", narrate=lambda _: None) as lesson:
        lesson.world("01")
        assert not lesson.mesh_status().installed
        assert "restored peerauthentication" in str(lesson.leave())
    assert (lab.mtls_mode("mine"), lab.mtls_mode("default")) == ("STRICT", "DISABLE")
    lab.leave()


def test_leaving_says_what_was_not_put_back(chat: Lab) -> None:
    with labkit.open(f"embedded:{CLUSTER}", narrate=lambda _: None) as lesson:
        lesson.world("02")
        assert "not put back: namespace azureopenai, deployment curl-outside" in str(lesson.leave())
        assert "not put back" not in str(lesson.leave())


@pytest.mark.timeout(20)
def test_an_unknown_image_ends_the_wait_with_its_name(chat: Lab) -> None:
    deployment = chat.cluster.get("deployments", "chatbackend", "azureopenai")
    container = deployment["spec"]["template"]["spec"]["containers"][0] | {"image": "chatbackendd:1.0"}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    chat.cluster.patch("deployments", "chatbackend", patch, "azureopenai")
    with pytest.raises(InputError, match=r"chatbackendd:1\.0"):
        chat.wait_until_ready("azureopenai/chatbackend")
    with pytest.raises(InputError, match=r"chatbackendd:1\.0"):
        chat.wait_until_ready("azureopenai")
    chat.apply("manifests/apps/chat/chatbackend.yaml")
    chat.wait_until_ready("azureopenai")


def test_permissive_accepts_both_and_the_counters_tell_which(chat: Lab) -> None:
    outside = chat.probe(OUTSIDE, URL, data=MESSAGE)
    inside = chat.probe(INSIDE, URL, data=MESSAGE)
    assert (outside.http_status, outside.outcome) == (200, Outcome.PLAINTEXT)
    assert (inside.http_status, inside.outcome) == (200, Outcome.MTLS)
    assert set(outside.json()) >= {"model", "reply"}
    assert outside.command.startswith("kubectl exec -n default deploy/curl-outside")
    assert passed(chat, "03-plaintext-accepted", outside) and passed(chat, "03-mesh-client-accepted", inside)
    assert passed(chat, "03-permissive") and not passed(chat, "04-strict-declared")
    assert not passed(chat, "04-plaintext-refused", outside)


def test_strict_refuses_the_outsider_and_the_prediction_said_so(chat: Lab) -> None:
    chat.apply("manifests/lessons/04/peer-authentication.yaml")
    verdict = chat.predict(OUTSIDE, URL)
    outside, inside = chat.probe(OUTSIDE, URL, data=MESSAGE), chat.probe(INSIDE, URL, data=MESSAGE)
    assert (outside.exit_code, outside.outcome) == (56, Outcome.REFUSED)
    assert "Connection reset by peer" in outside.error
    assert verdict.agrees_with(outside)
    assert passed(chat, "04-plaintext-refused", outside) and passed(chat, "04-mesh-client-accepted", inside)
    assert passed(chat, "04-strict-declared") and not passed(chat, "03-permissive")
    drawn = chat.map("azureopenai", "default")
    assert {(e.client, e.state, e.seen, e.disagrees) for e in drawn.edges} == {
        (OUTSIDE, EdgeState.REFUSED, "reset, curl exit 56", False),
        (INSIDE, EdgeState.MTLS, "HTTP 200", False),
    }


def test_the_request_after_a_change_meets_the_new_rules(chat: Lab) -> None:
    for mode, code in (("STRICT", 56), ("PERMISSIVE", 0)) * 5:
        chat.set_mtls_mode(mode, "azureopenai")
        assert chat.probe(OUTSIDE, URL, data=MESSAGE).exit_code == code, mode


def test_a_disabled_namespace_is_spoken_to_in_plaintext(chat: Lab) -> None:
    chat.set_mtls_mode("DISABLE", "azureopenai")
    inside = chat.probe(INSIDE, URL, data=MESSAGE)
    assert inside.outcome is Outcome.PLAINTEXT
    assert not passed(chat, "04-mesh-client-accepted", inside)


def test_the_proxy_presents_the_workloads_certificate(chat: Lab) -> None:
    certificate = chat.certificate_of(BACKEND)
    assert certificate.spiffe_id == "spiffe://cluster.local/ns/azureopenai/sa/default"
    assert passed(chat, "03-certificate", certificate)
    with pytest.raises(MeshError, match="no sidecar"):
        chat.certificate_of(OUTSIDE)


def test_a_pod_is_described_and_its_sidecar_found(chat: Lab) -> None:
    described = chat.describe_pod(BACKEND)
    assert described.container_names[-1] == "istio-proxy" or "istio-proxy" in described.container_names
    assert "istio-init" in described.init_container_names
    assert passed(chat, "02-inside-the-pod") and passed(chat, "02-injected-pods")
    assert not passed(chat, "02-plain-pods")
    assert set(chat.sidecars("azureopenai")["SIDECAR"]) == {"yes"}
    assert chat.logs(BACKEND, container="istio-proxy").text


def test_another_namespace_and_revision_of_the_mesh(lab: Lab) -> None:
    lab.world("03", mesh_namespace="aks-istio-system", revision="asm-1-24")
    status = lab.mesh_status()
    assert (status.namespace, status.revision) == ("aks-istio-system", "asm-1-24")
    assert lab.probe(INSIDE, URL, data=MESSAGE).outcome is Outcome.MTLS


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        pytest.param("spec: {mtls: {mode: LOOSE}}", "UNSET, DISABLE, PERMISSIVE, STRICT", id="wrong mode"),
        pytest.param(
            "spec: {portLevelMtls: {5000: {mode: STRICT}}}", "cannot have port level mTLS", id="ports without selector"
        ),
    ],
)
def test_a_wrong_policy_is_refused_in_istios_words(chat: Lab, manifest: str, words: str) -> None:
    head = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
    attempt = chat.attempt(f"{head}metadata: {{name: bad, namespace: azureopenai}}\n{manifest}\n")
    assert not attempt.accepted
    assert words in str(attempt)
    assert chat.mtls_mode("azureopenai") == "PERMISSIVE"


@pytest.mark.parametrize(
    ("act", "words"),
    [
        pytest.param(lambda lab: lab.pods("nowhere"), "nowhere", id="namespace of a table"),
        pytest.param(lambda lab: lab.probe("nobody", URL), "'nobody'", id="client"),
        pytest.param(lambda lab: lab.probe(OUTSIDE, "chatbackend"), "not a URL", id="URL"),
        pytest.param(lambda lab: lab.predict(OUTSIDE, "http://nobody:80/"), "no Service answers", id="Service"),
        pytest.param(lambda lab: lab.restart("azureopenai/nobody"), "'nobody'", id="Deployment"),
        pytest.param(lambda lab: lab.apply("manifests/nothing.yaml"), "no file", id="file"),
        pytest.param(lambda lab: lab.wait_until_ready("nowhere"), "nowhere", id="namespace to wait for"),
        pytest.param(lambda lab: lab.map("nowhere"), "nowhere", id="namespace of a map"),
        pytest.param(lambda lab: lab.label_namespace("nowhere", {"a": "b"}), "nowhere", id="namespace to label"),
    ],
)
def test_what_does_not_exist_is_one_clear_error(chat: Lab, act: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        act(chat)  # type: ignore[operator]
    assert words in caught.value.what and caught.value.next_step


def test_the_kubectl_line_of_a_probe_does_the_same(chat: Lab) -> None:
    kubectl = program("kubectl", "the line that a probe prints was not tried")
    _, *rest = shlex.split(chat.probe(OUTSIDE, URL, data=MESSAGE).command)
    command = [kubectl, "--kubeconfig", str(chat.cluster.kubeconfig), *rest]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert printed.startswith("HTTP/1.1 200 OK")
    assert set(json.loads(printed.splitlines()[-1])) >= {"model", "reply"}


def test_the_lab_leaves_nothing(lab: Lab) -> None:
    lab.leave()
    assert not lab.mesh_status().installed
    assert set(lab.namespaces()["NAME"]) == {"default", "kube-node-lease", "kube-public", "kube-system"}


RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: plain, namespace: azureopenai}
spec:
  host: chatbackend-service
  trafficPolicy: {tls: {mode: DISABLE}}
"""
GUARD = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: azureopenai}
spec: {}
"""
TEAPOT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: teapot, namespace: azureopenai}
spec:
  hosts: [chatbackend-service]
  http: [{directResponse: {status: 418}}]
"""


@pytest.mark.parametrize(("manifest", "status"), [(RULE, 503), (GUARD, 403), (TEAPOT, 418)], ids=["DR", "AP", "VS"])
def test_the_request_after_apply_meets_the_new_rules_and_after_delete_the_old(
    chat: Lab, manifest: str, status: int
) -> None:
    chat.set_mtls_mode("STRICT", "azureopenai")
    for _ in range(2):
        chat.apply(manifest)
        refused = chat.probe(INSIDE, URL, data=MESSAGE)
        assert refused.http_status == status
        if status != 418:  # routes are not predicted
            assert chat.predict(INSIDE, URL).agrees_with(refused)
        chat.delete(manifest)
        assert chat.probe(INSIDE, URL, data=MESSAGE).http_status == 200
