"""Protocol selection by appProtocol, by name, and by what is left."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy import Protocol, protocol_of
from labkit.policy.protocols import Handling

ROWS = [
    ("name is the protocol", {"name": "http"}, "http", "HTTP"),
    ("name starts with it", {"name": "http-web"}, "http", "HTTP"),
    ("upper case", {"name": "HTTP-web"}, "http", "HTTP"),
    ("only before a hyphen", {"name": "httpweb"}, "undeclared", "auto"),
    ("http2", {"name": "http2-x"}, "http2", "HTTP"),
    ("grpc", {"name": "grpc"}, "grpc", "HTTP"),
    ("grpc-web has a hyphen", {"name": "grpc-web-x"}, "grpc-web", "HTTP"),
    ("grpc with another suffix", {"name": "grpc-webish"}, "grpc-web", "HTTP"),
    ("tcp", {"name": "tcp-db"}, "tcp", "TCP"),
    ("tls", {"name": "tls"}, "tls", "TCP"),
    ("https", {"name": "https"}, "https", "TCP"),
    ("mongo", {"name": "mongo"}, "mongo", "TCP"),
    ("redis", {"name": "redis"}, "redis", "TCP"),
    ("mysql", {"name": "mysql"}, "mysql", "TCP"),
    ("udp by name", {"name": "udp-dns"}, "udp", "TCP"),
    ("udp by transport, whatever the name", {"name": "http", "protocol": "UDP"}, "udp", "TCP"),
    ("unnamed", {}, "undeclared", "auto"),
    ("an unknown name", {"name": "web"}, "undeclared", "auto"),
    ("undeclared is no declaration", {"name": "undeclared"}, "undeclared", "auto"),
    ("appProtocol before the name", {"name": "tcp", "appProtocol": "http"}, "http", "HTTP"),
    ("an unknown appProtocol hides the name", {"name": "http", "appProtocol": "x"}, "undeclared", "auto"),
    ("Kubernetes' name for HTTP/2", {"appProtocol": "kubernetes.io/h2c"}, "http2", "HTTP"),
    ("Kubernetes' name for websockets", {"appProtocol": "kubernetes.io/ws"}, "http", "HTTP"),
    ("Kubernetes' name for websockets over TLS", {"appProtocol": "kubernetes.io/wss"}, "https", "TCP"),
    ("the server speaks first: SMTP", {"port": 25}, "tcp", "TCP"),
    ("the server speaks first: DNS", {"port": 53}, "tcp", "TCP"),
    ("the server speaks first: MySQL", {"port": 3306, "name": "db"}, "tcp", "TCP"),
    ("the server speaks first: MongoDB", {"port": 27017}, "tcp", "TCP"),
    ("a name wins over a well-known port", {"port": 3306, "name": "http"}, "http", "HTTP"),
]


@pytest.mark.parametrize(("port", "protocol", "handling"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_protocol(port: dict[str, Any], protocol: str, handling: str) -> None:
    found = protocol_of({"port": 8080, "protocol": "TCP", **port})
    assert (found, found.handled_as) == (Protocol(protocol), Handling(handling))
