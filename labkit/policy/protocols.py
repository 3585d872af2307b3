"""Which protocol a Service's port speaks, by declaration."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Protocol(StrEnum):
    """The protocols that can be declared; UNDECLARED makes the proxy look at the first bytes."""

    HTTP = "http"
    HTTP2 = "http2"
    HTTP_PROXY = "http_proxy"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"
    MONGO = "mongo"
    REDIS = "redis"
    MYSQL = "mysql"
    UDP = "udp"
    UNDECLARED = "undeclared"

    @property
    def handled_as(self) -> Handling:
        """How a proxy treats the port."""
        # pilot/pkg/networking/util ModelProtocolToListenerProtocol
        if self is Protocol.UNDECLARED:
            return Handling.AUTO
        return Handling.HTTP if self in _HTTP else Handling.TCP


class Handling(StrEnum):
    """How a proxy handles a port: as HTTP, as bytes, or by detection. (UDP is not captured at all.)"""

    HTTP = "HTTP"
    TCP = "TCP"
    AUTO = "auto"


_HTTP = {Protocol.HTTP, Protocol.HTTP2, Protocol.HTTP_PROXY, Protocol.GRPC, Protocol.GRPC_WEB}

# https://kubernetes.io/docs/concepts/services-networking/service/#application-protocol
_KUBERNETES_NAMES = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}

# Where the server speaks first, detection would wait for a client that waits too: SMTP, DNS, MySQL, MongoDB.
# https://istio.io/latest/docs/ops/deployment/application-requirements/#server-first-protocols
SERVER_FIRST_PORTS = frozenset({25, 53, 3306, 27017})


# https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/
# pkg/config/kube/conversion.go ConvertProtocol
def protocol_of(service_port: Mapping[str, Any]) -> Protocol:
    """The protocol of one entry of a Service's `ports`. The rules:

    1. UDP is UDP.
    2. `appProtocol` decides if it is set; the name is then not looked at.
    3. Else the name decides: all of it, or what stands before the first hyphen, in upper or lower case.
    4. What that does not tell is undeclared, except on the well-known ports of protocols where the server
       speaks first: those are TCP.
    """
    if str(service_port.get("protocol") or "TCP").upper() == "UDP":
        return Protocol.UDP
    declared = service_port.get("appProtocol")
    if declared in _KUBERNETES_NAMES:
        return _KUBERNETES_NAMES[declared]
    name = str(declared or service_port.get("name") or "").lower()
    # grpc-web has a hyphen of its own, so it is looked for before the name is cut
    prefix = Protocol.GRPC_WEB.value if name.startswith(Protocol.GRPC_WEB) else name.partition("-")[0]
    if prefix in _DECLARABLE:
        return Protocol(prefix)
    return Protocol.TCP if service_port.get("port") in SERVER_FIRST_PORTS else Protocol.UNDECLARED


_DECLARABLE = frozenset(Protocol) - {Protocol.UNDECLARED}
