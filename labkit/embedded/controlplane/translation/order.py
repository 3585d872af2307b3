"""Which filters stand before the router and before the TCP proxy, and in which order. Pure.

One place says the order, so that no two features have to know of each other. It is that of
pilot/pkg/networking/core/listener_builder.go and pilot/pkg/security/authz/builder of istio/istio: what tells who
calls, then who may, then what counts.
"""

from __future__ import annotations

from enum import Enum

from labkit.embedded.controlplane.translation.authorization import FIRST, LAST, authorization_filters
from labkit.embedded.controlplane.translation.jwt import jwt_filters
from labkit.embedded.controlplane.translation.model import Sidecar, Snapshot
from labkit.embedded.controlplane.translation.wasm import wasm_filters
from labkit.embedded.envoy_messages import Config
from labkit.policy.wasm_plugin import UNSPECIFIED_PHASE


class Side(Enum):
    """Where a chain of filters stands."""

    INBOUND = "SIDECAR_INBOUND"
    OUTBOUND = "SIDECAR_OUTBOUND"
    GATEWAY = "GATEWAY"


def http_filters(snapshot: Snapshot, proxy: Sidecar, side: Side) -> list[Config]:
    """The HTTP filters of a connection manager, before the router."""
    server = side is not Side.OUTBOUND
    return [
        *(authorization_filters(snapshot, proxy, FIRST, http=True) if server else []),
        *wasm_filters(snapshot, proxy, "AUTHN", server=server),
        *(jwt_filters(snapshot, proxy) if server else []),
        *wasm_filters(snapshot, proxy, "AUTHZ", server=server),
        *(authorization_filters(snapshot, proxy, LAST, http=True) if server else []),
        *wasm_filters(snapshot, proxy, "STATS", server=server),
        *wasm_filters(snapshot, proxy, UNSPECIFIED_PHASE, server=server),
    ]


def network_filters(snapshot: Snapshot, proxy: Sidecar, side: Side) -> list[Config]:
    """The network filters of a chain of TCP traffic, before the TCP proxy."""
    return [] if side is Side.OUTBOUND else authorization_filters(snapshot, proxy, (*FIRST, *LAST), http=False)
