"""URLs, Accept headers, bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.embedded.apiserver import protobuf
from labkit.embedded.apiserver.decoding import WrongType, decode_builtin, parse_body
from labkit.embedded.apiserver.failures import StatusError
from labkit.embedded.apiserver.requests import Target, is_true, parse_accept, parse_target


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("api/v1/pods", Target("", "v1", "pods")),
        ("api/v1/namespaces", Target("", "v1", "namespaces")),
        ("api/v1/namespaces/x", Target("", "v1", "namespaces", "", "x")),
        ("api/v1/namespaces/x/status", Target("", "v1", "namespaces", "", "x", "status")),
        ("api/v1/namespaces/x/finalize", Target("", "v1", "namespaces", "", "x", "finalize")),
        ("api/v1/namespaces/x/pods/p/log", Target("", "v1", "pods", "x", "p", "log")),
        ("api/v1/namespaces/x/pods/p:80/proxy/a/b", Target("", "v1", "pods", "x", "p:80", "proxy", "a/b")),
        ("apis/apps/v1/namespaces/x/deployments", Target("apps", "v1", "deployments", "x")),
        ("apis/apps/v1", None),
        ("api/v1/namespaces/x/pods/p/log/more", None),
        ("healthz", None),
    ],
)
def test_a_url_names_its_target(path: str, target: Target | None) -> None:
    assert parse_target(path.split("/")) == target


def test_the_first_offer_that_we_have_is_taken() -> None:
    assert parse_accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json").table
    assert not parse_accept("application/json, application/json;as=Table;v=v1;g=meta.k8s.io").table
    assert (
        parse_accept("application/vnd.kubernetes.protobuf;as=PartialObjectMetadata,application/json").metadata_only
        is False
    )
    assert parse_accept("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList").discovery == "v2"


@pytest.mark.parametrize(("text", "value"), [(None, False), ("", True), ("1", True), ("true", True), ("false", False)])
def test_a_flag_in_a_query(text: str | None, value: bool) -> None:
    assert is_true(text) is value


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 60)}]" for i in range(1, 6)]
    with pytest.raises(StatusError):
        parse_body("\n".join(lines).encode(), "application/yaml")


def test_half_a_surrogate_is_replaced() -> None:
    assert parse_body(b'{"a": "\\ud800"}', "application/json") == {"a": "\ufffd"}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for media in ("application/json", "application/yaml", protobuf.MEDIA_TYPE):
        try:
            parse_body(body, media)
            parse_body(protobuf.MAGIC + body, protobuf.MEDIA_TYPE)
        except StatusError as failure:
            assert failure.code in (400, 415)


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def test_a_protobuf_body_becomes_the_object() -> None:
    metadata = _field(1, b"a") + _field(11, _field(1, b"k") + _field(2, b"v"))
    names = _field(1, b"v1") + _field(2, b"ConfigMap")
    data = _field(1, metadata) + _field(2, _field(1, b"x") + _field(2, b"y"))
    decoded = protobuf.decode(protobuf.MAGIC + _field(1, names) + _field(2, data))
    assert decoded == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"k": "v"}},
        "data": {"x": "y"},
    }


def test_unknown_fields_are_dropped_and_named() -> None:
    obj, unknown = decode_builtin({"spec": {"containers": [{"name": "a", "foo": 1}], "bar": None}}, "V1Pod")
    assert obj == {"spec": {"containers": [{"name": "a"}]}}
    assert unknown == ["spec.containers[0].foo", "spec.bar"]


@pytest.mark.parametrize(
    "spec",
    [{"replicas": "1"}, {"replicas": True}, {"paused": 1}, {"template": []}, {"minReadySeconds": 2**70}],
    ids=["text", "bool", "number", "list", "too-big"],
)
def test_a_wrong_type_is_told(spec: dict[str, object]) -> None:
    with pytest.raises(WrongType):
        decode_builtin({"spec": spec}, "V1Deployment")
