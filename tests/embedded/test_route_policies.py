"""What VirtualServices do to requests beside leading them: retries, faults, mirrors, CORS, headers, rewrites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.embedded.envoy_world import Mesh, wait_for
from tests.embedded.routes_world import (
    HTTP,
    SUBSETS,
    Object,
    becomes,
    call,
    clean_up,
    route,
    routed_mesh,
    to,
    version,
)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with routed_mesh("policies") as mesh:
        yield mesh


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    clean_up(mesh)


def head(mesh: Mesh, path: str, *options: str) -> dict[str, str]:
    """The headers of an answer, and its code as `:status`."""
    lines = call(mesh, path, "-i", "-o", "-", *options).body.split("\r\n\r\n")[0].splitlines()
    found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return {**found, ":status": lines[0].split()[1]}


# CORS


def preflight(origin: str, method: str = "POST") -> tuple[str, ...]:
    return ("-X", "OPTIONS", "-H", f"Origin: {origin}", "-H", f"Access-Control-Request-Method: {method}")


CORS = {
    "allowOrigins": [{"exact": "https://shop.example"}, {"regex": r"https://.*\.trusted\.example"}],
    "allowMethods": ["GET", "POST"],
    "allowHeaders": ["x-user"],
    "exposeHeaders": ["x-answer"],
    "maxAge": "24h",
    "allowCredentials": True,
}


@pytest.mark.parametrize("origin", ["https://shop.example", "https://a.trusted.example"])
def test_a_preflight_of_an_allowed_origin_is_answered_by_the_proxy(mesh: Mesh, origin: str) -> None:
    route(mesh, {"corsPolicy": CORS, "route": [to()]})
    wait_for("the policy", lambda: head(mesh, "/", *preflight(origin))[":status"] == "200")
    told = head(mesh, "/", *preflight(origin))
    assert told["access-control-allow-origin"] == origin
    assert told["access-control-allow-methods"] == "GET,POST"
    assert told["access-control-allow-headers"] == "x-user"
    assert told["access-control-max-age"] == "86400"
    assert told["access-control-allow-credentials"] == "true"
    plain = head(mesh, "/", "-H", f"Origin: {origin}")
    assert (plain[":status"], plain["access-control-expose-headers"]) == ("200", "x-answer")


def test_another_origin_gets_no_permission_and_by_default_its_preflight_reaches_the_application(mesh: Mesh) -> None:
    foreign = "https://evil.example"
    route(mesh, {"corsPolicy": CORS, "route": [to()]})
    wait_for("the policy", lambda: head(mesh, "/", *preflight("https://shop.example"))[":status"] == "200")
    told = head(mesh, "/", *preflight(foreign))
    assert told[":status"] == "501", "the application's own words: it knows no OPTIONS"
    assert "access-control-allow-origin" not in head(mesh, "/", "-H", f"Origin: {foreign}")
    route(mesh, {"corsPolicy": {**CORS, "unmatchedPreflights": "IGNORE"}, "route": [to()]})
    becomes(mesh, "the answer", lambda: head(mesh, "/", *preflight(foreign))[":status"] == "200")
    assert "access-control-allow-origin" not in head(mesh, "/", *preflight(foreign))


def test_without_a_policy_no_origin_gets_permission(mesh: Mesh) -> None:
    told = head(mesh, "/", *preflight("https://shop.example"))
    assert told[":status"] == "501"
    assert "access-control-allow-origin" not in told


# Retries


def retried(mesh: Mesh, path: str = "/broken") -> int:
    """How often the client's proxy sends one request again."""

    def count() -> int:
        return sum(mesh.sidecars["sleep"].counters("cluster.*upstream_rq_retry$").values())

    before = count()
    call(mesh, path)
    return count() - before


@pytest.mark.parametrize(
    ("retries", "expected"),
    [
        ({"attempts": 2, "retryOn": "404"}, 2),
        ({"attempts": 4, "retryOn": "retriable-status-codes, 404", "backoff": "10ms"}, 4),
        ({"attempts": 2, "retryOn": "retriable-4xx"}, 0),  # of the codes 4xx, that is 409 alone
        ({"attempts": 2, "retryOn": "5xx"}, 0),
        ({"retryOn": "404"}, 0),  # no attempts are none
        ({"attempts": 1, "retryOn": "404", "retryIgnorePreviousHosts": False}, 1),
    ],
    ids=str,
)
def test_a_request_is_tried_again_as_often_as_is_asked_for(mesh: Mesh, retries: Object, expected: int) -> None:
    marker = {"match": [{"uri": {"exact": "/marker"}}], "directResponse": {"status": 201}}
    route(mesh, marker, {"retries": retries, "route": [to()]})
    wait_for("the marker", lambda: call(mesh, "/marker").status == 201)
    assert retried(mesh) == expected


def test_each_try_has_its_own_time(mesh: Mesh) -> None:
    retries = {"attempts": 2, "perTryTimeout": "100ms", "retryOn": "gateway-error"}
    route(mesh, {"retries": retries, "route": [to()]})
    wait_for("three times 100 ms", lambda: call(mesh, "/slow").status == 504)
    assert retried(mesh, "/slow") == 2
    assert call(mesh, "/fast").status == 200


# Faults


@pytest.mark.parametrize(
    ("abort", "expected"),
    [
        ({"httpStatus": 418, "percentage": {"value": 100}}, 418),
        ({"httpStatus": 418, "percentage": {"value": 0}}, 200),
        ({"httpStatus": 418}, 200),
    ],
    ids=str,
)
def test_an_abort_hits_its_share_and_without_one_nobody(mesh: Mesh, abort: Object, expected: int) -> None:
    marker = {"match": [{"uri": {"exact": "/marker"}}], "directResponse": {"status": 201}}
    route(mesh, marker, {"fault": {"abort": abort}, "route": [to()]})
    wait_for("the marker", lambda: call(mesh, "/marker").status == 201)
    assert {call(mesh).status for _ in range(10)} == {expected}


def test_a_caller_that_speaks_grpc_is_told_the_status_as_grpc_does(mesh: Mesh) -> None:
    speaks = ("-H", "Content-Type: application/grpc")
    assert "grpc-status" not in head(mesh, "/", *speaks)
    for name, number in (("UNAVAILABLE", "14"), ("PERMISSION_DENIED", "7")):
        route(mesh, {"fault": {"abort": {"grpcStatus": name, "percentage": {"value": 100}}}, "route": [to()]})
        wait_for(name, lambda number=number: head(mesh, "/", *speaks).get("grpc-status") == number)  # type: ignore[misc]


def test_a_share_of_faults_hits_a_share_of_requests(mesh: Mesh) -> None:
    route(mesh, {"fault": {"abort": {"httpStatus": 418, "percentage": {"value": 50}}}, "route": [to()]})
    wait_for("a fault", lambda: call(mesh).status == 418)
    seen = [call(mesh).status for _ in range(60)]
    assert set(seen) == {200, 418}
    assert 10 <= seen.count(418) <= 50


# Mirrors


def received(mesh: Mesh, version_: str) -> int:
    """How many requests the proxy of a version passed on to its application."""
    return sum(mesh.sidecars[f"reviews-{version_}"].counters(rf"inbound\|{HTTP}.*upstream_rq_total$").values())


@pytest.mark.parametrize(
    ("mirror", "copies"),
    [
        ({"mirror": {"host": "reviews", "subset": "v2"}}, 5),
        ({"mirrors": [{"destination": {"host": "reviews", "subset": "v2"}, "percentage": {"value": 100}}]}, 5),
        ({"mirror": {"host": "reviews", "subset": "v2"}, "mirrorPercentage": {"value": 0}}, 0),
        ({}, 0),
    ],
    ids=str,
)
def test_a_mirror_gets_a_copy_and_the_caller_the_first_answer(mesh: Mesh, mirror: Object, copies: int) -> None:
    mesh.apply("DestinationRule", {"host": "reviews", "subsets": SUBSETS})
    marker = {"match": [{"uri": {"exact": "/marker"}}], "directResponse": {"status": 201}}
    route(mesh, marker, {"route": [to("v1")], **mirror})
    wait_for("the marker", lambda: call(mesh, "/marker").status == 201)
    first, copy = received(mesh, "v1"), received(mesh, "v2")
    assert [version(call(mesh)) for _ in range(5)] == ["v1"] * 5
    wait_for("the copies", lambda: received(mesh, "v2") - copy == copies)
    assert received(mesh, "v1") - first == 5


# Headers, rewrites, redirects


def test_a_single_destination_changes_headers_and_host_unless_the_route_does(mesh: Mesh) -> None:
    headers = {"request": {"set": {"x-from": "destination", "Host": "far.example"}, "remove": ["x-gone", "host"]}}
    destination = to(headers=headers)
    own = {"request": {"add": {":authority": "near.example", "x-from": "route"}}}
    route(
        mesh,
        {"match": [{"uri": {"prefix": "/both"}}], "headers": own, "route": [destination]},
        {
            "match": [{"uri": {"prefix": "/rewritten"}}],
            "headers": own,
            "rewrite": {"authority": "new.example"},
            "route": [to()],
        },
        {"route": [destination]},
    )
    wait_for("the header", lambda: call(mesh, "/").json["headers"].get("x-from") == "destination")
    told = call(mesh, "/", "-H", "x-gone: here").json["headers"]
    assert (told["host"], "x-gone" in told) == ("far.example", False)
    assert call(mesh, "/both").json["headers"]["host"] == "near.example"
    assert call(mesh, "/rewritten").json["headers"]["host"] == "new.example"


def test_a_weighted_destination_changes_its_own_requests_alone(mesh: Mesh) -> None:
    mesh.apply("DestinationRule", {"host": "reviews", "subsets": SUBSETS})
    changed = {"request": {"set": {"host": "v1.example"}}, "response": {"set": {"x-version": "v1"}}}
    route(mesh, {"route": [to("v1", 50, headers=changed), to("v2", 50)]})

    def hosts() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for answer in [call(mesh, "/", "-H", "Host: mine.example") for _ in range(20)]:
            found.setdefault(version(answer), set()).add(answer.json["headers"]["host"])
        return found

    becomes(mesh, "the change", lambda: hosts() == {"v1": {"v1.example"}, "v2": {"mine.example"}})


REWRITES = [
    # match, rewrite, path asked for, path that the application is told
    ({"prefix": "/a/"}, {"uri": "/b/"}, "/a/x?q=1", "/b/x?q=1"),
    ({"exact": "/a"}, {"uri": "/b"}, "/a", "/b"),
    ({"regex": "/a+"}, {"uri": "/b"}, "/aaa?q=1", "/b?q=1"),
    (
        {"prefix": "/"},
        {"uriRegexRewrite": {"match": "^/service/([^/]+)(/.*)$", "rewrite": r"\2/instance/\1"}},
        "/service/foo/v1/api",
        "/v1/api/instance/foo",
    ),
    (
        {"prefix": "/"},
        {"uriRegexRewrite": {"match": "^/service/([^/]+)(/.*)$", "rewrite": r"\2/instance/\1"}},
        "/else",
        "/else",
    ),
]


@pytest.mark.parametrize(("match", "rewrite", "asked", "told"), REWRITES, ids=str)
def test_paths_are_rewritten(mesh: Mesh, match: Object, rewrite: Object, asked: str, told: str) -> None:
    """The regular expression is the example of istio.io/latest/docs/reference/config/networking/virtual-service."""
    marker = {"match": [{"uri": {"exact": "/marker"}}], "directResponse": {"status": 201}}
    route(mesh, marker, {"match": [{"uri": match}], "rewrite": rewrite, "route": [to()]}, {"route": [to()]})
    wait_for("the marker", lambda: call(mesh, "/marker").status == 201)
    assert call(mesh, asked).json["path"] == told
    assert call(mesh, "/untouched/by/any").json["path"] == "/untouched/by/any"


@pytest.mark.parametrize(
    ("redirect", "code", "location"),
    [
        ({"uri": "/there"}, 301, "http://shop.example/there"),
        ({"authority": "other.example", "redirectCode": 302}, 302, "http://other.example/moved"),
        ({"scheme": "https", "port": 8443}, 301, "https://shop.example:8443/moved"),
        ({"scheme": "https", "port": 443}, 301, "https://shop.example/moved"),
        ({"derivePort": "FROM_REQUEST_PORT"}, 301, f"http://shop.example:{HTTP}/moved"),
        ({"derivePort": "FROM_PROTOCOL_DEFAULT", "redirectCode": 307}, 307, "http://shop.example/moved"),
    ],
    ids=str,
)
def test_redirects_say_where_to_go(mesh: Mesh, redirect: Object, code: int, location: str) -> None:
    route(mesh, {"match": [{"uri": {"prefix": "/moved"}}], "redirect": redirect}, {"route": [to()]})
    wait_for("the redirect", lambda: call(mesh, "/moved").status == code)
    assert head(mesh, "/moved", "-H", "Host: shop.example")["location"] == location
    assert call(mesh, "/").status == 200


def test_a_match_counts_its_requests_under_its_prefix_and_its_name_is_the_routes(mesh: Mesh) -> None:
    match = {"uri": {"prefix": "/counted"}, "statPrefix": "counted", "name": "first"}
    route(mesh, {"name": "all", "match": [match], "route": [to()]}, {"route": [to()]})
    wait_for("the route", lambda: "all.first" in mesh.sidecars["sleep"].admin("config_dump"))
    for path in ("/counted", "/counted/too", "/other"):
        assert call(mesh, path).status == 200

    def counted() -> list[int]:
        return list(mesh.sidecars["sleep"].counters(r"route\.counted\.upstream_rq_total").values())

    wait_for("two requests", lambda: counted() == [2])
