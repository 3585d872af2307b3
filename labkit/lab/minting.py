"""Certificates for the front door: an authority of your own, what it signs, a Secret, and visits from this machine."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from labkit.display import as_lines, as_table
from labkit.errors import InputError
from labkit.pki import CertificateAuthority, CertificateFacts, Leaf, describe_certificate
from labkit.pki.folder import Folder, folder_of
from labkit.views.results import Done
from labkit.worlds import MINTED_LABEL, Undo

if TYPE_CHECKING:
    from labkit.cluster import Cluster
    from labkit.cluster.cluster import Change
    from labkit.outcomes import Observation
    from labkit.views.tables import Table

YEAR, DAY = timedelta(days=365), timedelta(days=1)


@dataclass(frozen=True, repr=False)
class Paper:
    """A certificate whose key lies beside it in the lab's folder. It shows the certificate, never the key."""

    name: str
    folder: Folder

    @property
    def facts(self) -> CertificateFacts:
        """What the certificate says."""
        return describe_certificate(self.certificate.read_bytes())

    @property
    def certificate(self) -> Path:
        """The certificate's file."""
        return self.folder.certificate(self.name)

    @property
    def key(self) -> Path:
        """The key's file, which its owner alone can read."""
        return self.folder.key(self.name)

    def rows(self) -> list[tuple[str, str]]:
        """The facts that matter, as (name, value) pairs."""
        wanted = ("subject", "issuer", "DNS SAN", "valid from", "valid until", "use")
        facts = [(name, value) for name, value in self.facts.rows() if name in wanted]
        return [*facts, ("files", f"{self.certificate.name}, {self.key.name} (the key is not shown)")]

    def __str__(self) -> str:
        return as_lines(self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return as_table(self.rows())


class Authority(Paper):
    """A certificate authority: `.server(...)` and `.client(...)` are signed by it."""

    def server(self, host: str, *more: str, ttl: timedelta = YEAR) -> Paper:
        """A certificate for a server with these host names."""
        return self._sign(host, ttl=ttl, dns_names=(host, *more), client=False)

    def client(self, name: str, *, expired: bool = False) -> Paper:
        """A certificate for a client; an `expired` one was good for a day, a week ago."""
        if expired:
            return self._sign(name, ttl=DAY, not_before=datetime.now(UTC) - 7 * DAY, server=False)
        return self._sign(name, ttl=YEAR, server=False)

    def _sign(self, name: str, **options: Any) -> Paper:
        signing = CertificateAuthority.from_pem(self.certificate.read_bytes(), self.key.read_bytes())
        leaf: Leaf = signing.issue(common_name=name, **options)
        self.folder.save(name, leaf.chain_pem, leaf.key_pem)
        return Paper(name, self.folder)


class Minting:
    """What Lab can do with certificates of your own.

    ca = lab.mint_ca("example.com")          an authority; ca.server("shop.example.com"), ca.client("partner"),
                                             ca.client("late", expired=True); they show themselves, and never a key
    lab.minted("partner")                    one of them again, by its name
    lab.tls_secret(name, server, ca, namespace)      the Secret that a Gateway's credentialName names: cert key cacert
    lab.visit(url, trust=ca, client=paper)   this machine's curl at the gateway, with or without a client certificate
    lab.visits(url, ..., times=10)           the same several times
    lab.forget_minted()                      remove all files that were minted for this cluster
    """

    cluster: Cluster
    _journal: Any
    _mints = False

    if TYPE_CHECKING:

        def _done(self, changes: list[Change], kubectl: str | list[str], started: float) -> Done: ...
        def _shown(self, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Table: ...
        def gateway_url(self, scheme: str = "http", path: str = "/") -> str: ...

        put: Callable[..., list[Change]]

    @property
    def _folder(self) -> Folder:
        return folder_of(self.cluster.name)

    def mint_ca(self, name: str) -> Authority:
        """A new certificate authority, good for a year. What it had signed under this name before is worth nothing."""
        made = CertificateAuthority.self_signed(name, organization=f"{name} (minted by the lab)", ttl=YEAR)
        folder = self._folder
        if not self._mints:  # whoever leaves the lesson leaves no keys behind
            self._mints = True
            self._journal.add(Undo("removed the certificates that were minted", lambda: folder.remove()))
        folder.save(name, made.cert_pem, made.key_pem)
        return Authority(name, folder)

    def minted(self, name: str) -> Authority:
        """A certificate or an authority that was minted earlier. Raises InputError when there is none."""
        if not self._folder.has(name):
            raise InputError(
                f"Nothing was minted under the name {name!r}.",
                next_step="Mint an authority first: ca = lab.mint_ca('example.com').",
                name=name,
            )
        return Authority(name, self._folder)

    def tls_secret(
        self,
        name: str,
        server: Paper | None = None,
        ca: Paper | Sequence[Paper] | None = None,
        namespace: str = "default",
    ) -> Done:
        """A Secret with a server's certificate and key, and the authority that the other side has to come from.

        While a root is replaced, these are several authorities.

        The keys are `cert`, `key` and `cacert`; without `ca` the last is left out, without `server` the others.
        https://istio.io/latest/docs/reference/config/networking/gateway/#ServerTLSSettings
        """
        started = time.monotonic()
        files = {"cert": [server.certificate], "key": [server.key]} if server else {}
        if trusted := [ca] if isinstance(ca, Paper) else list(ca or ()):
            files["cacert"] = [one.certificate for one in trusted]
        data = {key: base64.b64encode(b"".join(map(Path.read_bytes, paths))).decode() for key, paths in files.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data}
        metadata = {"name": name, "namespace": namespace, "labels": {MINTED_LABEL: "true"}}
        changes = self.put([{**secret, "metadata": metadata}])
        from labkit.observe.settling import wait_until_held

        if server:
            wait_until_held(self.cluster, name, namespace, server.certificate.read_bytes())
        said = {key: paths[0].name if len(paths) == 1 else "roots.pem" for key, paths in files.items()}
        literals = " ".join(f"--from-file={key}={file}" for key, file in said.items())
        lines = [f"cat {' '.join(one.certificate.name for one in trusted)} > roots.pem"] if len(trusted) > 1 else []
        lines.append(f"kubectl create -n {namespace} secret generic {name} {literals}")
        return self._done(changes, lines, started)

    def visit(
        self, url: str, *, trust: Paper | None = None, client: Paper | None = None, authority: str = ""
    ) -> Observation:
        """Ask for a URL at the ingress gateway with this machine's curl, wherever the URL's host leads otherwise.

        `authority` is another host, asked for over the same connection, as browsers do.
        """
        from labkit.observe.visiting import Papers, door_of, visit

        papers = Papers(
            trust.certificate if trust else None,
            client.certificate if client else None,
            client.key if client else None,
        )
        return visit(url, door_of(self.gateway_url(urlsplit(url).scheme)), papers, authority=authority)

    def visits(self, url: str, *, times: int = 10, **options: Any) -> Table:
        """The same visit several times, and how often each answer came."""
        answers: dict[tuple[str, str], int] = {}
        for _ in range(times):
            seen = self.visit(url, **options)
            answers[seen.seen, str(seen.outcome)] = answers.get((seen.seen, str(seen.outcome)), 0) + 1
        return self._shown(("ANSWER", "CARRIED BY", "TIMES"), [(*key, count) for key, count in answers.items()])

    def forget_minted(self) -> Done:
        """Remove every certificate and key that was minted for this cluster."""
        gone, self._mints = self._folder.remove(), False
        return Done(f"Removed {len(gone)} files" if gone else "There was nothing to remove", tuple(gone))
