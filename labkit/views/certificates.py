"""What certificates there are and what is presented, for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from labkit.display import as_lines, as_table
from labkit.observe.expiry import COLUMNS, Expiring
from labkit.observe.openssl import show_certificate
from labkit.observe.presented import Presented
from labkit.pki import CertificateFacts
from labkit.pki.expiry import State, say_duration
from labkit.pki.text import chain_text
from labkit.views.page import card, table
from labkit.views.results import BLUE, ORANGE, Manifest

if TYPE_CHECKING:
    from labkit.views.tables import Table


@dataclass(frozen=True)
class Certificates:
    """The expiry table of a mesh: `.table`, `.warnings`, `.soonest`, and each row by iteration."""

    rows: tuple[Expiring, ...]
    now: datetime
    warn_before: timedelta

    @property
    def table(self) -> Table:
        """HOLDER, KIND, IDENTITY, ISSUER, NOT AFTER, LEFT, STATE."""
        from labkit.views.tables import make_table

        return make_table(COLUMNS, [one.row(self.now) for one in self.rows])

    @property
    def warnings(self) -> tuple[Expiring, ...]:
        """Those that somebody has to look at."""
        return tuple(one for one in self.rows if one.state is not State.OK or one.note)

    @property
    def soonest(self) -> Expiring | None:
        """The one that ends first."""
        known = [one for one in self.rows if one.certificate]
        return min(known, key=lambda one: one.certificate.not_after if one.certificate else self.now, default=None)

    @property
    def summary(self) -> str:
        """How many there are, and how many are worth a look."""
        if not self.rows:
            return "No proxy runs, so there are no certificates of the mesh."
        count = len([one for one in self.rows if one.certificate])
        limit = say_duration(self.warn_before)
        if self.warnings:
            return f"{len(self.warnings)} of {count} certificates need a look (threshold {limit})."
        return f"{count} certificates: proxies renew theirs in time, and none of the others expires within {limit}."

    def as_data(self) -> list[dict[str, object]]:
        """For JSON."""
        return [one.as_dict(self.now) for one in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Expiring]:
        return iter(self.rows)

    def __str__(self) -> str:
        return f"{self.table}\n{self.summary}" if self.rows else self.summary

    __repr__ = __str__

    def _repr_html_(self) -> str:
        command = "istioctl proxy-config secret <pod>.<namespace>"
        head = card(self.summary, (), (command,), colour=ORANGE if self.warnings else BLUE)
        return head + (table(COLUMNS, [one.row(self.now) for one in self.rows]) if self.rows else "")


@dataclass(frozen=True)
class PresentedCertificate:
    """What was presented at a port: `.certificate` (its facts), `.chain`, `.text`, `.pem`, or `.failure`."""

    found: Presented

    @property
    def certificate(self) -> CertificateFacts | None:
        """The facts of the leaf; None when nothing was presented."""
        return self.found.certificate

    @property
    def chain(self) -> tuple[CertificateFacts, ...]:
        """The whole chain, the leaf first."""
        return self.found.chain

    @property
    def failure(self) -> str:
        """Why nothing was presented; empty when something was."""
        return self.found.handshake.failure

    @property
    def asks_for_certificate(self) -> bool:
        """Whether the other side asks for a certificate of ours: that is what makes TLS mutual."""
        return self.found.handshake.asks_for_certificate

    @property
    def signed_by_mesh(self) -> bool | None:
        """Whether the mesh's root signed it; None where that root is not known."""
        return self.found.signed_by_mesh

    @property
    def pem(self) -> str:
        """The chain as PEM."""
        return b"".join(self.found.handshake.chain).decode()

    @property
    def text(self) -> Manifest:
        """The leaf as `openssl x509 -text` shows it, with the chain as `openssl s_client` lists it."""
        if not self.found.handshake.chain:
            return Manifest(f"Nothing was presented: {self.failure}.", self.found.command, language="text")
        shown, by = show_certificate(self.found.handshake.chain[0])
        chain = chain_text(self.found.handshake.certificates)
        return Manifest(f"{chain}\n---\n{shown}", f"{self.found.command} | {by}", language="text")

    def rows(self) -> list[tuple[str, str]]:
        """The facts as (name, value) pairs."""
        found, hand = self.found, self.found.handshake
        named = f" for {found.server_name}" if found.server_name else ""
        rows = [("presented by", f"{found.pod}, port {found.port}{named}")]
        if not found.chain:
            return [*rows, ("certificate", f"none: {hand.failure}"), ("read", found.way)]
        signed = {True: "yes", False: "no", None: "not known"}[found.signed_by_mesh]
        asked = "yes, so it is mutual TLS" if hand.asks_for_certificate else "no"
        tls = " ".join(filter(None, (hand.version, hand.cipher, f"ALPN {hand.alpn}" if hand.alpn else "")))
        return [
            *rows,
            *found.chain[0].rows(),
            ("chain", f"{len(found.chain)} certificate{'s' if len(found.chain) > 1 else ''}"),
            ("signed by the mesh's root", signed),
            ("asks for ours", asked),
            ("TLS", tls),
            ("read", found.way),
        ]

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        found, hand, leaf = self.found, self.found.handshake, self.found.certificate
        return {
            "pod": found.pod,
            "port": found.port,
            "serverName": found.server_name,
            "failure": hand.failure,
            "version": hand.version,
            "cipher": hand.cipher,
            "alpn": hand.alpn,
            "asksForCertificate": hand.asks_for_certificate,
            "signedByMesh": found.signed_by_mesh,
            "subject": leaf.subject if leaf else "",
            "issuer": leaf.issuer if leaf else "",
            "uriNames": list(leaf.uri_names) if leaf else [],
            "dnsNames": list(leaf.dns_names) if leaf else [],
            "notBefore": f"{leaf.not_before:%Y-%m-%dT%H:%M:%SZ}" if leaf else "",
            "notAfter": f"{leaf.not_after:%Y-%m-%dT%H:%M:%SZ}" if leaf else "",
            "serial": leaf.serial if leaf else "",
            "read": found.way,
            "command": found.command,
        }

    def __str__(self) -> str:
        return as_lines(self.rows())

    def __repr__(self) -> str:
        return f"{self}\n  $ {self.found.command}"

    def _repr_html_(self) -> str:
        what = self.found.pod if self.found.chain else f"{self.found.pod}: {self.failure}"
        colour = BLUE if self.found.chain else ORANGE
        return card(what, (), (self.found.command,), colour=colour) + as_table(self.rows())
