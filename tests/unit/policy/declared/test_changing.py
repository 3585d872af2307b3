"""What a change would do: who breaks, who mends, what is taken from the objects as they are."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.policy.declared import DeclaredMesh
from labkit.policy.declared.changing import Change, Effect, Preview, changed, preview
from labkit.policy.declared.traffic import read_traffic
from tests.unit.policy.declared.objects import WORLD, Object, app, istio, peers, rule

STRICT = peers("STRICT")
HOST = "web.foo.svc.cluster.local"


def look(change: Change, *objects: Object, traffic: Any = None) -> Preview:
    known = None if traffic is None else read_traffic(traffic)
    return preview(DeclaredMesh([*WORLD, *objects]), change, known)


def effects(found: Preview) -> dict[tuple[str, str], Effect]:
    return {(one.client, one.server): one.effect for one in found.changes}


def test_strict_breaks_clients_without_a_sidecar_and_no_others() -> None:
    found = look(Change([STRICT]))
    assert effects(found) == {
        ("bar/naked", "foo/client:8080"): Effect.BREAKS,
        ("bar/naked", "foo/web:8080"): Effect.BREAKS,
    }
    assert found.unchanged == 4
    assert not found.safe
    assert found.untouched == ["foo/client", "foo/web"]
    assert found.broken_clients == {"bar/naked": ["foo/client:8080", "foo/web:8080"]}
    (change, _) = found.changes
    assert (change.was, change.becomes) == ("plaintext", "refused")
    assert "STRICT" in change.why


def test_a_change_that_nobody_notices_is_safe() -> None:
    found = look(Change([peers("PERMISSIVE")]))
    assert (found.safe, found.changes, found.unchanged) == (True, (), 6)


def test_deleting_mends() -> None:
    found = look(Change(delete=[("PeerAuthentication", "foo", "default")]), STRICT)
    assert set(effects(found).values()) == {Effect.MENDS}
    assert found.safe


def test_mtls_is_lost_and_gained() -> None:
    lost = look(Change([rule(HOST, "DISABLE")]))
    assert effects(lost) == {("foo/client", "foo/web:8080"): Effect.LOSES}
    assert lost.safe, "nobody is refused"
    gained = look(Change(delete=[("DestinationRule", "foo", "rule")]), rule(HOST, "DISABLE"))
    assert effects(gained) == {("foo/client", "foo/web:8080"): Effect.GAINS}


def test_a_policy_that_refuses_some_requests_breaks_some() -> None:
    only_get = istio("AuthorizationPolicy", "foo", "get", rules=[{"to": [{"operation": {"methods": ["GET"]}}]}])
    assert set(effects(look(Change([only_get]))).values()) == {Effect.BREAKS_SOME}


def test_who_comes_and_who_goes() -> None:
    found = look(Change(app("foo", "new"), [("Deployment", "foo", "client")]))
    assert effects(found)["foo/new", "foo/web:8080"] is Effect.APPEARS
    assert effects(found)["foo/client", "foo/web:8080"] is Effect.GOES
    gone = look(Change(delete=[("Service", "foo", "web")]))
    assert effects(gone)["foo/client", "foo/web:8080"] is Effect.BREAKS
    assert gone.breaking[0].why == "There is no such host any more."


def test_with_a_namespace_goes_all_that_is_in_it() -> None:
    assert {one["metadata"]["namespace"] for one in changed(WORLD, Change(delete=[("Namespace", "", "foo")]))} == {
        "bar"
    }


def test_traffic_says_how_many_requests_would_be_refused() -> None:
    seen = {"bar/naked -> foo/web:8080": 120, ("foo/client", "foo/web"): 30}
    found = look(Change([STRICT]), traffic=seen)
    assert found.refused_per_minute == 120
    assert [one.rate for one in found.changes] == [120, 0], "the busiest first"
    assert look(Change([STRICT])).refused_per_minute is None, "nobody looked"
    half = istio("VirtualService", "foo", "half", hosts=[HOST], http=[{"route": [to("web", 50), to("none", 50)]}])
    assert look(Change([half]), traffic=seen).refused_per_minute == 15


def to(host: str, weight: int) -> Object:
    return {"destination": {"host": host}, "weight": weight}


@pytest.mark.parametrize(
    "wrong", [{"foo/client": 3}, {"a -> b": "many"}, {"a -> b -> c": 1}, {("a",): 1}, {"a -> b": True}]
)
def test_traffic_that_says_nothing(wrong: Any) -> None:
    with pytest.raises(InputError, match="says nothing of the traffic"):
        read_traffic(wrong)


# -- the objects as they would be


def running(name: str, *, sidecar: bool) -> Object:
    owner = {"kind": "ReplicaSet", "name": f"{name}-5d", "controller": True}
    labels = {"app": name, "pod-template-hash": "5d", **({"security.istio.io/tlsMode": "istio"} if sidecar else {})}
    containers = [{"name": "app", "ports": [{"containerPort": 8080}]}, *([{"name": "istio-proxy"}] if sidecar else [])]
    return {
        "kind": "Pod",
        "metadata": {"namespace": "foo", "name": f"{name}-5d-1", "labels": labels, "ownerReferences": [owner]},
        "spec": {"serviceAccountName": name, "containers": containers},
    }


def test_what_is_applied_keeps_its_age() -> None:
    old = peers("PERMISSIVE")
    old["metadata"] = {**old["metadata"], "creationTimestamp": "2020-01-01T00:00:00Z", "uid": "1"}
    (after,) = (one for one in changed([old], Change([STRICT])) if one["kind"] == "PeerAuthentication")
    assert after["metadata"]["creationTimestamp"] == "2020-01-01T00:00:00Z"
    assert after["spec"] == STRICT["spec"]


def test_an_older_policy_still_wins_over_the_applied_one() -> None:
    old = peers("PERMISSIVE", name="older")
    old["metadata"] = {**old["metadata"], "creationTimestamp": "2020-01-01T00:00:00Z"}
    assert look(Change([STRICT]), old).safe
    assert not look(Change([STRICT])).safe


def test_pods_stay_until_they_are_made_anew() -> None:
    """A label of the namespace reaches no running pod; a restart brings what the template and the labels say."""
    deployment, served = app("foo", "late")
    del deployment["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"]
    labelled = {"kind": "Namespace", "metadata": {"name": "foo", "labels": {"istio-injection": "enabled"}}}
    bare = {"kind": "Namespace", "metadata": {"name": "foo"}}
    objects = [deployment, served, running("late", sidecar=False), bare]
    only_label = look(Change([labelled]), *objects)
    assert only_label.changes == ()
    assert any("made anew" in note for note in only_label.notes)
    restarted = look(Change([labelled], restart=["foo/*"]), *objects)
    assert effects(restarted)["foo/late", "foo/web:8080"] is Effect.GAINS
    assert not any("made anew" in note for note in restarted.notes)


def test_a_changed_template_brings_new_pods() -> None:
    deployment, served = app("foo", "late")
    pod = running("late", sidecar=True)
    changed_template = app("foo", "late", sidecar=False)[0]
    found = look(Change([changed_template]), deployment, served, pod)
    assert effects(found)["foo/late", "foo/web:8080"] is Effect.LOSES
    assert look(
        Change([{**deployment, "metadata": {**deployment["metadata"], "labels": {"x": "y"}}}]), deployment, served, pod
    ).safe


def test_a_namespace_keeps_its_other_labels() -> None:
    before = {"kind": "Namespace", "metadata": {"name": "foo", "labels": {"istio-injection": "enabled"}}}
    after = {"kind": "Namespace", "metadata": {"name": "foo", "labels": {"team": "a"}}}
    (found,) = changed([before], Change([after]))
    assert found["metadata"]["labels"] == {"istio-injection": "enabled", "team": "a"}


def test_what_the_webhook_would_refuse_is_said() -> None:
    wide = peers("STRICT", portLevelMtls={"8080": {"mode": "STRICT"}})
    found = look(Change([wide]))
    assert not found.safe
    assert found.refused and "port level" in found.refused[0]
    assert look(Change([STRICT])).refused == ()


def test_deleting_what_is_not_there_is_said() -> None:
    found = look(Change(delete=[("PeerAuthentication", "foo", "none")]))
    assert found.safe and "does not exist" in found.notes[0]
