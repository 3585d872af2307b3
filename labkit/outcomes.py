"""The three shared words: Probe (what is tried), Verdict (what is predicted), Observation (what was seen).

Everything that predicts, observes, checks or draws speaks of an edge client -> server with these objects.
They are plain frozen data: this module uses the standard library alone, knows no cluster and decides nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from html import escape
from typing import Any


class Outcome(StrEnum):
    """How an edge is (or would be) carried."""

    MTLS = "mTLS"
    PLAINTEXT = "plaintext"
    REFUSED = "refused"
    TLS = "tls"  # the application's own TLS, which the mesh passes on unopened
    UNKNOWN = "unknown"


class RequestKind(StrEnum):
    """What the client's application sends, before any sidecar touches it."""

    HTTP = "http"
    TCP = "tcp"
    TLS = "tls"


class Scope(StrEnum):
    """Where a deciding policy stands; DEFAULT means that no policy decides."""

    DEFAULT = "default"
    MESH = "mesh-wide"
    NAMESPACE = "namespace-wide"
    WORKLOAD = "workload-specific"
    PORT = "port-level"


@dataclass(frozen=True, repr=False)
class DecidingPolicy:
    """Who decided: a policy and its scope, or Istio's default when `name` is empty."""

    scope: Scope = Scope.DEFAULT
    namespace: str = ""
    name: str = ""
    kind: str = "PeerAuthentication"

    @property
    def is_default(self) -> bool:
        return not self.name

    def __str__(self) -> str:
        if self.is_default:
            return "the default (no policy decides)"
        return f"{self.kind} {self.namespace}/{self.name} ({self.scope})"

    __repr__ = __str__


# From the palette of Okabe and Ito, which stays distinct for the common kinds of colour blindness; each keeps a
# contrast of at least 3:1 on white and on JupyterLab's dark background. Text inherits the page's colour, and so does
# the mark of a refusal: it is told by its word, its cross and its dots.
_COLOURS = {
    Outcome.MTLS: "#0072b2",
    Outcome.PLAINTEXT: "#d55e00",
    Outcome.REFUSED: "currentColor",
    Outcome.TLS: "#009e73",
    Outcome.UNKNOWN: "#808080",
}


def outcome_colour(outcome: Outcome) -> str:
    """The one colour of an outcome, for tables and maps, readable on light and dark pages."""
    return _COLOURS[outcome]


def _card(outcome: Outcome, title: str, lines: list[str], command: str = "") -> str:
    colour = outcome_colour(outcome)
    body = "".join(f'<div style="opacity:.85">{escape(line)}</div>' for line in lines if line)
    if command:
        look = "font-size:85%;opacity:.75;background:none;color:inherit;padding:0"
        body += f'<code style="{look}">$ {escape(command)}</code>'
    return (
        f'<div style="border-left:4px solid {colour};padding:2px 10px;margin:4px 0;color:inherit;'
        f'font-family:inherit;line-height:1.45"><div><b style="color:{colour}">{escape(outcome)}</b> '
        f"{escape(title)}</div>{body}</div>"
    )


@dataclass(frozen=True, repr=False)
class Probe:
    """One request to try: `client` and `server` are `namespace/name`, `port` is the Service's port.

    `client` names a pod or workload, `server` a Service (or a pod, when it is called by its address).
    """

    client: str
    server: str
    port: int
    request: RequestKind = RequestKind.HTTP
    method: str = "GET"
    path: str = "/"
    body: str = ""

    @property
    def what(self) -> str:
        return f"{self.method} {self.path}" if self.request is RequestKind.HTTP else f"{self.request} connection"

    def __str__(self) -> str:
        return f"{self.client} -> {self.server}:{self.port}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<span style="color:inherit"><b>{escape(str(self))}</b> {escape(self.what)}</span>'


def seen_as(http_status: int | None, exit_code: int | None) -> str:
    """An answer in the learner's words: `200`, `curl exit 56`, or `nothing yet`."""
    if http_status:
        return f"HTTP {http_status}"
    if exit_code:
        return f"curl exit {exit_code}"
    return "connected" if exit_code == 0 else "nothing"


@dataclass(frozen=True, repr=False)
class Verdict:
    """What is predicted for a probe, with the reasons and the policy that decides.

    `client_sends` and `server_accepts` are the two sides in words; `http_status` and `exit_code` (curl's) are what
    the caller will see. None stands for "cannot be told", for example a status that the application chooses.
    """

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    decided_by: DecidingPolicy = field(default_factory=DecidingPolicy)
    client_sends: str = ""
    server_accepts: str = ""
    http_status: int | None = None
    exit_code: int | None = None
    error: str = ""
    probe: Probe | None = None

    @property
    def refused(self) -> bool:
        return self.outcome is Outcome.REFUSED

    @property
    def reason(self) -> str:
        """The reasons as one line."""
        return " ".join(self.reasons)

    @property
    def caller_sees(self) -> str:
        """What the caller will see, in the learner's words."""
        seen = seen_as(self.http_status, self.exit_code)
        return f"{seen}: {self.error}" if self.error else seen

    def agrees_with(self, observation: Observation) -> bool:
        """Whether what was seen is what was predicted; a side that cannot tell does not disagree."""
        if observation.refused != self.refused:
            return False
        if self.http_status and observation.http_status and self.http_status != observation.http_status:
            return False
        # A nil exit code on one side and curl's error on the other was already a difference in `refused`.
        if self.exit_code and observation.exit_code and self.exit_code != observation.exit_code:
            return False
        told = Outcome.UNKNOWN not in (self.outcome, observation.outcome)
        return not told or self.outcome is observation.outcome

    def __str__(self) -> str:
        edge = f"{self.probe}: " if self.probe else ""
        return f"{edge}predicted {self.outcome} ({self.caller_sees}); {self.reason}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        title = f"predicted for {self.probe}" if self.probe else "predicted"
        lines = [*self.reasons, f"The caller sees {self.caller_sees}. Decided by {self.decided_by}."]
        return _card(self.outcome, title, lines)


@dataclass(frozen=True, repr=False)
class TLSFacts:
    """What is known of the TLS on an edge, and from where (`source`: a header, a metric, a certificate, the wire)."""

    client_principal: str = ""
    server_principal: str = ""
    version: str = ""
    alpn: str = ""
    source: str = ""

    def __str__(self) -> str:
        parts = [self.version, self.client_principal and f"client {self.client_principal}"]
        parts += [self.server_principal and f"server {self.server_principal}", self.source and f"(from {self.source})"]
        return " ".join(part for part in parts if part)

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class Observation:
    """What was seen when a probe was tried: the answer, curl's exit code and words, and TLS facts if known.

    A refused connection is an observation like any other, never an exception. `duration` is in seconds; `command`
    is the kubectl line that asks the same; names of `headers` are in lower case.
    """

    outcome: Outcome = Outcome.UNKNOWN
    http_status: int | None = None
    exit_code: int | None = None
    error: str = ""
    body: str = ""
    duration: float | None = None
    tls: TLSFacts | None = None
    probe: Probe | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    def json(self) -> Any:
        """The body as JSON, or None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def answered(self) -> bool:
        """The application, and not a proxy in its place, can have answered."""
        return bool(self.http_status) and self.http_status not in (502, 503, 504)

    @property
    def refused(self) -> bool:
        """No answer came through: the connection was cut, or a proxy answered in the server's place."""
        if self.outcome is not Outcome.UNKNOWN:
            return self.outcome is Outcome.REFUSED
        return self.http_status == 503 or bool(self.exit_code)

    @property
    def seen(self) -> str:
        """What was seen, in the learner's words."""
        words = seen_as(self.http_status, self.exit_code)
        # curl's own words begin with its exit code: "curl: (56) Recv failure: ..."
        return f"{words}: {re.sub(r'^curl: [(][0-9]+[)] ', '', self.error)}" if self.error else words

    def __str__(self) -> str:
        edge = f"{self.probe}: " if self.probe else ""
        took = f" in {self.duration * 1000:.0f} ms" if self.duration is not None else ""
        return f"{edge}{self.seen}{took} [{self.outcome}]"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        title = f"{self.probe}" if self.probe else "seen"
        took = f" in {self.duration * 1000:.0f} ms" if self.duration is not None else ""
        body = self.body if len(self.body) <= 300 else self.body[:300] + "…"
        return _card(self.outcome, title, [self.seen + took, str(self.tls or ""), body], self.command)
