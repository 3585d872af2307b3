"""Nothing that a client sends makes the API server crash, hang, or answer 500.

The server runs in a process of its own, so that a hang is seen from outside. Strategies are drawn from what it says
about itself: its discovery documents name the routes, and its stored objects are what bodies are mutated from.
`LABKIT_FUZZ_EXAMPLES=5000 pytest tests/embedded/test_apiserver_fuzz.py` looks harder.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.embedded.blocks import claim_block
from labkit.embedded.paths import ClusterPaths
from tests.contract.world import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Api, configmap, crd, pod

EXAMPLES = int(os.environ.get("LABKIT_FUZZ_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
QUICK = 5.0  # seconds; the slowest answer to anything
LIMIT = 3 * 1024 * 1024


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """A server with a few objects, whose process is there at the end."""
    paths = ClusterPaths(f"fuzz-{uuid.uuid4().hex[:6]}").make()
    command = [sys.executable, "-m", "labkit.embedded.apiserver", "--name", paths.name, "--block"]
    process = subprocess.Popen([*command, str(claim_block(paths))], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    process.stdout.readline()
    try:
        api = Api(paths.kubeconfig)
        furnish(api)
        yield api
        assert process.poll() is None, "the server has ended"
        assert api.get("/readyz").status == 200
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
        process.stdout.close()


OBJECTS: dict[str, Any] = {
    "/api/v1/namespaces/default/configmaps": configmap("there", key="value"),
    "/api/v1/namespaces/default/pods": pod("there"),
    "/api/v1/namespaces/default/secrets": {"metadata": {"name": "there"}, "data": {"key": "dmFsdWU="}},
    "/api/v1/namespaces/default/services": {
        "metadata": {"name": "there"},
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "name": "http"}]},
    },
    "/apis/apps/v1/namespaces/default/deployments": {
        "metadata": {"name": "there", "labels": {"a": "b"}},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]},
        },
    },
    "/apis/batch/v1/namespaces/default/jobs": {
        "metadata": {"name": "there"},
        "spec": {"template": {"spec": {**pod("x")["spec"], "restartPolicy": "Never"}}},
    },
    "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings": {
        "metadata": {"name": "there"},
        "subjects": [{"kind": "User", "name": "x"}],
        "roleRef": {"kind": "Role", "name": "y"},
    },
    "/apis/fuzz.example.com/v1/namespaces/default/widgets": {
        "metadata": {"name": "there"},
        "spec": {"replicas": 1, "list": [{"name": "a"}], "free": {}},
    },
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations": {
        "metadata": {"name": "there"},
        "webhooks": [
            {
                "name": "a.example.com",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Ignore",
                "timeoutSeconds": 1,
                "clientConfig": {"url": "https://127.0.0.1:1/"},
                "rules": [
                    {"operations": ["*"], "apiGroups": ["no"], "apiVersions": ["*"], "resources": ["*"]},
                ],
            }
        ],
    },
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "metadata": {"name": "there"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"]}],
        "ports": [{"port": 1}],
    },
}
DEFINITION = crd(
    "fuzz.example.com",
    {
        "type": "object",
        "properties": {
            "replicas": {"type": "integer", "minimum": 0},
            "list": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}}},
            },
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    },
    subresources={"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.x"}},
    additionalPrinterColumns=[{"name": "R", "type": "integer", "jsonPath": ".spec.replicas"}],
)
OBJECTS["/apis/apiextensions.k8s.io/v1/customresourcedefinitions"] = crd("other.example.com")


def furnish(api: Api) -> None:
    api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", DEFINITION).expect(201)
    for path, body in OBJECTS.items():
        api.post(path, body).expect(201)


def answered(api: Api, method: str, path: str, body: Any = None, headers: Any = None) -> int:
    """The status of the answer, which is in time and never says that the server is at fault."""
    started = time.monotonic()
    try:
        answer = api.request(method, path, body, headers=headers)
    except (
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.SSLError,
        urllib3.exceptions.LocationParseError,
        ValueError,
    ):
        return 0  # the client would not send it, or the server hung up on what is no HTTP
    took = time.monotonic() - started
    assert took < QUICK, f"{method} {path} took {took:.1f} s"
    # 501 and 503 are said on purpose: what is not part of the embedded cluster, and what does not answer.
    assert answer.status not in (500, 502), (method, path, body, answer.raw[:500])
    return answer.status


# Strategies.

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["", "..", "a/b", "0", "-1", "\u0000", "\ud800", "default", 2**63, -(2**31), 10**30, 1e300]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "spec", "metadata", "key", "$patch", "x", "", "port", "labels"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LINK"])
MEDIA = st.sampled_from(
    [
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        JSON_PATCH,
        MERGE_PATCH,
        STRATEGIC_PATCH,
        APPLY_PATCH,
        "text/plain",
        "x",
        "",
        "application/json; charset=utf-7",
        ";;;",
    ]
)
SUBRESOURCES = ["", "/status", "/scale", "/binding", "/eviction", "/finalize", "/token", "/log", "/ephemeralcontainers"]
QUERIES = st.dictionaries(
    st.sampled_from(
        [
            "limit",
            "continue",
            "labelSelector",
            "fieldSelector",
            "resourceVersion",
            "resourceVersionMatch",
            "timeoutSeconds",
            "dryRun",
            "fieldManager",
            "fieldValidation",
            "force",
            "gracePeriodSeconds",
            "propagationPolicy",
            "includeObject",
            "sendInitialEvents",
            "allowWatchBookmarks",
            "pretty",
        ]
    ),
    st.text(max_size=12)
    | st.sampled_from(
        [
            "1",
            "-1",
            "²",
            "99999999999999999999",
            "true",
            "All",
            "a=b,c in (d",
            "metadata.name=x",
            "e30=",
            "bnVsbA==",
            "W10=",
            "Exact",
            "0",
            "x" * 2000,
            "(" * 1000,
            "a," * 1000,
            "a=" * 500,
            " " * 3000,
            "metadata.name" * 200,
        ]
    ),
    max_size=4,
)
ACCEPTS = st.sampled_from(
    [
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        "*/*",
        "",
        ";=;,",
        "text/html",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        "application/vnd.kubernetes.protobuf",
    ]
)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Any]:
    """An object that exists, with one or more of its parts replaced."""
    path = draw(st.sampled_from(sorted(OBJECTS)))
    body = json.loads(json.dumps(OBJECTS[path]))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(body))
        holder, key = draw(st.sampled_from(places))
        with contextlib.suppress(KeyError, IndexError, TypeError):
            holder[key] = draw(JSON)
    return path, body


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, item in items:
        yield value, key
        yield from _places(item)


@settings(PROFILE, max_examples=(EXAMPLES or 150) * 2)
@given(mutations(), st.sampled_from(["POST", "PUT", "dry", JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH]))
def test_mutated_objects_are_taken_or_refused(api: Api, mutation: tuple[str, Any], how: str) -> None:
    path, body = mutation
    sent = json.dumps(body).encode()
    if how == "POST":
        answered(api, "POST", path, sent)
    elif how == "dry":
        answered(api, "PUT", f"{path}/there?dryRun=All", sent)
    elif how == "PUT":
        answered(api, "PUT", f"{path}/there", sent)
    else:
        patch = [{"op": "add", "path": f"/{key}", "value": body[key]} for key in body] if how == JSON_PATCH else body
        query = "?fieldManager=x&force=true"
        answered(api, "PATCH", f"{path}/there{query}", json.dumps(patch).encode(), {"Content-Type": how})


@settings(PROFILE)
@given(
    METHODS,
    st.sampled_from([*sorted(OBJECTS), "/api/v1/namespaces", "/api/v1/pods", "/openapi/v3", "/apis", "/version"]),
    st.sampled_from(["", "/there", "/no", "/%ff", "/..", "//", "/a%2fb", "/%00"]),
    st.sampled_from(SUBRESOURCES),
    QUERIES,
    MEDIA,
    ACCEPTS,
    st.none() | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20),
)
def test_odd_requests_are_answered(
    api: Api, method: str, path: str, name: str, sub: str, query: Any, media: str, accept: str, body: bytes | None
) -> None:
    text = "&".join(f"{key}={quote(value.encode(errors='replace'))}" for key, value in query.items())
    target = f"{path}{name}{sub if name else ''}" + (f"?dryRun=All&{text}" if "dryRun" not in query else f"?{text}")
    answered(api, method, target, body, {"Content-Type": media, "Accept": accept})


@settings(PROFILE)
@given(st.lists(st.dictionaries(st.sampled_from(["op", "path", "from", "value", "x"]), JSON, max_size=4), max_size=4))
def test_odd_json_patches_are_refused(api: Api, patch: Any) -> None:
    for operation in patch:
        if isinstance(operation.get("op"), str):
            operation["op"] = "copy"
    path = "/apis/fuzz.example.com/v1/namespaces/default/widgets/there?dryRun=All"
    answered(api, "PATCH", path, json.dumps(patch).encode(), {"Content-Type": JSON_PATCH})


@settings(PROFILE)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "type",
                "properties",
                "items",
                "pattern",
                "enum",
                "required",
                "minLength",
                "maximum",
                "multipleOf",
                "oneOf",
                "allOf",
                "not",
                "additionalProperties",
                "default",
                "format",
                "x-kubernetes-list-type",
                "nullable",
                "x-kubernetes-list-map-keys",
                "x-kubernetes-int-or-string",
                "uniqueItems",
                "x-kubernetes-map-type",
            ]
        ),
        JSON
        | st.sampled_from(["object", "array", "string", "integer", "set", "map", "(", "date-time"])
        | st.dictionaries(st.sampled_from(["type", "items", "properties", "pattern", "x"]), JSON, max_size=2),
        max_size=4,
    ),
    JSON,
)
def test_definitions_that_are_accepted_serve(api: Api, schema: Any, value: Any) -> None:
    """A schema is refused when it is made, or it works; and no definition spoils the documents about all kinds."""
    group = "schemas.example.com"
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    body = crd(group, {"type": "object", "properties": {"a": schema, "b": {"type": "array", "items": schema}}})
    if answered(api, "POST", definitions, json.dumps(body).encode()) == 201:
        widgets = f"/apis/{group}/v1/namespaces/default/widgets"
        made = {"metadata": {"name": "w"}, "spec": {"a": value, "b": [value, value]}}
        for media, method in (("application/json", "POST"), (APPLY_PATCH, "PATCH"), (MERGE_PATCH, "PATCH")):
            target = widgets if method == "POST" else f"{widgets}/w?fieldManager=x"
            answered(api, method, target, json.dumps(made).encode(), {"Content-Type": media})
        answered(api, "GET", widgets, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})
        answered(api, "GET", f"/openapi/v3/apis/{group}/v1")
        api.delete(f"{definitions}/widgets.{group}").expect(200)


# Size and depth.


def test_a_body_over_the_limit_is_refused(api: Api) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    body = json.dumps(configmap("large", key="x" * LIMIT)).encode()
    assert answered(api, "POST", path, body) == 413
    assert answered(api, "POST", path, gzip.compress(body), {"Content-Encoding": "gzip"}) == 413
    assert answered(api, "POST", path, gzip.compress(body)[:-9], {"Content-Encoding": "gzip"}) in (400, 413)


@pytest.mark.parametrize("depth", [150, 250, 900, 5_000, 1_000_000])
@pytest.mark.parametrize("extra", ["", '"\\u0041",'])
def test_deep_json_is_refused(api: Api, depth: int, extra: str) -> None:
    deep = ("[" * depth + "]" * depth).encode()
    path = "/apis/fuzz.example.com/v1/namespaces/default/widgets"
    body = b'{"metadata":{"name":"deep"},"x":[' + extra.encode() + b'1],"spec":{"free":{"x":' + deep + b"}}}"
    status = answered(api, "POST", f"{path}?dryRun=All", body)
    assert status == (201 if depth < 200 else 400)
    for media in (MERGE_PATCH, APPLY_PATCH):
        answered(api, "PATCH", f"{path}/there?fieldManager=x&dryRun=All", body, {"Content-Type": media})


@pytest.mark.parametrize("media", [STRATEGIC_PATCH, APPLY_PATCH, MERGE_PATCH])
def test_long_lists_are_merged_in_time(api: Api, media: str) -> None:
    path = "/api/v1/namespaces/default/services/there?fieldManager=long&force=true&dryRun=All"
    for first in (1, 20_000):
        ports = [{"port": first + i, "name": f"p{i}"} for i in range(20_000)]
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "there"}, "spec": {"ports": ports}}
        answered(api, "PATCH", path, json.dumps(body).encode(), {"Content-Type": media})


def test_copies_that_double_are_refused(api: Api) -> None:
    path = "/apis/fuzz.example.com/v1/namespaces/default/widgets/there?dryRun=All"
    patch = [{"op": "add", "path": "/spec/free/a", "value": "x" * 1000}]
    patch += [{"op": "copy", "from": "/spec/free", "path": f"/spec/free/c{i}"} for i in range(40)]
    assert answered(api, "PATCH", path, json.dumps(patch).encode(), {"Content-Type": JSON_PATCH}) == 413


def test_a_pattern_that_would_never_end_does(api: Api) -> None:
    group = "patterns.example.com"
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    status = answered(api, "POST", definitions, json.dumps(crd(group, schema)).encode())
    if status == 201:
        made = {"metadata": {"name": "w"}, "spec": {"a": "a" * 60 + "!"}}
        path = f"/apis/{group}/v1/namespaces/default/widgets"
        assert answered(api, "POST", path, json.dumps(made).encode()) == 422
        made["spec"]["a"] = "a" * 60
        assert answered(api, "POST", path, json.dumps(made).encode()) == 201
        api.delete(f"{definitions}/widgets.{group}").expect(200)


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata":{"name":"\xff\xfe"}}',
        b"\xef\xbb\xbf{}",
        b'{"metadata":{"name":"x","labels":{"a":"\xed\xa0\x80"}}}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"",
        b"null",
        b"[]",
        b"\x00" * 100,
        b"k8s\x00\xff\xff\xff\xff",
        b"k8s\x00" + b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    ],
)
@pytest.mark.parametrize("media", ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"])
def test_what_is_no_object_is_refused(api: Api, body: bytes, media: str) -> None:
    for path in ("/api/v1/namespaces/default/pods", "/apis/fuzz.example.com/v1/namespaces/default/widgets"):
        status = answered(api, "POST", path, body, {"Content-Type": media})
        assert 400 <= status < 500


def test_large_yaml_does_not_keep_others_waiting(api: Api) -> None:
    lines = "".join(f"    k{i}: v{i}\n" for i in range(60_000))
    body = f"metadata:\n  name: large\nspec:\n  free:\n{lines}".encode()
    path = "/apis/fuzz.example.com/v1/namespaces/default/widgets?dryRun=All"
    assert answered(api, "POST", path, body, {"Content-Type": "application/yaml"}) in (201, 413)


# Below HTTP.


@contextlib.contextmanager
def connection(api: Api) -> Iterator[ssl.SSLSocket]:
    host, port = api.server.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=api.client.configuration.ssl_ca_cert)
    with (
        socket.create_connection((host, int(port)), timeout=QUICK) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        yield secure


def status_of(api: Api, request: bytes) -> int:
    """The status of the answer to these bytes; 0 when the server hangs up without one."""
    with connection(api) as secure:
        secure.sendall(request)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            first = secure.recv(4096)
            return int(first.split(b" ")[1]) if first.startswith(b"HTTP/") else 0
    return 0


def head(api: Api, line: str, *lines: str) -> bytes:
    token = api.headers["Authorization"]
    return "\r\n".join([line, "Host: x", f"Authorization: {token}", *lines, "", ""]).encode("latin-1")


PODS = "/api/v1/namespaces/default/pods"


@pytest.mark.parametrize(
    ("line", "lines", "body"),
    [
        (f"POST {PODS} HTTP/1.1", ("Transfer-Encoding: chunked",), b"zz\r\n{}\r\n0\r\n\r\n"),
        (f"POST {PODS} HTTP/1.1", ("Transfer-Encoding: chunked", "Content-Length: 3"), b"2\r\n{}\r\n0\r\n\r\n"),
        (f"POST {PODS} HTTP/1.1", ("Content-Length: -1",), b""),
        (f"POST {PODS} HTTP/1.1", ("Content-Encoding: gzip", "Content-Length: 4"), b"nogz"),
        (f"POST {PODS} HTTP/1.1", ("Content-Encoding: br", "Content-Length: 4"), b"nobr"),
        (f"POST {PODS} HTTP/1.1", ("Expect: nonsense", "Content-Length: 2"), b"{}"),
        (f"POST {PODS} HTTP/1.1", ("Content-Length: 2", "User-Agent: \xff\xfe\xed"), b"{}"),
        (f"POST {PODS} HTTP/1.1", ("Content-Length: 2", "Content-Type: \xff;\xfe"), b"{}"),
        (f"GET {PODS}?labelSelector=%ff%fe HTTP/1.1", ("Accept: \xff",), b""),
        (f"GET {PODS}/%ED%A0%80 HTTP/1.1", (), b""),
        (f"GET {PODS}?watch=1&resourceVersion=%C2%B2 HTTP/1.1", (), b""),
        ("GET http://other/api/v1/pods HTTP/1.1", (), b""),
        ("GET * HTTP/1.1", (), b""),
        ("OPTIONS * HTTP/1.1", (), b""),
        ("CONNECT x:443 HTTP/1.1", (), b""),
        ("GET / HTTP/9.9", (), b""),
        ("GET /" + "x" * 20_000 + " HTTP/1.1", (), b""),
        (f"GET {PODS} HTTP/1.1", ("X: " + "y" * 20_000,), b""),
        (f"GET {PODS} HTTP/1.1", tuple(f"X{i}: y" for i in range(500)), b""),
        (f"GET {PODS}/there/exec HTTP/1.1", ("Connection: Upgrade", "Upgrade: nonsense"), b""),
        ("PRI * HTTP/2.0", (), b"SM\r\n\r\n"),
    ],
)
def test_tricks_with_lines_and_headers(api: Api, line: str, lines: tuple[str, ...], body: bytes) -> None:
    status = status_of(api, head(api, line, *lines) + body)
    assert status not in (500, 502), status


@pytest.mark.parametrize("credential", ["", "Bearer", "Bearer ", "Bearer \xff\xfe", "Basic x", "Bearer " + "x" * 5000])
def test_without_the_token_every_answer_is_401(api: Api, credential: str) -> None:
    lines = [f"GET {PODS} HTTP/1.1", "Host: x", *([f"Authorization: {credential}"] if credential else []), "", ""]
    assert status_of(api, "\r\n".join(lines).encode("latin-1")) == 401


def test_an_anonymous_body_is_not_read(api: Api) -> None:
    lines = [f"POST {PODS} HTTP/1.1", "Host: x", "Content-Length: 1000000000", "", ""]
    assert status_of(api, "\r\n".join(lines).encode()) == 401


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "LINK", "delete"])
def test_an_unknown_method_deletes_nothing(api: Api, method: str) -> None:
    for path in ("/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/secrets/there"):
        assert status_of(api, head(api, f"{method} {path} HTTP/1.1")) in (400, 405)
    api.get("/api/v1/namespaces/default/secrets/there").expect(200)


def test_slow_clients_keep_nobody_waiting(api: Api) -> None:
    """Half requests, half bodies, bodies that come byte by byte: everybody else is served meanwhile."""
    with contextlib.ExitStack() as stack:
        for start in (b"", b"GET", head(api, f"POST {PODS} HTTP/1.1", "Content-Length: 1000") + b"{"):
            for _ in range(10):
                stack.enter_context(connection(api)).sendall(start)
        started = time.monotonic()
        for _ in range(20):
            api.get(PODS).expect(200)
        assert time.monotonic() - started < QUICK


def test_a_watcher_that_does_not_read_is_cut_off(api: Api, tmp_path: Path) -> None:
    """What waits for it does not fill the server's memory, and nobody else notices."""
    with connection(api) as secure:
        secure.sendall(head(api, "GET /api/v1/namespaces/default/configmaps?watch=1 HTTP/1.1"))
        assert secure.recv(12) == b"HTTP/1.1 200"
        for i in range(60):
            body = configmap("busy", key=str(i) + "x" * 900_000)
            method, path = ("PUT", "/busy") if i else ("POST", "")
            api.request(method, f"/api/v1/namespaces/default/configmaps{path}", body).expect(200 if i else 201)
        api.delete("/api/v1/namespaces/default/configmaps/busy").expect(200)
        with contextlib.suppress(ConnectionError, ssl.SSLError):  # a timeout would be a stream that goes on
            while secure.recv(1 << 20):
                pass
