"""What is said of a call: the ways that it takes, each with its outcome, both sides and the reasons; and all in one.

A call may take several ways, over a VirtualService's routes and a Service's endpoints. Where they end differently, the
caller's luck or the request decides, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from labkit.outcomes import DecidingPolicy, Outcome, seen_as
from labkit.policy.declared.reasons import Because, Rule
from labkit.policy.peer_authentication import IgnoredPolicy


@dataclass(frozen=True)
class Way:
    """One way of a call, to one workload, or to an end before anybody is reached (`server` is empty then)."""

    outcome: Outcome
    because: tuple[Because, ...] = ()
    share: float = 1.0
    when: str = ""
    """Which requests take it, in words; empty for all."""
    server: str = ""
    port: int = 0
    sends: str = ""
    accepts: str = ""
    http_status: int | None = None
    exit_code: int | None = None
    error: str = ""
    partly: Because | None = None
    """The policy that refuses some of its requests, if one does; which ones depends on the requests."""
    ignored: tuple[IgnoredPolicy, ...] = ()
    """Policies that match the server and do not decide."""

    @property
    def decider(self) -> Because | None:
        """The step that decided most: what refuses, else what chose between mTLS and plaintext."""
        if not self.because:
            return None
        ranks = _REFUSED if self.outcome is Outcome.REFUSED else _PASSED
        return min(self.because, key=lambda one: ranks.get((one.rule, one.by_object), ranks.get((one.rule, None), 50)))

    @property
    def caller_sees(self) -> str:
        """What the caller will see, in the learner's words."""
        seen = seen_as(self.http_status, self.exit_code)
        if self.error:
            return self.error if seen == "nothing" else f"{seen}: {self.error}"
        return "an answer" if seen in ("nothing", "connected") and self.outcome is not Outcome.REFUSED else seen


_Ranks = dict[tuple[Rule, bool | None], int]

# What is named first where one step must stand for the whole verdict; None: with an object or without.
_REFUSED: _Ranks = {
    (Rule.AUTHORIZATION, None): 0,
    (Rule.REGISTRY_ONLY, None): 1,
    (Rule.NO_ENDPOINT, None): 2,
    (Rule.SUBSET, None): 3,
    (Rule.IDENTITY, None): 4,
    (Rule.DESTINATION_RULE, None): 5,
    (Rule.PROTOCOL, None): 6,
    (Rule.PEER_AUTHENTICATION, None): 7,
    (Rule.GATEWAY_SERVER, None): 7,
    (Rule.VIRTUAL_SERVICE, None): 8,
}
_PASSED: _Ranks = {
    (Rule.DESTINATION_RULE, None): 0,
    (Rule.NO_CLIENT_SIDECAR, None): 1,
    (Rule.PASSED_ON, None): 1,
    (Rule.SIDECAR_SCOPE, None): 1,
    (Rule.AUTO_MTLS_OFF, None): 2,
    (Rule.NAMESPACE_DISABLED, None): 2,
    (Rule.AUTO_MTLS, True): 2,
    (Rule.HEADLESS, None): 3,
    (Rule.SERVICE_ENTRY, None): 3,
    (Rule.NO_SERVER_SIDECAR, None): 4,
    (Rule.NOT_CAPTURED, None): 4,
    (Rule.PEER_AUTHENTICATION, True): 5,
    (Rule.AUTO_MTLS, False): 6,
    (Rule.PEER_AUTHENTICATION, False): 7,
}


class Answer:
    """All ways of one call, and what they come to."""

    def __init__(self, ways: Iterable[Way]) -> None:
        self.ways = tuple(ways)
        outcomes = {way.outcome for way in self.ways}
        self.outcome = outcomes.pop() if len(outcomes) == 1 else Outcome.UNKNOWN

    @property
    def calls(self) -> bool:
        """Whether there is a way at all: a gateway without a route calls nobody."""
        return bool(self.ways)

    @cached_property
    def partly(self) -> Because | None:
        """A policy that refuses some of the requests that get through otherwise."""
        return next((way.partly for way in self.ways if way.partly), None)

    @cached_property
    def sends(self) -> str:
        return _either(way.sends for way in self.ways)

    @cached_property
    def accepts(self) -> str:
        return _either(way.accepts for way in self.ways)

    @cached_property
    def because(self) -> tuple[Because, ...]:
        """All reasons, each once."""
        return tuple(dict.fromkeys(one for way in self.ways for one in way.because))

    @cached_property
    def deciders(self) -> tuple[Because, ...]:
        """Of each way the step that decided."""
        return tuple(dict.fromkeys(one for way in self.ways if (one := way.decider)))

    @cached_property
    def decided_by(self) -> DecidingPolicy:
        """The object that decided, if it is one."""
        return next((one.by for one in self.deciders if one.by), DecidingPolicy())

    @cached_property
    def why(self) -> str:
        """The verdict's reason in one line."""
        if len({way.outcome for way in self.ways}) > 1:
            return f"It depends: {self.shares}."
        return " ".join(f"{one.said[:1].upper()}{one.said[1:]}." for one in self.deciders) + (
            f" {self.partly.said[:1].upper()}{self.partly.said[1:]}." if self.partly else ""
        )

    @cached_property
    def shares(self) -> str:
        """How the calls are shared among the outcomes: `50 % mTLS, 50 % refused`, or by what requests ask."""
        parts: dict[tuple[Outcome, str], float] = {}
        for way in self.ways:
            parts[way.outcome, way.when] = parts.get((way.outcome, way.when), 0.0) + way.share
        if not any(when for _, when in parts):
            total = sum(parts.values()) or 1
            return ", ".join(f"{share / total:.0%} {outcome}" for (outcome, _), share in sorted(parts.items()))
        return ", ".join(f"{when or 'other requests'}: {outcome}" for outcome, when in parts)

    @cached_property
    def refused_share(self) -> float:
        """The part of the calls that is refused, as far as that is known beforehand. Of ways that requests choose by
        what they ask, each counts alike.
        """
        total = sum(way.share for way in self.ways) or 1.0
        return sum(way.share for way in self.ways if way.outcome is Outcome.REFUSED) / total

    @cached_property
    def caller_sees(self) -> str:
        return _either(way.caller_sees for way in self.ways)

    @cached_property
    def ignored(self) -> tuple[IgnoredPolicy, ...]:
        return tuple(dict.fromkeys(one for way in self.ways for one in way.ignored))

    @property
    def is_like(self) -> tuple[object, ...]:
        """What a caller can tell apart: two answers alike in this are the same to it."""
        shares = tuple(sorted((way.outcome, way.when, round(way.share, 3)) for way in self.ways))
        return self.outcome, shares if self.outcome is Outcome.UNKNOWN else (), self.partly is not None

    def __repr__(self) -> str:
        return f"Answer({self.outcome}: {self.why})"


def _either(texts: Iterable[str]) -> str:
    return ", or ".join(dict.fromkeys(text for text in texts if text))
