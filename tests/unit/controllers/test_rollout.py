"""How a Deployment moves from one ReplicaSet to the next."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.embedded.controllers import rollout
from labkit.embedded.controllers.rollout import DESIRED, MAXIMUM


def deployment(replicas, surge="25%", unavailable="25%", strategy="RollingUpdate", image="app:1", **spec):
    rolling = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": strategy, **(rolling if strategy == "RollingUpdate" else {})},
            "template": template(image),
            **spec,
        },
    }


def template(image="app:1", **labels):
    return {"metadata": {"labels": {"app": "web", **labels}}, "spec": {"containers": [{"name": "a", "image": image}]}}


def replicaset(name, replicas, available=None, *, image="app:1", age=0, revision=None, desired=None, maximum=None):
    annotations = {rollout.REVISION: revision, DESIRED: desired, MAXIMUM: maximum}
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": f"2026-01-01T00:{59 - age:02}:00Z",
            "annotations": {key: str(value) for key, value in annotations.items() if value is not None},
        },
        "spec": {"replicas": replicas, "template": template(image)},
        "status": {"replicas": replicas, "availableReplicas": replicas if available is None else available},
    }


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        pytest.param(4, "25%", "25%", (1, 1), id="percentages of four"),
        pytest.param(2, "25%", "25%", (1, 0), id="surge is rounded up, unavailability down"),
        pytest.param(10, "25%", "25%", (3, 2), id="percentages of ten"),
        pytest.param(10, 3, 0, (3, 0), id="numbers"),
        pytest.param(3, "0%", "10%", (0, 1), id="both zero after rounding means one may be unavailable"),
        pytest.param(2, 0, 5, (0, 2), id="no more unavailable than there are"),
    ],
)
def test_surge_and_unavailability_become_numbers(replicas, surge, unavailable, expected):
    assert rollout.limits(deployment(replicas, surge, unavailable)) == expected


def test_recreate_has_neither_surge_nor_unavailability():
    assert rollout.limits(deployment(4, strategy="Recreate")) == (0, 0)


def test_the_hash_uses_kubernetes_alphabet_and_follows_the_template():
    one, two = rollout.template_hash(template("app:1")), rollout.template_hash(template("app:2"))
    assert one != two
    assert set(one + two) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert one == rollout.template_hash(copy.deepcopy(template("app:1"))), "the same template, the same hash"
    assert one != rollout.template_hash(template("app:1"), 1), "a collision leads to another name"


def test_the_new_replicaset_is_the_one_with_the_same_template_whatever_its_hash():
    labelled = replicaset("web-abc", 1, image="app:2")
    labelled["spec"]["template"]["metadata"]["labels"][rollout.HASH_LABEL] = "abc"
    other = replicaset("web-old", 1, image="app:1")
    assert rollout.find_new(deployment(1, image="app:2"), [other, labelled]) is labelled


def test_no_replicaset_is_new_when_every_template_differs():
    assert rollout.find_new(deployment(1, image="app:3"), [replicaset("web-old", 1, image="app:1")]) is None


def test_of_two_replicasets_with_the_same_template_the_older_is_the_new_one():
    younger, older = replicaset("web-a", 1, age=1), replicaset("web-b", 1, age=9)
    assert rollout.find_new(deployment(1), [younger, older]) is older


@pytest.mark.parametrize(
    ("wanted", "old", "size"),
    [
        pytest.param(deployment(2), [], 2, id="first rollout: all at once"),
        pytest.param(deployment(2), [replicaset("o", 2)], 1, id="surge allows one more"),
        pytest.param(deployment(4, surge=0, unavailable=1), [replicaset("o", 4)], 0, id="no surge: room first"),
        pytest.param(deployment(2, strategy="Recreate"), [], 2, id="recreate: all at once"),
        pytest.param(deployment(0), [], 0, id="none wanted"),
    ],
)
def test_size_of_a_new_replicaset(wanted, old, size):
    assert rollout.first_size(wanted, old) == size


@pytest.mark.parametrize(
    ("wanted", "new", "old", "sizes"),
    [
        pytest.param(deployment(2), replicaset("n", 1, 0), [replicaset("o", 2)], {}, id="waits for the new pod"),
        pytest.param(
            deployment(2), replicaset("n", 1, 1), [replicaset("o", 2)], {"o": 1}, id="new pod available: one old less"
        ),
        pytest.param(
            deployment(2), replicaset("n", 1, 1), [replicaset("o", 1)], {"n": 2}, id="room again: one new more"
        ),
        pytest.param(
            deployment(2), replicaset("n", 2, 2), [replicaset("o", 1)], {"o": 0}, id="all new available: last old goes"
        ),
        pytest.param(deployment(2), replicaset("n", 2, 2), [replicaset("o", 0)], {}, id="nothing left to do"),
        pytest.param(
            deployment(2), replicaset("n", 1, 0), [replicaset("o", 2, 1)], {}, id="a lame old pod stays at the minimum"
        ),
        pytest.param(
            deployment(2, unavailable=1),
            replicaset("n", 1, 0),
            [replicaset("o", 2, 1)],
            {"o": 1},
            id="a lame old pod goes first when one may be missing",
        ),
        pytest.param(
            deployment(3, surge=0, unavailable=1), replicaset("n", 0), [replicaset("o", 3)], {"o": 2}, id="no surge"
        ),
        pytest.param(deployment(1), replicaset("n", 3, 3), [], {"n": 1}, id="scaled down"),
        pytest.param(deployment(3), replicaset("n", 1, 1), [], {"n": 3}, id="scaled up"),
    ],
)
def test_next_step_of_a_rolling_update(wanted, new, old, sizes):
    assert rollout.rolling_step(wanted, new, old) == sizes


@settings(max_examples=200, deadline=None)
@given(
    replicas=st.integers(0, 12),
    surge=st.one_of(st.integers(0, 4), st.integers(0, 100).map("{}%".format)),
    unavailable=st.one_of(st.integers(0, 4), st.integers(0, 100).map("{}%".format)),
    order=st.randoms(use_true_random=False),
)
def test_a_rolling_update_ends_and_keeps_its_limits_throughout(replicas, surge, unavailable, order):
    wanted = deployment(replicas, surge, unavailable, image="app:2")
    most, missing = rollout.limits(wanted)
    old = replicaset("o", replicas)
    new = replicaset("n", rollout.first_size(wanted, [old]), 0, image="app:2")
    for turn in range(8 * (replicas + 1)):
        # The cluster catches up in some order: the new pods become available, the old ones vanish.
        old["status"]["availableReplicas"] = old["spec"]["replicas"]
        available = new["status"]["availableReplicas"]
        ready = new["spec"]["replicas"]
        new["status"]["availableReplicas"] = order.randint(min(available, ready), ready) if turn % 2 else ready
        total = old["spec"]["replicas"] + new["spec"]["replicas"]
        assert total <= replicas + most
        assert old["spec"]["replicas"] + new["status"]["availableReplicas"] >= replicas - missing
        for name, size in rollout.rolling_step(wanted, new, [old]).items():
            {"o": old, "n": new}[name]["spec"]["replicas"] = size
        if (old["spec"]["replicas"], new["status"]["availableReplicas"]) == (0, replicas):
            return
    pytest.fail("the update did not end")


def test_a_change_of_replicas_is_seen_by_the_annotation():
    assert rollout.was_scaled(deployment(5), [replicaset("n", 2, desired=2)])
    assert not rollout.was_scaled(deployment(2), [replicaset("n", 2, desired=2)])
    assert not rollout.was_scaled(deployment(5), [replicaset("o", 0, desired=2)]), "an empty one has no say"


@pytest.mark.parametrize(
    ("wanted", "new", "old", "sizes"),
    [
        pytest.param(deployment(5), replicaset("n", 2, desired=2), [], {"n": 5}, id="only one: it takes all"),
        pytest.param(
            deployment(20, surge=0),
            replicaset("n", 5, desired=10, maximum=10),
            [replicaset("o", 5, desired=10, maximum=10, age=5)],
            {"n": 10, "o": 10},
            id="twice as many: each twice",
        ),
        pytest.param(
            deployment(7, surge=0),
            replicaset("n", 5, desired=10, maximum=10),
            [replicaset("o", 5, desired=10, maximum=10, age=5)],
            {"n": 4, "o": 3},
            id="fewer: together exactly as many as wanted, the older gives more",
        ),
        pytest.param(
            deployment(5),
            replicaset("n", 5, desired=10, maximum=13),
            [replicaset("o", 5, desired=10, maximum=13, age=5)],
            {"o": 0},
            id="fewer: the new one suffices already",
        ),
        pytest.param(
            deployment(0),
            replicaset("n", 1, desired=4, maximum=5),
            [replicaset("o", 3, desired=4, maximum=5)],
            {"n": 0, "o": 0},
            id="to zero",
        ),
    ],
)
def test_scaling_in_the_middle_of_an_update_is_in_proportion(wanted, new, old, sizes):
    assert rollout.proportional_step(wanted, new, old) == sizes
