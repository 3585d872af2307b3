"""What curl says of a handshake, and what that means."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.cluster import ExecResult
from labkit.observe.visiting import Papers, door_of, lost_alert, read_verbose, with_handshake
from labkit.outcomes import Observation, Outcome

FINISHED = "SSL connection using TLSv1.3 / TLS_AES_256_GCM_SHA384 / X25519 / ECDSA"
ASKED = f"TLSv1.3 (IN), TLS handshake, Request CERT (13):\n{FINISHED}"
ALERT = "curl: (56) OpenSSL SSL_read: error:0A000418:SSL routines::tlsv1 alert unknown ca, errno 0"


def test_curls_error_is_told_from_its_talk() -> None:
    text = (
        f"*   Trying 127.0.0.1:443...\n* {FINISHED}\n> GET / HTTP/1.1\n{{ [5 bytes data]\n{ALERT}\nMore details here\n"
    )
    assert read_verbose(text) == (ALERT, f"  Trying 127.0.0.1:443...\n{FINISHED}")
    assert read_verbose("") == ("", "")


@pytest.mark.parametrize(
    ("handshake", "brought", "outcome"),
    [
        (ASKED, True, Outcome.MTLS),
        (ASKED, False, Outcome.TLS),  # OPTIONAL_MUTUAL
        (FINISHED, True, Outcome.TLS),  # SIMPLE: nobody looked at what the client had
        (FINISHED, False, Outcome.TLS),
    ],
)
def test_an_answer_was_carried_by_mtls_where_both_showed_a_certificate(
    handshake: str, brought: bool, outcome: Outcome
) -> None:
    seen = with_handshake(Observation(http_status=200, exit_code=0), handshake, brought=brought)
    assert seen.outcome is outcome
    assert seen.tls and seen.tls.version == "TLSv1.3"


def test_a_client_that_does_not_trust_the_server_refuses_it() -> None:
    assert with_handshake(Observation(exit_code=60), "", brought=True).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("exit_code", "words", "handshake", "lost"),
    [
        (52, "curl: (52) Empty reply from server", FINISHED, True),
        (56, "curl: (56) Recv failure: Connection reset by peer", FINISHED, True),
        (56, ALERT, FINISHED, False),
        (35, "curl: (35) OpenSSL SSL_connect: SSL_ERROR_SYSCALL", "", False),  # the server never showed anything
        (0, "", FINISHED, False),
    ],
)
def test_a_cut_after_the_handshake_without_a_reason_is_a_lost_alert(
    exit_code: int, words: str, handshake: str, lost: bool
) -> None:
    assert lost_alert(ExecResult((), "", words, exit_code, 0.1), handshake) is lost


def test_a_line_to_show_names_files_without_their_folder() -> None:
    papers = Papers(Path("/a/ca.crt"), Path("/a/p.crt"), Path("/a/p.key"))
    assert papers.options(shorten=True) == ["--cacert", "ca.crt", "--cert", "p.crt", "--key", "p.key"]
    assert papers.options()[1] == "/a/ca.crt"
    assert Papers().options() == []


def test_a_door_is_an_address_and_a_port() -> None:
    assert door_of("https://127.0.0.1:20443/") == "127.0.0.1:20443"
    assert door_of("https://gateway.example/") == "gateway.example:443"
    assert door_of("http://gateway.example/") == "gateway.example:80"
