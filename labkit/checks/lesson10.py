"""The checks of lesson 10: each looks at the wire itself, while a request crosses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from labkit.checks.evidence import BACKEND_URL, LOOKS, MESSAGE, OUTSIDE
from labkit.checks.judging import APP
from labkit.checks.results import Check, Judgement
from labkit.cluster import Cluster
from labkit.observe import capture
from labkit.observe.packets import Kind, Packet
from labkit.observe.traffic import probe
from labkit.outcomes import Observation

FRONTEND, BACKEND = f"{APP}/chatfrontend", f"{APP}/chatbackend"
HANDSHAKE = 0x16
"""The type of a TLS record that belongs to a handshake, RFC 8446, section 5.1."""


def _watched(client: str) -> Callable[[Cluster], tuple[Any, ...]]:
    """(what the client saw, what crossed) of one request."""

    def collect(cluster: Cluster) -> tuple[Any, ...]:
        session = capture.start(cluster, BACKEND)
        try:
            seen = probe(cluster, client, BACKEND_URL, data=MESSAGE)
        finally:
            session.stop()
        return seen, session.packets()

    return collect


def _both(cluster: Cluster) -> tuple[Any, ...]:
    return *_watched(OUTSIDE)(cluster), *_watched(FRONTEND)(cluster)


def readable(seen: Observation, packets: Iterable[Packet]) -> Judgement:
    """Question and answer of a stranger can be read."""
    kinds = _kinds(packets)
    good = seen.http_status == 200 and {Kind.HTTP_REQUEST, Kind.HTTP_RESPONSE} <= kinds
    hint = "The backend has to be PERMISSIVE: is there a policy left? lab.reset('10') starts again."
    return Judgement(good, "200, and request and answer in clear on the wire", _words(seen, kinds), hint)


def encrypted(seen: Observation, packets: Iterable[Packet]) -> Judgement:
    """Of a mesh client's chat there are TLS records alone."""
    kinds = _kinds(packets)
    good = seen.http_status == 200 and Kind.APPLICATION_DATA in kinds and not any(kind.readable for kind in kinds)
    hint = "Does chatfrontend have a sidecar? Does a policy say DISABLE?"
    return Judgement(good, "200, and nothing but TLS on the wire", _words(seen, kinds), hint)


def nothing_answered_in_clear(
    outside: Observation, of_outside: Iterable[Packet], inside: Observation, of_inside: Iterable[Packet]
) -> Judgement:
    """STRICT: the stranger is reset, no answer crosses in clear, and the mesh client goes on over TLS."""
    strange, known = _kinds(of_outside), _kinds(of_inside)
    refused = outside.exit_code == 56 and Kind.HTTP_RESPONSE not in strange
    good = refused and inside.http_status == 200 and not any(kind.readable for kind in known)
    observed = f"curl-outside: {_words(outside, strange)}; chatfrontend: {_words(inside, known)}"
    hint = "Apply manifests/lessons/10/strict.yaml."
    return Judgement(good, "curl-outside: reset, no answer in clear; chatfrontend: 200 over TLS", observed, hint)


def first_byte(answer: Any) -> Judgement:
    """The type of a handshake's record."""
    hint = "Look at a row of kind TLS handshake: its HEX column begins with it. Python writes hex 2a as 0x2a."
    observed = f"{answer:#04x}" if isinstance(answer, int) else repr(answer)
    return Judgement(answer == HANDSHAKE, "the byte that every TLS handshake begins with", observed, hint)


def _kinds(packets: Iterable[Packet]) -> set[Kind]:
    return {one.kind for one in packets}


def _words(seen: Observation, kinds: set[Kind]) -> str:
    told = sorted(kind.value for kind in kinds if kind.readable or kind.tls)
    return f"{seen.seen}; on the wire {', '.join(told) or 'no data'}"


CHECKS = (
    Check("10-readable", LOOKS, readable, _watched(OUTSIDE)),
    Check("10-encrypted", LOOKS, encrypted, _watched(FRONTEND)),
    Check("10-nothing-answered-in-clear", LOOKS, nothing_answered_in_clear, _both),
    Check("10-first-byte", "a number", first_byte, lambda _: (), exercise=True),
)
