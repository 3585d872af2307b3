"""Reading a proxy's own words: certificates and the modes that it runs."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from labkit.observe.proxy import certificate_chain, certificate_from_certs
from labkit.observe.settling import running_modes
from labkit.pki import CertificateAuthority

ALPN = ["istio", "istio-peer-exchange"]


def chain(transport: str | None, port: int | None = None, *, terminates: bool = False) -> dict[str, Any]:
    match: dict[str, Any] = {}
    if transport:
        match["transport_protocol"] = transport
    if port:
        match["destination_port"] = port
    return {"filter_chain_match": match, **({"transport_socket": {}} if terminates else {})}


def listeners(*chains: dict[str, Any]) -> dict[str, Any]:
    listener = {"name": "virtualInbound", "filter_chains": list(chains)}
    return {"configs": [{"dynamic_listeners": [{"active_state": {"listener": listener}}]}]}


@pytest.mark.parametrize(
    ("chains", "mode"),
    [
        pytest.param([chain("tls", 80, terminates=True)], "STRICT", id="mTLS alone"),
        pytest.param([chain("raw_buffer", 80)], "DISABLE", id="plaintext alone"),
        pytest.param([chain("tls", 80, terminates=True), chain("raw_buffer", 80)], "PERMISSIVE", id="both"),
        pytest.param(
            [chain("tls", 80, terminates=True), chain("tls", 80), chain("raw_buffer", 80)],
            "PERMISSIVE", id="TLS that is passed on does not count"),
        pytest.param([chain(None, 80)], "DISABLE", id="a chain for everything"),
    ],
)  # fmt: skip
def test_filter_chains_tell_the_mode(chains: list[dict[str, Any]], mode: str) -> None:
    assert running_modes(listeners(*chains)) == {80: mode}


def test_ports_are_told_apart_and_the_black_hole_is_no_port() -> None:
    dump = listeners(chain(None, 15006), chain("tls", 80, terminates=True), chain("raw_buffer"))
    assert running_modes(dump) == {80: "STRICT", None: "DISABLE"}


def test_a_dump_of_one_listener_alone_is_read_too() -> None:
    listener = {"filter_chains": [chain("raw_buffer", 80)]}
    assert running_modes({"configs": [{"active_state": {"listener": listener}}]}) == {80: "DISABLE"}


def secrets(name: str, pem: bytes) -> dict[str, Any]:
    source = {"inline_bytes": base64.b64encode(pem).decode()}
    secret = {"name": name, "secret": {"tls_certificate": {"certificate_chain": source}}}
    kind = "type.googleapis.com/envoy.admin.v3.SecretsConfigDump"
    return {"configs": [{"@type": kind, "dynamic_active_secrets": [secret]}]}


def test_the_workload_certificate_is_the_secret_default() -> None:
    pem = CertificateAuthority.self_signed().issue(spiffe_id="spiffe://cluster.local/ns/foo/sa/bar").chain_pem
    assert certificate_chain(secrets("default", pem))[0].spiffe_id == "spiffe://cluster.local/ns/foo/sa/bar"
    assert certificate_chain(secrets("ROOTCA", pem)) == ()


def test_certs_give_fewer_facts_of_the_same_certificate() -> None:
    answer = {
        "certificates": [
            {
                "cert_chain": [
                    {
                        "serial_number": "0a",
                        "subject_alt_names": [{"uri": "spiffe://cluster.local/ns/foo/sa/bar"}],
                        "valid_from": "2026-01-01T00:00:00Z",
                        "expiration_time": "2026-01-02T00:00:00Z",
                    }
                ]
            }
        ]
    }
    facts = certificate_from_certs(answer)
    assert facts is not None
    assert facts.spiffe_id.endswith("/sa/bar")
    assert facts.lifetime.days == 1
    assert certificate_from_certs({"certificates": []}) is None
