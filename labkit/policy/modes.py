"""The four modes of mutual TLS, written as in YAML."""

from __future__ import annotations

from enum import StrEnum

from labkit.errors import InputError


# https://istio.io/latest/docs/reference/config/security/peer_authentication/#PeerAuthentication-MutualTLS-Mode
class MutualTLSMode(StrEnum):
    """What a workload accepts. UNSET inherits: `mtls` absent, `mtls: {}` and mode UNSET are all the same."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"

    @property
    def accepts(self) -> str:
        """What passes, in words."""
        return _ACCEPTS[self]


_ACCEPTS = {
    MutualTLSMode.UNSET: "what the wider scope says",
    MutualTLSMode.DISABLE: "plaintext only",
    MutualTLSMode.PERMISSIVE: "mTLS and plaintext",
    MutualTLSMode.STRICT: "mTLS only",
}


def parse_mode(value: object, where: str = "mode") -> MutualTLSMode:
    """The mode named by `value` (nothing means UNSET); `where` is the field, for the error."""
    if value is None:
        return MutualTLSMode.UNSET
    try:
        return MutualTLSMode(str(value))
    except ValueError:
        raise InputError(
            f"{where} is {value!r}, which is no mode of mutual TLS.",
            next_step=f"Write one of {', '.join(MutualTLSMode)}, in upper case.",
            field=where,
            value=value,
        ) from None
