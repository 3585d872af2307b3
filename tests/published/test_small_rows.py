"""Short tables of Istio's tests: the protocol of a port, and what the injection webhook itself decides."""

from __future__ import annotations

import pytest

from labkit.policy.injection import INJECT, inject_refusal
from labkit.policy.protocols import Protocol, protocol_of

# pkg/config/kube/conversion_test.go TestConvertProtocol: port, name, protocol, appProtocol
PROTOCOL_ROWS = [
    ("resolves empty", 0, "", "", None, Protocol.UNDECLARED),
    ("resolves from protocol directly", 0, "", "UDP", None, Protocol.UDP),
    ("resolves from port name", 0, "http-something", "", None, Protocol.HTTP),
    ("prefers appProto over portName", 0, "http-something", "", "https", Protocol.HTTPS),
    ("resolves from appProto", 0, "something-httpx", "", "https", Protocol.HTTPS),
    ("resolves grpc-web", 0, "grpc-web-x", "", None, Protocol.GRPC_WEB),
    ("makes sure grpc-web is not resolved incorrectly", 0, "grpcweb-x", "", None, Protocol.UNDECLARED),
    ("resolves based on known ports", 3306, "random-name", "", None, Protocol.TCP),
]


@pytest.mark.parametrize(
    ("port", "name", "protocol", "app_protocol", "expected"),
    [pytest.param(*row[1:], id=row[0]) for row in PROTOCOL_ROWS],
)
def test_protocol(port: int, name: str, protocol: str, app_protocol: str | None, expected: Protocol) -> None:
    written = {"port": port, "name": name, "protocol": protocol, "appProtocol": app_protocol}
    assert protocol_of({key: value for key, value in written.items() if value}) is expected


# pkg/kube/inject/webhook_test.go TestInjectRequired, with the policy "enabled" and without selectors of its own
INJECT_ROWS = [
    ("no-policy", {}, False, "test-namespace", True),
    ("force-on-policy", {INJECT: "true"}, False, "test-namespace", True),
    ("force-off-policy", {INJECT: "false"}, False, "test-namespace", False),
    ("host network", {}, True, "test-namespace", False),
    # inject.go IgnoredNamespaces
    ("kube-system", {INJECT: "true"}, False, "kube-system", False),
]


@pytest.mark.parametrize(
    ("annotations", "host_network", "namespace", "injected"), [pytest.param(*row[1:], id=row[0]) for row in INJECT_ROWS]
)
def test_what_the_webhook_decides(
    annotations: dict[str, str], host_network: bool, namespace: str, injected: bool
) -> None:
    refusal = inject_refusal({}, annotations, namespace=namespace, host_network=host_network)
    assert (not refusal) is injected
