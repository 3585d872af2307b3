"""VirtualServices with real traffic: where requests go, and what becomes of them on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.embedded.envoy_world import Mesh, talk, wait_for
from tests.embedded.routes_world import (
    HOST,
    HTTP,
    SUBSETS,
    TCP,
    Object,
    becomes,
    call,
    clean_up,
    route,
    routed_mesh,
    to,
    version,
    versions,
)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with routed_mesh("routes") as mesh:
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    clean_up(mesh)


def test_a_subset_has_no_effect_until_a_route_names_it(mesh: Mesh) -> None:
    mesh.apply(
        "DestinationRule",
        {"host": "reviews", "subsets": [{**SUBSETS[0], "trafficPolicy": {"tls": {"mode": "DISABLE"}}}]},
    )
    marker = f"outbound|{HTTP}|v1|{HOST}"
    wait_for("the subset", lambda: marker in mesh.sidecars["sleep"].admin("clusters"))
    assert versions(mesh, 20).keys() == {"v1", "v2"}, "both, and both by mTLS, or there would be no header"
    route(mesh, {"route": [to("v1")]})
    becomes(mesh, "v1 in plaintext", lambda: "x-forwarded-client-cert" not in call(mesh).body)


def test_weights_share_the_requests(mesh: Mesh) -> None:
    mesh.apply("DestinationRule", {"host": "reviews", "subsets": SUBSETS})
    route(mesh, {"route": [to("v1", 80), to("v2", 20)]})
    wait_for("the weights", lambda: "weighted_clusters" in mesh.sidecars["sleep"].admin("config_dump"))
    seen = versions(mesh, 100)
    assert 60 <= seen["v1"] <= 95
    assert seen["v1"] + seen["v2"] == 100
    route(mesh, {"route": [to("v1", 0), to("v2", 100)]})
    becomes(mesh, "v2 alone", lambda: versions(mesh).keys() == {"v2"})


MATCHES = [
    ({"uri": {"prefix": "/a"}}, "/a/b", (), "/x", ()),
    ({"uri": {"exact": "/a"}}, "/a", (), "/a/b", ()),
    ({"uri": {"regex": "/[ab]+"}}, "/abba", (), "/abc", ()),
    ({"uri": {"prefix": "/A"}, "ignoreUriCase": True}, "/a", (), "/b", ()),
    ({"headers": {"X-User": {"exact": "jason"}}}, "/", ("-H", "x-user: jason"), "/", ("-H", "x-user: mary")),
    ({"withoutHeaders": {"x-user": {}}}, "/", (), "/", ("-H", "x-user: mary")),
    ({"withoutHeaders": {"x-user": {"exact": "mary"}}}, "/", (), "/", ("-H", "x-user: mary")),
    ({"headers": {"x-user": {"regex": "*"}}}, "/", ("-H", "x-user: mary"), "/", ()),
    ({"queryParams": {"q": {"regex": "[a-c]+"}}}, "/?q=abc", (), "/?q=abcd", ()),
    ({"queryParams": {"q": {}}}, "/?q", (), "/?p=1", ()),
    ({"scheme": {"exact": "http"}, "uri": {"exact": "/s"}}, "/s", (), "/t", ()),
    ({"port": HTTP, "sourceNamespace": "foo", "uri": {"prefix": "/s"}}, "/s", (), "/t", ()),
    ({"gateways": ["mesh"], "sourceLabels": {"app": "ignored"}, "uri": {"prefix": "/s"}}, "/s", (), "/t", ()),
    ({"method": {"exact": "GET"}, "queryParams": {"q": {"exact": "1"}}}, "/?q=1", (), "/?q=2", ()),
    ({"authority": {"prefix": "shop"}}, "/", ("-H", "Host: shop.example"), "/", ("-H", "Host: other")),
    ({"sourceLabels": {"app": "sleep"}, "uri": {"prefix": "/s"}}, "/s", (), "/t", ()),
]


@pytest.mark.parametrize(
    ("match", "path", "options", "other", "others"), MATCHES, ids=[json.dumps(m[0]) for m in MATCHES]
)
def test_what_matches_goes_one_way_and_the_rest_another(
    mesh: Mesh, match: Object, path: str, options: tuple[str, ...], other: str, others: tuple[str, ...]
) -> None:
    mesh.apply("DestinationRule", {"host": "reviews", "subsets": SUBSETS})
    route(mesh, {"match": [match], "route": [to("v2")]}, {"route": [to("v1")]})
    becomes(mesh, "the match to reach v2", lambda: all(version(call(mesh, path, *options)) == "v2" for _ in range(4)))
    becomes(mesh, "the rest to reach v1", lambda: all(version(call(mesh, other, *others)) == "v1" for _ in range(4)))


@pytest.mark.parametrize(
    "match",
    [{"sourceLabels": {"app": "somebody"}}, {"sourceNamespace": "bar"}, {"gateways": ["foo/gateway"]}, {"port": 1}],
    ids=json.dumps,
)
def test_a_route_for_others_does_not_count(mesh: Mesh, match: Object) -> None:
    route(mesh, {"match": [match], "directResponse": {"status": 418}}, {"directResponse": {"status": 201}})
    becomes(mesh, "the second route", lambda: call(mesh).status == 201)


def test_nothing_that_matches_is_404_and_another_host_is_not_touched(mesh: Mesh) -> None:
    route(mesh, {"match": [{"uri": {"prefix": "/known"}}], "route": [to()]})
    becomes(mesh, "404", lambda: call(mesh, "/unknown").status == 404)
    assert call(mesh, "/known").status == 200
    assert call(mesh, "/unknown", service="other").status == 200


def test_a_subset_that_does_not_exist_is_503(mesh: Mesh) -> None:
    route(mesh, {"route": [to("v9")]})
    becomes(mesh, "503", lambda: call(mesh).status == 503)


def test_a_virtualservice_of_a_gateway_or_not_exported_is_not_the_meshs(mesh: Mesh) -> None:
    teapot = {"hosts": [HOST], "http": [{"directResponse": {"status": 418}}]}
    mesh.apply("VirtualService", {**teapot, "gateways": ["foo/gateway"]}, name="a")
    mesh.apply("VirtualService", {**teapot, "exportTo": ["."]}, name="b", namespace="bar")
    mesh.apply("VirtualService", {"hosts": ["other"], "http": [{"directResponse": {"status": 202}}]}, name="marker")
    becomes(mesh, "the marker", lambda: call(mesh, service="other").status == 202)
    assert call(mesh).status == 200


def test_rewrite_headers_and_redirect(mesh: Mesh) -> None:
    operations = {
        "request": {"set": {"x-set": "1"}, "add": {"x-add": "2"}, "remove": ["x-gone"]},
        "response": {"set": {"x-answer": "yes"}},
    }
    route(
        mesh,
        {
            "match": [{"uri": {"prefix": "/old/"}}],
            "rewrite": {"uri": "/new/", "authority": "elsewhere"},
            "headers": operations,
            "route": [to()],
        },
        {"match": [{"uri": {"prefix": "/moved"}}], "redirect": {"uri": "/there", "redirectCode": 308}},
        {"route": [to()]},
    )
    wait_for("the rewrite", lambda: call(mesh, "/old/x").json.get("path") == "/new/x")
    told = call(mesh, "/old/x", "-H", "x-gone: here").json["headers"]
    assert (told["x-set"], told["x-add"], told["host"], "x-gone" in told) == ("1", "2", "elsewhere", False)
    assert "x-answer: yes" in call(mesh, "/old/x", "-i").body.lower()
    plain = call(mesh, "/x", "-H", "x-gone: here")
    assert plain.json["path"] == "/x"
    assert "x-gone" in plain.json["headers"]
    moved = call(mesh, "/moved", "-i")
    assert moved.status == 308
    assert "location: http" in moved.body.lower()


def test_a_timeout_is_504_and_without_one_the_answer_comes(mesh: Mesh) -> None:
    route(mesh, {"match": [{"uri": {"prefix": "/slow"}}], "timeout": "100ms", "route": [to()]}, {"route": [to()]})
    becomes(mesh, "504", lambda: call(mesh, "/slow").status == 504)
    assert call(mesh, "/fast").status == 200


def test_faults_hit_the_share_that_is_asked_for(mesh: Mesh) -> None:
    abort = {"abort": {"httpStatus": 555, "percentage": {"value": 100}}}
    route(mesh, {"match": [{"headers": {"x-test": {}}}], "fault": abort, "route": [to()]}, {"route": [to()]})
    becomes(mesh, "the fault", lambda: call(mesh, "/", "-H", "x-test: 1").status == 555)
    assert call(mesh).status == 200
    route(mesh, {"fault": {"delay": {"fixedDelay": "300ms", "percentage": {"value": 100}}}, "route": [to()]})
    seconds = ("-o", "/dev/null", "-w", "%{time_total}\n%{http_code}")
    wait_for("the delay", lambda: float(call(mesh, "/", *seconds).body.splitlines()[0] or 0) >= 0.3)


def test_retries_are_counted_at_the_server_and_can_be_switched_off(mesh: Mesh) -> None:
    def tries(path: str) -> int:
        counters = mesh.sidecars["sleep"].counters("upstream_rq_retry$")
        before = sum(counters.values())
        call(mesh, path)
        return sum(mesh.sidecars["sleep"].counters("upstream_rq_retry$").values()) - before

    retries = {"attempts": 3, "retryOn": "404"}
    route(mesh, {"retries": retries, "route": [to()]})
    wait_for("three retries", lambda: tries("/broken") == 3)
    route(mesh, {"retries": {"attempts": 0}, "route": [to()]})
    wait_for("none", lambda: tries("/broken") == 0)


def test_a_tcp_route_sends_bytes_to_its_subset(mesh: Mesh) -> None:
    mesh.apply("DestinationRule", {"host": "reviews", "subsets": [{"name": "none", "labels": {"version": "v9"}}]})
    address = mesh.seen_from("sleep", "reviews")

    def answer() -> bytes:
        return talk(address, TCP, b"ping pong", tls=False)[0]

    assert answer() == b"echo:ping pong"
    destination = {"host": "reviews", "subset": "none", "port": {"number": TCP}}
    mesh.apply("VirtualService", {"hosts": ["reviews"], "tcp": [{"route": [{"destination": destination}]}]})
    wait_for("an empty subset", lambda: answer() == b"")
    assert call(mesh).status == 200, "HTTP is not touched"
