"""What of a proxy's configuration is asked for: the filters of `istioctl proxy-config`, and which table takes which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from labkit.errors import InputError


@dataclass(frozen=True)
class Wanted:
    """Filters; what is empty lets all through. Names are found as a part, as istioctl does."""

    port: int = 0
    fqdn: str = ""
    direction: str = ""
    subset: str = ""
    address: str = ""
    type: str = ""
    name: str = ""
    status: str = ""
    cluster: str = ""

    def given(self) -> list[str]:
        """The filters that are set."""
        return [one.name for one in fields(self) if getattr(self, one.name)]

    def fits_name(self, cluster: str) -> bool:
        """Whether an Envoy cluster's name `outbound|80|v1|host` fits fqdn, direction, subset and port."""
        parts = cluster.split("|")
        port, subset = (parts[1], parts[2]) if len(parts) > 3 else ("", "")
        return (
            self.fqdn in cluster
            and parts[0].startswith(self.direction.lower())
            and (not self.subset or subset == self.subset)
            and (not self.port or port == str(self.port))
        )


TAKES: Mapping[str, tuple[str, ...]] = {
    "listeners": ("port", "address", "type", "direction"),
    "clusters": ("port", "fqdn", "direction", "subset"),
    "routes": ("name",),
    "endpoints": ("port", "address", "status", "cluster"),
    "secrets": ("name",),
    "bootstrap": (),
    "all": ("port", "fqdn", "direction", "subset", "address", "type", "name", "status", "cluster"),
}

SINGULAR = {"listener": "listeners", "cluster": "clusters", "route": "routes", "endpoint": "endpoints"}
SHORT = {"l": "listeners", "c": "clusters", "r": "routes", "ep": "endpoints", "s": "secrets", "b": "bootstrap"}


def known_kind(word: str) -> str:
    """`listener`, `listeners` or `l` as `listeners`. Raises InputError for what there is not."""
    plural = {**SINGULAR, **SHORT, "secret": "secrets"}.get(str(word).lower(), str(word).lower())
    if plural in TAKES:
        return plural
    raise InputError(
        f"{word!r} is no part of a proxy's configuration.", next_step=f"Ask for one of {', '.join(TAKES)}.", kind=word
    )


def check_filters(kind: str, wanted: Wanted) -> None:
    """Raise InputError for a filter that this table does not have: it would show too much, and nobody would notice."""
    odd = [name for name in wanted.given() if name not in TAKES[kind]]
    if wanted.direction and wanted.direction.lower() not in ("inbound", "outbound"):
        raise InputError(f"{wanted.direction!r} is no direction.", next_step="Write inbound or outbound.")
    if odd:
        takes = ", ".join(f"--{name}" for name in TAKES[kind]) or "no filter"
        raise InputError(f"proxy-config {kind} has no filter --{odd[0]}.", next_step=f"It takes {takes}.")
