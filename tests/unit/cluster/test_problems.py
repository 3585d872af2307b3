"""What the API server's refusals become: whose move it is, and what to do next."""

from __future__ import annotations

import pytest

from labkit.cluster.problems import from_status, is_not_served, unknown_kind
from labkit.errors import ClusterError, InputError, LabError, MeshError


def refused(code: int, message: str) -> LabError:
    return from_status(code, {"message": message, "reason": "Some"}, action="Applying PeerAuthentication x")


def test_a_missing_namespace_gets_the_command_that_makes_it() -> None:
    error = refused(404, 'namespaces "foo" not found')
    assert isinstance(error, InputError)
    assert "kubectl create namespace foo" in error.next_step


def test_a_wrong_mode_gets_the_allowed_ones() -> None:
    error = refused(422, 'spec.mtls.mode: Unsupported value: "X": supported values: "UNSET", "STRICT"')
    assert isinstance(error, InputError)
    assert "UNSET, DISABLE, PERMISSIVE, STRICT" in error.next_step


def test_a_denial_shows_the_webhooks_own_words() -> None:
    words = 'admission webhook "validation.istio.io" denied the request: configuration is invalid: port 0'
    error = refused(400, words)
    assert isinstance(error, InputError)
    assert words in error.what


def test_a_webhook_that_does_not_answer_is_the_meshs_affair() -> None:
    error = refused(500, 'Internal error occurred: failed calling webhook "x": connection refused')
    assert isinstance(error, MeshError)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(400, InputError), (422, InputError), (404, InputError), (401, ClusterError), (403, ClusterError),
     (409, ClusterError), (500, ClusterError)],
)  # fmt: skip
def test_each_code_has_an_owner_and_a_next_step(code: int, kind: type[LabError]) -> None:
    error = refused(code, "some message")
    assert type(error) is kind
    assert error.next_step
    assert error.details["status"] == code


def test_an_answer_without_a_status_still_names_the_code() -> None:
    assert "HTTP 502" in from_status(502, None, action="Reading").what


def test_an_unknown_kind_of_istio_asks_for_the_mesh() -> None:
    error = unknown_kind("security.istio.io/v1", "PeerAuthentication")
    assert isinstance(error, MeshError)
    assert "labkit mesh install" in error.next_step


def test_an_unknown_kind_of_istio_beside_a_mesh_names_the_kinds_that_it_has() -> None:
    error = unknown_kind("security.istio.io/v1", "AuthorizationPolicy", mesh_kinds=["PeerAuthentication"])
    assert isinstance(error, InputError)
    assert "PeerAuthentication" in error.meaning
    assert "install" not in error.next_step


def test_any_other_unknown_kind_asks_for_the_spelling() -> None:
    error = unknown_kind("apps/v1", "Deploiment")
    assert isinstance(error, InputError)
    assert "Deploiment" in error.what


def test_a_path_that_is_not_served_is_told_from_an_object_that_is_not_there() -> None:
    assert is_not_served(refused(404, "the server could not find the requested resource"))
    assert not is_not_served(refused(404, 'pods "x" not found'))
