"""The judges: pure functions from evidence to a judgement. No cluster, no clock of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from labkit.checks.results import Judgement, PodFacts, pod_facts
from labkit.cluster import Obj
from labkit.observe.mesh import MeshStatus
from labkit.observe.objects import condition, labels_of, name_of
from labkit.outcomes import Observation, Outcome, Verdict
from labkit.pki import CertificateFacts

APP = "azureopenai"
RESET = "Connection reset by peer"


def cluster_answers(version: str, nodes: list[Obj]) -> Judgement:
    """The API answered, and there is a node that is Ready."""
    ready = [name_of(node) for node in nodes if condition(node, "Ready")]
    observed = f"Kubernetes {version}; ready: {', '.join(ready) or 'no node'}"
    hint = "Look at 'labkit status' and 'kubectl get nodes'."
    return Judgement(bool(version and ready), "the API answers and a node is Ready", observed, hint)


def mesh_absent(status: MeshStatus) -> Judgement:
    """Nothing of Istio is there."""
    observed = f"istiod in {status.namespace}" if status.installed else f"kinds of Istio: {', '.join(status.kinds)}"
    hint = "Remove the mesh: lab.uninstall_mesh()."
    absent = not status.installed and not status.knows_peer_authentication
    return Judgement(absent, "no mesh", "no mesh" if absent else observed, hint)


def kind_unknown(status: MeshStatus) -> Judgement:
    """PeerAuthentication is not served."""
    return Judgement(
        not status.knows_peer_authentication,
        "PeerAuthentication is an unknown kind",
        "the API serves PeerAuthentication" if status.knows_peer_authentication else "it is unknown",
        "The mesh is already installed. Begin with lab.world('01').",
    )


def mesh_installed(status: MeshStatus) -> Judgement:
    """istiod is there and ready."""
    if not status.installed:
        return Judgement(False, "istiod is ready", "no istiod", "Install the mesh: lab.install_mesh().")
    observed = f"{status.istiod} in {status.namespace}, " + ("ready" if status.ready else status.not_ready_because)
    return Judgement(status.ready, "istiod is ready", observed, f"Look at lab.pods({status.namespace!r}).")


def kinds_served(status: MeshStatus) -> Judgement:
    """PeerAuthentication is served."""
    observed = ", ".join(status.kinds) or "none of Istio's kinds"
    expected = "PeerAuthentication is a known kind"
    return Judgement(status.knows_peer_authentication, expected, observed, "Install the mesh: lab.install_mesh().")


def webhook_registered(status: MeshStatus) -> Judgement:
    """The injection webhook is there, and the API server can verify it."""
    observed = ", ".join(status.webhooks) or "no injection webhook"
    if status.webhooks and not status.webhook_has_ca:
        observed += ", without a CA bundle"
    expected = "the injection webhook is registered, with a CA bundle"
    return Judgement(
        bool(status.webhooks) and status.webhook_has_ca,
        expected,
        observed,
        "Compare with 'kubectl get mutatingwebhookconfigurations'.",
    )


def _readiness(pods: Iterable[PodFacts]) -> str:
    return ", ".join(f"{pod.name} {pod.ready_text}" for pod in pods) or "no pods"


def _of(pods: Any, *names: str) -> list[PodFacts]:
    facts = pod_facts(pods)
    return [p for p in facts if any(p.name.startswith(f"{name}-") or p.name == name for name in names)]


def _plain(pods: list[PodFacts], what: str, at_least: int, hint: str) -> Judgement:
    plain = len(pods) >= at_least and all(pod.ready_text == "1/1" for pod in pods)
    return Judgement(plain, f"{what} 1/1", _readiness(pods), hint)


def pods_plain(pods: Any) -> Judgement:
    """Every pod that is there is 1/1."""
    hint = "Wait until they are ready: lab.wait_until_ready('default')."
    return _plain(pod_facts(pods), "every pod of default is", 1, hint)


def chat_pods_plain(pods: Any) -> Judgement:
    """The four chat pods are 1/1."""
    facts = _of(pods, "chatbackend", "chatfrontend")
    hint = "Pods that were made with the label on the namespace have a sidecar. Begin with lab.world('02')."
    return _plain(facts, "four chat pods, each", 4, hint)


def namespace_labelled(namespace: Obj) -> Judgement:
    """The namespace selects a control plane."""
    labels = labels_of(namespace)
    selecting = {key: labels[key] for key in ("istio.io/rev", "istio-injection") if key in labels}
    good = bool(labels.get("istio.io/rev")) or labels.get("istio-injection") == "enabled"
    good = good and labels.get("istio-injection") != "disabled"
    observed = ", ".join(f"{key}={value}" for key, value in selecting.items()) or "neither label"
    name = name_of(namespace)
    hint = f"lab.label_namespace({name!r}, {{'istio.io/rev': lab.mesh_status().revision}})"
    return Judgement(good, f"namespace {name} carries istio.io/rev (or istio-injection=enabled)", observed, hint)


def running_pods_unchanged(pods: Any) -> Judgement:
    """Pods that run are never changed by a label."""
    facts = _of(pods, "chatbackend", "chatfrontend")
    return _plain(facts, "the running chat pods are still", 4, "Run this check before the restart.")


def pods_injected(pods: Any) -> Judgement:
    """All four chat pods are 2/2."""
    facts = _of(pods, "chatbackend", "chatfrontend")
    good = len(facts) >= 4 and all(pod.ready_text == "2/2" for pod in facts)
    hint = "Only new pods are injected: lab.restart('azureopenai/chatbackend'), and the same for chatfrontend."
    return Judgement(good, "four chat pods, each 2/2", _readiness(facts), hint)


def inside_the_pod(pods: Any) -> Judgement:
    """istio-init has completed, istio-proxy runs, and the label tells clients that the pod speaks mTLS."""
    facts = _of(pods, "chatbackend", "chatfrontend")
    lacking = []
    for pod in facts:
        lacking += [f"{pod.name} has no istio-proxy"] * ("istio-proxy" not in pod.containers)
        lacking += [f"istio-init of {pod.name} has not completed"] * ("istio-init" not in pod.init_completed)
        lacking += [f"{pod.name} lacks the label security.istio.io/tlsMode=istio"] * (pod.tls_mode != "istio")
    expected = "istio-init completed, istio-proxy there, label security.istio.io/tlsMode=istio"
    observed = "; ".join(lacking) or (expected if facts else "no chat pods")
    return Judgement(
        bool(facts) and not lacking, expected, observed, "Look at lab.describe_pod('azureopenai/chatbackend')."
    )


def outside_not_injected(pods: Any) -> Judgement:
    """curl-outside stays outside the mesh."""
    hint = "The namespace default must carry no injection label; then lab.restart('default/curl-outside')."
    return _plain(_of(pods, "curl-outside"), "curl-outside is", 1, hint)


def _accepted(observation: Observation, who: str, hint: str, *, reply: bool) -> Judgement:
    expected = "HTTP 200" + (" with model and reply" if reply else "")
    answer = observation.json()
    has_reply = isinstance(answer, dict) and bool(answer.get("model")) and bool(answer.get("reply"))
    good = observation.http_status == 200 and (has_reply or not reply) and _from(observation, who)
    return Judgement(good, f"{who}: {expected}", _seen(observation, answer if reply else None), hint)


def _from(observation: Observation, who: str) -> bool:
    """Whether the probe was sent by that workload; an observation without a probe is taken at its word."""
    return observation.probe is None or observation.probe.client.rpartition("/")[2] == who


def _seen(observation: Observation, answer: Any = None) -> str:
    client = f"{observation.probe.client}: " if observation.probe else ""
    keys = f" with {', '.join(answer)}" if isinstance(answer, dict) else ""
    return f"{client}{observation.seen}{keys}"


def _by_mtls(judgement: Judgement, observation: Observation) -> Judgement:
    """Where the proxies keep the counters that tell it, a plaintext answer is not what is expected here."""
    judgement = replace(judgement, expected=f"{judgement.expected}, by mTLS")
    if observation.outcome is Outcome.PLAINTEXT:
        return replace(judgement, passed=False, observed=f"{judgement.observed}, in plaintext")
    return judgement


def mesh_request(observation: Observation) -> Judgement:
    """The frontend, inside the mesh, is answered."""
    hint = "Are all pods 2/2? Look at lab.pods('azureopenai')."
    return _by_mtls(_accepted(observation, "chatfrontend", hint, reply=False), observation)


def plaintext_accepted(observation: Observation) -> Judgement:
    """PERMISSIVE: a client without a sidecar is answered."""
    hint = "A STRICT policy refuses plaintext: look at lab.effective_mtls('azureopenai')."
    return _accepted(observation, "curl-outside", hint, reply=True)


def mesh_client_accepted(observation: Observation) -> Judgement:
    """A client with a sidecar is answered."""
    hint = "Are client and server 2/2? Look at lab.sidecars('azureopenai')."
    return _by_mtls(_accepted(observation, "chatfrontend", hint, reply=True), observation)


def plaintext_refused(observation: Observation) -> Judgement:
    """STRICT: the connection of a client without a sidecar is reset; curl exits with 56."""
    good = observation.exit_code == 56 and RESET in observation.error and _from(observation, "curl-outside")
    return Judgement(
        good,
        f"curl-outside: exit code 56, {RESET}",
        _seen(observation),
        "Is the mode STRICT, and is it in the right namespace? Look at lab.effective_mtls('azureopenai').",
    )


def permissive_by_default(rows: Any) -> Judgement:
    """Every workload is PERMISSIVE, and nobody decided that."""
    modes = _modes(rows)
    good = bool(modes) and all(mode == "PERMISSIVE" and "default" in who.lower() for _, mode, who in modes)
    hint = "A PeerAuthentication decides here: 'kubectl get peerauthentication -A'."
    return Judgement(good, f"every workload of {APP} is PERMISSIVE by default", _modes_text(modes), hint)


def strict_declared(rows: Any) -> Judgement:
    """Every workload is STRICT."""
    modes = _modes(rows)
    good = bool(modes) and all(mode == "STRICT" for _, mode, _ in modes)
    hint = "Apply manifests/lessons/04/peer-authentication.yaml, with mode STRICT in namespace azureopenai."
    return Judgement(good, f"every workload of {APP} is STRICT", _modes_text(modes), hint)


def _modes(rows: Any) -> list[tuple[str, str, str]]:
    records = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    # Without a sidecar nothing is enforced, so such a workload has no mode.
    injected = [r for r in records if r.get("SIDECAR", "yes") == "yes"]
    return [(str(r["WORKLOAD"]), str(r["MODE"]), str(r["DECIDED BY"])) for r in injected]


def _modes_text(modes: list[tuple[str, str, str]]) -> str:
    return "; ".join(f"{name} is {mode}, by {who}" for name, mode, who in modes) or "no workloads"


def certificate_names_workload(certificate: CertificateFacts, now: datetime | None = None) -> Judgement:
    """The certificate carries a SPIFFE ID of the namespace, and is within its time."""
    now = now or datetime.now(UTC)
    expected = f"a SPIFFE ID spiffe://<trust domain>/ns/{APP}/sa/..., within its time"
    parts = certificate.spiffe_id.removeprefix("spiffe://").split("/")
    good = len(parts) == 5 and parts[1:4] == ["ns", APP, "sa"] and certificate.valid_at(now)
    observed = f"{certificate.spiffe_id or 'no SPIFFE ID'}, until {certificate.not_after:%Y-%m-%d %H:%M} UTC"
    return Judgement(good, expected, observed, f"Take the certificate of a pod of {APP}: lab.certificate_of(...).")


def prediction_holds(verdict: Verdict, observation: Observation) -> Judgement:
    """What was predicted is what was seen."""
    return Judgement(
        verdict.agrees_with(observation),
        f"as predicted: {verdict.outcome} ({verdict.caller_sees})",
        _seen(observation),
        "Predict and probe the same client and URL, with no change of policy in between.",
    )


# -- exercises ----------------------------------------------------------------------------------------------------


def counts_one_container(answer: Any) -> Judgement:
    """curl-outside has one container."""
    hint = "READY 1/1 says: one of one containers is ready."
    return Judgement(answer in (1, "1"), "the number of containers in curl-outside", repr(answer), hint)


def first_policy_strict(_attempt: Any, mode: str) -> Judgement:
    """The namespace default is STRICT."""
    return Judgement(mode == "STRICT", "namespace default is STRICT", f"it is {mode}", "Write STRICT, in upper case.")


def client_inside(_attempt: Any, pods: Any) -> Judgement:
    """curl-inside got a sidecar."""
    facts = _of(pods, "curl-inside")
    good = bool(facts) and all(pod.ready_text == "2/2" for pod in facts)
    hint = "In which namespace does injection happen? Look at lab.namespaces()."
    return Judgement(good, f"{APP}/curl-inside is 2/2", _readiness(facts), hint)


def client_opted_out(_attempt: Any, pods: Any, observation: Observation | None) -> Judgement:
    """curl-plain has no sidecar, and so its request is plaintext."""
    facts = _of(pods, "curl-plain")
    plain = bool(facts) and all(pod.ready_text == "1/1" for pod in facts)
    answered = observation is not None and observation.http_status == 200
    good = plain and answered and observation is not None and observation.outcome is Outcome.PLAINTEXT
    seen = f"; {_seen(observation)} [{observation.outcome}]" if observation else ""
    hint = 'The label\'s value is a text: sidecar.istio.io/inject: "false".'
    return Judgement(good, f"{APP}/curl-plain is 1/1 and answered in plaintext", _readiness(facts) + seen, hint)


def one_port_open(_attempt: Any, backend: Observation, frontend: Observation) -> Judgement:
    """Port 5000 of the backend takes plaintext, everything else still refuses it."""
    return Judgement(
        backend.http_status == 200 and frontend.exit_code == 56,
        "curl-outside: 200 from chatbackend-service:5000, reset by chatfrontend-service:80",
        f"{_seen(backend)}; {_seen(frontend)}",
        "portLevelMtls takes the container's port; PERMISSIVE accepts both kinds of traffic.",
    )
