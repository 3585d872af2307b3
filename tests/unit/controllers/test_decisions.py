"""Small decisions: scheduling, selectors, conditions, namespaces, owners, discovery."""

from datetime import UTC, datetime

import pytest

from labkit.embedded.apiclient import Resource
from labkit.embedded.controllers.discovery import Kind, kinds_in
from labkit.embedded.controllers.garbage import split_owners
from labkit.embedded.controllers.namespace import remaining_condition
from labkit.embedded.controllers.objects import absolute, is_active, matches, random_suffix, with_condition
from labkit.embedded.controllers.scheduler import objection, unschedulable_message, wants_node


def pod(**spec):
    return {"metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Pending"}}


def node(labels=None, pods="254", **spec):
    return {"metadata": {"name": "n", "labels": labels or {}}, "spec": spec, "status": {"allocatable": {"pods": pods}}}


@pytest.mark.parametrize(
    ("candidate", "wanted"),
    [
        pytest.param(pod(), True, id="new pod"),
        pytest.param(pod(nodeName="n"), False, id="bound already"),
        pytest.param(pod(schedulerName="mine"), False, id="another scheduler's"),
        pytest.param(pod(schedulingGates=[{"name": "wait"}]), False, id="gated"),
        pytest.param({**pod(), "metadata": {"deletionTimestamp": "now"}}, False, id="leaving"),
        pytest.param({**pod(), "status": {"phase": "Failed"}}, False, id="failed"),
    ],
)
def test_which_pods_are_scheduled(candidate, wanted):
    assert wants_node(candidate) is wanted


TAINT = {"key": "only", "value": "gpu", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("candidate", "target", "reason"),
    [
        pytest.param(pod(), node(), None, id="fits"),
        pytest.param(pod(), node(unschedulable=True), "node(s) were unschedulable", id="cordoned"),
        pytest.param(pod(), node(taints=[TAINT]), "node(s) had untolerated taint {only: gpu}", id="tainted"),
        pytest.param(
            pod(tolerations=[{"key": "only", "operator": "Exists"}]), node(taints=[TAINT]), None, id="tolerated"
        ),
        pytest.param(
            pod(tolerations=[{"key": "only", "value": "cpu"}]),
            node(taints=[TAINT]),
            "node(s) had untolerated taint {only: gpu}",
            id="tolerates another value",
        ),
        pytest.param(pod(tolerations=[{"operator": "Exists"}]), node(taints=[TAINT]), None, id="tolerates all"),
        pytest.param(
            pod(nodeSelector={"disk": "ssd"}),
            node(),
            "node(s) didn't match Pod's node affinity/selector",
            id="selector differs",
        ),
        pytest.param(pod(nodeSelector={"disk": "ssd"}), node({"disk": "ssd"}), None, id="selector matches"),
        pytest.param(pod(), node(pods="3"), "Too many pods", id="full"),
    ],
)
def test_why_a_node_cannot_take_a_pod(candidate, target, reason):
    assert objection(candidate, target, pods_on_node=3) == reason


def test_the_message_of_an_unschedulable_pod_is_kubernetes_own():
    assert unschedulable_message(["Too many pods"]) == "0/1 nodes are available: 1 Too many pods."
    assert unschedulable_message([]) == "no nodes available to schedule pods"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param(None, False, id="none selects nothing"),
        pytest.param({}, True, id="empty selects everything"),
        pytest.param({"matchLabels": {"app": "web"}}, True, id="label equal"),
        pytest.param({"matchLabels": {"app": "db"}}, False, id="label different"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, True, id="In"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]}, False, id="not In"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}, True, id="NotIn"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True, id="Exists"),
        pytest.param({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False, id="DoesNotExist"),
        pytest.param(
            {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]},
            False,
            id="both must hold",
        ),
    ],
)
def test_label_selectors(selector, expected):
    assert matches(selector, {"app": "web"}) is expected


@pytest.mark.parametrize(
    ("value", "round_up", "expected"),
    [(3, True, 3), ("25%", True, 2), ("25%", False, 1), ("0%", True, 0), ("100%", False, 5)],
    ids=str,
)
def test_a_number_or_a_percentage_of_five(value, round_up, expected):
    assert absolute(value, 5, round_up=round_up) == expected


def test_a_condition_that_says_the_same_changes_nothing():
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    first = with_condition([], {"type": "Ready", "status": "True", "reason": "A"}, moment)
    assert with_condition(first, {"type": "Ready", "status": "True", "reason": "A"}, moment.replace(year=2027)) is first
    assert with_condition(first, {"type": "Ready", "status": "False", "reason": "A"}, moment) is not first


@pytest.mark.parametrize(
    ("changes", "active"),
    [({}, True), ({"metadata": {"deletionTimestamp": "x"}}, False), ({"status": {"phase": "Succeeded"}}, False)],
    ids=["pending", "leaving", "finished"],
)
def test_which_pods_count_for_a_replicaset(changes, active):
    assert is_active({**pod(), **changes}) is active


def test_random_suffixes_have_kubernetes_form():
    suffixes = {random_suffix() for _ in range(50)}
    assert len(suffixes) > 45
    assert all(len(s) == 5 and set(s) <= set("bcdfghjklmnpqrstvwxz2456789") for s in suffixes)


def test_owners_are_told_apart_by_uid_not_by_name():
    obj = {"metadata": {"ownerReferences": [{"name": "same", "uid": "1"}, {"name": "same", "uid": "2"}]}}
    left, lost = split_owners(obj, {"2"})
    assert ([o["uid"] for o in left], [o["uid"] for o in lost]) == (["1"], ["2"])


def test_a_waiting_namespace_says_what_is_left():
    left = remaining_condition({"pods": 2, "configmaps": 1})
    assert left["message"] == (
        "Some resources are remaining: configmaps has 1 resource instances, pods has 2 resource instances"
    )
    assert remaining_condition({})["status"] == "False"


def test_discovery_leaves_out_subresources():
    answer = {
        "resources": [
            {"name": "pods", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]},
            {"name": "pods/log", "namespaced": True, "kind": "Pod", "verbs": ["get"]},
        ]
    }
    assert kinds_in("v1", answer) == [Kind(Resource("v1", "pods"), "Pod", frozenset({"get", "list"}))]
