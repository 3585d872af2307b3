"""The way to STRICT: what comes first, what must be decided, and that nobody is cut off."""

from __future__ import annotations

from labkit.policy.declared import DeclaredMesh, MeshSettings
from labkit.policy.declared.changing import changed
from labkit.policy.declared.migrating import migrate
from labkit.policy.declared.steps import Act, Plan, without_tls
from labkit.policy.declared.traffic import read_traffic
from tests.unit.policy.declared.objects import CLIENT, WEB, WORLD, Object, app, istio, peers, rule, selecting

HOST = "web.foo.svc.cluster.local"
NAMESPACES: list[Object] = [{"kind": "Namespace", "metadata": {"name": name}} for name in ("foo", "bar")]


def unlabelled(namespace: str, name: str) -> list[Object]:
    """An application that says nothing of sidecars."""
    made = app(namespace, name)
    del made[0]["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"]
    return made


def plan(*objects: Object, **settings: object) -> Plan:
    return migrate(DeclaredMesh(objects, MeshSettings(**settings)))  # type: ignore[arg-type]


def acts(found: Plan) -> list[tuple[Act, str]]:
    return [(step.act, step.what) for step in found.steps]


def test_a_mesh_whose_clients_all_have_sidecars_is_safe_now() -> None:
    found = plan(*WEB, *CLIENT)
    assert acts(found) == [(Act.STRICT_NOW, "namespace foo"), (Act.MESH, "the mesh")]
    assert found.complete
    assert [(one.name, one.state) for one in found.namespaces] == [("foo", "safe now")]


def test_clients_are_injected_before_their_servers_are_strict() -> None:
    found = plan(*WEB, *CLIENT, *unlabelled("bar", "late"), *NAMESPACES)
    assert acts(found) == [
        (Act.INJECT, "bar/late"),
        (Act.STRICT, "namespace bar"),
        (Act.STRICT, "namespace foo"),
        (Act.MESH, "the mesh"),
    ]
    assert found.steps[0].commands == (
        "kubectl label namespace bar istio-injection=enabled --overwrite",
        "kubectl rollout restart deployment/late -n bar",
    )
    assert found.complete
    assert [(one.name, one.state, one.plaintext_in) for one in found.namespaces] == [
        ("bar", "no sidecars: STRICT would enforce nothing", 0),
        ("foo", "not yet", 2),
    ]


def test_nobody_is_cut_off_by_any_step() -> None:
    """Each step in turn, and after the last one every sidecar is STRICT."""
    objects: list[Object] = [*WEB, *CLIENT, *unlabelled("bar", "late"), *NAMESPACES, rule(HOST, "DISABLE")]
    found = plan(*objects)
    assert found.complete
    for step in found.steps:
        assert step.breaks == ()
        objects = changed(objects, step.change)
    assert all(str(mode) == "STRICT" for _, mode, _ in DeclaredMesh(objects).modes())


def test_who_opted_out_needs_a_decision() -> None:
    found = plan(*WORLD)
    assert [(act, what) for act, what in acts(found)] == [
        (Act.HOLD, "bar/naked without a sidecar"),
        (Act.HOLD, "namespace foo"),
    ]
    assert "sidecar.istio.io/inject=false" in found.steps[0].why
    assert {one.client for one in found.steps[1].breaks} == {"bar/naked"}
    assert not found.complete


def test_observed_traffic_says_who_counts() -> None:
    mesh = DeclaredMesh(WORLD)
    quiet = migrate(mesh, read_traffic({"foo/client -> foo/web:8080": 10}))
    assert acts(quiet)[0] == (Act.STRICT_NOW, "namespace foo"), "nobody has seen bar/naked call"
    busy = migrate(mesh, read_traffic({"bar/naked -> foo/web:8080": 10}))
    assert Act.STRICT_NOW not in [act for act, _ in acts(busy)]


def test_callers_that_nobody_can_name() -> None:
    """Those without a sidecar may be they: then one counts again. If all have sidecars, it is somebody else."""
    seen = read_traffic({("unknown", "foo/web"): 40})
    known = migrate(DeclaredMesh([*WEB, *CLIENT, *unlabelled("bar", "late"), *NAMESPACES]), seen)
    strict = next(step for step in known.steps if step.act is Act.STRICT and step.what == "namespace foo")
    assert "40 requests per minute without a certificate: count again" in strict.notes[0]
    others = migrate(DeclaredMesh([*WEB, *CLIENT]), seen)
    assert acts(others) == [(Act.HOLD, "namespace foo")]
    assert others.steps[0].why.startswith("callers without a certificate would be cut off")


def test_rules_that_conflict_go_before() -> None:
    found = plan(*WEB, *CLIENT, rule(HOST, "DISABLE"))
    assert acts(found) == [
        (Act.RULE, "remove tls from DestinationRule foo/rule"),
        (Act.STRICT, "namespace foo"),
        (Act.MESH, "the mesh"),
    ]
    assert "plaintext (DISABLE)" in found.steps[0].why
    mutual = plan(*WEB, *CLIENT, rule(HOST, "ISTIO_MUTUAL"))
    assert Act.RULE not in [act for act, _ in acts(mutual)]


def test_from_disable_the_way_leads_over_permissive() -> None:
    found = plan(*WEB, *CLIENT, peers("DISABLE"))
    assert acts(found)[0] == (Act.OPEN, "namespace foo")
    assert found.complete


def test_a_port_that_needs_to_stay_open_is_a_decision() -> None:
    open_port = peers("UNSET", name="web", **selecting("web"), portLevelMtls={"8080": {"mode": "PERMISSIVE"}})
    held = plan(*WORLD, peers("STRICT"), open_port)
    assert (Act.HOLD, "PeerAuthentication foo/web") in acts(held)
    closed = plan(*WEB, *CLIENT, peers("STRICT"), open_port)
    assert (Act.EXCEPTION, "PeerAuthentication foo/web") in acts(closed)
    assert closed.complete


def test_a_namespace_that_was_strict_for_nobody_is_opened_first() -> None:
    """STRICT without sidecars enforces nothing; with them it would, while others still send plaintext."""
    found = plan(
        *unlabelled("foo", "one"), *unlabelled("bar", "two"), *NAMESPACES, peers("STRICT"), peers("STRICT", "bar")
    )
    words = [act for act, _ in acts(found)]
    assert words.index(Act.OPEN) < words.index(Act.INJECT)
    assert found.complete
    assert all(not step.breaks for step in found.steps)


def test_auto_mtls_comes_first() -> None:
    found = plan(*WEB, *CLIENT, auto_mtls=False)
    assert acts(found)[0][0] is Act.AUTO_MTLS
    assert found.complete


def test_pods_in_the_hosts_network() -> None:
    made = unlabelled("bar", "host")
    made[0]["spec"]["template"]["spec"]["hostNetwork"] = True
    found = plan(*WEB, *CLIENT, *made, *NAMESPACES)
    assert "host's network" in found.steps[0].why and found.steps[0].act is Act.HOLD


def test_callers_from_outside_are_warned_of() -> None:
    server = app("foo", "door")
    server[1]["spec"]["type"] = "LoadBalancer"
    (step, *_) = plan(*CLIENT, *server).steps
    assert any("from outside" in note for note in step.notes)
    (step, *_) = plan(*CLIENT, *app("foo", "door")).steps
    assert step.notes == ()


def test_a_strict_mesh_has_nothing_to_do() -> None:
    found = plan(*WEB, *CLIENT, peers("STRICT", "istio-system"))
    assert (found.steps, found.complete) == ((), True)


def test_tls_is_taken_out_wherever_it_stands() -> None:
    spec = {
        "host": "x",
        "trafficPolicy": {"tls": {"mode": "DISABLE"}, "portLevelSettings": [{"port": {"number": 1}, "tls": {}}]},
        "subsets": [{"name": "v1", "trafficPolicy": {"tls": {}}}],
    }
    assert without_tls(spec) == {
        "host": "x",
        "trafficPolicy": {"portLevelSettings": [{"port": {"number": 1}}]},
        "subsets": [{"name": "v1"}],
    }


def test_a_rule_for_hosts_outside_stays() -> None:
    ports = [{"number": 443, "name": "http", "protocol": "HTTP"}]
    entry = istio("ServiceEntry", "foo", "out", hosts=["api.example.com"], ports=ports, resolution="DNS")
    found = plan(*WEB, *CLIENT, entry, rule("api.example.com", "SIMPLE"))
    assert Act.RULE not in [act for act, _ in acts(found)]
