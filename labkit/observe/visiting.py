"""Visits: this machine's own curl at the ingress gateway, with the certificates that a client outside would have.

The name in the URL need not lead anywhere: `--connect-to` says where the gateway is, as a record in DNS would, and the
name still decides about SNI, the certificate's check and the Host header.
https://istio.io/latest/docs/tasks/traffic-management/ingress/secure-ingress/
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from labkit.cluster import ExecResult
from labkit.errors import MachineError
from labkit.observe.traffic import CURL, address_of, observation_of
from labkit.outcomes import Observation, Outcome, Probe, RequestKind, TLSFacts

HERE = "this machine"
MORE_TRIES = 8
UNTRUSTED = 60
"""curl's exit code when the client itself refuses: it cannot verify the server's certificate."""


@dataclass(frozen=True)
class Papers:
    """What a client brings: whom it trusts, and its own certificate and key. Paths of files."""

    trust: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def options(self, shorten: bool = False) -> list[str]:
        """curl's options; `shorten` names files without their folder, for a line to show."""

        def said(path: Path) -> str:
            return path.name if shorten else str(path)

        found = ["--cacert", said(self.trust)] if self.trust else []
        if self.certificate and self.key:
            found += ["--cert", said(self.certificate), "--key", said(self.key)]
        return found


def visit(url: str, door: str, papers: Papers, *, authority: str = "", limit: float = 20.0) -> Observation:
    """Ask for a URL at the gateway's `door` ("address:port"). A refused handshake is an observation.

    `authority` asks for another host over the URL's connection, as a browser does that finds both names in one
    certificate and spares a handshake (RFC 9113, 9.1.1).
    """
    host, port = address_of(url)
    # HTTP/1.1, because curl's words for a connection that is cut within HTTP/2 hide the TLS alert.
    options = ["--http1.1", "--connect-to", f"{host}:{port}:{door}"]
    options += ["-H", f"Host: {authority}"] if authority else []
    # -q: the learner's own .curlrc shall not have a say. -v: it says how the handshake went.
    line = [CURL[0], "-q", "-v", *CURL[1:], *options, *papers.options(), url]
    result, handshake = _run(line, limit)
    for _ in range(MORE_TRIES):
        if not lost_alert(result, handshake):
            break
        result, handshake = _run(line, limit)
    secure = urlsplit(url).scheme == "https"
    sent = Probe(HERE, host, port, RequestKind.HTTP, "GET", urlsplit(url).path or "/")
    shown = shlex.join([*CURL, *options, *papers.options(shorten=True), url])
    seen = observation_of(result, sent, injected=secure, command=shown)
    return with_handshake(seen, handshake, brought=papers.certificate is not None) if secure else seen


def _run(line: list[str], limit: float) -> tuple[ExecResult, str]:
    started = time.monotonic()
    try:
        done = subprocess.run(line, capture_output=True, text=True, errors="replace", timeout=limit)
    except FileNotFoundError as error:
        raise MachineError(
            "There is no curl on this machine.",
            meaning="A visit from outside is made with curl, as a client would make it.",
            next_step="Install curl: 'labkit doctor' says how.",
        ) from error
    words, handshake = read_verbose(done.stderr)
    return ExecResult(tuple(line), done.stdout, words, done.returncode, time.monotonic() - started), handshake


def lost_alert(result: ExecResult, handshake: str) -> bool:
    """A handshake that the client had finished, and a cut connection without a reason. Pure.

    By TLS 1.3 a client is refused after its own last flight. It sends its request meanwhile, and where that meets the
    closed connection first, the alert behind it is lost on the way.
    """
    finished = "SSL connection using" in handshake
    return finished and result.exit_code in (16, 52, 55, 56) and "alert" not in result.stderr


def read_verbose(text: str) -> tuple[str, str]:
    """curl's own error of what `-v` printed, and its account of the handshake. Pure."""
    told = "\n".join(line[2:] for line in text.splitlines() if line.startswith("* "))
    # Behind the error stand some lines of advice, which would be the same each time.
    error = re.search(r"^curl: \(\d+\) .*", text, re.MULTILINE)
    return (error[0] if error else ""), told


def with_handshake(seen: Observation, handshake: str, *, brought: bool) -> Observation:
    """How an https request was carried: mTLS where the server asked for a certificate and the client had one. Pure."""
    if seen.exit_code == UNTRUSTED:
        return replace(seen, outcome=Outcome.REFUSED)
    if not seen.http_status:
        return seen
    asked = "Request CERT" in handshake
    using = re.search(r"SSL connection using (\S+)", handshake)
    facts = TLSFacts(version=using[1] if using else "", source="curl's handshake")
    return replace(seen, outcome=Outcome.MTLS if asked and brought else Outcome.TLS, tls=facts)


def door_of(url: str) -> str:
    """`address:port` of a URL."""
    host, port = address_of(url)
    return f"{host}:{port}"
