"""The frontend with a real backend, with none, and with something else in its place."""

from __future__ import annotations

import re

import pytest


def test_the_page_has_a_labelled_box_and_a_live_log(start_app):
    status, kind, page = start_app("chatfrontend.py").request("GET", "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert '<label class="aside" for="message">' in page
    assert 'role="log" aria-live="polite"' in page
    assert 'lang="en"' in page


def test_the_page_loads_nothing_from_elsewhere(start_app):
    _, _, page = start_app("chatfrontend.py").request("GET", "/")
    assert re.findall(r"""(?:src|href)=["'](?!data:)""", page) == []


def test_a_message_travels_to_the_backend_and_back(start_app):
    backend = start_app("chatbackend.py")
    status, answer = start_app("chatfrontend.py", BACKEND_URL=backend.url).chat("hello from curl")
    assert status == 200
    assert answer["model"] == "workshop-mini-1"
    assert '"POST /chat HTTP/1.1" 200' in backend.log()


def test_without_a_backend_the_error_is_kind(start_app):
    app = start_app("chatfrontend.py", BACKEND_URL="http://127.0.0.1:1/chat")
    status, answer = app.chat("hello")
    assert status == 502
    assert answer["error"] == "The backend cannot be reached."
    assert "Traceback" not in app.log()


def test_a_backend_name_that_does_not_exist_is_502(start_app):
    status, answer = start_app("chatfrontend.py", BACKEND_URL="http://no-such-host.invalid:5000/chat").chat("hello")
    assert (status, answer["error"]) == (502, "The backend cannot be reached.")


def test_the_backends_own_explanation_is_passed_on(start_app):
    backend = start_app("chatbackend.py")
    status, answer = start_app("chatfrontend.py", BACKEND_URL=backend.url).chat(" ")
    assert status == 400
    assert "not empty" in answer["error"]


def test_a_proxys_words_are_shown_when_it_answers_instead(start_app, model_endpoint):
    proxy = model_endpoint(503, b"upstream connect error or disconnect/reset before headers")
    status, answer = start_app("chatfrontend.py", BACKEND_URL=proxy.url + "/chat").chat("hello")
    assert status == 502
    assert answer == {
        "error": "The backend answered 503.",
        "detail": "upstream connect error or disconnect/reset before headers",
    }


def test_an_answer_that_is_no_reply_is_502(start_app, model_endpoint):
    impostor = model_endpoint(200, {"something": "else"})
    assert start_app("chatfrontend.py", BACKEND_URL=impostor.url + "/chat").chat("hello")[0] == 502


@pytest.mark.parametrize("url", ["https://backend/chat", "chatbackend-service:5000", ""])
def test_a_backend_address_that_is_none_is_502(start_app, url):
    status, answer = start_app("chatfrontend.py", BACKEND_URL=url).chat("hello")
    assert status == 502
    assert answer["error"]
