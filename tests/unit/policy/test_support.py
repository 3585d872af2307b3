"""What has no effect is said, and what has one is not."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.policy.support import not_acted_on


def obj(kind: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "a", "namespace": "b"}, "spec": spec}


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (obj("Gateway", servers=[{"port": {"number": 1, "protocol": "TCP"}, "bind": "10.0.0.1"}]), "spec.servers.bind"),
        (
            obj("VirtualService", tls=[{"match": [{"sniHosts": ["a"], "destinationSubnets": ["10.0.0.0/8"]}]}]),
            "by SNI and port",
        ),
        (obj("VirtualService", http=[{}, {"delegate": {"name": "more"}}]), "spec.http.delegate"),
        (
            obj("DestinationRule", host="a", trafficPolicy={"loadBalancer": {"localityLbSetting": {"enabled": True}}}),
            "one locality",
        ),
        (obj("RequestAuthentication", targetRefs=[{"kind": "Gateway", "name": "a"}]), "by selector"),
        (obj("EnvoyFilter", configPatches=[{"applyTo": "BOOTSTRAP"}]), "applyTo BOOTSTRAP"),
    ],
)
def test_a_part_without_effect_is_named(written: dict[str, Any], words: str) -> None:
    (sentence,) = not_acted_on(written)
    assert words in sentence


@pytest.mark.parametrize(
    "written",
    [
        obj("PeerAuthentication", mtls={"mode": "STRICT"}),
        obj("VirtualService", http=[{"route": [{"destination": {"host": "a"}}]}]),
        obj(
            "DestinationRule",
            host="a",
            trafficPolicy={"tls": {"mode": "DISABLE"}, "loadBalancer": {"simple": "RANDOM"}},
        ),
        obj("AuthorizationPolicy", rules=[{"from": [{"source": {"principals": ["*"], "requestPrincipals": ["*"]}}]}]),
        obj("RequestAuthentication", jwtRules=[{"issuer": "a"}]),
        obj("EnvoyFilter", configPatches=[{"applyTo": "CLUSTER", "match": {"context": "ANY"}}]),
        obj("Gateway", servers=[{"port": {"protocol": "HTTPS"}, "tls": {"mode": "MUTUAL", "credentialName": "a"}}]),
        obj("DestinationRule", host="a", trafficPolicy={"loadBalancer": {"consistentHash": {"useSourceIp": True}}}),
        obj("DestinationRule", host="a", trafficPolicy={"loadBalancer": {"simple": "PASSTHROUGH"}}),
        obj("VirtualService", http=[{"corsPolicy": {"allowMethods": ["GET"]}, "match": [{"statPrefix": "a"}]}]),
        obj("Gateway", servers=[{"port": {"protocol": "TLS"}, "tls": {}}, {"port": {"protocol": "TCP"}}]),
        obj("VirtualService", tls=[{"match": [{"sniHosts": ["a"]}]}]),
        obj("Sidecar", egress=[{"hosts": ["./*"]}]),
    ],
    ids=lambda written: written["kind"],
)
def test_what_works_has_no_warning(written: dict[str, Any]) -> None:
    assert not_acted_on(written) == ()


def test_a_pattern_for_a_host_is_said() -> None:
    hosts = {"kind": "ServiceEntry", "spec": {"hosts": ["*.example.com", "api.example.com"]}}
    (said,) = not_acted_on(hosts)
    assert "*.example.com" in said
