"""What stands in the status of Istio's objects, on a whole cluster: what has no effect, and what a proxy rejects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.cluster import Cluster
from labkit.cluster.kinds import POD
from labkit.embedded import lifecycle
from labkit.errors import LabError
from labkit.installers import install
from labkit.observe.objects import is_ready
from labkit.observe.proxies import proxy_statuses
from tests.embedded.test_controlplane import SERVICE, deployment, wait_for
from tests.embedded.test_proxy_status import envoy_filter

NAME = "conditions"
Object = dict[str, Any]
TARGETS = [{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "waypoint"}]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    lifecycle.down(NAME, purge=True)
    made = Cluster(NAME, kubeconfig=lifecycle.up(NAME), is_embedded=True)
    try:
        install(made)
        made.create_namespace("shop", {"istio.io/rev": "default"})
        made.apply([deployment("server", "shop"), SERVICE])
        wait_for("the proxy", lambda: [one.synced for one in proxy_statuses(made)] == [True])
        yield made
    finally:
        made.close()
        lifecycle.down(NAME, purge=True)


def policy(name: str, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "shop"}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def condition(cluster: Cluster, kind: str, name: str, type_: str) -> Object:
    status = cluster.get(kind, name, "shop").get("status") or {}
    return next((one for one in status.get("conditions") or () if one["type"] == type_), {})


def version(cluster: Cluster, kind: str, name: str) -> str:
    return str(cluster.get(kind, name, "shop")["metadata"]["resourceVersion"])


def rejecting(cluster: Cluster) -> bool:
    try:
        return any("LDS" in one.errors for one in proxy_statuses(cluster))
    except LabError:  # no istiod is there for a moment
        return False


def test_a_field_without_effect_is_said_at_once_and_in_the_status_until_it_goes(cluster: Cluster) -> None:
    (change,) = cluster.apply(policy("targeted", action="DENY", rules=[{}], targetRefs=TARGETS))
    assert "spec.targetRefs has no effect" in str(change.warnings)
    wait_for("the condition", lambda: bool(condition(cluster, "AuthorizationPolicy", "targeted", "Supported")))
    stored = cluster.get("AuthorizationPolicy", "targeted", "shop")
    (said,) = stored["status"]["conditions"]
    assert (said["status"], said["reason"]) == ("False", "NotActedOn")
    assert said["message"] in str(change.warnings)
    (message,) = stored["status"]["validationMessages"]
    assert message["level"] == "WARNING"
    assert message["documentationUrl"].endswith("/security/authorization-policy/")
    assert stored["status"]["observedGeneration"] == stored["metadata"]["generation"]

    cluster.apply(policy("targeted", action="DENY", rules=[{"from": [{"source": {"namespaces": ["none"]}}]}]))
    wait_for("no status", lambda: "status" not in cluster.get("AuthorizationPolicy", "targeted", "shop"))


def test_what_works_has_no_status_and_nothing_is_written_in_circles(cluster: Cluster) -> None:
    cluster.apply([policy("plain", action="AUDIT", rules=[{}]), policy("first", action="AUDIT", targetRefs=TARGETS)])
    wait_for("the condition", lambda: bool(condition(cluster, "AuthorizationPolicy", "first", "Supported")))
    before = [version(cluster, "AuthorizationPolicy", name) for name in ("plain", "first")]
    # When the status of a later object is there, those of earlier ones have been looked at.
    cluster.apply(policy("second", action="AUDIT", targetRefs=TARGETS))
    wait_for("the condition", lambda: bool(condition(cluster, "AuthorizationPolicy", "second", "Supported")))
    assert [version(cluster, "AuthorizationPolicy", name) for name in ("plain", "first")] == before
    assert "status" not in cluster.get("AuthorizationPolicy", "plain", "shop")


def test_what_envoy_rejects_is_a_condition_of_the_object_that_caused_it_until_it_is_mended(cluster: Cluster) -> None:
    cluster.apply(envoy_filter("broken"))
    wait_for("the condition", lambda: bool(condition(cluster, "EnvoyFilter", "broken", "Reconciled")))
    said = condition(cluster, "EnvoyFilter", "broken", "Reconciled")
    assert (said["status"], said["reason"]) == ("False", "RejectedByProxy")
    assert "no.such.filter" in said["message"]
    assert "the proxy of server-" in said["message"]
    assert cluster.get("EnvoyFilter", "broken", "shop")["status"]["validationMessages"][0]["level"] == "ERROR"

    # Another object is in the next update that is rejected, and not to blame.
    cluster.apply(policy("innocent", action="DENY", rules=[{"from": [{"source": {"namespaces": ["none"]}}]}]))
    wait_for("the rejection", lambda: rejecting(cluster))
    assert not condition(cluster, "AuthorizationPolicy", "innocent", "Reconciled")

    mended = envoy_filter("broken")
    mended["spec"]["configPatches"][0]["match"]["context"] = "GATEWAY"
    cluster.apply(mended)
    wait_for("peace", lambda: "status" not in cluster.get("EnvoyFilter", "broken", "shop"))
    assert not condition(cluster, "AuthorizationPolicy", "innocent", "Reconciled")
    cluster.delete("EnvoyFilter", "broken", "shop")


def test_a_condition_outlives_the_istiod_that_wrote_it_and_goes_with_its_cause(cluster: Cluster) -> None:
    cluster.apply(envoy_filter("lasting"))
    wait_for("the condition", lambda: bool(condition(cluster, "EnvoyFilter", "lasting", "Reconciled")))
    since = condition(cluster, "EnvoyFilter", "lasting", "Reconciled")["lastTransitionTime"]
    (pod,) = cluster.objects(POD, "istio-system", labels={"app": "istiod"})
    cluster.delete(POD, pod["metadata"]["name"], "istio-system")

    def another() -> bool:
        pods = cluster.objects(POD, "istio-system", labels={"app": "istiod"})
        if [one["metadata"]["uid"] for one in pods if is_ready(one)] in ([], [pod["metadata"]["uid"]]):
            return False
        slices = cluster.objects("EndpointSlice", "istio-system", labels={"kubernetes.io/service-name": "istiod"})
        ends = [end for one in slices for end in one.get("endpoints") or ()]
        return any(end["conditions"].get("ready") and end["targetRef"]["uid"] != pod["metadata"]["uid"] for end in ends)

    wait_for("another istiod", another)
    wait_for("the error", lambda: rejecting(cluster))
    assert condition(cluster, "EnvoyFilter", "lasting", "Reconciled")["lastTransitionTime"] == since

    mended = envoy_filter("lasting")
    mended["spec"]["configPatches"][0]["match"]["context"] = "GATEWAY"
    cluster.apply(mended)
    wait_for("peace", lambda: "status" not in cluster.get("EnvoyFilter", "lasting", "shop"))


def test_what_got_past_the_webhook_is_said_too(cluster: Cluster) -> None:
    name = "istio-validator-istio-system"
    webhook = cluster.get("ValidatingWebhookConfiguration", name)
    cluster.delete("ValidatingWebhookConfiguration", name)
    bad = policy("external", action="CUSTOM", provider={"name": "none"}, rules=[{}])
    try:
        cluster.apply(bad)
        wait_for("words", lambda: bool(condition(cluster, "AuthorizationPolicy", "external", "PassedAnalysis")))
        said = condition(cluster, "AuthorizationPolicy", "external", "PassedAnalysis")
        assert (said["status"], said["reason"]) == ("False", "errorsFound")
        assert "no extension providers" in said["message"]
    finally:
        cluster.delete("AuthorizationPolicy", "external", "shop")
        metadata = {key: webhook["metadata"][key] for key in ("name", "labels")}
        cluster.apply({**webhook, "metadata": metadata})
    assert json.dumps(webhook["webhooks"][0]["rules"]) in json.dumps(
        cluster.get("ValidatingWebhookConfiguration", name)["webhooks"]
    )
