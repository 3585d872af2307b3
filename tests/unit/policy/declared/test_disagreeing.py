"""Where the views differ: which calls, and the likeliest cause; a twin that agrees for each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labkit.outcomes import Outcome
from labkit.policy.declared import DeclaredMesh
from labkit.policy.declared.changing import Change, preview
from labkit.policy.declared.disagreeing import (
    NEXT,
    Cause,
    Circumstances,
    Disagreement,
    Seen,
    disagreements,
    last_change,
)
from labkit.policy.declared.traffic import UNKNOWN, read_traffic
from tests.unit.policy.declared.objects import CLIENT, WEB, WORLD, Object, app, istio, peers, service

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MTLS, PLAIN, REFUSED = Outcome.MTLS, Outcome.PLAINTEXT, Outcome.REFUSED


def dated(obj: Object, seconds_ago: float) -> Object:
    moment = (NOW - timedelta(seconds=seconds_ago)).isoformat()
    return {**obj, "metadata": {**obj["metadata"], "creationTimestamp": moment}}


def look(seen: Seen, *objects: Object, unsynced: dict[str, str] | None = None) -> Disagreement | None:
    found = disagreements(DeclaredMesh([*WORLD, *objects]), [seen], Circumstances(unsynced or {}, NOW))
    return found[0] if found else None


def cause(seen: Seen, *objects: Object, **more: Any) -> Cause | None:
    found = look(seen, *objects, **more)
    return found.cause if found else None


@pytest.mark.parametrize(
    ("client", "outcome", "objects"),
    [
        ("foo/client", MTLS, []),
        ("bar/naked", PLAIN, []),
        ("bar/naked", REFUSED, [peers("STRICT")]),
        (UNKNOWN, PLAIN, []),
        ("foo/client", Outcome.UNKNOWN, []),
        ("nobody/known", PLAIN, []),
    ],
)
def test_views_that_agree_or_cannot_tell(client: str, outcome: Outcome, objects: list[Object]) -> None:
    assert look(Seen(client, "foo/web", outcome), *objects) is None


def test_plaintext_where_mtls_is_declared() -> None:
    found = look(Seen("foo/client", "foo/web", PLAIN))
    assert found is not None
    assert (found.declared, found.cause) == ("mTLS", Cause.BYPASS)
    assert Cause.STALE in found.others
    assert found.next_step


def test_a_proxy_that_is_not_synced_comes_first() -> None:
    seen = Seen("foo/client", "foo/web", PLAIN)
    assert cause(seen, unsynced={"foo/client-5d7-x": "LDS is STALE"}) is Cause.NOT_SYNCED
    assert cause(seen, unsynced={"foo/web": "CDS is ERROR"}) is Cause.NOT_SYNCED
    assert cause(seen, unsynced={"foo/other-1": "LDS is STALE"}) is Cause.BYPASS


@pytest.mark.parametrize(
    ("age", "seconds", "by", "expected"),
    [
        pytest.param(10, 5.0, "metrics", Cause.STALE, id="connections live on for a while"),
        pytest.param(600, 5.0, "metrics", Cause.OUTSIDE, id="but not for ten minutes"),
        pytest.param(10, 3600.0, "metrics", Cause.EARLIER, id="counted since long before"),
        pytest.param(10, None, "metrics", Cause.EARLIER, id="nobody knows for how long"),
        pytest.param(10, 0.0, "a probe", Cause.STALE, id="a probe is now"),
    ],
)
def test_the_age_of_the_policy(age: float, seconds: float | None, by: str, expected: Cause) -> None:
    strict = dated(peers("STRICT"), age)
    assert cause(Seen(UNKNOWN, "foo/web", PLAIN, by=by, seconds=seconds), strict) is expected


def pod(name: str, *, sidecar: bool) -> Object:
    labels = {"app": "mixed", "pod-template-hash": "5d", **({"security.istio.io/tlsMode": "istio"} if sidecar else {})}
    owner = {"kind": "ReplicaSet", "name": "mixed-5d", "controller": True}
    metadata = {"namespace": "foo", "name": name, "labels": labels, "ownerReferences": [owner]}
    containers = [{"name": "app"}, *([{"name": "istio-proxy"}] if sidecar else [])]
    return {"kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}


def test_some_pods_without_a_sidecar() -> None:
    strict = peers("STRICT")
    mixed = [pod("mixed-5d-a", sidecar=True), pod("mixed-5d-b", sidecar=False)]
    both = look(Seen("foo/mixed", "foo/web", PLAIN), *mixed, strict)
    assert both is not None and both.cause is Cause.UNINJECTED
    whole = look(Seen("foo/mixed", "foo/web", PLAIN), pod("mixed-5d-a", sidecar=True), strict)
    assert whole is not None and whole.cause is Cause.BYPASS


def test_headless_and_pods_own_addresses() -> None:
    assert cause(Seen("foo/client", "foo/web", PLAIN, past_service=True)) is Cause.BYPASS
    headless = service("foo", "heads", clusterIP="None")
    headless["spec"]["selector"] = {"app": "web"}
    found = look(Seen("foo/client", "foo/heads", PLAIN), headless)
    assert found is not None and (found.cause, "headless" in found.why) == (Cause.BYPASS, True)


def test_refused_where_nothing_refuses() -> None:
    assert cause(Seen("foo/client", "foo/web", REFUSED)) is Cause.APPLICATION
    unnamed = app("foo", "db", port_name="")
    assert cause(Seen("foo/client", "foo/db", REFUSED), *unnamed) is Cause.UNDECLARED
    some = istio("AuthorizationPolicy", "foo", "get", rules=[{"to": [{"operation": {"methods": ["GET"]}}]}])
    assert look(Seen("foo/client", "foo/web", REFUSED), some) is None, "a policy refuses some"


def test_mtls_where_plaintext_is_declared() -> None:
    assert cause(Seen("foo/client", "bar/naked", MTLS)) is Cause.STALE


def test_the_busiest_comes_first_and_everything_has_a_next_step() -> None:
    seen = [Seen("foo/client", "foo/web", PLAIN, 1.0), Seen("foo/web", "foo/client", PLAIN, 9.0)]
    found = disagreements(DeclaredMesh(WORLD), seen)
    assert [one.seen.per_minute for one in found] == [9.0, 1.0]
    assert set(NEXT) == set(Cause)
    assert found[0].as_dict()["observed"] == "plaintext"


def test_when_an_object_was_written_last() -> None:
    fields = [{"time": "2026-01-01T00:00:05Z"}, {"time": "2026-01-01T00:00:09Z", "subresource": "status"}]
    obj = {"metadata": {"creationTimestamp": "2026-01-01T00:00:01Z", "managedFields": fields}}
    assert last_change(obj) == datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert last_change({"metadata": {}}) is None
    assert last_change({"metadata": {"creationTimestamp": "never"}}) is None


# -- callers that nobody can name


def test_callers_without_a_certificate_break_as_clients_without_a_sidecar() -> None:
    mesh, strict = DeclaredMesh(WORLD), Change([peers("STRICT")])
    found = preview(mesh, strict, read_traffic({("unknown", "foo/web"): 40}))
    assert found.refused_per_minute == 40
    assert [(one.client, one.server, one.rate) for one in found.breaking] == [
        ("unknown", "foo/web:8080", 40.0),
        ("bar/naked", "foo/client:8080", 0.0),
        ("bar/naked", "foo/web:8080", None),
    ]
    named = preview(mesh, strict, read_traffic({("bar/naked", "foo/web"): 40}))
    assert named.refused_per_minute == 40
    everybody_injected = preview(DeclaredMesh([*WEB, *CLIENT]), strict, read_traffic({("unknown", "foo/web"): 40}))
    assert everybody_injected.refused_per_minute == 40, "somebody of whom no object tells"
