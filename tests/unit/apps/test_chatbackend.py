"""The backend on its own: its answers, its errors, and the key that must not leave it."""

from __future__ import annotations

import json
import signal
import socket
from email.message import Message

import pytest

from labkit.apps.chatbackend import OTHERWISE, TOPICS, built_in_reply, completions_request
from labkit.apps.webapp import caller_in

KEY = "sk-very-secret-0123456789"
COMPLETION = {"model": "big-model-2", "choices": [{"message": {"role": "assistant", "content": "Good day."}}]}


def test_a_message_gets_a_model_and_a_reply(start_app):
    status, answer = start_app("chatbackend.py").chat("hello from curl")
    assert status == 200
    assert answer.keys() == {"model", "reply"}
    assert answer["model"] == "workshop-mini-1"


def test_health_is_answered_without_a_model(start_app):
    app = start_app("chatbackend.py", AZURE_API_URL="http://127.0.0.1:1", AZURE_API_KEY=KEY)
    assert app.request("GET", "/healthz")[0] == 200


class TestBuiltInModel:
    def test_the_same_message_gets_the_same_reply(self):
        assert built_in_reply("hello") == built_in_reply("hello")

    def test_different_messages_get_varied_replies(self):
        assert len({built_in_reply(f"hello {n}") for n in range(20)}) > 1

    @pytest.mark.parametrize(
        ("message", "word"),
        [
            ("What does STRICT do?", "STRICT"),
            ("and permissive?", "PERMISSIVE"),
            ("what is mTLS", "mTLS|Mutual"),
            ("show me your certificate", "certificate"),
        ],
    )
    def test_it_knows_the_workshops_words(self, message, word):
        assert any(part in built_in_reply(message) for part in word.split("|"))

    def test_a_message_it_does_not_know_is_quoted_and_shortened(self):
        reply = built_in_reply("qwertz " * 50)
        assert "qwertz" in reply
        assert len(reply) < 250

    def test_braces_in_a_message_are_only_text(self):
        assert "{0} {message}" in built_in_reply("{0} {message}")

    def test_every_topic_has_a_choice(self):
        assert all(len(replies) > 1 for _, replies in TOPICS)
        assert len(OTHERWISE) > 1


class TestBadInput:
    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"not json", id="not_json"),
            pytest.param(b"\xff\xfe{", id="not_utf8"),
            pytest.param(b"", id="empty"),
            pytest.param(b"[1]", id="not_an_object"),
            pytest.param(b"{}", id="no_message"),
            pytest.param(b'{"message": 5}', id="message_is_no_text"),
            pytest.param(b'{"message": "  "}', id="message_is_blank"),
            pytest.param(b"[" * 10_000, id="nested_too_deep"),
        ],
    )
    def test_a_bad_body_is_400_with_a_sentence(self, start_app, body):
        status, kind, answer = start_app("chatbackend.py").request("POST", "/chat", body)
        assert (status, kind) == (400, "application/json")
        assert answer["error"]

    def test_a_large_body_is_413_and_the_answer_arrives(self, start_app):
        app = start_app("chatbackend.py")
        status, _, answer = app.request("POST", "/chat", b'{"message": "' + b"x" * 200_000 + b'"}')
        assert status == 413
        assert "16384" in answer["error"]

    def test_the_largest_allowed_body_is_not_413(self, start_app):
        body = json.dumps({"message": "x" * (16 * 1024 - 15)}).encode()
        assert len(body) == 16 * 1024
        assert start_app("chatbackend.py").request("POST", "/chat", body)[0] == 200

    def test_a_body_without_length_is_411(self, start_app):
        app = start_app("chatbackend.py")
        with socket.create_connection(("127.0.0.1", app.port), timeout=5) as connection:
            connection.sendall(b"POST /chat HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 411 " in connection.recv(4096)

    def test_a_wrong_method_is_405_and_names_the_right_one(self, start_app):
        status, _, answer = start_app("chatbackend.py").request("GET", "/chat")
        assert status == 405
        assert "POST" in answer["error"]

    def test_an_unknown_path_is_404(self, start_app):
        assert start_app("chatbackend.py").request("GET", "/nowhere")[0] == 404

    def test_nonsense_on_the_wire_is_400_and_the_server_lives_on(self, start_app):
        app = start_app("chatbackend.py")
        with socket.create_connection(("127.0.0.1", app.port), timeout=5) as connection:
            connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
            assert b"error" in connection.recv(4096)
        assert app.chat("hello")[0] == 200

    def test_an_error_does_not_spoil_the_connection_for_the_next_request(self, start_app):
        app = start_app("chatbackend.py")
        with socket.create_connection(("127.0.0.1", app.port), timeout=5) as connection:
            connection.sendall(b"PUT /chat HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            assert b" 405 " in connection.recv(4096)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in connection.recv(4096)


class TestConfiguredModel:
    def test_the_endpoint_is_asked_and_its_answer_passed_on(self, start_app, model_endpoint):
        endpoint = model_endpoint(answer=COMPLETION)
        app = start_app("chatbackend.py", AZURE_API_URL=endpoint.url, AZURE_API_KEY=KEY, AZURE_MODEL_NAME="big-model")
        assert app.chat("hello") == (200, {"model": "big-model-2", "reply": "Good day."})
        (asked,) = endpoint.requests
        assert asked["path"] == "/v1/chat/completions"
        assert asked["headers"]["Authorization"] == f"Bearer {KEY}"
        assert asked["body"] == {"model": "big-model", "messages": [{"role": "user", "content": "hello"}]}

    def test_without_an_address_no_endpoint_is_asked(self, start_app, model_endpoint):
        endpoint = model_endpoint(answer=COMPLETION)
        _, answer = start_app("chatbackend.py", AZURE_API_KEY=KEY).chat("hello")
        assert answer["model"] == "workshop-mini-1"
        assert endpoint.requests == []

    @pytest.mark.parametrize(
        ("status", "answer"),
        [
            pytest.param(
                401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, id="key_refused_and_quoted"
            ),
            pytest.param(500, b"oops", id="server_error"),
            pytest.param(200, b"<html>", id="not_json"),
            pytest.param(200, {"choices": []}, id="no_choice"),
            pytest.param(200, ["list"], id="not_an_object"),
        ],
    )
    def test_a_failing_model_is_502_without_the_key(self, start_app, model_endpoint, status, answer):
        app = start_app("chatbackend.py", AZURE_API_URL=model_endpoint(status, answer).url, AZURE_API_KEY=KEY)
        seen, body = app.chat("hello")
        assert seen == 502
        assert KEY not in json.dumps(body)
        assert KEY not in app.log()

    def test_an_endpoint_that_is_not_there_is_502(self, start_app):
        app = start_app("chatbackend.py", AZURE_API_URL="http://127.0.0.1:1", AZURE_API_KEY=KEY)
        status, body = app.chat("hello")
        assert status == 502
        assert "refused" in body["detail"]

    @pytest.mark.parametrize("url", ["ftp://example.test", "example.test", "file:///etc/passwd", "http://a b/"])
    def test_an_address_that_is_none_is_502(self, start_app, url):
        assert start_app("chatbackend.py", AZURE_API_URL=url, AZURE_API_KEY=KEY).chat("hello")[0] == 502

    def test_a_redirect_does_not_take_the_key_elsewhere(self, start_app, model_endpoint):
        elsewhere = model_endpoint(answer=COMPLETION)
        endpoint = model_endpoint(302, b"", Location=elsewhere.url + "/v1/chat/completions")
        app = start_app("chatbackend.py", AZURE_API_URL=endpoint.url, AZURE_API_KEY=KEY)
        assert app.chat("hello")[0] == 502
        assert elsewhere.requests == []

    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("http://host:8000", "http://host:8000/v1/chat/completions"),
            ("http://host:8000/v1/", "http://host:8000/v1/chat/completions"),
            ("http://host/x/chat/completions?a=b", "http://host/x/chat/completions?a=b"),
            ("https://me.openai.azure.com/openai/v1", "https://me.openai.azure.com/openai/v1/chat/completions"),
            (
                "https://me.openai.azure.com/",
                "https://me.openai.azure.com/openai/deployments/m/chat/completions?api-version=2024-10-21",
            ),
        ],
    )
    def test_an_address_may_be_a_host_a_base_or_complete(self, url, address):
        assert completions_request(url, KEY, "m")[0] == address

    def test_azure_gets_its_own_header(self):
        assert completions_request("https://me.openai.azure.com", KEY, "m")[1]["api-key"] == KEY
        assert "api-key" not in completions_request("https://notazure.com", KEY, "m")[1]


class TestCaller:
    """Who called, as the sidecar tells it."""

    XFCC = (
        'By=spiffe://a/ns/b/sa/c;Hash=00;Subject="";URI=spiffe://a/ns/first/sa/x,'
        'By=spiffe://a/ns/b/sa/c;Hash=00;Subject="";URI=spiffe://cluster.local/ns/azureopenai/sa/default'
    )

    @pytest.mark.parametrize(
        ("header", "caller"),
        [
            pytest.param(XFCC, "spiffe://cluster.local/ns/azureopenai/sa/default", id="the_last_element_counts"),
            pytest.param('By=spiffe://a;Hash=00;Subject="CN=x"', "", id="no_uri"),
            pytest.param("", "", id="empty"),
            pytest.param("URI=", "", id="empty_uri"),
        ],
    )
    def test_the_name_is_taken_from_the_sidecars_report(self, header, caller):
        message = Message()
        message["X-Forwarded-Client-Cert"] = header
        assert caller_in(message) == caller

    def test_without_a_report_there_is_no_caller(self):
        assert caller_in(Message()) == caller_in(None) == ""

    def test_the_answer_and_the_log_repeat_the_caller(self, start_app):
        app = start_app("chatbackend.py")
        answer = app.headers("/healthz", **{"X-Forwarded-Client-Cert": self.XFCC})
        assert answer["X-Caller"] == "spiffe://cluster.local/ns/azureopenai/sa/default"
        assert "spiffe://cluster.local/ns/azureopenai/sa/default at 127.0.0.1" in app.log()

    def test_without_a_sidecar_the_answer_names_nobody(self, start_app):
        assert "X-Caller" not in start_app("chatbackend.py").headers("/healthz")


class TestProcess:
    def test_each_request_is_one_line_in_the_log(self, start_app):
        app = start_app("chatbackend.py")
        app.chat("hello")
        app.request("GET", "/nowhere")
        lines = [line for line in app.log().splitlines() if "HTTP/1.1" in line]
        assert len(lines) == 2
        assert '"POST /chat HTTP/1.1" 200' in lines[0]
        assert " 404 " in lines[1]

    def test_sigterm_ends_it_at_once_even_with_an_open_connection(self, start_app):
        app = start_app("chatbackend.py")
        with socket.create_connection(("127.0.0.1", app.port)):
            app.process.send_signal(signal.SIGTERM)
            assert app.process.wait(5) == 0

    def test_a_taken_port_is_one_sentence(self, start_app):
        port = start_app("chatbackend.py").port
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}: Address already") as failure:
            start_app("chatbackend.py", PORT=str(port))
        assert "Traceback" not in str(failure.value)
