"""The checks of lesson 20: a mesh under the names of AKS' add-on."""

from __future__ import annotations

from typing import Any

from labkit.checks.evidence import LOOKS, OBSERVATION, OUTSIDE, RETURNED, asked_from_outside, mesh
from labkit.checks.judging import APP
from labkit.checks.results import Check, Judgement, pod_facts
from labkit.cluster import Cluster
from labkit.cluster.kinds import NAMESPACE, POD
from labkit.observe.mesh import MeshStatus, mesh_status
from labkit.observe.objects import labels_of
from labkit.observe.traffic import probe
from labkit.outcomes import Observation

DOOR = "http://aks-istio-ingressgateway-external.aks-istio-ingress/healthz"
HOST, SECOND = "chat.example.com", "status.example.com"


def _namespace(cluster: Cluster) -> dict[str, str]:
    return labels_of(cluster.find(NAMESPACE, APP) or {"metadata": {}})


def _pods(cluster: Cluster) -> tuple[Any, ...]:
    return _namespace(cluster), mesh_status(cluster).revision, cluster.objects(POD, APP)


def _door(cluster: Cluster) -> tuple[Any, ...]:
    return (probe(cluster, OUTSIDE, DOOR, headers={"Host": HOST}),)


def _second_door(cluster: Cluster) -> tuple[Any, ...]:
    return (probe(cluster, OUTSIDE, DOOR, headers={"Host": SECOND}),)


def addon(status: MeshStatus) -> Judgement:
    """istiod is ready, in the add-on's namespace, with a revision of the add-on."""
    good = status.ready and status.namespace == "aks-istio-system" and status.revision.startswith("asm-")
    observed = f"{status.istiod} in {status.namespace}, revision {status.revision}" if status.installed else "no mesh"
    hint = "lab.world('20', mesh_namespace='aks-istio-system', revision='asm-1-24'); on AKS, az aks mesh enable."
    return Judgement(good, "istiod in aks-istio-system, revision asm-X-Y", observed, hint)


def _ready(pods: Any) -> str:
    facts = [one for one in pod_facts(pods) if one.name.startswith("chatbackend-")]
    return ", ".join(one.ready_text for one in facts) or "no pods"


def passed_over(labels: dict[str, str], _revision: str, pods: Any) -> Judgement:
    """The label of other guides is there, and no sidecar is."""
    asked, ready = labels.get("istio-injection") == "enabled", _ready(pods)
    observed = f"{'istio-injection=enabled' if asked else 'no such label'}; pods {ready}"
    hint = "Label the namespace istio-injection=enabled, then apply the backend."
    return Judgement(asked and ready == "1/1, 1/1", "istio-injection=enabled, and pods 1/1", observed, hint)


def labelled(labels: dict[str, str], revision: str, _pods: Any) -> Judgement:
    """The namespace asks the revision that is there, by that label alone."""
    good = bool(revision) and labels.get("istio.io/rev") == revision and "istio-injection" not in labels
    observed = ", ".join(f"{k}={v}" for k, v in labels.items() if k.startswith("istio")) or "neither label"
    hint = "lab.label_namespace('azureopenai', {'istio-injection': None, 'istio.io/rev': lab.mesh_status().revision})"
    return Judgement(good, f"istio.io/rev={revision}, and no istio-injection", observed, hint)


def injected(_labels: dict[str, str], _revision: str, pods: Any) -> Judgement:
    """The new pods have their sidecars."""
    hint = "Running pods stay as they are: lab.restart('azureopenai/chatbackend')."
    return Judgement(_ready(pods) == "2/2, 2/2", "backend pods 2/2", _ready(pods), hint)


def outsider_reset(seen: Observation) -> Judgement:
    """A client without a sidecar is reset."""
    hint = "Apply manifests/lessons/20/root/strict.yaml into the root namespace, aks-istio-system."
    return Judgement(seen.exit_code == 56, "curl-outside: reset, exit code 56", seen.seen, hint)


def door(seen: Observation) -> Judgement:
    """The add-on's gateway leads to the backend, which is STRICT."""
    hint = "The Gateway has to select istio: aks-istio-ingressgateway-external."
    return Judgement(seen.http_status == 200, f"{HOST} through the gateway: 200", seen.seen, hint)


def own_door(_attempt: Any, seen: Observation) -> Judgement:
    """The learner's Gateway selects the add-on's gateway."""
    hint = "The add-on's gateway carries the label istio=aks-istio-ingressgateway-external."
    return Judgement(seen.http_status == 200, f"{SECOND} through the gateway: 200", seen.seen, hint)


CHECKS = (
    Check("20-addon", LOOKS, addon, mesh),
    Check("20-passed-over", LOOKS, passed_over, _pods),
    Check("20-labelled", LOOKS, labelled, _pods),
    Check("20-injected", LOOKS, injected, _pods),
    Check("20-outsider-reset", OBSERVATION, outsider_reset, asked_from_outside),
    Check("20-door", OBSERVATION, door, _door),
    Check("20-own-door", RETURNED, own_door, _second_door, exercise=True),
)
