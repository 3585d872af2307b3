"""The shared words: what they say in plain text and HTML, and when prediction and observation agree."""

from __future__ import annotations

import pytest

from labkit.outcomes import (
    DecidingPolicy,
    Observation,
    Outcome,
    Probe,
    RequestKind,
    Scope,
    TLSFacts,
    Verdict,
    outcome_colour,
)

PROBE = Probe("default/curl", "foo/web", 80)
RESET = Observation(exit_code=56, error="Recv failure: Connection reset by peer", probe=PROBE)
ANSWER = Observation(http_status=200, exit_code=0, body="<b>hello</b>", duration=0.0123, probe=PROBE)
FROM_PROXY = Observation(http_status=503, exit_code=0)

PLAIN = Verdict(Outcome.PLAINTEXT, http_status=200, exit_code=0)
MTLS = Verdict(Outcome.MTLS, http_status=200, exit_code=0)
REFUSED = Verdict(Outcome.REFUSED, exit_code=56)
REFUSED_BY_PROXY = Verdict(Outcome.REFUSED, http_status=503, exit_code=0)
ANY_HANDSHAKE_ERROR = Verdict(Outcome.REFUSED)


@pytest.mark.parametrize(
    ("verdict", "observation", "agree"),
    [
        pytest.param(REFUSED, RESET, True, id="a reset was predicted and seen"),
        pytest.param(REFUSED, ANSWER, False, id="a reset was predicted, an answer was seen"),
        pytest.param(PLAIN, RESET, False, id="an answer was predicted, a reset was seen"),
        pytest.param(PLAIN, ANSWER, True, id="an answer does not tell how it was carried"),
        pytest.param(MTLS, ANSWER, True, id="nor against mTLS"),
        pytest.param(MTLS, Observation(Outcome.PLAINTEXT, 200, 0), False, id="known to be plaintext, mTLS predicted"),
        pytest.param(REFUSED_BY_PROXY, FROM_PROXY, True, id="503 from the client's own proxy"),
        pytest.param(REFUSED, FROM_PROXY, True, id="refused either way"),
        pytest.param(PLAIN, FROM_PROXY, False, id="200 predicted, 503 seen"),
        pytest.param(PLAIN, Observation(http_status=404, exit_code=0), False, id="another status"),
        pytest.param(REFUSED, Observation(exit_code=7), False, id="another error of curl's"),
        pytest.param(ANY_HANDSHAKE_ERROR, Observation(exit_code=35), True, id="an exit code that is not predicted"),
    ],
)
def test_prediction_and_observation_agree(verdict: Verdict, observation: Observation, agree: bool) -> None:
    assert verdict.agrees_with(observation) is agree


@pytest.mark.parametrize(
    ("observation", "refused", "answered"),
    [
        pytest.param(RESET, True, False, id="reset"),
        pytest.param(ANSWER, False, True, id="200"),
        pytest.param(FROM_PROXY, True, False, id="503"),
        pytest.param(Observation(http_status=403, exit_code=0), False, True, id="403 is an answer"),
        pytest.param(Observation(Outcome.PLAINTEXT, http_status=503), False, False, id="told that it was carried"),
        pytest.param(Observation(), False, False, id="nothing seen"),
    ],
)
def test_a_refusal_is_told_from_an_answer(observation: Observation, refused: bool, answered: bool) -> None:
    assert (observation.refused, observation.answered) == (refused, answered)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        pytest.param(PROBE, "default/curl -> foo/web:80", id="probe"),
        pytest.param(
            RESET,
            "default/curl -> foo/web:80: curl exit 56: Recv failure: Connection reset by peer [unknown]",
            id="refused",
        ),
        pytest.param(ANSWER, "default/curl -> foo/web:80: HTTP 200 in 12 ms [unknown]", id="answered"),
        pytest.param(DecidingPolicy(), "the default (no policy decides)", id="default"),
        pytest.param(
            DecidingPolicy(Scope.NAMESPACE, "foo", "default"),
            "PeerAuthentication foo/default (namespace-wide)",
            id="policy",
        ),
        pytest.param(
            TLSFacts("spiffe://a/ns/b/sa/c", source="header"),
            "client spiffe://a/ns/b/sa/c (from header)",
            id="tls facts",
        ),
        pytest.param(
            Verdict(Outcome.REFUSED, ("Because.",), exit_code=56, probe=PROBE),
            "default/curl -> foo/web:80: predicted refused (curl exit 56); Because.",
            id="verdict",
        ),
    ],
)
def test_plain_text_is_a_sentence(word: object, text: str) -> None:
    assert str(word) == text


@pytest.mark.parametrize("word", [PROBE, RESET, ANSWER, MTLS, REFUSED, PLAIN])
def test_html_escapes_what_came_from_outside_and_leaves_the_text_colour_to_the_page(word: Probe) -> None:
    html = word._repr_html_()
    assert "<b>hello" not in html
    assert "background:#" not in html
    assert "color:inherit" in html


def test_a_long_body_is_cut_in_html() -> None:
    assert len(Observation(body="x" * 10_000)._repr_html_()) < 1000


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_colour_that_can_be_seen_on_white_and_on_black(outcome: Outcome) -> None:
    if outcome_colour(outcome) == "currentColor":
        return  # the page's own text colour
    channels = [int(outcome_colour(outcome)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # contrast as in WCAG 2.1; 3:1 is what it asks for graphics and large text
    assert 1.05 / (luminance + 0.05) >= 3
    assert (luminance + 0.05) / 0.05 >= 3


def test_a_tcp_probe_names_no_path() -> None:
    assert Probe("a/b", "c/d", 1, RequestKind.TCP).what == "tcp connection"
