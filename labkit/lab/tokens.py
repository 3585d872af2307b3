"""Tokens for requests, and modules for proxies: what RequestAuthentication and WasmPlugin need besides YAML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.cluster.manifests import find_path
from labkit.errors import InputError
from labkit.pki.folder import folder_of
from labkit.pki.tokens import TokenIssuer, issuer_in
from labkit.worlds import Undo

if TYPE_CHECKING:
    from labkit.cluster import Cluster


class Tokens:
    """What Lab can give to requests and proxies.

    issuer = lab.token_issuer("lab-issuer")  who signs tokens, with a throw-away key: .jwks (public), .token("alice"),
                                             .token("alice", minutes=-5), .forged("alice"); send token.header
    lab.module_url("assets/wasm/response-header.wasm")      what a WasmPlugin on this cluster writes as its url
    """

    cluster: Cluster
    _journal: Any

    def token_issuer(self, name: str) -> TokenIssuer:
        """An issuer of tokens. Its key is made once, and is gone when you leave the lesson."""
        folder = folder_of(self.cluster.name)
        issuer = issuer_in(folder, name)
        if issuer is None:
            if not folder.files:
                self._journal.add(Undo("removed the key that signed tokens", lambda: folder.remove()))
            issuer = TokenIssuer(name)
            folder.save_key(name, issuer.key_pem)
        return issuer

    def module_url(self, source: str) -> str:
        """Where proxies load a Wasm module from: a file of the lab on the embedded cluster, else a registry."""
        if source.startswith(("oci://", "https://", "http://", "file://")):
            return source
        if not self.cluster.is_embedded:
            raise InputError(
                f"The proxies of this cluster cannot read {source!r}: it is a file of your machine.",
                meaning="On a real cluster, each proxy's agent downloads the module.",
                next_step="Push it to a registry, and give its address: oci://registry.example.com/header:1.0",
                source=source,
            )
        return f"file://{Path(find_path(source)).resolve()}"
