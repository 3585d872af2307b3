"""Every rule that decides about an edge: the verdict, the object that is named, and the twin without it."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.errors import InputError
from labkit.outcomes import Outcome, RequestKind
from labkit.policy.declared import DeclaredMesh, MeshSettings, Rule
from tests.unit.policy.declared.objects import (
    WORLD,
    Object,
    app,
    explain,
    istio,
    peers,
    rule,
    selecting,
    service,
    step,
)

MTLS, PLAIN, REFUSED, TLS, UNKNOWN = Outcome.MTLS, Outcome.PLAINTEXT, Outcome.REFUSED, Outcome.TLS, Outcome.UNKNOWN
HOST = "web.foo.svc.cluster.local"
ALL = "*.local"


def allow(*sources: Object, **more: Any) -> Object:
    return istio("AuthorizationPolicy", "foo", "allow", rules=[{"from": [{"source": one} for one in sources], **more}])


TABLE = [
    # id, client, objects, verdict, rule that decides, object that is named
    ("auto mTLS by default", "foo/client", [], MTLS, Rule.AUTO_MTLS, "-"),
    ("no client sidecar", "bar/naked", [], PLAIN, Rule.NO_CLIENT_SIDECAR, "-"),
    (
        "STRICT for the mesh",
        "bar/naked",
        [peers("STRICT", "istio-system")],
        REFUSED,
        Rule.PEER_AUTHENTICATION,
        "PeerAuthentication istio-system/default",
    ),
    (
        "STRICT for the namespace",
        "bar/naked",
        [peers("STRICT")],
        REFUSED,
        Rule.PEER_AUTHENTICATION,
        "PeerAuthentication foo/default",
    ),
    (
        "STRICT for the workload",
        "bar/naked",
        [peers("STRICT", name="web", **selecting("web"))],
        REFUSED,
        Rule.PEER_AUTHENTICATION,
        "PeerAuthentication foo/web",
    ),
    (
        "STRICT for another workload",
        "bar/naked",
        [peers("STRICT", name="x", **selecting("client"))],
        PLAIN,
        Rule.NO_CLIENT_SIDECAR,
        "-",
    ),
    (
        "STRICT for the port",
        "bar/naked",
        [peers("PERMISSIVE", name="web", **selecting("web"), portLevelMtls={"8080": {"mode": "STRICT"}})],
        REFUSED,
        Rule.PEER_AUTHENTICATION,
        "PeerAuthentication foo/web",
    ),
    (
        "STRICT for another port",
        "bar/naked",
        [peers("PERMISSIVE", name="web", **selecting("web"), portLevelMtls={"81": {"mode": "STRICT"}})],
        PLAIN,
        Rule.NO_CLIENT_SIDECAR,
        "-",
    ),
    (
        "the namespace over the mesh",
        "bar/naked",
        [peers("STRICT", "istio-system"), peers("PERMISSIVE")],
        PLAIN,
        Rule.NO_CLIENT_SIDECAR,
        "-",
    ),
    (
        "a selector in the root namespace is ignored",
        "bar/naked",
        [peers("STRICT", "istio-system", **selecting("web"))],
        PLAIN,
        Rule.NO_CLIENT_SIDECAR,
        "-",
    ),
    (
        "port DISABLE: clients follow",
        "foo/client",
        [peers("STRICT"), peers("UNSET", name="web", **selecting("web"), portLevelMtls={"8080": {"mode": "DISABLE"}})],
        PLAIN,
        Rule.AUTO_MTLS,
        "PeerAuthentication foo/web",
    ),
    (
        "namespace DISABLE",
        "foo/client",
        [peers("DISABLE")],
        PLAIN,
        Rule.NAMESPACE_DISABLED,
        "PeerAuthentication foo/default",
    ),
    (
        "namespace DISABLE, workload STRICT: the hole",
        "foo/client",
        [peers("DISABLE"), peers("STRICT", name="web", **selecting("web"))],
        REFUSED,
        Rule.PEER_AUTHENTICATION,
        "PeerAuthentication foo/web",
    ),
    (
        "the hole mended by ISTIO_MUTUAL",
        "foo/client",
        [peers("DISABLE"), peers("STRICT", name="web", **selecting("web")), rule(HOST, "ISTIO_MUTUAL")],
        MTLS,
        Rule.DESTINATION_RULE,
        "DestinationRule foo/rule",
    ),
    ("rule DISABLE", "foo/client", [rule(HOST, "DISABLE")], PLAIN, Rule.DESTINATION_RULE, "DestinationRule foo/rule"),
    (
        "rule DISABLE against STRICT",
        "foo/client",
        [peers("STRICT"), rule(HOST, "DISABLE")],
        REFUSED,
        Rule.DESTINATION_RULE,
        "DestinationRule foo/rule",
    ),
    (
        "rule for another host",
        "foo/client",
        [peers("STRICT"), rule("other", "DISABLE")],
        MTLS,
        Rule.PEER_AUTHENTICATION,
        "PeerAuthentication foo/default",
    ),
    (
        "the specific rule hides the pattern",
        "foo/client",
        [rule(ALL, "DISABLE"), istio("DestinationRule", "foo", "specific", host=HOST)],
        MTLS,
        Rule.AUTO_MTLS,
        "-",
    ),
    (
        "tls: {} is DISABLE",
        "foo/client",
        [istio("DestinationRule", "foo", "empty", host=HOST, trafficPolicy={"tls": {}})],
        PLAIN,
        Rule.DESTINATION_RULE,
        "DestinationRule foo/empty",
    ),
    (
        "rule SIMPLE against STRICT",
        "foo/client",
        [peers("STRICT"), rule(HOST, "SIMPLE")],
        REFUSED,
        Rule.DESTINATION_RULE,
        "DestinationRule foo/rule",
    ),
    (
        "a rule is for clients with a sidecar",
        "bar/naked",
        [rule(HOST, "ISTIO_MUTUAL")],
        PLAIN,
        Rule.NO_CLIENT_SIDECAR,
        "-",
    ),
    (
        "names that fit",
        "foo/client",
        [rule(HOST, "ISTIO_MUTUAL", subjectAltNames=["spiffe://cluster.local/ns/foo/sa/web"])],
        MTLS,
        Rule.DESTINATION_RULE,
        "DestinationRule foo/rule",
    ),
    (
        "names that do not fit",
        "foo/client",
        [rule(HOST, "ISTIO_MUTUAL", subjectAltNames=["spiffe://cluster.local/ns/foo/sa/x"])],
        REFUSED,
        Rule.IDENTITY,
        "DestinationRule foo/rule",
    ),
    ("who may call, by certificate", "foo/client", [allow({"namespaces": ["foo"]})], MTLS, Rule.AUTO_MTLS, "-"),
    (
        "who may call, without one",
        "bar/naked",
        [allow({"namespaces": ["foo"]})],
        REFUSED,
        Rule.AUTHORIZATION,
        "AuthorizationPolicy foo/allow",
    ),
    (
        "nobody may",
        "foo/client",
        [istio("AuthorizationPolicy", "foo", "nothing")],
        REFUSED,
        Rule.AUTHORIZATION,
        "AuthorizationPolicy foo/nothing",
    ),
    (
        "who may not",
        "foo/client",
        [
            istio(
                "AuthorizationPolicy",
                "foo",
                "deny",
                action="DENY",
                rules=[{"from": [{"source": {"namespaces": ["foo"]}}]}],
            )
        ],
        REFUSED,
        Rule.AUTHORIZATION,
        "AuthorizationPolicy foo/deny",
    ),
    (
        "DENY by identity lets plaintext by",
        "bar/naked",
        [
            istio(
                "AuthorizationPolicy",
                "foo",
                "deny",
                action="DENY",
                rules=[{"from": [{"source": {"namespaces": ["bar"]}}]}],
            )
        ],
        PLAIN,
        Rule.NO_CLIENT_SIDECAR,
        "-",
    ),
    (
        "a Sidecar leaves it out",
        "foo/client",
        [istio("Sidecar", "foo", "default", egress=[{"hosts": ["./other*"]}])],
        PLAIN,
        Rule.SIDECAR_SCOPE,
        "Sidecar foo/default",
    ),
    (
        "and blocks it",
        "foo/client",
        [
            istio(
                "Sidecar",
                "foo",
                "default",
                egress=[{"hosts": ["./other*"]}],
                outboundTrafficPolicy={"mode": "REGISTRY_ONLY"},
            )
        ],
        REFUSED,
        Rule.REGISTRY_ONLY,
        "Sidecar foo/default",
    ),
    (
        "a Sidecar that has it",
        "foo/client",
        [istio("Sidecar", "foo", "default", egress=[{"hosts": ["./*"]}])],
        MTLS,
        Rule.AUTO_MTLS,
        "-",
    ),
]


@pytest.mark.parametrize(
    ("client", "objects", "verdict", "decides", "by"), [pytest.param(*row[1:], id=row[0]) for row in TABLE]
)
def test_rules(client: str, objects: list[Object], verdict: Outcome, decides: Rule, by: str) -> None:
    found = explain(*objects, client=client)
    (decider,) = found.answer.deciders
    assert (found.outcome, decider.rule, decider.object) == (verdict, decides, by), found.answer.why


def test_both_sides_are_told_and_each_rule_has_a_sentence_and_a_page() -> None:
    found = explain(peers("STRICT"), client="bar/naked")
    assert (found.answer.sends, found.answer.accepts) == ("plaintext", "mTLS only")
    assert [one.rule.side for one in found.answer.because] == ["client", "server"]
    assert "exit 56" in found.answer.caller_sees
    for one in Rule:
        assert one.sentence.endswith(".")
        assert one.link.startswith("https://istio.io/latest/docs/")


def test_policies_that_do_not_decide_are_named() -> None:
    found = explain(peers("PERMISSIVE", "istio-system"), peers("STRICT"))
    assert [(str(one.policy.namespace), one.policy.name) for one in found.answer.ignored] == [
        ("istio-system", "default")
    ]


def test_a_server_without_a_sidecar() -> None:
    strict = peers("STRICT", "istio-system")
    assert explain(strict, server="bar/naked").outcome is PLAIN
    forced = explain(strict, rule("naked.bar.svc.cluster.local", "ISTIO_MUTUAL"), server="bar/naked")
    assert forced.outcome is REFUSED
    assert "handshake" in step(forced, Rule.NO_SERVER_SIDECAR).said


def test_auto_mtls_switched_off() -> None:
    off = explain(auto_mtls=False)
    assert off.outcome is PLAIN
    assert step(off, Rule.AUTO_MTLS_OFF).object == "ConfigMap istio-system/istio"
    assert explain(auto_mtls=True).outcome is MTLS


def test_before_the_mesh_is_installed_nothing_is_injected_and_no_policy_counts() -> None:
    found = explain(peers("STRICT"), installed=False)
    assert found.outcome is PLAIN
    assert not found.client.injected


@pytest.mark.parametrize(
    ("port_name", "mode", "request_kind", "verdict"),
    [
        pytest.param("https", "PERMISSIVE", None, TLS, id="TLS passes unopened"),
        pytest.param("https", "STRICT", None, REFUSED, id="and is no mTLS"),
        pytest.param("http", "PERMISSIVE", RequestKind.TLS, REFUSED, id="TLS at an HTTP port"),
        pytest.param("tcp", "PERMISSIVE", None, PLAIN, id="bytes"),
        pytest.param("http", "PERMISSIVE", RequestKind.TCP, REFUSED, id="bytes at an HTTP port"),
    ],
)
def test_what_the_application_sends(
    port_name: str, mode: str, request_kind: RequestKind | None, verdict: Outcome
) -> None:
    server = app("foo", "other", port_name=port_name)
    found = explain(*server, peers(mode), client="bar/naked", server="foo/other", request=request_kind)
    assert found.outcome is verdict, found.answer.why


def test_a_port_that_is_kept_from_the_sidecar() -> None:
    (deployment, other) = app("foo", "other")
    annotations = {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"}
    deployment["spec"]["template"]["metadata"]["annotations"] = annotations
    strict = peers("STRICT")
    assert explain(deployment, other, strict, client="bar/naked", server="foo/other").outcome is PLAIN
    (deployment, other) = app("foo", "other")
    assert explain(deployment, other, strict, client="bar/naked", server="foo/other").outcome is REFUSED


def test_a_request_may_decide() -> None:
    only_get = allow({"namespaces": ["foo"]}, to=[{"operation": {"methods": ["GET"]}}])
    found = explain(only_get)
    assert (found.outcome, found.answer.partly and found.answer.partly.object) == (
        MTLS,
        "AuthorizationPolicy foo/allow",
    )
    assert explain(allow({"namespaces": ["foo"]})).answer.partly is None


def test_endpoints_that_differ() -> None:
    more = app("foo", "more", sidecar=False, group="mixed")[:1]
    mixed = service("foo", "mixed")
    mixed["spec"]["selector"] = {"group": "mixed"}
    with_sidecar = app("foo", "again", group="mixed")[:1]
    found = explain(*more, mixed, *with_sidecar, server="foo/mixed")
    assert found.outcome is UNKNOWN
    assert found.answer.shares == "50% mTLS, 50% plaintext"


def test_headless_is_all_or_nothing() -> None:
    headless = service("foo", "mixed", clusterIP="None")
    headless["spec"]["selector"] = {"group": "mixed"}
    with_sidecar = app("foo", "again", group="mixed")[:1]
    assert explain(headless, *with_sidecar, server="foo/mixed").outcome is MTLS
    without = app("foo", "more", sidecar=False, group="mixed")[:1]
    found = explain(headless, *with_sidecar, *without, server="foo/mixed")
    assert (found.outcome, step(found, Rule.HEADLESS).rule) == (PLAIN, Rule.HEADLESS)


def test_a_call_past_the_services_is_passed_on() -> None:
    pod = {
        "kind": "Pod",
        "metadata": {"namespace": "foo", "name": "lone", "labels": {"security.istio.io/tlsMode": "istio"}},
        "spec": {"containers": [{"name": "app"}, {"name": "istio-proxy"}]},
        "status": {"podIP": "10.0.0.9"},
    }
    assert explain(pod, server="10.0.0.9").outcome is PLAIN
    assert explain(pod, peers("STRICT"), server="10.0.0.9").outcome is REFUSED
    assert explain(pod, server="foo/lone").answer.deciders[0].rule is Rule.PASSED_ON


def outside(**spec: Any) -> Object:
    ports = [{"number": 8080, "name": "http", "protocol": "HTTP"}]
    return istio("ServiceEntry", "foo", "out", hosts=["api.example.com"], ports=ports, resolution="DNS", **spec)


def test_a_host_outside_of_the_mesh() -> None:
    found = explain(outside(), server="api.example.com")
    assert (found.outcome, found.answer.deciders[0].rule) == (PLAIN, Rule.SERVICE_ENTRY)
    originated = explain(outside(), rule("api.example.com", "SIMPLE"), server="api.example.com")
    assert originated.outcome is TLS


# https://istio.io/latest/docs/ops/common-problems/network-issues/, "Double TLS"
def test_tls_around_the_tls_of_the_application_is_opened_by_nobody() -> None:
    https = outside()
    https["spec"]["ports"] = [{"number": 8080, "name": "https", "protocol": "HTTPS"}]
    assert explain(https, server="api.example.com").outcome is TLS
    found = explain(https, rule("api.example.com", "SIMPLE"), server="api.example.com")
    assert (found.outcome, found.answer.caller_sees) == (REFUSED, "connection closed")
    assert Rule.DOUBLE_TLS in {one.rule for one in found.answer.because}


def test_nobody_behind_a_service() -> None:
    empty = service("foo", "nobody")
    found = explain(empty, server="foo/nobody")
    assert (found.outcome, found.answer.caller_sees) == (REFUSED, "HTTP 503: no healthy upstream")


# -- routes


def routes(*destinations: Object, host: str = HOST, **match: Any) -> Object:
    entry: Object = {"route": list(destinations)}
    if match:
        entry["match"] = [match]
    return istio("VirtualService", "foo", "routes", hosts=[host], http=[entry])


def to(host: str, weight: int = 0, **more: Any) -> Object:
    return {"destination": {"host": host, **more}, **({"weight": weight} if weight else {})}


def test_a_route_leads_elsewhere() -> None:
    found = explain(routes(to("naked.bar.svc.cluster.local")))
    assert (found.outcome, found.answer.ways[0].server) == (PLAIN, "bar/naked")
    assert step(found, Rule.VIRTUAL_SERVICE).object == "VirtualService foo/routes"
    assert explain(routes(to("naked.bar.svc.cluster.local")), client="bar/naked").outcome is PLAIN
    assert explain(routes(to("naked.bar.svc.cluster.local")), client="bar/naked").answer.ways[0].server == "foo/web"


@pytest.mark.parametrize(("to_whom", "verdict"), [("bar", REFUSED), ("foo", MTLS), ("*", MTLS), ("bar,foo", MTLS)])
def test_a_route_leads_only_to_what_is_exported(to_whom: str, verdict: Outcome) -> None:
    deployment, there = app("bar", "there")
    there["metadata"] = {**there["metadata"], "annotations": {"networking.istio.io/exportTo": to_whom}}
    assert explain(deployment, there, routes(to("there.bar.svc.cluster.local"))).outcome is verdict


@pytest.mark.parametrize(("to_whom", "verdict"), [("bar", PLAIN), ("foo", MTLS)])
def test_a_call_of_what_is_not_exported_is_passed_on(to_whom: str, verdict: Outcome) -> None:
    deployment, there = app("bar", "there")
    there["metadata"] = {**there["metadata"], "annotations": {"networking.istio.io/exportTo": to_whom}}
    assert explain(deployment, there, server="bar/there").outcome is verdict


def test_the_port_that_is_called_says_what_the_client_speaks() -> None:
    """A route from an HTTP port to one that is not declared: the client's proxy still expects HTTP."""
    there = app("foo", "any", port_name="")
    led = routes(to("any.foo.svc.cluster.local"))
    assert explain(*there, led, request=RequestKind.TLS).outcome is REFUSED
    assert explain(*there, led, request=RequestKind.HTTP).outcome is MTLS
    assert explain(*there, server="foo/any", request=RequestKind.TLS).outcome is MTLS


def test_weights_are_shares() -> None:
    found = explain(routes(to("web", 75), to("naked.bar.svc.cluster.local", 25)))
    assert (found.outcome, found.answer.shares) == (UNKNOWN, "75% mTLS, 25% plaintext")


def test_requests_choose() -> None:
    found = explain(routes(to("naked.bar.svc.cluster.local"), uri={"prefix": "/old"}), peers("STRICT"))
    assert [(way.when, way.outcome) for way in found.answer.ways] == [
        ("path /old*", PLAIN),
        ("all other requests", REFUSED),
    ]
    assert found.answer.ways[1].http_status == 404


def test_subsets() -> None:
    subset = istio("DestinationRule", "foo", "subsets", host=HOST, subsets=[{"name": "v1", "labels": {"app": "web"}}])
    assert explain(routes(to("web", subset="v1")), subset).outcome is MTLS
    missing = explain(routes(to("web", subset="v1")))
    assert (missing.outcome, missing.answer.deciders[0].rule) == (REFUSED, Rule.SUBSET)


# -- gateways


GATEWAY = {
    "kind": "Pod",
    "metadata": {"namespace": "istio-system", "name": "ingress", "labels": {"istio": "ingress", "app": "ingress"}},
    "spec": {"containers": [{"name": "istio-proxy", "args": ["proxy", "router"]}]},
}
OPENED = istio(
    "Gateway",
    "foo",
    "door",
    selector={"istio": "ingress"},
    servers=[{"port": {"number": 8080, "protocol": "HTTP", "name": "http"}, "hosts": ["*"]}],
)
LED_IN = istio(
    "VirtualService", "foo", "in", hosts=["shop.example.com"], gateways=["door"], http=[{"route": [to("web")]}]
)


def test_a_gateway_calls_where_routes_lead() -> None:
    found = explain(GATEWAY, OPENED, LED_IN, peers("STRICT"), client="istio-system/ingress")
    assert found.outcome is MTLS
    with pytest.raises(InputError, match="no way"):
        explain(GATEWAY, OPENED, client="istio-system/ingress")


def test_what_a_gateway_accepts_is_its_servers_business() -> None:
    door = service("istio-system", "ingress")
    strict = peers("STRICT", "istio-system")
    found = explain(GATEWAY, OPENED, door, strict, client="bar/naked", server="istio-system/ingress")
    assert (found.outcome, step(found, Rule.GATEWAY_SERVER).object) == (PLAIN, "Gateway foo/door")
    assert explain(GATEWAY, door, client="bar/naked", server="istio-system/ingress").outcome is REFUSED


def test_a_gateway_tells_its_health_in_plaintext_without_any_gateway() -> None:
    door = service("istio-system", "ingress", ports=[{"name": "status-port", "port": 8080, "targetPort": 15021}])
    asked = {"client": "bar/naked", "server": "istio-system/ingress"}
    found = explain(GATEWAY, door, **asked)
    assert (found.outcome, step(found, Rule.NOT_CAPTURED).object) == (PLAIN, "-")
    assert explain(GATEWAY, door, request=RequestKind.TLS, **asked).outcome is REFUSED


# -- all pairs


def test_all_pairs() -> None:
    mesh = DeclaredMesh([*WORLD, peers("STRICT")])
    table = {edge.key: edge.outcome for edge in mesh.edges()}
    assert table == {
        ("foo/client", "foo/web:8080"): MTLS,
        ("bar/naked", "foo/web:8080"): REFUSED,
        ("foo/web", "foo/client:8080"): MTLS,
        ("bar/naked", "foo/client:8080"): REFUSED,
        ("foo/web", "bar/naked:8080"): PLAIN,
        ("foo/client", "bar/naked:8080"): PLAIN,
    }


def to_web(objects: list[Object]) -> dict[str, Outcome]:
    edges = DeclaredMesh(objects).edges(servers=lambda one: one.name == "web")
    return {edge.client.name: edge.outcome for edge in edges}


def test_clients_are_told_apart_where_a_rule_does() -> None:
    """Answers are shared among clients that no rule tells apart; here three rules do, by namespace, label, identity."""
    others = [*app("baz", "client"), *app("foo", "second")]
    private = rule(HOST, "DISABLE", "baz")
    selective = istio(
        "DestinationRule",
        "foo",
        "chosen",
        host=HOST,
        workloadSelector={"matchLabels": {"app": "second"}},
        trafficPolicy={"tls": {"mode": "DISABLE"}},
        exportTo=["."],
    )
    objects = [*WORLD, *others, private, selective]
    assert to_web(objects) == {"foo/client": MTLS, "foo/second": PLAIN, "baz/client": PLAIN, "bar/naked": PLAIN}
    guarded = [*WORLD, *others, allow({"principals": ["cluster.local/ns/foo/sa/client"]})]
    assert to_web(guarded) == {"foo/client": MTLS, "foo/second": REFUSED, "baz/client": REFUSED, "bar/naked": REFUSED}


@pytest.mark.parametrize(
    ("client", "server", "port", "words"),
    [
        ("foo/nobody", "foo/web", 8080, "no workload 'nobody' in namespace foo"),
        ("nobody", "foo/web", 8080, "no workload 'nobody'"),
        ("foo/client", "foo/nobody", 8080, "no Service, host or workload"),
        ("foo/client", "foo/web", 81, "has no port 81"),
        ("foo/client", "", 0, "no Service, host or workload"),
    ],
)
def test_wrong_names(client: str, server: str, port: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        DeclaredMesh(WORLD).explain(client, server, port)
    assert error.value.next_step


@pytest.mark.parametrize(
    "server", ["foo/web", "web", "web.foo", "web.foo.svc", "web.foo.svc.cluster.local", "10.1.2.3"]
)
def test_names_of_a_service(server: str) -> None:
    addressed = service("foo", "web", clusterIP="10.1.2.3")
    mesh = DeclaredMesh([*WORLD, addressed])
    assert mesh.explain("foo/client", server, 8080).target.label == "foo/web:8080"


def test_an_explanation_as_json() -> None:
    found = explain(peers("STRICT"), client="bar/naked").as_dict()
    assert found["verdict"] == "refused"
    assert [(one["side"], one["kind"], one["name"]) for one in found["because"]] == [
        ("client", "", ""),
        ("server", "PeerAuthentication", "default"),
    ]


def test_revisions_from_files() -> None:
    labelled = {"kind": "Namespace", "metadata": {"name": "rev", "labels": {"istio.io/rev": "asm-1-24"}}}
    deployment = app("rev", "web")[0]
    deployment["spec"]["template"]["metadata"]["labels"].pop("sidecar.istio.io/inject")
    asked = [labelled, deployment]
    assert DeclaredMesh(asked, MeshSettings(any_revision=True)).registry.group("rev/web").injected
    assert not DeclaredMesh(asked, MeshSettings()).registry.group("rev/web").injected


@pytest.mark.parametrize(("condition", "calls"), [("Complete", False), ("Failed", False), ("Suspended", True)])
def test_a_job_that_has_ended_calls_nobody(condition: str, calls: bool) -> None:
    job = {**app("foo", "job")[0], "kind": "Job", "status": {"conditions": [{"type": condition, "status": "True"}]}}
    clients = {one.name for one in DeclaredMesh([*WORLD, job]).clients}
    assert ("foo/job" in clients) is calls


def test_pods_that_differ_have_names_that_tell_why() -> None:
    def pod(name: str, *, sidecar: bool) -> Object:
        owner = {"kind": "ReplicaSet", "name": "web-5d", "controller": True}
        labels = {"app": "web", "pod-template-hash": "5d"}
        containers = [{"name": "app"}, *([{"name": "istio-proxy"}] if sidecar else [])]
        metadata = {"namespace": "x", "name": name, "labels": labels, "ownerReferences": [owner]}
        return {"kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}

    both = DeclaredMesh([pod("web-5d-a", sidecar=True), pod("web-5d-b", sidecar=False)])
    assert [one.name for one in both.clients] == ["x/web (with a sidecar)", "x/web (without a sidecar)"]
    alike = DeclaredMesh([pod("web-5d-a", sidecar=True), pod("web-5d-b", sidecar=True)])
    assert [(one.name, one.pods) for one in alike.clients] == [("x/web", 2)]
